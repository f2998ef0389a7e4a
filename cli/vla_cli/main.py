"""The command `vla`: the app, and the conversion of errors to messages and exit codes."""

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

USAGE, UNFIT, RESOURCE, INTERRUPT = 2, 4, 5, interrupt.CODE
DEFECT, BROKEN_PIPE = 70, 141
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
    help="Search videos for moments, with frozen features cached once and small projectors "
    "trained on them.",
    epilog="Exit codes: 0 success, 1 no results, 2 usage error, 3 some videos failed, 4 missing "
    "or incompatible data, "
    "5 disk, memory or permission error, 70 defect of vla, 129 SIGHUP, 130 interrupted, 141 "
    "closed pipe, 143 SIGTERM.",
)
app.command("extract", cls=grammar.Command)(extract.extract)
app.command("train", cls=grammar.WorkspaceCommand)(train.train)
app.command("eval", cls=grammar.WorkspaceCommand)(evaluate.evaluate)
app.command("report", cls=grammar.WorkspaceCommand)(report.report)
app.command("index", cls=grammar.WorkspaceCommand)(index.index)
app.command("search", cls=grammar.WorkspaceCommand)(search.search)
app.command("ask", cls=grammar.WorkspaceCommand)(ask.ask)
app.command("demo", cls=grammar.Command)(demo.demo)
app.command("import", cls=grammar.Command)(import_annotations.import_annotations)
app.command("import-features", cls=grammar.Command)(import_features.import_features)
app.command("export", cls=grammar.WorkspaceCommand)(export.export)
app.command("captions", cls=grammar.WorkspaceCommand)(captions.captions)
app.command("info", cls=grammar.WorkspaceCommand)(info.info)
app.command("ls", cls=grammar.WorkspaceCommand)(ls.ls)
app.command("verify", cls=grammar.WorkspaceCommand)(verify.verify)
app.command("rm", cls=grammar.WorkspaceCommand)(rm.rm)
app.command("gc", cls=grammar.WorkspaceCommand)(gc.gc)
app.add_typer(models.app, name="models")
app.command("doctor", cls=grammar.Command)(doctor.doctor)


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"vla {__version__}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    workspace: o.Workspace = None,
) -> None:
    """Accept options before the command."""
    grammar.store_workspace(context, workspace)


def main() -> None:
    """Run the command line; a known error is one message on stderr and an exit code."""
    streams.prepare()
    interrupt.install_handlers()
    code = _run()
    streams.detach()
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command, print its error if it fails, and return the exit code."""
    try:
        try:
            app()
        except SystemExit as error:
            # Typer turns Ctrl-C into this exit code, without a message.
            if error.code == INTERRUPT:
                raise KeyboardInterrupt from None
            # Rich and typer exit with 1 for a closed pipe, which is the code for no results.
            if isinstance(error.__context__, BrokenPipeError):
                return BROKEN_PIPE
            streams.flush_results()
            return error.code
        return None
    except VlaError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), UNFIT)
        return _fail(_with_flags(str(error)), code, error.hint)
    except KeyboardInterrupt:
        code, reason = interrupt.exit_reason()
        return _fail(
            f"{reason}; completed work is saved: run the same command again to continue", code
        )
    except streams.ClosedPipeError:
        return BROKEN_PIPE
    except Exception as error:
        if os.environ.get("VLA_DEBUG"):
            raise
        if (message := _resource_message(error)) is not None:
            return _fail(
                f"{message}\nCompleted work is saved. Set VLA_DEBUG=1 for a traceback.", RESOURCE
            )
        return _fail(
            f"unexpected {type(error).__name__}: {error}\nThis is a defect of vla. Set "
            f"VLA_DEBUG=1 for a traceback.",
            DEFECT,
        )


def _with_flags(message: str) -> str:
    """Replace names of parameters by options: `caption_column=` becomes `--caption-column`.

    The library names its parameters, since it does not depend on the command line.
    """
    if "=" not in message:
        return message
    import re

    commands = getattr(typer.main.get_command(app), "commands", {})
    current = [commands[word] for word in sys.argv[1:] if word in commands][:1]
    flags = {
        p.name: max(p.opts, key=len)
        for command in current
        for p in command.params
        if p.opts[0].startswith("-")
    }
    return re.sub(
        r"(?<![\w.-])([a-z]+(?:_[a-z]+)*)=(?![=\w])", lambda m: flags.get(m[1], m[0]), message
    )


def _resource_message(error: Exception) -> str | None:
    """Return a message if `error` means exhausted memory or a failed file operation, else None."""
    if (
        isinstance(error, MemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate" in str(error)
    ):
        return f"out of memory ({type(error).__name__}: {error}): close other programs, or use smaller batches"
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename if error.filename is not None else "the output"
        return f"cannot read or write {path}: {error.strerror or error}"
    return None


def _fail(message: str, code: int, hint: Hint | None = None) -> int:
    from vla_cli.render import print_message

    print_message(Note(f"error: {message}", hint), style="red")
    return code
