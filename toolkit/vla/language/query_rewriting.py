"""Rewriting of questions and requests as captions, the text that encoders were trained on.

English, by rules; other text is not changed. (UniversalVTG, arXiv 2604.08522, uses a language
model.)
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vla.language._lexicon import CLOSED_CLASS, IRREGULAR, VERBS
from vla.language._tagger import tag_words

_POLITE = r"(?:please\s+|(?:can|could|would)\s+you\s+(?:please\s+)?|i\s+(?:want|would\s+like|need)\s+to\s+(?:see|find)\s+)"
_DET = r"(?:the|a|an|all|all\s+the|any|some|every|each|my)"
_MOMENT = r"(?:moment|scene|part|clip|video|point|time|place|bit|section|footage|shot)s?"
_SHOW = r"(?:show|find|get|give|bring\s+up|search\s+for|look\s+for|locate|jump\s+to|take\s+me\s+to)"
_REQUEST = re.compile(
    rf"(?:{_POLITE}{_SHOW}(?:\s+me)?|i(?:'m|\s+am)\s+looking\s+for|{_SHOW}\s+me|{_SHOW}(?=\s+{_DET}\b))\s+",
    re.I,
)
_WHERE = r"(?:where|when|in\s+which|on\s+which|during\s+which|at\s+which|that\s+shows?|showing)"
_THE_MOMENT = re.compile(rf"(?:{_DET}\s+)?{_MOMENT}\s+{_WHERE}\s+(?=\S)", re.I)
_WHEN = (
    r"(?:when|where|why|how|how\s+long|how\s+often|how\s+many\s+times|(?:at|on|in|during)\s+(?:what|which)\s+\w+|"
    rf"(?:what|which)\s+{_MOMENT})"
)
_BE, _DO, _MAY = (
    r"(?:is|are|was|were)",
    r"(?:does|do|did)",
    r"(?:can|could|will|would|should|might|must)",
)
_PRONOUNS = (
    "it",
    "he",
    "she",
    "they",
    "we",
    "you",
    "i",
    "someone",
    "somebody",
    "anyone",
    "anybody",
    "something",
)
_ONGOING = re.compile(r"(?:doing|happening|going\s+on)\b\s*", re.I)


def question_to_caption(text: str) -> str:
    """Rewrite a question as a caption: "when does the dog jump over a fence?" becomes "the dog
    jumps over a fence".

    The requesting words of "show me ..." or "the moment when ..." are removed; an interrogative
    becomes "someone" or "something", or is removed. Other text is returned unchanged, and so is
    text of which nothing would remain.
    """
    normalized = " ".join(text.split())
    plain = normalized.rstrip("?!. ")
    while (shorter := _THE_MOMENT.sub("", _REQUEST.sub("", plain, count=1), count=1)) != plain:
        plain = shorter
    caption = plain
    for pattern, rule in _RULES:
        match = pattern.fullmatch(plain)
        if match is not None and (statement := rule(match)):
            caption = statement
            break
    caption = " ".join(caption.split()).strip(" ,")
    unchanged = not caption or caption == normalized.rstrip("?!. ")
    return text if unchanged else caption


def _subject_and_rest(words: str) -> tuple[str, str]:
    """Split a clause with an uninflected verb, as after "does", into subject and rest; the rest is
    empty without a verb.
    """
    tags = tag_words(words)
    for i, (tag, start, end) in enumerate(tags):
        word = words[start:end].lower()
        after_noun = i > 0 and tags[i - 1][0] in "NO"
        after_pronoun = i == 1 and words[: tags[0][2]].lower() in _PRONOUNS
        if after_pronoun or (
            after_noun and (tag == "V" or (word in VERBS and word not in CLOSED_CLASS))
        ):
            return words[:start].strip(), words[start:]
    return words, ""


def _third_person(verb: str) -> str:
    """Return the third person singular of a verb."""
    irregular = {"have": "has", "do": "does", "go": "goes", "be": "is"}
    if verb in irregular:
        return irregular[verb]
    if verb in IRREGULAR and verb not in VERBS:
        return verb  # it has an ending already
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _is_plural(subject: str) -> bool:
    """Return whether a subject takes a plural verb, judging by the ending of its head."""
    nouns = [subject[a:b].lower() for tag, a, b in _before_preposition(subject) if tag in "NO"]
    last = nouns[-1] if nouns else ""
    many = last in (
        "they",
        "we",
        "you",
        "i",
        "people",
        "men",
        "women",
        "children",
        "both",
        "police",
    )
    return (
        many or " and " in subject or (last.endswith("s") and not last.endswith(("ss", "us", "is")))
    )


def _before_preposition(subject: str) -> list[tuple[str, int, int]]:
    tags = tag_words(subject)
    return tags[: next((i for i, (tag, _, _) in enumerate(tags) if tag == "P" and i), len(tags))]


def _statement_with_do(auxiliary: str, clause: str, object_: str = "") -> str:
    """Turn `does`, `the dog jump high` into "the dog jumps high"; the object, if given, follows
    the verb.
    """
    subject, rest = _subject_and_rest(clause)
    verb, _, after = rest.partition(" ")
    if not verb:
        return clause
    many = auxiliary == "do" or (auxiliary == "did" and _is_plural(subject))
    return f"{subject} {verb if many else _third_person(verb.lower())} {object_} {after}"


def _statement_with_be(auxiliary: str, clause: str, object_: str = "") -> str:
    """Turn `is`, `the dog barking` into "the dog is barking"; a clause without a participle is
    returned unchanged.
    """
    tags = tag_words(clause)
    for i, (_, start, end) in enumerate(tags):
        word = clause[start:end].lower()
        after_noun = i > 0 and tags[i - 1][0] in "NO"
        if after_noun and re.fullmatch(
            r"\w{2,}ing|\w{2,}ed|\w+(?<!d)en|\w*(?:cut|made|put|held|told|sold|built|thrown|shown)",
            word,
        ):
            verb, rest = clause[start:end], clause[end:].strip()
            subject = clause[:start].strip()
            if _ONGOING.match(verb):
                return f"{subject} {rest}"
            return f"{subject} {auxiliary} {verb} {object_} {rest}"
    return clause


def _placeholder(interrogative: str) -> str:
    return {"who": "someone", "what": "something"}.get(
        interrogative.lower()
    ) or "the " + interrogative.split(" ", 1)[1]


def _answer_what_is(match: re.Match[str]) -> str:
    """Rewrite `what is the man holding`, `what is falling`, `what is in the box`, `what is
    happening in the kitchen`.
    """
    interrogative, auxiliary, rest = match[1], match[2], match[3]
    if happening := _ONGOING.match(rest):
        return rest[happening.end() :]
    if re.match(r"\w+ing\b", rest) or CLOSED_CLASS.get(rest.split()[0].lower()) == "P":
        return f"{_placeholder(interrogative)} {auxiliary} {rest}"
    return _statement_with_be(
        auxiliary, rest, "something" if interrogative.lower() == "what" else ""
    )


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern, re.I), rule)
    for pattern, rule in (
        (rf"{_WHEN}\s+{_MAY}\s+(?:i|we|you|one)\s+(?:see|find|watch|hear)\s+(.+)", lambda m: m[1]),
        (rf"{_WHEN}\s+({_DO})\s+(.+)", lambda m: _statement_with_do(m[1].lower(), m[2])),
        (rf"{_WHEN}\s+({_BE})\s+(?:there\s+)?(.+)", lambda m: _statement_with_be(m[1].lower(), m[2])),
        (rf"{_WHEN}\s+(?:has|have|had)\s+(.+)", lambda m: m[1]),
        (rf"{_WHEN}\s+{_MAY}\s+(.+)", lambda m: _statement_with_do("will", m[1])),
        (rf"what\s+(?:colou?r|kind|type|sort|shape|size)s?(?:\s+of\s+\w+)?\s+(?:{_BE}|{_DO})\s+(.+)", lambda m: m[1]),
        (rf"what\s+{_DO}\s+(.+?)\s+do\b\s*(.*)", lambda m: f"{m[1]} {m[2]}"),
        (rf"what\s+({_DO})\s+(.+)", lambda m: _statement_with_do(m[1].lower(), m[2], "something")),
        (r"what\s+(?:happens|happened)\s*(?:when|while|as|if)?\s*(.*)", lambda m: m[1]),
        (rf"(what|who)\s+({_BE})\s+(.+)", _answer_what_is),
        (rf"(which\s+\w+|what\s+\w+)\s+({_BE})\s+(.+)", lambda m: f"{_placeholder(m[1])} {m[2]} {m[3]}"),
        (rf"(?:when|where)\s+({_DET}\s+.+)", lambda m: m[1]),
        (rf"(?:whose|which|what)\s+(?!{_DO}\b|{_BE}\b)(\w+\s+.+)", lambda m: m[1]),
        (r"(who|what)\s+(.+)", lambda m: f"{_placeholder(m[1])} {m[2]}"),
        (r"how\s+many\s+(.+?)\s+(?:are|were)\s+there\b\s*(.*)", lambda m: f"{m[1]} {m[2]}"),
        (r"how\s+many\s+(.+)", lambda m: m[1]),
        (rf"{_BE}\s+there\s+(?:any\s+)?(.+)", lambda m: m[1]),
        (rf"({_BE})\s+(.+)", lambda m: _statement_with_be(m[1].lower(), m[2])),
        (rf"{_DO}\s+(?:you|we)\s+see\s+(.+)|{_MAY}\s+(?:you|we|i)\s+see\s+(.+)", lambda m: m[1] or m[2]),
        (r"(does|did)\s+(.+)", lambda m: _statement_with_do(m[1].lower(), m[2])),
    )
)  # fmt: skip
