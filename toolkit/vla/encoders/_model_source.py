"""Files of a model on the hub: which repositories have them, and which of them are here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vla.encoders._hub_cache import HubRepository, is_repository_name
from vla.encoders._presets import PRESETS, Preset
from vla.errors import UsageError
from vla.hints import Hint
from vla.storage.regular_files import read_regular

CONFIG = "open_clip_config.json"
_WEIGHTS = "open_clip_pytorch_model.bin"
_SAFE_WEIGHTS = "open_clip_model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_TOKENIZER_MAIN_FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")
_CONFIG_LIMIT_BYTES = 2**20


@dataclass(frozen=True)
class HubFiles:
    """Files of one repository that a model needs.

    Attributes:
        repository: `ORG/REPO`.
        alternatives: one of these is needed, the first that there is.
        others: those of these that there are.
    """

    repository: str
    alternatives: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names of files that may be needed."""
        return (*self.alternatives, *self.others)

    def find(self) -> Path | None:
        """Return the path of the needed file; None if it is not here."""
        return HubRepository(self.repository).find(self.alternatives)


@dataclass(frozen=True)
class ModelSource:
    """A model whose weights are on the hub.

    Attributes:
        name: as `vla models` takes it: a preset, `MODEL/TAG` or `hf-hub:ORG/REPO`.
        weights: files of the model.
        tokenizer: files of a tokenizer of the hub, if the model has one.
    """

    name: str
    weights: HubFiles
    tokenizer: HubFiles | None = None

    @property
    def groups(self) -> tuple[HubFiles, ...]:
        """The files by repository."""
        return (self.weights, *([self.tokenizer] if self.tokenizer else []))

    def find(self) -> Path | None:
        """Return the path of the weights; None if some needed file is not here."""
        paths = [files.find() for files in self.groups]
        return paths[0] if all(paths) else None

    def with_tokenizer(self, config: Mapping[str, Any]) -> ModelSource:
        """Return the source with the tokenizer that the configuration of the model names."""
        text = config.get("text_cfg")
        text = text if isinstance(text, Mapping) else {}
        name = text.get("hf_tokenizer_name") or text.get("hf_model_name")
        if not isinstance(name, str) or not is_repository_name(name):
            return self
        return replace(
            self, tokenizer=HubFiles(name, _TOKENIZER_MAIN_FILES, _TOKENIZER_FILES)
        )  # fmt: skip

    def with_config(self, path: Path) -> ModelSource:
        """Return the source with the tokenizer that the configuration file at `path` names.

        Raises:
            UsageError: the file is no configuration of open_clip.
        """
        content = read_regular(path, _CONFIG_LIMIT_BYTES, what="configuration")
        try:
            config = json.loads(content)["model_cfg"]
            return self.with_tokenizer(config)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{self.name} has no configuration of open_clip") from error


def preset_source(name: str, preset: Preset) -> ModelSource:
    """Return the source of a preset, without importing open_clip."""
    return ModelSource(
        name, HubFiles(preset.repository, (_SAFE_WEIGHTS, _WEIGHTS), (CONFIG,))
    )  # fmt: skip


def hub_source(name: str) -> ModelSource:
    """Return the source of `hf-hub:ORG/REPO`.

    Its tokenizer is known if its configuration is here.

    Raises:
        UsageError: the name is invalid.
    """
    repository = name.removeprefix("hf-hub:")
    if not is_repository_name(repository):
        raise UsageError(f"{name!r} names no model of the hub: write hf-hub:ORG/REPO")
    source = ModelSource(name, HubFiles(repository, (_SAFE_WEIGHTS, _WEIGHTS), (CONFIG,)))
    config = HubRepository(repository).find((CONFIG,))
    return source.with_config(config) if config else source


def tag_source(open_clip: Any, model: str, tag: str) -> ModelSource | None:
    """Return the source of a model of open_clip; None if its weights are not on the hub.

    Raises:
        UsageError: open_clip has no such model, or no such tag.
    """
    require_model(open_clip, model, tag)
    architecture = model.replace("/", "-")
    location = str((open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", ""))
    repository, _, file = location.rpartition("/")
    if not is_repository_name(repository):
        return None
    if not file:
        names: tuple[str, ...] = (_SAFE_WEIGHTS, _WEIGHTS)
    elif file.endswith((".bin", ".pth")):
        names = (f"{file[:-4]}.safetensors", file)
    else:
        names = (file,)
    name = next(
        (n for n, p in PRESETS.items() if p.repository and (p.model, p.pretrained) == (model, tag)),
        f"{architecture}/{tag}",
    )
    source = ModelSource(name, HubFiles(repository, names, (CONFIG,)))
    return source.with_tokenizer(open_clip.get_model_config(architecture) or {})


def architecture_names() -> list[str]:
    """Return the names of open_clip's models, from its files: importing it takes seconds."""
    spec = find_spec("open_clip")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return sorted(
        path.stem for folder in folders for path in Path(folder, "model_configs").glob("*.json")
    )


def require_model(open_clip: Any, name: str, tag: str) -> None:
    """Raise UsageError if open_clip has no such model, or no such tag; a tag may be a file."""
    if name.replace("/", "-") not in open_clip.list_models():
        near = closest(name, [*PRESETS, *open_clip.list_models()])
        raise UsageError(
            f"open_clip has no model called {name!r}.{near} Presets: {', '.join(PRESETS)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    if tag not in tags and not Path(tag).is_file():
        tag_list = ", ".join(tags) or "none"
        raise UsageError(
            f"model {name!r} needs weights: one of {tag_list}, or the path of a file; got {tag!r}",
            hint=Hint("name_weights"),
        )


def closest(name: str, names: Sequence[str]) -> str:
    """Return a sentence that names the most similar of `names`; empty without one."""
    matches = difflib.get_close_matches(name, names, n=3)
    return f" Did you mean {', '.join(matches)}?" if matches else ""
