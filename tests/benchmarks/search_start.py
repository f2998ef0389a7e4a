"""Where the time of a search goes: from a cold shell, by part, and in a process that stays.

    python tests/benchmarks/search_start.py [WORKSPACE] [--repeats 7] [--queries 50] [--clips 320]

WORKSPACE is any with an index and captions; if it is not there, `vla demo` makes it, of `--clips` clips. Prints Markdown, in seconds: an empty Python, `import torch`,
`import vla`, the commands that need no torch, and the whole command `vla search`, one after the other in each round, so that they share
whatever else the machine does; their medians and lowest, and the median of the ratio to torch. Then the parts of one cold search, each in a new
process, and the time of queries in one process that has searched before. The bars: 0.4 s for the commands that
need no torch, and 1.2 times torch for the search.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import vla
from vla.captions import store as caption_store
from vla.storage.workspace import Workspace

PARTS = """
import json, sys, time
began = time.perf_counter()
taken = {}
def done(name):
    global began
    taken[name] = time.perf_counter() - began
    began = time.perf_counter()
import torch
done("import torch")
import vla_cli.main
done("import of the command")
import vla
from vla.workflows.encoder_choice import query_encoder
from vla.workflows.open_workspace import Searcher, load_model, load_or_calibrate
done("import of the search")
from vla.cache.store import FeatureCache
from vla.model import zero_shot_model
from vla.indexing.store import open_index
opened = vla.open_workspace(sys.argv[1])
workspace = opened.workspace
stored = open_index(workspace.index)
cache = FeatureCache.open(workspace.caches / stored.spec.fingerprint)
done("index")
run = stored.run
model = load_model(workspace.runs / run)[0] if run else zero_shot_model(stored.spec.dim, 1.0)
done("run")
encoder = query_encoder(cache, "auto", "auto")
done("text tower")
calibration = load_or_calibrate(workspace, stored, cache, model, encoder)
done("receipts and calibration")
opened.searcher = Searcher(stored, encoder, model, cache, workspace, calibration)
opened.notes()
done("what has changed since")
encoder.encode_text([sys.argv[2]])
done("query encoded")
hits = opened.search(sys.argv[2])
done("search, with frames of what it looks into")
from vla_cli.hits import print_hits
print_hits(hits, "")
done("table")
print(json.dumps(taken), file=sys.stderr)
"""


ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


def seconds(*command: str, code: int = 0) -> tuple[float, float]:
    """By the clock, and of processor time; the command is to end with `code`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    if done.returncode != code:
        sys.exit(f"{' '.join(command)[:200]} ended with {done.returncode}: {done.stderr}")
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def cold(folder: Path, query: str, repeats: int) -> None:
    def vla_command(*words: str) -> tuple[str, ...]:
        return ("-m", "vla_cli", "--workspace", str(folder), *words)

    commands = {
        "empty Python": ("-c", "pass"),
        "`import vla`": ("-c", "import vla"),
        "`import torch`": ("-c", "import torch"),
        "`vla --help`": ("-m", "vla_cli", "--help"),
        **{
            f"`vla {words}`": vla_command(*words.split())
            for words in (
                "ls", "info", "verify", "rm nosuch", "gc", "captions", "models", "config", "serach",
            )
        },
        "no workspace": ("-m", "vla_cli", "search", query, "--workspace", str(folder / "nowhere")),
        "`vla search`": vla_command("search", query),
    }  # fmt: skip
    codes = {"`vla rm nosuch`": 4, "no workspace": 4, "`vla serach`": 2}
    for name, command in commands.items():
        # Files are read from the disk once, and what the first search keeps is kept.
        seconds(*command, code=codes.get(name, 0))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            taken[name].append(seconds(*command, code=codes.get(name, 0)))
    print(
        "| | median s | lowest s | by `import torch`, median | median CPU s | by `import torch`, median CPU |\n"
        "|---|---|---|---|---|---|"
    )
    torch = np.array(taken["`import torch`"])
    for name, each in taken.items():
        clock, cpu = np.array(each).T
        ratio, cpu_ratio = np.median(np.array(each) / torch, axis=0)
        print(
            f"| {name} | {np.median(clock):.2f} | {clock.min():.2f} | {ratio:.2f} | {np.median(cpu):.2f} | {cpu_ratio:.2f} |"
        )


def parts(folder: Path, query: str, repeats: int) -> None:
    rounds = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", PARTS, str(folder), query],
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
        )
        rounds.append(json.loads(done.stderr.splitlines()[-1]))
    print("\n| part | median s |\n|---|---|")
    for name in rounds[0]:
        print(f"| {name} | {np.median([r[name] for r in rounds]):.3f} |")


def resident(folder: Path, queries: list[str]) -> None:
    opened = vla.open_workspace(folder)
    for name in ("first", "again"):
        taken = []
        for query in queries:
            began = time.perf_counter()
            opened.search(query)
            taken.append(1000 * (time.perf_counter() - began))
        if name == "first":
            print(
                f"\nin one process, {len(queries)} queries: the very first takes {taken[0]:.0f} ms;",
                end=" ",
            )
            taken = taken[1:]
        p50, p95 = np.quantile(taken, [0.5, 0.95])
        print(f"{name} p50 {p50:.1f} ms, p95 {p95:.1f} ms;", end=" ")
    print(
        f"{len(opened.searcher.index.videos)} videos, {len(opened.searcher.index.spans)} segments"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path, nargs="?", default=Path("vla-demo"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument(
        "--clips", type=int, default=320, help="of the demo, if WORKSPACE is not there"
    )
    arguments = parser.parse_args()
    if not arguments.workspace.exists():
        vla.demo(arguments.workspace, clips=arguments.clips)
    texts = list(
        dict.fromkeys(a.query for a in caption_store.load(Workspace.open(arguments.workspace)))
    )
    if len(texts) < arguments.queries:
        sys.exit(
            f"{arguments.workspace} has {len(texts)} captions to ask with, not {arguments.queries}"
        )
    picked = [
        texts[i] for i in np.random.default_rng(0).permutation(len(texts))[: arguments.queries]
    ]
    cold(arguments.workspace, picked[0], arguments.repeats)
    parts(arguments.workspace, picked[0], arguments.repeats)
    resident(arguments.workspace, picked)


if __name__ == "__main__":
    main()
