"""Comparisons over examples: against sklearn and scipy, rows written out, and refusals."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import make_record
from scipy.stats import binomtest

from xpeft.data.prepare import prepare
from xpeft.data.prepared import load_prepared
from xpeft.data.sources import EmbeddedSource
from xpeft.data.specs import get_task
from xpeft.errors import DataError
from xpeft.examples import compare_task, draw_rows, mcnemar, score_draws, write_examples
from xpeft.io import read_json, write_json
from xpeft.metrics import compute
from xpeft.records import record_path, write_record
from xpeft.report.summary import make_summary
from xpeft.report.tables import make_tables
from xpeft.verify.checks import verify
from xpeft.verify.expected import update_expected
from xpeft.workflow import Plan

TASK = "embedded/sentiment"


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews", "pearson"])
def test_a_draw_is_scored_like_its_rows_written_out(metric: str) -> None:
    rng = np.random.default_rng(3)
    classes = 0 if metric == "pearson" else 2
    labels = rng.uniform(0, 5, 40) if not classes else rng.integers(0, 2, 40)
    predictions = labels + rng.normal(0, 1, 40) if not classes else rng.integers(0, 2, 40)
    weights = draw_rows(40, 5, seed=1)
    assert (weights.sum(axis=1) == 40).all()
    found = score_draws(predictions, labels, weights, metric, classes)
    for value, counts in zip(found, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(40), counts)
        assert value == pytest.approx(compute([metric], predictions[rows], labels[rows])[metric])


def test_constant_predictions_correlate_with_nothing() -> None:
    labels = np.arange(10.0)
    assert (
        score_draws(np.full(10, 2.5), labels, draw_rows(10, 3, 0), "pearson", 0).tolist()
        == [0.0] * 3
    )
    with pytest.raises(DataError, match="expected pearson"):
        score_draws(labels, labels, draw_rows(10, 3, 0), "spearman", 0)


def test_mcnemar_counts_the_rows_that_only_one_side_gets_right() -> None:
    labels = np.array([0, 0, 1, 1, 1, 0])
    found = mcnemar(np.array([0, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 0]), labels)
    assert (found["left_only"], found["right_only"]) == (3, 1)
    assert found["p_value"] == pytest.approx(binomtest(3, 4).pvalue)
    assert mcnemar(labels, labels, labels)["p_value"] == 1.0


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    """Prepared embedded sentences, and made-up records of two arms scored on them."""
    spec = get_task(*TASK.split("/"))
    source = EmbeddedSource(train_rows=40, validation_rows=200, noise=0.05, seed=0)
    prepare(spec, source, tmp_path / "data" / TASK)
    data = load_prepared(tmp_path / "data" / TASK)
    for arm, wrong in (("single_adapter", 20), ("head_only", 60)):
        for seed in (0, 1):
            record: dict[str, Any] = make_record(TASK, arm, seed, tier="small", rows=200)
            labels = data.validation.labels
            rng = np.random.default_rng(seed)
            predicted = labels.copy()
            flipped = rng.choice(200, wrong, replace=False)
            predicted[flipped] = 1 - predicted[flipped]
            result = record["result"]
            result["predictions"] = predicted.tolist()
            result["confusion"] = [
                [int(((labels == t) & (predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)
            ]
            result["scores"] = compute(["accuracy"], predicted, labels)
            result["score"] = result["scores"]["accuracy"]
            record["run"]["data_sha256"] = dict(data.meta.sha256)
            write_record(tmp_path / "records" / record_path(record["cell"]), record)
    return tmp_path


def test_written_comparisons(tier: Path) -> None:
    found = write_examples(tier / "records", tier / "data", tier / "examples.json")
    assert read_json(tier / "examples.json") == found
    assert (found["tier"], found["absent"]) == ("small", [])
    (task,) = found["tasks"]
    pairs = {(pair["left"], pair["right"]): pair for pair in task["pairs"]}
    assert set(pairs) == {("head_only", "single_adapter"), ("single_adapter", "head_only")}
    pair = pairs["single_adapter", "head_only"]
    assert pair["mean"] == pytest.approx(0.2)  # 60 wrong against 20, of 200
    assert 0.1 < pair["low"] < 0.2 < pair["high"] < 0.3
    assert [test["seed"] for test in pair["mcnemar"]] == [0, 1]
    assert all(test["p_value"] < 1e-3 for test in pair["mcnemar"])
    other = pairs["head_only", "single_adapter"]
    assert (other["low"], other["high"]) == pytest.approx((-pair["high"], -pair["low"]))


def test_an_untrained_head_is_compared_but_is_no_yardstick(tier: Path) -> None:
    for seed in (0, 1):
        record = read_json(tier / f"records/{TASK}/single_adapter/seed{seed}.json")
        record["cell"]["arm"] = "adapter-seeded"
        record["result"]["settings"]["head"] = "seeded"
        write_record(tier / "records" / record_path(record["cell"]), record)
    found = write_examples(tier / "records", tier / "data", tier / "examples.json")
    (task,) = found["tasks"]
    pairs = {(pair["left"], pair["right"]) for pair in task["pairs"]}
    assert ("adapter-seeded", "single_adapter") in pairs
    assert "adapter-seeded" not in {right for _, right in pairs}
    for arm in make_summary(tier / "records")["arms"]:
        compared = {found["arm"] for found in arm["versus"].values()}
        assert compared == {"single_adapter", "head_only"} - {arm["arm"]}


def test_the_summary_and_its_table_hold_them(tier: Path) -> None:
    write_examples(tier / "records", tier / "data", tier / "examples.json")
    summary = make_summary(tier / "records", examples=tier / "examples.json")
    arms = {arm["arm"]: arm for arm in summary["arms"]}
    assert arms["head_only"]["versus_examples"]["single_adapter"]["mean"] == pytest.approx(-0.2)
    table = make_tables(summary, None, None)["examples"]
    assert {(row["arm"], row["versus"]) for row in table.data} == {
        ("head_only", "single_adapter"),
        ("single_adapter", "head_only"),
    }
    assert make_summary(tier / "records")["arms"][0]["versus_examples"] == {}


def test_labels_of_other_rows_are_refused(tier: Path) -> None:
    spec = get_task(*TASK.split("/"))
    source = EmbeddedSource(train_rows=40, validation_rows=200, noise=0.05, seed=1)
    prepare(spec, source, tier / "data" / TASK)
    with pytest.raises(DataError, match=r"found validation rows of sha256 .*/head_only, seed 0"):
        write_examples(tier / "records", tier / "data", tier / "examples.json")
    assert not (tier / "examples.json").exists()


def test_a_task_without_data_is_named(tier: Path) -> None:
    found = write_examples(tier / "records", tier / "nowhere", tier / "examples.json")
    assert (found["tasks"], found["absent"]) == ([], [TASK])


def test_equal_methods_differ_on_no_draw() -> None:
    records = [make_record("glue/sst2", "single_adapter", seed) for seed in (0, 1)]
    head = [
        make_record("glue/sst2", "single_adapter", seed)
        | {"cell": {**records[0]["cell"], "arm": "head_only", "method": "head_only", "seed": seed}}
        for seed in (0, 1)
    ]
    labels = np.random.default_rng(0).integers(0, 2, 872)
    arms: Any = {"single_adapter": records, "head_only": head}
    for pair in compare_task("glue/sst2", arms, labels)["pairs"]:
        assert (pair["mean"], pair["low"], pair["high"]) == (0, 0, 0)


def test_questions_are_drawn_whole() -> None:
    rng = np.random.default_rng(5)
    arms: Any = {}
    for arm, share in (("single_adapter", 0.9), ("head_only", 0.6)):
        record = make_record("glue/sst2", arm)
        above = (rng.random(100) < share).astype(float)
        record["result"]["questions"] = {"above": above.tolist(), "below": [1.0] * 100}
        arms[arm] = [record]
    found = compare_task("glue/sst2", arms, np.zeros(872, dtype=int))
    assert found["units"] == 100
    pair = next(pair for pair in found["pairs"] if pair["left"] == "single_adapter")
    sums = [np.array(arms[arm][0]["result"]["questions"]["above"]) for arm in arms]
    gap = sums[0] - sums[1]
    assert pair["mean"] == pytest.approx(gap.mean())
    half = 1.96 * gap.std() / 10
    assert (pair["low"], pair["high"]) == pytest.approx(
        (gap.mean() - half, gap.mean() + half), abs=0.02
    )
    assert pair["mcnemar"] == []


def test_verification_binds_them_to_the_records_and_makes_them_again(tier: Path) -> None:
    write_examples(tier / "records", tier / "data", tier / "examples.json")
    arms = {name: {"method": name} for name in ("single_adapter", "head_only")}
    config = {"tier": "small", "tasks": [TASK], "data": {"source": "embedded"}, "arms": arms}
    encoder = {"source": "local", "path": "none", "name": "all-MiniLM-L6-v2"}
    plan = Plan.make(config | {"encoder": encoder}, "config.yaml")
    account = {"encoder": "bert-base-uncased", "adapters": 100, "k": 50, "classes": 15}

    def lines() -> list[str]:
        update_expected(tier, account)  # as somebody does who only wants it to be quiet
        found = verify(plan, tier, tier / "none")
        assert found.checked["examples"] == 1
        return [line for line in found.differs if line.startswith("examples.json")]

    assert lines() == []
    kept = read_json(tier / "examples.json")
    changed = copy.deepcopy(kept)
    changed["tasks"][0]["pairs"][0]["mean"] += 0.01
    write_json(tier / "examples.json", changed)
    (line,) = lines()
    assert f"examples.json: {TASK}.pairs[0].mean: found " in line
    write_json(tier / "examples.json", kept)
    path = tier / f"records/{TASK}/head_only/seed1.json"
    record = read_json(path)
    write_json(path, record | {"run": record["run"] | {"wall_seconds": 1.0}})
    (line,) = lines()
    assert f"{TASK}: found records/{TASK}/head_only/seed1.json of sha256 " in line
    assert line.endswith("run xpeft examples again")
    write_examples(tier / "records", tier / "data", tier / "examples.json")
    whole = read_json(tier / "examples.json")
    write_json(tier / "examples.json", whole | {"tasks": []})
    assert lines() == [f"examples.json: found nothing on {TASK}; run xpeft examples again"]
    write_json(tier / "examples.json", whole)
    other = EmbeddedSource(train_rows=40, validation_rows=200, noise=0.05, seed=1)
    shutil.rmtree(tier / "data")
    prepare(get_task(*TASK.split("/")), other, tier / "data" / TASK)
    (line,) = lines()
    assert "found validation rows of sha256 " in line
    shutil.rmtree(tier / "data")
    assert lines() == []
    found = verify(plan, tier, tier / "none")
    assert any(f"not made again for {TASK}" in line for line in found.not_checked)
