"""Train the small open_clip model that `vla` ships, on frames of the rendered world paired with captions of their clips.

    python examples/train_embedded_encoder.py OUT [--scenes 24000] [--minutes 30]

As in web-scale training, a frame is paired with a text about its whole clip, so words for motion enter the text space
although no single frame shows motion. Combinations of colour and shape that `vla.world` holds out are never shown.
Writes open_clip's `local-dir:` layout: `open_clip_config.json`, `open_clip_model.safetensors` (float16), `bpe.txt.gz`.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import save_file
from torch.nn import functional

from vla.world.language import appearance, description, moments
from vla.world.render import draw
from vla.world.scene import sample_scene

SIDE, FRAMES, TEXTS = 64, 4, 6
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 56, "vocab_size": 0, "width": 128, "heads": 4, "layers": 3},
}
PREPROCESS = {
    "size": SIDE, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest",
    "mean": [0.35, 0.35, 0.3], "std": [0.27, 0.25, 0.24],
}  # fmt: skip


def render_scene(seed: int) -> tuple[np.ndarray, list[str]]:
    """Frames `(FRAMES, SIDE, SIDE, 3)` uint8 of one scene, and TEXTS texts that are true of it."""
    rng = np.random.default_rng(seed)
    # Every third scene is still, as photographs are: from these the encoder learns words for places.
    still = rng.random() < 0.33
    scene = sample_scene(rng, events=(0, 0) if still else (1, 4))
    pixels = torch.from_numpy(draw(scene, rng.uniform(0, scene.duration, FRAMES))).permute(0, 3, 1, 2)
    small = functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).permute(0, 2, 3, 1).numpy()
    texts = [appearance(scene, rng) for _ in range(TEXTS if still else 2)]
    while len(texts) < TEXTS:
        timed = [m.text for m in moments(scene, rng)]
        texts += [description(scene, rng), str(rng.choice(timed))]
    return small, texts[:TEXTS]


def learn_bpe(texts: list[str], merges: int) -> list[str]:
    """Byte-pair merges of the words of `texts`, most frequent first, in the format of CLIP's vocabulary file."""
    byte = bytes_to_unicode()
    cleaned = " ".join(t.lower() for t in texts)
    for mark in ".,;?":
        cleaned = cleaned.replace(mark, f" {mark} ")
    counts = collections.Counter(cleaned.split())
    words = {w: (*[byte[b] for b in w.encode()[:-1]], byte[w.encode()[-1]] + "</w>") for w in counts}
    learned: list[str] = []
    for _ in range(merges):
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(sorted(pairs), key=pairs.__getitem__)
        learned.append(" ".join(best))
        for word, symbols in words.items():
            merged, i = [], 0
            while i < len(symbols):
                both = tuple(symbols[i : i + 2]) == best
                merged.append("".join(best) if both else symbols[i])
                i += 2 if both else 1
            words[word] = tuple(merged)
    return learned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=24_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rendered = pool.map(render_scene, range(10_000_000, 10_000_000 + arguments.scenes), chunksize=64)
    frames = torch.from_numpy(np.stack([f for f, _ in rendered]))
    texts = [t for _, t in rendered]
    print(f"{arguments.scenes} scenes drawn in {time.time() - began:.0f} s", flush=True)

    merges = learn_bpe([t for row in texts for t in row], 600)
    vocabulary = arguments.out / "bpe.txt.gz"
    # mtime=0: the same merges give the same bytes.
    vocabulary.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges]).encode(), mtime=0))
    tokenizer = SimpleTokenizer(str(vocabulary), context_length=MODEL["text_cfg"]["context_length"])
    MODEL["text_cfg"]["vocab_size"] = tokenizer.vocab_size
    tokens = torch.stack([tokenizer(row) for row in texts]).to(torch.int32)
    lengths = (tokens.argmax(-1) + 1).float()
    print(
        f"vocabulary {tokenizer.vocab_size}, tokens a text {lengths.mean():.1f}, longest {int(lengths.max())}",
        flush=True,
    )

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = CLIP(**MODEL)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}],
        lr=arguments.lr, betas=(0.9, 0.98),
    )  # fmt: skip
    mean, std = (torch.tensor(PREPROCESS[k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std"))
    held_back = min(512, arguments.scenes // 8)
    order_rng = torch.Generator().manual_seed(0)
    step, trained, began, report = 0, 0.0, time.time(), 0.0
    while trained < 1.0:
        order = torch.randperm(arguments.scenes - held_back, generator=order_rng)
        for rows in order.split(arguments.batch):
            if len(rows) < arguments.batch and step:
                continue
            trained = (time.time() - began) / (60 * arguments.minutes)
            if trained >= 1.0:
                break
            warm = min(1.0, (step + 1) / 200)
            for group in optimizer.param_groups:
                group["lr"] = arguments.lr * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * trained)))
            which = torch.randint(FRAMES, (len(rows),), generator=order_rng)
            told = torch.randint(TEXTS, (len(rows),), generator=order_rng)
            with torch.autocast("cpu", torch.bfloat16):
                loss = contrast(model, frames[rows, which], tokens[rows, told], mean, std)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.logit_scale.data.clamp_(0, np.log(100))
            step += 1
            if time.time() - report > 120:
                report = time.time()
                save(model, arguments.out)
                print(
                    f"{trained:5.1%} step {step} loss {loss.item():.3f}  {evaluate(model, frames, tokens, held_back, mean, std)}",
                    flush=True,
                )
    print(f"{step} steps, {evaluate(model, frames, tokens, held_back, mean, std)}")
    save(model, arguments.out)


def save(model: CLIP, out: Path) -> None:
    """Write weights and configuration in the layout that open_clip's `local-dir:` reads."""
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, out / "open_clip_model.safetensors")
    text = {**MODEL["text_cfg"], "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"}}
    config = {"model_cfg": {**MODEL, "text_cfg": text}, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def contrast(
    model: CLIP, pixels: torch.Tensor, tokens: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE of frames and texts, row by row."""
    # Padding is most of a row: causal attention lets the batch be cut at its longest text.
    longest = int(tokens.argmax(-1).max()) + 1
    image = model.encode_image((pixels.permute(0, 3, 1, 2).float() - mean) / std, normalize=True)
    text = encode_cut(model, tokens[:, :longest].long())
    image, text = image.float(), text.float()
    logits = model.logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def encode_cut(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text(tokens, normalize=True)` for rows shorter than the context."""
    x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[: tokens.shape[1], : tokens.shape[1]]))
    return functional.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


@torch.no_grad()
def evaluate(
    model: CLIP, frames: torch.Tensor, tokens: torch.Tensor, count: int, mean: torch.Tensor, std: torch.Tensor
) -> str:
    """Recall@1 of texts among frames, over scenes that are not trained on."""
    image = model.encode_image((frames[-count:, 0].permute(0, 3, 1, 2).float() - mean) / std, normalize=True)
    text = model.encode_text(tokens[-count:, 0].long(), normalize=True)
    similarity = text @ image.T
    found = (similarity > similarity.diag()[:, None]).sum(1)
    return f"held back: R@1 {(found < 1).float().mean():.3f} R@5 {(found < 5).float().mean():.3f} of {count}"


if __name__ == "__main__":
    main()
