"""The ways out that the library names as data, in the words of the command line: one line for each action."""

from __future__ import annotations

from vla.hints import Hint, Note

WORDINGS = {
    "any_length": "`--lasting any` looks for moments of any length",
    "change_encoder": "leave out `--model`, `--pretrained`, `--encoder` and the sampling to go on as before; use another "
    "`--workspace`; or give `--switch` to go on with the new features (the old ones are kept)",
    "compute_on_cpu": "use `--device cpu` or `--device auto`",
    "decode_in_process": "use `--decoder pyav`, which needs no process of its own",
    "doctor": "run `vla doctor` for details",
    "encode_texts": "run `vla extract --captions FILE` or `vla train` again",
    "encode_texts_again": "delete it and run `vla extract --captions FILE` or `vla train` again; its texts are encoded anew",
    "evaluate_again": "delete it and run `vla eval` again",
    "evaluate_split": "use `--split {split}`, or a split of the annotations",
    "extract": "run `vla extract PATH...` first",
    "extract_again": "delete it and run `vla extract` again",
    "extract_video": "run `vla extract {video}` first",
    "fetch_weights": "run the same command once with a network (the weights are kept for later runs without one), or copy a "
    "folder that open_clip saved and use `--model local-dir:FOLDER`; `vla demo` shows every step without a download",
    "free_device": "use `--device cpu` or a smaller model, or end what else is using the device",
    "free_disk": "free some space (`vla gc` deletes what is not used), or use `--workspace`",
    "give_captions": "give captions of extracted videos with `--captions FILE`",
    "index": "run `vla index`",
    "index_or_caption": "run `vla index` if the index is out of date, or give captions with `vla extract --captions FILE`",
    "leave_imported": "import what is new, too (`vla import-features`); use another `--workspace`; or give `--switch` to go on "
    "with the new features (the imported ones are kept)",
    "list_captions": "`vla captions` lists the files that captions are from",
    "list_videos": "`vla ls` lists the videos",
    "load_again": "delete it; the next search loads the whole model once",
    "make_again": "delete it and run the command that made it again",
    "make_workspace": "run `vla extract PATH...` here first, or name the folder that holds a workspace with `--workspace` or "
    "{variable}",
    "move_workspace": "use `--workspace` or VLA_WORKSPACE",
    "name_another_space": "import them under another `--model`",
    "name_encoder": "give `--encoder-model MODEL`, too",
    "name_encoder_or_texts": "name the encoder with `vla import-features --encoder-model MODEL [--pretrained TAG]`, or give "
    "texts with their vectors with `vla import-features --texts FILE`",
    "name_feature_encoder": "name the encoder that they were made with: `vla import-features --encoder-model MODEL`",
    "name_import": "give files of features, `--texts FILE` or `--encoder-model MODEL`",
    "name_key": "name the array or column by `--key`",
    "name_sampling": "say how frames were sampled by one of `--fps`, `--stride` with `--video-fps`, and `--clip-length`",
    "name_space": "give `--model NAME`, e.g. `--model clip-vit-b32`",
    "name_split": "name a split with `--split`",
    "name_stride": "give `--stride N` with `--video-fps RATE`",
    "name_weights": "name them, or a file of them, with `--pretrained`",
    "name_workspace": "name the folder that holds {folder}/ with `--workspace`",
    "one_or_all": "name videos, or give `--all`",
    "overwrite": "write somewhere else, or give `--overwrite`",
    "overwrite_run": "start anew with `vla train --overwrite`",
    "repair_captions": "drop damaged lines with `vla verify --repair`, then give their captions again",
    "repair_features": "run `vla verify --read-data --repair`, then `vla extract` again",
    "repair_workspace": "write it anew with `vla verify --repair`",
    "replace_torch": "reinstall torch, or use `--device cpu`",
    "restart_run": "delete it and run `vla train` again; the run starts anew",
    "restore_encoder": "the weights or the configuration changed since the features were made: bring them back, or extract anew "
    "with `--switch`",
    "retrain": "train it again with `vla train --overwrite --name {run}` and the captions and settings that it had, or do "
    "without it by `--run none`",
    "retrain_without": "train it again without that with `vla train --overwrite --name {run}`, or do without it by `--run none`",
    "search_again": "delete it; the next search makes it anew",
    "skip_faulty": "leave out the faulty ones with `--skip-faulty`",
    "switch_to_imported": "use another `--workspace`, or give `--switch` to go on with the imported features (the old ones are "
    "kept)",
    "take_literally": "`--literal` takes it as it is written",
    "train": "run `vla train --name {run}` first",
    "train_again": "delete it; `vla train` asks the encoder again",
    "train_head": "train a run on questions of that kind: `vla train --heads {head} --captions FILE`, with questions in the file",
    "train_here": "train a run on these features with `vla train --name NAME`, or do without one by `--run none`",
    "train_or_caption": "run `vla train` on questions, or give captions",
    "use_real_encoder": "use `--model fast` or `--model balanced` for real videos",
    "use_run": "use the run all the same with `--run {run}`",
    "verify": "run `vla verify` to see what is damaged",
    "wait_for_index": "search again when `vla index` is done",
}


def wording(hint: Hint) -> str:
    """The way out in words; an action of a plug-in that has none here is named by itself, with its values."""
    if hint.action not in WORDINGS:
        return " ".join([hint.action.replace("_", " "), *(f"{name}={value}" for name, value in hint.values.items())])
    return WORDINGS[hint.action].format_map(hint.values)


def worded(text: object) -> str:
    """`text` with its way out, where it has one, in one line."""
    hint = text.hint if isinstance(text, Note) else None
    return f"{text}; hint: {wording(hint)}" if hint else str(text)


def plain(value: object) -> object:
    """`value`, fit for JSON, with the way out of every note in it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return worded(value) if isinstance(value, Note) else value
