"""Claims as data, judged against evidence.

`claims.yaml` says what is claimed and how it is tested; this module looks for the evidence in one
tier's summary and ledgers and returns a verdict for each claim:

    supported        the test rejects that the claim is false
    contradicted     the test rejects that the claim is true
    inconclusive     evidence is there, and decides neither way
    no evidence yet  nothing to judge

Comparisons on cohorts are paired by profile too and take the profiles of the headline, those whose
training rows are not nearly all alike; their interval is over profiles and seeds.

Comparisons of scores are decided by the two-sided 95 % interval over seeds of the paired
difference, mean over tasks (`xpeft.stats.paired`): supported where it lies wholly above the bound,
contradicted where it lies wholly below. The bound is 0, or -margin. Counted ratios are exact.
Evidence of one tier never decides a claim in another.

Beside each comparison stands what its data could tell: the difference that such a test finds four
times in five (`detectable`), which for a margin is the smallest that equal methods would have
passed, and the seeds that a margin of a point would take (`seeds_needed`). Two checks show what
the choice of tasks does and decide nothing: the same with the tasks that were left out, all of
them (`with_all`) and each by itself (`with_each`), and without each task in turn (`without`); of
cohorts a third, with the profiles that the headline leaves out (`with_everyone`).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpeft import stats
from xpeft.errors import ConfigError
from xpeft.evidence import evidence, nothing_learned, pairs_of, scores_of, shared
from xpeft.io import read_made, write_json
from xpeft.ledger import read_ledger
from xpeft.report.pairs import accuracy_rows
from xpeft.report.summary import (
    Arm,
    read_summary,
    scores_by_seed,
    task_name,
    task_names,
    varied,
)
from xpeft.report.words import counted, ends, signed, task_title, times

SCHEMA = 1
SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NO_EVIDENCE = "no evidence yet"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NO_EVIDENCE)

POINT = 1.0
"""Of a score: the margin, in points, that `seeds_needed` is counted for."""

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")

_NEEDED: dict[str, tuple[str, ...]] = {
    "count": ("ledger", "above", "below", "at_least"),
    "ratio": ("quantity", "left", "right", "at_least"),
    "not_worse": ("left", "right", "margin"),
    "better": ("left", "right"),
}
_COMMON = ("id", "statement", "source", "measure", "test", "needs")
_OPTIONAL = ("suites", "same", "sensitive")
_CHANGE = ("date", "claims", "change", "reason")

Json = dict[str, Any]


def write_claims(
    summary: str | os.PathLike[str],
    out: str | os.PathLike[str],
    ledgers: Iterable[str | os.PathLike[str]] = (),
    claims: str | os.PathLike[str] = CLAIMS_FILE,
) -> Json:
    """Judge all claims against one tier, write the verdicts and return them.

    Args:
        summary: `<tier>/summary.json`.
        out: `<tier>/claims.json`.
        ledgers: files of `xpeft ledger --json`; each claim takes the one of its encoder.
        claims: the YAML file.
    """
    judged = judge(
        load_claims(claims), read_summary(summary), [read_ledger(path) for path in ledgers]
    )
    write_json(out, judged)
    return judged


def load_claims(path: str | os.PathLike[str] = CLAIMS_FILE) -> Json:
    """Read and check the YAML file.

    Raises:
        ConfigError: a claim lacks a field, has an unknown one, or an id occurs twice.
    """
    import yaml

    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: schema: expected {SCHEMA}")
    seen = set()
    for index, claim in enumerate(value.get("claims") or []):
        where = f"{path}: claims[{index}]"
        if claim.get("test") not in _NEEDED:
            raise ConfigError(
                f"{where}.test: found {claim.get('test')!r}, expected one of {', '.join(_NEEDED)}"
            )
        needed = (*_COMMON, *_NEEDED[claim["test"]])
        for field in needed:
            if field not in claim:
                raise ConfigError(f"{where}.{field}: missing")
        for field in claim:
            if field not in (*needed, *_OPTIONAL):
                raise ConfigError(f"{where}.{field}: unknown")
        if claim["source"] not in ("paper", "ours"):
            raise ConfigError(f"{where}.source: found {claim['source']!r}, expected paper or ours")
        if claim["id"] in seen:
            raise ConfigError(f"{where}.id: found {claim['id']!r} twice")
        seen.add(claim["id"])
    _check_changes(path, value.get("changes", []), seen)
    return value


def _check_changes(path: str | os.PathLike[str], changes: Any, ids: Collection[str]) -> None:
    if not isinstance(changes, list):
        raise ConfigError(f"{path}: changes: found {changes!r}, expected a list")
    for index, change in enumerate(changes):
        where = f"{path}: changes[{index}]"
        if not isinstance(change, dict) or set(change) != set(_CHANGE):
            raise ConfigError(f"{where}: expected the fields {', '.join(_CHANGE)}")
        names = change["claims"]
        if names != "all" and not isinstance(names, list):
            raise ConfigError(f"{where}.claims: found {names!r}, expected all or a list of ids")
        for name in [] if names == "all" else names:
            if name not in ids:
                raise ConfigError(f"{where}.claims: found {name!r}, expected the id of a claim")


def read_claims(path: str | os.PathLike[str]) -> Json:
    """Read what `write_claims` wrote.

    Raises:
        XpeftError: it is missing or something else.
    """
    return read_made(path, "claims", "tier", "verdicts", "changes")


def judge(claims: Json, summary: Json, ledgers: Sequence[Json] = ()) -> Json:
    """A verdict for each claim from one tier's evidence, as plain JSON.

    Returns:
        schema, tier, data (name of the tier's data), encoders and number of the records, changes
        (what was changed of the claims when evidence was there), and `verdicts` in the order of
        the claims, each with id, statement, general (the statement without the tier's data),
        source, measure, test, bound, margin, verdict, sentence (the verdict in words), effect,
        unit, interval, p_value, p_family (two-sided, with Holm's correction over all comparisons
        of scores), equivalence (p-value of TOST with the margin, where there is one), detectable
        (points), seeds_needed (for a margin of POINT), tasks (each with effect, interval,
        Holm-adjusted p-value, verdict, seeds, right and majority (scores in points), profiles
        (counted, all) of a cohort, over_examples (interval in points, or None)), left_out,
        with_all, with_each, with_everyone (of cohorts), without, unmeasured (tasks of the data
        without records of both sides), seeds, arms, records and also (other arms
        that fit, judged in the same way, not deciding). `p_value` is of the claim, `p_against` of
        its contradiction.
    """
    tier = summary["tier"]
    data = claims["data"].get(tier, {"suites": None, "name": f"the data of tier {tier}"})
    verdicts = []
    for claim in claims["claims"]:
        suites = claim.get("suites", data["suites"])
        arms = [arm for arm in summary["arms"] if suites is None or arm["suite"] in suites]
        verdict: Json = {
            key: claim.get(key) for key in ("id", "source", "measure", "test", "needs", "margin")
        } | {
            "statement": claim["statement"].replace("{data}", data["name"]),
            "general": claim["statement"].replace("{data}", "the same tasks"),
            "verdict": NO_EVIDENCE,
            "sentence": f"No evidence yet: needs {claim['needs']}.",
            "bound": None,
            "effect": None,
            "unit": None,
            "interval": None,
            "p_value": None,
            "p_against": None,
            "p_family": None,
            "equivalence": None,
            "detectable": None,
            "seeds_needed": None,
            "tasks": [],
            "left_out": [],
            "with_all": None,
            "with_each": [],
            "with_everyone": None,
            "without": [],
            "unmeasured": [],
            "seeds": [],
            "arms": [],
            "records": [],
            "also": [],
        }
        if claim["test"] == "count":
            verdict |= _judge_count(claim, ledgers)
        else:
            pairs = pairs_of(claim, arms)
            if claim["test"] == "ratio":
                judged = [_judge_ratio(claim, left, right) for left, right in pairs]
            else:
                judged = [_judge_scores(claim, left, right, arms) for left, right in pairs]
            found = [item for item in judged if item is not None]
            if found:
                verdict |= found[0]
                verdict["also"] = found[1:]
        verdicts.append(verdict)
    family = _family(verdicts)
    for verdict in verdicts:
        verdict["p_family"] = family.get(verdict["id"])
    records = summary["records"].values()
    changes = [change | {"date": f"{change['date']}"} for change in claims.get("changes") or []]
    return {
        "schema": SCHEMA,
        "tier": tier,
        "data": data["name"],
        "encoders": sorted({record["run"]["encoder"]["name"] for record in records}),
        "records": len(records),
        "changes": changes,
        "verdicts": verdicts,
    }


def _family(verdicts: Iterable[Json]) -> dict[str, float]:
    """Two-sided p-values of all comparisons of scores with Holm's correction, by claim."""
    return stats.holm(
        {
            verdict["id"]: min(1.0, 2 * min(verdict["p_value"], verdict["p_against"]))
            for verdict in verdicts
            if verdict["p_value"] is not None
        }
    )


# ------------------------------------------------------------------------------- counted claims


def _judge_count(claim: Json, ledgers: Sequence[Json]) -> Json:
    for ledger in ledgers:
        fits = (
            ledger["encoder"]["name"] == claim["ledger"]["encoder"]
            and ledger["adapters"] == claim["ledger"]["adapters"]
        )
        if fits:
            above, below = _lookup(ledger, claim["above"]), _lookup(ledger, claim["below"])
            return _ratio_verdict(claim, above / below) | {
                "sentence": f"{above:,} / {below:,} = {times(above / below)}, counted exactly; "
                f"the claim asks for {times(claim['at_least'])}."
            }
    return {}


def _judge_ratio(claim: Json, left: list[Arm], right: list[Arm]) -> Json | None:
    tasks = []
    for one, other in shared(left, right):
        below, above = _lookup(one, claim["quantity"]), _lookup(other, claim["quantity"])
        if below:
            tasks.append({"task": task_name(one), "effect": above / below})
    if not tasks:
        return None
    ratio = statistics.median(task["effect"] for task in tasks)
    low, high = min(t["effect"] for t in tasks), max(t["effect"] for t in tasks)
    return (
        _ratio_verdict(claim, ratio)
        | evidence(left, right, [task["task"] for task in tasks])
        | {
            "tasks": tasks,
            "sentence": f"Median over {counted(len(tasks), 'task')} {times(ratio)} "
            f"(from {times(low)} to {times(high)}); the claim asks for "
            f"{times(claim['at_least'])}.",
        }
    )


def _ratio_verdict(claim: Json, ratio: float) -> Json:
    return {
        "verdict": SUPPORTED if ratio >= claim["at_least"] else CONTRADICTED,
        "effect": ratio,
        "unit": "times",
        "bound": claim["at_least"],
    }


def _lookup(value: Any, path: str) -> Any:
    """A dotted path into JSON; in a list, the entry whose `key` is the name."""
    for name in path.split("."):
        if isinstance(value, list):
            value = next(item for item in value if item["key"] == name)
        else:
            value = value[name]
    return value


# ------------------------------------------------------------------------------ compared scores


def _judge_scores(
    claim: Json, left: list[Arm], right: list[Arm], arms: Sequence[Arm]
) -> Json | None:
    margin = (claim.get("margin") or 0.0) / 100
    left_out = nothing_learned(left, right, arms, alone=claim.get("sensitive", False))
    everywhere = _difference(left, right)
    counting = [arm for arm in right if task_name(arm) not in left_out]
    difference = _difference(left, counting) if left_out else everywhere
    if difference is None:
        return None
    test = stats.against(difference, -margin)
    verdict = _verdict(test)
    detectable = stats.detectable(difference)
    over = _over(left)
    tasks = _by_task(left, counting, margin)
    measured = [task["task"] for task in tasks]
    unmeasured = [name for name in task_names(arms) if name not in (*measured, *left_out)]
    seeds = {
        task_name(one): set(one["seeds"]) & set(other["seeds"])
        for one, other in shared(left, counting)
    }
    each = {name: (*measured, name) for name in left_out}
    without = {name: [task for task in measured if task != name] for name in measured}
    return {
        "verdict": verdict,
        "sentence": _score_sentence(difference, verdict, margin, tasks, over)
        + _left_out(left_out, over, alone=claim.get("sensitive", False))
        + _unmeasured(unmeasured),
        "effect": 100 * difference.mean,
        "unit": "points",
        "bound": -100 * margin if margin else 0.0,
        "interval": _interval(difference, over),
        "p_value": test and test.p_above,
        "p_against": test and test.p_below,
        "equivalence": stats.equivalent(difference, margin) if margin else None,
        "detectable": None if detectable is None else 100 * detectable,
        "seeds_needed": stats.seeds_needed(difference.sds, POINT / 100),
        "tasks": tasks,
        "left_out": left_out,
        "with_all": _outcome(everywhere, margin, over) if left_out and everywhere else None,
        # of one task left out that is `with_all`, of two that count the table of tasks
        "with_each": _elsewhere(left, right, margin, each) if len(each) > 1 else [],
        "with_everyone": _with_everyone(left, counting, margin),
        "without": _elsewhere(left, right, margin, without) if len(without) > 1 else [],
        "unmeasured": unmeasured,
        "seeds": sorted(set().union(*seeds.values())),
    } | evidence(left, counting, measured, seeds)


def _elsewhere(
    left: list[Arm], right: list[Arm], margin: float, choices: Mapping[str, Collection[str]]
) -> list[Json]:
    """The outcome on other choices of tasks, by the task that each adds or takes away."""
    found = []
    for name, tasks in choices.items():
        difference = _difference(left, [arm for arm in right if task_name(arm) in tasks])
        if difference is not None:
            found.append({"task": name} | _outcome(difference, margin, _over(left)))
    return found


def _with_everyone(left: list[Arm], right: list[Arm], margin: float) -> Json | None:
    """The outcome with the profiles that the headline leaves out; None without cohorts."""
    if _over(left) == "seeds":
        return None
    difference = _difference(left, right, everyone=True)
    return None if difference is None else _outcome(difference, margin, _over(left))


def _outcome(difference: stats.Difference, margin: float, over: str) -> Json:
    """A difference with its verdict, in points."""
    return {
        "effect": 100 * difference.mean,
        "interval": _interval(difference, over),
        "verdict": _verdict(stats.against(difference, -margin)),
    }


def _by_task(left: list[Arm], right: list[Arm], margin: float) -> list[Json]:
    """The same test on each task, with Holm's correction over the tasks."""
    found: dict[str, tuple[Arm, Arm, stats.Difference, stats.Test | None]] = {}
    for one, other in shared(left, right):
        difference = _difference([one], [other])
        if difference is not None:
            test = stats.against(difference, -margin)
            found[task_name(one)] = (one, other, difference, test)
    above = stats.holm({task: test.p_above for task, (*_, test) in found.items() if test})
    below = stats.holm({task: test.p_below for task, (*_, test) in found.items() if test})
    return [
        {
            "task": task,
            "effect": 100 * difference.mean,
            "interval": _interval(difference, _over(left)),
            "p_value": above.get(task),
            "p_against": below.get(task),
            "verdict": _verdict(stats.Test(above[task], below[task]) if test else None),
        }
        | _measured_against(one, other)
        for task, (one, other, difference, test) in found.items()
    ]


def _measured_against(one: Arm, other: Arm) -> Json:
    """What the right arm of a task scores on what is compared: shared seeds, counted profiles."""
    seeds = sorted(set(one["seeds"]) & set(other["seeds"]))
    people = other["profiles"]
    if people:
        kept = varied(people)
        right = float(accuracy_rows(other, seeds)[:, kept].mean())
        majority = statistics.fmean(people["usual"][i] for i in kept)
    else:
        scores = scores_by_seed(other)
        right, majority = statistics.fmean(scores[seed] for seed in seeds), other["majority"]
    return {
        "seeds": len(seeds),
        "right": 100 * right,
        "majority": 100 * majority,
        "profiles": [len(kept), len(people["id"])] if people else None,
        "over_examples": _over_examples(one, other),
    }


def _over_examples(one: Arm, other: Arm) -> list[float] | None:
    """The interval over validation rows (bootstrap), in points, where it was computed."""
    found = one.get("versus_examples", {}).get(other["method"])
    if found is None or found["right"] != other["arm"]:
        return None
    return [100 * found["low"], 100 * found["high"]]


def _verdict(test: stats.Test | None) -> str:
    if test is None:
        return INCONCLUSIVE
    if test.p_above < stats.ALPHA:
        return SUPPORTED
    return CONTRADICTED if test.p_below < stats.ALPHA else INCONCLUSIVE


def _difference(
    left: list[Arm], right: list[Arm], *, everyone: bool = False
) -> stats.Difference | None:
    """Paired by seed; of cohorts by profile and seed, over the headline's profiles or all."""
    if _over(left) == "seeds":
        return stats.paired(scores_of(left), scores_of(right))
    scores: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for one, other in shared(left, right):
        seeds = sorted(set(one["seeds"]) & set(other["seeds"]))
        people = one["profiles"]["id"]
        kept = list(range(len(people))) if everyone else varied(one["profiles"])
        if not seeds or not kept or people != other["profiles"]["id"]:
            continue
        for side, arm in zip(scores, (one, other), strict=True):
            side[task_name(arm)] = accuracy_rows(arm, seeds)[:, kept]
    return stats.paired_profiles(*scores)


def _over(arms: list[Arm]) -> str:
    """What an interval of these arms is over."""
    return "profiles and seeds" if all(arm["profiles"] for arm in arms) else "seeds"


def _interval(difference: stats.Difference, over: str) -> Json | None:
    if difference.low is None or difference.high is None:
        return None
    return {
        "low": 100 * difference.low,
        "high": 100 * difference.high,
        "level": stats.LEVEL,
        "over": over,
    }


def _score_sentence(
    difference: stats.Difference,
    verdict: str,
    margin: float,
    tasks: list[Json],
    over: str,
) -> str:
    words = f"{signed(100 * difference.mean)} points over {counted(len(tasks), 'task')}"
    if difference.low is None or difference.high is None:
        words += (
            f"; the spread over {over} is unknown (one seed, or all alike), so nothing is concluded"
        )
    else:
        words += f" (95 % interval over {over} {ends(difference.low, difference.high)})"
        bound = f"the bound of {signed(-100 * margin)}" if margin else "zero"
        words += {
            SUPPORTED: f": the interval lies above {bound}",
            CONTRADICTED: f": the interval lies below {bound}",
            INCONCLUSIVE: f": the interval contains {bound}",
        }[verdict]
        if margin and verdict == INCONCLUSIVE and difference.high < 0:
            words += " and lies below zero: worse, but perhaps by less than that"
    words += "."
    if len(tasks) > 1:
        parts = []
        for name in (SUPPORTED, CONTRADICTED, INCONCLUSIVE):
            some = [task_title(task["task"]) for task in tasks if task["verdict"] == name]
            if some:
                parts.append(f"{name} on {', '.join(some)}")
        words += f" Task by task (Holm-corrected): {'; '.join(parts)}."
    return words


def _left_out(tasks: list[str], over: str, *, alone: bool) -> str:
    """Which tasks do not count, and why; empty where all do."""
    if not tasks:
        return ""
    if over == "seeds":
        reason = "an adapter is not above the majority class there"
    elif alone:
        reason = "what they are compared with is not above each person's usual label there"
    else:
        reason = "neither is above each person's usual label there"
    return f" Left out, as {reason}: {', '.join(map(task_title, tasks))}."


def _unmeasured(tasks: list[str]) -> str:
    """On which tasks there is nothing to compare; empty where both sides are on all."""
    return f" Not measured on {', '.join(map(task_title, tasks))}." if tasks else ""
