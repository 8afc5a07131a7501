"""The metrics of GLUE and SuperGLUE, as plain functions over scikit-learn and scipy.

All are fractions or correlations, never percent, and never NaN: where a correlation is not
defined because one side is constant, it is 0.0, that of a prediction that says nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xpeft.errors import ConfigError, DataError
from xpeft.questions import PARTS, parts

Array = npt.NDArray[Any]


def compute(
    names: Sequence[str],
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    num_labels: int | None = None,
    questions: npt.ArrayLike | None = None,
    credit: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Score predictions.

    Args:
        names: of METRICS or of `xpeft.questions.PARTS`; the order is kept.
        predictions: [R], class codes, or numbers for regression.
        labels: [R], the same.
        num_labels: number of classes, for `macro_f1`: classes that neither side holds count as 0.
            None means the classes that occur.
        questions: [R], which rows are answers of one question, for the metrics of PARTS.
        credit: [R], partial score of taking a row, for `answer_f1`; None counts the labels.

    Returns:
        A score for each name: matthews, pearson, spearman in [-1, 1], all others in [0, 1].

    Raises:
        ConfigError: a name is unknown.
        DataError: predictions and labels differ in number, are empty, or are not finite numbers;
            `f1` or a metric of PARTS meets a class other than 0 and 1; or the latter meets no
            questions.
    """
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise ConfigError(f"metric {unknown[0]!r}: unknown; known: {', '.join(KNOWN)}")
    predicted, true = np.asarray(predictions), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != true.shape or not len(true):
        raise DataError(
            f"metrics: found predictions of shape {list(predicted.shape)} and labels of shape "
            f"{list(true.shape)}, expected one of each for at least one row"
        )
    for what, values in (("predictions", predicted), ("labels", true)):
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            bad = next((v for v in values.tolist() if not _finite(v)), values.dtype)
            raise DataError(f"metrics: found {bad!r} in the {what}, expected finite numbers")
    return {
        name: float(METRICS[name](predicted, true, num_labels))
        if name in METRICS
        else _of_questions(name, predicted, true, questions, credit)
        for name in names
    }


def _of_questions(
    name: str,
    predicted: Array,
    true: Array,
    questions: npt.ArrayLike | None,
    credit: npt.ArrayLike | None,
) -> float:
    _require_two_classes(name, predicted, true)
    grouped = np.asarray([] if questions is None else questions)
    partial = true if credit is None else np.asarray(credit)
    if grouped.shape != true.shape or partial.shape != true.shape:
        raise DataError(
            f"{name}: found questions of shape {list(grouped.shape)} and credit of shape "
            f"{list(partial.shape)}, expected one of each for each of the {len(true)} rows"
        )
    above, below = parts(name, predicted, true, grouped, partial)
    return float(above.sum() / below.sum()) if below.sum() else 0.0


def _accuracy(predicted: Array, true: Array, num_labels: int | None) -> float:
    return float((predicted == true).mean())


def _f1(predicted: Array, true: Array, num_labels: int | None) -> float:
    from sklearn.metrics import f1_score

    _require_two_classes("f1", predicted, true)
    return float(f1_score(true, predicted, average="binary", pos_label=1, zero_division=0))


def _macro_f1(predicted: Array, true: Array, num_labels: int | None) -> float:
    from sklearn.metrics import f1_score

    classes = None if num_labels is None else list(range(num_labels))
    return float(f1_score(true, predicted, average="macro", labels=classes, zero_division=0))


def _matthews(predicted: Array, true: Array, num_labels: int | None) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return 0.0
    return float(matthews_corrcoef(true, predicted))


def _pearson(predicted: Array, true: Array, num_labels: int | None) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predicted, true)


def _spearman(predicted: Array, true: Array, num_labels: int | None) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predicted, true)


def _correlation(function: Callable[..., Any], predicted: Array, true: Array) -> float:
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant input; the value is still the best one
        value = float(function(predicted, true).statistic)
    return value if np.isfinite(value) else 0.0


def _require_two_classes(name: str, predicted: Array, true: Array) -> None:
    found = np.union1d(predicted, true).tolist()
    if not set(found) <= {0, 1}:
        raise DataError(f"{name}: found the classes {found}, expected 0 and 1; use macro_f1")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


METRICS: dict[str, Callable[[Array, Array, int | None], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
"""The metrics of rows, by name."""

KNOWN = tuple(dict.fromkeys((*METRICS, *PARTS)))
"""Names of all metrics."""
