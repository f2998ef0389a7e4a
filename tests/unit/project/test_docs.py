"""The documents agree with the code: files, links, modules, classes, options and decisions that they name."""

import functools
import re
import unicodedata
from importlib import util
from pathlib import Path

import pytest
import typer  # noqa: TID251 - the options' own declarations

from vla_cli.main import app

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "toolkit" / "vla"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
OTHERS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "toolkit/README.md",
        "cli/README.md",
    )
]
DOCUMENTS = [*OTHERS, *DOCS]
DECISIONS = ROOT / "docs" / "development" / "decisions"


def relative(path):
    return path.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=relative)


def prose(path):
    """The text without code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@functools.cache
def anchors(path):
    """The ids that mkdocs and other renderers give the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        plain = (
            unicodedata.normalize("NFKD", re.sub(r"[`*]", "", heading))
            .encode("ascii", "ignore")
            .decode()
            .lower()
        )
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


@each_document
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{relative(path)} links to {target}"
        generated = relative(there) == "docs/reference/python-api.md"
        assert not heading or generated or heading in anchors(there), (
            f"{relative(path)} links to {target}"
        )


@each_document
def test_files_that_are_named_exist(path):
    text = path.read_text("utf-8")
    for name in re.findall(
        r"\b(?:tests|examples|cli|toolkit|docs|\.ci)/[\w/.-]*\w\.(?:py|pyi|md|toml|txt)\b", text
    ):
        if DECISIONS not in path.parents:  # a decision may name a file that it removed
            assert (ROOT / name).is_file(), f"{relative(path)} names {name}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_each_term_of_the_glossary_has_its_module():
    rows = re.findall(
        r"^\| (.+?) \| .+ \| `(\S+)` \|$",
        (ROOT / "docs" / "glossary.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) > 100
    for term, module in rows:
        path = ROOT / "toolkit" / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), (
            f"{term}: {module}"
        )
    terms = [term for term, _ in rows]
    assert terms == sorted(set(terms), key=str.lower)


def test_modules_and_classes_of_the_architecture_exist():
    text = (ROOT / "docs" / "development" / "architecture.md").read_text("utf-8")
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        known = (ROOT / name, LIBRARY / name, LIBRARY / "evaluation" / name)
        assert any(path.is_file() for path in known) or name == "base.py", name
    for row in re.findall(r"^\| (`[A-Z].*?) \| (`.*?\.py`) \|", text, re.MULTILINE):
        source = "".join(
            (LIBRARY / name).read_text("utf-8") for name in re.findall(r"`(.*?)`", row[1])
        )
        for name in re.findall(r"`(\w+)`", row[0]):
            assert re.search(rf"^class {name}\b", source, re.MULTILINE), (
                f"{name} is not a class of {row[1]}"
            )


def options():
    """Return the options of each command."""
    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {}).values()
        ours = {
            o for c in (command, *inner) for p in c.params for o in (*p.opts, *p.secondary_opts)
        }
        found[name] = ours | {"--help"}
    return found


COMMANDS = [path for path in DOCUMENTS if relative(path) != "docs/reference/cli.md"]


@pytest.mark.parametrize("path", COMMANDS, ids=relative)
def test_options_that_are_named_exist(path):
    known = options()
    every = set().union(*known.values())
    text = re.sub(r"\\\n\s*", "", path.read_text("utf-8"))
    for line in re.findall(r"^vla \S.*$", text, re.MULTILINE) + re.findall(
        r"`(vla \S[^`]*)`", text
    ):
        words = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", line).split("#")[0].split()
        for option in (word.split("=")[0] for word in words[2:] if word.startswith("--")):
            assert option in known.get(words[1], every), (
                f"{relative(path)}: vla {words[1]} has no {option}"
            )
    if (ROOT / "docs" / "guides") in path.parents or path.name in ("concepts.md", "quickstart.md"):
        others = {"--force-reinstall", "--index-url", "--nproc_per_node", "--torch-backend"}
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in every | others, f"{relative(path)}: no command has {option}"


def test_public_names_of_the_api_page_are_public():
    spec = util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text("utf-8")
    named = {
        name for group in re.findall(r"<!-- api: (.*) -->", page) for name in group.split()
    } - {"..."}
    assert named <= set(hooks.public_names()), (
        f"no longer public: {named - set(hooks.public_names())}"
    )
    generated = hooks.api_page(page)
    for name, module in hooks.public_names().items():
        assert (
            generated.count(f"::: {module}.{name}\n") + generated.endswith(f"{module}.{name}") == 1
        ), name


def test_decisions_have_a_title_and_are_short():
    for path in DECISIONS.glob("*.md"):
        assert path.read_text("utf-8").startswith("# "), path.name
        assert len(path.read_text("utf-8").splitlines()) <= 40, path.name
