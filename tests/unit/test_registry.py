"""Plug-ins: names without importing, and errors that say what to do."""

import sys
from importlib.metadata import EntryPoint

import pytest

from vla import registry as registry_module
from vla.errors import EnvironmentUnfitError, UnknownNameError, UsageError, VlaError
from vla.registry import SHELVES, Registry


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A shelf of a package of its own: `plain` works, `heavy` needs what is not installed, `broken` cannot be parsed."""
    folder = tmp_path / "thirdparty" / "widgets"
    folder.mkdir(parents=True)
    (tmp_path / "thirdparty" / "__init__.py").touch()
    files = {
        "__init__": "",
        "base": "raise SystemExit('base is no plug-in')",
        "_private": "raise SystemExit('private')",
        "plain": "class Widget:\n    def __init__(self, size, colour='red', *, depth=1):\n        self.given = (size, colour, depth)\n",
        "heavy": "import module_that_nobody_has.inner\nclass Widget: pass\n",
        "broken": "this is no Python",
        "torn": "import thirdparty.gone\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("thirdparty.widgets", "Widget")
    for name in [m for m in sys.modules if m.split(".")[0] == "thirdparty"]:
        del sys.modules[name]


def test_names_come_without_importing(shelf):
    assert shelf.names() == ("broken", "heavy", "plain", "torn")
    assert not {m for m in sys.modules if m.startswith("thirdparty.widgets.")}


def test_get_imports_one_plug_in(shelf):
    assert shelf.get("plain") is sys.modules["thirdparty.widgets.plain"].Widget
    assert {m for m in sys.modules if m.startswith("thirdparty.widgets.")} == {
        "thirdparty.widgets.plain"
    }


@pytest.mark.parametrize(("name", "hint"), [("plian", "Did you mean 'plain'?"), ("zzz", "")])
def test_an_unknown_name_lists_the_names_and_the_nearest(shelf, name, hint):
    with pytest.raises(UnknownNameError) as error:
        shelf.get(name)
    assert (
        str(error.value)
        == f"no widget is called {name!r}; there are broken, heavy, plain, torn.{' ' * bool(hint)}{hint}"
    )
    assert isinstance(error.value, KeyError)


@pytest.mark.parametrize("name", ["base", "_private", "", "../plain", "plain.Widget", "__init__"])
def test_private_modules_are_unknown_names(shelf, name):
    with pytest.raises(UnknownNameError):
        shelf.get(name)


def test_a_missing_package_comes_with_its_pip_line(shelf):
    with pytest.raises(
        EnvironmentUnfitError, match="widget 'heavy' needs the package 'module_that_nobody_has'"
    ) as error:
        shelf.get("heavy")
    assert str(error.value).endswith("pip install module_that_nobody_has")


def test_the_pip_name_may_differ_from_the_package(shelf, tmp_path, monkeypatch):
    (tmp_path / "thirdparty" / "widgets" / "seen.py").write_text("import cv2\n")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EnvironmentUnfitError, match="pip install opencv-python$"):
        shelf.get("seen")


def test_own_import_errors_are_not_missing_packages(shelf):
    with pytest.raises(ModuleNotFoundError, match="thirdparty.gone") as error:
        shelf.get("torn")
    assert not isinstance(error.value, VlaError)


def test_build_passes_options(shelf):
    assert shelf.build("plain", {"colour": "blue"}, size=3).given == (3, "blue", 1)
    assert shelf.build("plain", size=1, depth=2).given == (1, "red", 2)


def test_arguments_take_precedence_over_options(shelf):
    assert shelf.build("plain", {"size": 1, "depth": 5}, size=3).given == (3, "red", 5)


def test_unknown_option_lists_all_options(shelf):
    with pytest.raises(
        UsageError, match=r"widget 'plain' has no option 'color'; it has: colour, depth$"
    ):
        shelf.build("plain", {"color": "blue"}, size=3)


@pytest.fixture
def typed(shelf, tmp_path):
    options = "width: int = 4, share: float = 0.5, shift: float = -1.0, seed: int = 0, name: str = 'x', on: bool = False, other=()"
    text = f"class Widget:\n    def __init__(self, {options}):\n        self.given = locals()\n"
    (tmp_path / "thirdparty" / "widgets" / "typed.py").write_text(text)
    return shelf


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("width", "4", "a whole number of at least 1"), ("width", 0, "a whole number of at least 1"),
        ("width", True, "a whole number of at least 1"), ("width", 2.0, "a whole number of at least 1"),
        ("share", -0.1, "a number of at least 0"), ("share", float("nan"), "a number of at least 0"),
        ("shift", float("inf"), "a number"), ("seed", -1, "a whole number of at least 0"),
        ("name", 3, "a text"), ("on", 1, "true or false"),
    ],
)  # fmt: skip
def test_rejects_invalid_option_values(typed, option, value, wanted):
    with pytest.raises(UsageError) as error:
        typed.build("typed", {option: value})
    assert str(error.value) == f"widget 'typed': option {option} must be {wanted}, not {value!r}"


def test_passes_valid_option_values(typed):
    values = {
        "width": 1,
        "share": 0,
        "shift": -7,
        "seed": 0,
        "name": "",
        "on": True,
        "other": "anything",
    }
    assert typed.build("typed", values).given.items() >= values.items()


def test_other_distributions_add_plug_ins(shelf, monkeypatch):
    asked = []

    def entry_points(group):
        asked.append(group)
        result = {"far": "collections:OrderedDict", "plain": "collections:Counter"}
        return (
            [EntryPoint(n, v, group) for n, v in result.items()]
            if group == "thirdparty.widgets"
            else []
        )

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    assert shelf.names() == ("broken", "far", "heavy", "plain", "torn")
    assert shelf.get("far").__name__ == "OrderedDict"
    assert shelf.get("plain").__name__ == "Widget"  # a file of ours wins
    assert set(asked) == {"thirdparty.widgets"}
    with pytest.raises(UnknownNameError, match="Did you mean 'far'"):
        shelf.get("farr")


BROKEN = {
    "import": ("import package_that_nobody_has.inner\n", "pip install package_that_nobody_has"),
    "syntax": ("this is no Python\n", "SyntaxError"),
    "raise": ("raise ZeroDivisionError('at import')\n", "ZeroDivisionError: at import"),
    "absent": ("", "AttributeError"),
    "system": ("raise OSError('libfoo.so.3: cannot open shared object file')\n", "libfoo.so.3"),
    "no class": ("Widget = 7\n", "is neither a class"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_broken_third_party_plug_in_names_its_distribution(shelf, tmp_path, monkeypatch, way):
    content, said = BROKEN[way]
    module = f"torn_{way.replace(' ', '_')}"
    (tmp_path / f"{module}.py").write_text(content)
    info = tmp_path / "torn_plugin-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torn-plugin\nVersion: 2.1\n")
    points = f"[thirdparty.widgets]\ntorn_one = {module}:Widget\nfar = collections:OrderedDict\n"
    (info / "entry_points.txt").write_text(points)
    assert shelf.third_party_names() == ("far", "torn_one")
    with pytest.raises(
        EnvironmentUnfitError, match="widget 'torn_one' of torn-plugin 2.1 cannot be loaded"
    ) as error:
        shelf.get("torn_one")
    assert said in str(error.value) and "pip install" in str(error.value)
    for name in (
        "broken",
        "heavy",
        "torn",
    ):  # those of the shelf itself, which are broken in this test
        (tmp_path / "thirdparty" / "widgets" / f"{name}.py").unlink()
    assert set(shelf.loadable()) == {"far", "plain"}


class Least:
    """All that an encoder of others needs."""

    def __init__(self, model="m", pretrained="", device="cpu", dtype="fp32"):
        self.identity = (model, dtype)

    def encode_frames(self, prepared):
        return prepared

    def encode_text(self, texts):
        return texts


def test_third_party_encoder_needs_three_methods(monkeypatch):
    import numpy as np

    from vla.encoders import registry

    monkeypatch.setattr(
        registry,
        "_third_party",
        lambda: {"least": EntryPoint("least", f"{__name__}:Least", "vla.encoders")},
    )
    encoder = registry.build("least", pretrained="", device="cpu", dtype="fp16")
    assert (encoder.scale, encoder.max_concurrency, encoder.fits("x" * 1000)) == (20.0, 1, True)
    with encoder.one_thread_per_call():
        pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
        prepared = encoder.prepare(pixels)
    assert prepared.shape == (2, 3, 3, 4) and (prepared[1, 2] == pixels[1, :, :, 2]).all()


@pytest.mark.parametrize("member", ["encode_frames", "encode_text"])
def test_rejects_encoder_without_a_required_method(monkeypatch, member):
    from vla.encoders import registry

    monkeypatch.setattr(
        registry,
        "_third_party",
        lambda: {"least": EntryPoint("least", f"{__name__}:Least", "vla.encoders")},
    )
    monkeypatch.delattr(Least, member)
    with pytest.raises(EnvironmentUnfitError, match=f"'least' lacks {member}"):
        registry.build("least")


def test_missing_package_has_no_plug_ins():
    assert Registry("vla.nothing_here", "X").names() == ()


SYMBOL = {
    "decoders": "Decoder", "encoders": "Encoder", "datasets": "Dataset", "projectors": "Projector", "heads": "Head",
    "losses": "Loss", "indexes": "Index", "formats": "Format",
}  # fmt: skip


@pytest.mark.parametrize("shelf_name", SHELVES)
def test_every_own_plug_in_has_the_symbol(shelf_name):
    package = __import__(f"vla.{shelf_name}", fromlist=["registry"])
    assert (package.registry.package, package.registry.symbol) == (
        f"vla.{shelf_name}",
        SYMBOL[shelf_name],
    )
    assert package.registry.names()
    for name in package.registry.names():
        assert callable(package.registry.get(name))


@pytest.mark.parametrize(
    ("shelf_name", "kind"),
    [("indexes", "index"), ("losses", "loss"), ("encoders", "encoder"), ("heads", "head")],
)
def test_shelves_are_called_by_their_singular(shelf_name, kind):
    package = __import__(f"vla.{shelf_name}", fromlist=["registry"])
    with pytest.raises(UnknownNameError, match=f"^no {kind} is called 'nothing'"):
        package.registry.get("nothing")
