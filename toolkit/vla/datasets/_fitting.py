"""Spans of annotations against the lengths of their videos: those outside are left out, those partly outside are cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vla.datasets.base import Annotation
from vla.omissions import Omissions

# Annotators and recognisers round; a container's length and the last frame's end differ a little.
_SLACK_SECONDS, _SLACK_PART = 0.5, 0.02
_FRAME_RATES = (24.0, 25.0, 30.0, 60.0)


def fit_spans(
    annotations: Iterable[Annotation], durations: Mapping[str, float], omissions: Omissions
) -> list[Annotation]:
    """The annotations with spans that lie within their videos.

    A span that begins at the end of its video or later is left out, and so is an annotation of which no span is left. A span
    that passes the end by more than 0.5 s and 2 % of the video is cut there.

    Args:
        annotations: `video` is a key of `durations`, or its length is not known.
        durations: seconds by video.
        omissions: where both are counted (`span-outside`, `span-cut`); the example says if the numbers look like milliseconds
            or frames.
    """
    listed = list(annotations)
    unit = _unit([(start, end, durations[a.video]) for a in listed if a.video in durations for start, end in a.spans])
    found = []
    for annotation in listed:
        duration = durations.get(annotation.video)
        if not annotation.spans or duration is None:
            found.append(annotation)
            continue
        spans = []
        for start, end in annotation.spans:
            place = f"{start:g} to {end:g} s in {annotation.video} of {duration:g} s"
            if start >= duration:
                omissions.add("span-outside", place + unit)
            elif end > duration + max(_SLACK_SECONDS, _SLACK_PART * duration):
                omissions.add("span-cut", place)
                spans.append((start, duration))
            else:
                spans.append((start, end))
        if spans:
            found.append(annotation if len(spans) == len(annotation.spans) and tuple(spans) == annotation.spans
                         else replace(annotation, spans=tuple(spans)))  # fmt: skip
    return found


def _unit(spans: list[tuple[float, float, float]]) -> str:
    """A remark where spans lie outside that would fit as milliseconds, or as frames at a usual rate."""
    outside = [span for span in spans if span[0] >= span[2]]
    if not outside or 2 * len(outside) < len(spans):
        return ""

    def fits(divisor: float) -> bool:
        return all(end / divisor <= 1.1 * duration + _SLACK_SECONDS for _, end, duration in spans)

    if any(map(fits, _FRAME_RATES)):
        return ": frames? Times are seconds"
    return ": milliseconds? Times are seconds" if fits(1000) else ""
