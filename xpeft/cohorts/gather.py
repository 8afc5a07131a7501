"""From the parts of a job to its records, one a seed.

The primary score is the mean over profiles of their accuracy: a person counts as one, whatever the
number of rows. Accuracy and macro-F1 over all rows stand beside it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpeft import records
from xpeft.cells import cell_of
from xpeft.cohorts.training import PART_SCHEMA
from xpeft.data.cohort import load_cohort
from xpeft.errors import RecordError
from xpeft.ids import id_text
from xpeft.io import read_json
from xpeft.job import CohortJob
from xpeft.metrics import compute

PRIMARY = "profile_accuracy"
"""Mean over profiles of the share of test rows that are right."""


def gather(
    job: CohortJob,
    data_dir: str | os.PathLike[str],
    parts: Sequence[str | os.PathLike[str]],
    records_dir: str | os.PathLike[str],
) -> None:
    """Write `seed<k>.json` for each seed of a job.

    Args:
        job: what was trained.
        data_dir: prepared folder of the cohort.
        parts: files of all parts of all folds.
        records_dir: folder of the job's records.

    Raises:
        RecordError: a part is of another job, or targets are missing or there twice.
    """
    cohort = load_cohort(data_dir)
    found = [_read(path, job) for path in parts]
    names = [name for part in found for name in part["profiles"]]
    targets = [int(target) for fold in cohort.folds for target in cohort.targets(fold)]
    wanted = sorted(id_text(cohort.sheet[target].profile) for target in targets)
    if sorted(names) != wanted:
        raise RecordError(
            f"{records_dir}: found parts with {len(names)} targets ({len(set(names))} different), "
            f"expected each of the {len(wanted)} targets of the sheet once; name all parts"
        )
    order = [names.index(name) for name in wanted]

    def ordered(values: list[Any]) -> list[Any]:
        return [values[place] for place in order]

    def joined(field: str) -> list[Any]:
        return ordered([value for part in found for value in part[field]])

    labels, train, usual = joined("labels"), joined("train"), joined("usual")
    lines = {cohort.sheet[target].profile: cohort.sheet[target] for target in targets}
    sheet = [lines[int(name, 16)] for name in wanted]
    classes = len(cohort.meta.labels)
    truth = np.concatenate([np.asarray(of, dtype=np.int64) for of in labels])
    constant = [
        np.full(len(of), say, dtype=np.int64) for of, say in zip(labels, usual, strict=True)
    ]
    for seed in job.seeds:
        said = ordered([row for part in found for row in part["predictions"][str(seed)]])
        predicted = [np.asarray(of, dtype=np.int64) for of in said]
        flat = np.concatenate(predicted)
        scores = _scores(cohort.meta.metrics, predicted, labels, classes)
        confusion = np.bincount(truth * classes + flat, minlength=classes * classes)
        record: Any = {
            "schema": records.SCHEMA,
            "cell": cell_of(job, seed),
            "result": {
                "primary": PRIMARY,
                "score": scores[PRIMARY],
                "scores": scores,
                "rows": {
                    "train": sum(part["rows"] for part in found),
                    "validation": len(truth),
                },
                "best": (cohort.meta.best or {}).get("personal"),
                "majority": _scores(cohort.meta.metrics, constant, labels, classes),
                "constant": len(set(flat.tolist())) == 1,
                "confusion": confusion.reshape(classes, classes).tolist(),
                "predictions": flat.tolist(),
                "loss": _loss(found, seed),
                "steps": round(np.average([p["steps"] for p in found], weights=_weights(found))),
                "parameters": found[0]["parameters"],
                "bytes": found[0]["bytes"],
                "settings": {
                    **found[0]["settings"],
                    "scope": job.scope,
                    "base": job.base,
                    "head": job.head,
                },
                "state_sha256": _digest([part["state_sha256"][str(seed)] for part in found]),
                "profiles": {
                    "id": wanted,
                    "train": train,
                    "test": [len(of) for of in labels],
                    "correct": _correct(predicted, labels),
                    "usual": _correct(constant, labels),
                    "top": [line.top_label for line in sheet],
                    "top_share": [line.top_share for line in sheet],
                    **({"masks": joined("masks")} if _first(job, seed, found) else {}),
                },
            },
            "run": _run([part["run"] for part in found]),
        }
        records.write_record(Path(records_dir, f"seed{seed}.json"), record)


def _first(job: CohortJob, seed: int, parts: list[dict[str, Any]]) -> bool:
    """Whether a seed's record holds the masks: that of the first seed, if masks are hard."""
    return seed == job.seeds[0] and all("masks" in part for part in parts)


def _read(path: str | os.PathLike[str], job: CohortJob) -> dict[str, Any]:
    value: dict[str, Any] = read_json(path)
    if (
        not isinstance(value, dict)
        or value.get("schema") != PART_SCHEMA
        or value.get("job") != job.config_hash()
    ):
        raise RecordError(
            f"{path}: found a part of another job or version, expected one of "
            f"{job.arm} on {job.cohort}; train it again"
        )
    missing = [seed for seed in job.seeds if str(seed) not in value["predictions"]]
    if missing:
        raise RecordError(f"{path}: found no predictions of seed {missing[0]}; train it again")
    return value


def _scores(
    metrics: Sequence[str],
    predicted: list[Any],
    labels: list[Any],
    classes: int,
) -> dict[str, float]:
    flat, truth = np.concatenate(predicted), np.concatenate([np.asarray(of) for of in labels])
    each = [hits / len(of) for hits, of in zip(_correct(predicted, labels), labels, strict=True)]
    return {PRIMARY: float(np.mean(each)), **compute(metrics, flat, truth, num_labels=classes)}


def _correct(predicted: list[Any], labels: list[Any]) -> list[int]:
    return [
        int((np.asarray(p) == np.asarray(t)).sum()) for p, t in zip(predicted, labels, strict=True)
    ]


def _weights(parts: list[dict[str, Any]]) -> list[int]:
    return [len(part["profiles"]) for part in parts]


def _loss(parts: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The mean curve of all profiles; parts of short training may have fewer points."""
    curves = [part["losses"][str(seed)] for part in parts]
    points = min(map(len, curves))
    cut = np.array([curve[-points:] for curve in curves])
    mean = np.average(cut, axis=0, weights=_weights(parts))
    steps = np.average([part["steps"] for part in parts], weights=_weights(parts))
    places = np.maximum(1, np.round(np.arange(1, points + 1) / points * steps))
    return {
        "step": places.astype(int).tolist(),
        "loss": [float(f"{value:.6g}") for value in mean],
    }


def _digest(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts' runs as one: times add up, memory is the largest."""
    merged = dict(runs[-1])
    merged["wall_seconds"] = round(sum(run["wall_seconds"] for run in runs), 3)
    peaks = [run["peak_memory_bytes"] for run in runs if run["peak_memory_bytes"] is not None]
    merged["peak_memory_bytes"] = max(peaks) if peaks else None
    digests = {run["bank_sha256"] for run in runs if run["bank_sha256"]}
    if len(digests) > 1:  # a bank a fold
        merged["bank_sha256"] = _digest(sorted(digests))
    return merged
