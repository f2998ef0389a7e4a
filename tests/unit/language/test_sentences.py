"""Cutting text: no word is lost, none is moved, and the cuts are where a reader would make them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.language.sentences import sentences, split_to_fit


def at_most(words):
    return lambda text: len(text.split()) <= words


def letters(max_words):
    return lambda text: len(text) <= max_words


MARKS = list("abcd  ,.;:!?\n\t—-'\"é日\u00a0\u2003")
PROSE = st.lists(
    st.sampled_from([*MARKS, " and ", " then ", " but ", "or", " AND "]), max_size=80
).map("".join)
ANYTHING = st.text(max_size=60)


@given(PROSE | ANYTHING, st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_keeps_all_words_in_order(text, max_words):
    for fits in (at_most(max_words), letters(3 * max_words)):
        chunks = split_to_fit(text, fits)
        assert [w for p in chunks for w in p.split()] == text.split()
        assert all(p and p == p.strip() for p in chunks)


@given(PROSE | ANYTHING, st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_chunks_fit_except_single_words(text, max_words):
    for fits in (at_most(max_words), letters(3 * max_words)):
        assert all(fits(p) or len(p.split()) == 1 for p in split_to_fit(text, fits))


@given(PROSE | ANYTHING, st.integers(0, 12))
@settings(deadline=None, max_examples=40)
def test_text_that_fits_is_one_chunk(text, more):
    chunks = split_to_fit(text, at_most(len(text.split()) + more))
    assert [" ".join(p.split()) for p in chunks] == (
        [" ".join(text.split())] if text.split() else []
    )


@given(PROSE | ANYTHING)
@settings(deadline=None, max_examples=40)
def test_sentences_keep_all_words(text):
    chunks = sentences(text)
    assert [w for s in chunks for w in s.split()] == text.split()
    assert all(s and s == s.strip() for s in chunks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("A dog runs.", ["A dog runs."]),
        (
            "A dog runs. It barks! Why? No idea; none",
            ["A dog runs.", "It barks!", "Why?", "No idea;", "none"],
        ),
        ("At 3.5 seconds the dog jumps.", ["At 3.5 seconds the dog jumps."]),
        ("no end  ", ["no end"]),
        ("One... two", ["One...", "two"]),
        ("first\n\nsecond", ["first", "second"]),
    ],
)
def test_sentences_examples(text, expected):
    assert sentences(text) == expected


def test_splits_at_the_best_boundaries():
    """Between sentences; a sentence that is too long, at clauses; a clause that is too long, before conjunctions."""
    text = (
        "A man opens the door. He walks to the window, looks out at the rain and he closes the curtains, "
        "quietly. The end."
    )
    assert split_to_fit(text, at_most(8)) == [
        "A man opens the door.",
        "He walks to the window,",
        "looks out at the rain",
        "and he closes the curtains, quietly.",
        "The end.",
    ]


def test_joins_small_parts_while_they_fit():
    assert split_to_fit("a, b, c, d, e, f", at_most(4)) == ["a, b, c, d,", "e, f"]
    assert split_to_fit("a b c d e f g", at_most(3)) == ["a b c", "d e f", "g"]


def test_does_not_join_sentences():
    assert split_to_fit("One two. Three four. Five.", at_most(4)) == [
        "One two.",
        "Three four.",
        "Five.",
    ]
    assert split_to_fit("One two. Three four. Five.", at_most(5)) == ["One two. Three four. Five."]


def test_overlong_word_is_a_chunk():
    assert split_to_fit("see http://a.very/long/address now", letters(10)) == [
        "see",
        "http://a.very/long/address",
        "now",
    ]


def test_number_of_chunks_is_minimal():
    for max_words in range(1, 9):
        words = [f"w{i}" for i in range(23)]
        assert len(split_to_fit(" ".join(words), at_most(max_words))) == -(-23 // max_words)
