"""Fitting of spans to the durations of their videos: spans outside are dropped, overlong ones are
cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vla.datasets.base import Annotation
from vla.omissions import Omissions

# Annotators and recognizers round; container durations and last frames differ a little.
_SLACK_SECONDS, _SLACK_PART = 0.5, 0.02
_FRAME_RATES = (24.0, 25.0, 30.0, 60.0)


def fit_spans(
    annotations: Iterable[Annotation], durations: Mapping[str, float], omissions: Omissions
) -> list[Annotation]:
    """Return the annotations with spans that lie within their videos.

    A span that starts at or after the end of its video is dropped; an annotation without remaining
    spans is dropped as well. A span that exceeds the end by more than 0.5 s and 2 % of the video
    is cut there.

    Args:
        annotations: their `video` is a key of `durations`, or its duration is unknown.
        durations: seconds by video.
        omissions: receives the counts (`span-outside`, `span-cut`); an example notes if the
            numbers look like milliseconds or frames.
    """
    items = list(annotations)
    unit = _unit(
        [
            (start, end, durations[a.video])
            for a in items
            if a.video in durations
            for start, end in a.spans
        ]
    )
    annotations_in_range = []
    for annotation in items:
        duration = durations.get(annotation.video)
        if not annotation.spans or duration is None:
            annotations_in_range.append(annotation)
            continue
        spans = []
        for start, end in annotation.spans:
            description = f"{start:g} to {end:g} s in {annotation.video} of {duration:g} s"
            if start >= duration:
                omissions.add("span-outside", description + unit)
            elif end > duration + max(_SLACK_SECONDS, _SLACK_PART * duration):
                omissions.add("span-cut", description)
                spans.append((start, duration))
            else:
                spans.append((start, end))
        if spans:
            annotations_in_range.append(annotation if len(spans) == len(annotation.spans) and tuple(spans) == annotation.spans
                         else replace(annotation, spans=tuple(spans)))  # fmt: skip
    return annotations_in_range


def _unit(spans: list[tuple[float, float, float]]) -> str:
    """Return a remark if most spans lie outside but would fit as milliseconds, or as frames at a
    usual rate.
    """
    outside = [span for span in spans if span[0] >= span[2]]
    if not outside or 2 * len(outside) < len(spans):
        return ""

    def fits(divisor: float) -> bool:
        return all(end / divisor <= 1.1 * duration + _SLACK_SECONDS for _, end, duration in spans)

    if any(map(fits, _FRAME_RATES)):
        return ": frames? Times are seconds"
    return ": milliseconds? Times are seconds" if fits(1000) else ""
