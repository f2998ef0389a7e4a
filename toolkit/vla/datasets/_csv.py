"""CSV records with line numbers, and detection of the delimiter."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from vla.datasets._reading import Problems

_DELIMITERS = ",;\t"
_FIELD_LIMIT = 10 * 2**20
# Excel writes this line before the header; it is not a row.
_SEP = re.compile(r'\s*"?sep=([^"\r\n])"?[,;\t]*[ \t]*(\r\n|\r|\n)', re.IGNORECASE)


def delimiter_of(text: str, usual: str = "") -> str:
    """Return the delimiter of a line `sep=;`, else `usual`, else the most frequent one of the
    header.
    """
    declaration = _SEP.match(text)
    if declaration:
        return declaration[1]
    header = next(line for line in io.StringIO(text, newline="") if line.strip())
    return usual or max(_DELIMITERS, key=header.count)


def records_of(
    text: str, delimiter: str, has_quotes: bool, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line, fields)` of each record that is not blank; unreadable records are added to
    `problems`.

    Args:
        text: content of the file.
        delimiter: field delimiter.
        has_quotes: whether fields may be quoted.
        problems: receives the faults.
    """
    declaration = _SEP.match(text)
    num_skipped_lines = len(re.findall(r"\r\n|\r|\n", declaration[0])) if declaration else 0
    # newline="" splits at \n, \r\n and a lone \r as they stand; str.splitlines would also split
    # inside captions.
    lines = io.StringIO(text[declaration.end() :] if declaration else text, newline="")
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        skipinitialspace=has_quotes,
        quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
    )
    while True:
        line = reader.line_num + 1 + num_skipped_lines
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(
                line, f"{error}; is a quotation mark missing? The rest of the file was not read"
            )
            return
        finally:
            csv.field_size_limit(limit)
        if any(field.strip() for field in fields):
            yield line, fields
