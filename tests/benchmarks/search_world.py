"""Does each stage of a search earn its place in the rendered world, and is its confidence what it says there?

    python tests/benchmarks/search_world.py [FOLDER] [--run NAME] [--queries 400] [--parts table,weights,sharpness,confidence]
        [--models frozen,trained] [--rows both] [--train 1200] [--test 4000] [--epochs 20] [--clips 16]

Long videos of `--clips` held-out clips each (`_rendered.py`), in which nothing of 7 % of all that can be told ever happens. Asked for
are timed sentences of test clips; right is every moment in which just that happens. The run is trained with `--heads moments`, by
default settings, if it is not there. Prints Markdown.

`table`: moments in the corpus, percent, as `vla search` lists them (k 10, 3 a video), with the video's own R@1 and SumR. Below
it, differences between rows with the interval of a paired bootstrap. On videos of other clips, `sharpness`: what a head's
probability should weigh beside cosines; `weights`: what the contrast of a segment should. `confidence`: how often
something is found for what never happens (200 texts, 200 of what does), at the rates asked for, by what the index is compared
with; and at a cosine that was fixed on videos of clips that were used for choosing; then in six draws of what never happens.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _rendered import Rendered, World, rendered
from _searched import Searched
from search_quality import (
    CUTS,
    HEAD,
    LOCALISED,
    MEANS,
    RATES,
    RAW,
    SEGMENTS,
    SHOWN,
    SO_LONG,
    Place,
    area,
    binomial,
    replace_heads,
    rows,
)  # fmt: skip

from vla.cache.store import active_cache
from vla.metrics.bootstrap import estimate
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.retrieval import PARTIAL_RECALLS, ranks
from vla.model import AlignmentModel
from vla.retrieval import moments, scorers
from vla.retrieval.hubness import HubnessCorrection
from vla.retrieval.query_bank import MAX_SIZE, default_queries
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.workflows.encoder_choice import encoder_of

DRAWS = 6
Find = Callable[[str], np.ndarray]
DIFFERENCES = [
    (SEGMENTS, MEANS), (f"{SEGMENTS}, {SHOWN}", SEGMENTS), (f"{SEGMENTS}, bias", SEGMENTS),
    (f"{SEGMENTS}, bias, {SHOWN}", f"{SEGMENTS}, bias"), (f"{SEGMENTS}, bias, {SO_LONG}", f"{SEGMENTS}, bias"),
    (LOCALISED, SEGMENTS), (f"{LOCALISED}, bias", f"{SEGMENTS}, bias"),
    (f"{LOCALISED}, bias, {SO_LONG}", f"{SEGMENTS}, bias, {SO_LONG}"),
    (f"{LOCALISED}, bias, {SO_LONG}", f"{LOCALISED}, bias"),
    (f"{LOCALISED}, bias, {SO_LONG}", f"{LOCALISED}, bias, {SO_LONG}, {RAW}"), (HEAD, LOCALISED), (f"{HEAD}, bias", HEAD),
    (f"{HEAD}, bias", f"{LOCALISED}, bias"),
    (f"{HEAD}, bias", f"{LOCALISED}, bias, {SO_LONG}"),
]  # fmt: skip
COLUMNS = ("R@1 .5", "R@10 .5", "R@1 .7", "R@10 .7", "video R@1", "video SumR")


def searched(
    world: World, made: Rendered, count: int, others: list[str], told: dict[str, np.ndarray]
) -> Searched:
    """What is asked of `made`, compared with texts of `others` that tell of nothing in it, or leaving out what they tell of."""
    queries = dict(list(made.present.items())[:count])
    bank = [t for t in others if t not in queries][:MAX_SIZE]
    left_out: list[list[int]] = [[] for _ in made.videos]
    for i, text in enumerate(bank):
        for video in {v for v, _, _ in made.happening.get(world.gists.get(text, ""), [])}:
            left_out[video].append(i)
    texts = dict.fromkeys([*queries, *bank, *made.absent])
    vectors = {t: told[t] if t in told else world.vectors[t] for t in texts}
    return Searched(made.videos, vectors, queries, made.absent, (bank, left_out), world.lasting)


def values(place: Place, found: Find, videos: np.ndarray) -> tuple[np.ndarray, float]:
    """`(Q, 6)` of each query the columns, in percent, and milliseconds that a query took."""
    row = [place.row[v.video_id] for v in place.searched.videos]
    queries = place.searched.queries
    found(next(iter(queries)))
    began = time.perf_counter()
    lists = [found(text) for text in queries]
    spent = 1000 * (time.perf_counter() - began) / len(lists)
    relevant, first = np.zeros(videos.shape, bool), []
    for i, (listed, truth) in enumerate(zip(lists, queries.values(), strict=True)):
        asked = first_hit_ranks(
            [listed] * len(truth), [row[v] for v, _, _ in truth], [np.array([t[1:]]) for t in truth]
        )
        first.append(asked.min(0))
        relevant[i, [row[v] for v, _, _ in truth]] = True
    rank = ranks(videos, relevant)
    cells = [np.array(first)[:, column] <= k for column in (0, 1) for k in (1, 10)]
    cells += [rank <= 1, sum((rank <= k).astype(int) for k in PARTIAL_RECALLS)]
    return 100 * np.stack(cells, 1).astype(float), spent


def table(place: Place, title: str, model: AlignmentModel) -> None:
    truths = np.mean([len(t) for t in place.searched.queries.values()])
    lengths = np.mean([v.duration_seconds for v in place.searched.videos])
    print(f"\n{title}: {len(place.searched.videos)} videos of {lengths:.0f} s, {len(place.searched.queries)} queries with "
          f"{truths:.1f} right moments each\n\n| | " + " | ".join(COLUMNS) + " | ms a query |\n|---|" + "---|" * 7)  # fmt: skip
    known: dict[str, np.ndarray] = {}
    for name, (find, videos) in rows(place, model).items():
        known[name], spent = values(place, find, videos)
        print(
            f"| {name} | "
            + " | ".join(f"{c:.1f}" for c in known[name].mean(0))
            + f" | {spent:.0f} |",
            flush=True,
        )
    print()
    for later, earlier in DIFFERENCES:
        if later in known and earlier in known:
            gains = known[later] - known[earlier]
            cells = [
                f"{COLUMNS[c]} {gains[:, c].mean():+.1f} {_between(gains[:, c])}"
                for c in (0, 1, 3, 5)
            ]
            print(f"- {later} less {earlier}: " + ", ".join(cells), flush=True)


def _between(gains: np.ndarray) -> str:
    low, high = estimate(gains).interval
    return f"[{low:+.1f}, {high:+.1f}]"


def weights(place: Place) -> None:
    """What the contrast of a segment weighs beside its cosine, with bias."""
    full = replace(place.searcher, hubness_correction=place.background())
    none = np.zeros((len(place.searched.queries), len(place.cut)))
    print("\n| weight | " + " | ".join(COLUMNS[:4]) + " |\n|---|" + "---|" * 4)
    before = moments._CONTRAST_WEIGHT
    for moments._CONTRAST_WEIGHT in (0.0, 0.02, 0.05, 0.07, 0.1, 0.2, 0.5):
        cells = values(place, place.hits(full), none)[0].mean(0)[:4]
        print(
            f"| {moments._CONTRAST_WEIGHT:g} | " + " | ".join(f"{c:.1f}" for c in cells) + " |",
            flush=True,
        )
    moments._CONTRAST_WEIGHT = before


def sharpness(place: Place, model: AlignmentModel) -> None:
    """What the logarithm of a head's probability weighs beside a cosine, and how many videos it looks into; with bias."""
    full = replace(place.searcher, hubness_correction=place.background(), model=model)
    none = np.zeros((len(place.searched.queries), len(place.cut)))
    print(
        "\n| 1 / weight | videos | "
        + " | ".join(COLUMNS[:4])
        + " | ms a query |\n|---|---|"
        + "---|" * 5
    )
    before = moments._HEAD_SHARPNESS, scorers.MAX_HEAD_VIDEOS
    for moments._HEAD_SHARPNESS, scorers.MAX_HEAD_VIDEOS in [
        (s, before[1]) for s in (5, 10, 20, 30, 40, 80)
    ] + [(before[0], v) for v in (10, 40)]:
        cells, spent = values(place, place.hits(full), none)
        told = " | ".join(f"{c:.1f}" for c in cells.mean(0)[:4])
        print(
            f"| {moments._HEAD_SHARPNESS:g} | {scorers.MAX_HEAD_VIDEOS} | {told} | {spent:.0f} |",
            flush=True,
        )
    moments._HEAD_SHARPNESS, scorers.MAX_HEAD_VIDEOS = before


def confidence(
    place: Place, banks: dict[str, Searched], fixed: dict[float, float], model: AlignmentModel
) -> None:
    """By bank; then at a fixed cosine. The areas are of the best score of a list, with and without bias, and by a head."""
    vectors = np.concatenate([c.vectors for c in place.cut])
    some = place.searched
    texts = {"present": list(some.queries)[:200], "absent": some.absent[:200]}
    cosines = {name: (place.text(these) @ vectors.T).max(1) for name, these in texts.items()}
    low = {r: binomial(len(texts["absent"]), r) for r in RATES}
    print(f"\n{len(texts['present'])} present, {len(texts['absent'])} absent\n\n| compared with | queries | "
          + " | ".join(f"absent found at {100 * r:.0f} % ({low[r][0]:.1f} to {low[r][1]:.1f}) | present" for r in RATES)
          + " |\n|---|---|" + "---|" * 6)  # fmt: skip
    backgrounds: dict[str, HubnessCorrection] = {}
    for name, bank in banks.items():
        backgrounds[name] = place.background(bank)
        sure = {n: backgrounds[name].confidence(c) for n, c in cosines.items()}
        cells = [
            f"{100 * (sure[n] >= 1 - r - 1e-9).mean():.1f}"
            for r in RATES
            for n in ("absent", "present")
        ]
        print(
            f"| {name} | {len(backgrounds[name].null_scores)} | " + " | ".join(cells) + " |",
            flush=True,
        )
    cells = [
        f"{100 * (cosines[n] >= fixed[r]).mean():.1f}" for r in RATES for n in ("absent", "present")
    ]
    print("| a cosine fixed on other videos | | " + " | ".join(cells) + " |")
    full = replace(place.searcher, hubness_correction=next(iter(backgrounds.values())))
    areas = {"best cosine": area(cosines), "best score less bias": area(_best(full, texts))}
    if model.heads:
        areas["best score with the head"] = area(_best(replace(place.searcher, model=model), texts))
        areas["best score with head and bias"] = area(_best(replace(full, model=model), texts))
    print(
        "\nArea under ROC: " + ", ".join(f"{name} {value:.3f}" for name, value in areas.items()),
        flush=True,
    )


def draws(places: Iterable[Place]) -> None:
    """The same where other things never happen, compared with the first bank: texts of one draw tell of some 75 things, so draws
    differ by more than 200 texts would that have nothing to do with each other."""
    seen: dict[str, list[list[float]]] = {"absent": [], "present": []}
    for place in places:
        vectors = np.concatenate([c.vectors for c in place.cut])
        background = place.background()
        texts = {
            "present": list(place.searched.queries)[:200],
            "absent": place.searched.absent[:200],
        }
        for name, these in texts.items():
            sure = background.confidence((place.text(these) @ vectors.T).max(1))
            seen[name].append([100 * float((sure >= 1 - r - 1e-9).mean()) for r in RATES])
    print(
        "\n| rate asked for | absent found, by draw | mean | present found, mean |\n|---|---|---|---|"
    )
    for column, rate in enumerate(RATES):
        absent, present = ([row[column] for row in seen[name]] for name in ("absent", "present"))
        told = ", ".join(f"{value:.1f}" for value in absent)
        print(
            f"| {100 * rate:.0f} % | {told} | {np.mean(absent):.1f} | {np.mean(present):.1f} |",
            flush=True,
        )


def _best(searcher: Searcher, texts: dict[str, list[str]]) -> dict[str, np.ndarray]:
    return {
        name: np.array([searcher.search(t, 1)[0].score for t in these])
        for name, these in texts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-search-benchmark"))
    parser.add_argument("--run", default="search-0")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--parts", default="table,sharpness,confidence")
    parser.add_argument("--models", default="frozen,trained")
    parser.add_argument("--rows", default="both", help="of the index: windows, changes, both")
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--clips", type=int, default=16, help="in each long video")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    models = arguments.models.split(",")
    sizes = (arguments.train, arguments.test)
    world = rendered(folder, arguments.run, *sizes, models, arguments.epochs, arguments.clips)
    cache = active_cache(Workspace(folder).caches)
    ours = default_queries().texts
    told = dict(
        zip(ours, encoder_of(cache, "cpu", "auto").encode_text(list(ours)).pooled, strict=True)
    )
    test, spare = world.joined("test"), world.spare()
    rng = np.random.default_rng(0)
    taught, own, chosen = ([world.told[s][i] for i in rng.permutation(len(world.told[s]))] for s in ("train", "test", "val"))  # fmt: skip
    own = [t for t in own if t in test.present]
    parts = arguments.parts.split(",")
    for title in models:
        model = world.models[title]
        with TemporaryDirectory() as temporary:
            plain, cut, top = replace_heads(model), CUTS[arguments.rows], Path(temporary)
            place = Place(searched(world, test, arguments.queries, taught, told), top, plain, cut)
            other = Place(
                searched(world, spare, arguments.queries, taught, told), top / "spare", plain, cut
            )
            if "sharpness" in parts and model.heads:
                sharpness(other, model)
            if "weights" in parts:
                weights(other)
            if "table" in parts:
                table(place, title, model)
            if "confidence" in parts:
                print(f"\n{title}:")
                of = {
                    "captions that were trained on": searched(world, test, 200, taught, told),
                    "captions of these videos": searched(world, test, 200, own, told),
                    "captions that were chosen by": searched(world, test, 200, chosen, told),
                    "everyday.txt": searched(world, test, 200, list(ours), told),
                }
                of = {
                    name: bank for name, bank in of.items() if bank.bank[0]
                }  # small worlds may leave one empty
                for bank in of.values():
                    place.searched.vectors.update(bank.vectors)
                threshold = other.background().null_scores
                confidence(
                    place, of, {r: float(np.quantile(threshold, 1 - r)) for r in RATES}, model
                )
                made = (world.joined("test", draw) for draw in range(DRAWS))
                draws(
                    Place(searched(world, some, 200, taught, {}), top / f"draw-{draw}", plain, cut)
                    for draw, some in enumerate(made)
                )


if __name__ == "__main__":
    main()
