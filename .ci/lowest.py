"""Print `name==floor` for each library that pyproject.toml requires, one a line: what CI installs for the lowest versions.

Read from pyproject.toml itself, so it cannot go stale. The tools in `dev` are left out. With `--check`: fail unless exactly
these versions are installed.
"""

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))[
    "project"
]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["parquet"]]:
    name, floor = re.match(r"([\w-]+)(?:.*?>=([\d.]+))?", requirement).groups()
    if floor is None:
        raise SystemExit(f"{requirement!r} has no floor: every library that vla imports needs one")
    sys.stdout.write("" if "--check" in sys.argv else f"{name}=={floor}\n")
    # 2.11 is 2.11.0, and may be a build of its own: 2.11.0+cpu.
    if "--check" in sys.argv and re.sub(r"(\.0)+$", "", version(name).split("+")[0]) != re.sub(
        r"(\.0)+$", "", floor
    ):
        raise SystemExit(f"{name} {version(name)} is installed, not the lowest version {floor}")
