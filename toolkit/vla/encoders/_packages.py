"""Packages that an open_clip model needs beyond those of `vla`: named with their pip line before a download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from vla.errors import EnvironmentUnfitError
from vla.registry import pip_line


def require_packages(open_clip: Any, name: str) -> None:
    """Raise EnvironmentUnfitError where the model `name` needs a package that is not installed.

    Its configuration says so; of `hf-hub:` names that is one small file, which open_clip fetches.
    """
    config: Mapping[str, Any] = {}
    with suppress(OSError, ValueError, RuntimeError, KeyError):  # loading it will say what is wrong
        config = open_clip.get_model_config(name if ":" in name else name.replace("/", "-")) or {}
    for module, why in needs(name, config).items():
        if find_spec(module) is None:
            raise _lacking(name, module, why)
    model = _section(config, "vision_cfg").get("timm_model_name")
    if model:
        import timm

        if not timm.is_model(str(model).split(":")[-1]):
            raise EnvironmentUnfitError(
                f"the model {name!r} needs timm's {model!r}, not in timm {timm.__version__}: pip install --upgrade timm"
            )


def needs(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Modules that the model `name` with this configuration imports, each with what for."""
    text = _section(config, "text_cfg")
    found = {}
    if text.get("hf_model_name"):
        found["transformers"] = f"its text tower {text['hf_model_name']!r}"
    # open_clip takes SigLIP's tokenizer by the name alone where the configuration names none.
    elif text.get("hf_tokenizer_name") or ("siglip" in name.lower() and ":" not in name):
        found["transformers"] = "its tokenizer"
    if _section(config, "vision_cfg").get("timm_model_name"):
        found["timm"] = "its picture tower"
    return found


@contextmanager
def packages_named(name: str) -> Iterator[None]:
    """While this is held, an import that fails names the package, since tokenizers and towers may need others in their turn."""
    try:
        yield
    except ImportError as error:
        module = (getattr(error, "name", None) or "").split(".")[0]
        if not module or module in ("vla", "open_clip"):
            raise EnvironmentUnfitError(
                f"the model {name!r} cannot be loaded with what is installed ({str(error).strip().splitlines()[0]})"
            ) from error
        raise _lacking(name, module, str(error).strip().splitlines()[0]) from error


def _lacking(name: str, module: str, why: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(f"the model {name!r} needs the package {module!r} ({why}): {pip_line(module)}")


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
