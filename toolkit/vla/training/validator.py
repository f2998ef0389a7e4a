"""Validation of a run: videos, queries and held-out concepts that it is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vla.batches.corpus import Corpus
from vla.evaluation.head_answers import answer
from vla.evaluation.results import PerQueryScores
from vla.evaluation.validation import ValidationResult, head_baselines, head_values, validate
from vla.evaluation.verdict import Verdict, compare
from vla.model import AlignmentModel
from vla.training.split import Split

_MAX_DISTRACTORS = 400
"""Training videos searched beside the validation videos: among a few dozen everything is retrieved.
"""


class Validator:
    """Scores of a model on the validation videos and the held-out concepts.

    Attributes:
        gallery: rows of the videos that are searched: validation videos, videos with held-out
            captions only, and distractors.
        num_videos: number of validation videos, the first of the gallery.
        num_queries: number of captions that are evaluated.
    """

    def __init__(self, corpus: Corpus, split: Split, select: str, seed: int) -> None:
        distractors = np.random.default_rng([seed, 7]).permutation(split.train)[:_MAX_DISTRACTORS]
        self.gallery = np.concatenate([split.val, split.held_out_videos, np.sort(distractors)])
        in_gallery, held_out = set(self.gallery.tolist()), set(split.held_out_queries.tolist())
        self._corpus = corpus.subset(self.gallery)
        self._num_val = len(split.val)
        self.num_videos = len(split.val) + (0 if split.names_val else len(split.held_out_videos))
        self._train_corpus = corpus.subset(split.train)
        is_held_out = np.array(
            [i in held_out for i, q in enumerate(corpus.queries) if q.video in in_gallery], bool
        )
        of_val = np.array([q.video < self._num_val for q in self._corpus.queries], bool)
        self._is_evaluated = of_val | is_held_out
        self.num_queries = int(self._is_evaluated.sum())
        self._select = select

    def __call__(
        self, model: AlignmentModel, alpha: float = 1.0, *, heads: bool = True
    ) -> ValidationResult:
        """Return the scores of the model at `alpha`; leaves it in evaluation mode.

        Args:
            model: its projector's alpha is restored afterwards.
            alpha: in [0, 1]; heads have their own.
            heads: also score the heads.
        """
        model.eval()
        select = self._select if heads else "auto"
        with model.with_alpha(alpha):
            return validate(
                model, self._corpus, self.num_videos, self._is_evaluated, heads=heads, select=select
            )

    def held_out_score(self, result: ValidationResult) -> float:
        """Return the search score of the held-out concepts, from 0 to 1; 0 where none are held out."""
        return result.search_of(self._is_held_out)

    def head_scores(self, model: AlignmentModel) -> dict[str, tuple[float, float]]:
        """Return, by task of a head, its score on validation videos and on held-out concepts.

        The second is the first where no concept with times is held out.
        """
        model.eval()
        queries = [q for q, m in zip(self._corpus.queries, self._is_evaluated, strict=True) if m]
        questions = tuple(q for q in self._corpus.questions if q.video < self.num_videos)
        answers = answer(model, replace(self._corpus, queries=queries, questions=questions))
        scores = {}
        for task, task_answers in answers.items():
            values = head_values(task_answers)
            is_held_out = self._is_held_out(values.videos)
            groups = [values.by_query[mask] for mask in (~is_held_out, is_held_out)]
            means = [float(group.mean()) if len(group) else None for group in groups]
            first = next(mean for mean in means if mean is not None)
            scores[task] = (
                first if means[0] is None else means[0],
                first if means[1] is None else means[1],
            )
        return scores

    def verdict(
        self, ours: Mapping[str, PerQueryScores], frozen: Mapping[str, PerQueryScores]
    ) -> Verdict | None:
        """Return the comparison of two models on the validation videos alone.

        The other videos were trained on, whether or not some of their captions are held out.
        """
        parts = [
            {k: v.select(v.videos < self.num_videos) for k, v in values.items()}
            for values in (ours, frozen)
        ]
        return compare(*parts)

    def baselines(self, model: AlignmentModel) -> dict[str, dict[str, float]]:
        """Return the scores of the vision-blind baselines in the tasks of the heads."""
        return head_baselines(model, self._corpus, self.num_videos, self._train_corpus)

    def _is_held_out(self, videos: np.ndarray) -> np.ndarray:
        return videos >= self._num_val
