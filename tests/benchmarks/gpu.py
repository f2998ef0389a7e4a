"""Check a machine with one GPU, in one command of at most eight minutes that downloads nothing.

    python tests/benchmarks/gpu.py [FOLDER] [--json gpu.json] [--device cuda] [--model ViT-B-32]

Weights are random, which costs as much as trained ones. The table and the JSON file have for each check a figure, the bound that it
has to keep, and whether it did; the exit code is 1 where one did not.

- doctor: what `vla doctor` finds with this device.
- features: the lowest cosine of features in bf16 and fp16 on the device with those in fp32 on the CPU, for images and texts.
- memory: a batch that does not fit is taken in halves, to the same features.
- extraction: seconds of `vla extract` against decoding and encoding measured apart.
- training: losses of the first steps on the device against those on the CPU, and steps a second of ours and of the plain loop.
- search: rows of an index compared on the device's machine, milliseconds a query.

`--device cpu` runs the same in small sizes on a machine without a GPU. Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import train as training_benchmark
from extract import make_video, measure, save_model

import vla
from vla.batches.corpus import Corpus
from vla.encoders.open_clip import Encoder
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.sampler import BatchSampler
from vla.training.step import Step

LEAST_COSINE = 0.9999
TEXTS = [
    "a dog jumps over a fence",
    "two people talk in a kitchen",
    "a red car",
    "somebody opens a door and leaves the room",
]


@dataclass(frozen=True)
class Row:
    """One line of the table; `fine` is None where there is no bound."""

    check: str
    value: float | str
    bound: str = ""
    fine: bool | None = None


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    images: int
    videos: int
    seconds: int
    corpus: int
    batch: int
    width: int
    steps: int
    rows: int


FULL = Sizes(
    images=64, videos=4, seconds=30, corpus=2000, batch=256, width=256, steps=30, rows=200_000
)
SMALL = Sizes(images=4, videos=1, seconds=2, corpus=32, batch=8, width=16, steps=2, rows=2_000)


def cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The lowest cosine of two rows that belong together."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def doctor(device: str) -> Iterator[Row]:
    """What `vla doctor` says."""
    for check in vla.doctor(device):
        yield Row(f"doctor: {check.name}", check.finding, "fine", check.is_fine)


def features(model: str, device: str, sizes: Sizes) -> Iterator[Row]:
    """Features on the device in both half precisions beside fp32 on the CPU."""
    pixels = np.random.default_rng(0).integers(0, 255, (sizes.images, 240, 320, 3), np.uint8)
    exact = Encoder(model, device="cpu", dtype="fp32")
    prepared = exact.prepare(pixels)
    images, texts = exact.encode_frames(prepared), exact.encode_text(TEXTS).pooled
    for dtype in ("fp32", "bf16", "fp16"):
        encoder = Encoder(model, device=device, dtype=dtype)
        found, told = encoder.encode_frames(prepared), encoder.encode_text(TEXTS).pooled
        for name, value in (("images", cosine(found, images)), ("texts", cosine(told, texts))):
            yield Row(
                f"features: {name} in {dtype}, cosine",
                value,
                f">= {LEAST_COSINE}",
                value >= LEAST_COSINE,
            )
        is_finite = bool(np.isfinite(found).all() and np.isfinite(told).all())
        yield Row(f"features: finite in {dtype}", str(is_finite), "True", is_finite)


def memory(model: str, device: str, sizes: Sizes) -> Iterator[Row]:
    """A batch for which there is no memory: on the GPU by a limit, elsewhere by an error that is made."""
    encoder = Encoder(model, device=device, dtype="fp32")
    pixels = np.random.default_rng(1).integers(0, 255, (4 * sizes.images, 240, 320, 3), np.uint8)
    prepared = encoder.prepare(pixels)
    whole = np.concatenate(
        [encoder.encode_frames(prepared[i : i + 2]) for i in range(0, len(prepared), 2)]
    )
    largest: list[int] = []
    encode = encoder._encode_images

    def counted(rows: torch.Tensor) -> np.ndarray:
        if len(rows) > max(1, len(prepared) // 4):
            raise torch.OutOfMemoryError("made by this check")
        values = encode(rows)
        largest.append(len(rows))
        return values

    with mock.patch.object(encoder, "_encode_images", counted):
        halved = encoder.encode_frames(prepared)
    value = cosine(halved, whole)
    yield Row("memory: features in halves, cosine", value, "> 0.99999", value > 0.99999)
    yield Row(
        "memory: rows at once of " + str(len(prepared)),
        max(largest),
        "a quarter",
        max(largest) <= len(prepared) // 4,
    )
    if device.startswith("cuda"):
        yield from _short_of_memory(model, device, prepared, whole)


def _short_of_memory(
    model: str, device: str, prepared: np.ndarray, whole: np.ndarray
) -> Iterator[Row]:
    """With a limit of the allocator a little above what the weights take."""
    encoder = Encoder(model, device=device, dtype="fp32")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved(device) + (192 << 20)) / total, device
    )
    try:
        value = cosine(encoder.encode_frames(np.tile(prepared, (4, 1, 1, 1)))[: len(whole)], whole)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    yield Row("memory: features under a limit, cosine", value, "> 0.9999", value > 0.9999)
    peak = torch.cuda.max_memory_allocated(device) / 1e6
    yield Row("memory: peak MB", peak)


def extraction(folder: Path, model: Path, sizes: Sizes) -> Iterator[Row]:
    """Extraction beside its parts, as `extract.py` measures them."""
    paths = [folder / f"h264-720p-{i}-{sizes.seconds}.mp4" for i in range(sizes.videos)]
    for number, path in enumerate(paths):
        if not path.is_file():
            make_video(path, "h264-720p", sizes.seconds, number)
    found = measure("h264-720p", paths, folder, model, 2.0)
    for name in ("decode", "prepare", "encode", "extract", "loop"):
        yield Row(f"extraction: {name} s", found[name])
    slowest = max(found["decode"] + found["prepare"], found["encode"])
    yield Row("extraction: extract / slowest part", found["extract"] / slowest)
    yield Row(
        "extraction: cosine with the common loop",
        found["cosine"],
        "> 0.999",
        found["cosine"] > 0.999,
    )


def training(device: str, sizes: Sizes) -> Iterator[Row]:
    """The same steps on the CPU and on the device."""
    corpus = training_benchmark.made_corpus(sizes.corpus)
    losses = {place: _losses(corpus, place, sizes) for place in dict.fromkeys(("cpu", device))}
    worst = max(
        abs(a - b) / max(1e-6, abs(b))
        for ours, theirs in zip(losses[device], losses["cpu"], strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    yield Row("training: largest relative difference of a loss", worst, "< 0.02", worst < 0.02)
    config = training_benchmark.settings(sizes.batch, sizes.width)
    ours = training_benchmark.our_loop(corpus, *_stepper(corpus, config, device), sizes.batch)
    yield Row("training: steps/s of ours", _rate(lambda: next(ours), sizes.steps, device))
    with tempfile.TemporaryDirectory() as folder:
        items = training_benchmark.Files(Path(folder) / "all.h5", corpus)
        loader = torch.utils.data.DataLoader(
            items, sizes.batch, shuffle=True, drop_last=True, collate_fn=training_benchmark.padded
        )
        plain = training_benchmark.common_loop(loader, sizes.width, device)
        yield Row(
            "training: steps/s of the plain loop", _rate(lambda: next(plain), sizes.steps, device)
        )


def _stepper(corpus: Corpus, config: TrainConfig, device: str) -> tuple[BatchSampler, Step]:
    """Draws and a step on the device."""
    torch.manual_seed(0)
    sizes = ModelConfig(training_benchmark.DIM, config.projector, config.projector_options)
    place = torch.device(device)
    model = AlignmentModel(sizes).to(place)
    return BatchSampler(corpus, config), Step(
        model, Objective(config).to(place), config, 1000, ProcessGroup(place)
    )


def _losses(corpus: Corpus, device: str, sizes: Sizes) -> list[list[float]]:
    # Dropout is drawn by the device, and would differ.
    options = {"width": sizes.width, "dropout": 0.0}
    config = TrainConfig(batch_size=sizes.batch, projector_options=options, precision="fp32")
    draws, step = _stepper(corpus, config, device)
    found = []
    for number in range(3):
        rows = np.random.default_rng(number).permutation(len(corpus.videos))[: sizes.batch]
        found.append(
            [float(value) for _, value in sorted(step(draws.plan(rows, number), number).items())]
        )
    return found


def _rate(work: Callable[[], object], count: int, device: str) -> float:
    work()
    _wait(device)
    began = time.perf_counter()
    for _ in range(count):
        work()
    _wait(device)
    return count / (time.perf_counter() - began)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def search(model: str, device: str, sizes: Sizes) -> Iterator[Row]:
    """Encode a query on the device and compare it with rows of an index in memory."""
    encoder = Encoder(model, device=device)
    rows = (
        np.random.default_rng(2)
        .standard_normal((sizes.rows, encoder.identity.dim))
        .astype(np.float32)
    )
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        vector = encoder.encode_text(TEXTS[:1]).pooled[0]
        np.argpartition(-(rows @ vector), 10)
        spent.append(1000 * (time.perf_counter() - began))
    yield Row(f"search: p50 ms among {sizes.rows} rows", float(np.median(spent)))
    yield Row(f"search: p95 ms among {sizes.rows} rows", float(np.quantile(spent, 0.95)))


def run(folder: Path, device: str, model: str, sizes: Sizes) -> list[Row]:
    """All checks; one that ends in an error is a row of its own, and the others go on."""
    saved = folder / model
    save_model(model, saved)
    local = f"local-dir:{saved}"
    checks: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("doctor", lambda: doctor(device)),
        ("features", lambda: features(local, device, sizes)),
        ("memory", lambda: memory(local, device, sizes)),
        ("training", lambda: training(device, sizes)),
        ("search", lambda: search(local, device, sizes)),
        ("extraction", lambda: extraction(folder, saved, sizes)),
    )
    rows = []
    for name, check in checks:
        began = time.perf_counter()
        try:
            for row in check():
                rows.append(row)
                value = f"{row.value:.5g}" if isinstance(row.value, float) else row.value
                mark = {True: "ok", False: "NOT OK", None: ""}[row.fine]
                print(f"| {row.check} | {value} | {row.bound} | {mark} |", flush=True)
        except Exception as error:  # a report of all that fails is what this is for
            rows.append(Row(f"{name}: error", f"{type(error).__name__}: {error}", "none", False))
            print(f"| {rows[-1].check} | {rows[-1].value} | none | NOT OK |", flush=True)
        rows.append(Row(f"{name}: seconds", time.perf_counter() - began))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("gpu-benchmark"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument(
        "--small", action="store_true", help="the smallest sizes, as with --device cpu"
    )
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "torch sees no GPU here: run this on a machine with one, or with --device cpu",
            file=sys.stderr,
        )
        return 2
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = SMALL if arguments.small or arguments.device == "cpu" else FULL
    is_cuda = arguments.device.startswith("cuda")
    name = (
        torch.cuda.get_device_name(arguments.device) if is_cuda else platform.processor() or "CPU"
    )
    print(
        f"{name}, torch {torch.__version__}, {arguments.model}\n\n| check | value | bound | |\n|---|---|---|---|"
    )
    rows = run(folder, arguments.device, arguments.model, sizes)
    record = {
        "device": name,
        "torch": torch.__version__,
        "model": arguments.model,
        "rows": [asdict(row) for row in rows],
    }
    arguments.json.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return int(any(row.fine is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
