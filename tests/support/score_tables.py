"""Tables of figures from scores alone, by the code that `vla eval` uses."""

from types import SimpleNamespace

import numpy as np

from vla.evaluation import moment_protocol, qa_protocol, retrieval_protocol
from vla.evaluation.head_answers import HeadAnswers
from vla.evaluation.results import PerQueryScores
from vla.metrics.average_precision import THRESHOLDS, average_precisions
from vla.metrics.grounding import grounding_scores
from vla.metrics.highlights import LEVELS, highlight_hits, highlight_precisions
from vla.metrics.qvhighlights import first_ious, subsets
from vla.metrics.retrieval import PARTIAL_RECALLS, RECALLS


def values(measures):
    return {name: v.value for name, v in measures.items()}


def retrieval(similarity, relevant, recalls=RECALLS):
    return values(
        retrieval_protocol.measures(
            retrieval_protocol.Search(
                similarity, relevant, np.arange(len(similarity)), None, recalls
            )
        )
    )


def text_to_video(similarity, video_of_query):
    return values(
        retrieval_protocol.measures(
            retrieval_protocol.both_ways("text", similarity, video_of_query)["text to video"]
        )
    )


def video_to_text(similarity, video_of_query):
    return values(
        retrieval_protocol.measures(
            retrieval_protocol.both_ways("text", similarity, video_of_query)["video to text"]
        )
    )


def video_to_texts(similarity, video_of_query):
    found = retrieval_protocol.both_ways("text", similarity, video_of_query)
    return values(retrieval_protocol.measures(found.get("video to texts", found["video to text"])))


def partially_relevant(similarity, video_of_query):
    relevant = video_of_query[:, None] == np.arange(similarity.shape[1])
    return values(
        retrieval_protocol.measures(
            retrieval_protocol.Search(
                similarity, relevant, video_of_query, None, PARTIAL_RECALLS, True
            )
        )
    )


def moments(predictions, truths):
    found = values(moment_protocol.moment_scores(predictions, truths, np.arange(len(truths))))
    return {name: value for name, value in found.items() if name != "mAP"}


def corpus_moments(predictions, videos, truths, types=None):
    kinds = types or [""] * len(truths)
    queries = [
        SimpleNamespace(
            video=video, spans=spans, annotation=SimpleNamespace(category=kind, votes=())
        )
        for video, spans, kind in zip(videos, truths, kinds, strict=True)
    ]
    return values(moment_protocol.in_corpus(queries, predictions))


def qvhighlights(predictions, truths, scores=None, ratings=None):
    """QVHighlights' whole output: what `vla eval` prints of it is `brief`."""
    rows, table = np.arange(len(truths)), {}
    brief = values(moment_protocol.window_scores(predictions, truths, rows))
    for name, subset in subsets(truths).items():
        given = [predictions[query] for query in subset], list(subset.values())
        precisions, ious = average_precisions(*given), first_ious(*given)
        average = {str(x): printed(precisions[:, i]) for i, x in enumerate(THRESHOLDS)}
        table[name] = {
            "MR-mAP": {**average, "average": printed(precisions.mean(axis=1))},
            "MR-R1": {str(x): printed(ious >= x) for x in THRESHOLDS},
        }
    for name, least in LEVELS.items() if scores is not None else ():
        found = {
            "HL-mAP": printed(highlight_precisions(scores, ratings, least).mean(axis=1)),
            "HL-Hit1": printed(highlight_hits(scores, ratings, least)),
        }
        table[f"HL-min-{name}"] = found
        brief |= {
            f"HL-min-{name}-{figure.removeprefix('HL-')}": value for figure, value in found.items()
        }
    return {"brief": brief, **table}


def printed(by_query):
    return PerQueryScores(
        100 * np.asarray(by_query, np.float64), np.arange(len(by_query)), digits=2
    ).value


def counting(predicted, answers):
    asked = [
        SimpleNamespace(video=i, question=SimpleNamespace(count=count))
        for i, count in enumerate(answers)
    ]
    return values(
        qa_protocol.questions(HeadAnswers("count", asked, list(predicted), []), predicted)
    )


def accuracy(right, types):
    found = qa_protocol.accuracy_by_type(
        types, 100 * np.asarray(right, np.float64), np.arange(len(types))
    )
    return {name.removeprefix("accuracy").strip() or "all": v.value for name, v in found.items()}


def grounding(right, spans, truths):
    found = grounding_scores(right, spans, truths)
    return {
        name: PerQueryScores(100.0 * v, np.arange(len(v)), digits=1).value
        for name, v in found.items()
    }
