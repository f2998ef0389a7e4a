"""Run each benchmark in its smallest form, each from an empty folder. At most four minutes on two quiet cores.

Commands are taken from the documents and run as they stand there, followed by the options of
`SMALLEST`: a document cannot name a script or an option that does not exist. A benchmark that no
document names is run with these options alone. One that reads files outside the repository is only
asked to say so. Exits with 1 if a command fails, or if a benchmark has no entry here.

    python .ci/benchmarks.py [NAME...]      # all of them, or some, such as `levels`
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vla.world.clips import plan_clips, write_clips

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
LIMIT_SECONDS = 120

WORLD = "--train 24 --test 12"
SMALLEST = {
    "cache": "--videos 20 --seconds 2 --dim 16",
    "dropout": "--rounds 1",
    "extract": "--seconds 1 --videos 1 --model ViT-S-32-alt --kinds h264-360p",
    "large_batches": "--pairs 64 --dim 16 --losses infonce",
    "levels": f"{WORLD} --seeds 1 --epochs 1 --on world",
    "memory": "--hours .001 --clips 2",
    "metrics": "50",
    "moment_heads": f"{WORLD} --seeds 1 --epochs 1 --joined 4",
    "questions": f"{WORLD} --seeds 1 --epochs 1 --levels both",
    "real_search": "--train 24 --test 40 --epochs 1 --clips 2 --queries 8",
    "real_videos": "videos",
    "search_indexes": "--rows 2000 --dim 32 --queries 20 --peers",
    "search_start": "--clips 24 --repeats 1 --queries 5",
    "train": "--videos 32 --batch 8 --steps 1 --width 16",
    "what_features_show": WORLD,
}
# Run as well, whether a document names them or not.
EXTRA = (["real_search", "--on", "world", "--parts", "table,stages,confidence"],)
NEEDS_SHARED_DATA = (
    "composed_queries",
    "hard_collages",
    "own_captions",
    "real_features",
    "real_search --on real",
)
SKIPPED = {"gpu": "tests/e2e/test_gpu_benchmark.py runs it"}


def documented_commands() -> list[list[str]]:
    """Name and arguments of each benchmark that a document runs, without placeholders."""
    documents = [
        ROOT / "README.md",
        *ROOT.glob("*/README.md"),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    text = "\n".join(path.read_text("utf-8") for path in documents)
    commands = []
    for name, arguments in re.findall(r"python tests/benchmarks/(\w+)\.py([^`\n]*)", text):
        command = [name]
        for word in shlex.split(arguments, comments=True):
            if not re.fullmatch(r"[A-Z]+(\.\.\.)?", word):
                command.append(word)
            elif command[-1].startswith("--"):  # `--memory N`
                command.pop()
        commands.append(command)
    return commands


def all_commands() -> list[list[str]]:
    """The documented commands, and the name alone of each benchmark that no document runs."""
    commands = [*documented_commands(), *EXTRA]
    names = {path.stem for path in BENCHMARKS.glob("[!_]*.py")}
    if unknown := names - set(SMALLEST) - set(SKIPPED) - set(" ".join(NEEDS_SHARED_DATA).split()):
        raise SystemExit(f"no entry in .ci/benchmarks.py: {', '.join(sorted(unknown))}")
    commands += [[name] for name in names - {name for name, *_ in commands}]
    return [list(command) for command in sorted(set(map(tuple, commands)))]


def run(command: list[str], folder: Path) -> str:
    """Run a benchmark in a new folder; return the reason why it failed, or nothing."""
    name, *arguments = command
    needs_shared_data = " ".join(command).startswith(NEEDS_SHARED_DATA)
    if not needs_shared_data:
        arguments += shlex.split(SMALLEST[name])
    folder.mkdir(parents=True, exist_ok=True)
    if name == "real_videos":  # the reader's own folder
        write_clips(plan_clips("train", 2, 0), folder / "videos")
    environment = {**os.environ, "VLA_SHARED_DATA": str(folder / "nothing")}
    line = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    began = time.monotonic()
    try:
        result = subprocess.run(
            line,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT_SECONDS} s"
    print(f"{time.monotonic() - began:5.1f} s  {name}.py {shlex.join(arguments)}", flush=True)
    if needs_shared_data:
        says_so = result.returncode == 1 and "VLA_SHARED_DATA" in result.stderr
        print("         skipped: reads files outside the repository (VLA_SHARED_DATA)", flush=True)
        return "" if says_so else f"does not ask for VLA_SHARED_DATA:\n{result.stderr[-2000:]}"
    if result.returncode:
        return f"exit code {result.returncode}:\n{result.stdout[-1000:]}{result.stderr[-3000:]}"
    return ""


def main() -> int:
    """Run all benchmarks, or those named on the command line."""
    failures = 0
    with tempfile.TemporaryDirectory() as top:
        for number, command in enumerate(all_commands()):
            name = command[0]
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            if name in SKIPPED:
                print(f"         {name}.py skipped: {SKIPPED[name]}", flush=True)
                continue
            folder = Path(top) / name
            reason = run(command, folder if not folder.exists() else Path(top) / f"{name}-{number}")
            if reason:
                failures += 1
                print(f"FAILED   {shlex.join(command)}: {reason}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
