"""Which arms a claim compares, and on which tasks.

Neither choice looks at how the two sides compare. Arms are chosen by what they are, by coverage and
by size. Tasks are those where a single adapter has learned something: the same for every claim on
tasks, and for the means of the report. Where it has not, as on WNLI, differences tell which of two
failures is nearer to chance, and can be large. On cohorts what counts is whether the two sides, or
the right one, have.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from xpeft.report.summary import (
    Arm,
    learned,
    main_grid,
    on_tasks,
    plain_heads,
    scores_by_seed,
    task_name,
)

Json = dict[str, Any]


def pairs_of(claim: Json, arms: Sequence[Arm]) -> list[tuple[list[Arm], list[Arm]]]:
    """The pairs of arms that a claim compares, each arm on all its tasks; the deciding one first.

    The choice looks at coverage and size, never at scores.
    """
    pairs = []
    for left in _groups(arms, claim["left"]):
        wanted = claim["right"] | {field: left[0][field] for field in claim.get("same", ())}
        rights = [
            right
            for right in _groups(arms, wanted)
            if right[0]["arm"] != left[0]["arm"] and shared(left, right)
        ]
        if rights:
            pairs.append((left, min(rights, key=lambda right: _cost(right, left))))
    return sorted(pairs, key=lambda pair: _cost(*pair))


def nothing_learned(
    left: list[Arm], right: list[Arm], arms: Sequence[Arm], *, alone: bool
) -> list[str]:
    """The tasks of a pair on which nothing was learned, so that no difference is evidence.

    Args:
        left, right: the pair.
        arms: all arms of the tier.
        alone: of a cohort, whether `right` alone must have learned something.

    Returns:
        Names of tasks where the single adapter is not above the majority class; of cohorts, and of
        tasks that nobody tuned an adapter on, those where `right` (`alone`) or both sides are not.
    """
    above, below = learned(on_tasks(arms))
    found = []
    for one, other in shared(left, right):
        name = task_name(one)
        asked = (other,) if alone and other["profiles"] else (one, other)
        nobody = all(arm["over_seeds"]["mean"] <= arm["majority"] for arm in asked)
        if name in below or (name not in above and nobody):
            found.append(name)
    return found


def shared(left: list[Arm], right: list[Arm]) -> list[tuple[Arm, Arm]]:
    """The two arms of each task that both sides have."""
    by_task = {task_name(arm): arm for arm in right}
    return [(arm, by_task[task_name(arm)]) for arm in left if task_name(arm) in by_task]


def scores_of(arms: list[Arm]) -> dict[str, dict[int, float]]:
    """Primary scores by task and seed."""
    return {task_name(arm): scores_by_seed(arm) for arm in arms}


def evidence(
    left: list[Arm],
    right: list[Arm],
    tasks: list[str],
    seeds: Mapping[str, set[int]] | None = None,
) -> Json:
    """The arms and their records on some tasks: of the seeds of each task, where they are given."""
    return {
        "arms": [left[0]["arm"], right[0]["arm"]],
        "records": [
            path
            for arm in (*left, *right)
            if (task := task_name(arm)) in tasks
            for seed, path in zip(arm["seeds"], arm["records"], strict=True)
            if seeds is None or seed in seeds[task]
        ],
    }


def _groups(arms: Sequence[Arm], wanted: Mapping[str, Any]) -> list[list[Arm]]:
    """Arms that fit, one list (an arm on all its tasks) for each name."""
    if "variant" not in wanted:
        arms = main_grid(arms)
    if "head" not in wanted:
        arms = plain_heads(arms)
    fitting = [arm for arm in arms if all(arm[key] == value for key, value in wanted.items())]
    names = dict.fromkeys(arm["arm"] for arm in fitting)
    return [[arm for arm in fitting if arm["arm"] == name] for name in names]


def _cost(one: list[Arm], other: list[Arm]) -> tuple[Any, ...]:
    size = statistics.median(arm["bytes"]["total"] for arm in one)
    return (-len(shared(one, other)), one[0]["n"] or 0, size, one[0]["arm"])
