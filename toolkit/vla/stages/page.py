"""An HTML page in one file: no script, nothing from elsewhere, and nothing of what it shows is taken for HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape

# Control characters, lone surrogates and marks that turn text around: a name must not disarrange the page.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5a6068; --line: #d9dce0; --back: #ffffff; --raised: #f5f6f8;
  --blue: #0b63b5; --red: #a8321d; --green: #1a6b3c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a3abb5; --line: #3a4048; --back: #15181c;
  --raised: #1e2329; --blue: #6cb2f7; --red: #f2937f; --green: #79cf9b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, figcaption { color: var(--soft); }
.verdict { border-left: .3rem solid var(--blue); padding: .4rem .8rem; background: var(--raised); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .25rem 0 1rem; }
caption { text-align: left; padding: .6rem 0 .2rem; font-weight: 600; white-space: nowrap; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; }
.n { text-align: right; }
.reason { display: inline-block; min-width: 14rem; white-space: normal; }
.up { color: var(--green); } .down { color: var(--red); }
.facts th { color: var(--soft); font-weight: 400; } .facts td { overflow-wrap: anywhere; white-space: normal; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; margin: .5rem 0 1rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 2.5rem; } .tables .wide { max-width: 100%; }
figure { margin: 0; } figcaption { font-size: .85rem; } figcaption b { color: var(--ink); font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); } svg .base { stroke: var(--soft); stroke-dasharray: 4 3; fill: none; }
svg .curve { stroke: var(--blue); stroke-width: 2; fill: none; stroke-linejoin: round; } svg .dot { fill: var(--blue); }
td svg { width: 9rem; height: 1.1rem; } svg .track { stroke: var(--line); stroke-width: 2; }
svg .range { stroke: var(--blue); stroke-width: 5; opacity: .45; } svg .floor { stroke: var(--red); stroke-width: 2; }
svg .before { fill: var(--back); stroke: var(--ink); stroke-width: 1.5; }
details { margin: .5rem 0; } summary { cursor: pointer; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def safe(text: object) -> str:
    """`text` as HTML: what has a meaning in HTML is escaped, what has none to be seen is written out."""
    return escape(_UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", str(text)), quote=True)


def page(title: str, body: Sequence[str]) -> str:
    """A whole document. `title` is text, `body` HTML."""
    head = (
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY, quote=True)}">\n'
        f"<title>{safe(title)}</title>\n<style>{_STYLE}</style>"
    )
    content = "\n".join(body)
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str, numeric: Collection[str] = ()) -> str:
    """A table in a box of its own that scrolls sideways where the screen is narrow; the first cell of a row is its header.

    `columns` and `caption` are text, cells are HTML.
    """
    kinds = [' class="n"' if column in numeric else "" for column in columns]
    head = "".join(f'<th scope="col"{kind}>{safe(column)}</th>' for column, kind in zip(columns, kinds, strict=True))
    lines = [
        f'<tr><th scope="row"{kinds[0]}>{row[0]}</th>'
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    ]
    content = "\n".join(lines)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{safe(caption)}"><table>\n'
        f"<caption>{safe(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{content}\n</tbody>\n</table></div>"
    )


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """What is so, by name: a table without a head. Both are text."""
    rows = "\n".join(f'<tr><th scope="row">{safe(name)}</th><td>{safe(value)}</td></tr>' for name, value in pairs)
    return f'<table class="facts">\n<tbody>\n{rows}\n</tbody>\n</table>'


def folded(summary: str, content: str) -> str:
    """`content` (HTML) that is shown when asked for."""
    return f"<details><summary>{safe(summary)}</summary>\n{content}\n</details>"
