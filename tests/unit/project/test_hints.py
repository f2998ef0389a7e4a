"""The library knows no command line: the ways out that it names are data, and the command line has words for each."""

import ast
import copy
import json
import pickle
import re
import string
from pathlib import Path

import pytest

import vla
from vla import errors
from vla.hints import Hint, Note
from vla_cli import main
from vla_cli.formatting import escape
from vla_cli.hints import WORDINGS, hint_text, inline_hints, with_hint

COMMANDS = sorted(main.typer.main.get_command(main.app).commands)
SPEAKS_OF_THE_CLI = re.compile(rf"--[a-z]|\bvla (?:{'|'.join(COMMANDS)})\b")
ROOT = Path(vla.__file__).parent
LIBRARY = {
    ".".join(("vla", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in sorted(ROOT.rglob("*.py"))
}
EXCEPTIONS = {
    ("vla.encoders._efficientnet", "pip install --upgrade"): "an option of pip",
    ("vla.encoders._package_files", "pip install --force-reinstall --no-deps"): "options of pip",
    ("vla.encoders._open_clip_import", "pip install --force-reinstall"): "an option of pip",
    ("vla.encoders._packages", "pip install --upgrade"): "an option of pip",
    ("vla.registry", "pip install --upgrade"): "an option of pip",
    ("vla.workflows.demo_photos", " --force-reinstall"): "an option of pip",
    ("vla.workflows.doctor", "pip install --upgrade"): "an option of pip",
    ("vla.world.render", "rendered by vla demo"): "the mark in the files of all rendered clips",
}


def constants(tree):
    """`(line, text)` of every string that is no docstring."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in statements
        ):
            yield node.lineno, node.value


def hints():
    """`(place, action, names of values)` of every `Hint(...)` of the library."""
    for module, path in LIBRARY.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Hint"
            ):
                (action,) = node.args
                assert isinstance(action, ast.Constant), (
                    f"{module}:{node.lineno}: the action is to be a literal"
                )
                yield (
                    f"{module}:{node.lineno}",
                    action.value,
                    {keyword.arg for keyword in node.keywords},
                )


def formatted(text):
    """Names of the values that a wording shows."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_no_message_of_the_library_names_an_option_or_a_command():
    met, wrong = set(), []
    for module, path in LIBRARY.items():
        for line, text in constants(ast.parse(path.read_text("utf-8"))):
            if not SPEAKS_OF_THE_CLI.search(text):
                continue
            allowed = [key for key in EXCEPTIONS if key[0] == module and key[1] in text]
            rest = text
            for _, words in allowed:
                rest = rest.replace(words, "")
            met.update(allowed)
            if SPEAKS_OF_THE_CLI.search(rest):
                wrong.append(f"{module}:{line}: {text!r}")
    assert not wrong, "\n".join(wrong)
    assert met == set(EXCEPTIONS)  # those that are no longer needed go


@pytest.mark.parametrize(
    "text",
    ["run 'vla index' again", "run `vla import-features`", "use --device cpu", "(--run none)"],
)
def test_the_rule_sees_what_it_is_to_see(text):
    assert SPEAKS_OF_THE_CLI.search(text)


@pytest.mark.parametrize(
    "text", ["this vla knows up to 3: upgrade vla", "another vla is working", "a - b -- c"]
)
def test_the_rule_leaves_other_words_alone(text):
    assert not SPEAKS_OF_THE_CLI.search(text)


def test_every_action_has_words_and_all_words_an_action():
    used = {}
    for place, action, values in hints():
        assert action in WORDINGS, f"{place}: no wording for {action!r}"
        assert values == formatted(WORDINGS[action]), f"{place}: {action!r} has {values}"
        used[action] = place
    assert set(WORDINGS) - set(used) == set()


def test_words_are_in_order_and_name_commands_that_there_are():
    assert list(WORDINGS) == sorted(WORDINGS)
    for words in WORDINGS.values():
        assert set(re.findall(r"`vla ([a-z-]+)", words)) <= set(COMMANDS)
        assert not words.endswith(".")


def test_options_in_words_are_options_of_a_command():
    commands = list(main.typer.main.get_command(main.app).commands.values())
    commands += [inner for c in commands for inner in getattr(c, "commands", {}).values()]
    options = {
        name for command in commands for parameter in command.params for name in parameter.opts
    }
    for words in WORDINGS.values():
        assert set(re.findall(r"--[a-z][a-z-]*", words)) <= options, words


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.VlaError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_keep_their_hint_in_other_processes(kind):
    error = kind("it is gone", hint=Hint("retrain", run="mine"))
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (
            type(again) is kind
            and str(again) == "it is gone"
            and again.hint == Hint("retrain", run="mine")
        )
        assert str(again).hint == again.hint
    assert kind("it is gone").hint is None and str(kind("it is gone")).hint is None


def test_a_decode_error_keeps_its_reason_beside_the_hint():
    again = pickle.loads(pickle.dumps(errors.DecodeError("no", "not-a-video", hint=Hint("doctor"))))
    assert (again.reason, again.hint) == ("not-a-video", Hint("doctor"))


def test_notes_are_texts_that_keep_their_hint():
    note = Note("it is out of date", Hint("index"))
    for again in (pickle.loads(pickle.dumps(note)), copy.deepcopy(note)):
        assert again == "it is out of date" and again.hint == Hint("index")
    assert json.dumps([note]) == '["it is out of date"]' and note in {"it is out of date"}
    assert vla.Hint is Hint and vla.Note is Note
    assert len({Hint("a", b=1), Hint("a", b=1), Hint("a", b=[2])}) == 2


def test_words_of_hints():
    assert hint_text(Hint("extract_video", video="a b.mp4")) == "run `vla extract a b.mp4` first"
    assert hint_text(Hint("hold_breath", seconds=3)) == "hold breath seconds=3"  # of a plug-in
    note = Note("it is out of date", Hint("index"))
    assert with_hint(note) == escape(note) == "it is out of date; hint: run `vla index`"
    assert with_hint(Note("fine")) == with_hint("fine") == "fine"
    assert inline_hints({"a": [note, 1.5], "b": None}) == {"a": [with_hint(note), 1.5], "b": None}
