"""Rule-based part-of-speech tagger for English: closed word classes, common verbs, endings, and
the preceding word.
"""

from __future__ import annotations

import re

from vla.language._lexicon import (
    ADJECTIVES,
    CLOSED_CLASS,
    IRREGULAR,
    MANNERS,
    NEVER_ADVERBS,
    NEVER_VERBS,
    NOMINAL,
    PLURALS,
    VERBS,
)

_WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W_]+)*|\d+(?:[.,:]\d+)*|[^\w\s]|_+|\w+")

Word = tuple[str, int, int]
"""Tag letter, first character, and end (exclusive).

D determiner, M number, A adjective, N noun, V verb, X auxiliary, P preposition, T "to", R adverb,
C conjunction, O other word, . punctuation.
"""


def tag_words(text: str) -> list[Word]:
    """Return the words and marks of `text` with their tags; the tags are meaningful only for
    English.
    """
    ranges = [(m.start(), m.end()) for m in _WORD.finditer(text)]
    words = [text[a:b].lower().replace("’", "'") for a, b in ranges]
    tags: list[str] = []
    for i in range(len(words)):
        tags.append(_tag(words, i, tags))
    return [(tag, a, b) for tag, (a, b) in zip(tags, ranges, strict=True)]


def _tag(words: list[str], i: int, tags: list[str]) -> str:
    word, before = words[i], tags[-1] if tags else "."
    after = words[i + 1] if i + 1 < len(words) else ""
    if not word[0].isalnum():
        return "."
    if word[0].isdigit():
        return "M"
    if word in ("front", "top") and before == "P" and after == "of":
        return "P"
    if word in CLOSED_CLASS:
        return _tag_closed_class(word, before, after)
    if word in ADJECTIVES or (word.endswith(("ous", "ful", "less", "ish")) and _may_be_noun(after)):
        return _tag_adjective(word, before, after)
    if _is_adverb(word):
        return "R"
    if "-" in word and _may_be_noun(after) and before in "DMA":
        return "A"
    form = _form(word)
    if form:
        return _verb_or_noun(form, words, i, tags, before, after)
    # "Officers arrest a man": of two nouns before an article, in a clause without a verb, the
    # second is a verb.
    starts_predicate = (
        before == "N" and CLOSED_CLASS.get(after) == "D" and not {"V", "X"} & set(_clause(tags))
    )
    return "V" if starts_predicate and word not in NEVER_VERBS else "N"


def _tag_closed_class(word: str, before: str, after: str) -> str:
    tag = CLOSED_CLASS[word]
    if word in ("has", "have", "had", "having") and not _is_participle(after):
        return "V"
    if word in ("do", "does", "did") and after and after not in CLOSED_CLASS and not _form(after):
        return "V"
    if word in ("can", "will", "do", "does", "did") and before in "DMA":
        return "N"
    if word == "one" and (before in "DA" or not _may_be_noun(after)):
        return "N" if before in "DA" else "O"
    if word in ("her", "that", "this") and not _may_be_noun(after):
        return "O"
    return tag


def _tag_adjective(word: str, before: str, after: str) -> str:
    if word in ("left", "open") and before in "NO" and _form(after) is None:
        return "V"
    if word in MANNERS and before == "V" and not _may_be_noun(after):
        return "R"
    if word in NOMINAL and before in "DMA" and _form(after) == "s":
        return "N"
    if _may_be_noun(after) or after in ("and", "or"):
        return "A"
    return "N" if before in "DM" or (word in NOMINAL and before == "A") else "A"


def _verb_or_noun(
    form: str, words: list[str], i: int, tags: list[str], before: str, after: str
) -> str:
    if before in "DMA" or (before == "P" and form != "ing"):
        return "A" if form in ("ing", "ed") and _may_be_noun(after) else "N"
    if form == "ing":
        return "V"
    if form == "ed":
        return "A" if before == "." and _may_be_noun(after) else "V"
    if form == "base":
        if before in "TXO" or (before in ".CR" and _may_begin(after)):
            return "V"
        # "person turn off the light" is the style of Charades' annotators.
        many = _is_plural(words, i, tags) or (
            words[i - 1] == "person" and CLOSED_CLASS.get(after, "N") in "DPO"
        )
        return "V" if before == "N" and many and "V" not in _clause(tags) else "N"
    # Third person: "the man runs". After a conjunction only if a verb precedes it: "food and
    # drinks".
    if before == "C":
        return "V" if "V" in tags and (tags[-2:-1] != ["N"] or _may_begin(after)) else "N"
    return "V" if before in "NOR" else "N"


def _form(word: str) -> str | None:
    """Return `base`, `s`, `ing` or `ed` if the word may be a form of a verb."""
    if word in NEVER_VERBS:
        return None
    if word in VERBS:
        return "base"
    if word in IRREGULAR:
        return "ed"
    if word.endswith("ing") and len(word) > 4:
        return "ing"
    if word.endswith("ed") and len(word) > 3 and not word.endswith("eed"):
        return "ed"
    stems = (word[:-1], word[:-2], word[:-3] + "y") if word.endswith("s") and len(word) > 2 else ()
    return "s" if any(stem in VERBS for stem in stems) else None


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in NEVER_ADVERBS


def _is_participle(word: str) -> bool:
    return word == "been" or _form(word) == "ed"


def _may_be_noun(word: str) -> bool:
    """Return whether `word` may continue a noun phrase: it neither starts another one nor ends
    this one.
    """
    return bool(word) and word[0].isalpha() and word not in CLOSED_CLASS and not _is_adverb(word)


def _may_begin(after: str) -> bool:
    """Return whether `after` may follow a verb: an article, a preposition, a pronoun, a noun, or
    nothing.
    """
    return not after or CLOSED_CLASS.get(after, "N") in "DPTOMRN" or after in ".,;!"


def _is_plural(words: list[str], i: int, tags: list[str]) -> bool:
    last = words[i - 1]
    return (
        last in PLURALS or (last.endswith("s") and not last.endswith("ss")) or "C" in _clause(tags)
    )


def _clause(tags: list[str]) -> list[str]:
    """Return the tags since the last punctuation mark."""
    for back in range(len(tags), 0, -1):
        if tags[back - 1] == ".":
            return tags[back:]
    return tags
