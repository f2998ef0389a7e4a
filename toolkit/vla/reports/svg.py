"""Draw charts as inline SVG: a curve over epochs, and a percentage with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vla.reports.html import escape_text

_WIDTH, _HEIGHT = 300, 150
_LEFT_MARGIN, _RIGHT_MARGIN, _TOP_MARGIN, _BOTTOM_MARGIN = 44, 8, 8, 22


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and a line below it.

    Attributes:
        title: text.
        caption: text.
        svg: the drawing.
    """

    title: str
    caption: str
    svg: Markup


def line_chart(
    title: str, epochs: Sequence[int], values: Sequence[float], baseline: float | None = None
) -> Chart | None:
    """Draw `values` over increasing `epochs`, with a dashed line at `baseline`.

    None if no value is finite.

    A value that is not finite is a gap.
    """
    finite = [v for v in [*values, *([] if baseline is None else [baseline])] if math.isfinite(v)]
    if not any(math.isfinite(v) for v in values):
        return None
    ticks = _ticks(min(finite), max(finite))
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)

    def x(epoch: float) -> float:
        return _LEFT_MARGIN + (_WIDTH - _LEFT_MARGIN - _RIGHT_MARGIN) * (
            (epoch - epochs[0]) / (epochs[-1] - epochs[0]) if len(epochs) > 1 else 0.5
        )

    def y(value: float) -> float:
        return _TOP_MARGIN + (_HEIGHT - _TOP_MARGIN - _BOTTOM_MARGIN) * (high - value) / (
            high - low
        )

    parts = [_level(y(tick), f"{tick:g}") for tick in ticks]
    parts += [
        f'<text x="{x(epoch):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{epoch}</text>'
        for epoch in _labels(epochs)
    ]
    if baseline is not None and math.isfinite(baseline):
        parts.append(
            f'<path class="base" d="M{_LEFT_MARGIN} {y(baseline):.1f}H{_WIDTH - _RIGHT_MARGIN}"/>'
        )
    path = "".join(
        f"{'L' if i and math.isfinite(values[i - 1]) else 'M'}{x(epochs[i]):.1f} {y(v):.1f}"
        for i, v in enumerate(values)
        if math.isfinite(v)
    )
    parts.append(f'<path class="curve" d="{path}"/>')
    last = max(i for i, v in enumerate(values) if math.isfinite(v))
    parts.append(
        f'<circle class="dot" cx="{x(epochs[last]):.1f}" cy="{y(values[last]):.1f}" r="3"/>'
    )
    frozen = "" if baseline is None else f"frozen {_number(baseline)}"
    summary = (
        f"{title}, epoch {epochs[0]} to {epochs[-1]}: from {_number(values[0])} to "
        f"{_number(values[-1])}"
    )
    label = escape_text(f"{summary}; {frozen}" if frozen else summary)
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    caption = f"last {_number(values[last])}"
    return Chart(title, f"{caption}, {frozen}" if frozen else caption, Markup(svg))


def interval_chart(
    value: float, low: float, high: float, frozen: float | None, floor: float | None
) -> Markup:
    """Draw a percentage between 0 and 100 with its interval, the frozen encoder (a ring), and its
    floor (a bar).
    """

    def x(percent: float) -> str:
        return f"{4 + 1.92 * min(max(percent, 0), 100):.1f}"

    parts = [
        '<path class="track" d="M4 12H196"/>',
        f'<path class="range" d="M{x(low)} 12H{x(high)}"/>',
    ]
    if floor is not None:
        parts.append(f'<path class="floor" d="M{x(floor)} 3V21"/>')
    if frozen is not None:
        parts.append(f'<circle class="before" cx="{x(frozen)}" cy="12" r="5"/>')
    parts.append(f'<circle class="dot" cx="{x(value)}" cy="12" r="4.5"/>')
    return Markup(f'<svg viewBox="0 0 200 24" aria-hidden="true">{"".join(parts)}</svg>')


def _level(y: float, label: str) -> str:
    return (
        f'<path class="grid" d="M{_LEFT_MARGIN} {y:.1f}H{_WIDTH - _RIGHT_MARGIN}"/>'
        f'<text x="{_LEFT_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return about four round numbers from below `low` to above `high`."""
    if high <= low:
        low, high = low - abs(low) * 0.1 - 1e-6, high + abs(high) * 0.1 + 1e-6
    raw = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _labels(epochs: Sequence[int]) -> list[int]:
    """Choose a few epochs to label: the first, the last, some between them."""
    count = len(epochs)
    step = max(1, math.ceil((count - 1) / 4))
    rows = list(range(0, count, step))
    if rows[-1] != count - 1:
        # Not where it would touch the number before it.
        rows = [row for row in rows if count - 1 - row >= step / 2] + [count - 1]
    return [epochs[row] for row in rows]


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "no number"
