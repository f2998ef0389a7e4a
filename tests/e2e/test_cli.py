"""The four commands as a person runs them: in sequence, without a path between them, and with every mistake they make."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vla as vla_library
from e2e.command import vla
from vla.world.clips import plan_clips, write_captions
from vla.world.render import write_clip
from vla_cli.formatting import plural

TOY = ("--encoder", "toy", "--model", "48")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with twelve clips and captions, and the four commands run over it."""
    folder = tmp_path_factory.mktemp("world")
    clips = plan_clips("train", 12, 0)
    (folder / "clips").mkdir()
    for clip in clips:
        write_clip(clip.scene, folder / "clips" / clip.name)
    write_captions(clips, folder / "captions.jsonl", 0)
    (folder / "clips" / "broken.mp4").write_bytes(b"not a video at all")
    runs = {
        "extract": vla("extract", "clips", "--captions", "captions.jsonl", *TOY, cwd=folder),
        "train": vla("train", "--epochs", 2, cwd=folder),
        "index": vla("index", cwd=folder),
        "search": vla("search", "a red circle moves left", "--json", cwd=folder),
    }
    return folder, runs


def test_the_four_commands_work_in_sequence(world):
    _, runs = world
    assert runs["extract"].returncode == 3  # one file is broken
    assert (
        "broken.mp4" in runs["extract"].stdout and "not a readable video" in runs["extract"].stdout
    )
    assert (
        "Processed 13 videos (" in runs["extract"].stdout
        and "12 of 13 videos ok" in runs["extract"].stdout
    )
    assert (
        runs["train"].returncode == 0
        and "frozen" in runs["train"].stdout
        and "epoch" in runs["train"].stdout
    )
    assert runs["index"].returncode == 0 and "segments of 12 videos" in runs["index"].stdout
    hits = json.loads(runs["search"].stdout)
    assert runs["search"].returncode == 0 and len(hits) == 10
    assert [h["rank"] for h in hits] == list(range(1, 11))
    assert all(a["score"] >= b["score"] for a, b in zip(hits, hits[1:], strict=False))
    said = {
        "rank",
        "score",
        "video",
        "start",
        "end",
        "peak",
        "path",
        "query",
        "missing",
        "confidence",
        "duplicates",
    }
    assert said | {"near_duplicates", "steps"} == set(hits[0])
    assert all(h["start"] <= h["peak"] < h["end"] for h in hits)


def test_a_rate_leaves_out_what_chance_finds_and_nothing_left_is_exit_code_1(world):
    folder, _ = world
    every = json.loads(
        vla("search", "a red circle moves left", "-k", 36, "--json", cwd=folder).stdout
    )
    sure = sorted({h["confidence"] for h in every})
    assert 0 <= sure[0] < sure[-1] < 1
    fpr = round(1 - sure[-1] + 1e-6, 6)
    some = vla(
        "search", "a red circle moves left", "-k", 36, "--json", "--max-fpr", fpr, cwd=folder
    )
    assert some.returncode == 0 and json.loads(some.stdout) == [
        h for h in every if h["confidence"] == sure[-1]
    ]
    table = vla("search", "a red circle moves left", "--max-fpr", fpr, cwd=folder)
    assert table.returncode == 0 and f"{sure[-1]:.3f}" in table.stdout
    less = 1 - sure[-1] - 0.001
    none = vla("search", "a red circle moves left", "--json", "--max-fpr", less, cwd=folder)
    assert (none.returncode, json.loads(none.stdout)) == (1, [])
    assert vla("search", "a red circle moves left", "--max-fpr", 2, cwd=folder).returncode == 2


def test_hits_are_printed_as_they_are_asked_for(world):
    folder, _ = world
    asked = ("search", "a star", "-k", 12)
    every = json.loads(vla(*asked, "--json", cwd=folder).stdout)
    lines = vla(*asked, "--jsonl", cwd=folder).stdout.splitlines()
    assert [json.loads(line) for line in lines] == every
    rows = list(csv.DictReader(io.StringIO(vla(*asked, "--csv", cwd=folder).stdout)))
    assert [
        (r["query"], int(r["rank"]), float(r["score"]), r["video"], float(r["start"])) for r in rows
    ] == [("a star", h["rank"], h["score"], h["video"], h["start"]) for h in every]
    # A file is written once, also if several queries find it.
    (folder / "two.txt").write_text("a star\na red circle moves left\n", "utf-8")
    several = ("search", "--queries", "two.txt", "-k", 12)
    every = json.loads(vla(*several, "--json", cwd=folder).stdout)
    paths = list(dict.fromkeys(h["path"] for h in every))
    assert vla(*several, "--paths", cwd=folder).stdout.splitlines() == paths
    assert len(paths) < len(every)
    assert vla(*several, "--paths", "-0", cwd=folder).stdout == "".join(
        f"{path}\0" for path in paths
    )
    two = vla(*asked, "--json", "--csv", cwd=folder)
    assert two.returncode == 2 and "one of" in two.stderr


def test_a_filter_and_a_file_of_queries(world):
    folder, _ = world
    some = [
        h["video"]
        for h in json.loads(vla("search", "a star", "-k", 36, "--json", cwd=folder).stdout)
    ]
    name = some[-1]
    found = vla(
        "search",
        "a star",
        "--include",
        name,
        "--min-video-duration",
        "0:01",
        "--max-video-duration",
        "1h",
        "--modified-after",
        "2020-01-01",
        "--json",
        cwd=folder,
    )
    assert {h["video"] for h in json.loads(found.stdout)} == {name}
    none = vla("search", "a star", "--include", "elsewhere", "--json", cwd=folder)
    assert (none.returncode, json.loads(none.stdout)) == (
        1,
        [],
    ) and "no indexed video" in none.stderr
    (folder / "queries.txt").write_text("\ufeffa star\n\n  a red circle \n", "utf-8")
    batch = json.loads(
        vla("search", "--queries", "queries.txt", "-k", 3, "--json", cwd=folder).stdout
    )
    single = [
        json.loads(vla("search", q, "-k", 3, "--json", cwd=folder).stdout)
        for q in ("a star", "a red circle")
    ]
    assert batch == [h for hits in single for h in hits]
    table = vla("search", "--queries", "queries.txt", "-k", 3, cwd=folder).stdout
    assert table.index("a star") < table.index("a red circle") and table.count("rank") == 2
    (folder / "nothing.txt").write_text("\n \n", "utf-8")
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    for bad, words in (
        (("--queries", "nothing.txt"), "no query in"), (("--queries", "missing.txt"), "there is no file"),
        (("--queries", "latin.txt"), "UTF-8"), ((), "pass a text to search for"), (("x", "--min-video-duration", "soon"), "invalid duration"),
        (("x", "--modified-after", "yesterday"), "invalid date"), (("x", "--min-video-duration", "2m", "--max-video-duration", "60"), "invalid video duration range"),
        (("x", "--include", ""), "invalid video pattern"),
    ):  # fmt: skip
        done = vla("search", *bad, cwd=folder)
        assert done.returncode == 2 and words in " ".join(done.stderr.replace("│", " ").split()), (
            bad,
            done.stderr,
        )


def test_several_texts_and_what_follows(world):
    folder, _ = world

    def found(*arguments):
        done = vla("search", *arguments, "-k", 5, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    hits, said = found(
        "a star", "--also", "a red star^0.5", "--not", "a circle", "--not", "grey^0.1"
    )
    assert {h["query"] for h in hits} == {
        "a star + a red star^0.5 - a circle - grey^0.1"
    } and not said
    library = vla_library.search(
        vla_library.Query(
            "a star", also=(("a red star", 0.5),), negative=(("a circle", 0.25), ("grey", 0.1))
        ),
        k=5,
        workspace=folder,
    )
    assert [h.to_json() for h in library] == hits
    follows, _ = found("a star", "--then", "a circle", "--then", "a square", "--within", "0:05")
    for hit in follows:
        assert [s["query"] for s in hit["steps"]] == ["a star", "a circle", "a square"]
        peaks = [s["peak"] for s in hit["steps"]]
        assert all(0 < b - a <= 5 for a, b in zip(peaks, peaks[1:], strict=False))
    table = vla("search", "a star", "--then", "a circle", "-k", 2, cwd=folder)
    assert "steps" in table.stdout and "peak" not in table.stdout
    asked, said = found("when does a star grow?")
    assert "searching for 'a star grows' instead of 'when does a star grow?'" in said
    assert [{**h, "query": ""} for h in found("a star grows")[0]] == [
        {**h, "query": ""} for h in asked
    ]
    literal, said = found("when does a star grow?", "--no-rewrite")
    assert literal != asked and not said
    for given, least, most in (("1-2s", 1, 2), ("0:03-", 3, 99), ("-1.5", 0, 1.5)):
        brief, _ = found("a star", "--duration", given)
        assert brief and all(least <= h["end"] - h["start"] <= most for h in brief), given
    assert found("a star", "--duration", "any")[0] == found("a star", "--duration", "0-")[0]
    train, _ = found("a star", "--where", "split=train")
    assert train and all("train" in h["video"] for h in train)
    for bad, words in (
        (("a", "--within", "3"), "requires --then TEXT"), (("a", "--then", "b", "--within", "soon"), "invalid duration"),
        (("a", "--not", "b^much"), "invalid weight"), (("a", "--also", "b^0"), "above 0"), (("a", "--not", ""), "1 to 2000"),
        (("a", "--where", "x"), "invalid condition"), (("a", "--where", "colour=x"), "captions have no column 'colour'"),
        (("--like", "clips/a@1", "--then", "b"), "require a text"), (("--like", "clips/a@1", "--duration", "2-5"), "require a text"),
        (("a", "--duration", "2"), "invalid duration range"), (("a", "--duration", "-"), "invalid duration range"),
        (("a", "--duration", "2-x"), "invalid duration"), (("a", "--duration", "5-2"), "invalid duration range 5-2"),
        (("a", "--then", "b", "--duration", "any"), "not to a sequence of events"),
    ):  # fmt: skip
        done = vla("search", *bad, cwd=folder)
        assert done.returncode == 2 and words in " ".join(done.stderr.replace("│", " ").split()), (
            bad,
            done.stderr,
        )


def test_a_picture_and_a_moment_are_searched_with(world):
    folder, runs = world
    first = json.loads(runs["search"].stdout)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    done = vla("search", "--image", "picture.png", "-k", 4, "--json", cwd=folder)
    hits = json.loads(done.stdout)
    assert done.returncode == 0 and not done.stderr
    less = vla(
        "search", "--image", "picture.png", "--not", "a star^0.9", "-k", 4, "--json", cwd=folder
    )
    assert less.returncode == 0 and json.loads(less.stdout)[0]["score"] != hits[0]["score"]
    assert {(h["query"], h["confidence"]) for h in hits} == {("picture.png", None)} and len(
        hits
    ) == 4
    name, at = first["video"], first["peak"]
    like = json.loads(vla("search", "--like", f"{name}@{at}", "-k", 5, "--json", cwd=folder).stdout)
    assert len(like) == 5 and not any(
        h["video"] == name and h["start"] <= at < h["end"] for h in like
    )
    by_path = vla(
        "search",
        "--like",
        f"{Path(name).name}@0:{at:04.1f}",
        "-k",
        5,
        "--json",
        cwd=folder / "clips",
    )
    assert json.loads(by_path.stdout) == like
    for bad, code, words in (
        (("--image", "captions.jsonl"), 2, "cannot be read"), (("--like", name), 2, "invalid moment"), (("--like", f"{name}@9e9"), 2, "has a duration of"),
        (("--like", "nope.mp4@1"), 4, "never extracted"), (("--image", "picture.png", "--max-fpr", "0.1"), 2, "applies to text queries only"),
        (("--image", "picture.png", "--like", f"{name}@1"), 2, "one of"),
    ):  # fmt: skip
        done = vla("search", *bad, cwd=folder)
        assert done.returncode == code and words in " ".join(done.stderr.split()), (
            bad,
            done.stderr,
        )


def test_a_question_is_answered_by_a_trained_head(world):
    folder, _ = world
    clips = sorted(p.name for p in (folder / "clips").glob("train-*.mp4"))
    lines = [
        {
            "video": f"clips/{name}",
            "caption": "Which colour?",
            "question": {"answers": [("red", "blue")[i % 2]]},
        }
        for i, name in enumerate(clips)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trained = vla(
        "train", "--captions", "questions.jsonl", "--epochs", 1, "--name", "asked", cwd=folder
    )
    assert trained.returncode == 0, trained.stderr
    done = vla("ask", "Which colour?", f"clips/{clips[0]}", "--json", cwd=folder)
    reply = json.loads(done.stdout)[0]
    assert (
        reply["answer"] in ("red", "blue") and reply["kind"] == "open" and reply["run"] == "asked"
    )
    assert len(reply["moments"]) >= 1 and {o["answer"] for o in reply["others"]} == {"red", "blue"}
    table = vla("ask", "Which colour?", "--all", cwd=folder)
    assert (
        table.returncode == 0
        and table.stdout.count("clips/") == len(clips)
        and "text-only answer" in table.stdout
    )
    none = vla("ask", "Which?", clips[0], "--choice", "a", "--choice", "b", cwd=folder / "clips")
    assert none.returncode == 4 and "choice_qa" in none.stderr
    assert vla("ask", "Which colour?", cwd=folder).returncode == 2


def test_running_extract_again_does_nothing_new(world):
    folder, _ = world
    before = {p: p.stat().st_mtime_ns for p in (folder / ".vla" / "cache").rglob("*.h5")}
    again = vla("extract", "clips", cwd=folder)
    assert "Nothing new to extract. 12 of 13 videos ok" in again.stdout and again.returncode == 3
    assert {p: p.stat().st_mtime_ns for p in (folder / ".vla" / "cache").rglob("*.h5")} == before


def test_the_workspace_is_found_from_below_and_by_variable(world, tmp_path):
    folder, _ = world
    below = vla("search", "a star", "-k", 1, "--json", cwd=folder / "clips")
    variable = vla(
        "search", "a star", "-k", 1, "--json", cwd=tmp_path, env={"VLA_WORKSPACE": str(folder)}
    )
    option = vla("search", "a star", "-k", 1, "--json", "--workspace", folder, cwd=tmp_path)
    assert json.loads(below.stdout) == json.loads(variable.stdout) == json.loads(option.stdout)


def test_search_with_a_folder_extracts_and_indexes_first(tmp_path):
    for clip in plan_clips("train", 3, 1):
        write_clip(clip.scene, tmp_path / clip.name)
    done = vla("search", "anything", tmp_path, *("--model", "demo"), "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert {Path(h["path"]).parent for h in json.loads(done.stdout)} == {tmp_path}
    write_clip(plan_clips("train", 4, 2)[0].scene, tmp_path / "new.mp4")
    again = vla("search", "anything", tmp_path, "-k", 50, "--json", cwd=tmp_path)
    assert any(h["video"] == "new.mp4" for h in json.loads(again.stdout))


def test_a_stale_index_is_named(tmp_path):
    clips = plan_clips("train", 2, 1)
    write_clip(clips[0].scene, tmp_path / "a.mp4")
    assert vla("extract", "a.mp4", *TOY, cwd=tmp_path).returncode == 0
    assert vla("index", cwd=tmp_path).returncode == 0
    write_clip(clips[1].scene, tmp_path / "b.mp4")
    assert vla("extract", "b.mp4", cwd=tmp_path).returncode == 0
    found = vla("search", "x", cwd=tmp_path)
    assert "out of date (1 video is missing" in found.stderr and found.returncode == 0


def test_an_index_is_measured_and_brought_up_to_date(tmp_path):
    for number, clip in enumerate(plan_clips("train", 12, 4)):
        write_clip(clip.scene, tmp_path / f"{number}.mp4")
    assert vla("extract", ".", *TOY, cwd=tmp_path).returncode == 0
    first = vla(
        "index", "--backend", "faiss_ivf_sq8", "--memory", "1GB", "--recall", "0.9", cwd=tmp_path
    )
    assert first.returncode == 0 and "Videos: 12 added.\n" in first.stdout
    assert (
        "recall@10" in first.stdout and "chosen" in first.stdout and "faiss_ivf_sq8" in first.stdout
    )
    assert "Videos: no changes." in vla("index", cwd=tmp_path).stdout
    (tmp_path / "1.mp4").rename(tmp_path / "one.mp4")
    assert vla("extract", ".", cwd=tmp_path).returncode == 0
    assert "Videos: 1 renamed.\n" in vla("index", cwd=tmp_path).stdout
    measured = json.loads(vla("index", "--json", cwd=tmp_path).stdout)["measured"]
    assert [m["backend"] for m in measured] == ["faiss_ivf_sq8"] and measured[0]["recall"] >= 0.9
    for wrong in (("--memory", "lots"), ("--recall", "2"), ("--backend", "none such")):
        refused = vla("index", *wrong, cwd=tmp_path)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_another_encoder_is_refused_with_the_difference_and_the_way_out(world):
    folder, _ = world
    refused = vla("extract", "clips", "--encoder", "toy", "--model", "32", cwd=folder)
    assert refused.returncode == 4
    assert "model: '48' in this workspace, '32' in the requested settings" in refused.stderr
    assert "--change-encoder" in refused.stderr
    slower = vla("extract", "clips", "--fps", "1", cwd=folder)
    assert (
        slower.returncode == 4 and "sampling: 'fps=2' in this workspace, 'fps=1'" in slower.stderr
    )


def test_a_run_of_another_encoder_is_refused(tmp_path):
    clips = plan_clips("train", 4, 1)
    for clip in clips:
        write_clip(clip.scene, tmp_path / clip.name)
    write_captions(clips, tmp_path / "c.jsonl", 0)
    assert vla("extract", ".", "-c", "c.jsonl", *TOY, cwd=tmp_path).returncode == 0
    assert vla("train", "--epochs", 1, "--name", "mine", cwd=tmp_path).returncode == 0
    switched = vla(
        "extract", ".", "--encoder", "toy", "--model", "32", "--change-encoder", cwd=tmp_path
    )
    assert switched.returncode == 0
    refused = vla("index", "--run", "mine", cwd=tmp_path)
    assert (
        refused.returncode == 4
        and "different feature spaces" in refused.stderr
        and "--run none" in refused.stderr
    )
    assert vla("index", "--run", "none", cwd=tmp_path).returncode == 0


MISTAKES = [
    (("search", "x"), 4, "no workspace"),
    (("index",), 4, "no workspace"),
    (("train",), 4, "no workspace"),
    (("extract",), 2, "missing argument"),
    (("extract", "nowhere.mp4", *TOY), 2, "no such file, folder or pattern: nowhere.mp4"),
    (
        ("extract", ".", "--encoder", "nope"),
        2,
        "no encoder is called 'nope'; there are conse, open_clip, toy",
    ),
    (("extract", ".", "--model", "ViT-Q-99"), 2, "open_clip has no model called 'ViT-Q-99'"),
    (("extract", ".", "--model", "local-dir:nowhere"), 4, "open_clip_config.json"),
    (("extract", ".", *TOY, "--fps", "0"), 2, "--fps must be above 0"),
    (("extract", ".", *TOY, "--decoder", "nope"), 2, "no decoder is called 'nope'"),
    (("extract", ".", *TOY, "-c", "nowhere.csv"), 2, "nowhere.csv"),
    (("extract", ".", "--device", "cuda:7", "--model", "demo"), 4, "cuda:7"),
    (("extract", ".", "--device", "abacus", "--model", "demo"), 2, "abacus"),
    (("frobnicate",), 2, "no such command"),
    (("search", "x", "--bogus"), 2, "no such option"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    MISTAKES,
    ids=lambda v: " ".join(v)[:40] if isinstance(v, tuple) else None,
)
def test_mistakes_get_one_clear_line_and_their_exit_code(tmp_path, arguments, code, message):
    done = vla(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""


def test_bad_captions_stop_before_anything_is_extracted(tmp_path):
    write_clip(plan_clips("train", 2, 1)[0].scene, tmp_path / "a.mp4")
    (tmp_path / "c.csv").write_text(
        "video,caption,start,end\na.mp4,good,0,1\na.mp4,bad,5,2\na.mp4,worse,x,2\n"
    )
    done = vla("extract", "a.mp4", "-c", "c.csv", *TOY, cwd=tmp_path)
    assert done.returncode == 2
    assert "line 3" in done.stderr and "line 4" in done.stderr
    assert not list((tmp_path / ".vla").rglob("*.h5"))


def test_training_without_captions_says_what_to_do(tmp_path):
    write_clip(plan_clips("train", 2, 1)[0].scene, tmp_path / "a.mp4")
    assert vla("extract", "a.mp4", *TOY, cwd=tmp_path).returncode == 0
    done = vla("train", cwd=tmp_path)
    assert done.returncode == 4 and "--captions FILE" in done.stderr
    (tmp_path / "c.csv").write_text("video,caption\nother.mp4,hello\n")
    assert (
        "names none of the 1 extracted videos" in vla("train", "-c", "c.csv", cwd=tmp_path).stderr
    )


def test_captions_beside_videos_are_found(tmp_path):
    for i, clip in enumerate(plan_clips("train", 2, 1)):
        write_clip(clip.scene, tmp_path / f"v{i}.mp4")
    (tmp_path / "v0.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nA thing moves.\n")
    (tmp_path / "v1.txt").write_text("A quiet clip.\n")
    done = vla("extract", ".", *TOY, cwd=tmp_path)
    assert (
        done.returncode == 0 and "2 captions in the workspace; encoded 2 new texts." in done.stdout
    )
    kept = [
        json.loads(line) for line in (tmp_path / ".vla" / "captions.jsonl").read_text().splitlines()
    ]
    assert {(k["video"], k["query"]) for k in kept} == {
        ("v0.mp4", "A thing moves."),
        ("v1.mp4", "A quiet clip."),
    }


def test_long_captions_are_split_and_nothing_is_cut(tmp_path):
    from vla.cache.store import active_cache

    write_clip(plan_clips("train", 2, 1)[0].scene, tmp_path / "a.mp4")
    long = " ".join(f"Sentence number {i} says that something happens here." for i in range(9))
    (tmp_path / "c.jsonl").write_text(json.dumps({"video": "a.mp4", "caption": long}) + "\n")
    assert vla("extract", "a.mp4", "-c", "c.jsonl", *TOY, cwd=tmp_path).returncode == 0
    pieces = active_cache(tmp_path / ".vla" / "cache").pieces(long)
    assert len(pieces) == 9 and " ".join(pieces) == long


@pytest.mark.skipif(sys.platform == "win32", reason="named: such names cannot exist on Windows")
def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    names = ["\x1b]0;owned\x07.mp4", "a\nb.mp4", "[red]x[bold].mp4", "-n.mp4", "\u202egnp.mp4"]
    for clip, name in zip(plan_clips("train", 4, 1), names[:-1], strict=True):
        write_clip(clip.scene, tmp_path / "x.mp4")
        (tmp_path / "x.mp4").rename(tmp_path / name)
    (tmp_path / names[-1]).write_bytes(b"broken")
    done = vla("extract", ".", *TOY, cwd=tmp_path)
    assert done.returncode == 3
    assert vla("index", cwd=tmp_path).returncode == 0
    table = vla("search", "x", "-k", 20, cwd=tmp_path)
    printed = done.stdout + done.stderr + table.stdout + table.stderr
    assert not any(ord(c) < 32 and c != "\n" for c in printed) and "\u202e" not in printed
    assert "[red]x[bold].mp4" in table.stdout
    hits = json.loads(vla("search", "x", "-k", 20, "--json", cwd=tmp_path).stdout)
    # To this encoder some of the clips look the same.
    assert {name["video"] for h in hits for name in (h, *h["near_duplicates"])} == set(names[:-1])


@pytest.mark.skipif(sys.platform == "win32", reason="named: no SIGINT to send on Windows")
def test_a_second_control_c_stops_at_once():
    """Whatever the first one waits for: here, a thread that will not end."""
    code = """
import threading, time
from vla_cli.interrupt import install_handlers
install_handlers()
stuck = threading.Thread(target=time.sleep, args=(60,))
stuck.start()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("first", flush=True)
    stuck.join()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "first\n" and process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=50) == -signal.SIGINT
        assert process.stderr.read() == "stopping; press Ctrl-C again to stop at once\n"


@pytest.mark.skipif(sys.platform == "win32", reason="named: no SIGINT to send on Windows")
def test_control_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    (tmp_path / "clips").mkdir()
    first = tmp_path / "clips" / "0.mp4"
    write_clip(plan_clips("train", 2, 1)[0].scene, first)
    for i in range(1, 40):
        # An empty box of its own, or the files would be recognised as copies of each other.
        (tmp_path / "clips" / f"{i}.mp4").write_bytes(
            first.read_bytes() + b"\0\0\0\x09free" + bytes([i])
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_cli", "extract", "clips", "--model", "demo", "--workers", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background of a shell has told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not list(
        (tmp_path / ".vla").glob("cache/*/videos/*.json")
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    done = list((tmp_path / ".vla").glob("cache/*/videos/*.json"))
    assert process.returncode == 130 and "Traceback" not in err
    assert "run the same command again to continue" in err
    assert 0 < len(done) < 40
    again = vla("extract", "clips", cwd=tmp_path)
    assert (
        again.returncode == 0 and f"Processed {plural(40 - len(done), 'video')} (" in again.stdout
    )


def test_help_is_quick_because_it_loads_nothing_heavy():
    code = "import sys, vla_cli.main; print([m for m in ('torch', 'numpy', 'pandas', 'open_clip', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_models(tmp_path):
    import vla as package

    assert vla("--version", cwd=tmp_path).stdout == f"vla {package.__version__}\n"
    presets = json.loads(vla("models", "--json", cwd=tmp_path).stdout)
    assert {"demo", "fast", "balanced", "best", "offline"} == set(presets)
    assert presets["offline"]["encoder"] == "conse"
    assert all(p["licence"] for p in presets.values())


def test_json_of_every_command_parses(world):
    folder, _ = world
    assert len(json.loads(vla("extract", "clips", "--json", cwd=folder).stdout)["videos"]) == 13
    trained = json.loads(vla("train", "--epochs", 2, "--json", cwd=folder).stdout)
    assert np.isfinite(trained["after"]["score"]) and trained["config"]["epochs"] == 2
    assert json.loads(vla("index", "--json", cwd=folder).stdout)["videos"] == 12
