"""Stand-ins for the packages of the encoder `conse`: the same files and names, random weights, a small sentence encoder."""

import hashlib
import json
import string
from contextlib import contextmanager
from dataclasses import replace
from importlib import invalidate_caches

import pytest
import torch

from vla.encoders import _package_files, _sentence_encoder
from vla.encoders._efficientnet import package_name

WIDTH, LAYERS, POSITIONS = 64, 2, 256
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
VOCABULARY = len(SPECIAL) + 2 * len(CHARACTERS)


def bert_weights(seed=0):
    """Random tensors of a small BERT by the names of `transformers.BertModel`."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape, scale=0.2):
        return scale * torch.randn(*shape, generator=generator)

    tensors = {
        "embeddings.word_embeddings.weight": random(VOCABULARY, WIDTH, scale=1.0),
        "embeddings.position_embeddings.weight": random(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": random(2, WIDTH),
        "embeddings.position_ids": torch.arange(POSITIONS)[None],
    }

    def add(name, *shape):
        tensors[f"{name}.weight"] = random(*shape)
        tensors[f"{name}.bias"] = random(shape[0])

    def add_norm(name):
        tensors[f"{name}.weight"] = 1 + random(WIDTH)
        tensors[f"{name}.bias"] = random(WIDTH)

    add_norm("embeddings.LayerNorm")
    for number in range(LAYERS):
        prefix = f"encoder.layer.{number}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            add(f"{prefix}attention.{part}", WIDTH, WIDTH)
        add_norm(f"{prefix}attention.output.LayerNorm")
        add(f"{prefix}intermediate.dense", 3 * WIDTH, WIDTH)
        add(f"{prefix}output.dense", WIDTH, 3 * WIDTH)
        add_norm(f"{prefix}output.LayerNorm")
    add("pooler.dense", WIDTH, WIDTH)
    return tensors


def tokenizer_json():
    """A tokenizer of BERT's kind whose word pieces are characters; it pads and cuts at 128, as the real file does."""
    pieces = [*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
    ends = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    single = [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]]
    return json.dumps({
        "version": "1.0",
        "truncation": {"max_length": 128, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [
            {"id": i, "special": True, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for i, c in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}, ends[1]],
            "special_tokens": {c: {"id": c, "ids": [SPECIAL.index(c)], "tokens": [c]} for c in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {piece: i for i, piece in enumerate(pieces)}},
    })  # fmt: skip


def classifier(name="lite0", seed=0):
    """timm's network with random weights, and statistics and logits of a sensible size."""
    import timm

    torch.manual_seed(seed)
    network = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    network.train().requires_grad_(False)
    network.classifier.weight.normal_()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    pictures = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 4) * 2 - 1, 224)
    network(pictures)
    # Without training, all pictures have nearly the same features: their differences are made large.
    logits = network.eval()(pictures)
    factor = 3 / logits.std(0).mean()
    network.classifier.weight.mul_(factor)
    network.classifier.bias.copy_(-logits.mean(0) * factor)
    return network


@contextmanager
def conse_packages(folder, name="lite0"):
    """Stand-ins in `folder`, which are found before installed packages; yields timm's network of the classifier."""
    from safetensors.torch import save_file

    network = classifier(name)
    state = network.state_dict()
    original = {
        "classifier": _package_files.CLASSIFIER_WEIGHTS[name],
        "weights": _package_files.SENTENCE_WEIGHTS,
        "tokenizer": _package_files.SENTENCE_TOKENIZER,
    }
    paths = {key: folder / file.module / file.path for key, file in original.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Importing a package of weights would run its code.
        (path.parents[1] / "__init__.py").write_text("raise ImportError('not to be imported')")
    torch.save({package_name(network, k): v.clone() for k, v in state.items()}, paths["classifier"])
    save_file(bert_weights(), paths["weights"])
    paths["tokenizer"].write_text(tokenizer_json(), "utf-8")
    files = {
        key: replace(file, sha256=hashlib.sha256(paths[key].read_bytes()).hexdigest())
        for key, file in original.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setitem(_package_files.CLASSIFIER_WEIGHTS, name, files["classifier"])
        for module in (_package_files, _sentence_encoder):
            patch.setattr(module, "SENTENCE_WEIGHTS", files["weights"])
            patch.setattr(module, "SENTENCE_TOKENIZER", files["tokenizer"])
        invalidate_caches()
        yield network
