"""Presets: short names for recommended models, with the licences of their weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A recommended model.

    Attributes:
        model: the encoder's name of the model.
        pretrained: open_clip's tag of the weights; empty if there is only one set.
        licence: licence of the weights.
        parameters: number of parameters of both towers, in millions.
        megabytes: size of the weights; of those on the model hub, that of float32 parameters.
        use: purpose; R@1 is the published zero-shot text-to-video recall on MSR-VTT 1k-A.
        repository: repository of the weights on the model hub; empty if they come from elsewhere.
        encoder: name of the encoder plug-in that `model` belongs to.
    """

    model: str
    pretrained: str
    licence: str
    parameters: float
    megabytes: float
    use: str
    repository: str = ""
    encoder: str = "open_clip"


PRESETS = {
    "demo": Preset("demo", "", "Apache-2.0", 1.5, 3.2, "embedded; only the rendered world of the demo"),
    "fast": Preset(
        "PE-Core-S-16-384", "meta", "Apache-2.0", 87, 348, "small and quick; R@1 39.3",
        repository="timm/PE-Core-S-16-384",
    ),
    "balanced": Preset(
        "PE-Core-B-16", "meta", "Apache-2.0", 448, 1790, "the default; R@1 47.6",
        repository="timm/PE-Core-B-16",
    ),
    "best": Preset(
        "PE-Core-L-14-336", "meta", "Apache-2.0", 671, 2690, "for a GPU; R@1 50.3",
        repository="timm/PE-Core-L-14-336",
    ),
    "offline": Preset(
        "lite2", "", "Apache-2.0, MIT", 28.8, 116,
        "from pip, without a model hub; a thousand kinds of things, no people, places or actions",
        encoder="conse",
    ),
}  # fmt: skip
DEFAULT = "balanced"


def encoder_of_model(model: str | None) -> str | None:
    """Return the name of the encoder plug-in of `model` if it is a preset."""
    preset = PRESETS.get(model or "")
    return preset.encoder if preset else None
