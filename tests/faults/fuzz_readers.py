"""Damages good files at random and has our readers read them: `python fuzz_readers.py READER SEED SECONDS`.

A process of its own, with limited memory: what a reader does to it must be nothing. It prints how many files were refused and
how many were read all the same; it ends with an error if a reader raised anything but an error of ours.
"""

import random
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EDGES = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
WORDS = [b'"', b"{", b"[", b"}", b"]", b",", b"\n", b"\r", b"\0", b"\t", b"-", b"1e999", b"NaN", b"null", b"-->", b"\xff\xfe",
         b"\xef\xbb\xbf", b"00:00:01,000 --> 00:00:00,000", b"9" * 400, b"\xed\xa0\x80", b"[" * 3000, b'{"a":' * 2000]  # fmt: skip


def damaged(good: bytes, rng: random.Random) -> bytes:
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 4, 8, 30))):
        size = len(content)
        if not size:
            break
        workspace = rng.randrange(size)
        kind = rng.randrange(8)
        if kind == 0:
            content[workspace] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[workspace] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((1, 2, 4, 8))
            edge = (rng.choice(EDGES) + rng.randrange(-2, 3)) % (1 << (8 * width))
            content[workspace : workspace + width] = edge.to_bytes(
                width, rng.choice(("little", "big"))
            )
        elif kind == 3:
            del content[workspace:]
        elif kind == 4:
            del content[workspace : workspace + rng.randrange(1, 64)]
        elif kind == 5:
            other = rng.randrange(size)
            content[workspace:workspace] = content[other : other + rng.randrange(1, 256)]
        elif kind == 6:
            content[workspace:workspace] = rng.choice(WORDS)
        else:
            content[workspace : workspace + 8] = struct.pack(
                "<d", rng.choice((float("nan"), float("inf"), -1.0, 1e308))
            )
    return bytes(content)


def shard_frames():
    from vla.cache.shard import frames_image, read_frames
    from vla.features import FrameFeatures

    values = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float16)
    return [frames_image(FrameFeatures("v", values, np.arange(20.0), 20.0))], lambda c: read_frames(
        c, "v", 20.0
    )


def shard_texts():
    from vla.cache.shard import read_texts, texts_image
    from vla.features import TextFeatures

    rng = np.random.default_rng(0)
    mask = np.arange(5)[None] < np.array([[3], [5], [1]])
    tokens = rng.standard_normal((3, 5, 8)).astype(np.float16) * mask[..., None]
    features = TextFeatures(
        ("a", "bä", "c d"), rng.standard_normal((3, 8)).astype(np.float16), tokens, mask
    )
    return [texts_image(features)], lambda c: read_texts(c, "t")


def index():
    from vla.indexes import registry

    kinds = {}
    for name in registry.names():
        made = registry.build(name, {}, dim=8)
        made.add(
            np.arange(30), np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
        )
        kinds[made.to_bytes()] = name
    current = [""]

    def read(content):
        result = registry.get(current[0]).from_bytes(content)
        with np.errstate(all="ignore"):
            result.search(np.ones((1, result.dim), np.float32), 5)

    def choose(good):
        current[0] = kinds[good]

    read.choose = choose
    return list(kinds), read


def captions():
    from vla.datasets._open import read_annotations

    goods = {
        ".csv": b'video,caption,start,end\na.mp4,"a dog, a cat",0,2.5\nb.mp4,rain,1:02,1:05\n',
        ".tsv": b"video\tcaption\tsplit\na.mp4\ta dog\ttrain\n",
        ".jsonl": b'{"video": "a.mp4", "caption": "a dog", "spans": [[0, 2.5]]}\n{"video": "b", "caption": "rain", "start": 1, "end": 2}\n',
        ".JSON": b'[{"videoID": "a", "timestamp": [["0:01", "0:02"], [3, 4]], "caption": ["a dog", "rain"]}]',
        ".JSONL": b'{"video": "a", "question": "what?", "choices": ["a", "b"], "answer": "B"}\n{"video": "b", "question": "n?", "count": 3}',
        ".CSV": b'sep=;\r\nYoutubeID;Start (ms);End (ms);Caption\r\na;1500;2500;a dog\r\nb;nan;nan;rain\r\n',
        ".VTT": b"WEBVTT\n\n00:01.000 --> 00:02.000\n \na<00:01.500><c> dog</c>\n\n00:02.000 --> 00:03.000\na dog\nruns\n",
        ".ass": b"[Events]\nFormat: Layer, Start, End, Text\nDialogue: 0,0:00:01.00,0:00:02.50,{\\b1}a dog\\Nruns\n",
        ".json": b'[{"video": "a.mp4", "caption": "a dog", "start": 0, "end": 2}, {"video": "b", "caption": "rain"}]',
        ".srt": b"1\n00:00:01,000 --> 00:00:02,500\na dog\n\n2\n00:00:03,000 --> 00:00:04,000\n<i>rain</i>\n",
        ".vtt": b"WEBVTT\n\n00:01.000 --> 00:02.500 line:0\na dog\n\nNOTE x\n\n00:03.000 --> 00:04.000\nrain\n",
    }  # fmt: skip
    return _by_suffix({content: suffix for suffix, content in goods.items()}, read_annotations)


def beside():
    """What lies beside a video: JSON of recognisers and players, texts."""
    from vla.datasets._open import read_sidecar
    from vla.omissions import Omissions

    goods = {
        ".json": b'{"text": "a dog", "segments": [{"start": 0.0, "end": 1.0, "text": " a dog", "tokens": [1]}], "language": "en"}',
        ".JSON": b'{"transcription": [{"timestamps": {"from": "00:00:00,000", "to": "00:00:01,000"}, "text": " a dog"}]}',
        ".Json": b'{"events": [{"tStartMs": 0, "dDurationMs": 900}, {"tStartMs": 0, "dDurationMs": 9, "segs": [{"utf8": "a dog"}]}]}',
        ".txt": b"a dog\nrain\n",
        ".srt": b"1\n00:00:01,000 --> 00:00:02,500\na dog\n",
    }
    return _by_suffix(
        {content: suffix for suffix, content in goods.items()},
        lambda path: read_sidecar(path, "v", Omissions()),
    )


def released_features():
    """Files of features in every format."""
    import io
    import json
    import tarfile

    import h5py
    import torch

    values, times = (
        np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32),
        np.arange(20.0),
    )
    made = {suffix: io.BytesIO() for suffix in (".npy", ".npz", ".pt", ".h5", ".tar")}
    np.save(made[".npy"], values)
    np.savez_compressed(made[".npz"], features=values, timestamps=times)
    torch.save(
        {"features": torch.from_numpy(values), "times": torch.from_numpy(times)}, made[".pt"]
    )
    with h5py.File(made[".h5"], "w") as file:
        file["a/features"], file["a/timestamps"] = values, times
        file.create_dataset("b", data=values, chunks=(7, 8), compression="gzip", shuffle=True)
    many = {".NPZ": io.BytesIO(), ".PT": io.BytesIO(), ".H5": io.BytesIO()}
    np.savez(many[".NPZ"], v_one=values, v_two=values[:5])
    torch.save(
        {"v_one": torch.from_numpy(values), "v_two": {"c3d": torch.from_numpy(values)}}, many[".PT"]
    )
    with h5py.File(many[".H5"], "w") as file:
        file["v_0/c3d_features"], file["v_1/c3d_features"], file["fps"] = values, values[None], 25.0
    made |= many
    with tarfile.open(fileobj=made[".tar"], mode="w") as archive:
        record = json.dumps({"video": "v", "timestamps_seconds": times.tolist()}).encode()
        for name, content in {
            "b_1.0_2.5.npy": made[".npy"].getvalue(),
            "a.npy": made[".npy"].getvalue(),
            "a.json": record,
            "b.npy": made[".npy"].getvalue(),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return _released({buffer.getvalue(): suffix for suffix, buffer in made.items()})


def parquet():
    """What reads it may crash, in a process of its own; ours must not."""
    import pandas

    values, times = (
        np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32),
        np.arange(20.0),
    )
    frame = pandas.DataFrame(
        {"video": ["a"] * 12 + ["b"] * 8, "timestamp_seconds": times, "feature": list(values)}
    )
    return _released({frame.to_parquet(): ".parquet"})


def _released(kinds):
    from vla.errors import FormatError
    from vla.formats import registry
    from vla.formats.base import ArrayKeys

    formats = {s: registry.build(n) for n in registry.names() for s in registry.get(n).suffixes}

    def read_all(path):
        faults = []
        for stored in formats[path.suffix.lower()].contents(path, ArrayKeys()):
            try:
                result = stored.read()
                assert (
                    result.values.ndim == 2
                    and np.isfinite(result.values).all()
                    and result.values.nbytes < 1 << 20
                )
            except FormatError as error:
                faults.append(error)
        if faults:
            raise faults[0]

    return _by_suffix(kinds, read_all)


def _by_suffix(kinds, read_file):
    """Contents with the suffix that each is read under, and what reads one of them as a file."""
    path = Path(tempfile.mkdtemp()) / "v"
    current = [path]

    def read(content):
        current[0].write_bytes(content)
        read_file(current[0])

    def choose(good):
        current[0] = path.with_suffix(kinds[good])

    read.choose = choose
    return list(kinds), read


def texts_with_vectors():
    """Files of texts with their vectors."""
    import io
    import json

    from vla.formats._texts import read_texts

    vectors = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    texts = ["a dog", "b", "ü", "rain falls"]
    npz = io.BytesIO()
    np.savez_compressed(npz, texts=np.array(texts), pooled=vectors)
    rows = [
        json.dumps({"text": t, "vector": v.tolist()}) for t, v in zip(texts, vectors, strict=True)
    ]
    kinds = {
        npz.getvalue(): ".npz",
        "\n".join(rows).encode(): ".jsonl",
        f"[{','.join(rows)}]".encode(): ".json",
    }
    return _by_suffix(kinds, read_texts)


def records():
    """JSON beside shards: receipts, the cache's own description, an index's."""
    import json

    from vla.cache.receipts import Receipt
    from vla.storage.atomic import read_json

    receipt = Receipt(
        "a/b.mp4",
        "ok",
        "",
        123,
        456,
        "c0ffee",
        frames=20,
        duration_seconds=9.5,
        coverage=1.0,
        codec="h264",
    )
    folder = Path(tempfile.mkdtemp())

    def read(content):
        path = folder / "r.json"
        path.write_bytes(content)
        Receipt.from_json(read_json(path), str(path))

    return [json.dumps(receipt.to_json()).encode()], read


MOST_SECONDS = 5
"""Of processor time, child processes included: what else the machine does is no fault of the reader. The test that runs this
sees to it that nothing waits for ever."""


def _seconds():
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _ours(error):
    from vla.errors import VlaError

    if not isinstance(error, VlaError | MemoryError):
        raise error


def main():
    reader, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    goods, read = globals()[reader]()
    for good in goods:
        getattr(read, "choose", lambda g: None)(good)
        read(good)
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    refused = accepted = number = 0
    slowest = 0.0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rng = random.Random(f"{reader} {seed} {number}")
        good = rng.choice(goods)
        getattr(read, "choose", lambda g: None)(good)
        content = damaged(good, rng)
        Path(sys.argv[4]).write_bytes(content)  # what killed us can be looked at
        began = _seconds()
        try:
            read(content)
            accepted += 1
        except Exception as error:
            try:
                _ours(error)
            except Exception:
                print(f"{reader} seed {seed} number {number}", file=sys.stderr)
                raise
            refused += 1
        slowest = max(slowest, _seconds() - began)
        number += 1
    print(
        f"{reader}: {number} damaged files, {refused} refused, {accepted} read, slowest {slowest * 1000:.0f} ms"
    )
    assert slowest < MOST_SECONDS


if __name__ == "__main__":
    main()
