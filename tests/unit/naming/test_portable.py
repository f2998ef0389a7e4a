"""Names of runs: the same rule on all systems."""

import pytest

from vla.errors import UsageError
from vla.naming.portable import require_name
from vla.storage.workspace import Workspace

BAD = [
    "", " ", ".", "..", ".x", "a/b", "a\\b", "../x", "C:x", "a*", "a?b", "<a>", "a|b", 'a"b', "a" * 101, "a" * 300, "é" * 51,
    "CON", "con", "NUL", "aux.txt", "com1", "LPT9.tar.gz", "com¹", "x.", "x ", " x", "-x", "a\nb", "a\0b", "\x1b[31m", "a\x85b", "a\u202eb",
    "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_rejects_names_invalid_on_some_system(tmp_path, name):
    with pytest.raises(UsageError, match="a run cannot be called"):
        require_name(name, "a run")
    with pytest.raises(UsageError):
        Workspace(tmp_path).run(name)


@pytest.mark.parametrize(
    "name",
    ["default", "a", "run-2_b", "mit Leerzeichen", "日本", "v1.2", "console", "comma", "a" * 100],
)
def test_accepts_other_names(tmp_path, name):
    assert (
        require_name(name, "a run") == name
        and Workspace(tmp_path).run(name).parent == tmp_path / ".vla" / "runs"
    )
