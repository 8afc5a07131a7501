"""Two methods on the same validation examples: would other sentences of this kind decide alike?

Records hold predictions and no labels, so this step needs the prepared data beside them. For each
arm and each yardstick of its task it compares the models of the same seeds, example by example:

    bootstrap   validation rows are drawn again, the same rows for both methods and for all seeds;
                the interval is that of the difference of the primary scores, mean over seeds.
                Where rows are answers of questions, whole questions are drawn.
    McNemar     exact test, seed by seed, of the rows that one of the two gets right and the other
                does not (Dietterich, Neural Computation 1998); for classes whose rows stand alone

It says nothing about other seeds: the trained models are taken as they are.

The file:

    schema, tier
    tasks    one entry a task: task, metric, units (number of rows or questions), and `pairs`: left,
             right (arms), seeds, mean, low, high (fractions) and `mcnemar` (seed, left_only,
             right_only, p_value); `records`: sha256 of the task's records, by path below `records`
    absent   tasks whose prepared data are not there
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xpeft import stats
from xpeft.data.prepared import load_prepared
from xpeft.errors import DataError
from xpeft.hashing import derive_key
from xpeft.io import sha256_file, write_json
from xpeft.job import CHEAP_HEADS
from xpeft.records import Record, Result, cell_paths, read_index, read_records
from xpeft.report.summary import YARDSTICKS

SCHEMA = 1

DRAWS = 2000

Array = npt.NDArray[Any]
Json = dict[str, Any]


def write_examples(
    records_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    cells: str | os.PathLike[str] | None = None,
) -> Json:
    """Compare all arms of a tier with the yardsticks, and write the file.

    Args:
        records_dir: `<tier>/records`.
        data_dir: folder of prepared folders `<suite>/<task>`.
        out: the file.
        cells: index of the grid, as for `xpeft.report.summary.write_summary`; None takes all.

    Returns:
        What was written.

    Raises:
        DataError: prepared data are damaged, or not those that the records were scored on.
        RecordError: a record is invalid.
    """
    records = read_records(records_dir)
    if cells is not None:
        kept = set(cell_paths(read_index(cells)))
        records = {path: record for path, record in records.items() if path in kept}
    tasks, absent = [], []
    for task in tasks_of(records):
        if not Path(data_dir, task, "meta.json").is_file():
            absent.append(task)
            continue
        hashes = {path: sha256_file(Path(records_dir, path)) for path in paths_of(task, records)}
        tasks.append(compare_from(task, records, data_dir) | {"records": hashes})
    tiers = sorted({record["cell"]["tier"] for record in records.values()})
    found = {"schema": SCHEMA, "tier": "".join(tiers), "tasks": tasks, "absent": absent}
    write_json(out, found)
    return found


def tasks_of(records: Mapping[str, Record]) -> list[str]:
    """The tasks of records, `suite/task`; cohorts are left out, as they are paired by profile."""
    return list(_by_task(records))


def paths_of(task: str, records: Mapping[str, Record]) -> list[str]:
    """The records of a task, by path."""
    return [path for path in records if path.startswith(f"{task}/")]


def compare_from(
    task: str, records: Mapping[str, Record], data_dir: str | os.PathLike[str]
) -> Json:
    """Compare the arms of a task on its prepared data.

    Raises:
        DataError: the data are missing, damaged, or not those that the records were scored on.
    """
    folder, arms = Path(data_dir, task), _by_task(records)[task]
    prepared = load_prepared(folder)
    _require_same(prepared.meta.sha256["validation"], task, arms, folder)
    return compare_task(task, arms, prepared.validation.labels)


def compare_task(task: str, arms: Mapping[str, list[Record]], labels: Array) -> Json:
    """All arms of a task against its yardsticks.

    Args:
        task: `suite/task`.
        arms: records of the seeds of each arm.
        labels: [R] of the validation rows.
    """
    first = next(iter(arms.values()))[0]["result"]
    units = len(first["questions"]["above"]) if "questions" in first else len(labels)
    drawn = draw_rows(units, DRAWS, derive_key("examples", task))
    weights = np.concatenate([np.ones((1, units)), drawn])  # all rows as they are, then the draws
    scores = {
        name: {record["cell"]["seed"]: _scores(record["result"], labels, weights) for record in own}
        for name, own in arms.items()
    }
    predictions = {name: _predictions(records) for name, records in arms.items()}
    alone = first["confusion"] is not None and "questions" not in first
    pairs = []
    for left, right in _pairs(arms):
        seeds = sorted(set(scores[left]) & set(scores[right]))
        if not seeds:
            continue
        gaps = np.mean([scores[left][seed] - scores[right][seed] for seed in seeds], axis=0)
        low, high = stats.percentiles(gaps[1:])
        tests = [
            {"seed": seed} | mcnemar(predictions[left][seed], predictions[right][seed], labels)
            for seed in seeds
            if alone
        ]
        pairs.append(
            {
                "left": left,
                "right": right,
                "seeds": seeds,
                "mean": float(gaps[0]),
                "low": float(low),
                "high": float(high),
                "mcnemar": tests,
            }
        )
    return {"task": task, "metric": first["primary"], "units": units, "pairs": pairs}


def _scores(result: Result, labels: Array, weights: Array) -> Array:
    """The score of a model for each row of weights [draws, rows or questions]: [draws]."""
    if "questions" in result:
        questions = result["questions"]
        above, below = (np.array(values) for values in (questions["above"], questions["below"]))
        return stats.ratio(weights @ above, weights @ below)
    classes = len(result["confusion"] or ())
    predictions = np.asarray(result["predictions"])
    return score_draws(predictions, labels, weights, result["primary"], classes)


def draw_rows(rows: int, draws: int, seed: int) -> Array:
    """How often each of R rows (or questions) is drawn, [draws, R]; a draw has R of them."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(rows, np.full(rows, 1 / rows), size=draws).astype(np.float64)


def score_draws(
    predictions: Array, labels: Array, weights: Array, metric: str, classes: int
) -> Array:
    """The score of each draw, [draws].

    Args:
        predictions, labels: [R] class codes, or numbers for regression.
        weights: [draws, R] how often a row counts.
        metric: accuracy, f1, macro_f1, matthews or pearson.
        classes: number of classes; 0 for regression.

    Raises:
        DataError: the metric has no such form.
    """
    if classes:
        cells = labels.astype(np.int64) * classes + predictions.astype(np.int64)
        counts = weights @ np.eye(classes**2)[cells]
        return stats.confusion_scores(counts.reshape(-1, classes, classes), metric)
    if metric != "pearson":
        raise DataError(f"metric {metric}: found it for a regression, expected pearson")
    return _pearson(predictions.astype(np.float64), labels.astype(np.float64), weights)


def mcnemar(left: Array, right: Array, labels: Array) -> Json:
    """Rows that only one side gets right, and the exact two-sided p-value of no difference."""
    from scipy.stats import binomtest

    left_only = int(((left == labels) & (right != labels)).sum())
    right_only = int(((left != labels) & (right == labels)).sum())
    differing = left_only + right_only
    p_value = float(binomtest(left_only, differing).pvalue) if differing else 1.0
    return {"left_only": left_only, "right_only": right_only, "p_value": p_value}


def _pearson(x: Array, y: Array, weights: Array) -> Array:
    """Weighted correlation of each draw; 0 where a side is constant."""
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    spread = (weights @ (x * x) / total - mean_x**2) * (weights @ (y * y) / total - mean_y**2)
    spread = np.sqrt(np.maximum(spread, 0.0))
    found: Array = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    return found


def _by_task(records: Mapping[str, Record]) -> dict[str, dict[str, list[Record]]]:
    """Records by task and arm, without cohorts."""
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records.values():
        cell = record["cell"]
        if "profiles" not in record["result"]:
            arms = found.setdefault(f"{cell['suite']}/{cell['task']}", {})
            arms.setdefault(cell["arm"], []).append(record)
    return found


def _predictions(records: list[Record]) -> dict[int, Array]:
    """[R] for each seed."""
    return {
        record["cell"]["seed"]: np.asarray(record["result"]["predictions"]) for record in records
    }


def _pairs(arms: Mapping[str, list[Record]]) -> Iterator[tuple[str, str]]:
    """Each arm with each yardstick: of the main grid, with a head in full."""
    for method in YARDSTICKS:
        for right, records in arms.items():
            cell, settings = records[0]["cell"], records[0]["result"]["settings"]
            plain = not cell["variant"] and settings.get("head") not in CHEAP_HEADS
            if cell["method"] == method and plain:
                yield from ((left, right) for left in arms if left != right)


def _require_same(sha256: str, task: str, arms: Mapping[str, list[Record]], folder: Path) -> None:
    """Refuse labels of other rows than those that were scored."""
    for name, records in arms.items():
        for record in records:
            expected = record["run"]["data_sha256"].get("validation")
            if expected != sha256:
                seed = record["cell"]["seed"]
                raise DataError(
                    f"{folder}: found validation rows of sha256 {sha256}, expected {expected} "
                    f"as in the record of {task}/{name}, seed {seed}; prepare the data again"
                )
