"""`search`: find moments by text, by image, or by a moment of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vla.arguments import override_fields
from vla.cache.store import FeatureCache, active_cache
from vla.datasets._times import parse_seconds
from vla.errors import AnnotationError, CacheError, UsageError
from vla.hints import Hint, Note
from vla.indexing.diff import diff_index
from vla.indexing.search_index import SearchIndex
from vla.indexing.store import open_index
from vla.language.query_rewriting import question_to_caption
from vla.model import zero_shot_model
from vla.naming.matching import NameMatcher
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hits
from vla.retrieval.hubness_store import load_or_fit_hubness
from vla.retrieval.image_query import load_image
from vla.retrieval.query import Query, Weighted, normalize_text
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import load_model
from vla.workflows.cached_features import VideoFeatures, features_of, names_of
from vla.workflows.demo_notice import demo_warning, unrendered_videos
from vla.workflows.encoder_choice import UNCHANGED, EncoderChoice, query_encoder


@dataclass
class OpenWorkspace:
    """An open workspace: the encoder and the index are loaded once, at the first search.

    Attributes:
        workspace: the workspace.
        device: device that encodes queries.
        progress: called while the hubness of the index is estimated, which is done once.
    """

    workspace: Workspace
    device: str = "auto"
    progress: ProgressCallback = silent

    @small_op_threads()
    def search(
        self,
        query: str | Query,
        k: int = 10,
        per_video: int = 3,
        max_fpr: float | None = None,
        filters: VideoFilter | None = None,
    ) -> Hits:
        """Return the `k` moments that match `query` best.

        See `vla.retrieval.searcher.Searcher.search`.
        """
        return self._with_retry(lambda: self.searcher.search(query, k, per_video, max_fpr, filters))

    def refresh(self) -> None:
        """Reload index, run and encoder at the next search.

        The hits of a search never mix old and new state.
        """
        vars(self).pop("searcher", None)

    def _with_retry(self, find: Callable[[], Hits]) -> Hits:
        """Return the result of `find`.

        Reload and retry once if a file was replaced during the search.
        """
        try:
            return find()
        except CacheError:
            self.refresh()
            return find()

    @cached_property
    def searcher(self) -> Searcher:
        """The searcher, with index, encoder and projector loaded."""
        return _open_searcher(self.workspace, self.device, self.progress)

    @small_op_threads()
    def search_image(
        self,
        image: Path | str,
        k: int = 10,
        per_video: int = 3,
        filters: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """Return the `k` moments most similar to an image file.

        See `vla.retrieval.searcher.Searcher.search_image`.
        """
        pixels = load_image(Path(image))
        return self._with_retry(
            lambda: self.searcher.search_image(pixels, str(image), k, per_video, filters, negative)
        )

    @small_op_threads()
    def search_like(
        self,
        video: Path | str,
        seconds: float,
        k: int = 10,
        per_video: int = 3,
        filters: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """Return the `k` moments most similar to a frame of `video`, a name or a path.

        See `Searcher.search_like`.
        """
        name = self.workspace.resolve_video(video, self.searcher.cache.receipts)
        return self._with_retry(
            lambda: self.searcher.search_like(name, seconds, k, per_video, filters, negative)
        )

    def features(self, video: Path | str) -> VideoFeatures:
        """Return the features of `video`, a name or a path, as arrays with times.

        Raises MissingError if it has none.

        Example:
            >>> features = vla.open_workspace("videos").features("clips/a.mp4")  # doctest: +SKIP
            >>> features.values.shape, features.times_seconds[:2]  # doctest: +SKIP
            ((120, 512), array([0. , 0.5]))
        """
        return features_of(self.workspace, video)

    def videos(self) -> list[str]:
        """Return the names of all videos with features, in order."""
        return names_of(self.workspace)

    def num_matching(self, filters: VideoFilter) -> int:
        """Return the number of videos of the index that pass `filters`."""
        mask = self.searcher.video_mask(filters)
        return len(self.searcher.index.videos) if mask is None else int(mask.sum())

    def filter_warnings(self, filters: VideoFilter) -> list[str]:
        """Return a warning for each pattern that matches no video of the index."""
        names, folders = self.searcher.names, (self.workspace.root, Path.cwd())
        patterns = [
            p for p in (*filters.include, *filters.exclude) if not names.select(p, *folders)
        ]
        others = NameMatcher(
            set(self.searcher.cache.receipts) - set(names.ids), self.workspace.root
        )
        return [_no_match(p, bool(others.select(p, *folders))) for p in patterns]

    def notes(self) -> list[str]:
        """Return warnings about the index: missing videos, another encoder, damaged receipts."""
        index = self.searcher.index
        cache = active_cache(self.workspace.caches)
        num_unsupported = len(self.searcher.unsupported)
        encoder_notes = (
            [demo_warning(num_unsupported, len(index.videos))] if num_unsupported else []
        )
        return [*encoder_notes, *self._index_notes(index, cache), *_damage_notes(cache)]

    def _index_notes(self, index: SearchIndex, cache: FeatureCache) -> list[str]:
        if cache.spec.fingerprint != index.spec.fingerprint:
            return [Note("the index is of an earlier encoder of this workspace", Hint("index"))]
        diff = diff_index(index, cache)
        if not diff.is_empty:
            return [Note(f"the index is out of date ({diff}); {diff.coverage}", Hint("index"))]
        busy = f"another vla is working in this workspace; {diff.coverage} so far"
        return [busy] if self.workspace.is_busy() else []


def _damage_notes(cache: FeatureCache) -> list[str]:
    _ = cache.receipts, cache.text_shards()
    if not cache.damaged:
        return []
    return [
        Note(
            f"{len(cache.damaged)} receipts of features are damaged and count as none",
            Hint("verify"),
        )
    ]


def open_workspace(path: Path | str | None = None, device: str = "auto") -> OpenWorkspace:
    """Open the workspace of `path` for searches; None searches upwards from the current folder."""
    return OpenWorkspace(Workspace.open(Path(path) if path is not None else None), device)


def search(
    query: str | Query | Sequence[str | Query] = (),
    paths: Iterable[str | Path] = (),
    *,
    k: int = 10,
    per_video: int = 3,
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
        per_video: maximum number of hits of one video.
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
    return Hits((hit for hits in results for hit in hits), omissions)


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


def _no_match(pattern: str, is_extracted: bool) -> str:
    text = f"{pattern!r} matches no indexed video"
    if is_extracted:
        return Note(f"{text}, only videos that are not indexed yet", Hint("index"))
    if "*" in pattern and "**" not in pattern and "/" not in pattern:
        return f"{text}: '*' stays within a folder, '**/{pattern}' matches in all folders"
    return Note(text, Hint("list_videos"))


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


@small_op_threads()
def _open_searcher(workspace: Workspace, device: str, progress: ProgressCallback) -> Searcher:
    index = open_index(workspace.index)
    cache = FeatureCache.open(workspace.caches / index.spec.fingerprint)
    index.spec.require_same(cache.spec, "the index", "the cache", Hint("index"))
    model = zero_shot_model(index.spec.dim, 1.0)
    if index.run:
        model, run = load_model(workspace.runs / index.run)
        if run.digest != index.run_digest:
            raise CacheError(
                f"run {index.run!r} was trained anew since the index was built", hint=Hint("index")
            )
    encoder = query_encoder(cache, device, "auto")
    correction = load_or_fit_hubness(workspace, index, cache, model, encoder, progress)
    unsupported = frozenset(unrendered_videos(workspace, index.spec, index.videos))
    return Searcher(
        index,
        encoder,
        model,
        cache,
        workspace,
        correction,
        lists_missing=False,
        unsupported=unsupported,
    )
