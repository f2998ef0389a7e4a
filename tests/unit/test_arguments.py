"""The library's edge: every public function takes paths as texts, names what is wrong, and is the same whatever was imported."""

import inspect
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest

import vla
from vla.arguments import PathLike, Paths, Texts, validate_arguments
from vla.errors import MissingError, UsageError

FUNCTIONS = sorted(name for name in vla.__all__ if inspect.isfunction(getattr(vla, name)))
TAKEN = [
    (name, parameter.name, parameter.annotation)
    for name in FUNCTIONS
    for parameter in inspect.signature(getattr(vla, name)).parameters.values()
    if parameter.annotation in (PathLike, PathLike | None, Paths, Paths | None, Texts)
]


def caught(name):
    """The public function `name` with the stage behind it replaced by one that gives back what it was called with."""
    function = getattr(vla, name)
    behind = inspect.unwrap(function)

    def stage(*args, **named):
        return inspect.signature(behind).bind_partial(*args, **named).arguments

    stage.__signature__ = inspect.signature(behind)
    stage.__name__ = name
    settings = getattr(vla, vla._SETTINGS[name]) if name in vla._SETTINGS else None
    return validate_arguments(stage, settings)


def call(function, argument, value):
    """Call with that argument, and with something for each other one that has to be given."""
    due = {
        p.name: ["x"] if p.annotation in (Paths, Texts) else "x"
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    return function(**{**due, argument: value})


def test_public_functions_take_paths():
    assert {"extract", "train", "search", "ask", "evaluate", "verify", "demo"} <= set(FUNCTIONS)
    assert len(TAKEN) > 30


@pytest.mark.parametrize(("name", "argument", "kind"), TAKEN)
def test_paths_may_be_texts_or_objects(name, argument, kind):
    function = caught(name)
    if kind in (PathLike, PathLike | None):
        for given in ("videos/a.csv", Path("videos/a.csv")):
            assert call(function, argument, given)[argument] == Path("videos/a.csv")
        wrong = [3, ["a", "b"], b"bytes", True]
    elif kind in (Paths, Paths | None):
        for given in ("vids", Path("vids")):
            assert call(function, argument, given)[argument] == [given]
        assert call(function, argument, ("a", Path("b")))[argument] == ["a", Path("b")]
        wrong = [3, [3], b"bytes", ["a", None]]
    else:
        assert call(function, argument, "vids")[argument] == ["vids"]
        wrong = [3, [3], b"bytes"]
    for value in wrong:
        with pytest.raises(UsageError, match=f"^{argument} must be "):
            call(function, argument, value)


def test_every_path_parameter_is_covered():
    """Whatever a stage annotates with Path is widened at the edge."""
    for name in FUNCTIONS:
        for p in inspect.signature(inspect.unwrap(getattr(vla, name))).parameters.values():
            if "Path" in str(p.annotation):
                assert (name, p.name) in {(n, a) for n, a, _ in TAKEN}, (name, p.name, p.annotation)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("train", "epoch", "epochs"), ("train", "caption", "captions"), ("extract", "modell", "model"),
     ("search", "topk", None), ("index", "runs", "run"), ("export", "formatt", "format"), ("evaluate", "splits", "split")],
)  # fmt: skip
def test_unknown_keyword_suggests_the_nearest(name, wrong, right):
    with pytest.raises(TypeError, match=f"Did you mean '{right}'" if right else "It takes "):
        getattr(vla, name)(**{wrong: 1})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [("search", {"query": "x", "k": "3"}, "k must be a whole number"), ("train", {"epochs": "3"}, "epochs is a whole number"),
     ("extract", {"paths": "x", "model": 3}, "model must be text"), ("index", {"compact": "yes"}, "compact must be True or False"),
     ("index", {"recall": "all"}, "recall must be a number"), ("ask", {"question": 5}, "question must be a text"),
     ("evaluate", {"seed": 1.5}, "seed must be a whole number"), ("train", {"epochs": True}, "epochs is a whole number")],
)  # fmt: skip
def test_a_value_of_another_type_is_a_usage_error(name, given, message):
    with pytest.raises(UsageError, match=message):
        getattr(vla, name)(**given)


def test_fields_of_settings_are_keywords(monkeypatch):
    seen = caught("extract")("v", model="demo", device="cpu")
    assert seen["paths"] == ["v"] and seen["fields"] == {"model": "demo", "device": "cpu"}
    assert caught("train")(epochs=3, heads=["counting"])["fields"] == {
        "epochs": 3,
        "heads": ["counting"],
    }
    assert {"epochs", "levels"} <= set(inspect.signature(vla.train).parameters)
    assert {"model", "sampling"} <= set(inspect.signature(vla.search).parameters)


def names_in(annotation):
    if inspect.isclass(annotation) and annotation.__module__.split(".")[0] == "vla":
        yield annotation
    for inner in typing.get_args(annotation):
        yield from names_in(inner)


def test_types_of_public_signatures_are_public():
    public_names = {
        getattr(vla, name) for name in vla.__all__ if isinstance(getattr(vla, name), type)
    }
    for name in FUNCTIONS:
        function = inspect.unwrap(getattr(vla, name))
        for argument, annotation in typing.get_type_hints(
            function, vars(sys.modules[function.__module__])
        ).items():
            for result in names_in(annotation):
                assert result in public_names, f"{name}({argument}): {result.__qualname__}"


def test_every_public_function_has_a_docstring_and_hints_that_resolve():
    for name in FUNCTIONS:
        assert (getattr(vla, name).__doc__ or "").strip(), name
        typing.get_type_hints(getattr(vla, name), vars(sys.modules[getattr(vla, name).__module__]))


def test_features_are_arrays_with_times(tmp_path):
    from vla.cache.receipts import Receipt
    from vla.cache.store import EncoderSource, FeatureCache, set_active_cache
    from vla.features import FeatureSpec, FrameFeatures
    from vla.storage.workspace import Workspace

    workspace = Workspace.open_or_create(tmp_path)
    cache = FeatureCache.create(
        workspace.caches,
        FeatureSpec("toy", "3", "none", "none", "fps=2", 3),
        EncoderSource("toy", "3", ""),
    )
    given = np.arange(12, dtype=np.float16).reshape(4, 3)
    video = tmp_path / "a.mp4"
    video.write_bytes(b"x")
    cache.add_video(
        FrameFeatures("a.mp4", given, np.arange(4) / 2, 2.25),
        Receipt("a.mp4", "ok", "", 1, 0, "c", duration_seconds=2.25),
    )
    set_active_cache(workspace.caches, cache)
    opened = vla.open_workspace(str(tmp_path))
    assert opened.videos() == ["a.mp4"]
    for name in ("a.mp4", video, str(video)):
        result = opened.features(name)
        assert isinstance(result, vla.VideoFeatures) and result.values.dtype == np.float32
        np.testing.assert_array_equal(result.values, given)
        np.testing.assert_array_equal(result.times_seconds, [0, 0.5, 1, 1.5])
        assert result.duration_seconds == 2.25
    with pytest.raises(MissingError, match="no features of 'b.mp4': it was never extracted"):
        opened.features("b.mp4")


def test_modules_do_not_take_the_place_of_functions():
    assert all(isinstance(getattr(vla, name), types.FunctionType) for name in FUNCTIONS)


@pytest.mark.parametrize("name", ["extract", "train"])
def test_captions_are_paths_one_or_several_or_none(name):
    function = caught(name)
    assert call(function, "captions", None)["captions"] is None
    assert call(function, "captions", Path("c.csv"))["captions"] == [Path("c.csv")]
    for value in (5, [5], b"c.csv", {"a": 1}.values()):
        with pytest.raises(UsageError, match="captions must be texts or pathlib.Path objects"):
            call(function, "captions", value)
