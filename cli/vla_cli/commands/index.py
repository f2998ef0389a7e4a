"""`vla index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    import vla


def index(
    run: Annotated[
        str | None,
        typer.Option(
            help="Trained run to use; none uses the frozen encoder. Default: the run 'default' "
            "if it is measurably better than "
            "the frozen encoder.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Index plug-in, or auto for the fastest by measurement. Default: unchanged, at "
            "first auto.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Maximum memory of the index, e.g. 2GB. Default: unchanged, at first half of "
            "the free memory.",
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            help="Minimum mean recall of the ten best segments. Default: unchanged, at first 0.99.",
            metavar="SHARE",
            show_default=False,
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Merge all fragments into one and re-tune the index type."),
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Create or update the index for `vla search`.

    Only new, changed, renamed and deleted videos are processed.

    Examples:
        vla index
        vla index --run none
        vla index --memory 2GB --compact
    """
    import vla
    from vla_cli.render import print_json, print_message, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.index(
            workspace=workspace, run=run, backend=backend, memory=memory, recall=recall, compact=compact, progress=progress
        )  # fmt: skip
    if as_json:
        print_json({**report.__dict__, "omissions": report.omissions.to_json()})
        return
    for note in report.notes:
        print_message(note, style="yellow")
    if report.omissions and not quiet:
        print_message(
            f"left out of searches: {report.omissions.summary()}; `vla rm --missing` removes them",
            style="yellow",
        )
    _print_report(report)
    if report.videos and not quiet:
        from vla_cli.next_step import print_next

        print_next('search "TEXT"', workspace)


def _print_report(report: vla.IndexReport) -> None:
    """Print the benchmark of index types if there was one, and a summary of the index."""
    from vla_cli.render import format_bytes, plural, print_line, print_table

    columns = ("index", "recall@10", "bytes/vector", "p50 ms", "p95 ms", "build s", "")
    rows = []
    for m in report.measured:
        num_bytes = f"{m['bytes_per_vector']:.0f}"
        if m["p50_ms"]:
            speed = (f"{m['p50_ms']:.2f}", f"{m['p95_ms']:.2f}", f"{m['build_seconds']:.1f}")
            rows.append(
                (
                    m["backend"],
                    f"{m['recall']:.3f}",
                    num_bytes,
                    *speed,
                    "chosen" if m["chosen"] else m["why_not"],
                )
            )
        else:
            rows.append((m["backend"], "", num_bytes, "", "", "", m["why_not"]))
    if rows:
        print_table(columns, rows, "Measured on this machine", numeric=columns[1:6])
    model = f"run {report.run!r}" if report.run else "the frozen encoder"
    reason = f" ({report.reason})" if report.reason and not report.notes else ""
    counts = ((report.added, "added"), (report.renamed, "renamed"), (report.removed, "removed"))
    changes = ", ".join(f"{count:,} {verb}" for count, verb in counts if count)
    segments, videos = plural(report.segments, "segment"), plural(report.videos, "video")
    memory = format_bytes(round(report.megabytes * 1e6))
    print_line(
        f"Indexed {segments} of {videos} with {model}{reason}; {report.backend}, {memory}. "
        f"Videos: {changes or 'no changes'}."
    )
