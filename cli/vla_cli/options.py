"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _folder(text: str) -> Path:
    # Path("") is the current folder: an unset variable of a script would name another workspace than was meant.
    if not text.strip():
        raise typer.BadParameter("the name of the folder is empty")
    return Path(text)


Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", help="Folder that holds .vla/ (default: $VLA_WORKSPACE, or found upwards from here).",
        show_default=False, parser=_folder, metavar="<path>",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes; errors only.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16 or fp16.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m",
        help="Preset (demo, fast, balanced, best), open_clip model, hf-hub:ORG/REPO or local-dir:PATH "
        "(default: as before in this workspace, else balanced).",
        show_default=False,
    ),
]  # fmt: skip
Pretrained = Annotated[str | None, typer.Option("--pretrained", help="Tag or file of the weights.", show_default=False)]
EncoderName = Annotated[
    str | None, typer.Option("--encoder", help="Encoder plug-in (default: open_clip).", show_default=False)
]
Fps = Annotated[
    float | None,
    typer.Option("--fps", help="Frames to sample per second (default: as before, else 2).", show_default=False),
]
NumFrames = Annotated[
    int | None,
    typer.Option("--num-frames", min=1, help="Instead: so many frames evenly over each video.", show_default=False),
]
Keyframes = Annotated[bool, typer.Option("--keyframes", help="Instead: keyframes only. Fast, irregular, approximate.")]
Scenes = Annotated[bool, typer.Option("--scenes", help="Instead: the middle of each shot.")]
Captions = Annotated[
    list[Path] | None,
    typer.Option("--captions", "-c", help="Captions: CSV, TSV, JSONL, JSON, SRT or VTT.", show_default=False),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="What the captions file is, if not a table ('vla import --list').", show_default=False),
]  # fmt: skip
VideoColumn = Annotated[str, typer.Option("--video-column", help="Column that names the video.", show_default=False)]
CaptionColumn = Annotated[
    str, typer.Option("--caption-column", help="Column that holds the caption.", show_default=False)
]
StartColumn = Annotated[
    str, typer.Option("--start-column", help="Column with the start in seconds.", show_default=False)
]
EndColumn = Annotated[str, typer.Option("--end-column", help="Column with the end in seconds.", show_default=False)]
SplitColumn = Annotated[str, typer.Option("--split-column", help="Column that names the split.", show_default=False)]


def sampling(
    fps: float | None, num_frames: int | None = None, keyframes: bool = False, scenes: bool = False
) -> str | None:
    """The rule that the options ask for, as the library writes it; None where they ask for none."""
    rules = [f"fps={fps!r}"] * (fps is not None) + [f"frames={num_frames}"] * (num_frames is not None)
    rules += ["keyframes"] * keyframes + ["scenes"] * scenes
    if len(rules) > 1:
        raise typer.BadParameter("give one of --fps, --num-frames, --keyframes and --scenes")
    return rules[0] if rules else None


def one(captions: list[Path] | None) -> Path | None:
    """The captions file of a command that takes one; a second would be dropped in silence, so it is refused."""
    if captions and len(captions) > 1:
        names = ", ".join(map(str, captions))
        raise typer.BadParameter(
            f"one file at a time here, not {names}: 'vla extract -c A -c B' takes several", param_hint="-c"
        )
    return captions[0] if captions else None


def columns(video: str, caption: str, start: str, end: str, split: str) -> dict[str, str]:
    """The column options that were given, under the names the library has for them."""
    given = {
        "video_column": video, "caption_column": caption, "start_column": start, "end_column": end, "split_column": split,
    }  # fmt: skip
    return {k: v for k, v in given.items() if v}
