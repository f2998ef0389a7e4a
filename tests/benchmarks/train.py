"""A training step: samples/s beside the loop that people write and beside the matrix products alone; loading; peak memory.

    python tests/benchmarks/train.py [--videos 3000] [--batch 256] [--steps 4] [--width 128] [--threads 2]
    python tests/benchmarks/train.py --memory 4096

A sample is a video: up to 64 frames (36 on average, 512 wide, float16 on disk), an untimed and two timed captions. Everything is
measured in one run, ours and theirs in turns, and the best of each is stated. "Common" is a `Dataset` that opens one HDF5 file
for each item, pads to the longest of the batch and computes in float32 with our projector's padded twin. The floor is the
matrix products of a step, forward and backward, for the frames and texts that are there and nothing else, at their own shapes;
beside it, the same operations at the rate of one large product.

On a machine that does other work, too, `--threads 1 --cpu` counts the processor's seconds instead of the clock's.
With `--memory N` only the peak of one process is measured, in steps of N videos.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.sampler import BatchSampler
from vla.training.step import Step

DIM, LONGEST, FPS = 512, 64, 2
CLOCK = time.perf_counter


def made_corpus(videos: int) -> Corpus:
    """Random features; lengths from 8 to 64."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, LONGEST + 1, videos)
    starts = np.concatenate([[0], lengths.cumsum()])
    values = np.empty((starts[-1], DIM), np.float16)
    for part in np.array_split(np.arange(starts[-1]), 64):
        values[part] = rng.standard_normal((len(part), DIM), np.float32)
    frames, queries, vectors = [], [], {}
    for i, n in enumerate(lengths):
        mine = values[starts[i] : starts[i + 1]]
        frames.append(FrameFeatures(f"{i}", mine, np.arange(n) / FPS, n / FPS))
        for k in range(3):
            text = f"{k} of {i}"
            vectors[text] = rng.standard_normal(DIM, np.float32)
            begin = float(rng.uniform(0, n / FPS - 2))
            spans = np.array([[begin, begin + 2.0]]) if k else np.zeros((0, 2))
            queries.append(Query(text, (text,), (text,), i, spans))
    return Corpus(frames, queries, vectors)


class Files(Dataset):
    """One HDF5 file, opened for each item."""

    def __init__(self, path: Path, corpus: Corpus) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            for video in corpus.videos:
                file.create_dataset(video.video_id, data=video.values)
            for text, vector in corpus.vectors.items():
                file.create_dataset(f"text/{text}", data=vector)
        self.spans = {q.text: q.spans for q in corpus.queries}

    def __len__(self) -> int:
        return len(self.spans) // 3

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        with h5py.File(self.path, "r") as file:
            frames = torch.from_numpy(file[str(i)][()].astype(np.float32))
            texts = torch.from_numpy(np.stack([file[f"text/{k} of {i}"][()] for k in range(3)]))
        return frames, texts, np.stack([self.spans[f"{k} of {i}"][0] for k in (1, 2)])


def padded(items: list[tuple[torch.Tensor, torch.Tensor, np.ndarray]]) -> tuple[torch.Tensor, ...]:
    """The common collate function."""
    frames = nn.utils.rnn.pad_sequence([f for f, _, _ in items], batch_first=True)
    lengths = torch.tensor([len(f) for f, _, _ in items])
    mask = torch.arange(frames.shape[1])[None] < lengths[:, None]
    return (
        frames,
        mask,
        torch.stack([t for _, t, _ in items]),
        torch.from_numpy(np.stack([s for _, _, s in items])),
    )


class Common(nn.Module):
    """What people write: a small padded transformer block over the frames, a linear map of the texts, two InfoNCE losses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.white, self.enter, self.leave = (
            nn.Linear(DIM, DIM),
            nn.Linear(DIM, width),
            nn.Linear(width, DIM),
        )
        self.white.requires_grad_(False)
        self.near = nn.Conv1d(width, width, 5, padding=2)
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.3, "gelu", batch_first=True, norm_first=True
        )
        self.text_white, self.text = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.text_white.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(
        self, frames: torch.Tensor, mask: torch.Tensor, texts: torch.Tensor, spans: torch.Tensor
    ) -> torch.Tensor:
        unit = functional.normalize(frames, dim=-1)
        seen = self.white(unit)
        hidden = self.enter(seen + 0.5 * torch.randn_like(seen))
        hidden = hidden + functional.gelu(self.near(hidden.transpose(1, 2)).transpose(1, 2))
        hidden = self.block(hidden, src_key_padding_mask=~mask)
        moved = functional.normalize(unit + self.leave(hidden), dim=-1) * mask.unsqueeze(-1)
        seen = self.text_white(functional.normalize(texts, dim=-1))
        said = functional.normalize(texts + self.text(seen + 0.5 * torch.randn_like(seen)), dim=-1)
        whole = functional.normalize(moved.sum(1), dim=-1)
        at = torch.arange(frames.shape[1], device=frames.device) / FPS
        inside = (at >= spans[..., :1]) & (at < spans[..., 1:]) & mask[:, None]
        parts = functional.normalize(
            torch.einsum("bkt,btd->bkd", inside.float(), moved), dim=-1
        ).flatten(0, 1)
        loss = self._infonce(said[:, 0], whole) + self._infonce(said[:, 1:].flatten(0, 1), parts)
        return loss + (moved - unit)[mask].square().sum(-1).mean()

    def _infonce(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        scores, right = a @ b.T * self.log_scale.exp(), torch.arange(len(a), device=a.device)
        return (
            functional.cross_entropy(scores, right) + functional.cross_entropy(scores.T, right)
        ) / 2


def common_loop(loader: DataLoader, width: int, device: str = "cpu") -> Iterator[None]:
    """One step after the other."""
    model = Common(width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    while True:
        for batch in loader:
            optimizer.zero_grad()
            model(
                *(
                    part.to(device, torch.float32 if part.is_floating_point() else None)
                    for part in batch
                )
            ).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield


def our_loop(corpus: Corpus, draws: BatchSampler, step: Step, batch: int) -> Iterator[None]:
    """One step after the other, as `vla.training.loop` takes them."""
    number = 0
    while True:
        order = np.random.default_rng(number).permutation(len(corpus.videos))
        for first in range(0, len(order) - batch + 1, batch):
            step(draws.plan(order[first : first + batch], number), number)
            number += 1
            yield


def products(
    frames: int, texts: int, tokens: int, width: int, batch: int
) -> list[tuple[int, int, int, int]]:
    """`(rows, inputs, outputs, how often)` of the matrix products of a step: once where only the output is wanted, three times
    where gradients of inputs and weights are, twice where the input needs none."""
    linear = [(DIM, DIM, 1), (DIM, width, 2), (5 * width, width, 3), (width, 3 * width, 3), (width, width, 3),
              (width, 2 * width, 3), (2 * width, width, 3), (width, DIM, 3)]  # fmt: skip
    of_frames = [(frames, i, o, times) for i, o, times in linear]
    attention = [(tokens, width, LONGEST, 6)]
    return [
        *of_frames,
        *attention,
        (texts, DIM, DIM, 1),
        (texts, DIM, DIM, 2),
        (batch, DIM, batch, 3),
        (2 * batch, DIM, 2 * batch, 3),
    ]


def best(work: Callable[[], object], repeat: int = 3) -> float:
    """Seconds, the least of some runs."""
    found = float("inf")
    for _ in range(repeat):
        began = CLOCK()
        work()
        found = min(found, CLOCK() - began)
    return found


def floor_seconds(shapes: list[tuple[int, int, int, int]]) -> tuple[float, float, float]:
    """Seconds of these products at their own shapes, their operations, and operations a second of one large product."""
    spent = 0.0
    for rows, inputs, outputs, times in shapes:
        a, b = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        spent += times * best(lambda a=a, b=b: functional.linear(a, b))
    a = torch.randn(3072, 3072)
    rate = 2 * 3072**3 / best(lambda: a @ a)
    return spent, float(sum(2 * r * i * o * times for r, i, o, times in shapes)), rate


def settings(batch: int, width: int) -> TrainConfig:
    return TrainConfig(batch_size=batch, projector_options={"width": width})


def stepper(corpus: Corpus, config: TrainConfig) -> tuple[BatchSampler, Step]:
    """Ours."""
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(DIM, config.projector, config.projector_options))
    return BatchSampler(corpus, config), Step(
        model, Objective(config), config, 1000, ProcessGroup()
    )


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(batch: int, width: int) -> None:
    """The peak of two steps beside the features of a batch."""
    corpus = made_corpus(batch)
    features = sum(v.values.nbytes for v in corpus.videos)
    draws, step = stepper(corpus, settings(batch, width))
    step(draws.plan(np.arange(2), 0), 0)
    before = peak_bytes()
    began = CLOCK()
    for number in range(2):
        step(draws.plan(np.arange(batch), number), number)
    spent = (CLOCK() - began) / 2
    print(f"batch {batch}: features {features / 1e6:.0f} MB as float16, {features / 5e5:.0f} MB as float32; before the step "
          f"{before / 1e6:.0f} MB, peak {peak_bytes() / 1e6:.0f} MB; {batch / spent:.0f} samples/s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument(
        "--cpu", action="store_true", help="measure seconds of the processor, not of the clock"
    )
    a = parser.parse_args()
    if a.cpu:
        global CLOCK
        CLOCK = time.process_time
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.memory:
        return memory(a.memory, a.width)
    corpus = made_corpus(a.videos)
    draws, step = stepper(corpus, settings(a.batch, a.width))
    with tempfile.TemporaryDirectory() as folder:
        loader = DataLoader(
            Files(Path(folder) / "all.h5", corpus),
            a.batch,
            shuffle=True,
            collate_fn=padded,
            drop_last=True,
        )
        loops = {
            "common loop": common_loop(loader, a.width),
            "ours": our_loop(corpus, draws, step, a.batch),
        }
        theirs, spent = (
            iter(loader),
            {name: float("inf") for name in (*loops, "common loading", "our loading")},
        )
        rows = np.random.default_rng(1).permutation(a.videos)[: a.batch]
        for loop in loops.values():
            next(loop)
        for number in range(a.steps):
            for name, loop in loops.items():
                spent[name] = min(spent[name], best(lambda loop=loop: next(loop), 1))
            spent["common loading"] = min(spent["common loading"], best(lambda: next(theirs), 1))
            spent["our loading"] = min(
                spent["our loading"], best(lambda number=number: draws(rows, number), 3)
            )
    lengths = np.array([len(v.values) for v in corpus.videos])
    frames = round(lengths.mean() * a.batch)
    own, operations, rate = floor_seconds(
        products(frames, 3 * a.batch, a.batch * LONGEST, a.width, a.batch)
    )
    print(
        f"{a.batch} videos a step, {lengths.mean():.0f} frames on average, width {a.width}, {torch.get_num_threads()} threads\n"
    )
    print("| | samples/s | times the common |\n|---|---|---|")
    for name, than in (("common loading", "common loading"), ("our loading", "common loading"),
                       ("common loop", "common loop"), ("ours", "common loop")):  # fmt: skip
        print(f"| {name} | {a.batch / spent[name]:.0f} | {spent[than] / spent[name]:.1f} |")
    print(f"| products at their shapes ({operations / 1e9:.1f} GFLOP) | {a.batch / own:.0f} | |")
    print(f"| products at {rate / 1e9:.0f} GFLOP/s | {a.batch * rate / operations:.0f} | |")
    print(f"\nours is {100 * own / spent['ours']:.0f} % of the floor at their shapes, "
          f"{100 * operations / rate / spent['ours']:.0f} % of that of one large product")  # fmt: skip


if __name__ == "__main__":
    main()
