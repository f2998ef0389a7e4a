"""Ctrl-C while a run is trained: the step at hand is finished and kept before anything ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Says whether somebody asked for an end.

    Attributes:
        asked: True since the first Ctrl-C.
    """

    asked = False


@contextmanager
def on_interrupt(*, patient: bool = False) -> Iterator[Stop]:
    """While this is entered the first SIGINT sets `Stop.asked`; a second one ends the program as it would have before.

    Whoever answers SIGINT so far is asked to, too, and what it raises is held back; so the command line says its word. Nothing
    changes where SIGINT is ignored, outside the main thread, or where nothing of Python's answers it.

    Args:
        patient: let any number of them set it: launchers of several processes send a second one of their own at once.
    """
    stop, before = Stop(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield stop
        return

    def answer(number: int, frame: FrameType | None) -> None:
        again, stop.asked = stop.asked, True
        if patient:
            return
        try:
            before(number, frame)
        except KeyboardInterrupt:
            if again:
                raise

    signal.signal(signal.SIGINT, answer)
    try:
        yield stop
    finally:
        # Who was asked may have put somebody else in charge.
        if signal.getsignal(signal.SIGINT) is answer:
            signal.signal(signal.SIGINT, before)
