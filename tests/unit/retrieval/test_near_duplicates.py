"""What shows the same is one result: videos encoded anew, cut out of others, put together; what only looks alike stays apart."""

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
    """As long, each frame turned away so far that its cosine with what it was is `cosine`."""
    rng = np.random.default_rng(seed)
    away = rng.standard_normal(values.shape)
    away -= (away * values).sum(1, keepdims=True) / (values**2).sum(1, keepdims=True) * values
    away *= np.linalg.norm(values, axis=1, keepdims=True) / np.linalg.norm(away, axis=1, keepdims=True)
    return cosine * values + np.sqrt(1 - cosine**2) * away


SPAN = np.array([5.0, 12.0])


@pytest.mark.parametrize(
    ("cosine", "same"),
    [(0.999, True), (DUPLICATE_THRESHOLD + 0.004, True), (DUPLICATE_THRESHOLD - 0.004, False), (0.5, False)],
)
def test_frames_have_to_agree(cosine, same):
    one = walk(40)
    assert is_near_duplicate(video("a", one), SPAN, 8.0, video("b", noisy(one, cosine)), SPAN, 8.0) is same


def test_a_cut_and_another_pace_are_found_and_what_runs_backwards_is_not():
    one = walk(60)
    whole = video("a", one)
    cut = video("b", one[8:40])
    assert is_near_duplicate(whole, SPAN, 8.0, cut, SPAN - 4, 4.0)
    # A peak one frame off, as of a curve that is flat at its top; starts agree.
    assert is_near_duplicate(whole, SPAN, 8.0, cut, SPAN - 4, 4.5)
    assert is_near_duplicate(cut, SPAN - 4, 4.0, whole, SPAN, 8.0)
    twice = video("c", np.repeat(one, 2, axis=0), step=0.25)
    assert is_near_duplicate(whole, SPAN, 8.0, twice, SPAN, 8.0)
    backwards = video("d", one[::-1])
    there = whole.duration_seconds - SPAN[::-1]
    assert not is_near_duplicate(whole, SPAN, 8.0, backwards, there, whole.duration_seconds - 8.0)
    assert not is_near_duplicate(whole, SPAN, 8.0, whole, SPAN + 8, 16.0), "another time of the same video"


def test_spans_of_other_lengths_are_other_moments():
    one = np.repeat(walk(1), 60, axis=0)
    assert not is_near_duplicate(
        video("a", one), np.array([0.0, 3.0]), 0.0, video("b", one), np.array([0.0, 20.0]), 0.0
    )
    assert is_near_duplicate(video("a", one), np.array([0.0, 15.0]), 0.0, video("b", one), np.array([0.0, 20.0]), 0.0)


def test_a_single_frame_and_empty_ones_are_compared():
    one = video("a", walk(1))
    assert is_near_duplicate(one, np.array([0.0, 0.5]), 0.0, one, np.array([0.0, 0.5]), 0.0)
    nothing = video("b", np.zeros((4, 12)))
    assert not is_near_duplicate(one, np.array([0.0, 0.5]), 0.0, nothing, np.array([0.0, 0.5]), 0.0)


@pytest.fixture
def find(tmp_path):
    """Six videos, and one of them encoded anew."""
    cache = filled(tmp_path / "c", [40, 30, 50, 30, 20, 60])
    features = cache.frames("v/2.mp4")
    again = noisy(features.values.astype(np.float64), 0.995)
    cache.add_video(
        FrameFeatures("again.mkv", again.astype(np.float16), features.timestamps_seconds, features.duration_seconds),
        Receipt("again.mkv", "ok", "", 2, 2, "", duration_seconds=features.duration_seconds),
    )
    return searcher(cache, tmp_path)


def test_a_video_that_was_encoded_anew_is_no_result_of_its_own(find):
    hits = find.search("a dog", 20, 1)
    both = [h for h in hits if h.video_id in ("v/2.mp4", "again.mkv")]
    assert len(both) == 1 and len(hits) == 6 and [h.rank for h in hits] == [1, 2, 3, 4, 5, 6]
    ((other, start, end),) = both[0].near_duplicates
    assert {other, both[0].video_id} == {"v/2.mp4", "again.mkv"}
    assert iou([(start, end)], [(both[0].start, both[0].end)])[0, 0] >= 0.5, "noise may choose another segment"
    assert all(h.near_duplicates == () for h in hits if h not in both)
    assert [dataclasses.replace(h, near_duplicates=()) for h in find.search("a dog", 6, 1)] == [
        dataclasses.replace(h, near_duplicates=()) for h in hits
    ], "as many as were asked for, where there are"
    for name in ("v/2.mp4", "again.mkv"):
        alone = find.search("a dog", 20, 1, filters=VideoFilter(include=(name,)))
        assert [h.video_id for h in alone] == [name] and alone[0].near_duplicates == ()


def test_a_sequence_is_one_result_too_and_what_is_like_a_moment_is_not(find):
    hits = find.search(Query("a dog", then=("a cat",)), 20, 1)
    assert len([h for h in hits if h.video_id in ("v/2.mp4", "again.mkv")]) == 1 and len(hits) == 6
    like = find.search_like("v/2.mp4", 3.0, 3, 1)
    assert like[0].video_id == "again.mkv", "that is what was looked for"


def test_one_frame_in_common_is_no_copy():
    """A title card or a black frame that two videos share: one frame of the moment agrees, and no other does."""
    one, other = walk(40), walk(40, seed=9)
    other[16] = one[16]
    span, peak = np.array([5.0, 12.0]), 8.0
    assert not is_near_duplicate(video("a", one), span, peak, video("b", other), span, peak)
    # Nor where the shared frame is the first of both moments, or where both begin with half a second of it.
    starts = one.copy()
    starts[11:] = walk(40, seed=11)[11:]
    assert not is_near_duplicate(video("a", one), span, 5.0, video("b", starts), span, 5.0)
