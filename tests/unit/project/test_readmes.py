"""The commands of the documents run, and the generated reference is up to date; `test_docs.py` checks what they name."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_command_line_reference_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "cli" / "write_readme.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, "run: python cli/write_readme.py"


def test_the_readme_begins_with_two_commands_that_do_all_set_up():
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks[0].count("pip install") == 1 and blocks[0].rstrip().endswith("vla demo")
    assert "pip install" in blocks[1] and "pytest" in blocks[1]


def test_no_file_names_a_machine_or_a_registry():
    pattern = re.compile(r"/(?:work|root)/|pythonhoste[d]\.|pyp[i]\.org")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".json", ".yml", ".css", "") and path.is_file():
            found = pattern.search(path.read_text("utf-8", errors="replace"))
            assert found is None or path.name == "test_readmes.py", f"{name}: {found}"


def test_the_quickstart_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tmp_path / "out")])
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "1. " in printed and ".mp4" in printed
