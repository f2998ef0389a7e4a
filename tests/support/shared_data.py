"""Where real data lies, for the tests that can use it: $VLA_SHARED_DATA, or shared/data beside the repository."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("VLA_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
