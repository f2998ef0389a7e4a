"""Range of durations that a moment may have."""

from __future__ import annotations

DurationRange = tuple[float, float]
"""Minimum and maximum duration of a moment, in seconds."""
ANY_DURATION: DurationRange = (0.0, float("inf"))
