"""Whatever a benchmark's file holds in place of what it should, it is read or refused by an error of ours, never otherwise."""

import csv
import json
import random

import pytest

from contract.test_datasets import FIXTURES
from faults.fuzz_readers import damaged
from vla.datasets import registry
from vla.errors import AnnotationError

DEEP = json.loads("[" * 200 + "]" * 200)
HOSTILE = [None, True, -1, 0, 10**400, float("nan"), "", "\0", "\ud800", "1e999", "x" * 5000, [], {}, [[]], [[1, 0]], {"a": 1},
           {"location": {"a": [[None, None]]}}, DEEP]  # fmt: skip

# What lies beside a file and is read with it.
BESIDE = {
    "activitynet_qa": ("val_a.json", '[{"question_id": "v_a_2", "answer": "no", "type": 3}]'),
    "charades_sta": ("Charades_v1_test.csv", "id,length\n3MSZA,31\n"),
    "msrvtt": ("MSRVTT_train.9k.csv", "video_id\nvideo0\n"),
    "msvd": ("train_list.txt", "-4wsuPCjDBc_5_15\n"),
    "msvd_qa": ("youtube_mapping.txt", "a_1_2 vid1301\n"),
    "nextqa": (
        "gsub_val.json",
        '{"4010069381": {"duration": 57, "location": {"6": [[25.8, 32.3]]}, "fps": 29.97}}',
    ),
}
names = sorted(set(FIXTURES) - {"table", "subtitles", "sidecar"})


def places(value, path=()):
    """The path of everything in a JSON value, itself included."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, element in inner:
        yield from places(element, (*path, key))


def with_value(value, path, new):
    """A JSON value with `new` at `path`; without that place at all where `new` is `...`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if new is ... and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


def variants(file, text):
    """The file with each of its values replaced, one at a time."""
    if file.endswith(".json"):
        whole = json.loads(text)
        for number, path in enumerate(places(whole)):
            # Each place has half of them, like places both halves.
            values = HOSTILE[number % 2 :: 2] + [...] * bool(path)
            yield from (json.dumps(with_value(whole, path, new)) for new in values)
    elif file.endswith(".jsonl"):
        for variant in variants("row.json", text.split("\n")[0]):
            yield f"{variant}\n{text}"
    else:
        delimiter = "\t" if "\t" in text else " " if "," not in text else ","
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, quoting=csv.QUOTE_NONE))
        for path in list(places(rows))[1:]:
            for new in [h for h in HOSTILE if isinstance(h, str | int | float)]:
                content = with_value(rows, path, [new] if len(path) == 1 else new)
                yield "".join(delimiter.join(map(str, row)) + "\n" for row in content)


def read_outcome(name, paths):
    """1 if they were read, 0 if they were refused by an error of ours."""
    try:
        registry.build(name).read(*paths)
    except AnnotationError as error:
        assert str(error)
        return 0
    return 1


@pytest.mark.parametrize("name", names)
def test_strange_values_are_rejected_or_read(name, tmp_path):
    files = [
        (FIXTURES[name].file, FIXTURES[name].text),
        *([BESIDE[name]] if name in BESIDE else []),
    ]
    for file, text in files:
        (tmp_path / file).write_text(text)
    paths = [tmp_path / file for file, _ in files]
    assert read_outcome(name, paths) == 1
    outcomes = []
    for path, (file, text) in zip(paths, files, strict=True):
        for variant in variants(file, text):
            path.write_bytes(variant.encode("utf-8", "surrogatepass"))
            outcomes.append(read_outcome(name, paths))
        path.write_text(text)
    assert len(outcomes) > 40 and 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("name", names)
def test_damaged_bytes_are_rejected_or_read(name, tmp_path):
    files = [
        (FIXTURES[name].file, FIXTURES[name].text),
        *([BESIDE[name]] if name in BESIDE else []),
    ]
    rng = random.Random(name)
    for number in range(60):
        damage = number % len(files)
        for index, (file, text) in enumerate(files):
            (tmp_path / file).write_bytes(
                damaged(text.encode(), rng) if index == damage else text.encode()
            )
        read_outcome(name, [tmp_path / file for file, _ in files])


@pytest.mark.parametrize("name", names)
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5000,
        b"\xff\xfe",
        b"\0" * 100,
        b"[]",
        b"{}",
        b"null",
        b"\n,\n",
    ],
)
def test_rejects_nonsense(name, content, tmp_path):
    path = tmp_path / FIXTURES[name].file
    path.write_bytes(content)
    assert read_outcome(name, [path]) == 0
