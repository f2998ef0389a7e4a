"""What a hostile video can do to the decoder's process, and that it costs that video alone."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from support.refusals import refused
from vla.causes import cause_of
from vla.decoders.isolated import Decoder
from vla.errors import DecodeError, EnvironmentUnfitError, ResourceError
from vla.sampling import at_fps

EVIL = """
import ctypes, os, signal, sys, time
from pathlib import Path
import numpy as np
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError
from vla.video import Frames, Video


class Reader:
    tick = staticmethod(lambda: None)
    report = DecodeReport(1.0, 1.0, 0, "", False)

    def __init__(self, path):
        self.path, self.video = path, Video(path, 1.0, 1.0, 4, 4, "evil")

    def sample(self, fps, chunk):
        for i in range(20):
            side = 4 if i < 10 else 300
            yield Frames(np.full((1, side, side, 3), i, np.uint8), np.array([float(i)]))
            if i == 3:
                getattr(self, self.path.stem)()

    def fine(self): pass
    def segfault(self): ctypes.string_at(0)
    def abort(self): os.abort()
    def leave(self): os._exit(0)
    def hang(self): time.sleep(600)
    def slow(self):
        for _ in range(30):
            time.sleep(0.1)
            self.tick()
    def hoard(self): self.kept = [np.empty(1 << 30, np.uint8) for _ in range(10)]
    def chatter(self): print("[\\"frame\\", [0, 9, 9, 0]]", flush=True); os.write(1, b"nonsense\\n")
    def raise_other(self): raise ZeroDivisionError("odd\\x1b[31m")
    def lie(self):
        for fd in range(3, 64):
            try:
                os.write(fd, b'["frame", [99999999999, 5, 5, 0.0]]\\n')
            except OSError:
                pass
    def refuse(self): raise DecodeError("evil: is no video", "no-frames")
    def kill(self): os.kill(os.getpid(), signal.SIGKILL)
    def terminate(self): os.kill(os.getpid(), signal.SIGTERM)
    def overtime(self): os.kill(os.getpid(), signal.SIGXCPU)
    def bus(self): os.kill(os.getpid(), signal.SIGBUS)
    def spin(self):
        while True: pass
    def no_room(self): os.posix_fallocate = self._refuse(28)
    def no_memory(self): os.posix_fallocate = self._refuse(12)
    def no_quota(self): os.posix_fallocate = self._refuse(122)
    def vast(self): os.posix_fallocate = self._refuse(27)
    def _refuse(self, number):
        def refuse(*given): raise OSError(number, "refused")
        return refuse
    def variables(self): raise DecodeError("has " + " ".join(sorted(os.environ)), "no-frames")
    def fill(self): open(self.path.parent / "filled", "wb").truncate(3 << 30)
    def __exit__(self, *_): pass


class Decoder:
    def __init__(self, max_pixels=0): pass
    def open(self, path): return Reader(path)
"""


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """The search path of a distribution whose plug-in does whatever the file is called."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "evil_decoder.py").write_text(EVIL)
    info = folder / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[vla.decoders]\nevil = evil_decoder:Decoder\n")
    return folder


@pytest.fixture
def timeout():
    return 60.0


@pytest.fixture
def decoder(evil, monkeypatch, timeout):
    monkeypatch.syspath_prepend(str(evil))
    made = Decoder(inner="evil", memory=3 << 30, timeout=timeout)
    yield made
    made.close()


def sampled(decoder, folder, name):
    """First pixel of every picture; all pictures of a chunk have one size here."""
    with decoder.open(folder / f"{name}.mp4") as reader:
        return [int(f.pixels[0, 0, 0, 0]) for f in reader.sample(at_fps(1), 1)]


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("segfault", "crashed", "SIGSEGV"), ("abort", "crashed", "SIGABRT"), ("leave", "crashed", "exit 0"),
        ("hoard", "memory", "more memory than"),
        ("raise_other", "crashed", "ZeroDivisionError"), ("refuse", "no-frames", "is no video"),
        ("fill", "crashed", "File too large|SIGXFSZ"), ("lie", "crashed", "sent an invalid message"),
        ("kill", "killed", "SIGKILL, as the system does when memory is short"), ("terminate", "killed", "SIGTERM"),
        ("overtime", "killed", "SIGXCPU"), ("bus", "crashed", "SIGBUS"),
        ("no_room", "resources", "No space left"), ("no_memory", "resources", "Cannot allocate memory"),
        ("no_quota", "resources", "quota"), ("vast", "too-large", "exceed the size limit of a decoder"),
    ],
)  # fmt: skip
def test_crash_costs_one_video(decoder, tmp_path, name, reason, says):
    with pytest.raises(DecodeError, match=says) as error:
        sampled(decoder, tmp_path, name)
    assert error.value.reason == reason
    assert str(error.value).startswith(f"{name}.mp4: ")
    assert sampled(decoder, tmp_path, "fine") == list(range(20))


@pytest.mark.parametrize("timeout", [2.0])
def test_hang_costs_one_video(decoder, tmp_path):
    test_crash_costs_one_video(decoder, tmp_path, "hang", "hung", "no heartbeat for 2 s")


def test_endless_computing_is_told_from_waiting(evil, tmp_path, monkeypatch):
    """Silence may be a disk that does not answer; computing without end is the video's own."""
    monkeypatch.syspath_prepend(str(evil))
    test_crash_costs_one_video(
        Decoder(inner="evil", cpu_timeout=1.0), tmp_path, "spin", "endless", "computed for too long"
    )
    assert cause_of("endless") == "content" and cause_of("hung") == "machine"


def test_a_pause_is_not_a_hang(evil, tmp_path):
    """Everything is stopped for longer than the timeout, as by suspend or `docker pause`, and goes on."""
    script = (
        "import sys; from pathlib import Path\n"
        "from vla.decoders.isolated import Decoder\n"
        "from vla.sampling import at_fps\n"
        "reader = Decoder(inner='evil', timeout=2.0).open(Path('slow.mp4'))\n"
        "frames = reader.sample(at_fps(1), 1)\n"
        "next(frames), print(reader._worker._process.pid, flush=True)\n"
        "print(1 + sum(1 for _ in frames))\n"
    )
    paths = os.pathsep.join([str(evil), *(p for p in sys.path if p)])
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        child = int(process.stdout.readline())
        for stop, proceed in (
            (process.pid, child),
            (child, process.pid),
        ):  # whichever wakes up first
            os.kill(stop, signal.SIGSTOP), os.kill(proceed, signal.SIGSTOP)
            time.sleep(2.5)
            os.kill(proceed, signal.SIGCONT), os.kill(stop, signal.SIGCONT)
        assert process.communicate(timeout=60)[0].strip() == "20"


def test_the_child_gets_no_secrets(decoder, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setenv("LC_TIME", "C")
    with pytest.raises(DecodeError) as error:
        sampled(decoder, tmp_path, "variables")
    names = str(error.value).split()
    assert {"PATH", "LC_TIME", "PYTHONPATH"} <= set(names) and not {
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
    } & set(names)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("what", ["subprocess.Popen", "tempfile.TemporaryFile"])
def test_no_process_available_is_no_verdict(decoder, tmp_path, monkeypatch, number, what):
    def refuse(*given, **named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(what, refuse)
    with pytest.raises(ResourceError, match=f"{os.strerror(number)}.*ulimit"):
        sampled(decoder, tmp_path, "fine")


def test_no_thread_available_leaves_no_process(decoder, tmp_path, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(ResourceError, match="can't start new thread"):
        sampled(decoder, tmp_path, "fine")


@pytest.mark.parametrize("program", ["/nowhere/python", os.devnull])
def test_an_interpreter_that_may_not_start(decoder, tmp_path, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    with refused(EnvironmentUnfitError, "decode_in_process", "cannot start a decoding process: "):
        sampled(decoder, tmp_path, "fine")


def test_a_package_that_is_missing_is_no_verdict(evil, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(evil))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    source = evil / "evil_decoder.py"
    source.write_text("import nothing_of_this_name\n" + EVIL)
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot start .*nothing_of_this_name"):
            sampled(Decoder(inner="evil"), tmp_path, "fine")
    finally:
        source.write_text(EVIL)


def test_library_output_is_not_a_message(decoder, tmp_path):
    assert sampled(decoder, tmp_path, "chatter") == list(range(20))


@pytest.mark.parametrize("timeout", [2.0])
def test_slow_is_not_hung(decoder, tmp_path):
    """Three seconds without a picture but with signs of life, where two seconds of silence are too many."""
    assert sampled(decoder, tmp_path, "slow") == list(range(20))


@pytest.mark.parametrize("timeout", [2.0])
def test_slow_start_of_the_worker_is_not_a_hang(decoder, evil, tmp_path, monkeypatch):
    """Before it is there no timeout counts: what it imports may lie on a slow disk of a busy machine."""
    source = evil / "evil_decoder.py"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    source.write_text("import time; time.sleep(3)\n" + EVIL)
    try:
        assert sampled(decoder, tmp_path, "chatter") == list(range(20))
    finally:
        source.write_text(EVIL)


def test_pictures_that_grow_get_more_room(decoder, tmp_path):
    with decoder.open(tmp_path / "fine.mp4") as reader:
        for i, frames in enumerate(reader.sample(at_fps(1), 1)):
            assert (frames.pixels == i).all()
            assert frames.pixels.shape[1] == (4 if i < 10 else 300)


def test_one_process_serves_many_videos(decoder, tmp_path):
    for _ in range(5):
        assert len(sampled(decoder, tmp_path, "fine")) == 20
    assert len(decoder._idle) == 1


def test_a_reader_that_is_left_in_the_middle_does_not_spoil_the_next(decoder, tmp_path):
    """Frames may still be asked for after the reader is closed: the next video must not get them."""
    with decoder.open(tmp_path / "fine.mp4") as reader:
        kept = reader.sample(at_fps(1), 1)
        next(kept)
    assert sampled(decoder, tmp_path, "fine") == list(range(20))
    kept.close()
    assert sampled(decoder, tmp_path, "fine") == list(range(20))


def test_sampling_anew_while_the_old_sampling_is_still_held(decoder, tmp_path):
    with decoder.open(tmp_path / "fine.mp4") as reader:
        kept = reader.sample(at_fps(1), 1)
        next(kept)
        fresh = reader.sample(at_fps(1), 1)
        result = [int(next(fresh).pixels[0, 0, 0, 0])]
        kept.close()
        result += [int(f.pixels[0, 0, 0, 0]) for f in fresh]
    assert result == list(range(20))


def test_two_videos_at_once(decoder, tmp_path):
    with decoder.open(tmp_path / "fine.mp4") as a, decoder.open(tmp_path / "fine.mp4") as b:
        pairs = list(zip(a.sample(at_fps(1), 1), b.sample(at_fps(1), 1), strict=True))
    assert all(np.array_equal(x.pixels, y.pixels) for x, y in pairs)
    assert len(decoder._idle) == 2


def test_no_process_is_left_behind(decoder, tmp_path):
    with decoder.open(tmp_path / "fine.mp4") as reader:
        process = reader._worker._process
        next(reader.sample(at_fps(1), 1))
    decoder.close()
    assert process.poll() is not None


def test_a_child_ends_with_its_parent(tmp_path, evil):
    """Killed without a chance to clean up: the child notices that its pipe is closed."""
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from vla.decoders.isolated import Decoder\n"
        "reader = Decoder(inner='evil').open(Path('fine.mp4'))\n"
        "print(reader._worker._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", script, str(evil)],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
    )
    child = int(done.stdout)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _is_gone(child):
        time.sleep(0.05)
    assert _is_gone(child)


def _is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
