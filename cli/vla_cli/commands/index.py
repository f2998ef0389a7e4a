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
            help="Trained run to use; 'none' for the frozen encoder (default: the default run, if it plainly wins).",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Index plug-in, or 'auto' for the fastest by measurement (default: as last time; at first 'auto').",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory that the index may take, like 2GB (default: as last time; at first half of what is free).",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            help="Share of the ten best segments to be found, on average (default: as last time; at first 0.99).",
            show_default=False,
        ),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Make one part of what was added bit by bit, and choose its index anew.")
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Bring the index that 'vla search' reads up to date: only what is new, changed, renamed or gone is worked on."""
    import vla
    from vla_cli.render import print_json, progress_bars, say

    with progress_bars(quiet) as progress:
        report = vla.index(
            workspace=workspace, run=run, backend=backend, memory=memory, recall=recall, compact=compact, progress=progress
        )  # fmt: skip
    if as_json:
        print_json({**report.__dict__, "omissions": report.omissions.to_json()})
        return
    for note in report.notes:
        say(note, style="yellow")
    if report.omissions and not quiet:
        say(f"search leaves out {report.omissions.summary()}: 'vla rm --missing' forgets them", style="yellow")
    _show(report)


def _show(report: vla.IndexReport) -> None:
    from vla_cli.render import line, plural, print_table, size

    columns = ("index", "recall@10", "bytes/vector", "p50 ms", "p95 ms", "build s", "")
    rows = []
    for m in report.measured:
        small = (m["backend"], "", f"{m['bytes_per_vector']:.0f}", "", "", "", m["why_not"])
        figures = (
            f"{m['recall']:.3f}",
            small[2],
            f"{m['p50_ms']:.2f}",
            f"{m['p95_ms']:.2f}",
            f"{m['build_seconds']:.1f}",
        )
        rows.append((m["backend"], *figures, "chosen" if m["chosen"] else m["why_not"]) if m["p50_ms"] else small)
    if rows:
        print_table(columns, rows, "measured on this machine", numeric=columns[1:6])
    made = f"with run {report.run!r}" if report.run else "with the frozen encoder"
    made += f" ({report.reason})" if report.reason and not report.notes else ""
    done = ", ".join(
        f"{count:,} {verb}"
        for count, verb in ((report.added, "added"), (report.renamed, "renamed"), (report.removed, "removed"))
        if count
    )
    line(
        f"{plural(report.segments, 'segment')} of {plural(report.videos, 'video')} indexed {made} "
        f"({report.backend}, {size(round(report.megabytes * 1e6))}); " + (done or "no video has changed")
    )
