"""`search`: find moments by text, by image, or by a moment of a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vla.arguments import override_fields
from vla.datasets._times import parse_seconds
from vla.errors import AnnotationError, UsageError
from vla.hints import Hint, Note
from vla.language.query_rewriting import question_to_caption
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hits, most_confident
from vla.retrieval.query import Query, Weighted, normalize_text
from vla.threads import small_op_threads
from vla.workflows.encoder_choice import UNCHANGED, EncoderChoice
from vla.workflows.open_workspace import open_workspace


def search(
    query: str | Query | Sequence[str | Query] = (),
    paths: Iterable[str | Path] = (),
    *,
    k: int = 10,
    per_video: int | None = None,
    max_fpr: float | None = None,
    filters: VideoFilter | None = None,
    image: Path | None = None,
    like: str | None = None,
    negative: Sequence[Weighted] = (),
    workspace: Path | None = None,
    choice: EncoderChoice = UNCHANGED,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Hits:
    """Return the `k` moments that match best a text, an image, or a moment of a video.

    Args:
        query: text to search for, or a `vla.Query` of several texts; for several queries, their
            hits are concatenated.
        paths: files and folders whose new videos are extracted and indexed first.
        k: number of hits for each query.
        per_video: maximum number of hits of one video; None for 3, or for more where there are fewer
            than `k` hits.
        max_fpr: hide hits whose estimated false-positive rate exceeds this, in (0, 1]: at 0.05, one
            unrelated query in twenty has hits. None hides none.
        filters: conditions on the videos; None for all videos.
        image: search by image instead of text.
        like: `VIDEO@TIME`, a name or path and seconds or `M:SS`: find moments similar to this one.
        negative: texts to subtract, with weights; with `image` or `like` (a `vla.Query` has its
            own).
        workspace: as for `extract`.
        choice: encoder for `paths`, and device for the query.
        progress: called during extraction, and with notes on the index.
        fields: single fields of `choice`, as for `extract`.

    Raises:
        UsageError: there is not exactly one of a text, `image` and `like`, or an option does not
            apply to it.
        MissingError: there is no index, or no statistics for `max_fpr`.

    Example:
        >>> for hit in vla.search("a dog jumps", k=3):  # doctest: +SKIP
        ...     print(hit.video_id, hit.start, hit.end)
    """
    choice = override_fields(choice, fields)
    sources, queries = list(paths), [query] if isinstance(query, str | Query) else list(query)
    moment = None if like is None else _parse_moment(like)
    if bool(queries) + (image is not None) + (moment is not None) != 1:
        raise UsageError("pass exactly one of a text, `image` or `like`")
    if negative and queries:
        raise UsageError(
            "negative texts of a text query belong to the query: vla.Query(text, negative=...)"
        )
    if max_fpr is not None and not queries:
        raise UsageError("a maximum false-positive rate applies to text queries only")
    if sources:
        # A search alone does not need these modules, and does not wait for their import.
        from vla.workflows.extract import extract
        from vla.workflows.index import index_if_needed

        if summary := extract(
            sources, workspace=workspace, choice=choice, progress=progress
        ).omissions.summary():
            progress(Progress("extract", message=f"left out: {summary}", level="warning"))
    ws = open_workspace(workspace, choice.device)
    ws.progress = progress
    if sources:
        index_if_needed(ws.workspace, progress)
    for note in ws.notes():
        progress(Progress("search", message=note, level="warning"))
    warnings = ws.filter_warnings(filters) if filters is not None else []
    if filters is not None and not warnings and not ws.num_matching(filters):
        warnings = ["no indexed video matches the filters"]
    for text in warnings:
        progress(Progress("search", message=text, level="warning"))
    if image is not None:
        return ws.search_image(image, k, per_video, filters, negative)
    if moment is not None:
        return ws.search_like(*moment, k, per_video, filters, negative)
    for one in queries:
        if (rewrite := describe_rewrite(one)) is not None:
            progress(Progress("search", message=rewrite, level="note"))
    searcher = ws.searcher
    # A query is hundreds of small products: on busy cores, threads wait for each other longer than
    # they compute.
    with small_op_threads():
        results = [searcher.search(one, k, per_video, max_fpr, filters) for one in queries]
    # Every query omits the same files, so omissions are not summed.
    omissions = max(
        (hits.omissions for hits in results), key=lambda o: sum(o.counts.values()), default=None
    )
    near_miss = most_confident(hits.near_miss for hits in results if hits.near_miss)
    return Hits((hit for hits in results for hit in hits), omissions, near_miss)


def describe_rewrite(query: str | Query) -> str | None:
    """Return a note on how the texts of a query are rewritten; None if they are not."""
    query = Query(query) if isinstance(query, str) else query
    if not query.rewrite:
        return None
    texts = [
        normalize_text(text)
        for text in (query.text, *query.then, *(text for text, _ in (*query.also, *query.negative)))
    ]
    captions = {text: question_to_caption(text) for text in texts}
    changes = [
        f"{caption!r} instead of {text!r}" for text, caption in captions.items() if caption != text
    ]
    return Note(f"searching for {', '.join(changes)}", Hint("take_literally")) if changes else None


def _parse_moment(text: str) -> tuple[str, float]:
    """Return video and seconds of `VIDEO@TIME`."""
    video, at, time = text.rpartition("@")
    try:
        seconds = parse_seconds(time)
    except AnnotationError:
        at = ""
    if not at or not video:
        raise UsageError(f"invalid moment {text!r}: write VIDEO@TIME, e.g. clips/a.mp4@1:30")
    return video, seconds
