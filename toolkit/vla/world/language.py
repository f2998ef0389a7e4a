"""Text of scenes: true sentences with times, descriptions, paraphrases, and questions with answers.

Texts are drawn from a grammar with synonyms: two texts of one scene rarely agree word for word, and
every text is true of its scene. An object is named by at least its colour and shape, which no
other object of the scene shares; the colour is its initial one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla.world.scene import Event, Scene, SceneObject

_SHAPE = {
    "circle": ("circle", "disc", "ball"), "square": ("square", "box", "block"), "triangle": ("triangle",),
    "star": ("star",), "cross": ("cross", "plus sign"), "ring": ("ring", "hoop", "donut"),
    "crescent": ("crescent", "moon"), "heart": ("heart",),
}  # fmt: skip
_SIZE = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium-sized",),
    "large": ("large", "big", "huge"),
}
_TEXTURE = {
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "chequered"),
}
_GROUND = {
    "black": ("on a black background", "in the dark"), "grey": ("on a grey background", "before a grey wall"),
    "sand": ("on sand", "on a sandy ground"), "grass": ("on grass", "on a lawn"),
    "bricks": ("in front of a brick wall", "on bricks"), "night sky": ("in the night sky", "among the stars"),
}  # fmt: skip
_MOVE = {
    "left": ("moves left", "slides to the left", "travels towards the left", "glides leftwards"),
    "right": (
        "moves right",
        "slides to the right",
        "travels towards the right",
        "glides rightwards",
    ),
    "up": ("moves up", "rises", "goes upwards", "climbs"),
    "down": ("moves down", "sinks", "goes downwards", "descends"),
}
_TOWARDS = {
    "left": ("to the left", "leftwards"), "right": ("to the right", "rightwards"),
    "up": ("up", "upwards"), "down": ("down", "downwards"),
}  # fmt: skip
_SOLO = {
    "grow": ("grows", "gets bigger", "expands"), "shrink": ("shrinks", "gets smaller", "contracts"),
    "spin": ("spins", "rotates", "turns around"), "appear": ("appears", "shows up", "fades in"),
    "disappear": ("disappears", "vanishes", "fades out"), "jump": ("jumps", "hops", "bounces up and down"),
}  # fmt: skip
_RECOLOR = ("turns {}", "becomes {}", "changes its colour to {}")
_PAIR = {
    "hit": ("hits {}", "bumps into {}", "collides with {}"),
    "follow": ("follows {}", "chases {}"),
    "orbit": ("circles around {}", "orbits {}", "goes around {}"),
}


@dataclass(frozen=True)
class Moment:
    """One event in words: `text` is true during `[start, end)` seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Question:
    """A question about a scene, its answer, and for multiple choice the choices (including the
    answer).
    """

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()


def moments(scene: Scene, rng: np.random.Generator) -> list[Moment]:
    """Return one timed sentence for each event, in order."""
    return [Moment(_sentence(_clause(scene, e, rng)), e.start, e.end) for e in scene.events]


def event_query(scene: Scene, event: Event, rng: np.random.Generator) -> str:
    """Describe an event as people search for it, by colours and shapes: `a yellow disc spins`."""
    plain = replace(
        scene, objects=tuple(replace(o, texture="plain", size="") for o in scene.objects)
    )
    return _clause(plain, event, rng, "a")


def thing_query(color: str, shape: str, rng: np.random.Generator) -> str:
    """Name a thing as people search for it: `a yellow disc`."""
    return noun(SceneObject(shape, color, "", "plain", 0.5, 0.5), rng, "a")


def ground(background: str, rng: np.random.Generator) -> str:
    """Name a background: `on a lawn`."""
    return _pick(rng, _GROUND[background])


def mentions_appearance(text: str) -> bool:
    """Return whether a generated text mentions a size or a texture."""
    words = set(text.lower().replace(".", " ").split())
    return any(
        not words.isdisjoint(phrases)
        for synonyms in (_SIZE, _TEXTURE)
        for phrases in synonyms.values()
    )


def description(scene: Scene, rng: np.random.Generator) -> str:
    """Describe all events of a scene in order, in one or more sentences; idle objects are
    mentioned sometimes.
    """
    clauses = [_clause(scene, e, rng) for e in scene.events]
    ground = _pick(rng, _GROUND[scene.background])
    style = int(rng.integers(5))
    if style == 0:
        text = _sentence(", then ".join(clauses) + " " + ground)
    elif style == 1:
        text = _sentence(f"{ground}, {clauses[0]}" + "".join(f" and then {c}" for c in clauses[1:]))
    elif style == 2 and len(clauses) > 1:
        text = _sentence(f"after {clauses[0]}, {', and later '.join(clauses[1:])} {ground}")
    else:
        # One sentence per event.
        parts = [f"first, {clauses[0]} {ground}"]
        parts += [f"{_pick(rng, ('then', 'next', 'after that'))}, {c}" for c in clauses[1:]]
        text = " ".join(_sentence(t) for t in parts)
    still = [i for i in range(len(scene.objects)) if i not in scene.movers]
    if still and rng.random() < 0.5:
        text += " " + _sentence(_describe_still(scene.objects[int(rng.choice(still))], rng))
    return text


def appearance(scene: Scene, rng: np.random.Generator, location_probability: float = 0.7) -> str:
    """Describe the objects of a scene without events; idle objects get a location with
    `location_probability`.
    """
    parts = []
    for i, thing in enumerate(scene.objects):
        where = (
            f" {_location(thing)}"
            if i not in scene.movers and rng.random() < location_probability
            else ""
        )
        parts.append(noun(thing, rng, "a") + where)
    rng.shuffle(parts)
    listing = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return _sentence(f"{listing} {_pick(rng, _GROUND[scene.background])}")


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Return questions about a scene with their answers: multiple choice, open-ended and counting."""
    items: list[Question] = []
    clauses = [_sentence(_clause(scene, e, rng)) for e in scene.events]
    if len(clauses) > 1:
        options = list(clauses)
        rng.shuffle(options)
        items.append(Question("choice", "What happens first?", clauses[0], tuple(options)))
        items.append(Question("choice", "What happens last?", clauses[-1], tuple(options)))
        k = int(rng.integers(1, len(clauses)))
        before = _clause(scene, scene.events[k - 1], rng)
        items.append(
            Question("choice", f"What happens right after {before}?", clauses[k], tuple(options))
        )
    for e in scene.events:
        thing = scene.objects[e.actor]
        if e.kind == "move":
            text = f"In which direction does {noun(thing, rng)} move?"
            if sum(o.actor == e.actor and o.kind == "move" for o in scene.events) == 1:
                items.append(Question("open", text, e.direction))
        if e.kind in _SOLO and sum(o.kind == e.kind for o in scene.events) == 1:
            verb = {"grow": "grows", "shrink": "shrinks", "spin": "spins", "jump": "jumps"}.get(
                e.kind
            )
            if verb:
                items.append(
                    Question("open", f"What colour is the shape that {verb}?", color_at(scene, e))
                )
    items.append(Question("open", "What is in the background?", scene.background))
    items.append(Question("count", "How many shapes are there?", str(len(scene.objects))))
    items.append(Question("count", "How many things happen?", str(len(scene.events))))
    moves = sum(e.kind in ("move", "follow") for e in scene.events)
    items.append(
        Question("count", "How many times does a shape move in a straight line?", str(moves))
    )
    return items


def _clause(scene: Scene, e: Event, rng: np.random.Generator, article: str = "the") -> str:
    actor = noun(scene.objects[e.actor], rng, article)
    if e.kind == "move":
        return f"{actor} {_pick(rng, _MOVE[e.direction])}"
    if e.kind == "recolor":
        return f"{actor} {_pick(rng, _RECOLOR).format(e.color)}"
    if e.kind in _SOLO:
        return f"{actor} {_pick(rng, _SOLO[e.kind])}"
    phrase = _pick(rng, _PAIR[e.kind]).format(noun(scene.objects[e.target], rng, article))
    return (
        f"{actor} {phrase} {_pick(rng, _TOWARDS[e.direction])}"
        if e.kind == "follow"
        else f"{actor} {phrase}"
    )


def noun(thing: SceneObject, rng: np.random.Generator, article: str = "the") -> str:
    """Name an object by colour and shape, sometimes by size and texture: `the small red circle`.

    An empty size is never mentioned.
    """
    words = [thing.color, _pick(rng, _SHAPE[thing.shape])]
    if thing.texture != "plain" and rng.random() < 0.5:
        words.insert(0, _pick(rng, _TEXTURE[thing.texture]))
    if thing.size and rng.random() < 0.35:
        words.insert(0, _pick(rng, _SIZE[thing.size]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words])


def _describe_still(thing: SceneObject, rng: np.random.Generator) -> str:
    return f"{noun(thing, rng, 'a')} {_pick(rng, ('stays', 'rests', 'sits', 'keeps still'))} {_location(thing)}"


def _location(thing: SceneObject) -> str:
    """Return the ninth of the canvas that contains the centre of an object, in words."""
    column = ("left", "", "right")[min(2, int(thing.x * 3))]
    row = ("top", "", "bottom")[min(2, int(thing.y * 3))]
    if row and column:
        return f"in the {row} {column} corner"
    if column:
        return f"on the {column} side"
    return f"at the {row}" if row else "in the centre"


def color_at(scene: Scene, e: Event) -> str:
    """Return the colour of the actor of `e` when `e` starts."""
    color = scene.objects[e.actor].color
    for o in scene.events:
        if o.kind == "recolor" and o.actor == e.actor and o.end <= e.start:
            color = o.color
    return color


def _pick(rng: np.random.Generator, phrases: tuple[str, ...]) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
