"""Files of the field's benchmarks, in the forms they were published in: small ones of the same make."""

import json
from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets import registry
from vla.datasets.base import Question, Saliency, paragraphs
from vla.datasets.didemo import consensus_span
from vla.errors import AnnotationError


@pytest.fixture
def read(tmp_path):
    """`read("msvd", {"a.json": text, ...})` writes the files and reads them together."""

    def reading(name, files):
        for file, text in files.items():
            (tmp_path / file).write_text(text if isinstance(text, str) else json.dumps(text))
        return registry.build(name).read(*[tmp_path / file for file in files])

    return reading


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


MSRVTT = {
    "info": {"year": "2016", "contributor": "Microsoft"},
    "videos": [
        {"category": n, "url": f"https://www.youtube.com/watch?v={n}", "video_id": f"video{n}", "start time": 137.72,
         "end time": 149.44, "split": split, "id": n}
        for n, split in enumerate(["train", "validate", "test", "test"])
    ],
    "sentences": [
        {"caption": f"sentence {n} of {n % 4}", "video_id": f"video{n % 4}", "sen_id": n} for n in range(8)
    ],
}  # fmt: skip
TEST_LIST = (
    "key,vid_key,video_id,sentence\nret0,msr2,video2,a person is connecting something to system\n"
)


def test_msrvtt_whole(read):
    annotations = read("msrvtt", {"MSRVTT_data.json": MSRVTT})
    assert [(a.query_id, a.video, a.split, a.category, a.spans) for a in annotations] == [
        (str(n), f"video{n % 4}", ("train", "val", "test", "test")[n % 4], str(n % 4), ())
        for n in range(8)
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_msrvtt_1k_a(read, order):
    """The test list replaces the JSON's sentences of its videos, whatever comes first, and even if a train list names one."""
    files = [
        ("MSRVTT_data.json", json.dumps(MSRVTT)),
        ("MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo1\nvideo2\n"),
        ("MSRVTT_JSFUSION_test.csv", TEST_LIST),
    ]
    annotations = read("msrvtt", dict(files[i] for i in order))
    assert sorted((a.query_id, a.video, a.split) for a in annotations) == [
        ("0", "video0", "train"), ("1", "video1", "train"), ("4", "video0", "train"), ("5", "video1", "train"),
        ("ret0", "video2", "test"),
    ]  # fmt: skip


def test_msrvtt_lists_alone(read):
    (annotations,) = read("msrvtt", {"MSRVTT_JSFUSION_test.csv": TEST_LIST})
    assert (annotations.query_id, annotations.query, annotations.split) == (
        "ret0",
        "a person is connecting something to system",
        "test",
    )
    with pytest.raises(
        AnnotationError,
        match=r"train\.csv names videos and has no sentences: give MSRVTT_data\.json",
    ):
        read("msrvtt", {"train.csv": "video_id\nvideo0\n"})
    with pytest.raises(
        AnnotationError,
        match="line 1: neither a column 'sentence' nor a file name that tells the split",
    ):
        read("msrvtt", {"list.csv": "video_id\nvideo0\n"})
    with pytest.raises(AnnotationError, match="line 1: item 2: video 'x' is not among"):
        read("msrvtt", {"d.json": {"videos": [{"video_id": "v"}], "sentences": [
            {"caption": "a", "video_id": "v", "sen_id": 1}, {"caption": "a", "video_id": "x", "sen_id": 2}]}})  # fmt: skip
    with pytest.raises(
        AnnotationError, match="must hold an object with the lists 'videos' and 'sentences'"
    ):
        read("msrvtt", {"d.json": {"videos": [], "sentences": {}}})


CORPUS = """VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description
mv89psg6zh4,33,46,588702,unverified,55,Slovene,Papagaj se umiva.
mv89psg6zh4,33,46,362812,clean,23,English,"A bird, washing."
mv89psg6zh4,33,46,362813,clean,23,English,A bird bathes.
"""


def test_msvd_forms(read):
    captions = [("mv89psg6zh4_33_46", "A bird, washing."), ("mv89psg6zh4_33_46", "A bird bathes.")]
    for name, text in {
        "AllVideoDescriptions.txt": "".join(f"{video} {text}\n" for video, text in captions),
        "corpus.csv": CORPUS,
        "captions_msvd.json": {captions[0][0]: [text for _, text in captions]},
    }.items():
        annotations = read("msvd", {name: text})
        assert [(a.video, a.query) for a in annotations] == captions
        assert len({a.query_id for a in annotations}) == 2


def test_msvd_lists(read):
    descriptions = {"captions.json": {"a_1_2": ["x", "x"], "b_1_2": ["y"], "c_1_2": ["z"]}}
    lists = {"train_list.txt": "a_1_2\r\nq_1_2\r\n", "test_list.txt": "c_1_2\n"}
    assert [(a.video, a.split) for a in read("msvd", descriptions)] == [
        ("a_1_2", ""),
        ("a_1_2", ""),
        ("b_1_2", ""),
        ("c_1_2", ""),
    ]
    for files in ({**descriptions, **lists}, {**lists, **descriptions}):
        annotations = read("msvd", files)
        assert [(a.video, a.split) for a in annotations] == [
            ("a_1_2", "train"),
            ("a_1_2", "train"),
            ("c_1_2", "test"),
        ]
    with pytest.raises(AnnotationError, match="names videos and does not describe them"):
        read("msvd", lists)
    with pytest.raises(AnnotationError, match="does not tell of which split"):
        read("msvd", {**descriptions, "some.txt": "a_1_2\n"})
    with pytest.raises(AnnotationError, match=r"not '\.pkl'"):
        read("msvd", {"raw-captions.pkl": "x"})


def official_iou(pred, gt):
    """`utils/eval.py` of LocalizingMoments."""
    intersection = max(0, min(pred[1], gt[1]) + 1 - max(pred[0], gt[0]))
    return intersection / (max(pred[1], gt[1]) + 1 - min(pred[0], gt[0]))


chunks = st.sampled_from(list(combinations_with_replacement(range(6), 2)))


@settings(max_examples=150, deadline=None)
@given(st.lists(chunks, min_size=1, max_size=8))
def test_didemo_span_maximizes_the_official_score(times):
    def score(pred):
        ious = sorted(official_iou(pred, t) for t in times)
        return sum(ious[-3:]) / len(ious[-3:])

    best = consensus_span(times)
    assert best in times
    assert score(best) == pytest.approx(max(map(score, times)))
    most = max(map(times.count, times))
    if most >= 3:
        assert times.count(best) == most


@pytest.mark.parametrize(
    ("times", "span"),
    [
        ([[4, 4], [4, 4], [0, 0], [4, 4], [0, 0], [0, 0], [4, 4]], (20, 25)),
        ([[0, 0], [0, 0], [0, 0], [4, 4], [4, 4], [4, 4], [4, 4]], (20, 25)),
        ([[2, 2], [1, 2], [1, 1], [2, 2]], (10, 15)),
        ([[0, 0], [3, 3], [3, 3], [0, 0]], (0, 5)),  # two and two: the first
        ([[0, 5]], (0, 30)),
    ],
)
def test_didemo_times(read, times, span):
    row = {
        "annotation_id": 5,
        "description": " a bug ",
        "times": times,
        "video": "v.m4v",
        "num_segments": 6,
        "dl_link": "u",
    }
    (annotations,) = read("didemo", {"train_data.json": [row]})
    assert (
        annotations.spans == (span,)
        and annotations.split == "train"
        and annotations.query == "a bug"
    )
    assert annotations.votes == tuple((5 * first, 5 * (last + 1)) for first, last in times)


def test_didemo_paragraphs(read):
    rows = [
        {"annotation_id": n, "description": text, "times": [[0, 0]], "video": video}
        for n, (video, text) in enumerate(
            [("a.mov", "One."), ("b.mov", "Else."), ("a.mov", "Two.")]
        )
    ]
    annotations = paragraphs(read("didemo", {"val_data.json": rows}))
    assert [(a.video, a.query, a.split) for a in annotations] == [
        ("a.mov", "One. Two.", "val"),
        ("b.mov", "Else.", "val"),
    ]


@pytest.mark.parametrize(
    "times",
    [
        None,
        [],
        "01",
        [[1]],
        [[1, 2, 3]],
        [[1.0, 2]],
        [[True, 2]],
        [[2, 1]],
        [[-1, 1]],
        [[0, 10**9]],
    ],
)
def test_didemo_rejects_invalid_times(read, times):
    with pytest.raises(AnnotationError, match="'times' must"):
        read(
            "didemo",
            {"t.json": [{"annotation_id": 1, "description": "a", "times": times, "video": "v"}]},
        )


def test_activitynet(read):
    same_video = {
        "v_a": {
            "duration": 20.5,
            "timestamps": [[0, 5.5], [4, 20.5]],
            "sentences": ["  One.", "Two. "],
        }
    }
    annotations = read("activitynet", {"val_1.json": same_video, "val_2.json": same_video})
    assert [(a.query_id, a.query, a.split, a.spans, a.duration) for a in annotations[:2]] == [
        ("val_1:v_a#0", "One.", "val_1", ((0, 5.5),), 20.5),
        ("val_1:v_a#1", "Two.", "val_1", ((4, 20.5),), 20.5),
    ]
    assert [(a.query_id, a.query, a.split) for a in paragraphs(annotations)] == [
        ("val_1:v_a", "One. Two.", "val_1"),
        ("val_2:v_a", "One. Two.", "val_2"),
    ]


def test_activitynet_reports_all_faults(read):
    text = json.dumps({
        "v_a": {"duration": 9, "timestamps": [[0, 5], [5, 4], None], "sentences": ["a", "b", "c"]},
        "v_b": {"duration": 9, "timestamps": [[0, 5]], "sentences": []},
        "v_c": 3,
        "v_d": {"duration": -1, "timestamps": [[0, 5]], "sentences": ["a"]},
        "v_e": {"duration": 9, "timestamps": [[0, 5]], "sentences": [7]},
        "v_f": {"duration": 9, "timestamps": [[0, 5]], "sentences": [["a"]]},
    })  # fmt: skip
    with pytest.raises(AnnotationError) as excinfo:
        read("activitynet", {"train.json": text[:-1] + ', "v_a": {}}'})
    lines = str(excinfo.value).split("\n")
    assert len(lines) == 1 + 7 and all(line.startswith("  line 1: 'v_") for line in lines[1:])
    for message in ("'v_a' sentence 2: span 5", "'v_a' sentence 3: 'timestamp' must be", "'v_b': 'timestamps' and", "'v_c': expected an object",
                 "'v_d' sentence 1: duration", "'v_f' sentence 1: 'sentence' must be text", "'v_a' is already on line 1"):  # fmt: skip
        assert any(message in line for line in lines), message


def test_charades(read):
    lines = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\nY6R7T 20.8 29.42 ## person begins.\n"
    annotations = read("charades_sta", {"charades_sta_train.txt": lines})
    assert [(a.query_id, a.video, a.query, a.spans, a.split, a.duration) for a in annotations] == [
        (
            "charades_sta_train:1",
            "AO8RW",
            "a person is putting a book on a shelf.",
            ((0, 6.9),),
            "train",
            None,
        ),
        ("charades_sta_train:2", "Y6R7T", "person begins.", ((20.8, 29.42),), "train", None),
    ]
    table = 'id,subject,script,actions,length\nAO8RW,HR43,"a, b",c1 1 2,33.67\nZZZZZ,H,s,c,1\n'
    annotations = read(
        "charades_sta", {"charades_sta_train.txt": lines, "Charades_v1_train.csv": table}
    )
    assert [a.duration for a in annotations] == [33.67, None]
    (annotations,) = read("charades_sta", {"charades_test_release.jsonl": jsonl(
        {"qid": 12404, "query": "person turn a light on.", "duration": 30.96, "vid": "3MSZA", "relevant_windows": [[24.3, 30.4]]})})  # fmt: skip
    assert (annotations.query_id, annotations.spans, annotations.duration, annotations.split) == (
        "12404",
        ((24.3, 30.4),),
        30.96,
        "test",
    )
    with pytest.raises(AnnotationError, match=r"line 2: 'soon' is not a time"):
        read("charades_sta", {"c.csv": "id,length\na,soon\n", "t.txt": lines})


def test_qvhighlights(read):
    row = {"qid": 7, "query": "a", "duration": 150, "vid": "v_0.0_150.0"}
    rated = {
        "relevant_clip_ids": [3, 4],
        "saliency_scores": [[4, 3, 2], [0, 1, 1]],
        "relevant_windows": [[6, 10], [12, 14]],
    }
    annotations = read(
        "qvhighlights",
        {"highlight_train_release.jsonl": jsonl({**row, **rated}, {**row, "qid": 8})},
    )
    assert annotations[0].saliency == Saliency(2, (3, 4), ((4, 3, 2), (0, 1, 1)))
    assert [(a.spans, a.duration, a.split) for a in annotations] == [
        (((6, 10), (12, 14)), 150, "train"),
        ((), 150, "train"),
    ]
    assert annotations[1].saliency is None
    for wrong in ({"relevant_clip_ids": [3]}, {"saliency_scores": [4, 3]}, {"relevant_clip_ids": None}, {"relevant_clip_ids": [4, 3]},
                  {"saliency_scores": [[4, 3], [1]]}, {"saliency_scores": [["4"], [1]]}, {"relevant_windows": [[6, 6]]}):  # fmt: skip
        with pytest.raises(AnnotationError, match="line 1: "):
            read("qvhighlights", {"w.jsonl": jsonl({**row, **rated, **wrong})})


def test_tvr(read):
    row = {
        "vid_name": "castle_s01",
        "duration": 91.19,
        "ts": [0.46, 5.47],
        "desc": "Cross explains.",
        "type": "vt",
        "desc_id": 89063,
    }
    (annotations,) = read("tvr", {"tvr_train_release.jsonl": jsonl(row)})
    assert (annotations.query_id, annotations.video, annotations.spans, annotations.duration, annotations.category, annotations.split) == (
        "89063", "castle_s01", ((0.46, 5.47),), 91.19, "vt", "train",
    )  # fmt: skip
    with pytest.raises(AnnotationError, match="line 1: no 'vid_name' here"):
        read("tvr", {"tvr_test_public_release.jsonl": jsonl({"desc": "a", "desc_id": 1})})
    for wrong in (None, [None, None], ["", ""], [1], [[0, 1]]):
        with pytest.raises(AnnotationError, match="line 1: "):
            read("tvr", {"t.jsonl": jsonl({**row, "ts": wrong})})


def test_lsmdc(read):
    lines = 'CLIP_ID\tSTART_ALIGNED\tEND_ALIGNED\tSTART_EXTRACTED\tEND_EXTRACTED\tSENTENCE\n1_A_00.00.01.5-00.00.03.000\t00.00.01.5\tb\tc\td\t "Hm," says SOMEONE.\n'
    (annotations,) = read("lsmdc", {"LSMDC16_challenge_1000_publictect.csv": lines})
    assert (annotations.video, annotations.query, annotations.split) == (
        "1_A_00.00.01.5-00.00.03.000",
        '"Hm," says SOMEONE.',
        "test",
    )
    assert (
        read("lsmdc", {"LSMDC16_annos_training.csv": lines.replace("\n1_A", "\r\n1_A")})[0].split
        == "train"
    )
    with pytest.raises(AnnotationError, match=r"line 1: expected 6 fields and this row 1$"):
        read("lsmdc", {"c.csv": "a, b\n"})


NEXTQA = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n4010069381,369,640,480,how do they play,1,6,CH,1,2,3,4,5\n"
NEXTGQA = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n401,369,640,480,what now,1,6,TN,3,1,1,4,5\n"
NEXTOE = "video,frame_count,width,height,question,answer,qid,type\n401,369,640,480,where is it,home,6,DL\n"


def test_nextqa_answers(read):
    """NExT-QA has the right one's index, NExT-GQA its text: digits are either."""
    (annotations,) = read("nextqa", {"val.csv": NEXTQA})
    assert annotations.question == Question(("1", "2", "3", "4", "5"), 1) and (
        annotations.category,
        annotations.split,
    ) == ("CH", "val")
    (annotations,) = read("nextqa", {"val.csv": NEXTGQA})
    assert annotations.question == Question(("3", "1", "1", "4", "5"), 1)
    (annotations,) = read("nextqa", {"test.csv": NEXTOE})
    assert annotations.question == Question(answers=("home",)) and annotations.query_id == "401_6"
    (annotations,) = read(
        "nextqa",
        {"test.csv": NEXTOE, "add_reference_answer_test.json": {"401": {"6": "house ", "7": "no"}}},
    )
    assert annotations.question.answers == ("home", "house")
    with pytest.raises(AnnotationError, match="line 2: 'answer' must be one of the choices"):
        read("nextqa", {"val.csv": NEXTGQA.replace("now,1", "now,9")})
    with pytest.raises(
        AnnotationError, match="line 2: the right choice is 5, counted from 0, of 5"
    ):
        read("nextqa", {"val.csv": NEXTQA.replace("play,1", "play,5")})


def test_nextgqa_spans(read):
    spans = {
        "401": {
            "duration": 57,
            "location": {"6": [[-0.1, 2.6], [16.0, 19.6]], "9": [[0, 1]]},
            "fps": 29.97,
        }
    }
    (annotations,) = read("nextqa", {"val.csv": NEXTGQA, "gsub_val.json": spans})
    assert annotations.spans == ((0, 2.6), (16.0, 19.6)) and annotations.duration == 57
    with pytest.raises(AnnotationError, match=r"gsub_val\.json matches none of the questions"):
        read("nextqa", {"val.csv": NEXTQA, "gsub_val.json": spans})
    wrong = {
        "1": 3,
        "2": {"location": 3},
        "3": {"location": {"6": [[-0.6, 1]]}},
        "4": {"location": {"6": [3]}},
        "401": spans["401"],
    }
    with pytest.raises(AnnotationError) as excinfo:
        read("nextqa", {"val.csv": NEXTGQA, "gsub_val.json": wrong})
    assert [line.split(":")[1].strip() for line in str(excinfo.value).split("\n")[1:]] == [
        "'1'", "'2'", "'3' question '6'", "'4' question '6'",
    ]  # fmt: skip


def test_one_word_answers(read):
    row = {
        "answer": "couch",
        "category_id": 14,
        "id": 158581,
        "question": "What do they sit on?",
        "video_id": 6513,
    }
    (annotations,) = read("msrvtt_qa", {"val_qa.json": [row]})
    assert (annotations.query_id, annotations.video, annotations.category, annotations.split) == (
        "158581",
        "video6513",
        "what",
        "val",
    )
    assert annotations.question == Question(answers=("couch",))
    (annotations,) = read(
        "msrvtt_qa",
        {
            "val.jsonl": jsonl(
                {
                    "answer": "a",
                    "question": "is it?",
                    "video_id": "video6513",
                    "answer_type": "what",
                }
            )
        },
    )
    assert (annotations.query_id, annotations.video, annotations.category) == (
        "val:1",
        "video6513",
        "",
    )
    (annotations,) = read(
        "msvd_qa",
        {"test_qa.json": [row], "youtube_mapping.txt": "-4wsu_5_15 vid6513\r\nx_1_2 vid2\r\n"},
    )
    assert annotations.video == "-4wsu_5_15"
    with pytest.raises(
        AnnotationError, match=r"line 1: .*youtube_mapping\.txt has no line for vid6513"
    ):
        read("msvd_qa", {"test_qa.json": [row], "youtube_mapping.txt": "x_1_2 vid2\n"})
    with pytest.raises(AnnotationError, match="line 2: expected 2 fields and this row 1"):
        read("msvd_qa", {"test_qa.json": [row], "youtube_mapping.txt": "x_1_2 vid2\nvid3\n"})


def test_activitynet_qa(read):
    questions = [
        {"question_id": f"v_a_{n}", "question": f"what is {n}", "video_name": "a"} for n in range(9)
    ]
    answers = [
        {"question_id": f"v_a_{n}", "answer": f"it is {n}", "type": n} for n in reversed(range(9))
    ]
    for files in (
        {"val_q.json": questions, "val_a.json": answers},
        {"val_a.json": answers, "val_q.json": questions},
    ):
        annotations = read("activitynet_qa", files)
        assert [(a.query_id, a.video, a.split, a.question.answers) for a in annotations] == [
            (f"v_a_{n}", "v_a", "val", (f"it is {n}",)) for n in range(9)
        ]
    assert [a.category for a in annotations] == ["motion", "spatial relation", "temporal relation", "yes/no", "color", "object", "location",
                                           "number", "other"]  # fmt: skip
    unanswered = read("activitynet_qa", {"test_q.json": questions})
    assert {a.question for a in unanswered} == {Question()} and {
        a.category for a in unanswered
    } == {""}
    with pytest.raises(AnnotationError, match="answers none of the questions"):
        read(
            "activitynet_qa",
            {"test_q.json": questions, "val_a.json": [{**answers[0], "question_id": "v_b_1"}]},
        )
    with pytest.raises(
        AnnotationError,
        match=r"2 faults(?s:.)*item 2: 'type' is 0 to 8, not 9(?s:.)*item 3: no 'answer' here",
    ):
        read(
            "activitynet_qa",
            {
                "q.json": questions,
                "a.json": [answers[0], {**answers[1], "type": 9}, {"question_id": 1}],
            },
        )


def test_tgif_qa(read):
    choices = "\ta1\ta2\ta3\ta4\ta5"
    annotations = read("tgif_qa", {
        "Test_action_question.csv": f"gif_name\tquestion{choices}\tanswer\tvid_id\tkey\r\ntumblr_a_250\tWhat ?\ta\tb\tc\td\te\t4\tACTION4\t26\r\n",
        "Test_transition_question.csv": f"gif_name\tquestion{choices}\tanswer\tvid_id\tkey\ntumblr_a_250\tWhat ?\ta\tb\tc\td\te\t0\tTRANS4\t26\n",
        "Test_count_question.csv": "gif_name\tquestion\tanswer\tvid_id\tkey\ntumblr_a_250\tHow many ?\t10\tCOUNT1\t26\n",
        "Test_frameqa_question.csv": "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n"
        "tumblr_a_250\tthe color ?\tred\t2\tFRAMEQA1\t26\ta red car .\n",
    })  # fmt: skip
    assert [(a.query_id, a.category, a.question.kind, a.question.answer, a.split) for a in annotations] == [
        ("ACTION4", "action", "choice", "e", "test"), ("TRANS4", "transition", "choice", "a", "test"),
        ("COUNT1", "count", "count", "10", "test"), ("FRAMEQA1", "color", "open", "red", "test"),
    ]  # fmt: skip
    with pytest.raises(AnnotationError, match="line 2: 'type' is 0 to 3, not 4"):
        read("tgif_qa", {"f.csv": "gif_name\tquestion\tanswer\ttype\tvid_id\na\tw ?\tred\t4\tF1\n"})


def test_how2qa(read):
    (annotations,) = read(
        "how2qa", {"how2QA_val_release.csv": "NOuQ,[7.2:18.0],10,12,16,how many?,1\n"}
    )
    assert annotations.question == Question(("10", "12", "16", "1"), 3) and (
        annotations.query_id,
        annotations.split,
    ) == (
        "how2QA_val_release:1",
        "val",
    )
    row = {
        "qid": 5,
        "q": "how many?",
        "vid_name": "NOuQ_0_60",
        "ts": "1.5 - 20.25",
        "a0": "1",
        "a1": "2",
        "a2": "3",
        "a3": "4",
    }
    for answer in ({}, {"answer_idx": 2}):
        (annotations,) = read("how2qa", {"how2qa_train_release.jsonl": jsonl(row | answer)})
        assert (annotations.query_id, annotations.video, annotations.spans) == (
            "5",
            "NOuQ_0_60",
            ((1.5, 20.25),),
        )
        assert annotations.question == Question(("1", "2", "3", "4"), 2 if answer else None)
    (annotations,) = read(
        "how2qa", {"train.csv": "video_id,start,end,question,a0,a1,answer_id\nv,1,2,why,x,y,0\n"}
    )
    assert (annotations.video, annotations.spans, annotations.question) == (
        "v",
        ((1, 2),),
        Question(("x", "y"), 0),
    )
    for wrong, message in (({"ts": "nan-nan"}, "'nan' is not a time"), ({"ts": 12}, "'ts' must be like"), ({"answer_idx": 4}, "of 4"),
                           ({"answer_idx": "four"}, "whole number"), ({"a1": ""}, "'a1' is empty"), ({"q": None}, "'q' is empty")):  # fmt: skip
        with pytest.raises(AnnotationError, match=f"line 1: .*{message}"):
            read("how2qa", {"w.jsonl": jsonl(row | wrong)})
    with pytest.raises(AnnotationError, match="no choices"):
        read("how2qa", {"w.jsonl": jsonl({"q": "why", "vid": "v"})})
