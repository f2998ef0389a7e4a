"""Subtitles as recognisers, downloaders, players and drones write them: all that is said is there, once."""

import pytest

from vla.datasets._reading import OtherContentError, is_sensor_data
from vla.datasets.sidecar import Dataset as Sidecar
from vla.datasets.sidecar import find_sidecars
from vla.datasets.subtitles import Dataset
from vla.errors import AnnotationError
from vla.omissions import Omissions


def read(folder, file, text):
    """Texts with their spans, and what was left out."""
    path = folder / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    dataset = Dataset()
    return [(a.query, a.spans[0]) for a in dataset.read(path)], dataset.omissions.counts


def cue(start, end, *lines):
    return (
        f"00:00:{start:06.3f} --> 00:00:{end:06.3f} align:start position:0%\n"
        + "\n".join(lines)
        + "\n\n"
    )


YOUTUBE = (
    "WEBVTT\nKind: captions\nLanguage: en\n\n"
    + cue(
        0.16,
        1,
        " ",
        "a<00:00:00.300><c> red</c><00:00:00.500><c> ball</c><00:00:00.800><c> rolls</c>",
    )
    + cue(1, 1.01, "a red ball rolls", " ")
    + cue(1.01, 2, "a red ball rolls", "over<00:00:01.300><c> the</c><00:00:01.500><c> grass</c>")
    + cue(2, 2.01, "over the grass", " ")
    + cue(4, 5, " ", "then<00:00:04.300><c> it</c><00:00:04.500><c> stops</c>")
)
ROLLING_CUES = [
    ("a red ball rolls", (0.16, 1.01)),
    ("over the grass", (1.01, 2.01)),
    ("then it stops", (4, 5)),
]


def test_automatic_captions_of_youtube(tmp_path):
    assert read(tmp_path, "x.vtt", YOUTUBE) == (ROLLING_CUES, {})


def test_one_repeated_line_is_rolling_if_some_words_have_times(tmp_path):
    """The repeated line has none; without any times, two equal lines may be a dialogue."""
    text = (
        "WEBVTT\n\n"
        + cue(0, 1, "a<00:00:00.300><c> red</c><00:00:00.500><c> ball</c>")
        + cue(1, 2, "a red ball", "rolls<00:00:01.500><c> on</c>")
    )
    assert read(tmp_path, "x.vtt", text)[0] == [("a red ball", (0, 1)), ("rolls on", (1, 2))]
    plain = "WEBVTT\n\n" + cue(0, 1, "a red ball") + cue(1, 2, "a red ball", "rolls on")
    assert read(tmp_path, "y.vtt", plain)[0] == [
        ("a red ball", (0, 1)),
        ("a red ball rolls on", (1, 2)),
    ]


def test_rolling_captions_converted_to_subrip(tmp_path):
    """By ffmpeg, say: the tags are gone, the commas are there."""
    times = [(0.16, 1), (1, 1.01), (1.01, 2), (2, 2.01), (4, 5)]
    lines = [
        "a red ball rolls",
        "a red ball rolls",
        "a red ball rolls\nover the grass",
        "over the grass",
        "then it stops",
    ]
    text = "".join(
        f"{n}\n00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{captions}\n\n".replace(".", ",")
        for n, ((start, end), captions) in enumerate(zip(times, lines, strict=True), 1)
    )
    assert read(tmp_path, "x.srt", text) == (ROLLING_CUES, {})


def test_three_lines_that_roll_up(tmp_path):
    """As broadcasters' captions do."""
    lines = ["one", "two", "three", "four"]
    text = "WEBVTT\n\n" + "".join(cue(n, n + 1, *lines[max(0, n - 2) : n + 1]) for n in range(4))
    assert read(tmp_path, "x.vtt", text)[0] == [(line, (n, n + 1)) for n, line in enumerate(lines)]


def test_karaoke_cues_are_one_caption(tmp_path):
    """Whisper's --highlight_words writes a cue for each word, with the whole sentence."""
    captions = ["<u>a</u> red ball", "a <u>red</u> ball", "a red <u>ball</u>"]
    text = "WEBVTT\n\n" + "".join(cue(n / 2, n / 2 + 0.5, line) for n, line in enumerate(captions))
    assert read(tmp_path, "x.vtt", text)[0] == [("a red ball", (0, 1.5))]


def test_repeated_words_of_a_dialogue_stay_separate(tmp_path):
    captions = ["No.", "No.", "Why?", "Because.", "Really?", "Yes."]
    text = "WEBVTT\n\n" + "".join(cue(n, n + 1, line) for n, line in enumerate(captions))
    assert [query for query, _ in read(tmp_path, "x.vtt", text)[0]] == captions
    apart = "WEBVTT\n\n" + "".join(cue(3 * n, 3 * n + 1, "No.") for n in range(4))
    assert len(read(tmp_path, "x.vtt", apart)[0]) == 4


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "  "])
def test_line_of_blanks_does_not_end_a_cue(blank, tmp_path):
    text = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{blank}\na dog\n{blank}\nruns\n\nNOTE no text\n\n00:03.000 --> 00:04.000\na cat\n"
    assert [q for q, _ in read(tmp_path, "x.vtt", text)[0]] == ["a dog runs", "a cat"]


def test_skips_and_counts_cues_of_zero_length(tmp_path):
    times = [
        "00:00:00,000 --> 00:00:01,000",
        "00:00:01,000 --> 00:00:01,000",
        "00:00:01,000 --> 00:00:02,000",
    ]
    captions = ["A dog runs.", "right", "A cat sleeps."]
    text = "".join(
        f"{n}\n{time}\n{line}\n\n"
        for n, (time, line) in enumerate(zip(times, captions, strict=True), 1)
    )
    assert read(tmp_path, "x.srt", text) == (
        [("A dog runs.", (0, 1)), ("A cat sleeps.", (1, 2))],
        {"cue": 1},
    )
    assert read(tmp_path, "x.vtt", "WEBVTT\n\n" + text.replace(",", ".")) == (
        [("A dog runs.", (0, 1)), ("A cat sleeps.", (1, 2))], {"cue": 1}
    )  # fmt: skip


@pytest.mark.parametrize(
    "encoded",
    [
        lambda t: t.encode(), lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.encode("utf-16"),
        lambda t: t.encode("utf-16-le"), lambda t: t.encode("utf-16-be"), lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.replace("\n", "\r").encode(), lambda t: t.replace(",", ".").encode(),
        lambda t: t.replace("00:00:0", "00:0").encode(), lambda t: t.replace(" --> ", "-->").encode(),
    ],
)  # fmt: skip
def test_encodings_line_ends_and_forms_of_times(encoded, tmp_path):
    text = "1\n00:00:01,000 --> 00:00:02,500\nein größerer Hund\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n"
    assert read(tmp_path, "x.srt", encoded(text))[0] == [
        ("ein größerer Hund", (1, 2.5)),
        ("b", (3, 4)),
    ]


def test_rejects_latin_1(tmp_path):
    with pytest.raises(AnnotationError, match="byte 0xe9 at offset"):
        read(tmp_path, "x.srt", "1\n00:00:01,000 --> 00:00:02,500\ncafé\n".encode("latin-1"))


ASS = """[Script Info]
Title: x

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\an8}A dog, running\\Nfast
Comment: 0,0:00:02.00,0:00:03.00,Default,,0,0,0,,nobody sees this
Dialogue: 0,0:00:03.00,0:00:03.00,Default,,0,0,0,,never shown
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100
Dialogue: 0,0:00:04.00,0:00:05.00,Default,,0,0,0,,rain
"""


@pytest.mark.parametrize("suffix", ["ass", "ssa", "ASS"])
def test_substation_alpha(suffix, tmp_path):
    assert read(tmp_path, f"x.{suffix}", ASS) == (
        [("A dog, running fast", (1, 2.5)), ("rain", (4, 5))],
        {"cue": 1},
    )


def test_substation_alpha_with_faults(tmp_path):
    with pytest.raises(AnnotationError, match="line 10: span 1.0 to 0.5 s must end"):
        read(tmp_path, "x.ass", ASS.replace("0:00:02.50", "0:00:00.50"))
    with pytest.raises(AnnotationError, match="line 9: a Dialogue needs Start, End and Text"):
        read(
            tmp_path,
            "x.ass",
            ASS.replace(
                "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n",
                "",
            ),
        )


DJI = """<font size="28">FrameCnt: {n}, DiffTime: 33ms
2024-05-01 12:00:00.123
[iso: 100] [shutter: 1/500.0] [fnum: 2.8] [ev: 0] [color_md: default] [ae_meter_md: 1] [focal_len: 24.00] [latitude: 0.0]
[longitude: 0.0] [rel_alt: 1.200 abs_alt: 40.1] [ct: 5500] </font>"""
TELEMETRY = {
    "mini": DJI,
    "mavic": "HOME(149.0251,-20.2532) 2017.08.05 14:11:51\nGPS(149.0251,-20.2533,16) BAROMETER:1.9\nISO:100 Shutter:60 EV: Fnum:2.2",
    "phantom": "F/2.8, SS 206.14, ISO 100, EV 0, GPS (-3.70, 40.41, 15), D 24.53m, H 3.10m, H.S 3.40m/s, V.S 0.00m/s",
    "dash": "2023-01-01 12:00:0{n} 45 km/h N 48.12345 E 11.12345",
    "camcorder": "2023/01/01 12:00:0{n}",
}


@pytest.mark.parametrize("kind", TELEMETRY)
def test_rejects_telemetry(kind, tmp_path):
    cues = [
        f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{TELEMETRY[kind].replace('{n}', str(n))}\n\n"
        for n in range(1, 6)
    ]
    with pytest.raises(OtherContentError, match="readings of instruments"):
        read(tmp_path, "DJI_0001.SRT", "".join(cues))


@pytest.mark.parametrize(
    ("texts", "is_so"),
    [
        (["0 0.5 0.5 0.25 0.25", "17 0.1 0.2 0.3 0.4"], True),
        (["1,-1,912,484,97,109,0,7,1"], True),
        (["Car 0.00 0 1.55 614.24 181.78 727.31 284.77 1.57 1.73 4.15"], True),
        (["a dog", "two cats"], False),
        (["In 2024", "42"], False),
        (["At 12:30 five people ran 3 km in 20 minutes, 2 of them to the house"], False),
        (["Add 2 cups of flour, 3 eggs, 100 g of sugar and 1 spoon of salt to the bowl"], False),
        (["犬が走る 3"], False),
        (["♪ ♪"], False),
        ([], False),
    ],
)
def test_is_sensor_data(texts, is_so):
    assert is_sensor_data(texts) == is_so


@pytest.mark.parametrize(
    "file",
    ["x.srt", "x.en.srt", "x.eng.vtt", "x.en-US.vtt", "x.zh-CN.srt", "x.zh-Hans.vtt", "x.pt_BR.srt", "x.es-419.vtt", "x.en-orig.vtt",
     "x.en.forced.srt", "x.en.sdh.srt", "x.pt-BR.hi.vtt", "x.forced.en.srt", "x.en.cc.srt", "x.en.2.srt", "x.default.en.forced.ass",
     "x.English.srt", "x.sr-Latn-RS.vtt", "x.mp4.srt", "x.mp4.en.vtt", "x.mp4.json", "x.en-US.json", "x.ssa"],
)  # fmt: skip
def test_names_of_captions_beside_a_video(file, tmp_path):
    for name in ("x.mp4", "x.one.mp4", "xy.mp4", file):
        (tmp_path / name).write_text("")
    omissions = Omissions()
    annotations = find_sidecars(
        [tmp_path / "x.mp4", tmp_path / "x.one.mp4", tmp_path / "xy.mp4"], omissions
    )
    assert [p.name for p in annotations[tmp_path / "x.mp4"]] == [file]
    assert (
        not annotations[tmp_path / "x.one.mp4"]
        and not annotations[tmp_path / "xy.mp4"]
        and not omissions
    )


@pytest.mark.parametrize(
    "file", ["x.part2.srt", "x.sbv", "x.en.ttml", "x.en.sub", "x.lrc", "x.directors-cut.vtt"]
)
def test_counts_unused_subtitles(file, tmp_path):
    for name in ("x.mp4", "y.mp4", file, "z.srt", "xy.srt"):
        (tmp_path / name).write_text("")
    omissions = Omissions()
    annotations = find_sidecars([tmp_path / "x.mp4", tmp_path / "y.mp4"], omissions)
    assert not any(annotations.values()) and omissions.counts == {"captions-file": 1}
    assert omissions.examples == {"captions-file": [file]}


def test_sidecar_belongs_to_the_video_of_its_full_name(tmp_path):
    for name in ("IMG_1.MOV", "IMG_1.mp4", "IMG_1.MOV.json"):
        (tmp_path / name).write_text("")
    annotations = find_sidecars([tmp_path / "IMG_1.MOV", tmp_path / "IMG_1.mp4"])
    assert annotations == {
        tmp_path / "IMG_1.MOV": [tmp_path / "IMG_1.MOV.json"],
        tmp_path / "IMG_1.mp4": [],
    }


def test_matches_composed_and_decomposed_accents(tmp_path):
    (tmp_path / "Fe\u0302te.mp4").write_text("")
    (tmp_path / "F\u00eate.en.srt").write_text("")
    annotations = find_sidecars([tmp_path / "Fe\u0302te.mp4"])
    assert [p.name for p in annotations[tmp_path / "Fe\u0302te.mp4"]] == ["F\u00eate.en.srt"]


def test_ignores_labels_and_numbers_beside_a_video(tmp_path):
    (tmp_path / "x.txt").write_text("0 0.5 0.5 0.25 0.25\n17 0.1 0.2 0.3 0.4\n")
    with pytest.raises(OtherContentError, match="holds numbers"):
        Sidecar().read(tmp_path / "x.txt")
