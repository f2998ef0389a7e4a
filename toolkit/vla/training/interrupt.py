"""Interruption of a run by Ctrl-C or a termination signal, after the current step is finished and
saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class InterruptFlag:
    """Flag for a pending interruption.

    Attributes:
        is_set: True since the first signal.
    """

    is_set = False


@contextmanager
def on_interrupt(*, allow_repeats: bool = False) -> Iterator[InterruptFlag]:
    """Set `InterruptFlag.is_set` on the first SIGINT, SIGTERM or SIGHUP.

    A second has its usual effect.

    The previous handler of a signal is called, too, and a KeyboardInterrupt that it raises is held
    back, so the command line can print its message. Signals that are ignored or not handled by
    Python keep their effect, as do all signals outside the main thread.

    Args:
        allow_repeats: later signals set the flag, too: launchers of several processes send a second
            signal of their own at once.
    """
    flag, previous = InterruptFlag(), _python_handlers()

    def handle(number: int, frame: FrameType | None) -> None:
        is_repeat, flag.is_set = flag.is_set, True
        if allow_repeats:
            return
        try:
            previous[number](number, frame)
        except KeyboardInterrupt:
            if is_repeat:
                raise

    for number in previous:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            # The previous handler may have installed another one.
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


def _python_handlers() -> dict[int, Callable[[int, FrameType | None], Any]]:
    """Return the signals that Python code handles, with their handlers.

    None outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [
        int(getattr(signal, name)) for name in _SIGNALS if hasattr(signal, name)
    ]  # no SIGHUP on Windows
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in handlers.items() if callable(handler)}
