"""`vla info`."""

from __future__ import annotations

from typing import Any

from vla_cli import options as o


def info(workspace: o.Workspace = None, as_json: o.Json = False) -> None:
    """Describe the workspace: encoder, features, captions, runs and index.

    Examples:
        vla info
        vla info -w ~/Videos
    """
    from vla.workflows import maintenance
    from vla_cli.hints import with_hint
    from vla_cli.render import escape, format_bytes, plural, print_json, print_line

    summary = maintenance.info(workspace=workspace)
    if as_json:
        print_json(summary)
        return
    lines = [("workspace", f"{summary['workspace']}  ({format_bytes(summary['bytes'])} in .vla/)")]
    lines += _describe_features(summary["features"])
    captions = summary["captions"]
    videos = plural(captions["videos"], "video")
    lines.append(("captions", f"{captions['total']:,} ({captions['timed']:,} timed) of {videos}"))
    for name, run in summary["runs"].items():
        verdict = f", {run['verdict']}" if "verdict" in run else ""
        lines.append((f"run {name}", with_hint(run["state"]) + verdict))
    lines.append(("index", _describe_index(summary["index"])))
    width = max(len(escape(name)) for name, _ in lines)
    for name, text in lines:
        print_line(f"{escape(name):<{width}}  {text}")


def _describe_features(features: dict[str, Any] | None) -> list[tuple[str, str]]:
    from vla_cli.render import format_bytes, format_duration, plural

    if features is None:
        return [("features", "none yet: run `vla extract PATH...`")]
    statuses = ", ".join(f"{n:,} {status}" for status, n in sorted(features["videos"].items()))
    missing = f"; {features['missing']:,} missing on disk" if features["missing"] else ""
    model = f"{features['model']} {features['pretrained']}".strip()
    if features["imported"]:
        model += f" (imported; encoder of new texts: {features['text_encoder'] or 'none'})"
    frames, duration = plural(features["frames"], "frame"), format_duration(features["seconds"])
    lines = [
        ("encoder", f"{model}, {features['dim']} dimensions, {features['sampling']}"),
        ("videos", f"{statuses or 'none'}{missing}"),
        ("features", f"{frames} of {duration} of video, {format_bytes(features['bytes'])}"),
    ]
    if features["other_caches"]:
        caches = plural(features["other_caches"], "cache")
        lines.append(("", f"{caches} of other encoders: `vla gc --all-caches` deletes them"))
    return lines


def _describe_index(index: dict[str, Any] | None) -> str:
    from vla_cli.hints import with_hint
    from vla_cli.render import plural

    if index is None:
        return "none yet: run `vla index`"
    if "segments" not in index:
        return with_hint(index["state"])
    model = f"run {index['run']}" if index["run"] else "the frozen encoder"
    segments, videos = plural(index["segments"], "segment"), plural(index["videos"], "video")
    return f"{segments} of {videos}, by {model}; {with_hint(index['state'])}"
