"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _parse_folder(text: str) -> Path:
    # Path("") is the current folder, so an unset variable of a script would select a workspace.
    if not text.strip():
        raise typer.BadParameter("the name of the folder is empty")
    return Path(text)


Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w",
        help="Folder that contains .vla/. Default: $VLA_WORKSPACE, or the nearest one upwards "
        "from here.",
        show_default=False, parser=_parse_folder, metavar="FOLDER",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only, no progress and no notes.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Also print versions, settings, the duration and tracebacks."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Device: auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")
]  # fmt: skip
Dtype = Annotated[
    str, typer.Option("--dtype", help="Precision of the encoder: auto, fp32, bf16 or fp16.", metavar="DTYPE")
]  # fmt: skip
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m",
        help="Preset (demo, fast, balanced, best, offline), open_clip model, hf-hub:ORG/REPO or "
        "local-dir:PATH. "
        "Default: the model of this workspace, or balanced.",
        show_default=False, metavar="MODEL",
    ),
]  # fmt: skip
Pretrained = Annotated[
    str | None,
    typer.Option("--pretrained", help="Tag or file of the weights.", show_default=False, metavar="TAG"),
]  # fmt: skip
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="Encoder plug-in. Default: that of the preset, or open_clip.", show_default=False,
        metavar="NAME",
    ),
]  # fmt: skip
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps", help="Sample RATE frames per second. Default: the rate of this workspace, or 2.", show_default=False,
        metavar="RATE",
    ),
]  # fmt: skip
NumFrames = Annotated[
    int | None,
    typer.Option(
        "--num-frames", min=1, help="Sample N frames, evenly spaced over each video.", show_default=False, metavar="N",
    ),
]  # fmt: skip
Keyframes = Annotated[
    bool, typer.Option("--keyframes", help="Sample keyframes only: fast, irregular and approximate.")
]  # fmt: skip
Scenes = Annotated[bool, typer.Option("--scenes", help="Sample the middle frame of each shot.")]
Captions = Annotated[
    list[Path] | None,
    typer.Option(
        "--captions", "-c", help="Caption file: CSV, TSV, JSONL, JSON, SRT or VTT.", show_default=False, metavar="FILE",
    ),
]  # fmt: skip
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the caption file; `vla import --list` lists them. Default: by suffix "
        "(tables and subtitles).",
        show_default=False, metavar="FORMAT",
    ),
]  # fmt: skip
VideoColumn = Annotated[
    str, typer.Option("--video-column", help="Column of the video name.", show_default=False, metavar="COLUMN")
]  # fmt: skip
CaptionColumn = Annotated[
    str, typer.Option("--caption-column", help="Column of the caption.", show_default=False, metavar="COLUMN")
]  # fmt: skip
StartColumn = Annotated[
    str, typer.Option("--start-column", help="Column of the start, in seconds.", show_default=False, metavar="COLUMN")
]  # fmt: skip
EndColumn = Annotated[
    str, typer.Option("--end-column", help="Column of the end, in seconds.", show_default=False, metavar="COLUMN")
]  # fmt: skip
SplitColumn = Annotated[
    str, typer.Option("--split-column", help="Column of the split.", show_default=False, metavar="COLUMN")
]  # fmt: skip


def sampling_rule(
    fps: float | None, num_frames: int | None = None, keyframes: bool = False, scenes: bool = False
) -> str | None:
    """Return the sampling rule of the options in the library's notation; None without options."""
    rules = []
    if fps is not None:
        rules.append(f"fps={fps!r}")
    if num_frames is not None:
        rules.append(f"frames={num_frames}")
    if keyframes:
        rules.append("keyframes")
    if scenes:
        rules.append("scenes")
    if len(rules) > 1:
        raise typer.BadParameter("use only one of --fps, --num-frames, --keyframes and --scenes")
    return rules[0] if rules else None


def single_file(captions: list[Path] | None) -> Path | None:
    """Return the caption file of a command that accepts one, and refuse a second."""
    if captions and len(captions) > 1:
        names = ", ".join(map(str, captions))
        raise typer.BadParameter(
            f"only one caption file is accepted here, not {names}; `vla extract -c A -c B` "
            f"accepts several",
            param_hint="-c",
        )
    return captions[0] if captions else None


def columns(video: str, caption: str, start: str, end: str, split: str) -> dict[str, str]:
    """Return the column options that are set, by the library's names."""
    names = {
        "video_column": video, "caption_column": caption, "start_column": start, "end_column": end, "split_column": split,
    }  # fmt: skip
    return {k: v for k, v in names.items() if v}
