"""Text queries and their vectors: additional texts, negative texts, event sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla.errors import UsageError
from vla.language.query_rewriting import question_to_caption
from vla.language.sentences import split_to_fit
from vla.localization.duration_range import DurationRange

if TYPE_CHECKING:
    from vla.encoders.base import TextEncoder
    from vla.model import AlignmentModel

MAX_QUERY_CHARS = 2_000
NEGATIVE_WEIGHT = 0.25
"""Default weight of negative texts. With CLIP features, it removes most of the unwanted content
from the first ten hits and hardly anything else; at 0.5, many relevant hits are lost
(tests/benchmarks/composed_queries.py)."""
TEMPLATES = ("{}", "a photo of {}", "a video of {}")
"""Prompt templates (CLIP)."""

Weighted = tuple[str, float]
"""A text and its weight."""


@dataclass(frozen=True)
class Query:
    """A text query.

    Attributes:
        text: text to search for; its weight is 1.
        also: additional texts with weights, such as paraphrases or further content.
        negative: texts to subtract, with weights.
        then: texts of the events that follow in the same video, in order.
        within: maximum number of seconds between the best frames of consecutive events.
        use_templates: average the text with "a photo of TEXT" and "a video of TEXT" (prompt
            templates, as in CLIP).
        rewrite: rewrite questions and requests as captions: "when does a dog jump?" becomes "a dog
            jumps".
        duration: minimum and maximum duration of the moment, in seconds; other moments are not
            found. None for a preference for the durations of captioned moments in the workspace.

    Raises:
        UsageError: a text is blank or longer than 2,000 characters, a weight or `within` is not
            positive, `within` is given without `then`, or `duration` is not a range or is given for
            a sequence.
    """

    text: str
    also: tuple[Weighted, ...] = ()
    negative: tuple[Weighted, ...] = ()
    then: tuple[str, ...] = ()
    within: float = math.inf
    use_templates: bool = False
    rewrite: bool = True
    duration: DurationRange | None = None

    def __post_init__(self) -> None:
        weighted = (*self.also, *self.negative)
        for text in map(normalize_text, (self.text, *self.then, *(text for text, _ in weighted))):
            if not 0 < len(text) <= MAX_QUERY_CHARS:
                raise UsageError(f"a query has 1 to {MAX_QUERY_CHARS} characters, not {len(text)}")
        for text, weight in weighted:
            if not 0 < weight < math.inf:
                raise UsageError(
                    f"invalid weight {weight:g} of {text!r:.60}: a weight is a number above 0"
                )
        if not self.within > 0:
            raise UsageError(
                f"invalid time {self.within:g} between events: it is a number of seconds above 0"
            )
        if self.within < math.inf and not self.then:
            raise UsageError("a maximum time between events needs an event that follows")
        if self.duration is not None and not 0 <= self.duration[0] <= self.duration[1] > 0:
            raise UsageError(_invalid_duration(*self.duration))
        if self.duration is not None and self.then:
            raise UsageError(
                "a duration range applies to a single moment, not to a sequence of events"
            )

    @property
    def title(self) -> str:
        """The query as hits show it: all of its texts, with weights other than the default."""
        weighted = [(" + ", text, weight, 1.0) for text, weight in self.also]
        weighted += [(" - ", text, weight, NEGATIVE_WEIGHT) for text, weight in self.negative]
        parts = [
            sign + normalize_text(t) + (f"^{w:g}" if w != usual else "")
            for sign, t, w, usual in weighted
        ]
        return "".join(
            [
                normalize_text(self.text),
                *parts,
                *(f" > {normalize_text(text)}" for text in self.then),
            ]
        )


@dataclass(frozen=True)
class EncodedQuery:
    """Vectors of a query, or of one step of a sequence.

    Attributes:
        text: title of the query, or text of the step.
        vector: `(E,)` in the shared space. The unit vector of a single text. For several texts,
            their weighted mean minus the weighted negative texts; so its scores are weighted means
            of cosines.
        raw: `(D,)` raw text feature for a head for moments; None for images and with negative
            texts, which heads were not trained on.
        positives: `(P, E)` unit vectors of the texts that a hit must match, for its confidence;
            empty for images.
        duration: duration range given by the user.
        total_weight: sum of the weights of the texts in `vector`, negative ones subtracted.
    """

    text: str
    vector: np.ndarray
    raw: np.ndarray | None
    positives: np.ndarray
    duration: DurationRange | None = None
    total_weight: float = 1.0

    @property
    def is_single_text(self) -> bool:
        """Return whether the score is the cosine of one text."""
        return len(self.positives) == 1 and bool(np.array_equal(self.positives[0], self.vector))

    @property
    def is_text(self) -> bool:
        """Return whether the query has a text: an index is calibrated with texts."""
        return len(self.positives) > 0


def normalize_text(text: str) -> str:
    """Return `text` without surrounding whitespace and without zero bytes."""
    return text.replace("\0", " ").strip()


def encode_query(query: Query, encoder: TextEncoder, model: AlignmentModel) -> list[EncodedQuery]:
    """Return the vectors of `query`, and those of each event that follows.

    All texts are encoded in one batch.
    """

    def caption(text: str) -> str:
        return question_to_caption(normalize_text(text)) if query.rewrite else normalize_text(text)

    def prompts(text: str) -> list[str]:
        return [template.format(text) for template in TEMPLATES] if query.use_templates else [text]

    also = [(caption(text), weight) for text, weight in query.also]
    negative = [(caption(text), weight) for text, weight in query.negative]
    steps = [caption(text) for text in (query.text, *query.then)]
    texts = [
        prompt
        for text in [*steps, *(text for text, _ in (*also, *negative))]
        for prompt in prompts(text)
    ]
    vectors = _encode_texts(list(dict.fromkeys(texts)), encoder, model)

    def mean(text: str) -> tuple[np.ndarray, np.ndarray]:
        return _mean([vectors[prompt] for prompt in prompts(text)])

    queries = []
    for number, text in enumerate(steps):
        raw, vector = mean(text)
        positives, total_weight = [vector], 1.0
        if number == 0 and (also or negative):
            others = [(*mean(other), weight) for other, weight in also]
            positives += [unit for _, unit, _ in others]
            weights = np.array([1.0, *(weight for _, _, weight in others)])
            vector = np.average(np.stack(positives), 0, weights).astype(np.float32)
            for other, weight in negative:
                vector = (vector - weight * mean(other)[1]).astype(np.float32)
                total_weight -= weight
            raw = _weighted_mean([raw, *(other for other, _, _ in others)], weights)
        title = (
            query.title if len(steps) == 1 else normalize_text((query.text, *query.then)[number])
        )
        head_input = raw if number or not negative else None
        queries.append(
            EncodedQuery(
                title, vector, head_input, np.stack(positives), query.duration, total_weight
            )
        )
    return queries


def from_image(vector: np.ndarray, name: str) -> EncodedQuery:
    """Return the query of an image, or of a frame, with unit vector `(E,)`."""
    return EncodedQuery(name, vector, None, np.zeros((0, len(vector)), np.float32))


def subtract(
    query: EncodedQuery, negative: Sequence[EncodedQuery], weights: Sequence[float]
) -> EncodedQuery:
    """Return `query` minus each of `negative` times its weight."""
    vector = query.vector.astype(np.float64)
    for other, weight in zip(negative, weights, strict=True):
        vector = vector - weight * other.vector
    return EncodedQuery(query.text, vector.astype(np.float32), None, query.positives)


def _invalid_duration(minimum: float, maximum: float) -> str:
    reason = (
        "the minimum exceeds the maximum"
        if minimum > maximum
        else "the minimum must be at least 0 and the maximum above 0"
    )
    return f"invalid duration range {minimum:g}-{maximum:g}: {reason}"


def _encode_texts(
    texts: list[str], encoder: TextEncoder, model: AlignmentModel
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the raw feature `(D,)` and unit vector `(E,)` of each text.

    Texts beyond the context length are chunked.
    """
    chunks = {text: split_to_fit(text, encoder.fits) for text in texts}
    flat = list(dict.fromkeys(chunk for text in chunks.values() for chunk in text))
    features = encoder.encode_text(flat)
    units = model.align_texts(features.pooled)
    by_chunk = {
        chunk: (features.pooled[i].astype(np.float32), units[i]) for i, chunk in enumerate(flat)
    }
    return {text: _mean([by_chunk[chunk] for chunk in own]) for text, own in chunks.items()}


def _mean(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean direction of raw features, at their mean length, and the mean direction of
    unit vectors.
    """
    if len(pairs) == 1:
        return pairs[0]
    units = np.stack([unit for _, unit in pairs]).mean(0)
    vector = (units / max(1e-12, float(np.linalg.norm(units)))).astype(np.float32)
    return _weighted_mean([raw for raw, _ in pairs], np.ones(len(pairs))), vector


def _weighted_mean(raws: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return `(D,)`, the weighted mean direction of raw features at their mean length.

    A single one is unchanged.
    """
    if len(raws) == 1:
        return raws[0]
    lengths = np.array([max(1e-12, float(np.linalg.norm(raw))) for raw in raws])
    mean = np.average(
        np.stack([raw / length for raw, length in zip(raws, lengths, strict=True)]), 0, weights
    )
    vector: np.ndarray = (mean / max(1e-12, float(np.linalg.norm(mean))) * lengths.mean()).astype(
        np.float32
    )
    return vector
