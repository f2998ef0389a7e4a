"""Fill the generated pages of the documentation site; `mkdocs.yml` names this file.

`reference/python-api.md` gets a block for each public name of `vla/__init__.pyi`, in the groups that the page lists, and
`development/decisions/index.md` a list of all decisions. So neither goes stale when a name or a file is added.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
STUB = DOCS.parent / "toolkit" / "vla" / "__init__.pyi"
_GROUP = re.compile(r"^<!-- api: (.*) -->$", re.MULTILINE)


def public_names() -> dict[str, str]:
    """Return the module of each public name."""
    found = re.findall(r"^from (\S+) import (\w+) as", STUB.read_text("utf-8"), re.MULTILINE)
    return {name: module for module, name in found}


def api_page(markdown: str) -> str:
    """Replace each `<!-- api: NAME ... -->` by the documentation of these names; `...` stands for all that are not named.

    Names that are no longer public are passed over, so that a rename only moves a name to the end of the page.
    """
    modules = public_names()
    named = {name for group in _GROUP.findall(markdown) for name in group.split()}

    def blocks(match: re.Match[str]) -> str:
        listed = match[1].split()
        names = (
            sorted(set(modules) - named)
            if listed == ["..."]
            else [name for name in listed if name in modules]
        )
        return "\n\n".join(f"::: {modules[name]}.{name}" for name in names)

    return _GROUP.sub(blocks, markdown)


def decisions() -> str:
    """Return a list of links to all decisions, each with its title."""
    rows = []
    for path in sorted((DOCS / "development" / "decisions").glob("*.md")):
        if path.name != "index.md":
            title = path.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")
            rows.append(f"- [{title}]({path.name})")
    return "\n".join(rows)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    if page.file.src_uri == "reference/python-api.md":
        return api_page(markdown)
    return markdown.replace("<!-- decisions -->", decisions())
