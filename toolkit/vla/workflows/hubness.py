"""What searches in a workspace are compared with: measured once for each index, kept beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, ResourceError
from vla.hints import Hint, Note
from vla.indexing.store import SearchIndex
from vla.model import AlignmentModel
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.duration_prior import lasting_of
from vla.retrieval.hubness import Background, measured
from vla.retrieval.hubness_store import identity, open_background, save_background
from vla.retrieval.query_bank import ENOUGH, Bank, everyday, of_captions
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.workflows.text_features import aligned_texts

_TOGETHER = 64


def background_of(
    place: Workspace,
    index: SearchIndex,
    cache: FeatureCache,
    model: AlignmentModel,
    encoder: TextEncoder,
    progress: ProgressCallback = silent,
) -> Background | None:
    """The background of `index`, made where there is none that fits; None where there is nothing to compare with.

    Also None while the index is out of date: what it was built from is not there any more to be measured.
    """
    if index.cache_state != cache.state() or not len(index.video_of_row):
        return None
    of = identity(index, _digest(place))
    found = open_background(place.index, of, len(index.video_of_row), index.dim)
    if found is not None:
        return found
    captions = caption_store.once(
        place, lambda told: progress(Progress("search", message=f"{told} (left out)", level="warning"))
    )
    bank = _bank(captions, index, cache)
    if len(bank.texts) < 2:
        return None
    progress(
        Progress(
            "search",
            message=f"measuring the index with {len(bank.texts):,} queries, for confidences (once)",
            level="note",
        )
    )
    vectors = bank_vectors(bank, cache, model, encoder)
    try:
        by_video = measured(_segments(index, progress), vectors, bank.left_out(index.videos))
    except CacheError as error:
        note = Note(f"{error}; results are not compared with other queries", error.hint)
        progress(Progress("search", message=note, level="warning"))
        return None
    # Rows of videos that are gone are never found, and come first in this order.
    bias = np.zeros(len(index.video_of_row), by_video.bias.dtype)
    bias[np.argsort(index.video_of_row, kind="stable")[len(bias) - len(by_video.bias) :]] = by_video.bias
    found = Background(bias, by_video.chance, by_video.mean, lasting_of(captions, cache.receipts))
    if found.lasting is not None:
        least, most = found.lasting
        told = f"moments are looked for that last {least:.1f} to {most:.1f} s, as those do that captions tell of"
        progress(Progress("search", message=Note(told, Hint("any_length")), level="note"))
    try:
        with place.locked_index(progress):
            save_background(place.index, found, of)
    except ResourceError:
        # A workspace that cannot be written can be searched all the same.
        pass
    return found


def _digest(place: Workspace) -> str:
    """Of the queries that there are to compare with, without reading them one by one."""
    captions = place.captions.read_bytes() if place.captions.is_file() else b""
    return atomic.sha256(captions + "\n".join(everyday().texts).encode())


def _bank(captions: list[Annotation], index: SearchIndex, cache: FeatureCache) -> Bank:
    """Captions that are cached, where there are enough; else everyday queries; of imported features, what captions there are: the
    encoder that may be named for them is asked for a query that needs it, and for nothing else.

    A caption of all videos of the index has none that it could be compared with.
    """
    cached = [a for a in captions if cache.pieces(a.query)]
    bank = of_captions(cached)
    videos = set(index.videos)
    useful = [i for i, names in enumerate(bank.told_of) if not videos <= names]
    bank = Bank(tuple(bank.texts[i] for i in useful), tuple(bank.told_of[i] for i in useful))
    if len(bank.texts) >= ENOUGH or cache.spec.is_imported:
        return bank
    return everyday()


def bank_vectors(bank: Bank, cache: FeatureCache, model: AlignmentModel, encoder: TextEncoder) -> np.ndarray:
    """`(B, E)` unit vectors of its texts."""
    missing = cache.missing_texts(bank.texts)
    known = sorted({*bank.texts} - {*missing})
    found = dict(zip(known, aligned_texts(cache, model, known), strict=True)) if known else {}
    for start in range(0, len(missing), _TOGETHER):
        some = missing[start : start + _TOGETHER]
        found.update(zip(some, model.align_texts(encoder.encode_text(some).pooled), strict=True))
    return np.stack([found[text] for text in bank.texts])


def _segments(index: SearchIndex, progress: ProgressCallback) -> Iterator[np.ndarray]:
    """`(n, E)` of each video in turn, as the index has them; raises CacheError where these are no numbers."""
    done = 0
    for part in index.parts:
        order = np.argsort(part.video_of_row, kind="stable")
        begins = np.searchsorted(part.video_of_row[order], np.arange(len(part.videos) + 1))
        for position, name, _ in part.held():
            found = np.asarray(part.vectors[order[begins[position] : begins[position + 1]]], np.float32)
            if not np.isfinite(found).all():
                raise CacheError(f"the index holds no numbers for {name!r}", hint=Hint("index"))
            done += 1
            progress(Progress("search", done, len(index.videos)))
            yield found
