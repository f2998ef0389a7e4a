"""Phrases of captions: right on captions marked by hand, whole words of any text, and by another tagger if asked."""

import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phrase_captions import MARKED
from vla.errors import EnvironmentUnfitError, UsageError
from vla.phrases import phrases, spacy_tagger

CAPTIONS = st.lists(
    st.sampled_from(
        "a the red square man men is are running runs run plays to left in on with and then while very slowly two "
        ", . ! ’s 's dog's well-known Ünïcödé 日本 3.5 \n \t _ - has having one her \u00a0 ﬁ ſ İ".split(" ")
    ),
    max_size=30,
).map(" ".join)


def texts(caption, kind):
    return [p.text for p in phrases(caption) if p.kind == kind]


def test_on_captions_marked_by_hand():
    """The whole phrase or nothing. As measured: nouns 99 % of those found and of those there, verbs 97 %."""
    assert len(MARKED) >= 40
    for kind, place, least in (("noun", 1, 0.99), ("verb", 2, 0.97)):
        right = found = there = 0
        for caption in MARKED:
            wanted = Counter(x for x in caption[place].split("|") if x)
            got = Counter(texts(caption[0], kind))
            right, found, there = right + (wanted & got).total(), found + got.total(), there + wanted.total()
        assert there >= 70
        assert right / found > least and right / there > least


@given(CAPTIONS | st.text(max_size=80))
@settings(deadline=None, max_examples=150)
def test_any_text_has_phrases_of_whole_words(text):
    found = phrases(text)
    assert found == phrases(text)
    assert found == sorted(found, key=lambda p: (p.start, p.kind == "noun"))
    for kind in ("noun", "verb"):
        some = [p for p in found if p.kind == kind]
        assert all(a.end <= b.start for a, b in zip(some, some[1:], strict=False))
    for p in found:
        assert p.text == text[p.start : p.end] and p.text and p.text == p.text.strip()
        for at in (p.start, p.end):
            assert at in (0, len(text)) or not (text[at - 1].isalpha() and text[at].isalpha())


@pytest.mark.parametrize(
    ("caption", "nouns", "verbs"),
    [
        ("", [], []),
        (" \n ", [], []),
        ("?!...", [], []),
        ("He runs.", [], ["runs"]),
        ("It is red", [], []),
        ("food and drinks on a table", ["food", "drinks", "table"], []),
        ("a man cooks and drinks tea", ["man", "tea"], ["cooks", "drinks tea"]),
        ("the dance", ["dance"], []),
        ("they dance", [], ["dance"]),
        ("a running dog", ["running dog"], []),
        ("a dog running", ["dog"], ["running"]),
        ("she has a hat and has eaten it", ["hat"], ["has a hat", "eaten"]),
        ("turn left, then turn the left wheel", ["left wheel"], ["turn left", "turn the left wheel"]),
        ("A WOMAN IS PLAYING GUITAR", ["WOMAN", "GUITAR"], ["PLAYING GUITAR"]),
    ],
)
def test_by_hand(caption, nouns, verbs):
    assert (texts(caption, "noun"), texts(caption, "verb")) == (nouns, verbs)


def fake_spacy(monkeypatch, words):
    """A spaCy whose every text has the given words: text, place, part of speech, tag."""
    module = ModuleType("spacy")

    def load(name):
        if name != "small":
            raise OSError(f"[E050] Can't find model '{name}'.")
        made = [SimpleNamespace(text=t, idx=i, pos_=p, tag_=g, is_space=t.isspace()) for t, i, p, g in words]
        return lambda text: made

    module.load = load
    monkeypatch.setitem(sys.modules, "spacy", module)


def test_another_tagger_gives_the_words_their_kinds(monkeypatch):
    words = [
        ("Her", 0, "PRON", "PRP$"), ("old", 4, "ADJ", "JJ"), ("dog", 8, "NOUN", "NN"), (" ", 11, "SPACE", "_SP"),
        ("wants", 13, "VERB", "VBZ"), ("to", 19, "PART", "TO"), ("zorb", 22, "VERB", "VB"), ("down", 27, "ADP", "RP"),
        ("hills", 32, "NOUN", "NNS"), (".", 37, "PUNCT", "."),
    ]  # fmt: skip
    fake_spacy(monkeypatch, words)
    found = phrases("Her old dog  wants to zorb down hills.", spacy_tagger("small"))
    assert [(p.kind, p.text) for p in found] == [
        ("noun", "old dog"),
        ("verb", "wants"),
        ("verb", "zorb down hills"),
        ("noun", "hills"),
    ]
    with pytest.raises(UsageError, match="python -m spacy download large"):
        spacy_tagger("large")


def test_a_tagger_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(EnvironmentUnfitError, match=r"pip install 'vla-toolkit\[phrases\]'"):
        spacy_tagger()
