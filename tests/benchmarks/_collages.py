"""Collages of real frozen features as a workspace, and how well a model finds what they show; for real_features.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import vla
from vla.batches.corpus import Corpus
from vla.batches.corpus_reader import load_corpus
from vla.batches.segment_pooling import Segments, pool_segments
from vla.cache.store import active_cache
from vla.datasets._open import read_annotations
from vla.evaluation.predictions import rank_moments
from vla.metrics.average_precision import average_precisions
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel
from vla.spans import nms
from vla.storage.workspace import Workspace

NAMES = ("video R@1", "video MRR", "VCMR R@1, IoU .5", "VCMR R@10, IoU .5", "moment mAP")


@dataclass(frozen=True)
class Values:
    """What a model scores: of every name in `NAMES` an array by text, or by text and video; then `texts` says of which text."""

    by_query: dict[str, np.ndarray]
    texts: dict[str, np.ndarray]


def make(
    tool: Path, folder: Path, classes: str, videos: int, scenes: tuple[int, int], seed: int
) -> Path:
    """A folder of collages, made anew only if it is not there; what the tool wrote for one second each is one feature each."""
    out = folder / f"{classes}-{seed}"
    if not (out / "done").is_file():
        command = [
            sys.executable,
            tool,
            out,
            "--classes",
            classes,
            "--videos",
            videos,
            "--scenes",
            *scenes,
            "--seed",
            seed,
        ]
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
        (out / "seconds").mkdir(exist_ok=True)
        for path in (out / "features").glob("*.npz"):
            # Its times are the middles of the seconds; here a feature counts from the begin of what it stands for.
            np.save(out / "seconds" / path.with_suffix(".npy").name, np.load(path)["values"])
        (out / "done").touch()
    return out


def bring_in(folders: list[Path], workspace: Path) -> None:
    """Features and both ways of naming every class, by the public path."""
    texts = folders[0] / "text.npz"
    vla.import_features(
        [f / "seconds" for f in folders], model="clip-vit-b32", clip_length=1.0, texts=texts, texts_key="prompts",
        vectors_key="feats", workspace=workspace,
    )  # fmt: skip
    vla.import_features(
        texts=texts, texts_key="paraphrases", vectors_key="paraphrase_feats", workspace=workspace
    )  # fmt: skip


def paraphrased(folder: Path, workspace: Path) -> Corpus:
    """The collages of `folder`, asked for in words that were not trained on."""
    cache = active_cache(Workspace(workspace).caches)
    return load_corpus(
        cache, read_annotations(folder / "annotations.jsonl", None, caption_column="paraphrase")
    )


def measure(model: AlignmentModel, corpus: Corpus) -> Values:
    """Every text searched for once. A class that several videos show is found where the first of its moments is."""
    texts = list(dict.fromkeys(q.text for q in corpus.queries))
    row = {text: i for i, text in enumerate(texts)}
    asked = np.array([row[q.text] for q in corpus.queries])
    cut = [
        pool_segments(f, v)
        for f, v in zip(model.align_videos(corpus.videos), corpus.videos, strict=True)
    ]
    vectors = model.align_texts(np.stack([corpus.vectors[t] for t in texts]))
    scores = [s.vectors @ vectors.T for s in cut]
    relevant = np.zeros((len(texts), len(cut)), bool)
    relevant[asked, [q.video for q in corpus.queries]] = True
    found = ranks(np.stack([s.max(0) for s in scores], 1), relevant)
    lists = _lists(cut, scores, len(texts))
    own = first_hit_ranks(
        [lists[i] for i in asked],
        [q.video for q in corpus.queries],
        [q.spans for q in corpus.queries],
    )
    first = np.full(len(texts), np.inf)
    np.minimum.at(first, asked, own[:, 0])
    precisions, of_text = _precisions(corpus, asked, cut, scores)
    values = (found <= 1, 1 / found, first <= 1, first <= 10, precisions)
    return Values(dict(zip(NAMES, values, strict=True)), {NAMES[-1]: of_text})


def _lists(cut: list[Segments], scores: list[np.ndarray], texts: int) -> list[np.ndarray]:
    """For every text `(100, 4)`: the best moments of all videos, of which none overlaps a better one by more than half."""
    owner = np.repeat(np.arange(len(cut)), [len(s.spans) for s in cut])
    spans, all_scores = np.concatenate([s.spans for s in cut]), np.concatenate(scores)
    return [rank_moments(all_scores[:, text], owner, spans) for text in range(texts)]


def _precisions(
    corpus: Corpus, asked: np.ndarray, cut: list[Segments], scores: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision over QVHighlights' thresholds of every text in every video that shows it, and which text that is."""
    truths: dict[tuple[int, int], list[np.ndarray]] = {}
    for text, query in zip(asked, corpus.queries, strict=True):
        truths.setdefault((int(text), query.video), []).append(query.spans)
    predictions = []
    for text, video in truths:
        spans, of_text = cut[video].spans, scores[video][:, text]
        kept = nms(spans, of_text, 0.5, most=10)
        predictions.append(np.column_stack([spans[kept], of_text[kept]]))
    found = average_precisions(predictions, [np.concatenate(t) for t in truths.values()]).mean(1)
    return found, np.array([text for text, _ in truths])
