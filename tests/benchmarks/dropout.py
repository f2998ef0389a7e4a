"""Dropout on a CPU: torch's and ours, forward and backward.

    python tests/benchmarks/dropout.py [--threads 1] [--rounds 40]

Prints medians of calls that alternate, so that other work on the machine slows both down.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from vla.projectors._layers import Dropout

SHAPES = ((64, 40, 128), (64, 40, 256), (64, 120, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| shape | torch, ms | ours, ms | ratio |\n|---|---|---|---|")
    for shape in SHAPES:
        values, slope = torch.randn(shape, requires_grad=True), torch.randn(shape)
        spent: dict[str, list[float]] = {"torch": [], "ours": []}
        layers = {"torch": torch.nn.Dropout(0.3).train(), "ours": Dropout(0.3).train()}
        for _ in range(arguments.rounds):
            for name, layer in layers.items():
                began = time.perf_counter()
                layer(values).backward(slope)
                spent[name].append(1000 * (time.perf_counter() - began))
        theirs, ours = (statistics.median(spent[name]) for name in ("torch", "ours"))
        print(f"| {shape} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
