"""The library names an option as Python does; the command line names its flag."""

import sys

import pytest

from vla_cli.main import _with_flags


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        (
            "extract",
            "name it by caption_column=; it has a",
            "name it by --caption-column; it has a",
        ),
        ("train", "name it by start_column=", "name it by --start-column"),
        ("extract", "no_such_option= is kept", "no_such_option= is kept"),
        ("gc", "name it by caption_column=", "name it by caption_column="),
        ("extract", "fps=2 is a value", "fps=2 is a value"),
        ("extract", "a == b, x.format= y", "a == b, x.format= y"),
        ("extract", "nothing to translate", "nothing to translate"),
    ],
)
def test_options_in_messages(command, message, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vla", "--quiet", command, "x"])
    assert _with_flags(message) == shown
