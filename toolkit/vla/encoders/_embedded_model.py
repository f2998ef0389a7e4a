"""Files of the embedded model, the preset `demo`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = Path(__file__).parent / "_embedded"
EMBEDDED_FILES = (
    EMBEDDED / "open_clip_model.safetensors",
    EMBEDDED / "open_clip_config.json",
    EMBEDDED / "bpe.txt.gz",
)
