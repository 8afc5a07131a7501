"""Metrics against values worked out by hand and against their definitions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from xpeft.errors import ConfigError, DataError
from xpeft.metrics import METRICS, compute

LABELS = [1, 1, 1, 0, 0, 0, 0, 1]
PREDICTIONS = [1, 1, 0, 0, 0, 1, 0, 0]  # 2 true and 1 false positive, 2 missed, 3 true negative


def test_classification_metrics_by_hand() -> None:
    scores = compute(["accuracy", "f1", "macro_f1", "matthews"], PREDICTIONS, LABELS)
    assert list(scores) == ["accuracy", "f1", "macro_f1", "matthews"]
    assert scores["accuracy"] == pytest.approx(5 / 8)
    f1_positive, f1_negative = 4 / 7, 6 / 9
    assert scores["f1"] == pytest.approx(f1_positive)
    assert scores["macro_f1"] == pytest.approx((f1_positive + f1_negative) / 2)
    assert scores["matthews"] == pytest.approx((2 * 3 - 1 * 2) / math.sqrt(3 * 4 * 4 * 5))
    assert all(type(value) is float for value in scores.values())


def test_correlations_by_definition() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=50)
    predictions = np.exp(labels) + 0.1 * rng.normal(size=50)
    scores = compute(["pearson", "spearman"], predictions, labels)
    assert scores["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    ranks = [values.argsort().argsort() for values in (predictions, labels)]
    assert scores["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert compute(["spearman"], np.exp(labels), labels)["spearman"] == pytest.approx(1.0)


def test_macro_f1_counts_absent_classes_as_zero_when_their_number_is_given() -> None:
    assert compute(["macro_f1"], [0, 1], [0, 1])["macro_f1"] == 1.0
    assert compute(["macro_f1"], [0, 1], [0, 1], num_labels=4)["macro_f1"] == 0.5


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_give_a_number_and_no_warning(name: str, constant: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = compute([name], [constant] * 8, LABELS)[name]
        same = compute([name], [constant] * 3, [constant] * 3)[name]
    expected = {
        "accuracy": 0.5,
        "f1": [0.0, 2 / 3][constant],
        "macro_f1": 1 / 3,
        "matthews": 0.0,
        "pearson": 0.0,
        "spearman": 0.0,
    }
    assert score == pytest.approx(expected[name])
    assert not math.isnan(same)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_of_one_row_or_nearly_constant_predictions_are_numbers(name: str) -> None:
    assert compute([name], [0.3], [1.0])[name] == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near = compute([name], [1.0, 1.0 + 1e-15, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4])[name]
    assert -1 <= near <= 1


def test_unknown_metric() -> None:
    with pytest.raises(ConfigError, match="metric 'bleu': unknown; known: accuracy, f1"):
        compute(["accuracy", "bleu"], [0], [0])


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([0, 1], [0], r"shape \[2\] and labels of shape \[1\]"),
        ([], [], "at least one row"),
        ([[0]], [[0]], r"shape \[1, 1\]"),
        ([0.5, float("nan")], [0.0, 1.0], "found nan in the predictions"),
        ([0.5, 1.0], [0.0, float("inf")], "found inf in the labels"),
        (["a", "b"], [0, 1], "found 'a' in the predictions"),
    ],
)
def test_bad_input(predictions: list[object], labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(["accuracy"], predictions, labels)  # type: ignore[arg-type]


def test_f1_is_for_two_classes() -> None:
    with pytest.raises(DataError, match="f1: found the classes"):
        compute(["f1"], [0, 1, 2], [0, 1, 2])
