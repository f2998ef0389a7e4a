"""Two extractions of one workspace at the same time: one waits for the other, and the result is one extraction's."""

import json

import pytest

from e2e.command import Running, acknowledged, vla
from vla.world.clips import plan_clips, write_captions, write_clips

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    some = plan_clips("train", 8, 3)
    write_clips(some, folder / "clips")
    write_captions(some, folder / "captions.jsonl", 3)
    return folder


@pytest.mark.parametrize("killed", [False, True], ids=["both end well", "the first is killed"])
def test_two_at_once(clips, tmp_path, killed):
    arguments = (
        "extract",
        clips / "clips",
        "--captions",
        clips / "captions.jsonl",
        "--model",
        "demo",
        "--json",
    )
    (tmp_path / "alone").mkdir()
    assert vla(*arguments, cwd=tmp_path / "alone").returncode == 0
    together = tmp_path / "together"
    together.mkdir()
    both = [Running(*arguments, cwd=together) for _ in range(2)]
    if killed:
        both[0].kill()
    ended = [one.wait(200) for one in both[killed:]]
    assert [e.returncode for e in ended] == [0] * len(ended), [e.stderr for e in ended]
    said = [json.loads(e.stdout) for e in ended]
    # Between them they did the work once.
    if not killed:
        assert sum(s["extracted"] for s in said) == 8
    expected = acknowledged(tmp_path / "alone")
    assert len(expected) > 8 and acknowledged(together) == expected
    assert vla("verify", "--read-data", cwd=together).returncode == 0
