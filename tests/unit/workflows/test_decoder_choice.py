"""The decoder that is used: the safe one unless another is named, and the fastest only where that was measured."""

import pytest

from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.pyav import Decoder
from vla.errors import UnknownNameError
from vla.sampling import at_fps
from vla.workflows import decoder_choice


def test_default_decoder_is_isolated(tmp_path):
    assert type(decoder_choice.open_decoder(None, [], at_fps(1), print)) is decoders.get(DEFAULT)
    assert type(decoder_choice.open_decoder("pyav", [], at_fps(1), print)) is Decoder
    with pytest.raises(UnknownNameError, match="torchcodec"):
        decoder_choice.open_decoder("torchcodecs", [], at_fps(1), print)


@pytest.mark.parametrize(
    ("rates", "chosen"), [((10, 50), "quick"), ((50, 55), DEFAULT), ((50, 10), DEFAULT)]
)
def test_fastest_needs_a_minimum_speedup(rates, chosen, monkeypatch):
    """The safe one is kept unless another is clearly faster; what was measured is said."""
    there = {DEFAULT: (DEFAULT, {}), "quick": ("pyav", {"whole": True}), "broken": "not here"}
    speed = dict(zip((DEFAULT, "pyav"), rates, strict=True))
    monkeypatch.setattr(decoder_choice, "candidates", lambda: there)
    monkeypatch.setattr(
        decoder_choice,
        "measure_frame_rate",
        lambda candidate, videos, sampling: speed[candidate[0]],
    )
    notes = []
    best = decoder_choice.open_decoder(decoder_choice.FASTEST, [], at_fps(1), notes.append)
    assert type(best) is decoders.get(there[chosen][0])
    assert (
        notes[0].message == f"decoder {chosen} (frames/s: {DEFAULT} {rates[0]}, quick {rates[1]})"
    )


def test_measures_the_first_readable_video(clip, tmp_path):
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(b"no video")
    good = clip(fps=10, frames=60)
    assert decoder_choice.measure_frame_rate((DEFAULT, {}), [torn, good], at_fps(10)) > 0
    assert decoder_choice.measure_frame_rate((DEFAULT, {}), [torn], at_fps(10)) == 0


def test_candidates_explain_unusable_decoders():
    for name, candidate in decoder_choice.candidates().items():
        if isinstance(candidate, str):
            assert candidate and name != DEFAULT
        else:
            decoders.build(*candidate).close()


@pytest.mark.skipif(
    isinstance(decoder_choice.candidates()["torchcodec"], str),
    reason="named: torchcodec cannot be used here",
)
def test_isolated_torchcodec_decodes(clip, monkeypatch):
    """Not PyAV, which takes over from it wherever it fails."""
    from vla.decoders.pyav import PyavReader

    def never(*_):
        raise AssertionError("PyAV decoded")

    path = clip(fps=10, frames=60, bframes=2)
    monkeypatch.setattr(PyavReader, "_decode_planned", never)
    monkeypatch.setattr(PyavReader, "_decode", never)
    with decoders.build("torchcodec").open(path) as reader:
        assert sum(len(frames) for frames in reader.sample(at_fps(2))) == 12
