"""`search`: from words to moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vla.arguments import collected
from vla.cache.store import FeatureCache, active_cache
from vla.datasets._times import parse_seconds
from vla.errors import AnnotationError, CacheError, UsageError
from vla.hints import Hint, Note
from vla.indexing.diff import diff_index
from vla.indexing.store import SearchIndex, open_index
from vla.language.query_rewriting import question_to_caption
from vla.model import zero_shot_model
from vla.naming.matching import Names
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hits
from vla.retrieval.hubness_store import load_or_fit_hubness
from vla.retrieval.image_query import load_image
from vla.retrieval.query import Query, Weighted, normalize_text
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.threads import small_work
from vla.training.checkpoint import load_model
from vla.workflows.cached_features import VideoFeatures, features_of, names_of
from vla.workflows.demo_notice import strangers, warning
from vla.workflows.encoder_choice import UNCHANGED, EncoderChoice, query_encoder


@dataclass
class OpenWorkspace:
    """A workspace kept open: the encoder and the index are loaded once, at the first search.

    Attributes:
        workspace: where it is.
        device: where queries are encoded.
        progress: called while the index is compared with other queries, which is done once.
    """

    workspace: Workspace
    device: str = "auto"
    progress: ProgressCallback = silent

    @small_work()
    def search(
        self,
        query: str | Query,
        k: int = 10,
        per_video: int = 3,
        fpr: float | None = None,
        limits: VideoFilter | None = None,
    ) -> Hits:
        """The `k` moments that match `query` best; see `vla.retrieval.searcher.Searcher.search`."""
        return self._tried(lambda: self.searcher.search(query, k, per_video, fpr, limits))

    def refresh(self) -> None:
        """Read index, run and encoder anew at the next search. What searches return never mixes old and new."""
        vars(self).pop("searcher", None)

    def _tried(self, find: Callable[[], Hits]) -> Hits:
        """What `find` returns; tried once more with everything read anew if a file was replaced while it was searched."""
        try:
            return find()
        except CacheError:
            self.refresh()
            return find()

    @cached_property
    def searcher(self) -> Searcher:
        """The loaded index, encoder and projector."""
        return _open_searcher(self.workspace, self.device, self.progress)

    @small_work()
    def search_image(
        self,
        image: Path | str,
        k: int = 10,
        per_video: int = 3,
        limits: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """The `k` moments that look most like the picture in a file; see `vla.retrieval.searcher.Searcher.search_picture`."""
        pixels = load_image(Path(image))
        return self._tried(lambda: self.searcher.search_picture(pixels, str(image), k, per_video, limits, negative))

    @small_work()
    def search_like(
        self,
        video: Path | str,
        seconds: float,
        k: int = 10,
        per_video: int = 3,
        limits: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """Return the `k` moments most similar to that of `video`, a name or a path; see `Searcher.search_like`."""
        name = self.workspace.video_named(video, self.searcher.cache.receipts)
        return self._tried(lambda: self.searcher.search_like(name, seconds, k, per_video, limits, negative))

    def features(self, video: Path | str) -> VideoFeatures:
        """The features of `video`, a name or a path, as numpy arrays with times; raises MissingError where there are none.

        Examples:
            >>> found = vla.open_workspace("videos").features("clips/a.mp4")  # doctest: +SKIP
            >>> found.values.shape, found.times_seconds[:2]  # doctest: +SKIP
            ((120, 512), array([0. , 0.5]))
        """
        return features_of(self.workspace, video)

    def videos(self) -> list[str]:
        """Names of all videos with features, in order."""
        return names_of(self.workspace)

    def fitting(self, limits: VideoFilter) -> int:
        """How many videos of the index `limits` allow."""
        allowed = self.searcher.allowed(limits)
        return len(self.searcher.index.videos) if allowed is None else int(allowed.sum())

    def misses(self, limits: VideoFilter) -> list[str]:
        """A sentence for each pattern that fits no video of the index."""
        names, folders = self.searcher.names, (self.workspace.root, Path.cwd())
        missed = [p for p in (*limits.include, *limits.exclude) if not names.chosen(p, *folders)]
        others = Names(set(self.searcher.cache.receipts) - set(names.ids), self.workspace.root)
        return [_miss(p, bool(others.chosen(p, *folders))) for p in missed]

    def notes(self) -> list[str]:
        """What a person should know of the index: videos it does not hold, or that it is of another encoder."""
        held = self.searcher.index
        strange = len(self.searcher.unsure)
        return [*([warning(strange, len(held.videos))] if strange else []), *self._state()]

    def _state(self) -> list[str]:
        held = self.searcher.index
        cache = active_cache(self.workspace.caches)
        return [*self._stale(held, cache), *_damage(cache)]

    def _stale(self, held: SearchIndex, cache: FeatureCache) -> list[str]:
        if cache.spec.fingerprint != held.spec.fingerprint:
            return [Note("the index is of an earlier encoder of this workspace", Hint("index"))]
        found = diff_index(held, cache)
        if not found.is_none:
            return [Note(f"the index is out of date ({found}); {found.covered}", Hint("index"))]
        told = f"another vla is working in this workspace; {found.covered} so far"
        return [told] if self.workspace.is_busy() else []


def _damage(cache: FeatureCache) -> list[str]:
    _ = cache.receipts, cache.text_shards()
    if not cache.damaged:
        return []
    return [Note(f"{len(cache.damaged)} receipts of features are damaged and count as none", Hint("verify"))]


def open_workspace(path: Path | str | None = None, device: str = "auto") -> OpenWorkspace:
    """The workspace of `path` (found upwards from the current folder when None), ready to be searched."""
    return OpenWorkspace(Workspace.open(Path(path) if path is not None else None), device)


def search(
    query: str | Query | Sequence[str | Query] = (),
    paths: Iterable[str | Path] = (),
    *,
    k: int = 10,
    per_video: int = 3,
    fpr: float | None = None,
    limits: VideoFilter | None = None,
    image: Path | None = None,
    like: str | None = None,
    negative: Sequence[Weighted] = (),
    workspace: Path | None = None,
    choice: EncoderChoice = UNCHANGED,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Hits:
    """The `k` moments that match best what is asked: a query, each of several, a picture, or a moment of a video.

    Args:
        query: what to look for, in words, or a `vla.Query` of several texts; of several queries, the hits of one after the other.
        paths: extract and index what is new in these first.
        k: how many.
        per_video: at most this many of one video.
        fpr: leave out what queries that nothing here matches find at a higher rate than this, in (0, 1]; with 0.05, one in
            twenty of such queries finds something. None leaves nothing out.
        limits: which videos to look at; all when None.
        image: a picture; then the moments that look most like it.
        like: `VIDEO@TIME`, a name or path and seconds or `M:SS`; then the moments that are most like what it shows then.
        negative: with a picture or a moment, texts that tell of what is not wanted, with weights.
        workspace: as for `extract`.
        choice: encoder for `paths`, and the device for the query.
        progress: called while extracting; also with notes on the index.
        fields: single fields of `choice`, as for `extract`.

    Examples:
        >>> for hit in vla.search("a dog jumps", k=3):  # doctest: +SKIP
        ...     print(hit.video_id, hit.start, hit.end)
    """
    choice = collected(choice, fields)
    given, asked = list(paths), [query] if isinstance(query, str | Query) else list(query)
    moment = None if like is None else _moment(like)
    if bool(asked) + (image is not None) + (moment is not None) != 1:
        raise UsageError("say what to look for: words, a picture, or a moment of a video, one of them")
    if negative and asked:
        raise UsageError("what is not wanted beside words belongs to the query: vla.Query(text, negative=...)")
    if fpr is not None and not asked:
        raise UsageError("a false-positive rate is known of queries in words alone: leave it out, or ask in words")
    if given:
        # A search alone needs nothing of what extracts and indexes, and waits for no import of it.
        from vla.workflows.extract import extract
        from vla.workflows.index import index_if_needed

        if left_out := extract(given, workspace=workspace, choice=choice, progress=progress).omissions.summary():
            progress(Progress("extract", message=f"left out: {left_out}", level="warning"))
    opened = open_workspace(workspace, choice.device)
    opened.progress = progress
    if given:
        index_if_needed(opened.workspace, progress)
    for note in opened.notes():
        progress(Progress("search", message=note, level="warning"))
    misses = opened.misses(limits) if limits is not None else []
    if limits is not None and not misses and not opened.fitting(limits):
        misses = ["no video of the index fits all filters"]
    for miss in misses:
        progress(Progress("search", message=miss, level="warning"))
    if image is not None:
        return opened.search_image(image, k, per_video, limits, negative)
    if moment is not None:
        return opened.search_like(*moment, k, per_video, limits, negative)
    for one in asked:
        if (told := describe_rewrite(one)) is not None:
            progress(Progress("search", message=told, level="note"))
    searcher = opened.searcher
    # A query is hundreds of small products: where others use the cores, threads wait for each other longer than they compute.
    with small_work():
        found = [searcher.search(one, k, per_video, fpr, limits) for one in asked]
    # Every query leaves out the same files; their number is not that of the queries.
    most = max((hits.omissions for hits in found), key=lambda o: sum(o.counts.values()), default=None)
    return Hits((hit for hits in found for hit in hits), most)


def describe_rewrite(query: str | Query) -> str | None:
    """What a person should know of how a question or a request is understood; None where all is taken as it is written."""
    asked = Query(query) if isinstance(query, str) else query
    if asked.is_literal:
        return None
    texts = [
        normalize_text(text)
        for text in (asked.text, *asked.then, *(text for text, _ in (*asked.also, *asked.negative)))
    ]
    changed = [f"{question_to_caption(text)!r} for {text!r}" for text in texts if question_to_caption(text) != text]
    return Note(f"looking for {', '.join(changed)}", Hint("take_literally")) if changed else None


def _miss(pattern: str, is_extracted: bool) -> str:
    text = f"{pattern!r} fits no video of the index"
    if is_extracted:
        return Note(f"{text}, but some that are not in it yet", Hint("index"))
    if "*" in pattern and "**" not in pattern and "/" not in pattern:
        return f"{text}: '*' stays within a folder, and '**/{pattern}' looks in all of them"
    return Note(text, Hint("list_videos"))


def _moment(text: str) -> tuple[str, float]:
    """Video and seconds of `VIDEO@TIME`."""
    video, at, time = text.rpartition("@")
    try:
        seconds = parse_seconds(time)
    except AnnotationError:
        at = ""
    if not at or not video:
        raise UsageError(f"{text!r} is no moment of a video: write VIDEO@TIME, e.g. clips/a.mp4@1:30")
    return video, seconds


@small_work()
def _open_searcher(place: Workspace, device: str, progress: ProgressCallback) -> Searcher:
    held = open_index(place.index)
    cache = FeatureCache.open(place.caches / held.spec.fingerprint)
    held.spec.require_same(cache.spec, "the index", "the cache", Hint("index"))
    model = zero_shot_model(held.spec.dim, 1.0)
    if held.run:
        model, run = load_model(place.runs / held.run)
        if run.digest != held.run_digest:
            raise CacheError(f"run {held.run!r} was trained anew since the index was built", hint=Hint("index"))
    encoder = query_encoder(cache, device, "auto")
    background = load_or_fit_hubness(place, held, cache, model, encoder, progress)
    unsure = frozenset(strangers(place, held.spec, held.videos))
    return Searcher(held, encoder, model, cache, place, background, lists_missing=False, unsure=unsure)
