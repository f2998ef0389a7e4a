"""Errors with the way out that they carry: the message and the hint are checked together."""

from contextlib import contextmanager

import pytest


@contextmanager
def refused(kind, action, match=None, **values):
    """As `pytest.raises(kind, match=match)`; the hint of the error is `action` with at least these `values`."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    hint = caught.value.hint
    assert hint is not None and hint.action == action, hint
    assert values.items() <= dict(hint.values).items(), hint
