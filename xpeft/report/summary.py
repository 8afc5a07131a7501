"""The summary: all records of a tier in one file, and what follows from them.

    schema, tier
    records    every record, by its path below the tier's folder of records
    arms       one entry a task x arm: identity, scores, statistics, bytes, paths of its records
    tuning     every tuning file, by job
    pairs      of cohorts: what is compared with what, paired by profile (`report.pairs`)
    step       what `benchmarks/step.py` measured, from the file STEP_FILE beside the records

An arm's statistics name what they vary: `over_seeds` (t interval), `over_examples` (bootstrap, one
interval a seed). `versus` holds paired differences to the yardsticks of the same task over seeds,
`versus_examples` the same over examples where they were computed (`xpeft.examples`), `changes` the
difference of an ablation to the arm that it changes. Nothing is rounded here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xpeft import stats
from xpeft.data.specs import TASKS
from xpeft.errors import RecordError, XpeftError
from xpeft.io import read_json, read_made, write_json
from xpeft.job import CHEAP_HEADS, PEER_METHODS
from xpeft.records import STEP_FILE, Record, cell_paths, read_index, read_records
from xpeft.report.missing import list_missing

SCHEMA = 1

STEP_KEYS = {"rows", "tokens", "threads", "processor", "encoder", "steps"}

YARDSTICKS = ("single_adapter", "head_only")
"""Methods that the others are compared with on each task."""

_IDENTITY = ("suite", "task", "arm", "method", "mask", "bank", "n", "k", "variant")
_SHOWN = ("scope", "base", "head")
"""What of the settings tells arms apart too; None where a record does not say it."""

VARIED = 0.9
"""A profile whose most frequent training label has a smaller share counts in the headline."""

_SCOPES = (None, "cohort", "profile")
_BASES = (None, "none", "head", "adapter")
_METHODS = ("head_only", "single_adapter", "x_peft", *PEER_METHODS, "bitfit", "full")
_MASKS = (None, "soft", "hard")

Arm = dict[str, Any]


def write_summary(
    records_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    tuning_dir: str | os.PathLike[str] | None = None,
    cells: str | os.PathLike[str] | None = None,
    *,
    examples: str | os.PathLike[str] | None = None,
    logs_dir: str | os.PathLike[str] | None = None,
    planned_hours: float | None = None,
) -> None:
    """Merge all records below a folder into one JSON file with statistics.

    Args:
        records_dir: `<tier>/records`. An empty or absent folder gives a summary without evidence.
        out: the summary.
        tuning_dir: `<tier>/tuning`; None takes the folder of that name beside `records_dir`.
        cells: a JSON file with the seeds of each `<suite>/<task>/<arm>`; only these are taken,
            so that what an earlier config left in the folder is not shown. None takes all.
        examples: the file of `xpeft examples`; None leaves out what is paired over examples.
        logs_dir: `<tier>/logs`, for a partial summary: cells without a valid record are listed
            in `missing`, with what is wrong with it, or what their logs say.
        planned_hours: of one device, that `xpeft plan` estimated for the whole run.

    Raises:
        RecordError: a record or tuning file is invalid, or one that `cells` names is missing and
            the summary is not partial.
    """
    write_json(
        out,
        make_summary(
            records_dir,
            tuning_dir,
            cells,
            examples=examples,
            logs_dir=logs_dir,
            planned_hours=planned_hours,
        ),
    )


def make_summary(
    records_dir: str | os.PathLike[str],
    tuning_dir: str | os.PathLike[str] | None = None,
    cells: str | os.PathLike[str] | None = None,
    *,
    examples: str | os.PathLike[str] | None = None,
    logs_dir: str | os.PathLike[str] | None = None,
    planned_hours: float | None = None,
) -> dict[str, Any]:
    """The summary as plain JSON; see `write_summary`."""
    root = Path(records_dir)
    damaged: dict[str, str] = {}
    records = read_records(root, None if logs_dir is None else damaged)
    tuning = _read_tuning(Path(tuning_dir) if tuning_dir else root.parent / "tuning")
    missing: list[dict[str, Any]] = []
    if cells is not None:
        index = read_index(cells)
        paths = set(cell_paths(index))
        absent = sorted(paths - set(records))
        if absent and logs_dir is None:
            raise RecordError(
                f"{root / absent[0]}: missing, but {cells} names it, and {len(absent) - 1} more; "
                "run the rest, or report what there is with make partial"
            )
        if logs_dir is not None:
            missing = list_missing(absent, Path(logs_dir), damaged)
        records = {path: records[path] for path in sorted(paths - set(absent))}
        tuning = {job: value for job, value in tuning.items() if job in index}
    tiers = {record["cell"]["tier"] for record in records.values()}
    arms = _make_arms(records)
    _add_examples(arms, {} if examples is None else read_made(examples, "examples", "tasks"))
    from xpeft.report.pairs import make_pairs  # which stands on arms, as this module makes them

    return {
        "schema": SCHEMA,
        "tier": tiers.pop() if tiers else root.absolute().parent.name,
        "records": records,
        "arms": arms,
        "tuning": tuning,
        "pairs": make_pairs(arms),
        "step": _read_step(root.parent / STEP_FILE),
        "planned_hours": planned_hours,
        "missing": missing,
    }


def read_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_summary` wrote.

    Raises:
        XpeftError: it is missing or not a summary of this version.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or "arms" not in value:
        raise XpeftError(f"{path}: expected a summary of schema {SCHEMA}; run `xpeft summary`")
    return value


def task_name(arm: Mapping[str, Any]) -> str:
    """`suite/task`."""
    return f"{arm['suite']}/{arm['task']}"


def task_names(arms: Iterable[Arm]) -> list[str]:
    """The tasks of some arms, in the arms' order, each once."""
    return list(dict.fromkeys(task_name(arm) for arm in arms))


def main_grid(arms: Iterable[Arm]) -> list[Arm]:
    """The arms that are no ablations."""
    return [arm for arm in arms if not arm["variant"]]


def plain_heads(arms: Iterable[Arm]) -> list[Arm]:
    """The arms whose head is trained and kept in full.

    Yardsticks are these alone, and claims unless they ask for another head: with a head of signs,
    or one that is drawn and frozen, an arm is another method.
    """
    return [arm for arm in arms if arm["head"] not in CHEAP_HEADS]


def on_tasks(arms: Iterable[Arm]) -> list[Arm]:
    """The arms on tasks: all but those on cohorts, which have a section of their own."""
    return [arm for arm in arms if not arm["profiles"]]


def on_cohorts(arms: Iterable[Arm]) -> list[Arm]:
    """The arms on cohorts."""
    return [arm for arm in arms if arm["profiles"]]


def learned(arms: Iterable[Arm]) -> tuple[list[str], list[str]]:
    """The tasks on which a single adapter is above the majority class, and those where it is not.

    Claims are judged on the first, and means over tasks are taken over them: where the yardstick
    has learned nothing, a distance from it says nothing.
    """
    found: dict[str, bool] = {}
    for arm in plain_heads(main_grid(arms)):
        if arm["method"] == "single_adapter":
            above = arm["over_seeds"]["mean"] > arm["majority"]
            found[task_name(arm)] = found.get(task_name(arm), False) or above
    return [task for task in found if found[task]], [task for task in found if not found[task]]


def scores_by_seed(arm: Arm) -> dict[int, float]:
    """Primary score of each seed."""
    return dict(zip(arm["seeds"], arm["scores"], strict=True))


def majority_score(cell: Any, result: Any) -> float:
    """The score of the majority class or, where that is higher, of guessing.

    An accuracy can be below guessing's where what is usual in training is not so in validation, as
    the place of the answer in COPA.
    """
    metric = result["primary"]
    score = float(result["majority"][metric])
    if metric != "accuracy" or result["confusion"] is None:
        return score
    spec = TASKS.get((cell["suite"], cell["task"]))
    if spec is not None and spec.answers == "one" and "questions" in result:
        return max(score, float(len(result["questions"]["below"]) / result["rows"]["validation"]))
    return max(score, 1 / len(result["confusion"]))


def _make_arms(records: Mapping[str, Record]) -> list[Arm]:
    groups: dict[tuple[str, str, str], list[tuple[str, Record]]] = {}
    for path, record in records.items():
        cell = record["cell"]
        key = (cell["suite"], cell["task"], cell["arm"])
        groups.setdefault(key, []).append((path, record))
    arms = sorted((_make_arm(group) for group in groups.values()), key=_order)
    for arm in arms:
        same = [other for other in arms if task_name(other) == task_name(arm)]
        arm["versus"] = {
            method: _difference(arm, other)
            for method in YARDSTICKS
            for other in plain_heads(on_tasks(main_grid(same)))
            if other["method"] == method and other is not arm
        }
        changed = _changed(arm, same)
        arm["changes"] = changed and {
            "arm": changed["arm"],
            "difference": _difference(arm, changed),
        }
    return arms


def _add_examples(arms: list[Arm], found: Mapping[str, Any]) -> None:
    """Give each arm its comparisons to the yardsticks over examples, by the yardstick's method."""
    pairs = {
        (task["task"], pair["left"], pair["right"]): pair
        for task in found.get("tasks", ())
        for pair in task["pairs"]
    }
    for arm in arms:
        arm["versus_examples"] = {
            method: pairs[key]
            for method, difference in arm["versus"].items()
            if difference and (key := (task_name(arm), arm["arm"], difference["arm"])) in pairs
        }


def _make_arm(group: list[tuple[str, Record]]) -> Arm:
    group = sorted(group, key=lambda item: item[1]["cell"]["seed"])
    paths, records = [path for path, _ in group], [record for _, record in group]
    first = records[0]
    for path, record in group:
        for field in _IDENTITY:
            found, expected = record["cell"].get(field), first["cell"].get(field)
            if found != expected:
                raise RecordError(
                    f"{path}: cell.{field}: found {found!r}, expected {expected!r} as in {paths[0]}"
                )
        if record["result"]["primary"] != first["result"]["primary"]:
            raise RecordError(f"{path}: result.primary: expected the metric of {paths[0]}")
        found, expected = record["result"]["settings"], first["result"]["settings"]
        if found != expected:  # tuned twice, with different choices
            raise RecordError(
                f"{path}: result.settings: found {found}, expected {expected} as in {paths[0]}; "
                "train the seeds of an arm with the settings of one tuning"
            )
    results = [record["result"] for record in records]
    metric = results[0]["primary"]
    scores = [result["score"] for result in results]
    intervals = [_over_examples(first["cell"], result) for result in results]
    settings = results[0]["settings"]
    return {
        **{field: first["cell"].get(field) for field in _IDENTITY},
        **{field: settings.get(field) for field in _SHOWN},
        "metric": metric,
        "seeds": [record["cell"]["seed"] for record in records],
        "scores": scores,
        "records": paths,
        "over_seeds": asdict(stats.over_seeds(scores)),
        "over_examples": None if None in intervals else intervals,
        "others": {
            name: asdict(stats.over_seeds([result["scores"][name] for result in results]))
            for name in results[0]["scores"]
            if name != metric and all(name in result["scores"] for result in results)
        },
        "rows": results[0]["rows"],
        "encoder": first["run"]["encoder"]["name"],
        "majority": majority_score(first["cell"], results[0]),
        "best": results[0]["best"],
        "constant": [r["cell"]["seed"] for r in records if r["result"]["constant"]],
        "parameters": results[0]["parameters"],
        "bytes": results[0]["bytes"],
        "settings": settings,
        "steps": results[0]["steps"],
        "seconds": _seconds(records),
        "profiles": _profiles(results, paths),
    }


def _seconds(records: list[Record]) -> float:
    """Of the processes that wrote some records, tuning included; one process writes many seeds."""
    runs = {(r["run"]["finished"], r["run"]["wall_seconds"]) for r in records}
    return float(sum(seconds for _, seconds in sorted(runs)))


def _over_examples(cell: Any, result: Any) -> tuple[float, float] | None:
    """The bootstrap interval that a record allows: over questions where its rows are answers."""
    if "questions" in result:
        return stats.over_questions(**result["questions"])
    spec = TASKS.get((cell["suite"], cell["task"]))
    if result["confusion"] is None or (spec is not None and spec.answers is not None):
        return None
    return stats.over_examples(result["confusion"], result["primary"])


def _profiles(results: list[Any], paths: list[str]) -> dict[str, Any] | None:
    """Of a cohort: who they are, and the accuracy of each with each seed, [seed][profile]."""
    if "profiles" not in results[0]:
        return None
    first = results[0]["profiles"]
    for path, result in zip(paths, results, strict=True):
        if result["profiles"]["id"] != first["id"]:
            raise RecordError(f"{path}: result.profiles.id: expected the profiles of {paths[0]}")
    return {
        **{name: first[name] for name in ("id", "train", "test", "top", "top_share")},
        "accuracy": [
            [
                correct / count
                for correct, count in zip(
                    result["profiles"]["correct"], result["profiles"]["test"], strict=True
                )
            ]
            for result in results
        ],
        "usual": [u / t for u, t in zip(first["usual"], first["test"], strict=True)],
        "masks": next((r["profiles"]["masks"] for r in results if "masks" in r["profiles"]), None),
    }


def varied(profiles: dict[str, Any]) -> list[int]:
    """Places of the profiles of a headline: those whose training rows are not nearly all alike."""
    return [i for i, share in enumerate(profiles["top_share"]) if share < VARIED]


def _order(arm: Arm) -> tuple[Any, ...]:
    def place(value: Any, known: tuple[Any, ...]) -> int:
        return known.index(value) if value in known else len(known)

    return (
        place((arm["suite"], arm["task"]), tuple(TASKS)),
        arm["suite"],
        arm["task"],
        bool(arm["variant"]),
        place(arm["scope"], _SCOPES),
        place(arm["method"], _METHODS),
        arm["method"],
        place(arm["base"], _BASES),
        str(arm["bank"]),
        place(arm["mask"], _MASKS),
        arm["n"] or 0,
        arm["k"] or 0,
        arm["arm"],
    )


def _difference(left: Arm, right: Arm) -> dict[str, Any] | None:
    task = task_name(left)
    found = stats.paired({task: scores_by_seed(left)}, {task: scores_by_seed(right)})
    if found is None:
        return None
    return {
        "arm": right["arm"],
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "n": found.seeds[task],
    }


def _changed(arm: Arm, same: list[Arm]) -> Arm | None:
    """The arm of the main grid that an ablation changes: that with most in common with it."""
    if not arm["variant"]:
        return None
    fields = (*_SHOWN, "mask", "n", "bank", "k")
    near = [other for other in main_grid(same) if other["method"] == arm["method"]]
    return max(near, key=lambda o: [o[field] == arm[field] for field in fields], default=None)


def _read_step(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value = read_json(path)
    keys = {"mask", "n", "time_ratio", "memory_ratio"}
    whole = isinstance(value, dict) and set(value).issuperset(STEP_KEYS)
    if not whole or not all(keys <= set(step) for step in value["steps"]):
        raise RecordError(f"{path}: expected what benchmarks/step.py --out writes; run it again")
    found: dict[str, Any] = value
    return found


def _read_tuning(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.glob("*/*/*.json")):
        try:
            value = read_json(path)
        except XpeftError as error:
            raise RecordError(str(error)) from None
        trials = value.get("trials") if isinstance(value, dict) else None
        if not isinstance(trials, list):
            raise RecordError(f"{path}: trials: expected a list; this is no tuning file")
        for index, trial in enumerate(trials):
            if not {"settings", "loss", "score"} <= set(trial):
                raise RecordError(f"{path}: trials[{index}]: expected settings, loss and score")
        chosen = value.get("chosen")
        if trials and (not isinstance(chosen, int) or not 0 <= chosen < len(trials)):
            raise RecordError(f"{path}: chosen: found {chosen!r}, expected the number of a trial")
        found[path.relative_to(root).with_suffix("").as_posix()] = value
    return found
