"""Questions: rows that are the candidate answers of one question, and scores over questions.

Training takes every row for itself. Only what is made of the outputs knows questions: of some
tasks one row of a question is chosen (`take_best`), and some metrics count questions. Each of those
is a ratio of two sums over questions (PARTS), so that a question is also what a bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Parts = tuple[Array, Array]


def take_best(scores: npt.ArrayLike, questions: Array) -> npt.NDArray[np.int64]:
    """[R] 1 for the row with the highest score of each question, the first of equals; else 0."""
    order = np.lexsort((-np.asarray(scores, dtype=np.float64), questions))  # stable
    _, first = np.unique(questions[order], return_index=True)
    chosen = np.zeros(len(order), dtype=np.int64)
    chosen[order[first]] = 1
    return chosen


def places(questions: Array) -> npt.NDArray[np.int64]:
    """[R] the place of each row among the rows of its question, from 0."""
    order = np.argsort(questions, kind="stable")
    _, first, counts = np.unique(questions[order], return_index=True, return_counts=True)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order)) - np.repeat(first, counts)
    return found


def usual_place(labels: Array, train_questions: Array, questions: Array) -> npt.NDArray[np.int64]:
    """The choice that looks at no text: the place that is most often right in training.

    Args:
        labels, train_questions: [T], of the training rows.
        questions: [R], of the rows to choose among.

    Returns:
        [R], as `take_best`. A question with fewer rows takes the best of the places that it has.
    """
    right = np.bincount(places(train_questions), weights=labels == 1)
    own = places(questions)
    scores = np.where(own < len(right), right[np.minimum(own, len(right) - 1)], -1.0)
    return take_best(scores, questions)


def parts(
    name: str, predicted: Array, true: Array, questions: Array, credit: Array | None
) -> Parts:
    """The two sums of a metric, question by question: its score is the ratio of their totals.

    Args:
        name: of PARTS.
        predicted, true: [R] codes, 0 wrong and 1 right.
        questions: [R] which rows belong together.
        credit: [R] partial score of taking a row; None for right or wrong alone.

    Returns:
        above, below: [Q] each, questions in ascending order.
    """
    _, group = np.unique(questions, return_inverse=True)
    count = int(group.max()) + 1

    def total(values: Array) -> Array:
        return np.bincount(group, weights=values, minlength=count)

    return PARTS[name](predicted, true, true if credit is None else credit, total)


Total = Callable[[Array], Array]


def _accuracy(predicted: Array, true: Array, credit: Array, total: Total) -> Parts:
    return total(predicted == true), total(np.ones(len(true)))


def _f1a(predicted: Array, true: Array, credit: Array, total: Total) -> Parts:
    return 2 * total(predicted * true), total(predicted) + total(true)


def _exact_match(predicted: Array, true: Array, credit: Array, total: Total) -> Parts:
    wrong = total(predicted != true)
    return (wrong == 0).astype(np.float64), np.ones(len(wrong))


def _answer_match(predicted: Array, true: Array, credit: Array, total: Total) -> Parts:
    taken = total(predicted)
    return total(predicted * true), taken


def _answer_f1(predicted: Array, true: Array, credit: Array, total: Total) -> Parts:
    return total(predicted * credit), total(predicted)


PARTS: dict[str, Callable[[Array, Array, Array, Total], Parts]] = {
    "accuracy": _accuracy,  # of rows; of questions where one of two rows is chosen
    "f1a": _f1a,  # of the class 1, over the answers of all questions (MultiRC)
    "exact_match": _exact_match,  # share of questions all of whose answers are right (MultiRC)
    "answer_f1": _answer_f1,  # mean credit of the chosen answers (ReCoRD)
    "answer_match": _answer_match,  # share of the chosen answers that are right (ReCoRD)
}
"""The metrics over questions, by name."""
