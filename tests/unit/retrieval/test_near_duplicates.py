"""Near-duplicates are merged: re-encoded, trimmed and compiled videos; merely similar videos are not."""

import dataclasses

import numpy as np
import pytest

from unit.retrieval.test_searcher import filled, searcher
from vla.cache.receipts import Receipt
from vla.features import FrameFeatures
from vla.retrieval.filters import VideoFilter
from vla.retrieval.near_duplicates import DUPLICATE_THRESHOLD, is_near_duplicate
from vla.retrieval.query import Query
from vla.spans import iou


def video(name, values, times=None, step=0.5):
    times = np.arange(len(values)) * step if times is None else times
    return FrameFeatures(name, values.astype(np.float16), times, float(times[-1]) + step)


def walk(frames, seed=0, dim=12):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((frames, dim)).cumsum(0) + 3 * rng.standard_normal(dim)


def noisy(values, cosine, seed=1):
    """Return `values` with each frame rotated to the cosine `cosine` with itself."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(values.shape)
    noise -= (noise * values).sum(1, keepdims=True) / (values**2).sum(1, keepdims=True) * values
    noise *= np.linalg.norm(values, axis=1, keepdims=True) / np.linalg.norm(
        noise, axis=1, keepdims=True
    )
    return cosine * values + np.sqrt(1 - cosine**2) * noise


SPAN = np.array([5.0, 12.0])


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [
        (0.999, True),
        (DUPLICATE_THRESHOLD + 0.004, True),
        (DUPLICATE_THRESHOLD - 0.004, False),
        (0.5, False),
    ],
)
def test_threshold_of_frames(cosine, expected):
    one = walk(40)
    assert (
        is_near_duplicate(video("a", one), SPAN, 8.0, video("b", noisy(one, cosine)), SPAN, 8.0)
        is expected
    )


def test_trimmed_and_resampled_but_not_reversed():
    one = walk(60)
    original = video("a", one)
    trimmed = video("b", one[8:40])
    assert is_near_duplicate(original, SPAN, 8.0, trimmed, SPAN - 4, 4.0)
    # A peak one frame off, as of a curve that is flat at its top; starts agree.
    assert is_near_duplicate(original, SPAN, 8.0, trimmed, SPAN - 4, 4.5)
    assert is_near_duplicate(trimmed, SPAN - 4, 4.0, original, SPAN, 8.0)
    resampled = video("c", np.repeat(one, 2, axis=0), step=0.25)
    assert is_near_duplicate(original, SPAN, 8.0, resampled, SPAN, 8.0)
    reverse = video("d", one[::-1])
    span = original.duration_seconds - SPAN[::-1]
    assert not is_near_duplicate(
        original, SPAN, 8.0, reverse, span, original.duration_seconds - 8.0
    )
    assert not is_near_duplicate(original, SPAN, 8.0, original, SPAN + 8, 16.0), (
        "another time of the same video"
    )


def test_spans_of_different_length_are_not_duplicates():
    one = np.repeat(walk(1), 60, axis=0)
    assert not is_near_duplicate(
        video("a", one), np.array([0.0, 3.0]), 0.0, video("b", one), np.array([0.0, 20.0]), 0.0
    )
    assert is_near_duplicate(
        video("a", one), np.array([0.0, 15.0]), 0.0, video("b", one), np.array([0.0, 20.0]), 0.0
    )


def test_single_and_zero_frames():
    one = video("a", walk(1))
    assert is_near_duplicate(one, np.array([0.0, 0.5]), 0.0, one, np.array([0.0, 0.5]), 0.0)
    zeros = video("b", np.zeros((4, 12)))
    assert not is_near_duplicate(one, np.array([0.0, 0.5]), 0.0, zeros, np.array([0.0, 0.5]), 0.0)


@pytest.fixture
def find(tmp_path):
    """Return a searcher of six videos and a re-encoded copy of one."""
    cache = filled(tmp_path / "c", [40, 30, 50, 30, 20, 60])
    features = cache.frames("v/2.mp4")
    copy = noisy(features.values.astype(np.float64), 0.995)
    cache.add_video(
        FrameFeatures(
            "copy.mkv",
            copy.astype(np.float16),
            features.timestamps_seconds,
            features.duration_seconds,
        ),
        Receipt("copy.mkv", "ok", "", 2, 2, "", duration_seconds=features.duration_seconds),
    )
    return searcher(cache, tmp_path)


def test_reencoded_video_is_merged(find):
    hits = find.search("a dog", 20, 1)
    both = [h for h in hits if h.video_id in ("v/2.mp4", "copy.mkv")]
    assert len(both) == 1 and len(hits) == 6 and [h.rank for h in hits] == [1, 2, 3, 4, 5, 6]
    ((other, start, end),) = both[0].near_duplicates
    assert {other, both[0].video_id} == {"v/2.mp4", "copy.mkv"}
    assert iou([(start, end)], [(both[0].start, both[0].end)])[0, 0] >= 0.5, (
        "noise may choose another segment"
    )
    assert all(h.near_duplicates == () for h in hits if h not in both)
    assert [dataclasses.replace(h, near_duplicates=()) for h in find.search("a dog", 6, 1)] == [
        dataclasses.replace(h, near_duplicates=()) for h in hits
    ], "as many hits as requested, if available"
    for name in ("v/2.mp4", "copy.mkv"):
        alone = find.search("a dog", 20, 1, filters=VideoFilter(include=(name,)))
        assert [h.video_id for h in alone] == [name] and alone[0].near_duplicates == ()


def test_sequences_are_merged_but_similar_moments_are_not(find):
    hits = find.search(Query("a dog", then=("a cat",)), 20, 1)
    assert len([h for h in hits if h.video_id in ("v/2.mp4", "copy.mkv")]) == 1 and len(hits) == 6
    like = find.search_like("v/2.mp4", 3.0, 3, 1)
    assert like[0].video_id == "copy.mkv", "near-duplicates are the result"


def test_one_common_frame_is_not_a_duplicate():
    """A title card or a black frame in two videos: one frame of the moments is equal, no other is."""
    one, other = walk(40), walk(40, seed=9)
    other[16] = one[16]
    span, peak = np.array([5.0, 12.0]), 8.0
    assert not is_near_duplicate(video("a", one), span, peak, video("b", other), span, peak)
    # Nor where the shared frame is the first of both moments, or where both begin with half a second of it.
    starts = one.copy()
    starts[11:] = walk(40, seed=11)[11:]
    assert not is_near_duplicate(video("a", one), span, 5.0, video("b", starts), span, 5.0)
