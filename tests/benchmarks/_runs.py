"""Training runs of the benchmarks, by the functions that `vla train` calls.

A finished run is used again only while the code that trains and selects is the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import vla
from vla.batches.corpus import Corpus
from vla.datasets.base import Annotation
from vla.features import FeatureSpec
from vla.model import AlignmentModel
from vla.storage.workspace import Workspace
from vla.training.checkpoint import Run, load_model, open_run
from vla.training.config import TrainConfig
from vla.training.loop import train
from vla.training.split import Split

CLIP_SCALE = 100.0
"""Logit scale of CLIP."""
OUTCOMES = ("better", "no difference", "worse", "too few")
TRAINING_CODE = (
    "batches", "evaluation", "heads", "losses", "metrics", "nn", "projectors", "training", "workflows/train.py", "model.py",
)  # fmt: skip
TrainedModel = tuple[AlignmentModel, Run]


@cache
def code_digest() -> str:
    """Eight hexadecimal digits that change with the code that trains and selects."""
    root = Path(vla.__file__).parent
    digest = hashlib.sha256()
    for part in TRAINING_CODE:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def train_captions(
    workspace: Path, annotations: Sequence[Annotation], settings: Mapping[str, Any], name: str
) -> TrainedModel:
    """Train on these captions of cached videos by `vla.train`; it chooses its validation videos."""
    began = time.monotonic()
    label = f"{name}-{code_digest()}"
    captions = workspace / "captions" / f"{label}.jsonl"
    captions.parent.mkdir(parents=True, exist_ok=True)
    captions.write_text("".join(json.dumps(a.to_json()) + "\n" for a in annotations), "utf-8")
    vla.train(captions=captions, workspace=workspace, settings=settings, name=label)
    return _open(Workspace.open(workspace).runs / label, name, began)


def train_corpus(
    corpus: Corpus,
    split: Split,
    spec: FeatureSpec,
    settings: Mapping[str, Any],
    folder: Path,
    scale: float = CLIP_SCALE,
) -> TrainedModel:
    """Train on a corpus that no caption file describes; its CPU seconds are kept in `folder`."""
    began, cpu_began = time.monotonic(), time.process_time()
    config = TrainConfig.from_mapping(dict(settings), "settings")
    identity = config.identity(code_digest(), corpus_digest(corpus))
    if not (folder / "run.json").is_file() or open_run(folder).identity != identity:
        train(corpus, split, spec, scale, config, folder, identity)
        (folder / "cpu-seconds").write_text(f"{time.process_time() - cpu_began:.1f}", "utf-8")
    return _open(folder, folder.name, began)


def cpu_seconds(folder: Path) -> float:
    """CPU seconds of the training of a run by `train_corpus`, validation included."""
    return float((folder / "cpu-seconds").read_text("utf-8"))


def corpus_digest(corpus: Corpus) -> str:
    """Digest of the features and of the captions."""
    digest = hashlib.sha256()
    for video in corpus.videos:
        digest.update(video.values.tobytes())
    for query in corpus.queries:
        digest.update(repr((query.chunks, query.video, query.spans.tolist())).encode())
    return digest.hexdigest()[:16]


def outcome(run: Run) -> str:
    """One of `OUTCOMES`, by the verdict."""
    if run.is_better:
        return "better"
    text = run.verdict
    return next((kind for kind in ("worse", "too few") if text.startswith(kind)), "no difference")


def _open(folder: Path, name: str, began: float) -> TrainedModel:
    model, run = load_model(folder)
    record = run.record
    print(
        f"{name}: {outcome(run)}, alpha {record['alpha']:g}, centring {record['centring']:g}, "
        f"{record['epochs']} epochs, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return model.eval(), run
