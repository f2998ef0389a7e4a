"""Parts of speech: whole words of any text, and right where a caption's grammar decides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.language._tagger import tag_words

CAPTIONS = st.lists(
    st.sampled_from(
        "a the red square man men is are running runs run plays to left in on with and then while very slowly two "
        ", . ! ’s 's dog's well-known Ünïcödé 日本 3.5 \n \t _ - has having one her \u00a0 ﬁ ſ İ".split(
            " "
        )
    ),
    max_size=30,
).map(" ".join)


@given(CAPTIONS | st.text(max_size=80))
@settings(deadline=None, max_examples=150)
def test_any_text_is_cut_into_whole_words(text):
    words = tag_words(text)
    assert words == tag_words(text)
    assert all(a[2] <= b[1] for a, b in zip(words, words[1:], strict=False))
    for tag, start, end in words:
        assert tag in "DMANVXPTRCO." and text[start:end].strip() == text[start:end] != ""
        for at in (start, end):
            assert at in (0, len(text)) or not (text[at - 1].isalpha() and text[at].isalpha())
    assert {c for c in text if not c.isspace()} == {
        c for _, a, b in words for c in text[a:b] if not c.isspace()
    }


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("", ""),
        ("?!...", "....."),
        ("He runs.", "OV."),
        ("food and drinks on a table", "NCNPDN"),
        ("a man cooks and drinks tea", "DNVCVN"),
        ("the dance", "DN"),
        ("they dance", "OV"),
        ("a running dog", "DAN"),
        ("a dog running", "DNV"),
        ("she has a hat and has eaten it", "OVDNCXVO"),
        ("turn left, then turn the left wheel", "VR.RVDAN"),
        ("A WOMAN IS PLAYING GUITAR", "DNXVN"),
    ],
)
def test_by_hand(caption, tags):
    assert "".join(tag for tag, _, _ in tag_words(caption)) == tags
