"""`vla models` and its commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import grammar
from vla_cli import options as o

if TYPE_CHECKING:
    from vla.workflows.model_list import ModelEntry, OpenClipEntry
    from vla.workflows.model_pack import PackReport
    from vla.workflows.models import FetchReport

Names = Annotated[
    list[str],
    typer.Argument(
        help="Presets, MODEL/TAG of open_clip (`vla models --all`) or hf-hub:ORG/REPO.",
        metavar="NAME",
        show_default=False,
    ),
]
app = typer.Typer(cls=grammar.Group, invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    is_all: Annotated[
        bool, typer.Option("--all", "-a", help="List all models of open_clip instead.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """List models: sizes, licences, what they are good for, and which are on this machine.

    The commands fetch, pack and unpack bring their weights here.

    Examples:
        vla models
        vla models --all
    """
    if context.invoked_subcommand is not None:
        if is_all or as_json:
            option = "--all" if is_all else "--json"
            raise typer.BadParameter(f"{option} before {context.invoked_subcommand} has no effect")
        return
    import vla
    from vla_cli.render import print_json, progress_bars

    if is_all:
        with progress_bars():
            every = vla.list_open_clip()
        if as_json:
            print_json({entry.name: entry.to_json() for entry in every})
        else:
            _print_open_clip(every)
        return
    entries = vla.list_models()
    if as_json:
        print_json({entry.name: entry.to_json() for entry in entries})
    else:
        _print_models(entries)


@app.command("fetch", cls=grammar.Command)
def fetch(
    names: Names,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision",
            help="Commit, branch or tag to fetch and use from now on, e.g. main for the newest. "
            "Default: the revision that is here, or main.",
            metavar="REVISION",
            show_default=False,
        ),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Download weights from the model hub, or verify those that are here.

    A download that broke off continues. Every file is compared with the
    digest that the hub states for its revision. Set HF_HOME to keep weights
    elsewhere, HF_TOKEN for private and gated models, HF_ENDPOINT for a mirror.

    Examples:
        vla models fetch balanced
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    if revision is not None and len(names) > 1:
        raise typer.BadParameter("--revision belongs to one model: name only one")
    reports = []
    for name in names:
        with progress_bars(quiet) as progress:
            report = vla.fetch_model(name, revision=revision, progress=progress)
        reports.append(report)
        if not (as_json or quiet):
            _print_fetch(report)
    if as_json:
        print_json({report.name: report.to_json() for report in reports})


@app.command("pack", cls=grammar.Command)
def pack(
    names: Names,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write.", metavar="FILE"),
    ] = Path("vla-models.zip"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write weights that are on this machine to one file, for a machine without network.

    There, `vla models unpack FILE` puts them where `vla` finds them.

    Examples:
        vla models pack balanced -o balanced.zip
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.pack_models(names, output, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.to_json())
    elif not quiet:
        _print_pack(
            "Packed", report, f"next: vla models unpack {report.file.name}, on the other machine"
        )


@app.command("unpack", cls=grammar.Command)
def unpack(
    file: Annotated[
        Path, typer.Argument(help="A file of vla models pack.", metavar="FILE", show_default=False)
    ],
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Use the revision of the pack where another one is here."),
    ] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Put the weights of a pack where `vla` finds them.

    Sizes and SHA-256 digests are verified, and nothing of the pack is run.
    Whoever made a pack chooses its weights: compare the digests with those
    that were printed where it was made.

    Examples:
        vla models unpack balanced.zip
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.unpack_models(file, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.to_json())
    elif not quiet:
        name = report.models[0] if report.models else ""
        _print_pack("Unpacked", report, f"next: vla extract PATH... --model {_for_extract(name)}")


def _print_models(entries: list[ModelEntry]) -> None:
    from vla_cli.render import format_bytes, print_message, print_table

    rows = [
        (
            entry.name,
            ("" if entry.is_here or (not entry.revision and entry.name == "demo") else "about ")
            + format_bytes(entry.bytes),
            "yes" if entry.is_here else "no",
            entry.licence or "see its page",
            _use(entry),
        )
        for entry in entries
    ]
    print_table(("model", "size", "here", "licence", "good for"), rows, numeric=("size",))
    folders = {
        str(entry.path.parents[3]): None
        for entry in entries
        if entry.path is not None and entry.revision
    }
    print_message("R@1: published zero-shot text-to-video recall on MSR-VTT 1k-A, in percent.")
    for folder in folders:
        print_message(f"Weights of the model hub are in {folder}.")
    absent = [entry.name for entry in entries if not entry.is_here and entry.encoder == "open_clip"]
    if absent:
        print_message(f"next: vla models fetch {absent[min(1, len(absent) - 1)]}")


def _use(entry: ModelEntry) -> str:
    if entry.name == "demo":
        return entry.use
    model = entry.model if entry.encoder == "open_clip" else ""
    return f"{model}: {entry.use}" if model and entry.use else entry.use or "(fetched before)"


def _print_open_clip(entries: list[OpenClipEntry]) -> None:
    from vla_cli.render import plural, print_message, print_table

    rows = [
        (
            entry.name,
            "needs " + ", ".join(entry.missing_packages) if entry.missing_packages else "yes",
            "yes" if entry.path else "no",
        )
        for entry in entries
    ]
    print_table(("model/tag", "runs here", "here"), rows)
    count = sum(not entry.missing_packages for entry in entries)
    total = plural(len(entries), "model")
    print_message(f"{count} of {total} run with the packages that are installed.")
    print_message("Licences differ: `vla models fetch` prints that of a model.")
    print_message(
        "next: vla models fetch MODEL/TAG, then vla extract PATH... --model MODEL --pretrained TAG"
    )


def _print_fetch(report: FetchReport) -> None:
    from vla_cli.render import format_bytes, plural, print_line

    size = (
        f"{plural(len(report.files), 'file')}, {format_bytes(sum(f.bytes for f in report.files))}"
    )
    if report.name == "demo":
        print_line(f"demo: part of vla; {size}.")
        print_line("next: vla demo")
        return
    new = format_bytes(report.downloaded_bytes)
    print_line(
        f"{report.name}: {f'fetched {new}' if report.downloaded_bytes else 'already here'}; {size}, verified."
    )
    if report.repository:
        licence = f", licence {report.licence}" if report.licence else ""
        print_line(f"  {report.repository}, revision {report.revision}{licence}")
    for file in report.files:
        _print_file(file.path.name, file.bytes, file.digest)
    print_line(f"next: vla extract PATH... --model {_for_extract(report.name)}")


def _print_file(name: str, size: int, digest: str) -> None:
    from vla_cli.render import format_bytes, print_line

    print_line(f"    {name}, {format_bytes(size)}")
    if digest:
        print_line(f"      {'SHA-256' if len(digest) == 64 else 'git SHA-1'} {digest}")


def _print_pack(verb: str, report: PackReport, following: str) -> None:
    from vla_cli.render import format_bytes, plural, print_line

    size = format_bytes(sum(file.bytes for file in report.files))
    count = plural(len(report.files), "file")
    print_line(f"{verb} {', '.join(report.models)}: {count}, {size}, {report.file}.")
    source = ""
    for file in report.files:
        if source != (source := f"{file.repository}, revision {file.revision}"):
            print_line(f"  {source}")
        _print_file(file.name, file.bytes, file.sha256)
    print_line(following)


def _for_extract(name: str) -> str:
    """Return the options of `vla extract` for a model as `vla models` names it."""
    if ":" in name or "/" not in name:
        return name
    model, _, tag = name.rpartition("/")
    return f"{model} --pretrained {tag}"
