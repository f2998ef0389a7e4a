"""Train the small open_clip model that `vla` ships, on frames of the rendered world and texts about them.

    python examples/train_embedded_encoder.py OUT [--scenes 6400] [--minutes 45] [--init FOLDER]

Each combination of colour and shape has a code, a fixed unit vector: the sum of one for its colour, one for its shape and
one of its own. Without its own, "a red star" would fit a red ring beside a blue star as well. Each background has a code,
too. Both sides learn the codes by themselves:

- First the frames' side, a small ResNet: the codes of what a frame shows have a high product with its embedding, and those
  of the rest a low one; for each combination, frames that show it come before the others. A linear map finds places, sizes
  and angles in the embedding (as LocCa and SigLIP 2 let boxes be told), which is what `vla train` needs to see motion.
- Then the texts' side, with the frames' embeddings as they are: a text has a high product with the codes of what it names.
  Short texts are compared with all frames, and are right for those that show what they name; descriptions are right for
  frames of scenes with the same things and background. A linear map hears in the text's embedding which events it tells
  of, of things of which colour, and in which order.

So what things are and where is in the frames, what they do is in the texts, and that the one is a change of the other is not
known: that is left to `vla train`. Single frames never show motion. Combinations of colour and shape that `vla.world` holds
out are never named, and never shown but by things that change their colour.

The weights that `vla` ships came from three runs, on two CPU cores shared with other work. The texts' side began with the
weights of an earlier version of this script, a vision transformer that was trained for two hours, and the codes of colours
and shapes were those of its texts; the others were drawn. 1,429 steps of 64 frames without the term for places alone; 263
steps of 128 for the texts' side; STEPS steps of 64 frames with it. What one run with the defaults comes to has not been
measured.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import load_file, save_file
from torch.nn import functional

from vla.world.language import appearance, description, event_query, ground, moments, noun
from vla.world.render import draw
from vla.world.sampling import counterfactual, sample_scene
from vla.world.scene import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    RADIUS,
    SHAPES,
    Event,
    Scene,
    is_novel_combination,
    states_at,
)

SIDE, GROUP, FRAMES = 96, 4, 6
OWN = 1.3
"""Length of the own part of a code, relative to that of colour and shape together."""
SYMMETRY = {"square": 4, "triangle": 1, "star": 5, "cross": 4, "crescent": 1, "heart": 1}
"""Turns of a shape in a full circle that look alike; circle and ring have no angle."""
PAIRS = [(c, s) for c in COLORS for s in SHAPES]
NAMED = [i for i, pair in enumerate(PAIRS) if not is_novel_combination(*pair)]
WEIGHTS = {
    "code": 1.0, "rank": 0.5, "there": 1.5, "place": 4.5, "size": 2.5, "angle": 0.5,
    "text": 0.5, "name": 1.0, "match": 0.4, "hear": 0.4,
}  # fmt: skip
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
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 56, "vocab_size": 0, "width": 128, "heads": 4, "layers": 3},
}
PREPROCESS = {
    "size": SIDE, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest",
    "mean": [0.35, 0.35, 0.3], "std": [0.27, 0.25, 0.24],
}  # fmt: skip


@dataclass
class Text:
    """A text, the combinations it names, the background it names (-1 for none), and the events it tells of."""

    text: str
    pairs: list[int]
    background: int
    heard: np.ndarray


@dataclass
class Row:
    """A scene: frames, where things are in them, which combinations they show, and texts about them."""

    frames: np.ndarray
    places: np.ndarray
    visible: np.ndarray
    background: int
    texts: list[Text]
    description: Text


def pair_of(color: str, shape: str) -> int:
    return PAIRS.index((color, shape))


def draw_group(seed: int) -> list[Row]:
    """Rows of two look-alikes and two other scenes."""
    rng = np.random.default_rng(seed)
    events = (0, 0) if rng.random() < 0.12 else (1, 4)
    scenes = [sample_scene(rng, events=events)]
    other = counterfactual(scenes[0], rng) if events[1] else None
    scenes.append(other or sample_scene(rng, events=events, like=scenes[0]))
    scenes += [sample_scene(rng, events=events) for _ in range(GROUP - len(scenes))]
    return [draw_row(scene, rng) for scene in scenes]


def draw_row(scene: Scene, rng: np.random.Generator) -> Row:
    times = rng.uniform(0, scene.duration, FRAMES)
    pixels = torch.from_numpy(draw(scene, times)).permute(0, 3, 1, 2)
    small = functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True)
    places, visible = whereabouts(scene, times)
    pairs = [pair_of(o.color, o.shape) for o in scene.objects]
    background = BACKGROUNDS.index(scene.background)
    nothing = happenings(scene, ())
    texts = []
    for thing, pair in zip(scene.objects, pairs, strict=True):
        name = noun(thing, rng, "a" if rng.random() < 0.7 else "the")
        if rng.random() < 0.35:
            name += " " + ground(scene.background, rng)
            texts.append(Text(as_sentence(name, rng), [pair], background, nothing))
        else:
            texts.append(Text(as_sentence(name, rng), [pair], -1, nothing))
    if len(pairs) > 1:
        i, j = rng.permutation(len(pairs))[:2]
        both = f"{noun(scene.objects[i], rng, 'a')} and {noun(scene.objects[j], rng, 'a')}"
        texts.append(Text(as_sentence(both, rng), [pairs[i], pairs[j]], -1, nothing))
    for event, moment in zip(scene.events, moments(scene, rng), strict=True):
        text = moment.text if rng.random() < 0.5 else event_query(scene, event, rng)
        named = [pairs[i] for i in {event.actor, event.target} - {-1}]
        texts.append(Text(text, named, -1, happenings(scene, (event,))))
    if scene.events and rng.random() < 0.8:
        whole = Text(description(scene, rng), pairs, background, happenings(scene, scene.events))
    else:
        whole = Text(appearance(scene, rng), pairs, background, nothing)
    return Row(small.permute(0, 2, 3, 1).numpy(), places, visible, background, texts, whole)


def as_sentence(text: str, rng: np.random.Generator) -> str:
    """Some texts begin with a capital and end with a full stop."""
    return text[0].upper() + text[1:] + "." if rng.random() < 0.35 else text


def whereabouts(scene: Scene, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `times`, each colour and then each shape: how opaque it is, x, y, size, and its angle as a wave; and which
    combinations are on screen. `(T, 9 + 8, 6)` float32 and `(T, 72)` bool."""
    states = states_at(scene, times)
    places = np.zeros((len(times), len(COLORS) + len(SHAPES), 6), np.float32)
    visible = np.zeros((len(times), len(PAIRS)), bool)
    for i, thing in enumerate(scene.objects):
        for t in np.flatnonzero(states.opacity[i] > 0.05):
            opacity, mix = states.opacity[i, t], states.color_mix[i, t]
            turns = SYMMETRY.get(thing.shape, 0)
            angle = turns * states.angle[i, t]
            row = [2 * states.x[i, t] - 1, 2 * states.y[i, t] - 1]
            row.append(5 * RADIUS[thing.size] * states.scale[i, t] - 0.7)
            row += [np.cos(angle), np.sin(angle)] if turns else [0.0, 0.0]
            before, after = states.color_from[i, t], states.color_to[i, t]
            places[t, len(COLORS) + SHAPES.index(thing.shape)] = [opacity, *row]
            for color, share in ((before, 1 - mix), (after, mix)):
                if share * opacity > places[t, color, 0]:
                    places[t, color] = [share * opacity, *row]
            if opacity > 0.4:
                visible[t, pair_of(COLORS[before if mix < 0.5 else after], thing.shape)] = True
    return places, visible


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


def make_codes(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit codes of the combinations `(60, width)` and of the backgrounds `(6, width)`."""
    drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(3))
    axes = iter(torch.linalg.qr(drawn).Q)
    colors, shapes = ({name: next(axes) for name in names} for names in (COLORS, SHAPES))
    codes = []
    for color, shape in (PAIRS[i] for i in NAMED):
        shared = functional.normalize(colors[color] + shapes[shape], dim=0)
        codes.append(functional.normalize(shared + OWN * next(axes), dim=0))
    return torch.stack(codes), torch.stack([next(axes) for _ in BACKGROUNDS])


def soft_cross_entropy(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with all right columns in equal shares; rows without one are left out."""
    count = right.sum(1)
    loss = -(logits.log_softmax(1) * right).sum(1) / count.clamp_min(1)
    return loss[count > 0].mean()


def cut(tokens: torch.Tensor) -> torch.Tensor:
    """Without the padding that all rows share."""
    return tokens[:, : int(tokens.argmax(-1).max()) + 1].long()


def hear_loss(hearer: torch.nn.Linear, text: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """How badly a linear map of the text's embedding tells which events it tells of, of whom, and in which order."""
    found = hearer(text * text.shape[1] ** 0.5).view(heard.shape)
    return (found - heard).square().sum((1, 2)).mean()


def encode_cut(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text(tokens, normalize=True)` for rows shorter than the context."""
    x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
    x = model.ln_final(
        model.transformer(x, attn_mask=model.attn_mask[: tokens.shape[1], : tokens.shape[1]])
    )
    return functional.normalize(
        x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1
    )


def save(model: CLIP, out: Path) -> None:
    """Write weights and configuration in the layout that open_clip's `local-dir:` reads."""
    weights = {
        k: v.half().contiguous() if v.is_floating_point() else v
        for k, v in model.state_dict().items()
    }
    save_file(weights, out / "open_clip_model.safetensors")
    text = {**MODEL["text_cfg"], "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"}}
    config = {"model_cfg": {**MODEL, "text_cfg": text}, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--init", type=Path, help="go on from the weights and vocabulary in this folder"
    )
    parser.add_argument("--scenes", type=int, default=6400)
    parser.add_argument("--first-seed", type=int, default=500_000_000)
    parser.add_argument("--minutes", type=float, default=45.0, help="after the scenes are drawn")
    parser.add_argument("--images", type=float, default=0.8, help="share of the frames' side")
    parser.add_argument(
        "--batch", type=int, default=64, help="frames; of texts twice as many scenes"
    )
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.scenes // GROUP)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = [row for group in pool.imap(draw_group, seeds, chunksize=8) for row in group]
    print(f"{len(rows)} scenes drawn", flush=True)
    vocabulary = arguments.out / "bpe.txt.gz"
    if arguments.init:
        vocabulary.write_bytes((arguments.init / "bpe.txt.gz").read_bytes())
    else:
        texts = [t.text for row in rows for t in (*row.texts, row.description)]
        # mtime=0: the same merges give the same bytes.
        content = "\n".join(["#version: 0.2", *learn_bpe(texts, 600)]).encode()
        vocabulary.write_bytes(gzip.compress(content, mtime=0))
    tokenizer = SimpleTokenizer(str(vocabulary), context_length=MODEL["text_cfg"]["context_length"])
    MODEL["text_cfg"]["vocab_size"] = tokenizer.vocab_size
    model = CLIP(**MODEL)
    if arguments.init:
        weights = load_file(arguments.init / "open_clip_model.safetensors")
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    model.visual.to(memory_format=torch.channels_last)
    Training(model, tokenizer, rows, arguments).run()


class Training:
    """One run: the model, the helpers that are not kept, the data, and the steps."""

    def __init__(
        self,
        model: CLIP,
        tokenizer: SimpleTokenizer,
        rows: list[Row],
        arguments: argparse.Namespace,
    ) -> None:
        self.model, self.rows, self.arguments = model, rows, arguments
        self.encode = functools.lru_cache(None)(lambda text: tokenizer([text])[0].int())
        self.frames = torch.from_numpy(np.stack([r.frames for r in rows]))
        self.places = torch.from_numpy(np.stack([r.places for r in rows]))
        self.visible = torch.from_numpy(np.stack([r.visible for r in rows])).float()
        self.backgrounds = functional.one_hot(
            torch.tensor([r.background for r in rows]), len(BACKGROUNDS)
        ).float()
        dim = MODEL["embed_dim"]
        self.names, backgrounds = make_codes(dim)
        self.codes = torch.cat([self.names, backgrounds])
        self.finder = torch.nn.Linear(dim, self.places[0, 0].numel())
        self.hearer = torch.nn.Linear(dim, rows[0].description.heard.size)
        torch.nn.init.zeros_(self.hearer.weight)
        self.scales = torch.nn.Parameter(torch.tensor([2.7, 2.5]))
        self.biases = torch.nn.Parameter(torch.full((2, len(self.codes)), -5.0))
        modules = (model, self.finder, self.hearer)
        self.parameters = [p for m in modules for p in m.parameters()]
        self.parameters += [self.scales, self.biases]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": 0.05},
                {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.order, self.choice = torch.Generator().manual_seed(0), np.random.default_rng(1)
        self.embedded: torch.Tensor | None = None

    def run(self) -> None:
        arguments = self.arguments
        began, step, reported = time.time(), 0, 0.0
        held_back = min(400, len(self.rows) // 8 // GROUP * GROUP)
        groups = (len(self.rows) - held_back) // GROUP
        while True:
            order = torch.randperm(groups, generator=self.order)
            queue = (order[:, None] * GROUP + torch.arange(GROUP)).flatten()
            while len(queue):
                done = (time.time() - began) / (60 * arguments.minutes)
                if done >= 1:
                    save(self.model, arguments.out)
                    print(f"{step} steps, {self.evaluate(held_back)}")
                    return
                images = done < arguments.images
                if not images and self.embedded is None:
                    self.embed_all()
                size = arguments.batch if images else 2 * arguments.batch
                rows, queue = queue[:size], queue[size:]
                # Each part has a warm-up and a cosine of its own.
                share = arguments.images
                part = done / share if images else (done - share) / (1 - share)
                rate = min(1.0, part / 0.05) * (0.02 + 0.49 * (1 + np.cos(np.pi * part)))
                for group in self.optimizer.param_groups:
                    group["lr"] = arguments.lr * rate
                which = torch.randint(FRAMES, (len(rows),), generator=self.order)
                parts = self.image_losses(rows, which) if images else self.text_losses(rows, which)
                self.optimizer.zero_grad()
                sum(WEIGHTS[name] * part for name, part in parts.items()).backward()
                torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.optimizer.step()
                self.model.logit_scale.data.clamp_(0, np.log(100))
                step += 1
                if time.time() - reported > 60:
                    reported = time.time()
                    save(self.model, arguments.out)
                    losses = ", ".join(f"{k} {float(v.detach()):.3f}" for k, v in parts.items())
                    print(
                        f"{done:5.1%} step {step} {losses}  {self.evaluate(held_back)}", flush=True
                    )

    def embed(self, frames: torch.Tensor, flips: torch.Tensor | None = None) -> torch.Tensor:
        """Unit embeddings of uint8 `frames` `(B, SIDE, SIDE, 3)`, mirrored where `flips` `(2, B)` says."""
        mean, std = (torch.tensor(PREPROCESS[k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std"))
        pixels = (frames.permute(0, 3, 1, 2).float() - mean) / std
        for flip, axis in zip(() if flips is None else flips, (3, 2), strict=False):
            pixels = torch.where(flip[:, None, None, None], pixels.flip(axis), pixels)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.model.encode_image(pixels, normalize=True)

    @torch.no_grad()
    def embed_all(self) -> None:
        """Embed the first two frames of each scene; from here on they stay as they are."""
        self.model.visual.eval().requires_grad_(False)
        parts = [self.embed(part[:, :2].flatten(0, 1)) for part in self.frames.split(64)]
        self.embedded = torch.cat(parts).view(len(self.frames), 2, -1)

    def image_losses(self, rows: torch.Tensor, which: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of the frames' side: codes, and where things are."""
        self.model.visual.train()
        flips = torch.rand(2, len(rows), generator=self.order) < 0.5
        image = self.embed(self.frames[rows, which], flips)
        shown = torch.cat([self.visible[rows, which][:, NAMED], self.backgrounds[rows]], 1)
        logits = self.scales[0].exp() * image @ self.codes.T
        code = functional.binary_cross_entropy_with_logits(
            logits + self.biases[0], shown, reduction="none"
        )
        places = self.places[rows, which].clone()
        for axis, flip in enumerate(flips, 1):
            places[..., axis] *= torch.where(flip, -1.0, 1.0)[:, None]
        found = self.finder(image * image.shape[1] ** 0.5).view(places.shape)
        there = places[..., 0]
        off = (found[..., 1:] - places[..., 1:]).square() * there.unsqueeze(-1)
        upright = there * (~flips.any(0)).float()[:, None]  # a mirrored thing turns the other way
        angles = (off[..., 3:] * (~flips.any(0)).float()[:, None, None]).sum()
        return {
            "code": code.sum(1).mean(),
            "rank": soft_cross_entropy(logits.T, shown.T),
            "there": functional.binary_cross_entropy_with_logits(found[..., 0], there),
            "place": off[..., :2].sum() / there.sum() / 2,
            "size": off[..., 2].sum() / there.sum(),
            "angle": angles / upright.sum().clamp_min(1),
        }

    def text_losses(self, rows: torch.Tensor, which: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of the texts' side, given the embeddings of frames."""
        assert self.embedded is not None
        which = which % 2
        image, visible, backgrounds = (
            self.embedded[rows, which], self.visible[rows, which], self.backgrounds[rows],
        )  # fmt: skip
        texts = [
            self.rows[i].texts[j]
            for i in rows.tolist()
            for j in self.choice.permutation(len(self.rows[i].texts))[:2]
        ]
        wholes = [self.rows[i].description for i in rows[::4].tolist()]
        short, long = self._encode(texts), self._encode(wholes)
        named = self._named(texts)
        scenes = self._named([self.rows[i].description for i in rows.tolist()])
        shown = torch.cat([visible, backgrounds], 1)
        right = (named @ shown.T > named.sum(1, keepdim=True) - 0.5).float()
        same = (scenes[::4, None] == scenes[None]).all(-1).float()
        scale = self.model.logit_scale.exp()
        parts = {}
        for name, vectors, truth in (("name", short, right), ("match", long, same)):
            logits = scale * vectors @ image.T
            both = soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)
            parts[name] = both / 2
        code = functional.binary_cross_entropy_with_logits(
            self.scales[1].exp() * short @ self.codes.T + self.biases[1],
            torch.cat([named[:, NAMED], named[:, len(PAIRS) :]], 1),
            reduction="none",
        )
        heard = [torch.from_numpy(np.stack([t.heard for t in some])) for some in (texts, wholes)]
        hear = 2 * hear_loss(self.hearer, short, heard[0]) + hear_loss(self.hearer, long, heard[1])
        return {**parts, "text": code.sum(1).mean(), "hear": hear / 3}

    def _encode(self, texts: list[Text]) -> torch.Tensor:
        return encode_cut(self.model, cut(torch.stack([self.encode(t.text) for t in texts])))

    def _named(self, texts: list[Text]) -> torch.Tensor:
        """Which combinations and backgrounds each text names, `(T, 72 + 6)` float."""
        named = torch.zeros(len(texts), len(PAIRS) + len(BACKGROUNDS))
        for row, text in zip(named, texts, strict=True):
            row[text.pairs] = 1
            if text.background >= 0:
                row[len(PAIRS) + text.background] = 1
        return named

    @torch.no_grad()
    def evaluate(self, count: int) -> str:
        """Share of the names whose first frame, or one of the first two, shows what they name."""
        self.model.visual.eval()
        image = torch.cat([self.embed(part) for part in self.frames[-count:, 0].split(64)])
        shown = self.visible[-count:, 0][:, NAMED]
        texts = [Text(f"a {' '.join(PAIRS[i])}", [], -1, np.zeros(0)) for i in NAMED]
        vectors = self.names if self.embedded is None else self._encode(texts)
        kept = [i for i in range(len(NAMED)) if shown[:, i].sum() >= 2]
        if not kept:
            return "too few scenes are held back"
        best = (vectors[kept] @ image.T).topk(2, 1).indices
        hits = torch.stack([shown[best[n], i] for n, i in enumerate(kept)])
        first, two = hits[:, 0].mean(), hits.amax(1).mean()
        return f"held back: first {first:.3f}, first two {two:.3f} of {len(kept)} names"


if __name__ == "__main__":
    main()
