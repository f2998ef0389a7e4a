"""Check the files of a wheel: `python .ci/wheel_contents.py dist/*.whl`. Exits with 1 and lists what is wrong.

A wheel has every tracked file of `toolkit/vla` and `cli/vla_cli` and its own metadata, and nothing else.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"toolkit/vla": "vla", "cli/vla_cli": "vla_cli"}
REQUIRED = (
    "vla/py.typed",
    "vla_cli/py.typed",
    "vla/__init__.pyi",
    "vla/encoders/_embedded/open_clip_model.safetensors",
)
METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
COMPILED = (".so", ".pyd", ".dll", ".dylib", ".pyc")


def tracked_files() -> set[str]:
    """Return the files that git tracks, by their names in the wheel."""
    names = set()
    for folder, package in PACKAGES.items():
        listing = subprocess.run(
            ["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        names |= {
            package + name.removeprefix(folder) for name in listing.stdout.split("\0") if name
        }
    return names


def problems(wheel: Path, expected: set[str]) -> list[str]:
    """Return what is wrong with a wheel that should have the files `expected`."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        bad = archive.testzip()
    info = re.match(r"(\w+-[\w.]+)-py3-none-any\.whl$", wheel.name)
    faults = [f"{bad} is damaged"] if bad else []
    if info is None:
        return [*faults, f"{wheel.name} is not for every Python 3 and every system"]
    metadata = {f"{info[1]}.dist-info/{name}" for name in METADATA}
    faults += [f"without {name}" for name in sorted((expected | set(REQUIRED) | metadata) - names)]
    faults += [f"with {name}" for name in sorted(names - expected - metadata)]
    faults += [f"compiled: {name}" for name in sorted(names) if name.endswith(COMPILED)]
    return faults


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wheel = Path(sys.argv[1])
    faults = problems(wheel, tracked_files())
    print(
        "\n".join(faults) or f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, as it should be"
    )
    sys.exit(bool(faults))
