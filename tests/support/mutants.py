"""Make a fixed set of small faults in the code, one at a time, and list those that no test notices.

    python tests/support/mutants.py                      # all of them: about an hour on two quiet cores
    python tests/support/mutants.py --only heads,cache   # of these folders
    python tests/support/mutants.py --list               # which they are

Each mutant changes one expression: a comparison, an operator, a number, `and` for `or`, a function for its opposite. Candidates
are every such expression in the tree; a hash of the function's name, the operator and the position among its likes chooses
`QUOTAS` of each folder, at most one in a function. So the set is the same on every machine, and code that is untouched keeps its mutants.

The tree is copied, so nothing here is changed. A mutant is tried first with the tests of its own module and folder, then with
those that name its module, then with the whole suite (without `slow`); the first failure, crash or time-out counts as noticed.
Mutants that change nothing a test could see are listed in `EQUIVALENT`, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"vla": ROOT / "toolkit" / "vla", "cli": ROOT / "cli" / "vla_cli"}

# How many mutants of each folder; "vla" are the modules outside of folders.
QUOTAS = {
    "batches": 8, "cache": 12, "captions": 4, "cli": 8, "datasets": 12, "decoders": 10, "encoders": 8, "evaluation": 10, "formats": 8,
    "heads": 14, "indexes": 8, "indexing": 8, "language": 4, "losses": 8, "metrics": 12, "naming": 6, "projectors": 6, "retrieval": 10,
    "storage": 6, "training": 12, "vla": 6, "workflows": 12, "world": 3,
}  # fmt: skip
STRICT = ("heads", "metrics", "evaluation", "cache")
"""Folders of which no mutant may be missed."""
REQUIRED = 0.9
"""Share of all mutants that must be noticed."""

EQUIVALENT: dict[str, str] = {
    "heads/moments.Head.loss:compare:1": "checkpointing saves memory and changes no value",
}
"""Name of a mutant -> why no test can see it."""

_TIMEOUT = 600.0
_COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt(), ast.Eq: ast.NotEq(), ast.NotEq: ast.Eq(),
    ast.In: ast.NotIn(), ast.NotIn: ast.In(), ast.Is: ast.IsNot(), ast.IsNot: ast.Is(),
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Div(), ast.Div: ast.Mult(), ast.FloorDiv: ast.Mult(), ast.Mod: ast.Mult(),
}  # fmt: skip
_OPPOSITES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum", "argmin": "argmax",
    "argmax": "argmin", "amin": "amax", "amax": "amin", "clamp_min": "clamp_max", "floor": "ceil", "ceil": "floor",
    "startswith": "endswith", "endswith": "startswith",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One small fault.

    Attributes:
        name: `folder/module.function:operator:number`, the same as long as the function has the same expressions.
        path: the file, from the root.
        line: where it is.
        before: the expression as it stands.
        after: the expression with the fault.
        source: the whole file with the fault.
    """

    name: str
    path: Path
    line: int
    before: str
    after: str
    source: str


def mutants(folders: tuple[str, ...] = ()) -> list[Mutant]:
    """The fixed set, of all folders or of `folders`."""
    chosen = []
    for folder, quota in QUOTAS.items():
        if not folders or folder in folders:
            every = sorted(
                _candidates(folder), key=lambda m: hashlib.sha256(m.name.encode()).digest()
            )
            stale = _equivalents(folder) - {m.name for m in every}
            if stale:
                raise SystemExit(f"EQUIVALENT names what is no longer there: {sorted(stale)}")
            chosen += _spread([m for m in every if m.name not in EQUIVALENT], quota)
    return chosen


def _equivalents(folder: str) -> set[str]:
    return {name for name in EQUIVALENT if name.startswith(f"{folder}/")}


def _spread(ranked: list[Mutant], quota: int) -> list[Mutant]:
    """The first `quota`, at most one of a function, and at most a third of them numbers, which are most of all expressions."""
    chosen: dict[str, Mutant] = {}
    numbers = 0
    for mutant in ranked:
        function, operator, _ = mutant.name.split(":")
        is_number = operator == "number"
        if (
            len(chosen) < quota
            and function not in chosen
            and (not is_number or numbers < quota // 3)
        ):
            chosen[function] = mutant
            numbers += is_number
    return list(chosen.values())


def _candidates(folder: str) -> Iterator[Mutant]:
    for path in _files(folder):
        text = path.read_text("utf-8")
        lines = text.splitlines(keepends=True)
        numbers: dict[str, int] = {}
        for function, node, operator, changed in _expressions(ast.parse(text)):
            key = f"{folder}/{path.stem}.{function}:{operator}"
            numbers[key] = numbers.get(key, 0) + 1
            before, after = ast.get_source_segment(text, node), ast.unparse(changed)
            if before is None:
                continue
            is_compound = isinstance(node, ast.BoolOp | ast.Compare | ast.BinOp)
            source = _replaced(lines, node, f"({after})" if is_compound else after)
            yield Mutant(
                f"{key}:{numbers[key]}", path.relative_to(ROOT), node.lineno, before, after, source
            )


def _files(folder: str) -> list[Path]:
    if folder == "cli":
        return sorted(SOURCES["cli"].rglob("*.py"))
    if folder == "vla":
        return sorted(SOURCES["vla"].glob("*.py"))
    return sorted((SOURCES["vla"] / folder).rglob("*.py"))


def _expressions(tree: ast.Module) -> Iterator[tuple[str, ast.expr, str, ast.expr]]:
    """Function, expression, operator and changed expression, in order; only what is inside functions and runs."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr, str, ast.expr]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from visit(child, f"{function}.{child.name}" if function else child.name)
            elif not isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert | ast.AnnAssign):
                if function and isinstance(child, ast.expr):
                    yield from (
                        (function, child, operator, changed)
                        for operator, changed in _changes(child)
                    )
                yield from visit(child, function)

    yield from visit(tree, "")


def _changes(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and len(new.ops) == 1 and type(new.ops[0]) in _COMPARISONS:
        new.ops = [_COMPARISONS[type(new.ops[0])]]
        yield "compare", new
    elif isinstance(new, ast.BinOp) and type(new.op) in _OPERATORS and not _is_text(new):
        new.op = _OPERATORS[type(new.op)]
        yield "operator", new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.And() if isinstance(new.op, ast.Or) else ast.Or()
        yield "logic", new
    elif (
        isinstance(new, ast.UnaryOp)
        and isinstance(new.op, ast.Not | ast.USub)
        and not isinstance(new.operand, ast.Constant)
    ):
        yield "sign", new.operand
    elif isinstance(new, ast.Constant) and type(new.value) in (int, float):
        new.value = new.value + 1 if isinstance(new.value, int) else new.value * 2 + 0.125
        yield "number", new
    elif (
        isinstance(new, ast.Call)
        and isinstance(new.func, ast.Attribute)
        and new.func.attr in _OPPOSITES
    ):
        new.func.attr = _OPPOSITES[new.func.attr]
        yield "opposite", new
    elif isinstance(new, ast.Call) and isinstance(new.func, ast.Name) and new.func.id in _OPPOSITES:
        new.func.id = _OPPOSITES[new.func.id]
        yield "opposite", new


def _is_text(node: ast.BinOp) -> bool:
    """True for paths, texts and annotations, where another operator is an error at once and teaches nothing."""
    parts = [n for n in ast.walk(node) if isinstance(n, ast.Constant | ast.JoinedStr)]
    return any(isinstance(n, ast.JoinedStr) or isinstance(n.value, str | bytes) for n in parts)


def _replaced(lines: list[str], node: ast.expr, text: str) -> str:
    assert node.end_lineno is not None and node.end_col_offset is not None
    first, last = lines[node.lineno - 1].encode(), lines[node.end_lineno - 1].encode()
    middle = first[: node.col_offset] + text.encode() + last[node.end_col_offset :]
    return "".join(lines[: node.lineno - 1]) + middle.decode() + "".join(lines[node.end_lineno :])


def _steps(mutant: Mutant, near_only: bool) -> Iterator[list[str]]:
    """Paths of tests to try, the nearest first; the last step is the whole suite."""
    folder, module = mutant.name.split(".")[0].split("/")
    tests = ROOT / "tests"
    suites = [p for p in sorted(tests.rglob("test_*.py")) if "benchmarks" not in p.parts]
    near = [
        p
        for p in suites
        if p.stem in (f"test_{folder}_{module}", f"test_{module}", f"test_{folder}")
    ]
    beside = [p for p in suites if p.parent.name == folder]
    naming = [p for p in suites if _names(p, folder, module)]
    seen: set[Path] = set()
    for step in (near, beside, naming):
        fresh = [p for p in step if p not in seen]
        seen.update(fresh)
        if fresh:
            yield [str(p.relative_to(ROOT)) for p in fresh]
    if not near_only:
        yield ["tests"]


def _names(path: Path, folder: str, module: str) -> bool:
    text = path.read_text("utf-8")
    dotted = (
        f"vla.{module}"
        if folder == "vla"
        else f"vla_cli.{module}"
        if folder == "cli"
        else f"vla.{folder}"
    )
    return f"{dotted} " in text or f"{dotted}." in text or f"{dotted}\n" in text


def _is_noticed(tree: Path, mutant: Mutant, near_only: bool, say: Callable[[str], None]) -> str:
    """The step at which a test failed, or an empty text."""
    for number, paths in enumerate(_steps(mutant, near_only)):
        began = time.monotonic()
        path = os.pathsep.join(map(str, (tree / "toolkit", tree / "cli")))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            *paths,
        ]
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no end"
        say(
            f"  {mutant.name}: step {number + 1}, exit {done.returncode}, {time.monotonic() - began:.0f} s"
        )
        if done.returncode not in (0, 5):
            last = [
                r
                for r in done.stdout.decode("utf-8", "replace").splitlines()
                if r.startswith(("FAILED", "ERROR"))
            ]
            return last[0][:140] if last else f"exit {done.returncode}"
    return ""


def _worker(
    todo: queue.Queue[Mutant], results: dict[str, str], near_only: bool, say: Callable[[str], None]
) -> None:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        ignore = shutil.ignore_patterns(
            ".git", ".venv", "__pycache__", ".*_cache", "vla-demo", ".ci-work"
        )
        shutil.copytree(ROOT, tree, ignore=ignore)
        while True:
            try:
                mutant = todo.get_nowait()
            except queue.Empty:
                return
            target = tree / mutant.path
            original = target.read_text("utf-8")
            target.write_text(mutant.source, "utf-8")
            try:
                results[mutant.name] = _is_noticed(tree, mutant, near_only, say)
            finally:
                target.write_text(original, "utf-8")
            verdict = f"noticed: {results[mutant.name]}" if results[mutant.name] else "MISSED"
            say(
                f"{len(results)} {mutant.path}:{mutant.line} `{mutant.before}` -> `{mutant.after}` ({mutant.name}): {verdict}"
            )


def main() -> int:
    """Run the mutants; exit 1 if too many are missed, or one in a strict folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="folders, e.g. heads,cache")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time")
    parser.add_argument(
        "--near",
        action="store_true",
        help="leave out the whole suite: some that it notices are listed as missed",
    )
    parser.add_argument("--list", action="store_true", help="print the set and end")
    given = parser.parse_args()
    chosen = mutants(tuple(filter(None, given.only.split(","))))
    if given.list:
        for mutant in chosen:
            print(
                f"{mutant.path}:{mutant.line} `{mutant.before}` -> `{mutant.after}` ({mutant.name})"
            )
        print(f"{len(chosen)} mutants")
        return 0
    lock, results = threading.Lock(), {}

    def say(line: str) -> None:
        with lock:
            print(line, flush=True)

    todo: queue.Queue[Mutant] = queue.Queue()
    for mutant in chosen:
        todo.put(mutant)
    workers = [
        threading.Thread(target=_worker, args=(todo, results, given.near, say))
        for _ in range(given.jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    missed = [m for m in chosen if not results.get(m.name)]
    strict = [m for m in missed if m.name.split("/")[0] in STRICT]
    print(
        f"\n{len(chosen) - len(missed)} of {len(chosen)} noticed ({1 - len(missed) / len(chosen):.0%}); missed:"
    )
    for mutant in missed:
        print(
            f"  {mutant.path}:{mutant.line} `{mutant.before}` -> `{mutant.after}` ({mutant.name})"
        )
    return int(bool(strict) or len(missed) > (1 - REQUIRED) * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
