"""Searches of the demo: drawn by a rule, run with two models, and shown on a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.contact_sheet import SheetHit, SheetRow, contact_sheet
from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.base import Decoder
from vla.encoders.base import TextEncoder
from vla.indexing.sync import build_index
from vla.model import AlignmentModel
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.duration_prior import estimate_duration_range
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hit
from vla.retrieval.query_bank import choose_query_bank
from vla.retrieval.searcher import Searcher
from vla.stills import stills
from vla.storage.workspace import Workspace
from vla.world.clips import Clip
from vla.world.queries import THING, WorldQuery, event_queries, thing_queries

NUM_OF_KIND = 5
"""Number of searches for things, and for events."""
MIN_CLIPS, MAX_CLIPS = 2, 8
"""Bounds of the number of clips with a right moment."""
NUM_HITS = 10
_NUM_PICTURES = 2
_STILL_WIDTH = 128
_EDGE_SECONDS = 0.13
"""Distance from the ends of a moment to the stills that show its start and its end."""


@dataclass(frozen=True)
class ExampleHit:
    """A hit of an example.

    Attributes:
        video: name of the clip.
        start: start in seconds.
        end: end in seconds.
        peak: time of the best frame in seconds.
        is_right: whether the thing is on screen, or the event happens, at the peak.
    """

    video: str
    start: float
    end: float
    peak: float
    is_right: bool


@dataclass(frozen=True)
class Example:
    """A search among the test clips, with its ground truth.

    Attributes:
        query: the text.
        kind: `thing`, which a single frame shows, or `event`, which needs several.
        right: number of clips with a right moment.
        rank: rank of the first right hit of the trained run; 0 if none of ten is right.
        frozen_rank: the same for the frozen encoder.
        hits: the best hits of the trained run.
        frozen_hits: the same of the frozen encoder.
    """

    query: str
    kind: str
    right: int
    rank: int
    frozen_rank: int
    hits: tuple[ExampleHit, ...]
    frozen_hits: tuple[ExampleHit, ...]


def draw_queries(clips: Sequence[Clip], seed: int) -> list[WorldQuery]:
    """Draw five things and five events at random among those in a few of the clips.

    A few are 2 to 8 clips; in a set too small for that, any number. Nothing is searched before, so
    no query is drawn for its result.
    """
    rng = np.random.default_rng([seed, 6])
    queries = []
    for candidates in (thing_queries(clips, rng), event_queries(clips, rng)):
        few = [q for q in candidates if MIN_CLIPS <= len(q.clips) <= MAX_CLIPS]
        pool = few if len(few) >= NUM_OF_KIND else candidates
        queries += [pool[i] for i in rng.permutation(len(pool))[:NUM_OF_KIND]]
    return queries


def open_searcher(
    workspace: Workspace, cache: FeatureCache, model: AlignmentModel, encoder: TextEncoder
) -> Searcher:
    """Return a searcher of all videos with any model, as if the index of the workspace was made with
    it.
    """
    captions = caption_store.load(workspace)
    index = build_index(cache, model)
    bank = choose_query_bank(captions, index.videos, cache)
    calibration = replace(
        calibrate_index(index, bank, bank.encode(cache, model, encoder)),
        duration_range=estimate_duration_range(captions, cache.receipts),
    )
    return Searcher(index, encoder, model, cache, workspace, calibration)


def run_examples(
    queries: Sequence[WorldQuery], run: Searcher, frozen: Searcher, filters: VideoFilter
) -> list[Example]:
    """Search for each query with both searchers, and compare the hits with the ground truth."""
    examples = []
    for query in queries:
        hits, frozen_hits = (
            [
                _example_hit(query, hit)
                for hit in searcher.search(query.text, NUM_HITS, filters=filters)
            ]
            for searcher in (run, frozen)
        )
        examples.append(
            Example(
                query.text, query.kind, len(query.clips), _first_right(hits), _first_right(frozen_hits),
                tuple(hits[:_NUM_PICTURES]), tuple(frozen_hits[:_NUM_PICTURES]),
            )
        )  # fmt: skip
    return examples


def draw_sheet(examples: Sequence[Example], workspace: Workspace, explanation: str) -> bytes:
    """Return a PNG of the best hits of all examples, those of the frozen encoder on the left."""
    with closing(decoders.build(DEFAULT)) as decoder:
        rows = [
            SheetRow(
                example.query,
                "thing" if example.kind == THING else "event: needs time",
                tuple(
                    tuple(_sheet_hit(hit, workspace, decoder) for hit in hits)
                    for hits in (example.frozen_hits, example.hits)
                ),
            )
            for example in examples
        ]
    return contact_sheet(
        "The first two hits of ten searches",
        explanation,
        ("frozen encoder", "trained run"),
        rows,
    )


def count_right(examples: Sequence[Example], num_hits: int, kind: str = "") -> tuple[int, int]:
    """Return how many searches have a right hit among the first `num_hits`: with the frozen encoder,
    with the run.
    """
    selection = [e for e in examples if kind in ("", e.kind)]
    return (
        sum(0 < e.frozen_rank <= num_hits for e in selection),
        sum(0 < e.rank <= num_hits for e in selection),
    )


def _example_hit(query: WorldQuery, hit: Hit) -> ExampleHit:
    return ExampleHit(
        hit.video_id, hit.start, hit.end, hit.peak, query.matches(hit.video_id, hit.peak)
    )


def _first_right(hits: Sequence[ExampleHit]) -> int:
    return next((rank for rank, hit in enumerate(hits, 1) if hit.is_right), 0)


def _sheet_hit(hit: ExampleHit, workspace: Workspace, decoder: Decoder) -> SheetHit:
    """Return the hit with its frames at the start, at the peak and at the end."""
    last = max(hit.peak, hit.end - _EDGE_SECONDS)
    first = min(hit.peak, hit.start + _EDGE_SECONDS)
    pictures = stills(
        workspace.video_path(hit.video), (first, hit.peak, last), _STILL_WIDTH, decoder
    )
    name = hit.video.rpartition("/")[2]
    return SheetHit(tuple(pictures), f"{name}  {hit.start:.1f} - {hit.end:.1f} s", hit.is_right)
