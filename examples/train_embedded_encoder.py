"""Train the small open_clip model that `vla` ships, on frames of the rendered world paired with captions of their clips.

    python examples/train_embedded_encoder.py OUT [--scenes 32000] [--minutes 60]

As in web-scale training, a frame is paired with a text about its whole clip, so words for motion enter the text space
although no single frame shows motion. A batch holds groups of look-alikes, without which colours and shapes alone would
tell all texts apart. Three helpers are trained beside the contrastive loss and thrown away afterwards:

- A linear map finds in the frame's embedding which colours and shapes there are, where, and how large (as LocCa and
  SigLIP 2 let boxes be told). In the first part of the time it is the only loss: by contrast alone places were not learned
  in the hours that were tried. It sees single frames, never motion.
- A linear map hears in the text's embedding which events the text tells of, of things of which colour, and in which order.
  It sees texts, never frames. Without it, up and down could not be told apart in the vector of a description (R2 0).
- A small decoder tells the caption from the frame's embedding and from the text's own (as CoCa), which keeps the words of a
  caption in its text vector. In the last part of the time only the texts' side learns, from whole captions.

So where things are is in the frames, what they do is in the texts, and that the one is a change of the other is not known:
that is left to `vla train`. Combinations of colour and shape that `vla.world` holds out are never shown.

The weights that `vla` ships came from three runs of this script as it grew, on two CPU cores shared with other work:
`--minutes 55 --last 0 --lr 1.5e-3` (4,013 steps of 128, without the hearer); from its weights `--scenes 20000
--first-seed 200000000 --minutes 17 --alone 0 --last 1 --still 0.15 --lr 1e-3` (1,415 steps, without the hearer); from these
`--scenes 28000 --first-seed 300000000 --minutes 40 --alone 0 --last 1 --still 0.15 --lr 1.5e-3 --threads 1` (1,897 steps).
What one run with the defaults comes to has not been measured.

Writes open_clip's `local-dir:` layout: `open_clip_config.json`, `open_clip_model.safetensors` (float16), `bpe.txt.gz`.
"""

from __future__ import annotations

import argparse
import collections
import functools
import gzip
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import load_file, save_file
from torch.nn import functional

from vla.world.language import appearance, description, moments
from vla.world.render import draw
from vla.world.sampling import counterfactual, sample_scene
from vla.world.scene import COLORS, DIRECTIONS, RADIUS, SHAPES, Event, Scene, states_at

SIDE, FRAMES, TEXTS, GROUP = 64, 2, 4, 4
LONGEST, TOLD = 40, 28
WEIGHTS = {"find": 1.0, "match": 1.0, "tell frame": 0.5, "tell text": 1.0, "hear": 0.3}
KINDS = (
    *DIRECTIONS,
    "grow",
    "shrink",
    "spin",
    "jump",
    "appear",
    "disappear",
    "recolor",
    "orbit",
    "hit",
    "follow",
)
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": SIDE,
        "layers": 4,
        "width": 128,
        "head_width": 32,
        "patch_size": 8,
        "pool_type": "avg",
    },
    "text_cfg": {"context_length": 56, "vocab_size": 0, "width": 128, "heads": 4, "layers": 3},
}
PREPROCESS = {
    "size": SIDE, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest",
    "mean": [0.35, 0.35, 0.3], "std": [0.27, 0.25, 0.24],
}  # fmt: skip


def render_group(
    still_share: float, seed: int
) -> list[tuple[np.ndarray, np.ndarray, list[str], np.ndarray]]:
    """GROUP look-alikes: of each scene frames `(FRAMES, SIDE, SIDE, 3)` uint8, where things are in them (see
    `whereabouts`), TEXTS texts that are true of it, and what each of these tells of (see `happenings`).

    All show the same colours and shapes before the same background, so that telling them apart takes more than naming
    them: where things are, how large, what they do.
    """
    rng = np.random.default_rng(seed)
    # Some of the groups are still, as photographs are: from these the encoder learns words for places.
    still = rng.random() < still_share
    events = (0, 0) if still else (1, 4)
    scenes = [sample_scene(rng, events=events)]
    other = None if still else counterfactual(scenes[0], rng)
    scenes += [other] if other else []
    scenes += [sample_scene(rng, events=events, like=scenes[0]) for _ in range(GROUP - len(scenes))]
    group = []
    for scene in scenes:
        times = rng.uniform(0, scene.duration, FRAMES)
        pixels = torch.from_numpy(draw(scene, times)).permute(0, 3, 1, 2)
        small = (
            functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True)
            .permute(0, 2, 3, 1)
            .numpy()
        )
        if still:
            texts, told = (
                [appearance(scene, rng, location_probability=1.0) for _ in range(TEXTS)],
                [()] * TEXTS,
            )
        else:
            texts = [appearance(scene, rng)] + [description(scene, rng) for _ in range(TEXTS - 2)]
            one = int(rng.integers(len(scene.events)))
            texts.append(moments(scene, rng)[one].text)
            told = [(), *[scene.events] * (TEXTS - 2), scene.events[one : one + 1]]
        heard = np.stack([happenings(scene, events) for events in told])
        group.append((small, whereabouts(scene, times), texts, heard))
    return group


def whereabouts(scene: Scene, times: np.ndarray) -> np.ndarray:
    """For each of `times`, each colour and then each shape: is it there, x, y (-1 to 1), size (about -1 to 1).

    Returns `(T, 9 + 8, 4)` float32, zeros where it is not there.
    """
    states = states_at(scene, times)
    found = np.zeros((len(times), len(COLORS) + len(SHAPES), 4), np.float32)
    for i, thing in enumerate(scene.objects):
        for t in np.flatnonzero(states.opacity[i] > 0.3):
            color = (states.color_from if states.color_mix[i, t] < 0.5 else states.color_to)[i, t]
            size = 5 * RADIUS[thing.size] * states.scale[i, t] - 0.7
            row = (1.0, 2 * states.x[i, t] - 1, 2 * states.y[i, t] - 1, size)
            found[t, color] = found[t, len(COLORS) + SHAPES.index(thing.shape)] = row
    return found


def happenings(scene: Scene, events: tuple[Event, ...]) -> np.ndarray:
    """`(1 + 9 + 1, KINDS)` float32: how often each kind of event is among `events`; how often to a thing of each colour;
    and where in their order, from -1 to 1."""
    found = np.zeros((2 + len(COLORS), len(KINDS)), np.float32)
    for i, event in enumerate(events):
        kinds = [KINDS.index(k) for k in (event.kind, event.direction) if k in KINDS]
        if event.kind == "hit":
            kinds = kinds[:1]  # no text says from where
        found[0, kinds] += 1
        for thing in (
            {event.actor, event.target} - {-1} if event.kind == "follow" else {event.actor}
        ):
            found[1 + COLORS.index(scene.objects[thing].color), kinds] += 1
        found[-1, kinds] += 2 * i / (len(events) - 1) - 1 if len(events) > 1 else 0
    return found


def learn_bpe(texts: list[str], merges: int) -> list[str]:
    """Byte-pair merges of the words of `texts`, most frequent first, in the format of CLIP's vocabulary file."""
    byte = bytes_to_unicode()
    cleaned = " ".join(t.lower() for t in texts)
    for mark in ".,;?":
        cleaned = cleaned.replace(mark, f" {mark} ")
    counts = collections.Counter(cleaned.split())
    words = {
        w: (*[byte[b] for b in w.encode()[:-1]], byte[w.encode()[-1]] + "</w>") for w in counts
    }
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
    parser.add_argument("--scenes", type=int, default=32_000)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of training, after the scenes are drawn"
    )
    parser.add_argument(
        "--alone",
        type=float,
        default=0.25,
        help="share of the time in which the frames' side learns alone where things are",
    )
    parser.add_argument(
        "--last",
        type=float,
        default=0.25,
        help="share of the time in which the texts' side learns alone",
    )
    parser.add_argument(
        "--still", type=float, default=0.5, help="share of the scenes in which nothing happens"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument(
        "--init", type=Path, help="go on from the weights and vocabulary in this folder"
    )
    parser.add_argument("--first-seed", type=int, default=90_000_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.scenes // GROUP)
        rendered = [
            scene
            for group in pool.map(
                functools.partial(render_group, arguments.still), seeds, chunksize=32
            )
            for scene in group
        ]
    frames = torch.from_numpy(np.stack([r[0] for r in rendered]))
    places = torch.from_numpy(np.stack([r[1] for r in rendered]))
    texts = [r[2] for r in rendered]
    heard = torch.from_numpy(np.stack([r[3] for r in rendered]))
    print(f"{len(frames)} scenes drawn in {time.time() - began:.0f} s", flush=True)

    vocabulary = arguments.out / "bpe.txt.gz"
    if arguments.init:
        vocabulary.write_bytes((arguments.init / "bpe.txt.gz").read_bytes())
    else:
        merges = learn_bpe([t for row in texts for t in row], 600)
        # mtime=0: the same merges give the same bytes.
        vocabulary.write_bytes(
            gzip.compress("\n".join(["#version: 0.2", *merges]).encode(), mtime=0)
        )
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
    if arguments.init:
        model.load_state_dict(
            {
                k: v.float()
                for k, v in load_file(arguments.init / "open_clip_model.safetensors").items()
            }
        )
    else:
        model.visual.positional_embedding.data[1:] += 0.5 * grid_waves(
            SIDE // MODEL["vision_cfg"]["patch_size"], MODEL["vision_cfg"]["width"]
        )
    teller = Teller(MODEL["embed_dim"], tokenizer.vocab_size, MODEL["text_cfg"]["context_length"])
    finder = torch.nn.Linear(MODEL["embed_dim"], places[0, 0].numel())
    hearer = torch.nn.Linear(MODEL["embed_dim"], heard[0, 0].numel())
    torch.nn.init.zeros_(hearer.weight)
    parameters = [m for module in (model, teller, finder, hearer) for m in module.parameters()]
    decay = [p for p in parameters if p.ndim >= 2]
    free = [p for p in parameters if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}],
        lr=arguments.lr, betas=(0.9, 0.98),
    )  # fmt: skip
    mean, std = (torch.tensor(PREPROCESS[k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std"))
    held_back = min(512, len(frames) // 8 // GROUP * GROUP)
    order_rng = torch.Generator().manual_seed(0)
    step, joined, trained, began, report = 0, 0, 0.0, time.time(), 0.0
    embedded: torch.Tensor | None = None
    while trained < 1.0:
        # Whole groups stay together: a batch of look-alikes is a batch of hard negatives.
        groups = torch.randperm((len(frames) - held_back) // GROUP, generator=order_rng)
        order = (groups[:, None] * GROUP + torch.arange(GROUP)).flatten()
        for rows in order.split(arguments.batch):
            if len(rows) < arguments.batch and step:
                continue
            trained = (time.time() - began) / (60 * arguments.minutes)
            if trained >= 1.0:
                break
            joined += trained >= arguments.alone
            # The texts' side starts cold when it joins.
            warm = min(1.0, ((joined or step) + 1) / 200)
            for group in optimizer.param_groups:
                group["lr"] = (
                    arguments.lr * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * trained)))
                )
            which = torch.randint(FRAMES, (len(rows),), generator=order_rng)
            told = torch.randint(TEXTS, (len(rows),), generator=order_rng)
            last = trained >= 1 - arguments.last
            # Where a long text is drawn, the first, which is short, takes its place: one would pad the whole batch. What
            # fills the context may have been cut, so that it does not tell of all that it is said to tell of.
            longest = MODEL["text_cfg"]["context_length"] - 1 if last else LONGEST
            told[lengths[rows, told] > longest] = 0
            if not last:
                image = embed(model, frames[rows, which], mean, std)
                parts = {"find": find_loss(finder, image, places[rows, which])}
            else:
                if embedded is None:  # from here on they stay as they are
                    embedded = torch.stack(
                        [embed_all(model, frames[:, i], mean, std) for i in range(FRAMES)], 1
                    )
                image, parts = embedded[rows, which], {}
            if last or trained >= arguments.alone:
                parts |= text_losses(
                    model, teller, hearer, image, tokens[rows, told], heard[rows, told], last
                )
            loss = sum(WEIGHTS[name] * part for name, part in parts.items())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            model.logit_scale.data.clamp_(0, np.log(100))
            step += 1
            if time.time() - report > 60:
                report = time.time()
                save(model, arguments.out)
                print(
                    f"{trained:5.1%} step {step} losses {', '.join(f'{name} {float(part.detach()):.3f}' for name, part in parts.items())}  {evaluate(model, frames, tokens, held_back, mean, std)}",
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


class Teller(torch.nn.Module):
    """Predicts the words of a caption from one embedding; trained beside the model and not kept."""

    def __init__(
        self, dim: int, vocabulary: int, context: int, width: int = 128, prefix: int = 2
    ) -> None:
        super().__init__()
        self.prefix, self.width = prefix, width
        self.enter = torch.nn.Linear(dim, prefix * width)
        self.words = torch.nn.Embedding(vocabulary, width)
        self.places = torch.nn.Parameter(torch.randn(prefix + context, width) * 0.02)
        layer = torch.nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.leave = torch.nn.Linear(width, vocabulary)

    def forward(self, embedding: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each next token of `tokens` `(B, L)`, padding left out, given unit `embedding` `(B, D)`."""
        start = self.enter(embedding * embedding.shape[1] ** 0.5).view(
            len(embedding), self.prefix, self.width
        )
        hidden = torch.cat([start, self.words(tokens[:, :-1])], 1)
        length = hidden.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden = self.layers(hidden + self.places[:length], mask=mask)[:, self.prefix :]
        return functional.cross_entropy(
            self.leave(hidden).float().transpose(1, 2), tokens[:, 1:], ignore_index=0
        )


def grid_waves(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of the rows and columns of a grid, `(side * side, width)`: a ViT that starts with them learns places
    within hundreds of steps instead of thousands."""
    grid = torch.arange(side) / side
    cells = torch.cartesian_prod(grid, grid)
    rates = torch.pi * torch.tensor([0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
    waves = torch.cat(
        [f(cells[:, [axis]] * rates) for axis in (0, 1) for f in (torch.sin, torch.cos)], 1
    )
    return functional.pad(waves, (0, width - waves.shape[1]))


def find_loss(finder: torch.nn.Linear, image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """How badly a linear map of the embedding finds which colours and shapes there are, and where and how large each is."""
    found = finder(image * image.shape[1] ** 0.5).view(places.shape)
    there = places[..., 0]
    missed = functional.binary_cross_entropy_with_logits(found[..., 0], there)
    off = (found[..., 1:] - places[..., 1:]).square() * there.unsqueeze(-1)
    return 3 * missed + off.sum() / there.sum()


def embed(model: CLIP, frames: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Unit embeddings of uint8 `frames` `(B, SIDE, SIDE, 3)`."""
    return model.encode_image((frames.permute(0, 3, 1, 2).float() - mean) / std, normalize=True)


@torch.no_grad()
def embed_all(
    model: CLIP, frames: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """`embed`, a batch at a time."""
    return torch.cat([embed(model, some, mean, std) for some in frames.split(256)])


def hear_loss(hearer: torch.nn.Linear, text: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """How badly a linear map of the text's embedding tells which events it tells of, of whom, and in which order."""
    found = hearer(text * text.shape[1] ** 0.5).view(heard.shape)
    return (found - heard).square().sum((1, 2)).mean()


def text_losses(
    model: CLIP, teller: Teller, hearer: torch.nn.Linear, image: torch.Tensor, tokens: torch.Tensor,
    heard: torch.Tensor, alone: bool,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Symmetric InfoNCE of frames and texts, row by row, the teller's losses from frames and from texts, the hearer's.

    Where the texts' side learns `alone`, the teller hears every word of every text.
    """
    # Padding is most of a row: causal attention lets the batch be cut at its longest text.
    words = tokens[:, : int(tokens.argmax(-1).max()) + 1].long()
    text = encode_cut(model, words)
    logits = model.logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits))
    matched = (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2
    parts = {"match": matched, "hear": hear_loss(hearer, text, heard)}
    if alone:
        return {**parts, "tell text": teller(text, words)}
    # Half of the rows and the first words are enough to learn from.
    half, words = len(tokens) // 2, words[:, :TOLD]
    return {
        **parts,
        "tell frame": teller(image[:half], words[:half]),
        "tell text": teller(text[half:], words[half:]),
    }


def encode_cut(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text(tokens, normalize=True)` for rows shorter than the context."""
    x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
    x = model.ln_final(
        model.transformer(x, attn_mask=model.attn_mask[: tokens.shape[1], : tokens.shape[1]])
    )
    return functional.normalize(
        x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1
    )


@torch.no_grad()
def evaluate(
    model: CLIP,
    frames: torch.Tensor,
    tokens: torch.Tensor,
    count: int,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> str:
    """Recall@1 of texts among frames, over scenes that are not trained on."""
    image = embed(model, frames[-count:, 0], mean, std)
    text = model.encode_text(tokens[-count:, 0].long(), normalize=True)
    similarity = text @ image.T
    found = (similarity > similarity.diag()[:, None]).sum(1)
    return f"held back: R@1 {(found < 1).float().mean():.3f} R@5 {(found < 5).float().mean():.3f} of {count}"


if __name__ == "__main__":
    main()
