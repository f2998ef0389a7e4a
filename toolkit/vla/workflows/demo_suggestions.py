"""Suggestions of the demo: what to try next, each tried before it is suggested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vla.errors import MissingError
from vla.retrieval.hits import Hit
from vla.retrieval.query import NEGATIVE_WEIGHT, Query
from vla.storage.workspace import Workspace
from vla.workflows.ask import ask
from vla.workflows.open_workspace import OpenWorkspace
from vla.world.clips import Clip
from vla.world.language import questions
from vla.world.queries import WorldQuery, event_queries, thing_queries

MAX_FPR = 0.05
_ABSENT = ("a dog runs on a beach", "a chef slices an onion", "two children ride bicycles")
"""Texts about content that no rendered clip shows."""
_MAX_TRIALS = 40
_NUM_QUESTIONS = 24


@dataclass(frozen=True)
class Suggestion:
    """A search or a question to try in the folder of the demo.

    Attributes:
        kind: `search`, `negative` (a search for one thing without another), `sequence` (one event
            after another), `absent` (a search at `MAX_FPR` for what no clip shows) or `question`.
        text: the query or the question.
        second: the negative text, or the text of the later event.
        outcome: what it finds, in words.
        video: the video that it finds first; empty if it finds nothing.
        seconds: a time within the right moment; 0 if there is none.
        answer: the right answer, of a question.
    """

    kind: str
    text: str
    outcome: str
    second: str = ""
    video: str = ""
    seconds: float = 0.0
    answer: str = ""


def suggest(ws: OpenWorkspace, clips: Sequence[Clip], seed: int) -> list[Suggestion]:
    """Return one suggestion of each kind, the first at random that is right.

    Unlike the examples, suggestions are chosen by their results: they show how a command is used.
    A kind of which no trial is right is left out.
    """
    rng = np.random.default_rng([seed, 7])
    events = _shuffle(event_queries(clips, rng), rng)
    things = _shuffle(thing_queries(clips, rng), rng)
    kinds: list[Iterator[Suggestion]] = [
        _searches(ws, events),
        _negatives(ws, things, clips),
        _sequences(ws, events),
        _absent(ws),
        _questions(ws.workspace, clips, rng),
    ]
    return [suggestion for kind in kinds if (suggestion := next(kind, None)) is not None]


def _searches(ws: OpenWorkspace, events: Sequence[WorldQuery]) -> Iterator[Suggestion]:
    for query in events[:_MAX_TRIALS]:
        hit = _first(ws, Query(query.text))
        if hit and query.matches(hit.video_id, hit.peak):
            yield _finding("search", query.text, hit, "the event")


def _negatives(
    ws: OpenWorkspace, things: Sequence[WorldQuery], clips: Sequence[Clip]
) -> Iterator[Suggestion]:
    """Things whose first hit is on a background, and elsewhere if that is a negative text."""
    backgrounds = {clip.name: clip.scene.background for clip in clips}
    for query in things[:_MAX_TRIALS]:
        before = _first(ws, Query(query.text))
        if before is None or not query.matches(before.video_id, before.peak):
            continue
        ground = backgrounds[before.video_id]
        after = _first(ws, Query(query.text, negative=((ground, NEGATIVE_WEIGHT),)))
        if after and query.matches(after.video_id, after.peak):
            if backgrounds[after.video_id] != ground:
                noun = f"it, but not before {ground}"
                yield _finding("negative", query.text, after, noun, ground)


def _sequences(ws: OpenWorkspace, events: Sequence[WorldQuery]) -> Iterator[Suggestion]:
    """Pairs of events of which the second follows in a clip."""
    trials = 0
    for first in events:
        for second in events:
            names = {
                name
                for name, _, end in first.moments
                if any(n == name and start > end for n, start, _ in second.moments)
            }
            if not names or trials >= _MAX_TRIALS:
                continue
            trials += 1
            hit = _first(ws, Query(first.text, then=(second.text,)))
            if hit and len(hit.steps) == 2 and hit.video_id in names:
                peaks = [peak for *_, peak in hit.steps]
                if first.matches(hit.video_id, peaks[0]) and second.matches(hit.video_id, peaks[1]):
                    yield _finding("sequence", first.text, hit, "one after the other", second.text)


def _absent(ws: OpenWorkspace) -> Iterator[Suggestion]:
    for text in _ABSENT:
        if not ws.search(text, max_fpr=MAX_FPR):
            yield Suggestion("absent", text, "finds nothing and says so: no clip shows this")


def _questions(
    workspace: Workspace, clips: Sequence[Clip], rng: np.random.Generator
) -> Iterator[Suggestion]:
    """Open questions that the video decides: the answer is right, and that without it is not."""
    tests = [clip for clip in clips if clip.split == "test"]
    for row in rng.permutation(len(tests))[:_NUM_QUESTIONS]:
        clip = tests[row]
        for question in questions(clip.scene, rng):
            if question.kind != "open":
                continue
            try:
                (answer,) = ask(question.text, [clip.name], workspace=workspace.root)
            except MissingError:
                return
            if answer.answer == question.answer != answer.unseen:
                yield Suggestion(
                    "question",
                    question.text,
                    f"answers {answer.answer}, which is right",
                    video=clip.name,
                    answer=answer.answer,
                )


def _first(ws: OpenWorkspace, query: Query) -> Hit | None:
    return next(iter(ws.search(query, k=1)), None)


def _finding(kind: str, text: str, hit: Hit, noun: str, second: str = "") -> Suggestion:
    seconds = hit.steps[0][3] if hit.steps else hit.peak
    outcome = f"finds {noun}: {hit.video_id} at {seconds:.1f} s"
    return Suggestion(kind, text, outcome, second, hit.video_id, seconds)


def _shuffle(queries: Sequence[WorldQuery], rng: np.random.Generator) -> list[WorldQuery]:
    return [queries[i] for i in rng.permutation(len(queries))]
