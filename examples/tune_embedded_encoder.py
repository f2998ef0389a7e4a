"""Teach the embedded open_clip model to name things: colours and shapes together, in texts as people write them.

    python examples/tune_embedded_encoder.py OUT --init FOLDER [--scenes 8000] [--minutes 24]

`train_embedded_encoder.py` matches frames with descriptions of whole clips. Its model knows which colours and shapes a
frame shows, but not which colour has which shape, and short texts such as "a red star" are rare in its training. Here every
short text is compared with every frame, and is right for all frames that show what it names:

- *pair*: a classifier of the 60 combinations of colour and shape whose weights are the text vectors of their names, so the
  frames' side learns to be found by these texts.
- *rank*: for each name, the frames that show it come before the others.
- *name*: the same for texts of all kinds in both directions, with the texts' side learning: names, two things, things before
  a background, and sentences about events, which are right for frames that show the things they name.
- *match*, *hear*, *find*: descriptions, events in text vectors, and places, as in `train_embedded_encoder.py`.

In the first part (`--images`) only the frames' side learns, above its first two layers, whose output is computed once. What
happens is still in the texts alone: single frames never show it. Combinations that `vla.world` holds out are never named.

Writes open_clip's `local-dir:` layout, as `train_embedded_encoder.py` does.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch.nn import functional
from train_embedded_encoder import MODEL, PREPROCESS, SIDE, encode_cut, happenings, hear_loss, save

from vla.world.language import (
    appearance,
    description,
    event_query,
    ground,
    moments,
    noun,
    thing_query,
)
from vla.world.render import draw
from vla.world.sampling import counterfactual, sample_scene
from vla.world.scene import (
    BACKGROUNDS,
    COLORS,
    RADIUS,
    SHAPES,
    Scene,
    is_novel_combination,
    states_at,
)

GROUP, FRAMES, NAMES_PER_PAIR = 4, 3, 6
SYMMETRY = {"square": 4, "triangle": 1, "star": 5, "cross": 4, "crescent": 1, "heart": 1}
"""Turns of a shape in a full circle that look alike; circle and ring have no angle."""
PAIRS = [(c, s) for c in COLORS for s in SHAPES]
NAMED = [i for i, pair in enumerate(PAIRS) if not is_novel_combination(*pair)]
WEIGHTS = {"pair": 1.0, "rank": 0.5, "name": 1.0, "match": 0.4, "hear": 0.3, "find": 0.5}


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


class Frames:
    """The frames' side, in two parts: the first layers, whose output is kept, and the others."""

    def __init__(self, model: CLIP, lower: int) -> None:
        self.visual, self.lower = model.visual, lower
        mean, std = (torch.tensor(PREPROCESS[k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std"))
        self.prepare = lambda x: (x.permute(0, 3, 1, 2).float() - mean) / std

    @torch.no_grad()
    def keep(self, frames: torch.Tensor) -> None:
        """Compute the output of the first layers for all `frames` `(N, FRAMES, SIDE, SIDE, 3)`."""
        parts = [self._enter(part.flatten(0, 1)).half() for part in frames.split(32)]
        self.kept = torch.cat(parts).view(*frames.shape[:2], *parts[0].shape[1:])

    def __call__(self, rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Unit embeddings of one frame of each row."""
        hidden = self.kept[rows, which].float()
        for block in self.visual.transformer.resblocks[self.lower :]:
            hidden = block(hidden)
        pooled, _ = self.visual._pool(hidden)
        return functional.normalize(pooled @ self.visual.proj, dim=-1)

    def _enter(self, frames: torch.Tensor) -> torch.Tensor:
        hidden = self.visual._embeds(self.prepare(frames))
        for block in self.visual.transformer.resblocks[: self.lower]:
            hidden = block(hidden)
        return hidden


def soft_cross_entropy(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with all right columns in equal shares; rows without one are left out."""
    count = right.sum(1)
    loss = -(logits.log_softmax(1) * right).sum(1) / count.clamp_min(1)
    return loss[count > 0].mean()


def find_loss(finder: torch.nn.Linear, image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    found = finder(image * image.shape[1] ** 0.5).view(places.shape)
    there = places[..., 0]
    missed = functional.binary_cross_entropy_with_logits(found[..., 0], there)
    off = (found[..., 1:] - places[..., 1:]).square() * there.unsqueeze(-1)
    return 3 * missed + off.sum() / there.sum()


@torch.no_grad()
def name_vectors(model: CLIP, tokenizer: SimpleTokenizer) -> torch.Tensor:
    """Mean unit text vectors of the names of all combinations but those held out, `(60, D)`."""
    rng = np.random.default_rng(5)
    texts = [
        as_sentence(thing_query(*PAIRS[i], rng), rng) for i in NAMED for _ in range(NAMES_PER_PAIR)
    ]
    vectors = encode_cut(model, cut(tokenizer(texts))).view(len(NAMED), NAMES_PER_PAIR, -1)
    return functional.normalize(vectors.mean(1), dim=-1)


def cut(tokens: torch.Tensor) -> torch.Tensor:
    """Without the padding that all rows share."""
    return tokens[:, : int(tokens.argmax(-1).max()) + 1].long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, required=True, help="weights and vocabulary")
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--first-seed", type=int, default=400_000_000)
    parser.add_argument("--minutes", type=float, default=24.0, help="after the scenes are drawn")
    parser.add_argument("--images", type=float, default=0.75, help="share of the frames alone")
    parser.add_argument("--lower", type=int, default=2, help="layers of frames that do not learn")
    parser.add_argument("--batch", type=int, default=64, help="twice as many where texts learn")
    parser.add_argument("--lr", type=float, default=1.2e-3)
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
    vocabulary.write_bytes((arguments.init / "bpe.txt.gz").read_bytes())
    tokenizer = SimpleTokenizer(str(vocabulary), context_length=MODEL["text_cfg"]["context_length"])
    MODEL["text_cfg"]["vocab_size"] = tokenizer.vocab_size
    model = CLIP(**MODEL)
    weights = load_file(arguments.init / "open_clip_model.safetensors")
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    Tuning(model, tokenizer, rows, arguments).run()


class Tuning:
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
        self.frames = Frames(model, arguments.lower)
        self.frames.keep(torch.from_numpy(np.stack([r.frames for r in rows])))
        self.places = torch.from_numpy(np.stack([r.places for r in rows]))
        self.visible = torch.from_numpy(np.stack([r.visible for r in rows])).float()
        self.backgrounds = torch.tensor([r.background for r in rows])
        self.names = name_vectors(model, tokenizer)
        dim = MODEL["embed_dim"]
        self.finder = torch.nn.Linear(dim, self.places[0, 0].numel())
        self.hearer = torch.nn.Linear(dim, rows[0].description.heard.size)
        torch.nn.init.zeros_(self.hearer.weight)
        self.scale = torch.nn.Parameter(torch.tensor(2.7))
        self.bias = torch.nn.Parameter(torch.full((len(NAMED),), -5.0))
        lower = [model.visual.conv1, model.visual.ln_pre]
        lower += model.visual.transformer.resblocks[: arguments.lower]
        for parameter in (model.visual.class_embedding, model.visual.positional_embedding):
            parameter.requires_grad_(False)
        for module in lower:
            module.requires_grad_(False)
        modules = (model, self.finder, self.hearer)
        self.parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
        self.parameters += [self.scale, self.bias]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": 0.05},
                {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.order, self.choice = torch.Generator().manual_seed(0), np.random.default_rng(1)

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
                alone = done < arguments.images
                size = arguments.batch if alone else 2 * arguments.batch
                rows, queue = queue[:size], queue[size:]
                rate = min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + np.cos(np.pi * done)))
                for group in self.optimizer.param_groups:
                    group["lr"] = arguments.lr * rate
                which = torch.randint(FRAMES, (len(rows),), generator=self.order)
                parts = self.image_losses(rows, which) if alone else self.losses(rows, which)
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

    def image_losses(self, rows: torch.Tensor, which: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of the frames' side: `pair`, `rank`, `find`."""
        image = self.frames(rows, which)
        shown = self.visible[rows, which][:, NAMED]
        logits = self.scale.exp() * image @ self.names.T
        pair = functional.binary_cross_entropy_with_logits(
            logits + self.bias, shown, reduction="none"
        )
        return {
            "pair": pair.sum(1).mean(),
            "rank": soft_cross_entropy(logits.T, shown.T),
            "find": find_loss(self.finder, image, self.places[rows, which]),
        }

    def losses(self, rows: torch.Tensor, which: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of both sides: `name`, `match`, `hear`, `find`."""
        image = self.frames(rows, which)
        texts = [
            self.rows[i].texts[j]
            for i in rows.tolist()
            for j in self.choice.permutation(len(self.rows[i].texts))[:2]
        ]
        short, right = self._compare(texts, self.visible[rows, which], self.backgrounds[rows])
        some = rows[::4].tolist()
        scenes = torch.stack([self._named(self.rows[i].description) for i in rows.tolist()])
        wholes = [self.rows[i].description for i in some]
        long, _ = self._compare(wholes, self.visible[rows, which], self.backgrounds[rows])
        same = (scenes[::4, None] == scenes[None]).all(-1)
        same &= self.backgrounds[rows][::4, None] == self.backgrounds[rows][None]
        scale = self.model.logit_scale.exp()
        parts = {}
        for name, vectors, truth in (("name", short, right), ("match", long, same.float())):
            logits = scale * vectors @ image.T
            both = soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)
            parts[name] = both / 2
        heard = [torch.from_numpy(np.stack([t.heard for t in part])) for part in (texts, wholes)]
        hear = 2 * hear_loss(self.hearer, short, heard[0]) + hear_loss(self.hearer, long, heard[1])
        parts["hear"] = hear / 3
        return {**parts, "find": find_loss(self.finder, image, self.places[rows, which])}

    def _compare(
        self, texts: list[Text], visible: torch.Tensor, backgrounds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of `texts`, and for which frames they are right, `(T, B)` float."""
        vectors = encode_cut(self.model, cut(torch.stack([self.encode(t.text) for t in texts])))
        named = torch.stack([self._named(t) for t in texts])
        ground_named = torch.tensor([t.background for t in texts])[:, None]
        right = named @ visible.T > named.sum(1, keepdim=True) - 0.5
        right &= (ground_named < 0) | (ground_named == backgrounds[None])
        return vectors, right.float()

    def _named(self, text: Text) -> torch.Tensor:
        row = torch.zeros(len(PAIRS))
        row[text.pairs] = 1
        return row

    @torch.no_grad()
    def evaluate(self, count: int) -> str:
        """Share of the names whose first frame, or one of the first two, shows what they name."""
        rows = torch.arange(len(self.rows) - count, len(self.rows))
        image = self.frames(rows, torch.zeros(count, dtype=torch.long))
        shown = self.visible[rows, 0][:, NAMED]
        kept = [i for i in range(len(NAMED)) if shown[:, i].sum() >= 2]
        best = (self.names[kept] @ image.T).topk(2, 1).indices
        hits = (
            torch.stack([shown[best[n], i] for n, i in enumerate(kept)])
            if kept
            else torch.zeros(1, 2)
        )
        first, two = hits[:, 0].mean(), hits.amax(1).mean()
        return f"held back: first {first:.3f}, first two {two:.3f} of {len(kept)} names"


if __name__ == "__main__":
    main()
