"""Interrupted runs resume with equal bits; Ctrl-C finishes the step."""

import json
import shutil
import signal
import sys
import threading

import numpy as np
import pytest
import torch

from support.made_corpus import with_tokens
from unit.training.test_loop import SETTINGS, corpus, run
from vla.evaluation.results import PerQueryScores
from vla.evaluation.validation import ValidationResult
from vla.model import AlignmentModel, ModelConfig
from vla.training import epochs
from vla.training.checkpoint import load_model, load_state, save_state
from vla.training.config import TrainConfig
from vla.training.interrupt import on_interrupt
from vla.training.state import State, restore_state, state_tensors

# 20 videos to train on, 2 a step, 4 epochs: 40 steps.
CONFIG = TrainConfig(**{**SETTINGS, "batch_size": 2})


@pytest.fixture(autouse=True)
def saved_at_every_step(monkeypatch):
    monkeypatch.setattr("vla.training.throughput._MIN_SAVE_INTERVAL", -1.0)
    monkeypatch.setattr("vla.training.throughput._SAVE_COST_FACTOR", 0)
    monkeypatch.setattr("vla.training.throughput._SHOW_INTERVAL", -1.0)


@pytest.fixture
def answered():
    """SIGINT as Python answers it by itself, which those who start tests in the background have changed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Broken(Exception):
    pass


def breaking_off_after(steps):
    """A progress callback that breaks the run off once so many steps were taken and kept."""
    taken = []

    def progress(p):
        taken.append(p)
        if len(taken) == steps:
            raise Broken

    return progress


@pytest.mark.slow
def test_resumes_at_every_step_with_equal_bits(tmp_path, monkeypatch):
    save, kept = epochs.save_state, []

    def save_and_copy(folder, *rest):
        save(folder, *rest)
        kept.append(shutil.copytree(folder, tmp_path / f"after {len(kept) + 1}"))

    monkeypatch.setattr(epochs, "save_state", save_and_copy)
    data = corpus()
    whole = run(tmp_path / "whole", data, CONFIG)
    monkeypatch.setattr(
        epochs, "save_state", lambda *rest: None
    )  # none is needed any more, and each takes its time
    assert len(kept) == 40
    assert (
        len(list((tmp_path / "whole").iterdir())) == 2
    )  # the run and its weights; no state is left
    for step, folder in enumerate(kept, 1):
        notes = []
        resumed = run(folder, data, CONFIG, lambda p, notes=notes: notes.append(p.message))
        epoch, inside = divmod(step - 1, 10)
        assert f"resumed after step {inside + 1} of 10 in epoch {epoch + 1}" in notes
        assert resumed.digest == whole.digest, step
        assert resumed.record == whole.record, step


def test_repeated_resuming_gives_equal_bits(tmp_path):
    data = corpus()
    whole = run(tmp_path / "whole", data, CONFIG)
    for _ in range(7):
        with pytest.raises(Broken):
            run(tmp_path / "parts", data, CONFIG, breaking_off_after(6))
    assert json.loads((tmp_path / "parts" / "progress.json").read_text())["record"]["epoch"] >= 2
    assert run(tmp_path / "parts", data, CONFIG).digest == whole.digest


@pytest.mark.parametrize("step", [1, 5, 9, 10, 11, 20, 21, 25, 30, 35, 39])
@pytest.mark.parametrize("every", [1, 3])
def test_resumes_within_epochs_and_at_their_ends(tmp_path, monkeypatch, step, every):
    """With the selection so far; with `every` 3 also within and after epochs that are not validated."""
    config = TrainConfig(**{**SETTINGS, "batch_size": 2}, validate_every=every)
    data, save = corpus(), epochs.save_state
    saves = []

    def save_so_many(*given):
        if len(saves) < step:
            saves.append(0)
            save(*given)

    monkeypatch.setattr(epochs, "save_state", save_so_many)
    whole = run(tmp_path / "whole", data, config)
    assert [row["epoch"] for row in whole.record["history"]] == (
        [1, 2, 3, 4] if every == 1 else [3, 4]
    )
    saves.clear()

    class Killed(Exception):
        pass

    def kill(*given):
        save_so_many(*given)
        if len(saves) == step:
            raise Killed

    monkeypatch.setattr(epochs, "save_state", kill)
    with pytest.raises(Killed):
        run(tmp_path / "parts", data, config)
    state = json.loads((tmp_path / "parts" / "progress.json").read_text())["record"]
    assert (state["epoch"], state["step"]) == ((step - 1) // 10, (step - 1) % 10 + 1)
    done = [row["epoch"] for row in state["history"]]
    assert done == [n for n in range(1, state["epoch"] + 1) if n % every == 0]
    assert state["history"] == whole.record["history"][: len(done)]
    notes = []
    monkeypatch.setattr(epochs, "save_state", save)
    again = run(tmp_path / "parts", data, config, lambda p: notes.append(p.message))
    place = f"step {state['step']} of 10 in epoch {state['epoch'] + 1}"
    assert f"resumed after {place}" in notes
    assert again.digest == whole.digest and again.record == whole.record


def test_state_of_the_selection_round_trips(tmp_path):
    """Values by task and query of the best validation, and the weights that are selected."""
    scores = {
        "a": PerQueryScores(np.array([0.25, 1 / 3]), np.array([4, 9])),
        "b c": PerQueryScores(np.array([0.1]), np.array([9])),
    }
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(4, "residual", {"width": 2}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    first = {k: v.clone() + 1 for k, v in model.state_dict().items()}
    state = State.initial(ValidationResult({}, 0.5, selection=scores), first)
    state = state.after_step({"global": torch.tensor(0.3)}, 7)
    save_state(tmp_path, "same", state_tensors(state, model, optimizer), state.record())
    fresh = AlignmentModel(ModelConfig(4, "residual", {"width": 2}))
    other = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    back = restore_state(load_state(tmp_path, "same", print), fresh, other)
    assert (back.epoch, back.step, back.selected_epoch) == (0, 1, 0)
    assert back.losses.keys() == {"global"}
    assert torch.equal(back.losses["global"], state.losses["global"])
    assert list(back.best) == ["a", "b c"]
    for task, values in scores.items():
        np.testing.assert_array_equal(back.best[task].by_query, values.by_query)
        np.testing.assert_array_equal(back.best[task].videos, values.videos)
    for key, value in first.items():
        assert torch.equal(back.selected_weights[key], value)
        assert torch.equal(fresh.state_dict()[key], model.state_dict()[key])


def test_token_run_resumes_with_equal_bits(tmp_path):
    data = with_tokens(corpus())
    config = TrainConfig(**SETTINGS, score="tokens")
    whole = run(tmp_path / "whole", data, config)
    for _ in range(2):
        with pytest.raises(Broken):
            run(tmp_path / "parts", data, config, breaking_off_after(5))
    again = run(tmp_path / "parts", data, config)
    assert again.digest == whole.digest and again.record == whole.record
    last = whole.record["history"][-1]
    assert {"global", "segment"} <= set(last["losses"])
    assert {"text to video", "text to video reranked", "video to text reranked"} <= set(
        last["metrics"]
    )
    assert (
        float(load_model(tmp_path / "whole")[0].heads["retrieval"].interaction.share.detach()) != 0
    )


def test_a_state_of_other_settings_or_captions_is_not_resumed(tmp_path):
    data, notes = corpus(), []
    with pytest.raises(Broken):
        run(tmp_path / "r", data, CONFIG, breaking_off_after(12), identity="one")
    run(tmp_path / "r", data, CONFIG, lambda p: notes.append(p.message), identity="another")
    assert not any("resumed" in n for n in notes)


def test_a_damaged_state_costs_time_and_not_the_result(tmp_path):
    data = corpus()
    whole = run(tmp_path / "whole", data, CONFIG)
    with pytest.raises(Broken):
        run(tmp_path / "r", data, CONFIG, breaking_off_after(12))
    state = next((tmp_path / "r").glob("state-*"))
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    assert run(tmp_path / "r", data, CONFIG).digest == whole.digest


@pytest.mark.parametrize("after", [1, 9, 10, 23])
def test_interrupt_finishes_the_step(tmp_path, answered, after):
    data, notes, seen = corpus(), [], []
    whole = run(tmp_path / "whole", data, CONFIG)

    def progress(p):
        if p.level == "note":
            notes.append(p.message)
        seen.append(p)
        if len(seen) == after:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "r", data, CONFIG, progress)
    # Epochs report once after their last step, which reports nothing itself: a report is a step.
    epoch, inside = divmod(after + 1, 10)
    place = f"step {inside or 10} of 10 in epoch {epoch + (inside > 0)}"
    assert notes == [
        f"stopped after {place} (4 epochs in all); its state is kept: the same command resumes it, to the same result"
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run(tmp_path / "r", data, CONFIG).digest == whole.digest


def test_second_interrupt_is_immediate(answered):
    with pytest.raises(KeyboardInterrupt), on_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set
        signal.raise_signal(signal.SIGINT)
    with on_interrupt(allow_repeats=True) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_calls_previous_handler(answered):
    said = []

    def first(number, frame):
        said.append(number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)
    with on_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.is_set and said == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(sys.platform == "win32", reason="named: no SIGHUP on Windows")
@pytest.mark.parametrize("first", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("second", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_termination_signals_finish_the_step(first, second):
    """As the command line answers: by KeyboardInterrupt. The second may be another signal."""

    def end(number, frame):
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP", "SIGINT")
    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        with pytest.raises(KeyboardInterrupt), on_interrupt() as stop:
            signal.raise_signal(getattr(signal, first))
            assert stop.is_set
            signal.raise_signal(getattr(signal, second))
        assert {signal.getsignal(getattr(signal, name)) for name in names} == {end}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with on_interrupt() as stop:
            signal.raise_signal(signal.SIGHUP)  # as under nohup
            assert not stop.is_set
    finally:
        for name, earlier in before.items():
            signal.signal(getattr(signal, name), earlier)


def test_training_in_another_thread_leaves_signals_alone(tmp_path):
    digests = []
    data = corpus(12)
    thread = threading.Thread(
        target=lambda: digests.append(run(tmp_path / "a", data, CONFIG).digest)
    )
    thread.start()
    thread.join()
    assert digests == [run(tmp_path / "b", data, CONFIG).digest]


def test_progress_reports_losses_and_throughput(tmp_path):
    seen = []
    run(tmp_path / "r", corpus(), CONFIG, seen.append)
    figures = [p for p in seen if p.values]
    assert [p.done + p.part for p in figures] == sorted(p.done + p.part for p in figures)
    assert {(p.stage, p.total) for p in figures} == {("train", 4)}
    for p in figures:
        assert {"global", "segment", "pull", "rate", "samples/s", "eta"} <= set(p.values)
        assert p.values["samples/s"] > 0
    assert [p.done for p in figures if not p.part] == [1, 2, 3, 4]
    assert figures[-1].values["eta"] == 0 < figures[0].values["eta"]
    assert max(p.values["rate"] for p in figures) == pytest.approx(CONFIG.learning_rate)


def test_bfloat16_is_close_to_float32_and_deterministic_is_given_back(tmp_path):
    """Each by its name: by default it depends on the processor."""
    data, single = corpus(), {**SETTINGS, "batch_size": 2, "precision": "fp32"}
    plain = run(tmp_path / "a", data, TrainConfig(**single))
    half = run(tmp_path / "b", data, TrainConfig(**{**single, "precision": "bf16"}))
    assert half.digest != plain.digest
    losses = [r.record["history"][0]["losses"]["global"] for r in (plain, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    exact = TrainConfig(**{**single, "deterministic": True})
    assert run(tmp_path / "c", data, exact).digest == plain.digest
    assert not torch.are_deterministic_algorithms_enabled()
