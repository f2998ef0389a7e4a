"""Ctrl-C, or a signal that asks to end, while a run is trained: the step at hand is finished and kept before anything ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class InterruptFlag:
    """Says whether somebody asked for an end.

    Attributes:
        asked: True since the first signal.
    """

    asked = False


@contextmanager
def on_interrupt(*, patient: bool = False) -> Iterator[InterruptFlag]:
    """Set `InterruptFlag.asked` on the first SIGINT, SIGTERM or SIGHUP; a second one has its usual effect.

    Whoever answers a signal so far is asked to, too, and the KeyboardInterrupt that it raises is held back; so the command line
    says its word. Nothing changes for a signal that is ignored, or that nothing of Python's answers, or outside the main thread.

    Args:
        patient: let any number of them set it: launchers of several processes send a second one of their own at once.
    """
    stop, before = InterruptFlag(), _answered()

    def answer(number: int, frame: FrameType | None) -> None:
        again, stop.asked = stop.asked, True
        if patient:
            return
        try:
            before[number](number, frame)
        except KeyboardInterrupt:
            if again:
                raise

    for number in before:
        signal.signal(number, answer)
    try:
        yield stop
    finally:
        for number, earlier in before.items():
            # Who was asked may have put somebody else in charge.
            if signal.getsignal(number) is answer:
                signal.signal(number, earlier)


def _answered() -> dict[int, Callable[[int, FrameType | None], Any]]:
    """The signals that something of Python's answers, and what does; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    there = [int(getattr(signal, name)) for name in _SIGNALS if hasattr(signal, name)]  # there is no SIGHUP on Windows
    found = {number: signal.getsignal(number) for number in there}
    return {number: earlier for number, earlier in found.items() if callable(earlier)}
