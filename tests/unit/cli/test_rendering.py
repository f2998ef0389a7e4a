"""Progress lines, tables and texts as they look at given widths, without a terminal and on one."""

import io

import pytest
from rich.cells import cell_len  # noqa: TID251 - what people see is measured as the terminal does
from rich.console import Console  # noqa: TID251

from vla.progress import Progress
from vla_cli import formatting, progress, render

VALUES = {"global": 0.69211, "alignment": 0.5, "score": 0.4719, "samples/s": 89.86, "eta": 31.4}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_line_of_training_shows_epoch_bar_and_time_left_first(width):
    line = progress.bar_line("training", 12.5, 40, 31.4, VALUES, width)
    assert cell_len(line) < width
    assert line.startswith("training   ━") and (
        ("12/40" in line and "ETA 0:31" in line) or width == 40
    )
    if width >= 80:
        assert "global 0.6921" in line
    if width >= 120:
        assert "score 0.4719" in line
    assert "alignm " not in line  # figures are whole or not there


@pytest.mark.parametrize("width", [60, 80, 120])
def test_columns_stay_where_they_are(width):
    lines = [
        progress.bar_line(
            "training", done, 400, eta, {"global": value, "score": 1 / (done + 1)}, width
        )
        for done, eta, value in (
            (0, None, 12.5),
            (9, 3599.0, 1e-9),
            (400, 0.0, 0.6921),
            (99.5, 36000.0, 1234567.0),
        )
    ]
    assert len({line.index("/400") for line in lines}) == 1
    placed = {line.index("global") for line in lines if "global" in line}
    assert len(placed) <= 1 and all(cell_len(line) < width for line in lines)


def test_without_utf_8_the_bar_is_ascii():
    assert progress.bar_line("indexing", 5, 10, None, {}, 80, "#").isascii()


def test_logs_get_a_line_now_and_then():
    said, now = [], [0.0]
    lines = progress._LogLines(said.append, lambda: now[0])
    for done in range(1, 101):
        now[0] += 1.0
        lines(Progress("extract", done, 100))
    assert 8 <= len(said) <= 12 and said[0].startswith("extracting ") and "(11%)" in said[0]
    said.clear()
    for done in range(1, 4):  # very slow: a line each half minute, even for 1 %
        now[0] += 31
        lines(Progress("index", done, 1000))
    assert len(said) == 2
    said.clear()
    for done in range(1, 1001):  # quick: nothing
        now[0] += 0.001
        lines(Progress("verify", done, 1000))
    assert said == []


def test_a_terminal_shows_something_before_the_first_unit(monkeypatch):
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=True, width=80, color_system=None, legacy_windows=False
    )
    monkeypatch.setattr(progress, "stderr_console", lambda: console)
    with progress.progress_bars() as report:
        console.file.flush()
        assert "loading" in screen.getvalue()
        report(Progress("train", 3, 40, values={"global": 0.7, "eta": 5.0}))
    assert "training   ━" in screen.getvalue() and "3/40" in screen.getvalue()


def table(monkeypatch, width, **options):
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=bool(width), width=width or 80, color_system=None, legacy_windows=False,
        soft_wrap=not width, highlight=False,
    )  # fmt: skip
    monkeypatch.setattr(render, "stdout_console", lambda: console)
    monkeypatch.setattr(render.sys, "stdout", screen)
    rows = [
        (1, "videos/2024/summer/holiday in the mountains/GOPR0001.MP4", "ok"),
        (2, "b.mp4", "the decoder found no frame in 30 seconds of it"),
    ]
    render.print_table(("rank", "video", "remark"), rows, numeric=("rank",), **options)
    return screen.getvalue()


def test_paths_lose_their_middle_and_keep_their_end(monkeypatch):
    said = table(monkeypatch, 60)
    assert "GOPR0001.MP4" in said and "…" in said and max(map(cell_len, said.splitlines())) <= 60
    assert "videos/2024/summer/holiday in the mountains/GOPR0001.MP4" in table(monkeypatch, 200)


def test_piped_tables_are_whole_and_without_lines(monkeypatch):
    said = table(monkeypatch, 0, title="two\x1b[2J videos")
    assert said.splitlines()[0] == "two\\x1b[2J videos" and not set(said) & set("─━│┃…")
    heads, first, second = said.splitlines()[1:]
    assert heads.split() == ["rank", "video", "remark"] and first.endswith("GOPR0001.MP4  ok")
    assert second.index("b.mp4") == first.index("videos/")


@pytest.mark.parametrize("width", [10, 17, 40])
@pytest.mark.parametrize("name", ["short", "a" * 60, "日本" * 30, "é/" * 25 + "end.mp4"])
def test_shortened_names_fit(name, width):
    assert cell_len(formatting.escape(render.shorten_middle(name, width))) <= max(width, 0)


@pytest.mark.parametrize(
    "text", ["\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp", "\u2066x", "\u200fx", "\u061cx", "\u2028x",
             "\ud800", "\ufeffx", "\U000e0041", "\x7f", "\x85"],
)  # fmt: skip
def test_nothing_that_moves_the_cursor_or_hides_reaches_the_terminal(text):
    said = formatting.escape(f"a{text}b")
    assert (
        said.isprintable()
        and said.startswith("a")
        and "\\" in said
        and formatting.escape(said) == said
    )


def test_plurals():
    assert [formatting.plural(n, "video") for n in (0, 1, 2, 1224)] == [
        "0 videos",
        "1 video",
        "2 videos",
        "1,224 videos",
    ]
    assert formatting.plural(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_figures_are_never_cut(monkeypatch, width):
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=True, width=width, color_system=None, legacy_windows=False
    )
    monkeypatch.setattr(render, "stdout_console", lambda: console)
    monkeypatch.setattr(render.sys, "stdout", screen)
    columns = [
        "epoch",
        "global",
        "anchor",
        "segment",
        "score",
        "text to video R@1",
        "moment to video R@1",
        "moment in its video R1@0.5",
    ]
    row = [17, "12.333", "0.027", "1.608", "0.472", "100.0", "16.7", "16.7"]
    render.print_table(columns, [row, row], numeric=columns)
    figures = [line.split() for line in screen.getvalue().splitlines()]
    assert [str(cell) for cell in row] in figures
    assert width < 80 or max(map(cell_len, screen.getvalue().splitlines())) <= max(width, 80)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (570, "9 min 30 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_format_duration(seconds, text):
    assert formatting.format_duration(seconds) == text
