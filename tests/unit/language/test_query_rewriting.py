"""Questions and requests become what a caption would say; anything else stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.language.query_rewriting import question_to_caption

CAPTIONS = {
    "when does the dog jump over a fence?": "the dog jumps over a fence",
    "where does the man in the red shirt open the door?": "the man in the red shirt opens the door",
    "When do the kids play soccer": "the kids play soccer",
    "where is the dog?": "the dog",
    "when is the cake cut?": "the cake is cut",
    "who is riding a bike?": "someone is riding a bike",
    "who opens the door?": "someone opens the door",
    "what is the man holding?": "the man is holding something",
    "what is falling from the table?": "something is falling from the table",
    "what is in the box?": "something is in the box",
    "what is the man doing with the ball?": "the man with the ball",
    "what does the woman put on the table?": "the woman puts something on the table",
    "what does the boy do after he falls?": "the boy after he falls",
    "what happens when the glass breaks?": "the glass breaks",
    "what color is the car?": "the car",
    "is there a dog on the beach?": "a dog on the beach",
    "is the man smiling?": "the man is smiling",
    "does it rain?": "it rains",
    "did the cat jump off the sofa?": "the cat jumps off the sofa",
    "why did the lady carry the boxes?": "the lady carries the boxes",
    "why did the children run away": "the children run away",
    "how many people are there in the room?": "people in the room",
    "how many times does the boy jump?": "the boy jumps",
    "which dog is barking?": "the dog is barking",
    "in which video does a man ride a horse?": "a man rides a horse",
    "where can I see a red car?": "a red car",
    "show me a dog running on the beach": "a dog running on the beach",
    "Please find the moment when the ball hits the ground.": "the ball hits the ground",
    "can you show me the part where she cuts the cake?": "she cuts the cake",
    "the moment when the ball hits the ground": "the ball hits the ground",
    "I'm looking for a red car": "a red car",
    "where a man walks": "a man walks",
}
AS_IT_IS = (
    "a dog jumps over a fence", "show jumping", "play guitar", "finding nemo", "what", "when?", "how to cook rice", "who?",
    "the man who is sitting", "someone doing a backflip", "video of a cat", "Wo ist der Hund?", "16:9", "", "...", "isolated house",
    "Doing the dishes.", "whatever happens next", "wherever you go",
)  # fmt: skip


@pytest.mark.parametrize(("question", "caption"), CAPTIONS.items())
def test_rewrites_questions_as_captions(question, caption):
    assert question_to_caption(question) == caption
    assert question_to_caption(f"  {question.rstrip('?.')} ? ") == caption, (
        "blanks and marks change nothing"
    )


@pytest.mark.parametrize("text", AS_IT_IS)
def test_keeps_other_text(text):
    assert question_to_caption(text) == text


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from("what when who does is the a dog jump show me of where".split())
    ).map(" ".join)
)
def test_accepts_any_text(text):
    caption = question_to_caption(text)
    assert caption == text or (caption.strip() and len(caption) <= len(text) + 40)
