"""Feature space of external features: its name, and where its spec comes from."""

from __future__ import annotations

from contextlib import closing

from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.errors import FormatError, UsageError
from vla.features import IMPORTED_ENCODER, FeatureSpec
from vla.hints import Hint
from vla.workflows.feature_files import UNKNOWN, FeatureFile, ImportedVideo, convert_features
from vla.workflows.frame_timing import Timing


def space_name(model: str | None, active: FeatureCache | None) -> str:
    """Return the name of the space: `model`, else that of the imported features that are active.

    Raises:
        UsageError: there is none, or it is invalid.
    """
    name = (
        model
        if model is not None
        else active.spec.model
        if active and active.spec.is_imported
        else ""
    )
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise UsageError(
            f"invalid name of a feature space: {name!r}; it must be 1 to 200 printable "
            f"characters, and tells features of different encoders apart",
            hint=Hint("name_space"),
        )
    return name


def active_space(
    name: str, timing: Timing, active: FeatureCache | None, change_encoder: bool, has_paths: bool
) -> FeatureSpec | None:
    """Return the active space of the workspace, if it is the requested one.

    Raises:
        UsageError: it is not, and there are no files to detect a space from.
    """
    if active is not None and active.spec.is_imported and active.spec.model == name:
        if not has_paths or (active.spec.sampling == timing.sampling and not change_encoder):
            return active.spec
    if not has_paths:
        raise UsageError(
            f"this workspace has no features named {name!r}: import features first, or in the "
            f"same call"
        )
    return None


def detect_space(name: str, files: list[FeatureFile]) -> tuple[FeatureSpec | None, list[Receipt]]:
    """Return the space of the first valid video; if there is none, None, with the failures."""
    failures = []
    for file in files:
        with closing(file.read()) as videos:
            for video in videos:
                if isinstance(video, ImportedVideo):
                    origin = video.external.origin or UNKNOWN
                    spec = FeatureSpec(
                        IMPORTED_ENCODER, name, origin, UNKNOWN, video.timing.sampling, video.width
                    )
                    try:
                        convert_features(video, spec)
                    except FormatError as error:
                        video = video.failure(str(error))
                    else:
                        return spec, []
                failures.append(video)
    return None, failures
