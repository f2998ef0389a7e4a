"""The check of a wheel's files that CI and releases run."""

import zipfile
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_SPEC = util.spec_from_file_location("wheel_contents", ROOT / ".ci" / "wheel_contents.py")
check = util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(check)
EXPECTED = {*check.REQUIRED, "vla/spans.py", "vla_cli/main.py"}
INFO = "vla_toolkit-1.2.3.dist-info"


def wheel(folder, names, name="vla_toolkit-1.2.3-py3-none-any.whl"):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member in names:
            archive.writestr(member, "")
    return folder / name


WHOLE = EXPECTED | {f"{INFO}/{name}" for name in check.METADATA}


def test_accepts_a_whole_wheel(tmp_path):
    assert check.problems(wheel(tmp_path, WHOLE), EXPECTED) == []


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (WHOLE - {"vla/py.typed"}, "without vla/py.typed"),
        (WHOLE - {"vla/spans.py"}, "without vla/spans.py"),
        (WHOLE | {"tests/unit/test_spans.py"}, "with tests/unit/test_spans.py"),
        (WHOLE | {"vla/_fast.cpython-311-x86_64-linux-gnu.so"}, "compiled: vla/_fast"),
        (WHOLE - {f"{INFO}/licenses/LICENSE"}, f"without {INFO}/licenses/LICENSE"),
    ],
)
def test_names_what_is_wrong(tmp_path, names, fault):
    assert any(line.startswith(fault) for line in check.problems(wheel(tmp_path, names), EXPECTED))


def test_refuses_a_wheel_of_one_system(tmp_path):
    path = wheel(tmp_path, WHOLE, "vla_toolkit-1.2.3-cp311-cp311-linux_x86_64.whl")
    assert "not for every Python 3" in check.problems(path, EXPECTED)[0]


def test_the_tree_has_what_a_wheel_needs():
    names = check.tracked_files()
    assert set(check.REQUIRED) <= names and "vla_cli/main.py" in names
    assert not [name for name in names if "test" in name.split("/")[0]]
