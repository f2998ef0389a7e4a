"""What a search is asked in words: a text, others beside it, what is not wanted, what comes after it; and its vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla.errors import UsageError
from vla.language.query_rewriting import question_to_caption
from vla.language.sentences import split_to_fit
from vla.retrieval.duration_prior import DurationRange

if TYPE_CHECKING:
    from vla.encoders.base import TextEncoder
    from vla.model import AlignmentModel

MAX_QUERY_CHARS = 2_000
NEGATIVE_WEIGHT = 0.25
"""What a text that is not wanted weighs unless said otherwise. With real CLIP features it takes most of what shows it out of the
first ten, and hardly anything else; at 0.5 much of what was wanted is lost (tests/benchmarks/composed_queries.py)."""
TEMPLATES = ("{}", "a photo of {}", "a video of {}")

Weighted = tuple[str, float]
"""A text and what it weighs."""


@dataclass(frozen=True)
class Query:
    """What to look for, in words.

    Attributes:
        text: the query; it weighs 1.
        also: other texts, with weights, beside it: further ways of saying the same, or what should be seen, too.
        negative: texts that tell of what is not wanted, with weights.
        then: what comes after it in the same video, one after the other.
        within: seconds between the best frames of two things that follow each other, at most.
        use_templates: average the text with "a photo of TEXT" and "a video of TEXT".
        is_literal: take questions and requests as they are written; else "when does a dog jump?" is "a dog jumps".
        lasting: how long the moment lasts, in seconds, at least and at most, and nothing else is found; None for about as long as
            moments that captions of the workspace tell of.

    Raises:
        UsageError: a text is blank or longer than 2,000 characters, a weight or `within` is not positive, `within` is given and
            nothing comes after, or `lasting` is no range or that of a sequence.
    """

    text: str
    also: tuple[Weighted, ...] = ()
    negative: tuple[Weighted, ...] = ()
    then: tuple[str, ...] = ()
    within: float = math.inf
    use_templates: bool = False
    is_literal: bool = False
    lasting: DurationRange | None = None

    def __post_init__(self) -> None:
        texts = (self.text, *self.then, *(text for text, _ in (*self.also, *self.negative)))
        for text in map(normalize_text, texts):
            if not 0 < len(text) <= MAX_QUERY_CHARS:
                raise UsageError(f"a query has 1 to {MAX_QUERY_CHARS} characters, not {len(text)}")
        for text, weight in (*self.also, *self.negative):
            if not 0 < weight < math.inf:
                raise UsageError(f"a weight is a number above 0, not {weight:g} as of {text!r:.60}")
        if not self.within > 0:
            raise UsageError(f"what follows does so within a number of seconds above 0, not {self.within:g}")
        if self.within < math.inf and not self.then:
            raise UsageError("a time to follow within needs something that follows")
        if self.lasting is not None and not 0 <= self.lasting[0] <= self.lasting[1] > 0:
            least, most = self.lasting
            raise UsageError(f"a moment lasts so many seconds at least and at most, not {least:g} to {most:g}")
        if self.lasting is not None and self.then:
            raise UsageError("how long it lasts can be said of one moment, not of what comes after another")

    @property
    def title(self) -> str:
        """What hits have as their query: its texts, each with its weight where that is not the usual one."""
        usual = [(" + ", self.also, 1.0), (" - ", self.negative, NEGATIVE_WEIGHT)]
        parts = [sign + normalize_text(t) + (f"^{w:g}" if w != u else "") for sign, some, u in usual for t, w in some]
        return "".join([normalize_text(self.text), *parts, *(f" > {normalize_text(text)}" for text in self.then)])


@dataclass(frozen=True)
class EncodedQuery:
    """What is compared with frames and segments; of a sequence, one of its steps.

    Attributes:
        text: what hits have as their query.
        vector: `(E,)` in the shared space. A unit vector of one text; of several their weighted mean, so that what it scores is
            the mean of their cosines, less what is not wanted.
        raw: `(D,)` raw text feature for a head for moments; None where heads do not know such a thing: pictures, and texts with
            something that is not wanted.
        wanted: `(P, E)` unit vectors of the texts that a hit has to show, for its confidence; none of a picture.
        lasting: how long it lasts, where that was said.
    """

    text: str
    vector: np.ndarray
    raw: np.ndarray | None
    wanted: np.ndarray
    lasting: DurationRange | None = None

    @property
    def is_single_text(self) -> bool:
        """True if its score is the cosine of one text."""
        return len(self.wanted) == 1 and bool(np.array_equal(self.wanted[0], self.vector))

    @property
    def is_text(self) -> bool:
        """True if bias and confidence, which are measured with texts, mean something for it."""
        return len(self.wanted) > 0


def normalize_text(text: str) -> str:
    """`text` without blanks around it, and without zero bytes."""
    return text.replace("\0", " ").strip()


def encode_query(query: Query, encoder: TextEncoder, model: AlignmentModel) -> list[EncodedQuery]:
    """What `query` compares: itself, and a step for each text that follows; all texts are encoded at once."""

    def said(text: str) -> str:
        return normalize_text(text) if query.is_literal else question_to_caption(normalize_text(text))

    def ways(text: str) -> list[str]:
        return [template.format(text) for template in TEMPLATES] if query.use_templates else [text]

    also = [(said(text), weight) for text, weight in query.also]
    without = [(said(text), weight) for text, weight in query.negative]
    steps = [said(text) for text in (query.text, *query.then)]
    texts = [way for text in [*steps, *(text for text, _ in (*also, *without))] for way in ways(text)]
    known = _encoded(list(dict.fromkeys(texts)), encoder, model)

    def mean(text: str) -> tuple[np.ndarray, np.ndarray]:
        return _mean([known[way] for way in ways(text)])

    found = []
    for number, text in enumerate(steps):
        raw, vector = mean(text)
        wanted = [vector]
        if number == 0 and (also or without):
            others = [(*mean(other), weight) for other, weight in also]
            wanted += [unit for _, unit, _ in others]
            weights = np.array([1.0, *(weight for _, _, weight in others)])
            vector = np.average(np.stack(wanted), 0, weights).astype(np.float32)
            for other, weight in without:
                vector = (vector - weight * mean(other)[1]).astype(np.float32)
            raw = _weighted([raw, *(other for other, _, _ in others)], weights)
        title = query.title if len(steps) == 1 else normalize_text((query.text, *query.then)[number])
        heard = raw if number or not without else None
        found.append(EncodedQuery(title, vector, heard, np.stack(wanted), query.lasting))
    return found


def from_image(vector: np.ndarray, name: str) -> EncodedQuery:
    """What compares a picture, or a moment's frame, with unit vector `(E,)`."""
    return EncodedQuery(name, vector, None, np.zeros((0, len(vector)), np.float32))


def subtract(one: EncodedQuery, without: Sequence[EncodedQuery], weights: Sequence[float]) -> EncodedQuery:
    """`one`, less so much of each of `negative`."""
    vector = one.vector.astype(np.float64)
    for other, weight in zip(without, weights, strict=True):
        vector = vector - weight * other.vector
    return EncodedQuery(one.text, vector.astype(np.float32), None, one.wanted)


def _encoded(texts: list[str], encoder: TextEncoder, model: AlignmentModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each text its raw feature `(D,)` and its unit vector `(E,)`: of one longer than the encoder's context, of its parts."""
    parts = {text: split_to_fit(text, encoder.fits) for text in texts}
    flat = list(dict.fromkeys(part for some in parts.values() for part in some))
    told = encoder.encode_text(flat)
    units = model.align_texts(told.pooled)
    of_part = {part: (told.pooled[i].astype(np.float32), units[i]) for i, part in enumerate(flat)}
    return {text: _mean([of_part[part] for part in some]) for text, some in parts.items()}


def _mean(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean direction of raw features, at their mean length, and that of unit vectors."""
    if len(pairs) == 1:
        return pairs[0]
    units = np.stack([unit for _, unit in pairs]).mean(0)
    vector = (units / max(1e-12, float(np.linalg.norm(units)))).astype(np.float32)
    return _weighted([raw for raw, _ in pairs], np.ones(len(pairs))), vector


def _weighted(raws: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """`(D,)`: the weighted mean direction of raw features, at their mean length; of one, itself."""
    if len(raws) == 1:
        return raws[0]
    lengths = np.array([max(1e-12, float(np.linalg.norm(raw))) for raw in raws])
    mean = np.average(np.stack([raw / length for raw, length in zip(raws, lengths, strict=True)]), 0, weights)
    found: np.ndarray = (mean / max(1e-12, float(np.linalg.norm(mean))) * lengths.mean()).astype(np.float32)
    return found
