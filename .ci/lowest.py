"""Print `name==floor` for each library that pyproject.toml requires, one a line: what CI installs for the lowest versions.

Read from pyproject.toml itself, so it cannot go stale. The tools in `dev` are left out, but for libraries that a user has, too.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["parquet"]]:
    name, floor = re.match(r"([\w-]+)(?:.*?>=([\d.]+))?", requirement).groups()
    if floor is None:
        raise SystemExit(f"{requirement!r} has no floor: every library that vla imports needs one")
    sys.stdout.write(f"{name}=={floor}\n")
