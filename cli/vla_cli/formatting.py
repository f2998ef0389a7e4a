"""Format text for the terminal: escapes, plurals, sizes, durations, and the two consoles."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vla.hints import Note
from vla.language.plurals import plural as plural
from vla_cli.hints import hint_text, with_hint

if TYPE_CHECKING:
    from vla.omissions import Omissions

# Names and texts may contain escape sequences, newlines, direction marks and invisible characters.
# None of them must reach the terminal.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape(text: object) -> str:
    """Return `text` with unsafe characters written as escapes; everything printed passes here.

    Unsafe are control characters, lone surrogates, direction marks and tags. The hint of a note is
    appended.
    """
    return _UNSAFE.sub(_escape_character, with_hint(text))


def _escape_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def stdout_console() -> Console:
    """Return the console for results."""
    return Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty()
    )  # fmt: skip


def stderr_console() -> Console:
    """Return the console for notes, progress and errors."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print one line of the result on stdout."""
    console = stdout_console()
    console.print(Text(wrap(escape(text), console)))


def print_message(message: str, style: str = "") -> None:
    """Print a message on stderr; each of its lines is a paragraph."""
    write_message(message, message.split("\n"), stderr_console(), style)


def print_error(message: str, notes: Sequence[str] = (), hint: str = "") -> None:
    """Print an error on stderr, notes on it, and a hint, each on lines of its own."""
    console = stderr_console()
    write_message("", f"error: {message}".split("\n"), console, style="red")
    for note in notes:
        console.print(Text(wrap(escape(f"note: {note}"), console, indent="      ")))
    if hint:
        console.print(Text(wrap(escape(f"hint: {hint}"), console, indent="      ")))


def write_message(
    message: str, paragraphs: Sequence[str], console: Console, style: str = ""
) -> None:
    """Print the `paragraphs` of `message`, and a line `hint: ...` if it is a note with a hint."""
    lines = (wrap(escape(str(paragraph)), console) for paragraph in paragraphs)
    console.print(Text("\n".join(lines), style=style))
    if isinstance(message, Note) and message.hint is not None:
        hint = escape(f"hint: {hint_text(message.hint)}")
        console.print(Text(wrap(hint, console, indent="      ")))


def wrap(text: str, console: Console, indent: str = "") -> str:
    """Wrap `text` between words at the width of a terminal; without a terminal, return one line.

    Words wider than the terminal, such as paths, are not broken: a path with a newline cannot be
    copied.

    Args:
        text: one line.
        console: the console to print on.
        indent: prefix of all lines but the first.
    """
    if not console.is_terminal or len(text) <= console.width:
        return text
    return textwrap.fill(
        text, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip


def print_omissions(omissions: Omissions, console: Console, style: str = "") -> None:
    """Print `left out: ...` if there are omissions.

    The summary is one line, or one line for each reason on a terminal that is too narrow for it.
    """
    if not omissions:
        return
    text = escape(f"left out: {omissions.summary()}")
    if console.is_terminal and len(text) > console.width:
        reasons = [
            wrap(f"  {escape(reason)}", console, indent="    ") for reason in omissions.phrases()
        ]
        text = "\n".join(["left out:", *reasons])
    console.print(Text(text, style=style))


def format_bytes(count: int) -> str:
    """Return a number of bytes with a decimal unit, such as `2.0 kB` or `350 MB`."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def format_time(seconds: float) -> str:
    """Return a position as `H:MM:SS.s`, without the hours if they are 0."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def format_duration(seconds: float) -> str:
    """Return a duration with units, such as `4.5 s`, `9 min 30 s` or `2 h 5 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"
