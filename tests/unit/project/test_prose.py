"""The language lint: its rules on small sources, its bounds on the tree."""

from pathlib import Path

import pytest

from support import prose


def offences(source: str, kind: str, path: str = "module.py") -> list[tuple[int, str]]:
    return [
        (offence.line, offence.text)
        for offence in prose.check(source, Path(path))[1]
        if offence.kind == kind
    ]


@pytest.mark.parametrize(
    "name",
    [
        "found",
        "_told",
        "x_found",
        "WANTED",
        "KeptRows1Seen",
        "listed",
        "measured",
        "left_unseen",
        "place",
        "_some",
    ],
)
def test_counts_participles_and_vague_words(name):
    assert prose.is_bad_name(name, is_variable=True)


@pytest.mark.parametrize(
    "name",
    [
        "cached_texts",
        "found_rows",
        "is_found",
        "index_if_needed",
        "padded",
        "hidden",
        "seed",
        "embed",
        "speed",
        "ragged",
        "place_of",
        "retry_failed",
        "_",
        "x2",
    ],
)
def test_accepts_nouns_predicates_and_adjectives_of_the_field(name):
    assert not prose.is_bad_name(name, is_variable=True)


@pytest.mark.parametrize(
    ("name", "is_bad"), [("padded", True), ("Aligned", True), ("drop_deleted", False)]
)
def test_adjectives_of_the_field_name_no_function_or_class(name, is_bad):
    assert prose.is_bad_name(name, is_variable=False) == is_bad


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def found(): pass", [1]),
        ("class Found: pass", [1]),
        ("def f(told, *asked, wanted=1, **known): pass", [1] * 4),
        ("def f():\n    found = 1\n    found = 2\n\ndef g():\n    found = 1", [2, 6]),
        ("for seen, kept in rows: pass", [1, 1]),
        ("x = [seen for seen in rows]", [1]),
        ("x = lambda told: told", [1]),
        ("with open(x) as told: pass", [1]),
        ("try: pass\nexcept OSError as told: pass", [2]),
        ("import numpy as found", [1]),
        ("if (found := 1): pass", [1]),
        ("class A:\n    found: int = 0", [2]),
        (
            "class A:\n    @property\n    def padded(self): pass\n    @cached_property\n    def told(self): pass",
            [5],
        ),
        ("self.found = 1", [1]),
        ("match x:\n    case [told, *seen]: pass", [2, 2]),
        ("print(x.found, f(found=1), found)", []),
        ("left = rows", [1]),
        ("left, right = rows", []),
    ],
)
def test_checks_every_place_where_a_name_is_bound(source, lines):
    assert [line for line, _ in offences(source, "name")] == lines


def test_checks_the_name_of_the_module():
    assert offences("", "name", "seen.py") == [(1, "module named 'seen'")]
    assert offences("", "name", "__init__.py") == []


def test_counts_pronouns_in_docstrings_only():
    source = '''"""Rows, which are sorted.

What and WHO.
"""

LIMIT = 1
"""Rows which fit."""


def f():
    """Return whatever is left."""
    # which one
    return "which"


print("what")
'''
    assert [line for line, _ in offences(source, "pronoun")] == [1, 3, 3, 7]
    counts, _ = prose.check(source, Path("module.py"))
    assert (counts.pronouns, counts.docstring_words) == (4, 14)


@pytest.mark.parametrize(
    "opening", ["What a row is.", "\n    Which rows.", "how to sort.", "Who calls."]
)
def test_counts_docstrings_that_begin_with_a_question_word(opening):
    assert len(offences(f'def f():\n    """{opening}"""', "opening")) == 1


def test_accepts_a_docstring_that_begins_with_however():
    assert offences('"""However long."""', "opening") == []


def test_counts_lines_over_the_length():
    longest = "#" * prose.MAX_LINE_LENGTH
    assert offences(f"{longest}\n{longest}#", "line") == [(2, "101 characters")]


def test_bounds():
    assert (
        prose.excesses(prose.Counts(pronouns=5, docstring_words=1000, long_lines=1, lines=100))
        == []
    )
    assert len(prose.excesses(prose.Counts(1, 6, 1, 2, docstring_words=1000, lines=100))) == 4


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("storage", "toolkit/vla/storage"),
        ("vla.storage.atomic", "toolkit/vla/storage/atomic.py"),
        ("vla", "toolkit/vla"),
        ("vla_cli.commands", "cli/vla_cli/commands"),
    ],
)
def test_finds_the_source_of_a_package(package, path):
    assert prose.source_of(package) == prose.ROOT / path


def test_rejects_a_package_that_is_not_there():
    with pytest.raises(SystemExit, match="no package"):
        prose.source_of("vla.nowhere")


def test_lists_offences_with_file_and_line(tmp_path, capsys):
    (tmp_path / "module.py").write_text('"""Which."""\nfound = 1\n')
    assert prose.main(["--list", str(tmp_path), "--kind", "name"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'module.py'}:2: name: variable named 'found'\n"


def test_tree_is_within_the_bounds():
    assert prose.main([]) == 0
