"""Text made fit for the screen: escapes, plurals, sizes and times, and the two consoles it goes to."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vla.hints import Note
from vla_cli.hints import worded, wording

if TYPE_CHECKING:
    from vla.omissions import Omissions

# Names and texts hold escape sequences, newlines, marks that turn text around and characters that nobody sees; none of them
# reaches the terminal.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def shown(text: object) -> str:
    """`text` with control characters, lone surrogates, direction marks and tags written out: the edge of everything printed.

    A note brings its way out along.
    """
    return _UNSAFE.sub(_escape, worded(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 video`, `1,224 frames`; `nouns` where the plural is not `noun` with an s."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def out() -> Console:
    """Where results go."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Where everything else goes."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def line(text: str) -> None:
    """A line of the result on stdout."""
    console = out()
    console.print(Text(folded(shown(text), console)))


def say(message: str, style: str = "") -> None:
    """A message for the person, on stderr; each of its lines is a paragraph."""
    print_message(message, message.split("\n"), err(), style)


def print_message(message: str, paragraphs: Sequence[str], console: Console, style: str = "") -> None:
    """Print `paragraphs`, those of `message`, and a line `hint: ...` where the message is a note with a way out."""
    console.print(Text("\n".join(folded(shown(str(part)), console) for part in paragraphs), style=style))
    if isinstance(message, Note) and message.hint is not None:
        console.print(Text(folded(shown(f"hint: {wording(message.hint)}"), console, indent="      ")))


def folded(text: str, console: Console, indent: str = "") -> str:
    """`text` in lines as wide as a terminal, broken between words; elsewhere one line.

    Words wider than the terminal, such as paths, stay whole: a path that holds a newline cannot be copied.

    Args:
        text: one line.
        console: where it goes.
        indent: in front of all lines but the first.
    """
    if not console.is_terminal or len(text) <= console.width:
        return text
    return textwrap.fill(
        text, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip


def print_left_out(omissions: Omissions, console: Console, style: str = "") -> None:
    """Print `left out: ...` if anything was: one line; on a terminal that it does not fit, a line for each reason."""
    if not omissions:
        return
    text = shown(f"left out: {omissions.summary()}")
    if console.is_terminal and len(text) > console.width:
        reasons = [folded(f"  {shown(reason)}", console, indent="    ") for reason in omissions.phrases()]
        text = "\n".join(["left out:", *reasons])
    console.print(Text(text, style=style))


def size(count: int) -> str:
    """Bytes as people say them."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def clock(seconds: float) -> str:
    """`H:MM:SS.s`, without hours where there are none."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"
