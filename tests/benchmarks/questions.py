"""What do the heads for questions answer, beside chance, their blind twins and the frozen encoder, in the rendered world?

    python tests/benchmarks/questions.py [FOLDER] [--train 1200] [--test 400] [--seeds 3] [--epochs 40]
        [--levels none global segment both]

Renders clips into FOLDER (kept and reused; a world of `levels.py` will do), extracts them with the embedded encoder,
asks about them, and trains the heads alone (levels `none`: questions only) and jointly with alignment of the captions at the levels named.
Prints a table in Markdown for the test clips: means and standard deviations over seeds; intervals are over whole clips, `over blind`
is the paired difference. What
happens first can be read only once frames have words for what happens: choices need some ten epochs of captions before
they rise above their blind twin, and alone they may not.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from _world import plan, prepare

import vla
from vla.batches.corpus import Corpus
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.datasets._open import read_annotations
from vla.datasets.base import Annotation
from vla.evaluation.head_answers import HeadAnswers, answer
from vla.evaluation.qa_protocol import question_baselines, questions
from vla.metrics.bootstrap import estimate
from vla.model import AlignmentModel
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model
from vla.training.config import LEVELS
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.train import texts_to_cache
from vla.world.clips import Clip
from vla.world.language import Question
from vla.world.language import questions as questions_about

HEADS = "choice_qa,open_qa,counting"


def write_lines(annotations: list[Annotation], path: Path) -> None:
    lines = (replace(a, query_id=str(i)).to_json() for i, a in enumerate(annotations))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def write_questions(clips: list[Clip], path: Path, seed: int) -> None:
    """Write questions about `clips` with their answers, as JSONL of the toolkit's own annotations.

    The category of a question is its first three words: they tell what happens first from how many shapes there are.
    """
    rng = np.random.default_rng([seed, 5])
    lines: list[dict[str, object]] = []
    for clip in clips:
        for asked in questions_about(clip.scene, rng):
            head: dict[str, object] = {
                "query_id": str(len(lines)),
                "query": asked.text,
                "video": clip.name,
                "spans": [],
            }
            category = " ".join(asked.text.rstrip("?").split()[:3])
            lines.append(
                {
                    **head,
                    "split": clip.split,
                    "source": "",
                    "category": category,
                    "question": _answer(asked),
                }
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _answer(asked: Question) -> dict[str, object]:
    if asked.kind == "choice":
        return {"choices": list(asked.choices), "right": asked.choices.index(asked.answer)}
    return {"answers": [asked.answer]} if asked.kind == "open" else {"count": int(asked.answer)}


def ask(folder: Path, clips: list[Clip]) -> dict[str, list[Annotation]]:
    """Questions about all clips but the novel ones; `joint` has the captions of those that are trained on, too."""
    some = [c for c in clips if c.split != "novel"]
    write_questions(some, folder / "questions.jsonl", 0)
    asked = [
        replace(a, video=f"clips/{a.video}") for a in read_annotations(folder / "questions.jsonl")
    ]
    told = [
        replace(a, video=f"clips/{a.video}")
        for a in read_annotations(folder / "captions-train.jsonl")
    ]
    found = {"alone": asked, "joint": [*told, *asked]}
    for name, lines in found.items():
        write_lines(lines, folder / f"questions-{name}.jsonl")
    return found


def untrained(model: AlignmentModel, trained_on: Corpus) -> AlignmentModel:
    """The frozen encoder with the same heads before their first step."""
    fresh = AlignmentModel(model.config).eval()
    for head in (*fresh.heads.values(), *fresh.blind.values()):
        head.fit(trained_on)
    return fresh


def by_question(said: HeadAnswers, predicted: list[object]) -> np.ndarray:
    """`(Q,)` from 0 to 1, how right each answer is: of counts, 1 where the rounded one is right."""
    return questions(said, predicted)["accuracy"].by_query / 100


def told(task: str, seeds: list[HeadAnswers], before: HeadAnswers, trained_on: Corpus) -> str:
    """The row of one task: means over seeds, each question's share of them for the intervals."""
    clips = np.array([q.video for q in before.examples])
    each = np.stack([by_question(s, s.predictions) for s in seeds])
    blind = np.stack([by_question(s, s.blind_predictions) for s in seeds])
    ours = estimate(each.mean(0), clusters=clips)
    gain = estimate(each.mean(0) - blind.mean(0), clusters=clips)
    (lowest,) = question_baselines(before, trained_on).values.values()
    cells = [
        f"{lowest['accuracy']:.1f}",
        spread(100 * blind.mean(1)),
        f"{100 * by_question(before, before.predictions).mean():.1f}",
    ]
    cells.append(f"{spread(100 * each.mean(1))} [{100 * ours.low:.1f}, {100 * ours.high:.1f}]")
    cells.append(f"{100 * gain.value:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]")
    if before.task != "count":
        return f"| {task} | {len(clips)} | {' | '.join(cells)} | |"
    errors = [
        [lowest["MSE"]],
        [error(s, s.blind_predictions) for s in seeds],
        [error(before, before.predictions)],
    ]
    errors.append([error(s, s.predictions) for s in seeds])
    return f"| {task} | {len(clips)} | {' | '.join(cells)} | {' / '.join(spread(np.array(e), 2) for e in errors)} |"


def error(said: HeadAnswers, predicted: list[object]) -> float:
    return questions(said, predicted)["MSE"].value


def spread(values: np.ndarray, digits: int = 1) -> str:
    """Mean and, of several, the standard deviation."""
    return f"{values.mean():.{digits}f}" + (
        f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    )


def categories(name: str, task: str, said: HeadAnswers, model: AlignmentModel) -> None:
    """What each category of questions comes to, and how many answers are known at all."""
    seen, unseen = questions(said, said.predictions), questions(said, said.blind_predictions)
    if said.task == "open":
        head = next(h for h in model.heads.values() if h.task == "open")
        within = np.isin([q.question.answers[0].lower() for q in said.examples], list(head.answers))
        print(f"{name}, {task}: {100 * within.mean():.1f} % of the answers can be predicted at all")
    kinds = [kind for kind in seen if kind.startswith("accuracy ")]
    parts = (
        f"{kind[9:]} {seen[kind].value:.1f} (blind {unseen[kind].value:.1f})" for kind in kinds
    )
    print(f"{name}, {task}: " + (", ".join(parts) or "no categories"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-benchmark"))
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--segment-weight", type=float, default=0.5)
    parser.add_argument(
        "--levels", nargs="*", default=["none", "global", "segment", "both"], choices=LEVELS
    )
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    clips = plan(arguments.train, arguments.test)
    place = Workspace.open_or_create(folder)
    prepare(folder, clips)
    asked = ask(folder, clips)
    cache = active_cache(place.caches)
    texts = texts_to_cache(asked["joint"])
    if cache.missing_texts(texts):
        cache.add_texts(texts, encoder_of(cache, "auto", "auto"))
    questions = {s: [a for a in asked["alone"] if a.split == s] for s in ("train", "test")}
    corpora = {split: load_corpus(cache, some) for split, some in questions.items()}
    table = []
    for name in arguments.levels:
        models = []
        for seed in range(arguments.seeds):
            settings = {"levels": name, "heads": HEADS, "epochs": arguments.epochs, "seed": seed}
            settings["segment_weight"] = arguments.segment_weight
            began, run_name = time.monotonic(), f"questions-{name}-{seed}"
            captions = folder / f"questions-{'alone' if name == 'none' else 'joint'}.jsonl"
            run = vla.train(captions=captions, workspace=folder, settings=settings, name=run_name)
            print(
                f"{name} {seed}: {run.record['epochs']} epochs, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            models.append(load_model(place.runs / run_name)[0])
        answers = [answer(model, corpora["test"]) for model in models]
        before = answer(untrained(models[0], corpora["train"]), corpora["test"])
        for task in before:
            row = told(task, [a[task] for a in answers], before[task], corpora["train"])
            table.append(f"| {name} {row}")
            for seed, (said, model) in enumerate(zip(answers, models, strict=True)):
                categories(f"{name} {seed}", task, said[task], model)
    print(
        f"\n{len(corpora['test'].videos)} test clips; accuracy in percent, then the mean squared error of counts\n"
    )
    print(
        "| levels | task | n | floor | blind | frozen | trained | over blind | MSE floor / blind / frozen / trained |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main()
