"""Does each stage of a search earn its place, and is its confidence what it says? On collages; in the world: `search_world.py`.

    python tests/benchmarks/search_quality.py collages [FOLDER] [--queries 150]

Real CLIP features of test classes, searched with paraphrases; needs the shared files ($VLA_SHARED_DATA). What nothing matches
are names of other categories: half are compared with, the other half is tested.

Prints Markdown: moments in the corpus, percent, as `vla search` lists them (k 10, 3 a video); SumR of its video scores
(R@1 + 5 + 10 + 100); then the false-positive rate that was asked for and that was seen, with its 95 % binomial interval.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _searched import Searched, collages

from vla.batches.corpus import sliding_windows
from vla.batches.segment_pooling import pool_segments
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.features import FeatureSpec, TextFeatures
from vla.indexing.segments import Segmenter, segment_by_kts, windows_and_frames
from vla.indexing.sync import build_index
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.retrieval import PARTIAL_RECALLS, ranks
from vla.model import AlignmentModel
from vla.retrieval.duration_prior import DurationRange
from vla.retrieval.hubness import HubnessCorrection, estimate_hubness
from vla.retrieval.moments import SegmentScores
from vla.retrieval.searcher import Searcher
from vla.spans import nms
from vla.storage.workspace import Workspace
from vla.workflows.text_features import LookupTexts

RATES = (0.05, 0.1, 0.2)
MEANS, SEGMENTS, LOCALISED, HEAD = (
    "means of videos",
    "segments by cosine",
    "segments by cosine and contrast",
    "by head",
)
SHOWN, SO_LONG, RAW = (
    "rescored on frames by attention",
    "as long as captions tell",
    "curve with its bias",
)
CUTS: dict[str, Segmenter] = {
    "windows": sliding_windows,
    "changes": segment_by_kts,
    "both": windows_and_frames,
}


class Place:
    """The videos in a cache of their own, with an index by one model."""

    def __init__(
        self,
        searched: Searched,
        folder: Path,
        model: AlignmentModel,
        cut: Segmenter = windows_and_frames,
    ) -> None:
        self.searched, self.model = searched, model
        dim = searched.videos[0].values.shape[1]
        spec = FeatureSpec("benchmark", "", "", "", "", dim)
        cache = FeatureCache.create(folder, spec, EncoderSource("benchmark", "", ""))
        for video in searched.videos:
            if video.video_id not in cache.receipts:
                receipt = Receipt(
                    video.video_id, "ok", "", 0, 0, "", duration_seconds=video.duration_seconds
                )
                cache.add_video(video, receipt)
        pooled = np.stack(list(searched.vectors.values()))
        nothing = np.zeros((len(pooled), 1, dim), np.float32)
        given = TextFeatures(
            tuple(searched.vectors), pooled, nothing, np.ones((len(pooled), 1), bool)
        )
        self.index = build_index(cache, model, segmenter=cut)
        self.row = {name: i for i, name in enumerate(self.index.videos)}
        self.searcher = Searcher(self.index, LookupTexts(given), model, cache, Workspace(folder))
        features = [cache.frames(v) for v in self.index.videos]
        self.frames = [model.align_frames(f) for f in features]
        self.cut = [pool_segments(a, f, cut(f)) for a, f in zip(self.frames, features, strict=True)]

    def text(self, texts: list[str]) -> np.ndarray:
        return self.model.align_texts(np.stack([self.searched.vectors[t] for t in texts]))

    def background(self, searched: Searched | None = None) -> HubnessCorrection:
        texts, told_of = (searched or self.searched).bank
        by_name = (
            None
            if told_of is None
            else {v.video_id: t for v, t in zip(self.searched.videos, told_of, strict=True)}
        )
        left_out = by_name and [by_name[name] for name in self.index.videos]
        found = estimate_hubness((c.vectors for c in self.cut), self.text(texts), left_out)
        return replace(found, duration_range=self.searched.lasting)

    def hits(self, searcher: Searcher) -> Callable[[str], np.ndarray]:
        def found(text: str) -> np.ndarray:
            return np.array(
                [(self.row[h.video_id], h.start, h.end, h.score) for h in searcher.search(text)]
            )

        return found

    def ten_of(self, scores: list[np.ndarray]) -> np.ndarray:
        """As hits, of the scores of all segments of each video: the best, at most three a video."""
        rows = []
        for video, values in enumerate(scores):
            kept = nms(self.cut[video].spans[: len(values)], values, 0.3, most=3)
            rows += [(video, *self.cut[video].spans[i], values[i]) for i in kept]
        return np.array(sorted(rows, key=lambda r: -r[3])[:10])


def attention(curve: np.ndarray, temperature: float = 0.01) -> float:
    """Sentence-to-frame attention (X-CLIP): the mean of the curve, weighted by the softmax of itself."""
    weights = np.exp((curve - curve.max()) / temperature)
    return float(weights @ curve / weights.sum())


def measure(
    place: Place, name: str, found: Callable[[str], np.ndarray], videos: np.ndarray
) -> None:
    """A row of the table. videos: `(Q, V)` scores."""
    queries = place.searched.queries
    old = {v.video_id: i for i, v in enumerate(place.searched.videos)}
    new = {old[v]: i for i, v in enumerate(place.index.videos)}
    first, began = [], time.monotonic()
    lists = [found(text) for text in queries]
    spent = 1000 * (time.monotonic() - began) / len(lists)
    for predictions, truth in zip(lists, queries.values(), strict=True):
        asked = first_hit_ranks(
            [predictions] * len(truth),
            [new[v] for v, _, _ in truth],
            [np.array([t[1:]]) for t in truth],
        )
        first.append(asked.min(0))
    cells = [100 * (np.array(first)[:, column] <= k).mean() for column in (0, 1) for k in (1, 10)]
    relevant = np.zeros(videos.shape, bool)
    for i, truth in enumerate(queries.values()):
        relevant[i, [new[v] for v, _, _ in truth]] = True
    rank = ranks(videos, relevant)
    cells += [100 * (rank <= 1).mean(), sum(100 * (rank <= k).mean() for k in PARTIAL_RECALLS)]
    print(f"| {name} | " + " | ".join(f"{c:.1f}" for c in cells) + f" | {spent:.0f} |", flush=True)


def table(
    searched: Searched, folder: Path, models: dict[str, AlignmentModel], rows: list[str]
) -> None:
    print(f"\n{len(searched.videos)} videos of {np.mean([v.duration_seconds for v in searched.videos]):.0f} s, "
          f"{len(searched.queries)} queries with {np.mean([len(t) for t in searched.queries.values()]):.1f} right moments each\n")  # fmt: skip
    names = ("R@1 .5", "R@10 .5", "R@1 .7", "R@10 .7", "video R@1", "video SumR", "ms a query")
    print("| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names), flush=True)
    for title, model in models.items():
        for kind in rows:
            place = Place(searched, folder, replace_heads(model), CUTS[kind])
            print(f"| {title}, {kind}: {density(place)} |" + " |" * len(names))
            stages(place, title, model)


def density(place: Place) -> str:
    """Rows of the index by time of video, with the bytes of their vectors."""
    hours = sum(v.duration_seconds for v in place.searched.videos) / 3600
    rows = len(place.index.spans) / hours
    return f"{rows / 60:.1f} rows a minute, {4 * rows * place.index.dim / 1e6:.1f} MB an hour"


def rows(
    place: Place, model: AlignmentModel
) -> dict[str, tuple[Callable[[str], np.ndarray], np.ndarray]]:
    """Of each stage how it searches, and `(Q, V)` scores of videos."""
    texts = place.text(list(place.searched.queries))
    row = {t: i for i, t in enumerate(place.searched.queries)}
    scores = [texts @ c.vectors.T for c in place.cut]
    background = place.background()
    ends = np.cumsum([len(c.spans) for c in place.cut])[:-1]
    lowered = [s - b for s, b in zip(scores, np.split(background.hubness, ends), strict=True)]
    best, biased = (np.stack([s.max(1) for s in some], 1) for some in (scores, lowered))
    shown = np.array([[attention(f @ t) for f in place.frames] for t in texts])
    # The bias of a video's frames is that of its best segment.
    lower = np.stack(
        [
            (s - low)[np.arange(len(s)), low.argmax(1)]
            for s, low in zip(scores, lowered, strict=True)
        ],
        1,
    )
    again = [s + (shown - best)[:, [i]] for i, s in enumerate(scores)]
    again_lowered = [low + (shown - lower - biased)[:, [i]] for i, low in enumerate(lowered)]
    plain, full = place.searcher, replace(place.searcher, hubness_correction=background)
    any_length = replace(
        place.searcher, hubness_correction=replace(background, duration_range=None)
    )

    def by(some: list[np.ndarray]) -> Callable[[str], np.ndarray]:
        return lambda text: place.ten_of([s[row[text]] for s in some])

    found: dict[str, tuple[Callable[[str], np.ndarray], np.ndarray]] = {
        MEANS: (by([s[:, :1] for s in scores]), np.stack([s[:, 0] for s in scores], 1)),
        SEGMENTS: (by(scores), best),
        f"{SEGMENTS}, {SHOWN}": (by(again), shown),
        f"{SEGMENTS}, bias": (by(lowered), biased),
        f"{SEGMENTS}, bias, {SHOWN}": (by(again_lowered), shown - lower),
        LOCALISED: (place.hits(plain), best),
        f"{LOCALISED}, bias": (place.hits(any_length), biased),
    }
    if background.duration_range is not None:
        fits = [so_long(c.spans, background.duration_range) for c in place.cut]
        found[f"{SEGMENTS}, bias, {SO_LONG}"] = (
            by([np.where(f, s, -np.inf) for f, s in zip(fits, lowered, strict=True)]),
            biased,
        )
        found[f"{LOCALISED}, bias, {SO_LONG}"] = place.hits(full), biased
    raw = replace(
        place.searcher,
        hubness_correction=replace(background, query_mean=np.zeros_like(background.query_mean)),
    )
    found[f"{list(found)[-1]}, {RAW}"] = place.hits(raw), biased
    if model.heads:
        found[HEAD] = place.hits(replace(plain, model=model)), best
        found[f"{HEAD}, bias"] = place.hits(replace(full, model=model)), biased
    return found


def so_long(spans: np.ndarray, lasting: DurationRange) -> np.ndarray:
    """`(N,)` bool: which are among those that `vla search` looks at."""
    held = SegmentScores(spans, np.arange(len(spans)), 0.0, lasting)
    return np.isin(np.arange(len(spans)), held.of_duration()[1])


def stages(place: Place, title: str, model: AlignmentModel) -> None:
    for name, (find, videos) in rows(place, model).items():
        measure(place, f"{title}: {name}", find, videos)
    calibration(place, replace(place.searcher, hubness_correction=place.background()))


def calibration(place: Place, searcher: Searcher, draws: int = 5) -> None:
    """At each rate, how often something was found for texts that nothing matches and for such that something does.

    Where there is one pool of texts that nothing matches, each draw takes half of it to compare with and tests with the rest.
    """
    vectors = np.concatenate([c.vectors for c in place.cut])
    seen: dict[str, list[list[float]]] = {"absent": [], "present": []}
    areas: list[tuple[float, float]] = []
    for seed in range(draws if place.searched.bank[1] is None else 1):
        rng = np.random.default_rng(seed)
        some = place.searched.drawn(rng)
        background = place.background(some)
        asked = replace(searcher, hubness_correction=background)
        texts = {"present": list(some.queries), "absent": some.absent}
        texts = {name: [t[i] for i in rng.permutation(len(t))[:200]] for name, t in texts.items()}
        hits = {name: [asked.search(t) for t in these] for name, these in texts.items()}
        for name, found in hits.items():
            sure = np.array([max(h.confidence for h in some) for some in found])
            seen[name].append([100 * float((sure >= 1 - rate - 1e-9).mean()) for rate in RATES])
        cosines = {name: (place.text(these) @ vectors.T).max(1) for name, these in texts.items()}
        scores = {name: np.array([some[0].score for some in found]) for name, found in hits.items()}
        areas.append((area(scores), area(cosines)))
    ours, plain = np.mean(areas, 0)
    count = len(texts["absent"])
    print(f"\n{len(texts['present'])} present, {count} absent, {len(background.null_scores)} to compare with, {len(areas)} draws: "
          f"area under ROC {plain:.3f}; of scores less bias {ours:.3f}\n")  # fmt: skip
    print(
        "| rate asked for | absent found, by draw | 95 % of binomial | present found |\n|---|---|---|---|"
    )
    for column, rate in enumerate(RATES):
        absent = ", ".join(f"{row[column]:.1f}" for row in seen["absent"])
        low, high = binomial(count, rate)
        present = np.mean([row[column] for row in seen["present"]])
        print(f"| {100 * rate:.0f} % | {absent} | {low:.1f} to {high:.1f} | {present:.1f} |")


def area(values: dict[str, np.ndarray]) -> float:
    gaps = values["present"][:, None] - values["absent"][None]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def binomial(n: int, rate: float) -> tuple[float, float]:
    """Between which percentages 95 % of the counts of `n` draws at `rate` lie."""
    total = np.cumsum([math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])
    return 100 * int(np.searchsorted(total, 0.025)) / n, 100 * int(
        np.searchsorted(total, 0.975)
    ) / n


def replace_heads(model: AlignmentModel) -> AlignmentModel:
    """The same projector without heads."""
    plain = AlignmentModel(replace(model.config, heads={}))
    plain.projector.load_state_dict(model.projector.state_dict())
    return plain.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=("collages",))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rows", default="both", help="of the index: windows, changes, both")
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(f"{arguments.which}-benchmark")).absolute()
    made = collages(folder, arguments.queries)
    with TemporaryDirectory() as temporary:
        table(made[0], Path(temporary), made[1], arguments.rows.split(","))


if __name__ == "__main__":
    main()
