"""`vla info`."""

from __future__ import annotations

from vla_cli import options as o


def info(workspace: o.Workspace = None, as_json: o.Json = False) -> None:
    """Say what this workspace holds: features, captions, runs, index."""
    from vla.workflows import maintenance
    from vla_cli.hints import worded
    from vla_cli.render import clock, line, plural, print_json, shown, size

    found = maintenance.info(workspace=workspace)
    if as_json:
        print_json(found)
        return
    lines = [("workspace", f"{found['workspace']}  ({size(found['bytes'])} in .vla/)")]
    features = found["features"]
    if features is None:
        lines.append(("features", "none yet: run 'vla extract PATH...'"))
    else:
        states = ", ".join(f"{n} {state}" for state, n in sorted(features["videos"].items()))
        missing = f", {features['missing']} of them no longer where they were" if features["missing"] else ""
        model = f"{features['model']} {features['pretrained']}".strip()
        if features["imported"]:
            model += f" (imported; new texts by {features['text_encoder'] or 'nobody: no encoder was named'})"
        length = clock(features["seconds"])
        lines += [
            ("encoder", f"{model}, {features['dim']} wide, {features['sampling']}"),
            ("videos", f"{states or 'none'}{missing}"),
            ("features", f"{plural(features['frames'], 'frame')} of {length} of video, {size(features['bytes'])}"),
        ]
        if features["other_caches"]:
            lines.append(
                (
                    "",
                    f"{plural(features['other_caches'], 'cache')} of other encoders: 'vla gc --all-caches' deletes them",
                )
            )
    captions = found["captions"]
    lines.append(
        ("captions", f"{captions['total']} ({captions['timed']} with times) of {plural(captions['videos'], 'video')}")
    )
    for name, run in found["runs"].items():
        verdict = f", {run['verdict']}" if "verdict" in run else ""
        lines.append((f"run {name}", worded(run["state"]) + verdict))
    index = found["index"]
    if index is None:
        lines.append(("index", "none yet: run 'vla index'"))
    elif "segments" not in index:
        lines.append(("index", worded(index["state"])))
    else:
        made = f"run {index['run']}" if index["run"] else "the frozen encoder"
        lines.append(
            (
                "index",
                f"{plural(index['segments'], 'segment')} of {plural(index['videos'], 'video')}, by {made}; "
                f"{worded(index['state'])}",
            )
        )
    width = max(len(shown(name)) for name, _ in lines)
    for name, text in lines:
        line(f"{shown(name):<{width}}  {text}")
