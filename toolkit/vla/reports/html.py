"""Render a page as one HTML file: no script, nothing from elsewhere, and every value escaped."""

from __future__ import annotations

import functools
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

# Control characters, lone surrogates and marks of text direction: a name must not disarrange the
# page.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes of `values`, whose texts are escaped
    unless they are `Markup`.
    """
    return _environment().get_template(template).render(**values)


def escape_text(value: object) -> Markup:
    """Return `value` as HTML: markup is escaped, and unsafe characters are written as their code
    points.
    """
    return escape(_visible(value))


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vla.reports"), autoescape=True, finalize=_visible, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _visible(value: object) -> str:
    return (
        value
        if isinstance(value, Markup)
        else _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", str(value))
    )
