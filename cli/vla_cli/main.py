"""The command `vla`: one app, one file for each command, and one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vla import __version__
from vla.errors import (
    AnnotationError,
    CacheError,
    EnvironmentUnfitError,
    FormatError,
    MissingError,
    ResourceError,
    ShapeError,
    SpecMismatchError,
    UnknownNameError,
    UsageError,
    VlaError,
)
from vla_cli import interrupt
from vla_cli.commands import (
    ask,
    captions,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    gc,
    import_annotations,
    import_features,
    index,
    info,
    ls,
    models,
    report,
    rm,
    search,
    train,
    verify,
)

NOTHING_FOUND, USAGE, PARTIAL, UNFIT, RESOURCE, INTERRUPTED = 1, 2, 3, 4, 5, interrupt.CODE
_CODES: tuple[tuple[type[VlaError], int], ...] = (
    (ResourceError, RESOURCE),
    (UsageError, USAGE),
    (UnknownNameError, USAGE),
    (AnnotationError, USAGE),
    (FormatError, USAGE),
    (SpecMismatchError, UNFIT),
    (MissingError, UNFIT),
    (CacheError, UNFIT),
    (EnvironmentUnfitError, UNFIT),
    (ShapeError, UNFIT),
)

app = typer.Typer(
    name="vla",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Video-language alignment: cache frozen features once, train small projectors on them, search videos for moments.",
    epilog="Exit codes: 0 done, 1 nothing found, 2 wrong usage, 3 some videos failed, 4 something is missing or does not fit, "
    "5 disk full, not readable or not writable, or no memory, files or processes left, 130 interrupted.",
)
app.command("extract")(extract.extract)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("report")(report.report)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.command("demo")(demo.demo)
app.command("import")(import_annotations.import_annotations)
app.command("import-features")(import_features.import_features)
app.command("export")(export.export)
app.command("captions")(captions.captions)
app.command("info")(info.info)
app.command("ls")(ls.ls)
app.command("verify")(verify.verify)
app.command("rm")(rm.rm)
app.command("gc")(gc.gc)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"vla {__version__}\n")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; an error of ours is one message on stderr and its exit code, never a traceback."""
    interrupt.answer_interrupts()
    try:
        app()
    except VlaError as error:
        sys.exit(
            _fail(_with_flags(str(error)), next((code for kind, code in _CODES if isinstance(error, kind)), UNFIT))
        )
    except SystemExit as leaving:
        # typer turns Ctrl-C into this code and says nothing.
        if leaving.code == INTERRUPTED:
            _fail("interrupted; what was finished is kept: run the same command again to go on", INTERRUPTED)
        raise
    except BrokenPipeError:
        # The reader (head, less) has seen enough; without this, Python complains once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("VLA_DEBUG"):
            raise
        sys.exit(
            _fail(f"unexpected {type(error).__name__}: {error}\nThis is a defect of vla. VLA_DEBUG=1 shows where.", 70)
        )


def _with_flags(message: str) -> str:
    """The message with `caption_column=` written as the option `--caption-column`: the library knows no command line."""
    if "=" not in message:
        return message
    import re

    commands = getattr(typer.main.get_command(app), "commands", {})
    chosen = [commands[word] for word in sys.argv[1:] if word in commands][:1]
    flags = {p.name: max(p.opts, key=len) for command in chosen for p in command.params if p.opts[0].startswith("-")}
    return re.sub(r"(?<![\w.-])([a-z]+(?:_[a-z]+)*)=(?![=\w])", lambda m: flags.get(m[1], m[0]), message)


def _fail(message: str, code: int) -> int:
    from vla_cli.render import say

    say(f"error: {message}", style="red")
    return code
