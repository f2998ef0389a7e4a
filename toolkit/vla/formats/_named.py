"""Arrays by name, as archives and dictionaries hold them: which are the features, which their times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from vla.errors import FormatError
from vla.formats.base import ArrayKeys, ExternalFeatures, frames_and_width, released
from vla.hints import Hint

FEATURES = ("features", "feats", "frame_features", "video_features", "values", "embeddings", "arr_0")
_TIMES = ("timestamps_seconds", "timestamps_ms", "timestamps", "times")
_DURATIONS = ("duration_seconds", "duration")
_NAMED = 8
# Words of the names that arrays of features have: those of models and of what they give, and not of videos.
_MODEL_WORDS = re.compile(
    r"feat\w*|emb\w*|vec\w*|values|c3d\w*|i3d\w*|s3d\w*|clip\w*|slowfast\w*|resnet\w*|vit\w*|vgg\w*|dino\w*|siglip\w*|rgb|flow|"
    r"pool\d*|fc\d*|appearance|motion|objects?|audio|visual|hidden|pooled|last|state|output|tokens?|data|x|arr|\d{1,4}|[bl]\d*|large|base",
    re.IGNORECASE,
)


def features_key(shapes: Mapping[str, tuple[int, ...]], wanted: ArrayKeys, place: object) -> str:
    """The name of the features among arrays of these shapes: the one that is wanted, that has a usual name, or is `(T, D)`.

    Raises:
        FormatError: none, or several; the message lists what there is.
    """
    there = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_NAMED])
    there += f" and {len(shapes) - _NAMED} more" if len(shapes) > _NAMED else ""
    if wanted.key:
        if wanted.key not in shapes:
            raise FormatError(f"{place} has no array {wanted.key!r}; it has {there or 'none'}")
        return wanted.key
    usual = [name for name in FEATURES if name in shapes]
    found = usual or [name for name, shape in shapes.items() if frames_and_width(shape)]
    if len(found) != 1:
        raise FormatError(
            f"{place}: which of its arrays holds the features? It has {there or 'none'}",
            hint=Hint("name_key"),
        )
    return found[0]


def names_a_model(name: str) -> bool:
    """True for names like `c3d_features`, `clip_vitb32` and `embeddings`: all their words are those of models and outputs."""
    words = re.findall(r"[^\W_]+", name)
    return bool(words) and not all(w.isdigit() for w in words) and all(_MODEL_WORDS.fullmatch(w) for w in words)


def videos_in(shapes: Mapping[str, tuple[int, ...]], wanted: ArrayKeys) -> list[str]:
    """Names of the arrays that are each a video's features; none where the arrays are those of one video.

    They are a video each if there are several of one width, none of a usual name, and not all named after models.
    """
    if wanted.key or wanted.times_key or any(name in shapes for name in (*FEATURES, *_TIMES, *_DURATIONS)):
        return []
    fitting = {name: width for name, shape in shapes.items() if (width := frames_and_width(shape))}
    if len(fitting) < 2 or len({width[1] for width in fitting.values()}) > 1 or all(map(names_a_model, fitting)):
        return []
    return list(fitting)


def unit_of(times_key: str) -> float:
    """Seconds in a unit of the times of that name: a thousandth where `ms` is a part of it, as in `timestamps_ms_5fps`."""
    return 0.001 if "ms" in times_key.lower().split("_") else 1.0


def from_named(
    shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray], wanted: ArrayKeys, place: object
) -> ExternalFeatures:
    """The features among the arrays of a file; `read(name)` is called for those that are needed.

    Raises:
        FormatError: see `features_key` and `released`.
    """
    key = features_key(shapes, wanted, place)
    if wanted.times_key and wanted.times_key not in shapes:
        raise FormatError(f"{place} has no array {wanted.times_key!r} with times; it has {', '.join(shapes)}")
    times_key = wanted.times_key or next((name for name in _TIMES if name in shapes), "")
    duration_key = next((name for name in _DURATIONS if shapes.get(name) in ((), (1,))), "")
    return released(
        f"{place} [{key}]",
        read(key),
        read(times_key) if times_key else None,
        seconds=unit_of(times_key),
        duration=float(read(duration_key).reshape(-1)[0]) if duration_key else None,
    )
