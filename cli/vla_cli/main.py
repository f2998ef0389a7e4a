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
from vla.hints import Hint, Note
from vla_cli import grammar, interrupt, streams
from vla_cli import options as o
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
DEFECT, READER_GONE = 70, 141
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
    cls=grammar.Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Video-language alignment: cache frozen features once, train small projectors on them, search videos for moments.",
    epilog="Exit codes: 0 done, 1 nothing found, 2 wrong usage, 3 some videos failed, 4 something is missing or does not fit, "
    "5 the machine: disk full, not readable or writable, memory full, 70 a defect of vla, 129 hung up, 130 interrupted, "
    "141 nobody reads the output any more, 143 terminated.",
)
app.command("extract", cls=grammar.Command)(extract.extract)
app.command("train", cls=grammar.InWorkspace)(train.train)
app.command("eval", cls=grammar.InWorkspace)(evaluate.evaluate)
app.command("report", cls=grammar.InWorkspace)(report.report)
app.command("index", cls=grammar.InWorkspace)(index.index)
app.command("search", cls=grammar.InWorkspace)(search.search)
app.command("ask", cls=grammar.InWorkspace)(ask.ask)
app.command("demo", cls=grammar.Command)(demo.demo)
app.command("import", cls=grammar.Command)(import_annotations.import_annotations)
app.command("import-features", cls=grammar.Command)(import_features.import_features)
app.command("export", cls=grammar.InWorkspace)(export.export)
app.command("captions", cls=grammar.InWorkspace)(captions.captions)
app.command("info", cls=grammar.InWorkspace)(info.info)
app.command("ls", cls=grammar.InWorkspace)(ls.ls)
app.command("verify", cls=grammar.InWorkspace)(verify.verify)
app.command("rm", cls=grammar.InWorkspace)(rm.rm)
app.command("gc", cls=grammar.InWorkspace)(gc.gc)
app.command("models", cls=grammar.Command)(models.models)
app.command("doctor", cls=grammar.Command)(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"vla {__version__}\n")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    workspace: o.Workspace = None,
) -> None:
    """Options before the command."""
    grammar.remember(context, workspace)


def main() -> None:
    """Run the command line; an error of ours is one message on stderr and its exit code, never a traceback."""
    streams.prepare()
    interrupt.answer_interrupts()
    code = _run()
    streams.abandon()
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command and say what went wrong; the exit code."""
    try:
        try:
            app()
        except SystemExit as leaving:
            # typer turns Ctrl-C into this code and says nothing.
            if leaving.code == INTERRUPTED:
                raise KeyboardInterrupt from None
            # rich and typer take a closed pipe for exit code 1, which means that nothing was found.
            if isinstance(leaving.__context__, BrokenPipeError):
                return READER_GONE
            streams.flush_results()
            return leaving.code
        return None
    except VlaError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), UNFIT)
        return _fail(_with_flags(str(error)), code, error.hint)
    except KeyboardInterrupt:
        code, what = interrupt.ending()
        return _fail(f"{what}; what was finished is kept: run the same command again to go on", code)
    except streams.ReaderGoneError:
        return READER_GONE
    except Exception as error:
        if os.environ.get("VLA_DEBUG"):
            raise
        if (message := _of_the_machine(error)) is not None:
            return _fail(f"{message}\nWhat was finished is kept. VLA_DEBUG=1 shows where.", RESOURCE)
        return _fail(
            f"unexpected {type(error).__name__}: {error}\nThis is a defect of vla. VLA_DEBUG=1 shows where.", DEFECT
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


def _of_the_machine(error: Exception) -> str | None:
    """What the machine lacks, where that is what an error of Python or torch means; None for any other."""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error):
        return f"the memory is full ({type(error).__name__}: {error}): close other programs, or take smaller batches"
    if isinstance(error, OSError) and error.errno is not None:
        where = error.filename if error.filename is not None else "the output"
        return f"cannot read or write {where}: {error.strerror or error}"
    return None


def _fail(message: str, code: int, hint: Hint | None = None) -> int:
    from vla_cli.render import say

    say(Note(f"error: {message}", hint), style="red")
    return code
