"""Made-up records for the tests of summary, claims and report. Test data: nothing was trained.

Scores are what a small truth table says plus noise from a seeded generator, so that verdicts and
figures have something to show. The texts "made up for tests" in device and git keep a report
rendered from them from being taken for evidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xpeft.claims import write_claims
from xpeft.examples import compare_task
from xpeft.io import write_json
from xpeft.metrics import compute
from xpeft.records import read_records, record_path, write_record
from xpeft.report.summary import write_summary

ARMS: dict[str, dict[str, Any]] = {
    "head_only": {"method": "head_only"},
    "single_adapter": {"method": "single_adapter"},
    "x_peft-soft-n100": {"method": "x_peft", "mask": "soft", "bank": "random", "n": 100},
    "x_peft-hard-n100-k50": {
        "method": "x_peft",
        "mask": "hard",
        "bank": "random",
        "n": 100,
        "k": 50,
    },
}

MAIN = tuple(ARMS)
"""The arms of a small main grid; MORE are those of a larger one."""

for _n in (150, 200, 400, 800):
    ARMS[f"x_peft-soft-n{_n}"] = {"method": "x_peft", "mask": "soft", "bank": "random", "n": _n}
for _n in (150, 200, 400, 800):
    ARMS[f"x_peft-hard-n{_n}-k{_n // 2}"] = {
        "method": "x_peft", "mask": "hard", "bank": "random", "n": _n, "k": _n // 2,
    }  # fmt: skip
ARMS["full"] = {"method": "full"}
MORE = tuple(ARMS)

PEERS = {
    # numbers of a peer on MiniLM, and how much more it errs than an adapter
    "lora": (73_728, 0.002),
    "ia3": (16_128, 0.02),
    "vera": (7_680, 0.015),
    "vblora": (34_560, 0.01),
    "unilora": (256, 0.03),
    "prompt_tuning": (7_680, 0.05),
    "bitfit": (25_728, -0.002),
}
for _name in PEERS:
    ARMS[_name] = {"method": _name}
TRAINED = ("x_peft-soft-n100-trained", "x_peft-hard-n100-k50-trained")
for _name in TRAINED:
    ARMS[_name] = ARMS[_name.removesuffix("-trained")] | {"bank": "trained"}
WIDE = (*MAIN, "x_peft-soft-n400", "x_peft-hard-n400-k200", *TRAINED, "full", *PEERS)
"""All methods, as a comparison with the peers has them."""

_ERROR = {"head_only": 0, "single_adapter": 1, "soft": 2, "hard": 3, "full": 1}
_ERROR |= dict.fromkeys(PEERS, 1)

TASKS: dict[str, dict[str, Any]] = {
    # error rate of (head, adapter, soft, hard), rows, share of class 1, metrics
    "glue/cola": {"errors": (0.31, 0.24, 0.25, 0.28), "rows": 1043, "share": 0.69},
    "glue/sst2": {"errors": (0.20, 0.14, 0.15, 0.17), "rows": 872, "share": 0.51},
    "glue/mrpc": {"errors": (0.28, 0.21, 0.22, 0.24), "rows": 408, "share": 0.68},
    "glue/stsb": {"errors": (0.50, 0.35, 0.36, 0.42), "rows": 1500, "share": None},
    "glue/rte": {"errors": (0.43, 0.38, 0.39, 0.40), "rows": 277, "share": 0.47},
    "glue/wnli": {"errors": (0.44, 0.44, 0.44, 0.44), "rows": 71, "share": 0.56},
    "embedded/sentiment": {"errors": (0.25, 0.08, 0.09, 0.10), "rows": 400, "share": 0.5},
    "embedded/entailment": {"errors": (0.33, 0.20, 0.22, 0.24), "rows": 400, "share": 0.5},
}

METRICS = {
    "cola": ("matthews", "accuracy"),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
}

SMALL = tuple(name for name in TASKS if name.startswith("glue/"))
QUICK = tuple(name for name in TASKS if name.startswith("embedded/"))


def make_record(
    task: str = "glue/sst2",
    arm: str = "x_peft-hard-n100-k50",
    seed: int = 0,
    *,
    tier: str = "small",
    variant: str = "",
    error: float | None = None,
    rows: int | None = None,
) -> dict[str, Any]:
    """One valid record.

    Args:
        error: error rate (noise for regression) instead of that of the truth table.
        rows: validation rows instead of those of the task.
        variant: makes it a record of an ablation; the arm's name gets it as a suffix.
    """
    suite, name = task.split("/")
    truth = TASKS[task]
    rows = rows or truth["rows"]
    fields = ARMS[arm]
    if error is None:
        error = truth["errors"][_ERROR[fields.get("mask") or fields["method"]]]
        error -= 0.01 * ((fields.get("n") or 100) > 100)
        error += PEERS[fields["method"]][1] if fields["method"] in PEERS else 0
    # The rows are the task's; mistakes are drawn for each cell.
    labels = make_labels(task, rows)
    rng = np.random.default_rng([seed, *map(ord, task + arm + variant)])
    metrics = METRICS.get(name, ("accuracy",))
    predictions: Any
    if truth["share"] is None:
        predictions = labels + rng.normal(0, 5 * error, rows)
        predictions = np.array([float(f"{value:.6g}") for value in predictions])
        confusion, majority = None, dict.fromkeys(metrics, 0.0)
    else:
        if name == "wnli":
            predictions = np.full(rows, 1)
        else:
            wrong = rng.random(rows) < error + rng.normal(0, 0.006)
            predictions = np.where(wrong, 1 - labels, labels)
        confusion = [
            [int(((labels == true) & (predictions == code)).sum()) for code in (0, 1)]
            for true in (0, 1)
        ]
        majority = compute(metrics, np.full(rows, int(truth["share"] > 0.5)), labels)
    scores = compute(metrics, predictions, labels)
    parameters = _parameters(fields)
    stored = {part: 4 * count for part, count in parameters.items()}
    if fields.get("mask") == "hard":
        stored["masks"] = 2 * 6 * -(-fields["n"] // 8)
    for counts in (parameters, stored):
        counts["total"] = sum(counts.values())
    steps = np.arange(10, 310, 10)
    loss = (0.69 * np.exp(-steps / 120) + 2 * error * (1 - np.exp(-steps / 120))) + rng.normal(
        0, 0.01, len(steps)
    )
    return {
        "schema": 1,
        "cell": {
            "tier": tier,
            "suite": suite,
            "task": name,
            "arm": f"{arm}-{variant.replace(' ', '')}" if variant else arm,
            "method": fields["method"],
            "mask": fields.get("mask"),
            "bank": fields.get("bank"),
            "n": fields.get("n"),
            "k": fields.get("k"),
            "variant": variant,
            "seed": seed,
        },
        "result": {
            "primary": metrics[0],
            "score": scores[metrics[0]],
            "scores": scores,
            "rows": {"train": 2000, "validation": rows},
            "best": 0.95 if suite == "embedded" else None,
            "majority": majority,
            "constant": bool(np.ptp(predictions) == 0),
            "confusion": confusion,
            "predictions": predictions.tolist(),
            "loss": {"step": steps.tolist(), "loss": [round(float(x), 6) for x in loss]},
            "steps": 300,
            "parameters": parameters,
            "bytes": stored,
            "settings": {"lr": 0.01, "head_lr": 0.001},
            "state_sha256": "0" * 64,
        },
        "run": {
            "wall_seconds": 12.5,
            "rows_per_second": 233.0,
            "encoder_share": 0.93,
            "peak_memory_bytes": 500_000_000,
            "device": "cpu",
            "processor": "made up for tests",
            "threads": 2,
            "dtype": "float32",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.24.0"},
            "git": "0000000 (made up for tests)",
            "config_sha256": "1" * 64,
            "data_sha256": {"train": "2" * 64, "validation": "3" * 64},
            "encoder": {"name": "all-MiniLM-L6-v2", "sha256": "4" * 64},
            "bank_sha256": "5" * 64 if fields.get("bank") else None,
            "finished": "2026-01-01T00:00:00+00:00",
        },
    }


def make_tuning(task: str, arm: str) -> dict[str, Any]:
    """The tuning file of a job."""
    rng = np.random.default_rng([*map(ord, task + arm)])
    scores = (0.7 + 0.05 * rng.random(4)).round(4).tolist()
    return {
        "schema": 1,
        "job": f"{task}/{arm}",
        "split": "held-out 20% of 2000 training rows",
        "primary": METRICS.get(task.split("/")[1], ("accuracy",))[0],
        "trials": [
            {"settings": {"lr": lr, "head_lr": 0.001}, "loss": round(1 - score, 4), "score": score}
            for lr, score in zip((0.001, 0.003, 0.01, 0.03), scores, strict=True)
        ],
        "chosen": int(np.argmax(scores)),
        "run": {"wall_seconds": 9.0},
    }


def make_labels(task: str, rows: int) -> Any:
    """The labels of a task's validation rows, the same for all its records."""
    rng, share = np.random.default_rng(sum(map(ord, task))), TASKS[task]["share"]
    if share is None:
        return rng.uniform(0, 5, rows)
    labels = (np.arange(rows) < round(share * rows)).astype(int)
    rng.shuffle(labels)
    return labels


def make_examples(folder: Path) -> Path:
    """Write the comparisons over examples of the records of a tier; returns the file."""
    arms: dict[str, dict[str, list[Any]]] = {}
    for record in read_records(folder / "records").values():
        cell = record["cell"]
        task = arms.setdefault(f"{cell['suite']}/{cell['task']}", {})
        task.setdefault(cell["arm"], []).append(record)
    tasks = [
        compare_task(task, found, make_labels(task, TASKS[task]["rows"]))
        for task, found in arms.items()
    ]
    write_json(folder / "examples.json", {"tasks": tasks})
    return folder / "examples.json"


def make_tier(
    folder: Path,
    *,
    tier: str = "small",
    tasks: tuple[str, ...] = SMALL,
    arms: tuple[str, ...] = MAIN,
    seeds: int = 3,
    variants: tuple[str, ...] = (),
) -> None:
    """Fill `folder`/records and `folder`/tuning with a whole main grid and, if asked, ablations."""
    for task in tasks:
        for arm in arms:
            write_json(folder / "tuning" / task / f"{arm}.json", make_tuning(task, arm))
            for seed in range(seeds):
                record = make_record(task, arm, seed, tier=tier)
                write_record(folder / "records" / record_path(record["cell"]), record)
    for index, variant in enumerate(variants):
        for seed in range(seeds):
            record = make_record(
                tasks[0], "x_peft-hard-n100-k50", seed, tier=tier, variant=variant,
                error=0.28 + 0.01 * index,
            )  # fmt: skip
            write_record(folder / "records" / record_path(record["cell"]), record)


COHORT_ARMS: dict[str, dict[str, Any]] = {
    # what an arm adds to the accuracy, in the factory's world, beside its identity
    "shared-head": {"method": "head_only", "scope": "cohort", "gain": 0.0},
    "shared-adapter": {"method": "single_adapter", "scope": "cohort", "gain": 0.03},
    "base": {"method": "head_only", "base": "adapter", "head": "shared", "gain": 0.02},
    "bias": {"method": "head_only", "base": "adapter", "head": "shared+bias", "gain": 0.04},
    "head_only": {"method": "head_only", "gain": -0.02},
    "single_adapter": {"method": "single_adapter", "gain": 0.0},
    "hard-random": {
        "method": "x_peft", "mask": "hard", "bank": "random", "n": 40, "k": 20, "gain": 0.01,
    },
    "soft-random": {"method": "x_peft", "mask": "soft", "bank": "random", "n": 40, "gain": 0.02},
    "hard-warm": {
        "method": "x_peft", "mask": "hard", "bank": "warm", "n": 40, "k": 20,
        "base": "adapter", "head": "shared+bias", "gain": 0.06,
    },
}  # fmt: skip
"""Arms on cohorts."""

BLOCKS = 6


def make_people(
    cohort: str, count: int = 40, labels: tuple[str, ...] = ("calm", "wild"), alike: bool = False
) -> dict[str, Any]:
    """Who the profiles of a cohort are: ids, rows, main labels and the labels of their test rows.

    Args:
        alike: whether all have the same number of rows, as generated authors have.
    """
    rng = np.random.default_rng(sum(map(ord, cohort)))
    ids = sorted(f"{value:016x}" for value in rng.integers(0, 2**63, count, dtype=np.uint64))
    train = np.full(count, 32) if alike else np.exp(rng.uniform(2.5, 5.8, count)).astype(int)
    test = np.full(count, 16) if alike else np.maximum(5, train // 4)
    top = rng.integers(0, len(labels), count)
    share = np.where(np.arange(count) % 8 == 3, 0.95, rng.uniform(1 / len(labels), 0.85, count))
    truth = []
    for rows, own, part in zip(test, top, share, strict=True):
        other = rng.integers(0, len(labels), rows)
        truth.append(np.where(rng.random(rows) < part, own, other).astype(int))
    return {
        "id": ids,
        "train": [int(rows) for rows in train],
        "test": [int(rows) for rows in test],
        "top": [int(own) for own in top],
        "top_share": [round(float(part), 4) for part in share],
        "truth": truth,
        "labels": labels,
    }


def make_cohort_record(
    people: dict[str, Any],
    arm: str = "hard-random",
    seed: int = 0,
    *,
    tier: str = "small",
    cohort: str = "huffpost",
    variant: str = "",
) -> dict[str, Any]:
    """One valid record of a cohort; profiles with more rows gain more from what is their own."""
    fields, labels = COHORT_ARMS[arm], people["labels"]
    rng = np.random.default_rng([seed, *map(ord, cohort + arm)])
    personal = fields.get("scope") != "cohort" and fields.get("head") != "shared"
    predicted, correct, usual = [], [], []
    for rows, own, truth in zip(people["train"], people["top"], people["truth"], strict=True):
        right = 0.66 + fields["gain"] + 0.02 * personal * (np.log(rows) - 4) + rng.normal(0, 0.03)
        wrong = (truth + rng.integers(1, len(labels), len(truth))) % len(labels)
        said = np.where(rng.random(len(truth)) < right, truth, wrong)
        predicted.append(said)
        correct.append(int((said == truth).sum()))
        usual.append(int((truth == own).sum()))
    flat, truth = np.concatenate(predicted), np.concatenate(people["truth"])
    always = np.concatenate(
        [np.full(n, own) for n, own in zip(people["test"], people["top"], strict=True)]
    )
    tests = np.array(people["test"])

    def scores(said: Any, hits: list[int]) -> dict[str, float]:
        mean = float(np.mean(np.array(hits) / tests))
        found = compute(("accuracy", "macro_f1"), said, truth, num_labels=len(labels))
        return {"profile_accuracy": mean, **found}

    record = make_record("glue/sst2", _like(fields), seed, tier=tier)
    record["cell"] |= {
        "suite": "profiles", "task": cohort, "arm": f"{arm}-{variant}" if variant else arm,
        "method": fields["method"], "mask": fields.get("mask"), "bank": fields.get("bank"),
        "n": fields.get("n"), "k": fields.get("k"), "variant": variant,
    }  # fmt: skip
    found = scores(flat, correct)
    confusion = np.bincount(truth * len(labels) + flat, minlength=len(labels) ** 2)
    result = record["result"]
    result |= {
        "primary": "profile_accuracy",
        "score": found["profile_accuracy"],
        "scores": found,
        "rows": {"train": sum(people["train"]), "validation": len(truth)},
        "best": 0.95 if cohort.startswith("embedded") else None,
        "majority": scores(always, usual),
        "constant": len(set(flat.tolist())) == 1,
        "confusion": confusion.reshape(len(labels), len(labels)).tolist(),
        "predictions": flat.tolist(),
        "settings": {
            "lr": 0.01,
            "scope": fields.get("scope", "profile"),
            "base": fields.get("base", "none"),
            "head": fields.get("head", "private"),
        },
        "profiles": {
            **{name: people[name] for name in ("id", "train", "test", "top_share")},
            "top": [labels[own] for own in people["top"]],
            "correct": correct,
            "usual": usual,
        },
    }
    if fields.get("mask"):
        numbers = 2 * BLOCKS * fields["n"]
        stored = 2 * BLOCKS * -(-fields["n"] // 8) if fields["mask"] == "hard" else 4 * numbers
        for counts, masks in ((result["parameters"], numbers), (result["bytes"], stored)):
            counts["total"] += masks - counts["masks"]
            counts["masks"] = masks
    if not personal:  # a profile stores nothing of a model for all, or of the donors' as it is
        for counts in (result["parameters"], result["bytes"]):
            counts.update(dict.fromkeys(counts, 0))
    if fields.get("mask") == "hard" and seed == 0:
        result["profiles"]["masks"] = _make_masks(people, fields, rng)
    return record


def _like(fields: dict[str, Any]) -> str:
    """An arm of tasks with the same parts."""
    kinds = {"soft": "x_peft-soft-n100", "hard": "x_peft-hard-n100-k50"}
    return kinds.get(fields.get("mask", ""), fields["method"])


def _make_masks(people: dict[str, Any], fields: dict[str, Any], rng: Any) -> list[str]:
    """Bit sets in which profiles with the same main label are a little more alike."""
    from xpeft.codec import MaskFormat

    shape = (2 * BLOCKS, fields["n"])
    taste = rng.normal(size=(len(people["labels"]), *shape))
    scores = 0.7 * taste[people["top"]] + rng.normal(size=(len(people["id"]), *shape))
    bits = scores.argsort(axis=2).argsort(axis=2) >= fields["n"] - fields["k"]
    form = MaskFormat("bits", BLOCKS, fields["n"], k=fields["k"])
    codes = form.encode_many(bits[:, :BLOCKS], bits[:, BLOCKS:])
    return [code.tobytes().hex() for code in codes]


def make_cohort(
    folder: Path,
    cohort: str = "huffpost",
    *,
    tier: str = "small",
    arms: tuple[str, ...] = tuple(COHORT_ARMS),
    seeds: int = 3,
    people: dict[str, Any] | None = None,
    variants: tuple[str, ...] = (),
) -> None:
    """Fill `folder`/records with a cohort."""
    people = people or make_people(cohort)
    jobs = [(arm, "") for arm in arms] + [("hard-random", variant) for variant in variants]
    for arm, variant in jobs:
        for seed in range(seeds):
            record = make_cohort_record(
                people, arm, seed, tier=tier, cohort=cohort, variant=variant
            )
            write_record(folder / "records" / record_path(record["cell"]), record)


def make_ledger(encoder: str = "bert-base-uncased", adapters: int = 100) -> dict[str, Any]:
    """A real ledger: it needs no training."""
    from xpeft.ledger import ledger
    from xpeft.shapes import encoder_shape

    return ledger(encoder_shape(encoder), adapters)


def _parameters(fields: dict[str, Any]) -> dict[str, int]:
    counts = dict.fromkeys(("masks", "norm", "head", "adapter", "gain", "encoder"), 0)
    counts["head"] = 770
    if fields["method"] == "single_adapter":
        counts["adapter"] = 6 * (2 * 384 * 24 + 384 + 24)
    if fields["method"] == "x_peft":
        counts["masks"] = 2 * 6 * fields["n"]
    if fields["method"] == "full":
        counts["encoder"] = 22_713_216
    if fields["method"] in PEERS:
        part = "encoder" if fields["method"] == "bitfit" else "adapter"
        counts[part] = PEERS[fields["method"]][0]
    return counts


def finish(folder: Path) -> None:
    """Summary, ledger and claims of a tier's folder, as its workflow leaves them."""
    examples = make_examples(folder)
    write_summary(folder / "records", folder / "summary.json", examples=examples)
    write_json(folder / "ledger.json", make_ledger())
    write_claims(folder / "summary.json", folder / "claims.json", [folder / "ledger.json"])
