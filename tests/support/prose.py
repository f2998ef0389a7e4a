"""Lint of the language of the library and of the command line: names, docstrings, line lengths.

    python tests/support/prose.py                    # counts per package; exits with 1 above a bound
    python tests/support/prose.py --list retrieval   # each offence of `vla.retrieval`, as file:line
    python tests/support/prose.py --list vla_cli     # of a whole distribution; paths work as well

Three things are counted:

- Participles used as names: `found`, `x_told`, `Kept`. The last word of a name decides, so
  `cached_texts` is no offence; a predicate (`is_found`) is none either. An adjective that the field
  uses by itself, such as `padded`, may name a variable, a parameter or a field. Bound: 0.
- "what", "which" and "who" in docstrings: below 0.6 per 100 words. Docstrings that begin with one
  of these or with "How": 0.
- Lines of more than 100 characters: below 2 %.

The ratios are bounded for each of `vla` and `vla_cli`, not for each package: a small package with
one such word would exceed them.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"vla": ROOT / "toolkit" / "vla", "vla_cli": ROOT / "cli" / "vla_cli"}

MAX_NAMES = 0
MAX_OPENINGS = 0
MAX_PRONOUNS_PER_100_WORDS = 0.6
MAX_LINE_LENGTH = 100
MAX_LONG_LINES_PERCENT = 2.0

# Irregular participles. Left out are those that also are nouns, verbs or adjectives of the field:
# `read`, `set`, `cut`, `split`, `run`, `put`, `hit`, `cost`, `bound`, `hidden`, `frozen`.
IRREGULAR = frozenset(
    """
    begun bent borne bought broken brought built caught chosen dealt drawn driven eaten fallen felt
    forgotten fought found given gone grown heard held hung kept known laid led left lent lost made
    meant met misled mistaken outgrown overwritten paid rewritten risen said seen sent shaken shot
    shown sold sought spent spoken spun stolen stood struck stuck sworn taken taught thought thrown
    told torn undone unmet unseen untaught untold withheld won worn woven written
    """.split()
)
# Words in -ed that are no participles. Words in -eed are none either, but for the second set.
OTHER_WORDS_IN_ED = frozenset("embed hundred jagged naked ragged sacred shed sled".split())
PARTICIPLES_IN_EED = frozenset("agreed decreed freed guaranteed".split())
# Adjectives that the field uses by themselves: states of a tensor or a file, entries of a diff,
# outcomes of a task. A function may end with one after a verb: `drop_deleted`.
FIELD_ADJECTIVES = frozenset(
    """
    added aligned cached centered completed cropped decoded deleted done embedded encoded failed
    interpolated isolated masked modified nested normalized packed padded pooled pretrained
    projected quantized removed renamed resized reversed rounded scaled shifted shuffled skipped
    smoothed sorted standardized supported unchanged unused weighted
    """.split()
)
# After one of these a participle is the adjective of a predicate or of a condition: `is_found`,
# `index_if_needed`.
BEFORE_PREDICATES = frozenset("is are was were has have had can needs if not when until on".split())
# Names of plug-ins and options that stay: users type them.
FIXED_NAMES = frozenset({"isolated", "distributed", "retry_failed"})
# Names that are data: keys of JSON that is on disk or printed, and of saved weights. Renaming them
# would refuse what earlier versions wrote. `unsupported` has no noun.
DATA_NAMES = {
    "cache/build.py": {"extracted"},
    "cache/text_store.py": {"damaged"},
    "decoders/base.py": {"dropped"},
    "evaluation/report_file.py": {"compared"},
    "heads/moments.py": {"seen"},
    "heads/open_qa.py": {"moved"},
    "indexing/config.py": {"chosen"},
    "indexing/index_record.py": {"gone", "asked", "measured"},
    "retrieval/searcher.py": {"unsupported"},
    "workflows/ask.py": {"unseen"},
    "workflows/demo.py": {"found", "used"},
    "workflows/encoder_choice.py": {"prepared"},
    "workflows/index.py": {"measured", "unsupported"},
    "workflows/open_workspace.py": {"num_unsupported", "unsupported"},
}
# Vague words that stand for a noun, where they are the whole name.
VAGUE_NAMES = frozenset({"place", "some"})

KINDS = ("name", "pronoun", "opening", "line")
PRONOUNS = re.compile(r"\b(what|which|who)\b", re.IGNORECASE)
OPENINGS = re.compile(r"\s*(what|which|who|how)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Offence:
    """A place in a source that the lint objects to.

    Attributes:
        path: the file.
        line: counted from 1.
        kind: one of `KINDS`.
        text: the name, the word or the length, for a reader.
    """

    path: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}: {self.kind}: {self.text}"


@dataclass
class Counts:
    """Offences of a package and the totals that they are a part of."""

    names: int = 0
    pronouns: int = 0
    openings: int = 0
    long_lines: int = 0
    docstring_words: int = 0
    lines: int = 0

    @property
    def pronouns_per_100_words(self) -> float:
        """Mean number of "what", "which" and "who" in 100 words of docstrings."""
        return 100 * self.pronouns / max(1, self.docstring_words)

    @property
    def long_lines_percent(self) -> float:
        """Percentage of lines of more than `MAX_LINE_LENGTH` characters."""
        return 100 * self.long_lines / max(1, self.lines)

    def add(self, other: Counts) -> None:
        """Add the counts of another package to these."""
        for field, value in vars(other).items():
            setattr(self, field, getattr(self, field) + value)


def words(name: str) -> list[str]:
    """Split an identifier at underscores and capitals: `_LostFile2` gives `lost` and `file2`."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", name)]


def is_participle(word: str) -> bool:
    """Return whether a lower-case word is a past participle, of the field or not."""
    if word in IRREGULAR or word in PARTICIPLES_IN_EED:
        return True
    return (
        word.endswith("ed")
        and len(word) > 3
        and not word.endswith("eed")
        and word not in OTHER_WORDS_IN_ED
    )


def is_bad_name(name: str, *, is_variable: bool) -> bool:
    """Return whether a name is a participle, or vague.

    Args:
        name: the identifier.
        is_variable: whether it names a variable, a parameter or a field; otherwise a function,
            a class or a module.
    """
    parts = words(name)
    if not parts or name in FIXED_NAMES:
        return False
    if len(parts) == 1 and parts[0] in VAGUE_NAMES:
        return True
    *before, last = parts
    if before and (before[0] in BEFORE_PREDICATES or before[-1] in BEFORE_PREDICATES):
        return False
    is_allowed = last in FIELD_ADJECTIVES and (is_variable or bool(before))
    return is_participle(last) and not is_allowed


def bindings(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Yield the names that a source binds, each once per function, with its line and its kind.

    A kind is "function", "class" or "variable"; a property counts as a variable.
    """

    def visit(node: ast.AST, scope: set[str]) -> Iterator[tuple[str, int, str]]:
        for child in ast.iter_child_nodes(node):
            inner = scope
            match child:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    is_property = any(
                        "property" in ast.unparse(decorator) for decorator in child.decorator_list
                    )
                    yield child.name, child.lineno, "variable" if is_property else "function"
                    inner = set()
                case ast.Lambda():
                    inner = set()
                case ast.ClassDef():
                    yield child.name, child.lineno, "class"
                    inner = set()
            for name in _bound_by(child):
                if name not in scope:
                    scope.add(name)
                    yield name, child.lineno, "variable"
            yield from visit(child, inner)

    return visit(tree, set())


def _bound_by(node: ast.AST) -> list[str]:
    """Names of variables, parameters and attributes that one node binds, without the nodes below it."""
    match node:
        case (
            ast.Name(id=name, ctx=ast.Store())
            | ast.Attribute(attr=name, ctx=ast.Store())
            | ast.arg(arg=name)
        ):
            return [name]
        case (
            ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
        ):
            return [name]
        case ast.alias(asname=str(name)):
            return [name]
    return []


def docstrings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the text and the line of each docstring, also those below constants and fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        can_have_own = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        for position, statement in enumerate(body):
            follows_value = position > 0 and isinstance(
                body[position - 1], ast.Assign | ast.AnnAssign
            )
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if follows_value or (
                    can_have_own and position == 0
                ):
                    yield text, statement.lineno


def check(source: str, path: Path) -> tuple[Counts, list[Offence]]:
    """Count the contents of a source and list its offences, in the order of the lines."""
    tree = ast.parse(source)
    lines = source.splitlines()
    counts = Counts(lines=len(lines))
    offences = []
    names = list(bindings(tree))
    # Beside "right" or "top" it is a side, otherwise a remainder.
    left_is_side = any(name in {"right", "top"} for name, _, _ in names)
    if path.stem != "__init__":
        names.insert(0, (path.stem, 1, "module"))
    data_names = DATA_NAMES.get("/".join(path.parts[-2:]), set())
    for name, line, kind in names:
        if is_bad_name(name, is_variable=kind == "variable") and not (
            (name == "left" and left_is_side) or name in data_names
        ):
            offences.append(Offence(path, line, "name", f"{kind} named {name!r}"))
    for text, first in docstrings(tree):
        counts.docstring_words += len(text.split())
        if opening := OPENINGS.match(text):
            offences.append(
                Offence(path, first, "opening", f"docstring begins with {opening[1]!r}")
            )
        for pronoun in PRONOUNS.finditer(text):
            line = first + text.count("\n", 0, pronoun.start())
            offences.append(Offence(path, line, "pronoun", f"{pronoun[1]!r} in a docstring"))
    for line, text in enumerate(lines, start=1):
        if len(text) > MAX_LINE_LENGTH:
            offences.append(Offence(path, line, "line", f"{len(text)} characters"))
    kinds = [offence.kind for offence in offences]
    counts.names, counts.pronouns = kinds.count("name"), kinds.count("pronoun")
    counts.openings, counts.long_lines = kinds.count("opening"), kinds.count("line")
    return counts, sorted(offences, key=lambda offence: offence.line)


def check_tree(root: Path) -> dict[Path, tuple[Counts, list[Offence]]]:
    """Check each Python file below a folder, or one file."""
    paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    return {path: check(path.read_text(encoding="utf-8"), path) for path in paths}


def count_packages(distribution: str) -> dict[str, Counts]:
    """Count the offences of each package of "vla" or "vla_cli".

    Modules at the top are counted under the name of the distribution.
    """
    packages: dict[str, Counts] = {}
    root = SOURCES[distribution]
    for path, (counts, _) in check_tree(root).items():
        folders = path.relative_to(root).parts[:-1]
        packages.setdefault(".".join((distribution, *folders[:1])), Counts()).add(counts)
    return packages


def excesses(counts: Counts) -> list[str]:
    """List the bounds that the counts of a distribution exceed, as text."""
    pronouns, long_lines = counts.pronouns_per_100_words, counts.long_lines_percent
    problems = []
    if counts.names > MAX_NAMES:
        problems.append(f"{counts.names} names are participles (bound {MAX_NAMES})")
    if pronouns >= MAX_PRONOUNS_PER_100_WORDS:
        bound = f"bound: below {MAX_PRONOUNS_PER_100_WORDS}"
        problems.append(f"{pronouns:.2f} what/which/who per 100 docstring words ({bound})")
    if counts.openings > MAX_OPENINGS:
        problems.append(
            f"{counts.openings} docstrings begin with what/which/who/how (bound {MAX_OPENINGS})"
        )
    if long_lines >= MAX_LONG_LINES_PERCENT:
        bound = f"bound: below {MAX_LONG_LINES_PERCENT:g} %"
        problems.append(
            f"{long_lines:.1f} % of lines exceed {MAX_LINE_LENGTH} characters ({bound})"
        )
    return problems


def source_of(package: str) -> Path:
    """Return the folder or file of a package, such as "retrieval" or "vla_cli.commands", or a path."""
    if Path(package).exists():
        return Path(package)
    first, *rest = package.split(".")
    root = SOURCES[first] if first in SOURCES else SOURCES["vla"] / first
    path = root.joinpath(*rest)
    path = path if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        raise SystemExit(f"error: {package!r} is no package of {' or '.join(SOURCES)}, and no path")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Print the table or the offences; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--list", metavar="PACKAGE", nargs="+", help="list each offence of packages, as file:line"
    )
    parser.add_argument("--kind", choices=KINDS, help="with --list: only these offences")
    options = parser.parse_args(arguments)
    if options.list:
        for package in options.list:
            for _, offences in check_tree(source_of(package)).values():
                for offence in offences:
                    if options.kind in (None, offence.kind):
                        print(offence)
        return 0
    columns = ("names", "wh-words", "per 100", "openings", "long lines", "%")
    print(f"{'package':<20}", *(f"{column:>10}" for column in columns))
    problems = []
    for distribution in SOURCES:
        total = Counts()
        packages = count_packages(distribution)
        for counts in packages.values():
            total.add(counts)
        for label, counts in [*packages.items(), (f"{distribution}, all", total)]:
            print(
                f"{label:<20} {counts.names:>10} {counts.pronouns:>10} "
                f"{counts.pronouns_per_100_words:>10.2f} {counts.openings:>10} "
                f"{counts.long_lines:>10} {counts.long_lines_percent:>10.1f}"
            )
        problems += [f"{distribution}: {problem}" for problem in excesses(total)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
