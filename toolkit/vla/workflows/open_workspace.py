"""Workspace that is open for searches: index, run and encoder are loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vla.cache.store import FeatureCache, active_cache
from vla.errors import CacheError
from vla.hints import Hint, Note
from vla.indexing.diff import diff_index
from vla.indexing.search_index import SearchIndex
from vla.indexing.store import open_index
from vla.language.plurals import plural
from vla.model import zero_shot_model
from vla.naming.matching import NameMatcher
from vla.progress import ProgressCallback, silent
from vla.retrieval.calibration_store import load_or_calibrate
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hits
from vla.retrieval.image_query import load_image
from vla.retrieval.query import Query, Weighted
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import load_model
from vla.workflows.cached_features import VideoFeatures, features_of, names_of
from vla.workflows.demo_notice import demo_warning, unrendered_videos
from vla.workflows.encoder_choice import query_encoder


@dataclass
class OpenWorkspace:
    """An open workspace: the encoder and the index are loaded once, at the first search.

    Attributes:
        workspace: the workspace.
        device: device that encodes queries.
        progress: called while the index is calibrated, which is done once.
    """

    workspace: Workspace
    device: str = "auto"
    progress: ProgressCallback = silent

    @small_op_threads()
    def search(
        self,
        query: str | Query,
        k: int = 10,
        per_video: int | None = None,
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
        per_video: int | None = None,
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
        per_video: int | None = None,
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
    # Reading them fills `cache.damaged`.
    _ = cache.receipts, cache.text_shards()
    if not cache.damaged:
        return []
    return [
        Note(
            f"{plural(len(cache.damaged), 'damaged receipt is', 'damaged receipts are')} ignored",
            Hint("verify"),
        )
    ]


def open_workspace(path: Path | str | None = None, device: str = "auto") -> OpenWorkspace:
    """Open the workspace of `path` for searches; None searches upwards from the current folder."""
    return OpenWorkspace(Workspace.open(Path(path) if path is not None else None), device)


def _no_match(pattern: str, is_extracted: bool) -> str:
    text = f"{pattern!r} matches no indexed video"
    if is_extracted:
        return Note(f"{text}, only videos that are not indexed yet", Hint("index"))
    if "*" in pattern and "**" not in pattern and "/" not in pattern:
        return f"{text}: '*' stays within a folder, '**/{pattern}' matches in all folders"
    return Note(text, Hint("list_videos"))


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
    calibration = load_or_calibrate(workspace, index, cache, model, encoder, progress)
    unsupported = frozenset(unrendered_videos(workspace, index.spec, index.videos))
    return Searcher(
        index,
        encoder,
        model,
        cache,
        workspace,
        calibration,
        lists_missing=False,
        unsupported=unsupported,
    )
