"""Defaults of the command line are the library's: read from it, not typed again."""

import dataclasses
import inspect
import math
from importlib import import_module

import pytest

import vla
from vla.training.config import TrainConfig

# Options of a command that are named otherwise in the library, or that exist on the command line alone.
RENAMED = {("search", "paths"): None}
CLI_ONLY = {
    "real",
    "as_json",
    "as_jsonl",
    "as_csv",
    "as_paths",
    "null",
    "quiet",
    "dry_run",
    "list_formats",
}
# Arguments that --list needs none of, and that the library cannot do without.
NOT_WITH_LIST = {("import_annotations", "format"), ("import_annotations", "files")}
# Options of `search` that become parts of a parameter, and are None without a value.
FILTERS = (
    "include", "exclude", "min_video_duration", "max_video_duration", "modified_after", "modified_before", "where",
)  # fmt: skip
PARTS = dict.fromkeys(FILTERS, "filters") | {"queries": "query"}
# Options of `search` that become fields of each `Query`.
QUERY_FIELDS = {
    "also": "also",
    "negative": "negative",
    "then": "then",
    "within": "within",
    "duration": "duration",
} | {
    "prompt_templates": "use_templates",
    "no_rewrite": "rewrite",
}
COLUMNS = {"video_column", "caption_column", "start_column", "end_column", "split_column"}
SAMPLING = {"fps", "num_frames", "keyframes", "scenes"}
COMMANDS = (
    "extract", "train", "evaluate", "report", "index", "search", "ask", "demo", "import_annotations", "import_features", "export",
)  # fmt: skip


def command(name):
    return getattr(import_module(f"vla_cli.commands.{name}"), name)


def demo_function():
    return import_module("vla.workflows.demo").demo


def library_defaults(name):
    """Defaults of all that the command may feed, by parameter."""
    function = demo_function() if name == "demo" else getattr(vla, name)
    found = {k: p.default for k, p in inspect.signature(function).parameters.items()}
    if name == "demo":
        found |= {k: p.default for k, p in inspect.signature(vla.demo_real).parameters.items()}
    if "choice" in found:
        found |= {f.name: f.default for f in dataclasses.fields(vla.EncoderChoice)}
    if "settings" in found:
        found |= {f.name: f.default for f in dataclasses.fields(TrainConfig)}
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_default_of_the_command_line_is_the_librarys(name):
    library = library_defaults(name)
    compared = 0
    for option, parameter in inspect.signature(command(name)).parameters.items():
        if option in CLI_ONLY:
            assert parameter.default is False
            continue
        if option == "context":  # typer's own, for telling what was given from what is a default
            continue
        if (name, option) in NOT_WITH_LIST:
            assert parameter.default is None
            continue
        if name == "search" and option in QUERY_FIELDS:
            # They make a `Query` of each text.
            field = {f.name: f.default for f in dataclasses.fields(vla.Query)}[QUERY_FIELDS[option]]
            if option == "no_rewrite":
                field = not field
            assert parameter.default == (None if field in ((), math.inf) else field)
            continue
        if name == "search" and option in PARTS:
            assert parameter.default is None and PARTS[option] in library
            continue
        if option in COLUMNS:
            # They become entries of `columns`; empty ones are left out, which is what None means there.
            assert parameter.default == "" and library["columns"] is None
            continue
        if option in SAMPLING and "sampling" in library:
            # At most one of them becomes `sampling`.
            assert not parameter.default and library["sampling"] is None
            continue
        assert option in library, f"vla {name}: {option} feeds nothing of that name"
        theirs, ours = library[option], parameter.default
        same = ours == theirs and type(ours) is type(theirs)
        # The command line cannot default to an empty tuple; None stands for it.
        assert same or (theirs == () and ours is None), (
            f"vla {name} {option}: {ours!r}, the library has {theirs!r}"
        )
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", COMMANDS)
def test_option_flags_are_not_shared_within_a_command(name):
    """Typer takes the last of two options with one flag, without a word."""
    flags = []
    for parameter in inspect.signature(command(name), eval_str=True).parameters.values():
        for note in getattr(parameter.annotation, "__metadata__", ()):
            flags += getattr(note, "param_decls", None) or ()
    assert len(flags) == len(set(flags))


def test_column_options_reach_the_library_under_its_names():
    from vla.datasets.table import Dataset
    from vla_cli.options import columns

    assert columns("a", "b", "c", "d", "e") == dict(
        video_column="a", caption_column="b", start_column="c", end_column="d", split_column="e"
    )
    assert columns("", "", "", "d", "") == {"end_column": "d"}
    accepted = inspect.signature(Dataset).parameters
    assert set(columns("a", "b", "c", "d", "e")) <= set(accepted)


def test_the_tasks_that_eval_names_are_those_there_are():
    from vla.evaluation.protocols import GROUPS
    from vla_cli.commands.evaluate import _TASKS

    assert _TASKS.split(", ") == list(GROUPS)


def test_a_recipe_may_hold_every_setting_and_nothing_else(tmp_path):
    from vla.errors import UsageError
    from vla.training.config import read_recipe

    recipe = tmp_path / "recipe.toml"
    recipe.write_text('projector = "residual"\nepochs = 3\n[projector_options]\nwidth = 8\n')
    config = TrainConfig.from_mapping(read_recipe(recipe), str(recipe))
    assert (
        dataclasses.replace(
            TrainConfig(), projector="residual", epochs=3, projector_options={"width": 8}
        )
        == config
    )
    with pytest.raises(
        UsageError, match="no setting is called epoch; there are .*batch_size.*warmup"
    ):
        TrainConfig.from_mapping({"epoch": 3}, "r.toml")


def test_the_workspace_option_is_found_upwards_by_default():
    assert inspect.signature(vla.search).parameters["workspace"].default is None
    assert inspect.signature(command("search")).parameters["workspace"].default is None
