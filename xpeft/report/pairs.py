"""What is compared with what on cohorts, profile by profile.

A pair is an entry of the summary:

    suite, task     the cohort
    kind            usual      an arm against always saying a profile's most frequent training label
                    yardstick  masks against everything else: one model for all, the donors' models
                               with a bias of one's own, a head or an adapter of one's own
                    bank       masks over a warm bank against the same kind over a random bank
                    personal   what is trained for each profile without masks, against one for all
    left, right     names of arms; right is None for `usual`
    seeds           the seeds that both have
    headline, all   over the profiles of the headline, and over all: `profiles` (their number),
                    mean, low, high (bootstrap over profiles), low_both, high_both (over profiles
                    and seeds), wins, ties, losses, p_value (Wilcoxon); None without profiles

Differences are left minus right in fractions. Ablations are not among the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from xpeft import stats
from xpeft.report.summary import Arm, main_grid, on_cohorts, task_name, task_names, varied

Json = dict[str, Any]


def make_pairs(arms: Sequence[Arm]) -> list[Json]:
    """All pairs of all cohorts, in the order of the arms."""
    found = []
    main = main_grid(on_cohorts(arms))
    for task in task_names(main):
        same = [arm for arm in main if task_name(arm) == task]
        for arm in same:
            found.append(_pair("usual", arm, None))
            near = nearest_random(arm, same)
            for other in same:
                kind = "bank" if other is near else _kind(arm, other)
                if kind and arm["profiles"]["id"] == other["profiles"]["id"]:
                    found.append(_pair(kind, arm, other))
    return [pair for pair in found if pair["seeds"]]


def nearest_random(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The arm over a random bank that has most in common with one over a warm bank."""
    if not is_masked(arm) or arm["bank"] != "warm":
        return None
    near = [
        other
        for other in arms
        if is_masked(other) and other["bank"] == "random" and other["mask"] == arm["mask"]
    ]
    fields = ("n", "k", "head", "base")
    return max(near, key=lambda o: [o[field] == arm[field] for field in fields], default=None)


def is_masked(arm: Arm) -> bool:
    """Whether each profile has masks of its own."""
    return bool(arm["method"] == "x_peft" and arm["scope"] != "cohort")


def _kind(left: Arm, right: Arm) -> str | None:
    if left["scope"] == "cohort" or is_masked(right):
        return None
    if is_masked(left):
        return "yardstick"
    return "personal" if right["scope"] == "cohort" else None


def _pair(kind: str, left: Arm, right: Arm | None) -> Json:
    seeds = [seed for seed in left["seeds"] if right is None or seed in right["seeds"]]
    one = accuracy_rows(left, seeds)
    if right is None:
        other = np.broadcast_to(np.array(left["profiles"]["usual"], dtype=np.float64), one.shape)
    else:
        other = accuracy_rows(right, seeds)
    kept = varied(left["profiles"])
    everybody = list(range(one.shape[1]))
    every = _compare(one, other, everybody) if seeds else None
    return {
        "suite": left["suite"],
        "task": left["task"],
        "kind": kind,
        "left": left["arm"],
        "right": right and right["arm"],
        "seeds": seeds,
        "headline": every if kept == everybody or not seeds else _compare(one, other, kept),
        "all": every,
    }


def accuracy_rows(arm: Arm, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """[S, P] accuracies of the profiles of an arm with some of its seeds."""
    rows = [arm["profiles"]["accuracy"][arm["seeds"].index(seed)] for seed in seeds]
    return np.array(rows, dtype=np.float64).reshape(len(seeds), len(arm["profiles"]["id"]))


def _compare(
    left: npt.NDArray[np.float64], right: npt.NDArray[np.float64], kept: Sequence[int]
) -> Json | None:
    if not kept:
        return None
    places = list(kept)
    spread = stats.over_profiles(left[:, places], right[:, places])
    both = stats.paired_profiles({"": left[:, places]}, {"": right[:, places]})
    return {
        "profiles": len(places),
        **asdict(spread),
        "low_both": both and both.low,
        "high_both": both and both.high,
    }
