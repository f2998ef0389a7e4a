"""Packages that an open_clip model needs beyond those of `vla`, checked before a download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from vla.errors import EnvironmentUnfitError
from vla.registry import pip_line


def require_packages(open_clip: Any, name: str, location: str = "") -> None:
    """Raise EnvironmentUnfitError if the model `name` needs a package that is not installed.

    The configuration of the model lists them.

    Args:
        open_clip: the module.
        name: name of the model, for messages.
        location: name under which open_clip finds its configuration; empty if that is `name`.
    """
    location = location or name
    config: Mapping[str, Any] = {}
    with suppress(
        OSError, ValueError, RuntimeError, KeyError
    ):  # loading the model reports the error
        config = (
            open_clip.get_model_config(location if ":" in location else location.replace("/", "-"))
            or {}
        )
    for module, purpose in required_modules(name, config).items():
        if find_spec(module) is None:
            raise _missing_package(name, module, purpose)
    model = _section(config, "vision_cfg").get("timm_model_name")
    if model:
        import timm

        if not timm.is_model(str(model).split(":")[-1]):
            raise EnvironmentUnfitError(
                f"the model {name!r} needs timm's {model!r}, not in timm {timm.__version__}: pip "
                f"install --upgrade timm"
            )


def required_modules(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the modules that a model with this configuration imports, and their purposes."""
    text = _section(config, "text_cfg")
    modules = {}
    if text.get("hf_model_name"):
        modules["transformers"] = f"its text tower {text['hf_model_name']!r}"
    # open_clip infers SigLIP's tokenizer from the name if the configuration names none.
    elif text.get("hf_tokenizer_name") or ("siglip" in name.lower() and ":" not in name):
        modules["transformers"] = "its tokenizer"
    if _section(config, "vision_cfg").get("timm_model_name"):
        modules["timm"] = "its picture tower"
    return modules


@contextmanager
def name_missing_packages(name: str) -> Iterator[None]:
    """Turn a failed import within this context into an error that names the package.

    Tokenizers and towers may in turn need further packages.
    """
    try:
        yield
    except ImportError as error:
        module = (getattr(error, "name", None) or "").split(".")[0]
        if not module or module in ("vla", "open_clip"):
            raise EnvironmentUnfitError(
                f"the model {name!r} cannot be loaded with what is installed "
                f"({str(error).strip().splitlines()[0]})"
            ) from error
        raise _missing_package(name, module, str(error).strip().splitlines()[0]) from error


def _missing_package(name: str, module: str, purpose: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"the model {name!r} needs the package {module!r} ({purpose}): {pip_line(module)}"
    )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}
