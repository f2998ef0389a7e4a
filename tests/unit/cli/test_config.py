"""`vla.toml`: which value wins, and what is refused."""

import json
import os
import sys
from pathlib import Path

import pytest

from vla.errors import UsageError
from vla_cli import config, config_file, main

COMMANDS = main.typer.main.get_command(main.app).commands


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `vla` in a folder; its exit code, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("VLA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vla", *map(str, arguments)])
        code = main._run()
        done = capsys.readouterr()
        return code or 0, done.out, done.err

    return call


def settings(run, *arguments):
    code, out, err = run("config", "--json", *arguments)
    assert code == 0, err
    return {
        (row["command"], row["option"]): (row["value"], row["source"])
        for row in json.loads(out)["settings"]
    }


def test_no_file_is_no_setting(run, tmp_path):
    assert settings(run) == {}
    code, out, _ = run("config")
    assert code == 0 and "No vla.toml" in out and "defaults" in out


def test_sections_override_general_keys(run, tmp_path):
    (tmp_path / "vla.toml").write_text(
        'device = "cpu"\nfps = 1.5\n[search]\ndevice = "mps"\ntop_k = 3\n'
    )
    found = settings(run)
    where = f"{tmp_path / 'vla.toml'}, line "
    assert found["extract", "device"] == ("cpu", where + "1")
    assert found["search", "device"] == ("mps", where + "4")
    assert found["search", "top-k"] == ("3", where + "5")
    assert found["extract", "fps"] == ("1.5", where + "2")
    (tmp_path / "vla.toml").write_text("search.k = 4\n[rm]\n")
    assert settings(run)["search", "top-k"] == ("4", str(tmp_path / "vla.toml"))
    # `--fps` of import-features is another thing: the rate of features that others extracted.
    assert ("import-features", "fps") not in found and ("index", "device") not in found


def test_environment_wins_over_the_file(run, tmp_path, monkeypatch):
    (tmp_path / "vla.toml").write_text("[search]\ntop-k = 3\nmax-fpr = 0.1\n")
    monkeypatch.setenv("VLA_SEARCH_TOP_K", "5")
    monkeypatch.setenv("VLA_DEVICE", "cpu")
    found = settings(run)
    assert found["search", "top-k"] == ("5", "$VLA_SEARCH_TOP_K")
    assert found["train", "device"] == ("cpu", "$VLA_DEVICE")
    assert found["search", "max-fpr"][0] == "0.1"
    monkeypatch.setenv("VLA_SEARCH_TOP_K", "many")
    code, _, err = run("config")
    assert code == 2 and "--top-k many is set by $VLA_SEARCH_TOP_K" in err


def test_the_nearest_file_is_read_and_only_that(run, tmp_path, monkeypatch):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "vla.toml").write_text("[search]\ntop-k = 1\nmax-fpr = 0.5\n")
    (tmp_path / "a" / "vla.toml").write_text("[search]\ntop-k = 2\n")
    monkeypatch.chdir(below)
    assert settings(run) == {("search", "top-k"): ("2", f"{tmp_path / 'a' / 'vla.toml'}, line 2")}
    # Beside the workspace that is named, not here; `..` is no folder to look into.
    other = tmp_path / "other"
    other.mkdir()
    (other / "vla.toml").write_text("[search]\ntop-k = 9\n")
    monkeypatch.chdir(tmp_path / "a")
    for arguments in (("-w", other), ("-w", "../other")):
        assert settings(run, *arguments)["search", "top-k"][0] == "9"
    (other / "vla.toml").unlink()
    assert settings(run, "-w", "../other")["search", "top-k"][0] == "1"
    (tmp_path / "vla.toml").unlink()
    assert settings(run, "-w", "../other") == {}
    monkeypatch.setenv("VLA_WORKSPACE", str(below))
    assert settings(run)["search", "top-k"][0] == "2"


def context_of(arguments):
    """The context of `vla search` or `vla extract` after its arguments were parsed, and not run."""
    group = main.typer.main.get_command(main.app)
    parent = group.make_context("vla", ["ls"])
    parent.obj = {"workspace": None, "quiet": False, "verbose": False}
    command = group.commands[arguments[0]]
    ctx = command.make_context(arguments[0], arguments[1:], parent=parent)
    config.drop_alternatives(ctx, command.params)
    return ctx


def test_the_command_line_wins_and_replaces_alternatives(run, tmp_path):
    (tmp_path / "vla.toml").write_text(
        'model = "fast"\npretrained = "x"\nfps = 1\n[search]\nnot = ["a", "b^2"]\njson = true\nmodified-after = 2024-05-01\n'
        "[extract]\nsidecars = false\n"
    )
    plain = context_of(["extract", "v"]).params
    assert (plain["model"], plain["pretrained"], plain["fps"]) == ("fast", "x", 1.0)
    assert plain["sidecars"] is False
    other = context_of(
        ["extract", "v", "--model", "best", "--num-frames", "8", "--sidecars"]
    ).params
    assert (other["model"], other["pretrained"], other["fps"]) == ("best", None, None)
    assert other["num_frames"] == 8 and other["sidecars"] is True
    search = context_of(["search", "q"]).params
    assert list(search["negative"]) == ["a", "b^2"] and search["as_json"] is True
    assert search["modified_after"] == "2024-05-01"
    lines = context_of(["search", "q", "--csv", "--not", "c"]).params
    assert list(lines["negative"]) == ["c"] and (lines["as_json"], lines["as_csv"]) == (False, True)


def test_variables_replace_alternatives_of_the_file(run, tmp_path, monkeypatch):
    (tmp_path / "vla.toml").write_text('model = "fast"\npretrained = "x"\nfps = 1\n')
    monkeypatch.setenv("VLA_MODEL", "best")
    monkeypatch.setenv("VLA_EXTRACT_SCENES", "true")
    monkeypatch.setenv("VLA_EXTRACT_QUIET", "0")
    found = context_of(["extract", "v"]).params
    assert (found["model"], found["pretrained"], found["fps"]) == ("best", None, None)
    assert found["scenes"] is True and found["quiet"] is False
    assert context_of(["extract", "v", "--model", "offline"]).params["model"] == "offline"


def test_paths_are_relative_to_the_file(run, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "vla.toml").write_text(
        'model = "local-dir:weights/../w"\n[train]\nrecipe = "r.toml"\ncaptions = ["c.csv", "/d.csv"]\n[search]\nqueries = "-"\n'
        'include = ["2024/*"]\n'
    )
    monkeypatch.chdir(tmp_path / "a")
    found = {key: value for key, (value, _) in settings(run).items()}
    assert found["extract", "model"] == f"local-dir:{tmp_path / 'w'}"
    assert found["train", "recipe"] == str(tmp_path / "r.toml")
    assert found["train", "captions"] == f"{tmp_path / 'c.csv'}, {Path('/d.csv').absolute()}"
    assert found["search", "queries"] == "-" and found["search", "include"] == "2024/*"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('devise = "cpu"', "line 1: 'devise' is not a general option; did you mean 'device'?"),
        ("\ntop-k = 3", "line 2: 'top-k' must be in the section of its command: [search]"),
        (
            "[serach]\nx = 1",
            "line 1: 'serach' is not a command with settings; did you mean 'search'?",
        ),
        (
            "[search]\ntopk = 1",
            "line 2: 'topk' is not an option of `vla search`; did you mean 'top-k'?",
        ),
        ("[search]\nquery = 'x'", "line 2: 'query' is not an option"),
        ("[search]\nmax-fpr = true", "line 2: 'max-fpr' must be a text or a number, not True"),
        ("[search]\nmax-fpr = [1]", "line 2: 'max-fpr' must be a text or a number, not [1]"),
        ("[search]\nnot = [[1]]", "line 2: 'not' must be a text or a number"),
        ("[search]\njson = 'yes'", "line 2: 'json' must be true or false, not 'yes'"),
        ("[search]\njson = 1", "line 2: 'json' must be true or false, not 1"),
        ("[rm]\nyes = true", "line 2: 'yes' can only be given on the command line"),
        ("[train]\noverwrite = true", "line 2: 'overwrite' can only be given on the command line"),
        ("[report]\noutput = '/etc/passwd'", "line 2: 'output' can only be given"),
        ("[train.x]\ny = 1", "'x' is not an option of `vla train`"),
        ("[search]\nk = 1\ntop-k = 2", "line 3: 'top-k' is set twice"),
        ("device = 'cpu'\n[search]\ntop_k = 1\ntop-k = 2", "line 4: 'top-k' is set twice"),
        ("a = [", "is not TOML"),
        ("a = " + "[" * 20000, "is not TOML"),
        ("#" * 70_000, "more than the 65536 allowed"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(run, tmp_path, text, said):
    (tmp_path / "vla.toml").write_text(text)
    for command in ("config", "ls"):
        code, out, err = run(command)
        assert code == 2 and said in err and "Traceback" not in err and not out, err
        assert str(tmp_path / "vla.toml") in err
    # Help is there when the file is faulty.
    for arguments in (("help", "search"), ("search", "--help")):
        assert run(*arguments)[0] == 0


def test_all_problems_are_named_at_once(run, tmp_path):
    (tmp_path / "vla.toml").write_text("x = 1\n[search]\ny = 1\n[index]\nz = 1\n")
    with pytest.raises(UsageError) as caught:
        config.load(tmp_path, COMMANDS)
    assert [line.partition("line ")[2][0] for line in str(caught.value).splitlines()] == [
        "1",
        "3",
        "5",
    ]


@pytest.mark.parametrize("value", ["0", "-3", '"five"', "2.5"])
def test_a_value_out_of_range_is_an_error_of_its_command(run, tmp_path, value):
    (tmp_path / "vla.toml").write_text(f"\n[search]\ntop-k = {value}\n")
    for arguments in (("config",), ("search", "x")):
        code, _, err = run(*arguments)
        assert code == 2 and "--top-k" in err
        assert f"is set in {tmp_path / 'vla.toml'}, line 3" in err
    code, _, err = run("search", "x", "-k", "3")
    assert code == 4 and "no workspace" in err  # the command line wins


def test_errors_name_the_settings_that_were_used(run, tmp_path):
    (tmp_path / "vla.toml").write_text('device = "cpu"\nmodel = "no-such-model"\n')
    (tmp_path / "v").mkdir()
    code, _, err = run("extract", "v")
    assert code == 2 and "no model called 'no-such-model'" in err
    assert f"note: --model no-such-model is set in {tmp_path / 'vla.toml'}, line 2" in err


def test_files_that_are_no_files(run, tmp_path):
    (tmp_path / "vla.toml").mkdir()
    assert run("ls")[0] == 2
    (tmp_path / "vla.toml").rmdir()
    (tmp_path / "vla.toml").symlink_to("nowhere")
    code, _, err = run("ls")
    assert code == 2 and "there is no file" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no named pipes on Windows")
def test_a_pipe_does_not_block(run, tmp_path):
    os.mkfifo(tmp_path / "vla.toml")
    code, _, err = run("ls")
    assert code == 2 and "is a pipe" in err


def test_a_file_of_another_user_does_not_choose_the_workspace(run, tmp_path, monkeypatch):
    (tmp_path / "vla.toml").write_text('workspace = "elsewhere"\n')
    assert config.load(tmp_path, COMMANDS).defaults("ls") == {
        "workspace": str(tmp_path / "elsewhere")
    }
    monkeypatch.setattr(config_file, "_is_own", lambda path: False)
    code, _, err = run("ls")
    assert code == 2 and "belongs to another user" in err
    (tmp_path / "vla.toml").write_text('device = "cpu"\n')
    assert settings(run)["extract", "device"][0] == "cpu"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="named: files have no owner on Windows")
def test_owner_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "vla.toml"
    path.touch()
    owner = path.stat().st_uid
    assert config_file._is_own(path)
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert config_file._is_own(path) == (owner == 0)


def test_workspace_precedence(run, tmp_path, monkeypatch):
    for name in ("toml", "env", "option"):
        (tmp_path / name / ".vla").mkdir(parents=True)
        (tmp_path / name / ".vla" / "workspace.json").write_text('{"schema": 1}')
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "vla.toml").write_text('workspace = "../toml"\n')
    monkeypatch.chdir(tmp_path / "here")

    def root(*arguments):
        code, out, err = run(*arguments, "info", "--json")
        assert code == 0, err
        return Path(json.loads(out)["workspace"]).name

    assert root() == "toml"
    # The file beside the workspace of the variable or the option is read, not that of this folder.
    monkeypatch.setenv("VLA_WORKSPACE", str(tmp_path / "env"))
    assert root() == "env"
    assert root("-w", "../option") == "option"
    (tmp_path / "env" / "vla.toml").write_text('workspace = "../toml"\n')
    (tmp_path / "option" / "vla.toml").write_text('workspace = "../toml"\n')
    assert root() == "env" and root("-w", "../option") == "option"


def test_every_option_of_every_command_can_be_looked_up(run):
    for name, command in config.with_settings(COMMANDS).items():
        listed = {option for _, option in settings(run, name)}
        assert listed == set(config_file.configurable(command.params)), name


def test_the_library_does_not_read_the_file(tmp_path, monkeypatch):
    root = Path(config_file.UsageError.__module__.replace(".", "/")).parts[0]
    assert root == "vla"
    import vla

    for path in Path(vla.__file__).parent.rglob("*.py"):
        assert "vla.toml" not in path.read_text("utf-8"), path
