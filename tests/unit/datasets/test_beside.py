"""JSON beside a video: what recognisers and players write, and what says something else."""

import json

import pytest

from vla.datasets._reading import OtherContentError
from vla.datasets.sidecar import Dataset
from vla.errors import AnnotationError

BOTH = [("A dog runs.", ((0, 1),)), ("A cat sleeps.", ((1, 2),))]


def read(folder, value, indent=None):
    path = folder / "x.json"
    path.write_text(json.dumps(value, indent=indent))
    dataset = Dataset()
    return [(a.query, a.spans) for a in dataset.read(path)], dataset.omissions.counts


def segment(start, end, text, **more):
    return {
        "id": 0,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": [1],
        "temperature": 0.0,
        **more,
    }


TRANSCRIPTS = {
    "whisper": {"text": " A dog runs. A cat sleeps.", "segments": [segment(0.0, 1.0, " A dog runs."), segment(1.0, 2.0, " A cat sleeps.")],
                "language": "en"},
    "whisperx": {"segments": [segment(0, 1, "A dog runs.", words=[{"word": "A", "start": 0, "end": 0.2}]), segment(1, 2, "A cat sleeps.")],
                 "word_segments": [{"word": "A", "start": 0.0, "end": 0.2, "score": 0.9}]},
    "transformers": {"text": "A dog runs. A cat sleeps.", "chunks": [{"timestamp": [0.0, 1.0], "text": "A dog runs."},
                                                                  {"timestamp": [1.0, 2.0], "text": " A cat sleeps."}]},
    "whisper.cpp": {"systeminfo": "AVX", "model": {"type": "base"}, "result": {"language": "en"}, "transcription": [
        {"timestamps": {"from": "00:00:00,000", "to": "00:00:01,000"}, "offsets": {"from": 0, "to": 1000}, "text": " A dog runs."},
        {"timestamps": {"from": "00:00:01,000", "to": "00:00:02,000"}, "offsets": {"from": 1000, "to": 2000}, "text": " A cat sleeps."}]},
    "json3": {"wireMagic": "pb3", "events": [
        {"tStartMs": 0, "dDurationMs": 9000, "id": 1, "wpWinPosId": 1},
        {"tStartMs": 0, "dDurationMs": 1000, "segs": [{"utf8": "A dog"}, {"utf8": " runs.", "tOffsetMs": 300}]},
        {"tStartMs": 1000, "dDurationMs": 10, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 1000, "dDurationMs": 1000, "segs": [{"utf8": "A cat\nsleeps."}]}]},
    "youtube-transcript-api": [{"text": "A dog runs.", "start": 0.0, "duration": 1.0}, {"text": "A cat sleeps.", "start": 1, "duration": 1}],
    "faster-whisper": [{"start": 0, "end": 1, "text": " A dog runs."}, {"start": 1, "end": 2, "text": "A cat sleeps."}],
    "deepgram": {"metadata": {"duration": 2}, "results": {"utterances": [
        {"start": 0, "end": 1, "confidence": 0.9, "transcript": "A dog runs."}, {"start": 1, "end": 2, "transcript": "A cat sleeps."}]}},
    "lists": {"captions": [{"startTime": "0:00", "endTime": "0:01", "caption": "A dog runs."},
                           {"startTime": "0:01", "endTime": "0:02", "caption": "A cat sleeps."}]},
    "sentences": [{"segment": [0, 1], "sentence": "A dog runs."}, {"segment": [1, 2], "sentence": "A cat sleeps."}],
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSCRIPTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_reads_output_of_speech_recognizers(kind, indent, tmp_path):
    assert read(tmp_path, TRANSCRIPTS[kind], indent) == (BOTH, {})


def test_reads_captions_beside_a_transcript(tmp_path):
    assert read(tmp_path, {"caption": "two animals", **TRANSCRIPTS["whisper"]})[0] == [
        ("two animals", ()),
        *BOTH,
    ]


def test_moments_without_an_end_or_a_length_are_counted(tmp_path):
    chunks = [
        {"timestamp": [0.0, 1.0], "text": "A dog runs."},
        {"timestamp": [1.0, None], "text": "cut"},
    ]
    assert read(tmp_path, {"text": "x", "chunks": chunks}) == (BOTH[:1], {"cue": 1})
    segments = [segment(0, 1, "A dog runs."), segment(1, 1, "right")]
    assert read(tmp_path, {"text": "x", "segments": segments}) == (BOTH[:1], {"cue": 1})


OTHERS = {
    "takeout": {"title": "IMG_1.MOV", "description": "", "imageViews": "3", "creationTime": {"timestamp": "1258549448"},
                "geoData": {"latitude": 0.0}, "url": "https://photos.google.com/x"},
    "labelme": {"version": "5.0", "flags": {}, "shapes": [{"label": "dog", "points": [[1, 2], [3, 4]]}], "imagePath": "x.jpg"},
    "coco": {"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [{"id": 1, "bbox": [1, 2, 3, 4], "category_id": 1}]},
    "detections": [{"label": "dog", "score": 0.9, "box": [1, 2, 3, 4]}],
    "numbers": [[0.1, 0.2], [0.3, 0.4]],
    "probe": {"streams": [{"codec_name": "h264", "start_time": "0.0"}], "format": {"duration": "2.0"}},
    "empty": {},
    "nothing": [],
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_rejects_json_without_captions(kind, tmp_path):
    with pytest.raises(OtherContentError):
        read(tmp_path, OTHERS[kind])


def test_reads_descriptions_in_metadata(tmp_path):
    assert read(tmp_path, {**OTHERS["takeout"], "description": "Our dog at the lake"})[0] == [
        ("Our dog at the lake", ())
    ]


def test_faults_of_moments_have_lines(tmp_path):
    segments = [segment(0, 1, "fine"), segment(2, 1, "backwards"), segment(0, 1, 7)]
    with pytest.raises(
        AnnotationError,
        match=r"line \d+: span 2.0 to 1.0 s must end .*\n.*caption must be text, not 7",
    ):
        read(tmp_path, {"segments": segments}, 1)
