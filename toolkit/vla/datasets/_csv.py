"""Records of CSV text with their lines, and the delimiter between fields."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from vla.datasets._reading import Problems

_DELIMITERS = ",;\t"
_FIELD_LIMIT = 10 * 2**20
# Excel reads and writes this in front of the header; it is no row.
_SEP = re.compile(r'\s*"?sep=([^"\r\n])"?[,;\t]*[ \t]*(\r\n|\r|\n)', re.IGNORECASE)


def delimiter_of(text: str, usual: str = "") -> str:
    """The delimiter that a line `sep=;` names, else the `usual` one, else the one that the header has most of."""
    named = _SEP.match(text)
    if named:
        return named[1]
    header = next(line for line in io.StringIO(text, newline="") if line.strip())
    return usual or max(_DELIMITERS, key=header.count)


def records_of(text: str, delimiter: str, quoted: bool, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """`(line, fields)` of each record that is not blank; what cannot be read goes to `problems`.

    Args:
        text: of the whole file.
        delimiter: between fields.
        quoted: fields may be in quotes.
        problems: where faults go.
    """
    named = _SEP.match(text)
    skipped = len(re.findall(r"\r\n|\r|\n", named[0])) if named else 0
    # newline="" splits at \n, \r\n and a lone \r as they stand; str.splitlines would also split inside captions.
    lines = io.StringIO(text[named.end() :] if named else text, newline="")
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        skipinitialspace=quoted,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    while True:
        line = reader.line_num + 1 + skipped
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(line, f"{error}; is a quote opened and not closed? What follows could not be read")
            return
        finally:
            csv.field_size_limit(limit)
        if any(field.strip() for field in fields):
            yield line, fields
