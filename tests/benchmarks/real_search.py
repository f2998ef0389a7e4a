"""The whole path on real files: extraction, index, `vla search` for true captions and moments, and what `vla eval` says of the same.

    python tests/benchmarks/real_search.py [FOLDER] [--model demo]

Needs the shared files ($VLA_SHARED_DATA): videos/, videos.csv, captions.csv, moments.jsonl. FOLDER, a workspace, is made where it is not
there; `--model` is a preset, or a name of open_clip's, which is then built with random weights. No pretrained weights can be had
offline: the embedded encoder was made for rendered scenes and knows nothing of real pictures, so words find them by chance, and that
is what is expected. What is shown is that every file goes the whole way, and that the search of a user and `vla eval` give the same figures.
What can be judged without a trained encoder is likeness: `--like` and `--image` with a frame of one file are to find the other
files of the same content (other codec, rotated, cut, other rate), as videos.csv groups them; its group `asl` is of several people.

Prints Markdown: percent of captions and moments found by search, by eval, by chance or the whole video; then for each file that has variants
the place of the first of them among all other files.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from extract import save_model

import vla
from support.shared_data import SHARED
from vla.decoders.pyav import Decoder
from vla.metrics.baselines import retrieval_chance
from vla.retrieval.hits import Hit, Hits
from vla.sampling import at_fps
from vla.spans import iou

RECALLS = (1, 5, 10)
PER_VIDEO = 3


def prepared(folder: Path, model: str) -> Path:
    """The file of annotations; the workspace holds features and index, and no captions: the bank of search and eval is one."""
    told = [{"video": row["video"], "caption": row["caption"]} for row in read("captions.csv")]
    told += [json.loads(line) for line in (SHARED / "moments.jsonl").read_text().splitlines()]
    for row in told:
        row["video"] = str(SHARED / "videos" / str(row["video"]))
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    if model not in ("demo", "fast", "balanced", "best") and not model.startswith("local-dir:"):
        weights = folder / "weights" / model
        if not weights.is_dir():
            save_model(model, weights)
        model = f"local-dir:{weights}"
    report = vla.extract(
        [SHARED / "videos"], workspace=folder, choice=vla.EncoderChoice(model=model)
    )
    for receipt in report.problems:
        print(f"{receipt.video_id}: {receipt.status}, {receipt.reason}")
    vla.index(workspace=folder)
    return path


def read(name: str) -> list[dict[str, str]]:
    with (SHARED / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def asked(
    opened: vla.OpenWorkspace, annotations: Path, groups: dict[str, str], judged: set[str]
) -> dict[str, float]:
    """What a user's search finds, in percent; a file counts as itself, and with `any variant` as all of its content."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in annotations.read_text().splitlines():
        told = json.loads(line)
        own = Path(told["video"]).name
        kind = "moment" if "start" in told else "caption"
        # As `vla eval`: what one video is found by does not depend on it, but which results show the same does.
        per_video = PER_VIDEO if kind == "moment" else 1
        hits = opened.search(told["caption"], k=100 * per_video, per_video=per_video)
        # A result that stands for the file counts as the file.
        of_hits = [own if own in {n for n, *_ in shown(h)} else name(h.video_id) for h in hits]
        files = list(dict.fromkeys(of_hits))
        for k in RECALLS:
            first = files[:k]
            found[f"{kind}: video R@{k}"].append(own in first)
            if kind == "caption" and own in judged:
                found[f"caption: any variant R@{k}"].append(
                    any(groups[f] == groups[own] for f in first)
                )
        if kind == "moment":
            span = [(float(told["start"]), float(told["end"]))]
            right = [
                max((iou([s], span)[0, 0] for n, *s in shown(h) if n == own), default=0.0)
                for h in hits
            ]
            for x in (0.5, 0.7):
                for k in (1, 10):
                    found[f"moment: {x} R@{k}"].append(any(value >= x for value in right[:k]))
    return {key: 100 * float(np.mean(values)) for key, values in found.items()}


def shown(hit: Hit) -> list[tuple[str, float, float]]:
    """Files that show what was found, and when: copies, and moments that show the same, are no results of their own."""
    own = [(name(v), hit.start, hit.end) for v in (hit.video_id, *hit.duplicates)]
    return own + [(name(v), start, end) for v, start, end in hit.near_duplicates]


def name(video_id: str) -> str:
    return Path(video_id).name


def texts(folder: Path, opened: vla.OpenWorkspace, annotations: Path) -> None:
    rows = read("videos.csv")
    groups = {row["video"]: row["group"] for row in rows}
    judged = {row["video"] for row in rows if row["retrieval"] == "1"}
    ours = asked(opened, annotations, groups, judged)
    evaluated = vla.evaluate(captions=annotations, run="none", workspace=folder)
    figures = {(f.task, f.measure): f for f in evaluated.figures}
    sizes = [
        sum(groups[name(v)] == groups[own] for v in opened.searcher.index.videos)
        for own in sorted(judged)
    ]
    chance = retrieval_chance(len(opened.searcher.index.videos), sizes, RECALLS)
    print(
        f"{evaluated.counts['videos']} files, {evaluated.counts['captions']} captions and moments; hubs: {evaluated.compared}\n"
    )
    print(
        "| | search | eval, by search | 95 % | not looking | eval, windows |\n|---|---|---|---|---|---|"
    )
    for key, value in ours.items():
        kind, measure = key.split(": ")
        if measure.startswith("any variant"):
            print(
                f"| {key} | {value:.1f} | | | {chance[measure.removeprefix('any variant ')]:.1f} chance | |"
            )
            continue
        if measure.startswith("video"):
            task, measure = (
                ("text to video", "moment to video")[kind == "moment"],
                measure.removeprefix("video "),
            )
        else:
            task, measure = "moment in the corpus", measure.replace(" R@", "-r")
        searched, windows = figures[f"{task} by search", measure], figures[task, measure]
        floor = searched.floor
        beside = f"{floor[1]:.1f} {floor[0]}" if floor else searched.no_floor
        print(
            f"| {key} | {value:.1f} | {searched.value:.1f} | {searched.low:.1f} to {searched.high:.1f} | {beside} | {windows.value:.1f} |"
        )
    for measure in ("R1@0.5", "R1@0.7", "mIoU"):
        f = figures["moment in its video by search", measure]
        floors = ", ".join(f"{value:.1f} {of}" for of, value in f.floors.items())
        print(f"| moment in its video: {measure} | | {f.value:.1f} | {f.low:.1f} to {f.high:.1f} | {floors} | "
              f"{figures['moment in its video', measure].value:.1f} |")  # fmt: skip


def likeness(opened: vla.OpenWorkspace) -> None:
    rows = read("videos.csv")
    groups = {row["video"]: row["group"] for row in rows}
    ids = {name(v): v for v in opened.searcher.index.videos}
    print(
        "\n| file | content | its variants among other files | `--like` finds one at | `--image` finds one at |\n|---|---|---|---|---|"
    )
    places: dict[str, list[int]] = defaultdict(list)
    shares = []
    with TemporaryDirectory() as folder:
        for own, video in ids.items():
            variants = {v for v in ids if groups[v] == groups[own] and v != own}
            if not variants:
                continue
            middle = opened.searcher.cache.frames(video).timestamps_seconds
            seconds = float(middle[len(middle) // 2])
            k = len(ids) + 20
            like = opened.search_like(video, seconds, k=k, per_video=1)
            picture = Path(folder) / "frame.png"
            Image.fromarray(frame(SHARED / "videos" / own, seconds)).save(picture)
            image = opened.search_image(picture, k=k, per_video=1)
            at = [place(hits, own, variants) for hits in (like, image)]
            shares.append(100 * len(variants) / (len(ids) - 1))
            if groups[own] != "asl":
                for key, found in zip(("like", "image"), at, strict=True):
                    places[key].append(found)
            print(
                f"| {own} | {groups[own]} | {len(variants)} of {len(ids) - 1} | {at[0]} | {at[1]} |"
            )
    for key, found in places.items():
        values = np.array(found)
        print(
            f"\n`--{key}`, without asl: first of all other files for {(values == 1).sum()} of {len(values)}, among five for "
            f"{(values <= 5).sum()}; by chance the first is one for {np.mean(shares):.0f} %"
        )


def place(hits: Hits, own: str, variants: set[str]) -> int:
    """Of the first variant among the other files that were found, from 1; copies of the file are variants of it, too."""
    files: list[str] = []
    for hit in hits:
        files += [f for f, *_ in shown(hit) if f != own and f not in files]
    return next((i for i, f in enumerate(files, 1) if f in variants), len(files) + 1)


def frame(path: Path, seconds: float) -> np.ndarray:
    """`(H, W, 3)` uint8: the picture that is shown then, decoded on its own."""
    with Decoder().open(path) as reader:
        shown = None
        for chunk in reader.sample(at_fps(2)):
            for time, pixels in zip(chunk.timestamps_seconds, chunk.pixels, strict=True):
                if shown is None or time <= seconds:
                    shown = pixels
    assert shown is not None
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", default="demo")
    arguments = parser.parse_args()
    if not (SHARED / "videos.csv").is_file():
        sys.exit(
            f"shared data: {SHARED / 'videos.csv'} is not there, and the real videos are beside it: set VLA_SHARED_DATA"
        )
    with TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        annotations = prepared(folder, arguments.model)
        opened = vla.open_workspace(folder)
        texts(folder, opened, annotations)
        likeness(opened)


if __name__ == "__main__":
    main()
