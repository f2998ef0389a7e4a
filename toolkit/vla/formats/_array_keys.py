"""Named arrays in archives and dictionaries: selection of a video's features and their times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from vla.errors import FormatError
from vla.formats.base import ArrayKeys, ExternalFeatures, check_features, frames_and_width
from vla.hints import Hint

FEATURES = (
    "features",
    "feats",
    "frame_features",
    "video_features",
    "values",
    "embeddings",
    "arr_0",
)
_TIMES = ("timestamps_seconds", "timestamps_ms", "timestamps", "times")
_DURATIONS = ("duration_seconds", "duration")
_LISTING_LENGTH = 8
# Words in the names of feature arrays: names of models and of their outputs, never of videos.
_MODEL_WORDS = re.compile(
    r"feat\w*|emb\w*|vec\w*|values|c3d\w*|i3d\w*|s3d\w*|clip\w*|slowfast\w*|resnet\w*|vit\w*|vgg\w*|dino\w*|siglip\w*|rgb|flow|"
    r"pool\d*|fc\d*|appearance|motion|objects?|audio|visual|hidden|pooled|last|state|output|tokens?|data|x|arr|\d{1,4}|[bl]\d*|large|base",
    re.IGNORECASE,
)


def features_key(shapes: Mapping[str, tuple[int, ...]], keys: ArrayKeys, location: object) -> str:
    """Return the key of the features among arrays of these shapes.

    It is the requested key, else a usual name, else the only array of shape `(T, D)`.

    Raises:
        FormatError: no array qualifies, or several do; the message lists the arrays.
    """
    listing = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_LISTING_LENGTH])
    listing += f" and {len(shapes) - _LISTING_LENGTH} more" if len(shapes) > _LISTING_LENGTH else ""
    if keys.key:
        if keys.key not in shapes:
            raise FormatError(f"{location} has no array {keys.key!r}; it has {listing or 'none'}")
        return keys.key
    usual_keys = [name for name in FEATURES if name in shapes]
    candidates = usual_keys or [name for name, shape in shapes.items() if frames_and_width(shape)]
    if len(candidates) != 1:
        raise FormatError(
            f"{location}: cannot tell which array holds the features; it has {listing or 'none'}",
            hint=Hint("name_key"),
        )
    return candidates[0]


def is_model_name(name: str) -> bool:
    """Return whether all words of `name` belong to models and outputs.

    Examples are `c3d_features`, `clip_vitb32` and `embeddings`.
    """
    words = re.findall(r"[^\W_]+", name)
    return (
        bool(words)
        and not all(w.isdigit() for w in words)
        and all(_MODEL_WORDS.fullmatch(w) for w in words)
    )


def video_keys(shapes: Mapping[str, tuple[int, ...]], keys: ArrayKeys) -> list[str]:
    """Return the keys of the arrays that each hold one video; empty if the file holds one video.

    Arrays hold a video each if there are several of one width, none has a usual name, and not all
    are named after models.
    """
    if (
        keys.key
        or keys.times_key
        or any(name in shapes for name in (*FEATURES, *_TIMES, *_DURATIONS))
    ):
        return []
    widths = {name: width for name, shape in shapes.items() if (width := frames_and_width(shape))}
    if (
        len(widths) < 2
        or len({width[1] for width in widths.values()}) > 1
        or all(map(is_model_name, widths))
    ):
        return []
    return list(widths)


def time_unit(times_key: str) -> float:
    """Return the seconds per unit of the times of that name.

    It is 0.001 if `ms` is a part of the name, as in `timestamps_ms_5fps`, else 1.
    """
    return 0.001 if "ms" in times_key.lower().split("_") else 1.0


def select_features(
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    keys: ArrayKeys,
    location: object,
) -> ExternalFeatures:
    """Return the features among the arrays of a file.

    Args:
        shapes: shape of each array.
        read: returns the array of a name; called only for the arrays needed.
        keys: requested names.
        location: name of the file for messages.

    Raises:
        FormatError: see `features_key` and `check_features`.
    """
    key = features_key(shapes, keys, location)
    if keys.times_key and keys.times_key not in shapes:
        raise FormatError(
            f"{location} has no array {keys.times_key!r} with times; it has {', '.join(shapes)}"
        )
    times_key = keys.times_key or next((name for name in _TIMES if name in shapes), "")
    duration_key = next((name for name in _DURATIONS if shapes.get(name) in ((), (1,))), "")
    return check_features(
        f"{location} [{key}]",
        read(key),
        read(times_key) if times_key else None,
        seconds=time_unit(times_key),
        duration=float(read(duration_key).reshape(-1)[0]) if duration_key else None,
    )
