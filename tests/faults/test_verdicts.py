"""Failures end with their reason: content condemns a video until it changes, the machine never does, and no video is no failure."""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

import vla
from support.refusals import refused
from vla.cache import build, receipts
from vla.cache.plan import make_plan
from vla.cache.receipts import Receipt, software
from vla.cache.store import EncoderSource, FeatureCache, active_cache
from vla.causes import DOUBTFUL, cause_of, reason_of
from vla.decoders.pyav import Decoder
from vla.encoders.toy import Encoder
from vla.errors import DecodeError, EnvironmentUnfitError, ResourceError
from vla.sampling import at_fps
from vla.storage.workspace import Workspace

TOY = vla.EncoderChoice(encoder="toy", sampling="fps=5")


class Scripted(Decoder):
    """Decodes, except that the next openings of a name raise what `script` has for it; `all` is for every name."""

    def __init__(self, script):
        super().__init__()
        self.script = {name: list(errors) for name, errors in script.items()}
        self.open_now, self.most_open, self.lock = set(), {}, threading.Lock()

    def open(self, path):
        for key in (path.name, "all"):
            if self.script.get(key):
                error = self.script[key][0]
                if key != "all":
                    del self.script[key][0]
                if error is not None:
                    with self.lock:
                        self.most_open.setdefault(path.name, []).append(len(self.open_now))
                    raise error
        reader, leave = super().open(path), self.open_now.discard
        self.open_now.add(path.name)
        real = reader.__exit__

        class Reader(type(reader)):
            def __exit__(self, *given):
                leave(path.name)
                return real(*given)

        reader.__class__ = Reader
        return reader


@pytest.fixture
def extracted(tmp_path, clip):
    """`extracted(script, names)` extracts clips with a scripted decoder; returns receipts by name, and the decoder."""
    workspace = Workspace.open_or_create(tmp_path)
    cache = FeatureCache.create(
        workspace.caches, Encoder("6").identity.spec("fps=5"), EncoderSource("toy", "6", "")
    )

    def run(script, names=("a.mp4", "b.mp4", "c.mp4"), **options):
        paths = [
            tmp_path / n if (tmp_path / n).exists() else clip(n, frames=10 + i, fps=5)
            for i, n in enumerate(names)
        ]
        decoder = Scripted(script)
        plan = make_plan(cache, paths, workspace, **options)
        report = build.extract_videos(cache, Encoder("6"), decoder, plan, at_fps(5), workers=2)
        return {r.video_id: r for r in report.receipts}, decoder, [v for v, _ in plan.todo]

    run.cache = cache
    return run


def failing(reason):
    return DecodeError(f"b.mp4: {reason} it is", reason)


@pytest.mark.parametrize("reason", sorted(DOUBTFUL))
def test_doubtful_failure_is_retried_alone(extracted, reason):
    result, decoder, _ = extracted({"b.mp4": [failing(reason)]})
    assert {r.status for r in result.values()} == {"ok"}
    result, decoder, _ = extracted({"b.mp4": [failing(reason), failing(reason)]}, overwrite=True)
    assert decoder.most_open["b.mp4"][-1] == 0, "other videos were still being decoded"


@pytest.mark.parametrize("reason", sorted(DOUBTFUL))
def test_repeated_failure_is_assigned_a_cause(extracted, reason):
    result, _, _ = extracted({"b.mp4": [failing(reason)] * 2})
    assert {v: r.status for v, r in result.items()} == {
        "a.mp4": "ok",
        "b.mp4": "failed",
        "c.mp4": "ok",
    }
    assert result["b.mp4"].cause == cause_of(reason) and result["b.mp4"].reason == f"{reason} it is"
    again, _, todo = extracted({})
    if cause_of(reason) == "content":
        assert todo == [] and again["b.mp4"] == result["b.mp4"]
    else:
        assert todo == ["b.mp4"] and again["b.mp4"].status == "ok"


UNEXPECTED = [TypeError("open() got an unexpected keyword argument"), AttributeError("no attribute"), ImportError("no av"),
              IndexError("out of range"), AssertionError()]  # fmt: skip


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda e: type(e).__name__)
def test_broken_decoder_marks_no_video_as_failed(extracted, error):
    """As PyAV 19, which dropped an argument: its TypeError came with every video."""
    with refused(EnvironmentUnfitError, "doctor", f"fails on a test clip.*{type(error).__name__}"):
        extracted({"all": [error]})
    assert extracted.cache.receipts == {}
    assert {r.status for r in extracted({})[0].values()} == {"ok"}


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda e: type(e).__name__)
def test_video_that_crashes_the_decoder_stops_no_other(extracted, monkeypatch, error):
    result, _, _ = extracted({"b.mp4": [error] * 2})
    assert {v: r.status for v, r in result.items()} == {
        "a.mp4": "ok",
        "b.mp4": "failed",
        "c.mp4": "ok",
    }
    assert result["b.mp4"].cause == "content" and type(error).__name__ in result["b.mp4"].reason
    assert extracted({})[2] == []
    # Other versions may do better: they are given a chance, once.
    monkeypatch.setattr(receipts, "software", lambda: "av 99")
    assert extracted({})[2] == ["b.mp4"]


SHORTAGES = [
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
]


@pytest.mark.parametrize("number", SHORTAGES, ids=errno.errorcode.get)
def test_exhausted_machine_stops_the_command(extracted, number):
    with pytest.raises(ResourceError, match=os.strerror(number)):
        extracted({"all": [OSError(number, os.strerror(number))]})
    assert not [r for r in extracted.cache.receipts.values() if not r.has_features]
    assert {r.status for r in extracted({})[0].values()} == {"ok"}


OTHERS = [
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EACCES,
    errno.EPERM,
    errno.ENXIO,
    errno.EHOSTDOWN,
    errno.EBUSY,
]


@pytest.mark.parametrize("number", [*SHORTAGES, *OTHERS], ids=errno.errorcode.get)
def test_unreadable_file_is_retried_by_the_next_command(extracted, number):
    result, _, _ = extracted({"b.mp4": [OSError(number, os.strerror(number))] * 2})
    assert (result["b.mp4"].status, result["b.mp4"].cause) == ("failed", "machine")
    assert os.strerror(number) in result["b.mp4"].reason
    result, _, todo = extracted({})
    assert todo == ["b.mp4"] and result["b.mp4"].status == "ok"


def test_memory_shortage_is_no_verdict(extracted):
    assert extracted({"b.mp4": [MemoryError()]})[0]["b.mp4"].status == "ok"
    assert extracted({"b.mp4": [MemoryError()] * 2}, overwrite=True)[0]["b.mp4"].cause == "machine"


def test_machine_failure_keeps_earlier_features(extracted):
    before = extracted({})[0]
    result, _, _ = extracted({"b.mp4": [OSError(errno.EIO, "I/O error")] * 2}, overwrite=True)
    assert result["b.mp4"].status == "failed"
    assert extracted.cache.receipts["b.mp4"] == before["b.mp4"] and extracted.cache.frames("b.mp4")


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOENT, "missing"), (errno.ELOOP, "missing"), (errno.ENOTDIR, "missing"), (errno.EACCES, "permission"),
     (errno.EMFILE, "resources"), (errno.ENOSPC, "resources"), (errno.EIO, "unreadable"), (errno.ESTALE, "unreadable"),
     (None, "unreadable"), (123456, "unreadable")],
)  # fmt: skip
def test_the_table(number, reason):
    assert reason_of(OSError(number, "said") if number else OSError("said")) == reason
    assert cause_of(reason) in ("machine", "user")
    assert cause_of("a plug-in's own") == "content"


# What older versions left


REASONS = [
    "the decoder crashed (TypeError: open() got an unexpected keyword argument 'metadata_errors')",
    "cannot be read: Too many open files", "not enough memory to decode it", "permission denied",
    "the decoder hung: no heartbeat for 60 s", "the decoder crashed (SIGKILL)", "No such file or directory",
]  # fmt: skip


def test_old_machine_failures_are_retried(tmp_path, clip):
    """Records of the first version have no cause: whatever they say is found out anew, once."""
    for i in range(len(REASONS)):
        clip(f"v/{i}.mp4", frames=10 + i, fps=5)
    (tmp_path / "v" / "text.mp4").write_text("no video " * 9)
    vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav")
    folder = active_cache(Workspace.open(tmp_path).caches).folder
    for path in (folder / "videos").glob("*.json"):
        record = json.loads(path.read_text())
        for name in ("checksum", "digest", "cause", "software"):
            del record[name]
        number = record["video_id"].removeprefix("v/").removesuffix(".mp4")
        if number.isdigit():
            record |= {
                "status": "failed",
                "reason": REASONS[int(number)],
                "shard": "",
                "sha256": "",
                "frames": 0,
            }
        path.write_text(json.dumps(record))
    report = vla.extract(
        [tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav"
    )
    assert report.extracted == len(REASONS) + 1 and [r.video_id for r in report.problems] == [
        "v/text.mp4"
    ]
    again = vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav")
    assert again.extracted == 0 and [r.video_id for r in again.problems] == ["v/text.mp4"]


OLDER = ("checksum", "digest", "cause", "software")
"""What records of the first version lack."""


def test_old_features_stay(tmp_path, clip):
    clip("v/a.mp4", frames=10, fps=5)
    vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav")
    folder = active_cache(Workspace.open(tmp_path).caches).folder
    path = next((folder / "videos").glob("*.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in OLDER}))
    assert vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1).extracted == 0


def test_receipts_have_the_cause(tmp_path, clip):
    clip("v/a.mp4", frames=10, fps=5)
    clip("v/torn.mkv", frames=60, fps=10)
    torn = tmp_path / "v" / "torn.mkv"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    (tmp_path / "v" / "empty.mp4").touch()
    report = vla.extract(
        [tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav"
    )
    assert {r.video_id: r.cause for r in report.receipts} == {
        "v/a.mp4": "", "v/torn.mkv": "content", "v/empty.mp4": "content",
    }  # fmt: skip
    assert {r.software for r in report.receipts} == {software()} and "av " in software()
    assert Receipt("x", "failed", "", 0, 0, "", cause="content", software="av 1").is_final is False


# The user's


@pytest.fixture
def no_videos(tmp_path, clip):
    """A folder with a video, sound alone, and links to nowhere."""
    import av
    import numpy as np

    clip("v/a.mp4", frames=10, fps=5)
    for name, codec in (("song.mp4", "aac"), ("song.mkv", "flac"), ("song.avi", "mp3")):
        with av.open(str(tmp_path / "v" / name), "w") as output:
            stream = output.add_stream(codec, rate=44100)
            shape = {"aac": "fltp", "flac": "s16", "mp3": "fltp"}[codec]
            sound = np.zeros((1, 4096), np.int16 if shape == "s16" else np.float32)
            frame = av.AudioFrame.from_ndarray(sound, format=shape, layout="mono")
            frame.sample_rate, frame.pts = 44100, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    (tmp_path / "v" / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "v" / "round.mkv").symlink_to("round.mkv")
    return tmp_path


def test_file_without_video_is_not_a_failure(no_videos):
    for extracted in (1, 0):
        report = vla.extract([no_videos / "v"], workspace=no_videos, choice=TOY, workers=1)
        assert report.problems == [] and report.extracted == extracted and len(report.videos) == 1
        assert report.omissions.counts == {"broken-link": 2, "no-video": 3}
    planned = vla.estimate([no_videos / "v"], workspace=no_videos)
    assert planned.omissions.counts == {"broken-link": 2, "no-video": 3} and planned.todo == []
    first = vla.estimate([no_videos / "v"], workspace=no_videos / "new", choice=TOY)
    assert first.omissions.counts == {"broken-link": 2, "no-video": 3}
    assert first.unreadable == {} and [os.path.basename(n) for n in first.todo] == ["a.mp4"]


# Limits of the real system


LIMITED = """
import resource, sys
from pathlib import Path
limit, value, folder = getattr(resource, sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
import vla
import torch
resource.setrlimit(limit, (value, value))
try:
    report = vla.extract([folder / "v"], workspace=folder, choice=vla.EncoderChoice(encoder="toy", sampling="fps=5"), workers=4)
    print("done", len(report.problems))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="named: no such limits on Windows")
@pytest.mark.parametrize(
    ("limit", "value"),
    [("RLIMIT_NOFILE", 12), ("RLIMIT_NOFILE", 20), ("RLIMIT_NOFILE", 40), ("RLIMIT_FSIZE", 3000)],
)
def test_no_video_fails_under_a_resource_limit(tmp_path, clip, limit, value):
    for i in range(6):
        clip(f"v/{i}.mp4", frames=10 + i, fps=5)
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, limit, str(value), str(tmp_path)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.stdout.startswith(("ResourceError", "done 0")), done.stdout + done.stderr
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1)
    assert {r.status for r in report.receipts} == {"ok"} and len(report.receipts) == 6


def test_a_file_that_changes_while_it_is_read(tmp_path, clip, monkeypatch):
    """Grown, rewritten at the same size with its old time, and replaced by another file of the same size and time."""

    def grow(path):
        with path.open("ab") as file:
            file.write(b"more")

    def rewrite(path):
        status = path.stat()
        with path.open("r+b") as file:
            file.seek(status.st_size // 2)
            file.write(b"\0\0\0\0")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def replace(path):
        status, content = path.stat(), path.read_bytes()
        path.unlink()
        time.sleep(0.02)
        path.write_bytes(content[:-1] + b"x")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    real = Encoder.prepare
    for name, change in (("grown", grow), ("rewritten", rewrite), ("replaced", replace)):
        path, once = clip(f"{name}/a.mp4", frames=20, fps=5), threading.Event()

        def prepare(self, pixels, path=path, change=change, once=once):
            if not once.is_set():
                once.set()
                change(path)
            return real(self, pixels)

        monkeypatch.setattr(Encoder, "prepare", prepare)
        report = vla.extract([path.parent], workspace=tmp_path / name, choice=TOY, workers=1)
        assert [(r.status, r.cause) for r in report.receipts] == [("skipped", "machine")], name
        assert "changed while it was read" in report.receipts[0].reason
        again = vla.extract([path.parent], workspace=tmp_path / name, choice=TOY, workers=1)
        assert again.extracted == 1 and again.receipts[0].has_features, name
