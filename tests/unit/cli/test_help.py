"""Help: groups, examples that parse, texts of all options, suggestions for what is misspelt."""

import re
import shlex

import pytest

from vla_cli import main, usage_errors
from vla_cli.commands.search import _require_quotes
from vla_cli.grammar import USAGE_ERROR
from vla_cli.help import split_examples

GROUP = main.typer.main.get_command(main.app)


def contexts(command=GROUP, parent=None):
    """A context of the app and of every command, also of those below another."""
    name = "vla" if parent is None else command.name
    ctx = command.context_class(
        command, info_name=name, parent=parent, terminal_width=80, **command.context_settings
    )
    yield ctx
    for child in getattr(command, "commands", {}).values():
        yield from contexts(child, ctx)


ALL = {ctx.command_path: ctx for ctx in contexts()}
COMMANDS = {path: ctx for path, ctx in ALL.items() if not hasattr(ctx.command, "commands")}
each = pytest.mark.parametrize("path", ALL)


def parse(arguments):
    """Parse a command line without running it; the path and the parameters of the command."""
    ctx = GROUP.make_context("vla", list(arguments), resilient_parsing=False)
    command, rest = GROUP, [*ctx._protected_args, *ctx.args]
    while hasattr(command, "commands") and rest:
        name, command, rest = command.resolve_command(ctx, rest)
        ctx = command.make_context(name, rest, parent=ctx)
        rest = [*getattr(ctx, "_protected_args", ()), *ctx.args]
    return ctx.command_path, ctx.params


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_examples_that_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, examples = split_examples(COMMANDS[path].command.help)
    assert examples, f"{path} has no example"
    for example in examples:
        words = shlex.split(example)
        assert words[0] == "vla"
        assert parse(words[1:])[0] == path
        assert f"  {example}" in ALL[path].command.get_help(ALL[path]).splitlines()


def test_an_example_with_a_mistake_does_not_parse():
    with pytest.raises(USAGE_ERROR):
        parse(["search", "x", "--top-k", "0"])
    with pytest.raises(USAGE_ERROR):
        parse(["serach", "x"])


@each
def test_every_option_has_a_text(path):
    ctx = ALL[path]
    for parameter in ctx.command.get_params(ctx):
        assert (parameter.help or "").strip(), f"{path} {parameter.opts} has no text"
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.metavar, f"{path} {parameter.opts} has no name for its value"


@each
def test_help_is_plain_text_within_80_columns(path):
    text = ALL[path].command.get_help(ALL[path])
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii() and "\x1b" not in text


def test_all_commands_are_in_a_group():
    text = GROUP.get_help(ALL["vla"])
    sections = re.findall(r"^([A-Z].*):$", text, re.MULTILINE)
    assert sections == ["Start", "Find moments", "Train", "Look after a workspace", "Options"]
    for name in GROUP.commands:
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["serach", "x"], "no such command: serach", "did you mean `vla search`?"),
        (["Index"], "no such command: Index", "did you mean `vla index`?"),
        (["qqq"], "no such command: qqq", "`vla --help` lists the commands"),
        (["search", "x", "--max_fpr", "1"], "no such option: --max_fpr", "did you mean `--max-fpr`?"),
        (["index", "--model", "x"], "no such option: --model", "an option of `vla extract`"),
        (["--json", "ls"], "no such option: --json", "put it after the command"),
        (["extract"], "missing argument 'PATHS'", "for example `vla extract ~/Videos`"),
        (["index", "x"], "got unexpected extra argument", "for example `vla index`"),
    ],
)  # fmt: skip
def test_mistakes_have_hints(arguments, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(USAGE_ERROR) as caught:
        parse(arguments)
    said, advice = usage_errors.describe(caught.value)
    assert message in said and hint in advice


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("a", "dog"), 'vla search "a dog"'),
        (("a", "dog's", "tail"), 'vla search "a dog\'s tail"'),
        (("5", "$"), "vla search '5 $'"),
    ],
)
def test_forgotten_quotes(words, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(usage_errors.CommandLineError) as caught:
        _require_quotes(words[0], list(words[1:]), has_texts=False)
    assert caught.value.hint.endswith(command)
    assert shlex.split(command) == ["vla", "search", " ".join(words)]
    (tmp_path / words[1]).touch()
    if len(words) == 2:
        _require_quotes(words[0], list(words[1:]), has_texts=False)


def test_general_options_are_accepted_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, ctx in COMMANDS.items():
        names = {p.name for p in ctx.command.params}
        assert {"quiet", "verbose"} <= names, path
