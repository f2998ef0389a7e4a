"""Memory and time of one contrastive step over very many pairs: from the whole matrix, and from vectors in blocks.

    python tests/benchmarks/large_batches.py [--pairs 4096 16384] [--dim 512] [--losses infonce] [--device cpu]

Each case runs in a process of its own; peak memory is what its step adds to what the process held before it (the largest
resident size; on a GPU, what torch allocated). Prints a table in Markdown with the loss of both ways.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from vla.losses import registry
from vla.losses.base import positive_pairs


def step(name: str, way: str, pairs: int, dim: int, device: str) -> tuple[float, float, float]:
    """The loss, the megabytes that it and its gradient took at most, and seconds."""
    generator = torch.Generator().manual_seed(0)
    queries, videos = (
        torch.nn.functional.normalize(torch.randn(pairs, dim, generator=generator), dim=1)
        .to(device)
        .requires_grad_()
        for _ in range(2)
    )
    owner = torch.arange(pairs, device=device)
    loss = registry.build(name)
    # A small step first: what libraries take once is no part of a step.
    loss.from_vectors(queries[:64], videos[:64], 20.0, positive_pairs(owner[:64])).backward()
    before = _peak(device)
    began = time.perf_counter()
    if way == "matrix":
        made = loss(queries @ videos.T * 20.0, owner[:, None] == owner[None])
    else:
        made = loss.from_vectors(queries, videos, 20.0, positive_pairs(owner))
    made.backward()
    value = float(made.detach())
    return value, _peak(device) - before, time.perf_counter() - began


def _peak(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--losses", nargs="+", default=["infonce"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--one", nargs=2, metavar=("LOSS", "WAY"), help="run this case alone, in this process"
    )
    arguments = parser.parse_args()
    if arguments.one:
        print(*step(*arguments.one, arguments.pairs[0], arguments.dim, arguments.device))
        return
    print("| loss | pairs | way | peak MiB | seconds | loss |\n|---|---|---|---|---|---|")
    for name in arguments.losses:
        for pairs in arguments.pairs:
            for way in ("matrix", "vectors"):
                command = [sys.executable, __file__, "--one", name, way, "--pairs", str(pairs)]
                command += ["--dim", str(arguments.dim), "--device", arguments.device]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(
                        f"| {name} | {pairs} | {way} | failed: {done.stderr.strip().splitlines()[-1][:80]} | | |"
                    )
                    continue
                value, peak, seconds = map(float, done.stdout.split())
                print(
                    f"| {name} | {pairs} | {way} | {peak:.0f} | {seconds:.1f} | {value:.6f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
