"""The example recipes: every setting is one, every command of their comments is one that `vla` takes."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer  # noqa: TID251 - it is the real command line that must take these commands

from support.shared_data import SHARED
from vla.datasets import registry as datasets
from vla.errors import UsageError
from vla.heads import registry as heads
from vla.training.config import TrainConfig, read_recipe
from vla_cli.main import app

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.toml"))


def commands(path):
    """The commands in a recipe's comments, the first line's first."""
    return [
        shlex.split(c) for c in re.findall(r"^#\s+vla (.+)$", path.read_text("utf-8"), re.MULTILINE)
    ]


def parsed(words):
    """What the real command line makes of `words`, without running it: the subcommand's name and its parameters."""
    group = typer.main.get_command(app)
    with group.make_context("vla", list(words)) as context:
        name, command, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        with command.make_context(name, rest, parent=context) as inner:
            return name, inner.params


def test_there_is_a_recipe_for_each_set_whose_files_are_read():
    assert {path.stem for path in RECIPES} == {
        "msvd",
        "didemo",
        "activitynet",
        "charades_sta",
        "qvhighlights",
        "nextqa",
    }


SAME_LAYOUT = {
    "activitynet/train.json": "val_1.json",
    "didemo/train_data.json": "val_data.json",
    "nextqa/train.csv": "val.csv",
}
"""Published files that are not among the shared data, each with one of the same layout that is."""


@pytest.mark.skipif(
    not (SHARED / "annotations").is_dir(), reason="shared data: the benchmarks' files are not here"
)
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_import_reads_every_file_that_it_names(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = SHARED / "annotations" / path.stem
    command = commands(path)[1]
    files = [
        word
        for word in command
        if word.endswith((".json", ".jsonl", ".csv", ".txt")) and word != command[-1]
    ]
    for name in files:
        shutil.copy(folder / SAME_LAYOUT.get(f"{path.stem}/{name}", name), name)
    found = datasets.build(command[1]).read(*map(Path, files))
    assert len({a.video for a in found}) > 500 and all(a.query for a in found)
    assert "train" in {a.split for a in found} and len({a.split for a in found}) > 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_setting_is_one_and_every_head_is_there(path):
    values = read_recipe(path)
    config = TrainConfig.from_mapping(values, path.name)
    assert values and set(config.head_names) <= {"auto", *heads.names()}
    with pytest.raises(UsageError, match="no setting is called"):
        TrainConfig.from_mapping({**values, "speed": 1}, path.name)


def given(captions):
    return [Path(path) for path in ([captions] if isinstance(captions, str | Path) else captions)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_its_commands_parse_and_follow_from_each_other(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert path.read_text("utf-8").startswith("# vla train ")
    words = commands(path)
    for word in {
        w for command in words for w in command if w.endswith((".jsonl", ".json", ".csv", ".txt"))
    }:
        Path(word).touch()
    Path("videos").mkdir()
    (train, trained), (bring, brought), (extract, extracted) = (
        parsed(command) for command in words
    )
    assert (train, bring, extract) == ("train", "import", "extract")
    assert ROOT / trained["recipe"] == path and trained["name"] == path.stem
    assert brought["format"] in datasets.names() and len(brought["files"]) > 1
    assert [Path(brought["output"])] == given(trained["captions"]) == given(extracted["captions"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_says_what_it_is_to_be_compared_with(path):
    text = path.read_text("utf-8")
    assert (
        re.search(r"To be compared with .*\d", text, re.DOTALL) and "Ours is not measured" in text
    )
    assert re.search(r"arXiv|Lighthouse|github|doc-doc|antoyang", text)


def test_a_command_that_is_none_does_not_parse():
    with pytest.raises(Exception, match="No such option: --recipee"):
        parsed(["train", "--recipee", "x.toml"])
