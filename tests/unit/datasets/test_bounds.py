"""Inputs that were made to take memory or time, and things that are no files: each is refused at once, with its reason."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla.datasets._open import read_annotations
from vla.encoders._tokenizer import read_vocabulary
from vla.errors import AnnotationError, UsageError, VlaError
from vla.storage.regular_files import read_regular
from vla.training.config import read_recipe
from vla_cli.parsing import read_queries

BOMBS = {
    "lists.json": ("[", "[],", 60, "]"),
    "objects.json": ("[", "{},", 60, "]"),
    "numbers.json": ("[", "1,", 60, "1]"),
    "texts.json": ("[", '"",', 60, "1]"),
    "small.json": ("[", '{"a":1},', 60, "1]"),
    "nested.json": ('[{"video": "v", "caption": "a", "x": [', "[],", 60, "1]}]"),
    "lines.jsonl": ("", "[]\n", 60, ""),
    "rows.jsonl": ("", '{"a":1}\n', 60, ""),
    "one.jsonl": ('{"video": "v", "caption": [', "[],", 60, "1]}"),
    "rows.csv": ("video,caption\n", "a\n", 60, ""),
    "columns.csv": ("", "a,", 60, "\n1\n"),
    "blank.csv": ("video,caption\n", ",\n", 60, ""),
    "cues.srt": ("", "1\n00:00:01,000 --> 00:00:02,000\nx\n\n", 24, ""),
}
CODE = """
import resource, sys, time
from pathlib import Path
from vla.datasets._open import read_annotations
from vla.errors import AnnotationError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_annotations(Path(sys.argv[1]))
except AnnotationError as error:
    print(str(error)[:300])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.process_time())
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", BOMBS)
def test_rejects_files_with_too_many_values(file, tmp_path):
    """In a process of its own: its memory is measured."""
    start, repeated, megabytes, end = BOMBS[file]
    path = tmp_path / file
    path.write_text(start + repeated * (megabytes * 2**20 // len(repeated)) + end)
    done = subprocess.run(
        [sys.executable, "-c", CODE, path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *message, figures = done.stdout.strip().rsplit("\n", 1)
    grown, seconds = map(float, figures.split())
    assert path.name in message[0]
    assert grown < 30 * megabytes and seconds < 60, (grown, seconds)


def special(folder, kind):
    path = folder / f"x.{kind}.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "broken":
        path.symlink_to(folder / "nothing")
    elif kind == "loop":
        path.symlink_to(path)
    return path


READERS = {
    "captions": read_annotations, "recipe": read_recipe, "queries": read_queries, "vocabulary": read_vocabulary, "bytes": read_regular,
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no pipes here")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "broken", "loop", "missing"])
@pytest.mark.parametrize("reader", READERS)
def test_rejects_special_files_without_blocking(reader, kind, tmp_path):
    path = special(tmp_path, kind)
    with pytest.raises(
        VlaError, match="not a regular file|there is no file|cannot be opened"
    ) as excinfo:
        READERS[reader](path)
    assert path.name in str(excinfo.value)


@pytest.mark.parametrize("kind", ["bomb", "large", "text", "cut", "damaged"])
def test_rejects_invalid_vocabularies(kind, tmp_path):
    packed = gzip.compress(b"a b\n" * 1000)
    contents = {
        "bomb": gzip.compress(b"\0" * (64 << 20)), "large": b"\0" * (9 << 20), "text": b"a b\n", "cut": packed[:-9],
        "damaged": packed[:20] + b"xxxx" + packed[24:],
    }  # fmt: skip
    (tmp_path / "bpe.txt.gz").write_bytes(contents[kind])
    with pytest.raises(
        UsageError, match=r"bpe.txt.gz (unpacks to more|is not gzipped|has \d+ bytes, more)"
    ):
        read_vocabulary(tmp_path / "bpe.txt.gz")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="named: no /proc here")
def test_limits_files_that_grow_while_being_read(tmp_path):
    with pytest.raises(UsageError, match="has more than the 10 bytes"):
        read_regular(Path("/proc/self/environ"), 10)
    (tmp_path / "x").write_bytes(b"12345678901")
    with pytest.raises(UsageError, match="has 11 bytes, more than the 10"):
        read_regular(tmp_path / "x", 10)
    (tmp_path / "x").write_bytes(b"1234567890")
    assert read_regular(tmp_path / "x", 10) == b"1234567890"


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\0" * 10, b"a,b\0c\n", b"\xff\xfe", b"\xff\xfe\0"]
)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "srt", "vtt", "ass"])
def test_rejects_empty_files(content, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"x\."):
        read_annotations(path)
