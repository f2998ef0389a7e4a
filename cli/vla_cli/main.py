"""The command `vla`: the app, and the conversion of errors to messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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
from vla_cli import garbage_collection, grammar, interrupt, streams, usage_errors
from vla_cli import options as o
from vla_cli.commands import (
    ask,
    captions,
    config,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    gc,
    help,
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
from vla_cli.hints import hint_text

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
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Search videos for moments, with frozen features cached once and small projectors "
    "trained on them.",
    epilog="`vla COMMAND --help` shows the options of a command, with examples.\n\n"
    "Exit codes: 0 success, 1 no results, 2 usage error, 3 some videos failed, 4 missing "
    "or incompatible data, "
    "5 disk, memory or permission error, 70 defect of vla, 129 SIGHUP, 130 interrupted, 141 "
    "closed pipe, 143 SIGTERM.",
)
_plain, _needs_workspace = grammar.Command, grammar.WorkspaceCommand
_COMMANDS: dict[str, tuple[tuple[str, Callable[..., None], type[grammar.Command]], ...]] = {
    "Start": (
        ("demo", demo.demo, _plain),
        ("doctor", doctor.doctor, _plain),
        ("help", help.show_help, grammar.HelpCommand),
    ),
    "Find moments": (
        ("extract", extract.extract, _plain),
        ("index", index.index, _needs_workspace),
        ("search", search.search, _needs_workspace),
        ("ask", ask.ask, _needs_workspace),
    ),
    "Train": (
        ("import", import_annotations.import_annotations, _plain),
        ("import-features", import_features.import_features, _plain),
        ("train", train.train, _needs_workspace),
        ("eval", evaluate.evaluate, _needs_workspace),
        ("report", report.report, _needs_workspace),
    ),
    "Look after a workspace": (
        ("info", info.info, _needs_workspace),
        ("ls", ls.ls, _needs_workspace),
        ("captions", captions.captions, _needs_workspace),
        ("export", export.export, _needs_workspace),
        ("verify", verify.verify, _needs_workspace),
        ("rm", rm.rm, _needs_workspace),
        ("gc", gc.gc, _needs_workspace),
        ("config", config.show_config, _plain),
    ),
}
for _panel, _group in _COMMANDS.items():
    for _name, _function, _class in _group:
        app.command(_name, cls=_class, rich_help_panel=_panel)(_function)
app.add_typer(models.app, name="models", rich_help_panel="Start")


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
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Accept options before the command."""
    context.obj = {"workspace": workspace, "quiet": quiet, "verbose": verbose}


def main() -> None:
    """Run the command line; a known error is one message on stderr and an exit code."""
    garbage_collection.pause()  # `progress_bars` resumes it
    streams.prepare()
    interrupt.install_handlers()
    code = _run()
    garbage_collection.resume()
    streams.detach()
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command, print its error if it fails, and return the exit code."""
    try:
        try:
            code = app(prog_name="vla", standalone_mode=False)
        except SystemExit as error:
            # Rich and typer exit with 1 for a closed pipe, which is the code for no results.
            if isinstance(error.__context__, BrokenPipeError):
                return BROKEN_PIPE
            code = error.code
        # Typer turns Ctrl-C into this exit code, without a message.
        if code == INTERRUPT:
            raise KeyboardInterrupt
        streams.flush_results()
        return code if isinstance(code, int | str) else None
    except grammar.USAGE_ERROR as error:
        message, hint = usage_errors.describe(error)
        return _fail(error, message, USAGE, hint)
    except typer.Abort as error:
        return _fail(error, "cancelled: nothing was changed", 1)
    except VlaError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), UNFIT)
        return _fail(
            error,
            _with_flags(str(error)),
            code,
            "" if error.hint is None else hint_text(error.hint),
        )
    except KeyboardInterrupt as error:
        code, reason = interrupt.exit_reason()
        return _fail(
            error,
            f"{reason}; completed work is saved: run the same command again to continue",
            code,
        )
    except streams.ClosedPipeError:
        return BROKEN_PIPE
    except Exception as error:
        if os.environ.get("VLA_DEBUG"):
            import traceback

            traceback.print_exc()
        if (resource := _resource_message(error)) is not None:
            return _fail(
                error,
                f"{resource}\nCompleted work is saved. `--verbose` shows a traceback.",
                RESOURCE,
            )
        return _fail(
            error,
            f"unexpected {type(error).__name__}: {error}\nThis is a defect of vla. `--verbose` shows "
            f"a traceback for a report.",
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


def _fail(error: BaseException, message: str, code: int, hint: str = "") -> int:
    """Print an error, its notes and its hint; return the exit code."""
    from vla_cli.render import print_error

    print_error(message, getattr(error, "__notes__", []), hint)
    return code
