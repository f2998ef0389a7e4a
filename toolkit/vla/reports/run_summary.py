"""Summary of a run for its report: verdict, facts and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vla.language.plurals import plural
from vla.training.checkpoint import Run
from vla.training.config import TrainConfig


def run_summary(run: Run) -> dict[str, Any]:
    """Return the verdict as a sentence, facts with their names, and all settings."""
    record, spec = run.record, run.spec
    videos = record["videos"]
    pool_size = videos.get("searched", videos["held out"])
    uses = (
        f"search uses it, at alpha {record['alpha']:g}"
        if run.is_better
        else "search does not use it"
    )
    default = TrainConfig()
    defaults = {f.name: getattr(default, f.name) for f in fields(default)}
    changes = ", ".join(f"{k} {v}" for k, v in record["config"].items() if defaults.get(k) != v)
    facts = [
        ("trained on", plural(videos["train"], "video")),
        (
            "validated on",
            f"{plural(videos['held out'], 'held-out video')}, ranked among {pool_size}",
        ),
        ("features", f"{spec.model}, {spec.dim} dimensions, {spec.sampling}"),
        ("projector", run.model.projector),
        ("heads", ", ".join(run.model.heads) or "none"),
        ("epochs", _epochs(record)),
        (
            "alpha",
            f"{record['alpha']:g}: interpolation between the frozen encoder (0) and the trained "
            f"projector (1)",
        ),
        *_guard(record),
        *_heads(run),
        ("weights", run.digest),
        ("changed settings", changes or "none: all settings are the defaults"),
    ]
    verdict = f"Verdict: {run.verdict}. By default {uses}."
    return {"verdict": verdict, "summary": facts, "settings": list(record["config"].items())}


def _epochs(record: Mapping[str, Any]) -> str:
    epoch = record.get("selected_epoch", record["epochs"])
    if epoch == record["epochs"]:
        return str(epoch)
    return f"{record['epochs']}; the weights are those of epoch {epoch}"


def _heads(run: Run) -> list[tuple[str, str]]:
    """Describe what the heads use of the training, and their comparison with untrained heads."""
    facts = []
    gate = run.record.get("head_gate")
    if gate is not None:
        shares = ", ".join(f"{name} {share:g}" for name, share in gate["shares"].items())
        by_contrast = [name for name, is_used in gate.get("contrast_ends", {}).items() if is_used]
        ends = f"; ends of moments by contrast: {', '.join(by_contrast)}" if by_contrast else ""
        facts.append(
            (
                "alpha of heads",
                f"{gate['alpha']:g}; share between initial (0) and trained (1) weights: {shares}{ends}",
            )
        )
    return [*facts, *run.head_verdicts.items()]


def _guard(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the effect on content that the captions do not mention, if a run was judged by
    that, too.
    """
    facts = []
    if "centring" in record:
        facts.append(
            ("centering", f"{record['centring']:g}: share of the mean feature that is subtracted")
        )
    if any(record.get("untaught", {}).values()):
        before, after = (record["untaught"][when] for when in ("before", "after"))
        facts.append(
            ("held-out concepts", f"score {before:.3f} before training, {after:.3f} after")
        )
    return facts
