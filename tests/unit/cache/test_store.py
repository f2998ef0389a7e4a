"""The cache of one feature space: by name in, by name out; nothing altered, nothing newer, nothing of another space."""

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.refusals import refused
from vla.cache.receipts import SCHEMA, Receipt, content_digest, video_key
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.encoders.toy import Encoder
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.hints import Hint

ENCODER = Encoder("6")
SPEC = ENCODER.identity.spec("fps=2")
SOURCE = EncoderSource("toy", "6", "")


@pytest.fixture
def cache(tmp_path):
    return FeatureCache.create(tmp_path, SPEC, SOURCE)


def features(video_id, seed=0, frames=5, dim=6):
    values = np.random.default_rng(seed).standard_normal((frames, dim)).astype(np.float16)
    return FrameFeatures(video_id, values, np.arange(frames) / 2, frames / 2)


def receipt(video_id, status="ok", **more):
    return Receipt(video_id, status, "", 10, 20, "abc", **{"duration_seconds": 2.5, **more})


def reopened(cache):
    return FeatureCache.open(cache.folder)


# Videos


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
@settings(deadline=None, max_examples=25)
def test_videos_round_trip_with_any_name(tmp_path_factory, names):
    cache = FeatureCache.create(tmp_path_factory.mktemp("c"), SPEC, SOURCE)
    for seed, name in enumerate(names):
        cache.add_video(features(name, seed, seed + 1), receipt(name, duration_seconds=20.0))
    again = reopened(cache)
    assert again.video_ids() == sorted(names)
    for seed, name in enumerate(names):
        result = again.frames(name)
        np.testing.assert_array_equal(result.values, features(name, seed, seed + 1).values)
        np.testing.assert_array_equal(result.timestamps_seconds, np.arange(seed + 1) / 2)
        assert (result.video_id, result.duration_seconds) == (name, 20.0)
        assert again.receipts[name].frames == seed + 1
    assert len(list((cache.folder / "shards").iterdir())) == len(names)


def test_name_of_undecodable_bytes(cache):
    name = "caf\udce9/\n../x.mp4"
    cache.add_video(features(name), receipt(name))
    assert reopened(cache).frames(name).video_id == name
    assert len(reopened(cache).state()) == 16


def test_a_receipt_is_returned_with_its_shard(cache):
    whole = cache.add_video(features("v"), receipt("v"))
    assert whole == cache.receipts["v"] == reopened(cache).receipts["v"]
    assert whole.frames == 5 and (cache.folder / "shards" / whole.shard).is_file()
    assert whole.shard.startswith(video_key("v")) and len(whole.sha256) == 64


def test_new_features_replace_the_old_ones(cache):
    first = cache.add_video(features("v", 1), receipt("v"))
    second = cache.add_video(features("v", 2), receipt("v"))
    assert first.shard != second.shard
    np.testing.assert_array_equal(reopened(cache).frames("v").values, features("v", 2).values)
    assert [p.name for p in (cache.folder / "shards").iterdir()] == [second.shard]
    cache.add_receipt(receipt("v", "failed"))
    assert list((cache.folder / "shards").iterdir()) == [] and reopened(cache).video_ids() == []


def test_the_same_features_again_keep_their_shard(cache):
    first = cache.add_video(features("v"), receipt("v"))
    assert cache.add_video(features("v"), receipt("v")) == first
    assert reopened(cache).frames("v").values.shape == (5, 6)


def test_has_features_for_ok_and_partial(cache):
    for status in ("ok", "partial"):
        cache.add_video(features(status), receipt(status, status))
    for status in ("skipped", "failed"):
        cache.add_receipt(dataclasses.replace(receipt(status, status), reason="it is a song"))
    again = reopened(cache)
    assert again.video_ids() == ["ok", "partial"] and list(again.receipts) == [
        "failed",
        "ok",
        "partial",
        "skipped",
    ]
    with pytest.raises(MissingError, match="no features of 'skipped': it is a song"):
        again.frames("skipped")
    with pytest.raises(MissingError, match="no features of 'other': it was never extracted"):
        again.frames("other")


def test_state_depends_on_features_only(cache):
    states = [cache.state()]
    cache.add_video(features("a"), receipt("a"))
    states.append(cache.state())
    cache.add_receipt(dataclasses.replace(receipt("b"), status="failed"))
    assert cache.state() == states[-1]
    cache.add_receipt(dataclasses.replace(cache.receipts["a"], mtime_ns=99))  # touched, not changed
    assert cache.state() == states[-1] == reopened(cache).state()
    cache.add_video(features("b", 1), receipt("b"))
    states.append(cache.state())
    cache.add_video(features("a", 2), receipt("a"))
    states.append(cache.state())
    cache.add_receipt(dataclasses.replace(cache.receipts["a"], duration_seconds=9.0))
    states.append(cache.state())
    assert len(set(states)) == len(states)


def test_the_order_of_adding_does_not_matter(tmp_path):
    one, other = (FeatureCache.create(tmp_path / n, SPEC, SOURCE) for n in "ab")
    for cache, order in ((one, "xyz"), (other, "zxy")):
        for name in order:
            cache.add_video(features(name, ord(name)), receipt(name))
    assert one.state() == other.state()
    for path in (one.folder / "shards").iterdir():
        assert path.read_bytes() == (other.folder / "shards" / path.name).read_bytes()


def test_an_altered_shard_is_refused(cache):
    whole = cache.add_video(features("v"), receipt("v"))
    path = cache.folder / "shards" / whole.shard
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match="was altered since it was written"):
        reopened(cache).frames("v")
    path.unlink()
    with pytest.raises(CacheError, match="is gone"):
        reopened(cache).frames("v")


def test_features_of_another_width_are_refused(cache):
    cache.add_video(features("v", dim=5), receipt("v"))
    with pytest.raises(CacheError, match="features are 5 wide, the cache's are 6"):
        reopened(cache).frames("v")


def changed(path, **fields):
    """As an older version would have written it: without a checksum."""
    record = json.loads(path.read_text())
    del record["checksum"]
    record.update(fields)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": "1"}, "schema is '1', not a whole number"),
        ({"schema": True}, "schema is True, not a whole number"),
        ({"shard": "../../etc/passwd"}, "shard is '../../etc/passwd', not the name of a file"),
        ({"shard": "/etc/passwd"}, "shard is '/etc/passwd'"),
        ({"shard": "C:x.h5"}, "shard is 'C:x.h5'"),
        ({"shard": ".hidden"}, "shard is '.hidden'"),
        ({"shard": None}, "shard is None"),
        ({"shard": ["x"]}, r"shard is \['x'\]"),
        ({"status": "fine"}, "status is 'fine', not one of 'ok'"),
        ({"frames": -1}, "frames is -1, not a number from 0"),
        ({"frames": 10**30}, "frames is 1000"),
        ({"duration_seconds": "long"}, "duration_seconds is 'long', not a number"),
        ({"duration_seconds": float("nan")}, "duration_seconds is nan, not a finite number"),
        ({"duration_seconds": float("inf")}, "duration_seconds is inf"),
        ({"coverage": 1.5}, "coverage is 1.5, not a number from 0 to 1"),
        ({"video_id": 3}, "video_id is 3, not a text"),
        ({"video_id": "w"}, "it describes the video 'w', which has another file"),
        ({"size": None}, "size is None"),
        ({"colour": "red"}, "colour is 'red', not a key of this record"),
    ],
    ids=str,
)
def test_a_damaged_receipt_counts_as_none(cache, fields, message):
    cache.add_video(features("v"), receipt("v"))
    cache.add_video(features("other"), receipt("other"))
    path = cache.folder / "videos" / f"{video_key('v')}.json"
    changed(path, **fields)
    again = reopened(cache)
    assert again.video_ids() == ["other"] and list(again.damaged) == [path]
    assert re.search(message, again.damaged[path]) and again.damaged[path].hint == Hint(
        "extract_again"
    )
    # Its shard is no waste as long as nobody knows whose it is.
    assert len(again.shards_in_use()) == 2
    again.add_video(features("v"), receipt("v"))
    assert reopened(cache).video_ids() == ["other", "v"] and not reopened(cache).damaged


def test_a_receipt_of_a_newer_version_is_refused_and_never_replaced(cache):
    cache.add_video(features("v"), receipt("v"))
    changed(next((cache.folder / "videos").iterdir()), schema=SCHEMA + 1)
    with pytest.raises(CacheError, match="written by a newer vla"):
        reopened(cache).video_ids()


@pytest.mark.parametrize("text", ["[]", "null", "{}", "3", "{", "[" * 100_000])
def test_ignores_invalid_receipts(cache, text):
    cache.add_video(features("v"), receipt("v"))
    next((cache.folder / "videos").iterdir()).write_text(text)
    assert reopened(cache).video_ids() == []


def test_integer_duration_is_valid(cache):
    """JSON writes 3.0 as it likes."""
    cache.add_video(features("v"), receipt("v"))
    changed(next((cache.folder / "videos").iterdir()), duration_seconds=3)
    assert reopened(cache).frames("v").duration_seconds == 3


# Texts

LONG = (
    "first a man opens the door of an old house. then he walks in, looks round and sits down by the fire; "
    * 3
)


def test_texts_round_trip_in_any_batch_size(tmp_path):
    texts = [f"text number {i} of many" for i in range(23)] + ["naïve ☕", "x"]
    expected = ENCODER.encode_text(texts)
    for batch in (1, 4, 100):
        cache = FeatureCache.create(tmp_path / str(batch), SPEC, SOURCE)
        counted = []
        assert cache.add_texts(texts, ENCODER, batch, counted.append) == 25
        assert counted[-1] == 25 and len(counted) == -(-25 // batch)
        for source in (cache, reopened(cache)):
            result = source.texts(texts[::-1])
            assert result.texts == tuple(texts[::-1])
            np.testing.assert_array_equal(result.pooled, expected.pooled[::-1].astype(np.float16))
            for row, text in enumerate(texts[::-1]):
                own = ENCODER.encode_text([text])
                n = int(result.mask[row].sum())
                assert n == own.mask.sum() == len(text.split())
                np.testing.assert_array_equal(
                    result.tokens[row, :n], own.tokens[0].astype(np.float16)
                )
                assert not result.tokens[row, n:].any()
        assert cache.add_texts(texts, ENCODER) == 0


def test_long_text_is_split_without_truncation(cache):
    assert not ENCODER.fits(LONG)
    assert cache.add_texts(["short", LONG], ENCODER) == 2
    again = reopened(cache)
    pieces = again.pieces(LONG)
    assert len(pieces) > 2 and all(ENCODER.fits(p) for p in pieces)
    assert " ".join(pieces).split() == LONG.split()
    assert again.pieces("short") == ["short"] and again.pieces("unknown") == []
    result = again.texts(pieces)
    np.testing.assert_array_equal(
        result.pooled, ENCODER.encode_text(pieces).pooled.astype(np.float16)
    )
    assert again.missing_texts(["short", LONG, "new", "new"]) == ["new"]
    assert result.mask.sum() == len(LONG.split())


def test_cached_pieces_are_not_encoded_again(cache):
    piece = "then he walks in, looks round and sits down by the fire;"
    cache.add_texts([piece], ENCODER)
    cache.add_texts([LONG], ENCODER)
    assert piece in cache.pieces(LONG)
    held = [
        t
        for p in (cache.folder / "texts").glob("*.json")
        for t in json.loads(p.read_text())["texts"]
    ]
    assert len(held) == len(set(held)) and held.count(piece) == 1
    np.testing.assert_array_equal(
        reopened(cache).texts([piece]).pooled,
        ENCODER.encode_text([piece]).pooled.astype(np.float16),
    )


def test_texts_with_extra_spaces(cache):
    texts = ["a  dog", " a dog ", "a\ndog", "a dog"]
    cache.add_texts(texts, ENCODER)
    again = reopened(cache)
    for text in texts:
        assert again.pieces(text) and " ".join(again.pieces(text)).split() == ["a", "dog"]
        again.texts(again.pieces(text))


def test_missing_texts(cache):
    cache.add_texts(["a"], ENCODER)
    with pytest.raises(MissingError, match="2 texts have no features, e.g. 'b'"):
        cache.texts(["a", "b", "c"])


def test_an_altered_text_shard_is_refused(cache):
    cache.add_texts(["a dog"], ENCODER)
    path = next((cache.folder / "shards").glob("t-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheError, match="was altered"):
        reopened(cache).texts(["a dog"])


def test_texts_whose_shard_is_lost_are_encoded_again(cache):
    cache.add_texts(["a dog", LONG], ENCODER)
    for path in (cache.folder / "shards").glob("t-*"):
        path.unlink()
    again = reopened(cache)
    assert again.missing_texts(["a dog", LONG]) == ["a dog", LONG]
    assert again.add_texts(["a dog", LONG], ENCODER) == 2
    for source in (again, reopened(cache)):
        pieces = source.pieces(LONG)
        np.testing.assert_array_equal(
            source.texts(["a dog", *pieces]).pooled,
            ENCODER.encode_text(["a dog", *pieces]).pooled.astype(np.float16),
        )


@pytest.mark.parametrize(
    "record", ["[]", "{}", "3", '{"texts": 3, "shard": "", "sha256": "", "pieces": {}}', '{"texts": [], "shard": 3}',
               '{"texts": ["a"], "shard": "../x", "sha256": "", "pieces": {}}']
)  # fmt: skip
def test_a_damaged_receipt_of_texts_counts_as_none(cache, record):
    cache.add_texts(["a dog"], ENCODER)
    path = cache.folder / "texts" / "z.json"
    path.write_text(record)
    again = reopened(cache)
    assert again.missing_texts(["a dog", "b"]) == ["b"]
    assert list(again.damaged) == [path] and "is damaged" in again.damaged[path]


# The cache itself


def test_a_cache_is_found_by_its_fingerprint(tmp_path):
    cache = FeatureCache.create(tmp_path, SPEC, SOURCE)
    other = FeatureCache.create(tmp_path, ENCODER.identity.spec("fps=4"), SOURCE)
    assert cache.folder.name == SPEC.fingerprint != other.folder.name
    assert reopened(cache).spec == SPEC and reopened(cache).source == SOURCE
    FeatureCache.create(tmp_path, SPEC, EncoderSource("toy", "6", "elsewhere"))
    assert reopened(cache).source.pretrained == "elsewhere"


def test_active_cache(tmp_path):
    with refused(MissingError, "extract"):
        active_cache(tmp_path)
    with refused(MissingError, "extract"):
        FeatureCache.open(tmp_path / "x")
    cache = FeatureCache.create(tmp_path, SPEC, SOURCE)
    set_active_cache(tmp_path, cache)
    assert active_cache(tmp_path).spec == SPEC
    for text in (
        '{"fingerprint": "../../x"}',
        "[]",
        "{}",
        '{"fingerprint": 3}',
        '{"fingerprint": ""}',
    ):
        (tmp_path / "current.json").write_text(text)
        with pytest.raises(CacheError, match="damaged"):
            active_cache(tmp_path)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"spec": {}, "source": {}}', '{"spec": 3, "source": {"encoder": "toy"}}']
)
def test_rejects_damaged_description(cache, text):
    (cache.folder / "spec.json").write_text(text)
    with pytest.raises(CacheError):
        reopened(cache)


def test_an_altered_spec_is_refused(cache):
    record = json.loads((cache.folder / "spec.json").read_text())
    record["spec"]["weights"] = "other"
    (cache.folder / "spec.json").write_text(json.dumps(record))
    with pytest.raises(CacheError, match="was altered since it was written"):
        reopened(cache)
    del record["checksum"]
    (cache.folder / "spec.json").write_text(json.dumps(record))
    with pytest.raises(CacheError, match="was altered: its fingerprint is"):
        reopened(cache)


def test_content_digest_covers_head_tail_and_size(tmp_path):
    def digest(content):
        (tmp_path / "f").write_bytes(content)
        return content_digest(tmp_path / "f", len(content))

    quarter = 1 << 18
    for size in (0, 1, 1000, quarter, quarter + 1, 2 * quarter, 2 * quarter + 1, 5 * quarter):
        content = bytearray(np.random.default_rng(size).bytes(size))
        plain = digest(bytes(content))
        assert plain == digest(bytes(content)) and plain != digest(bytes(content) + b"x")
        places = (
            {0, size // 3, size - 1}
            if size <= 2 * quarter
            else {0, quarter - 1, size - quarter, size - 1}
        )
        for workspace in places if size else ():
            other = bytearray(content)
            other[workspace] ^= 255
            assert digest(bytes(other)) != plain, (size, workspace)
