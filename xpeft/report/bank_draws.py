"""How much the draw of a random bank matters, beside that of the training seed.

An ablation whose change is named `bank seed 1` (or another number) differs from the arm of the main
grid by the draw of its bank, and is tuned on its own as every arm is. Scores by draw and training
seed are taken apart into a spread over training seeds within a draw, and what the draws differ by
beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpeft import stats
from xpeft.report.forms import Table
from xpeft.report.summary import Arm, task_name
from xpeft.report.words import arm_title, p_value, score, task_title

Json = dict[str, Any]

CHANGE = "bank seed "
"""How the change of such an ablation begins."""


@dataclass(frozen=True)
class Draws:
    """Draws of one bank on one task.

    Attributes:
        arms: that of the main grid, then those of other draws.
        seeds: training seeds that all of them have.
        components: the two spreads.
    """

    arms: list[Arm]
    seeds: list[int]
    components: stats.Components


def make_draws(arms: Sequence[Arm]) -> list[Draws]:
    """One entry for each task and arm of the main grid with other draws, in the arms' order."""
    found = []
    for base in arms:
        own = [
            arm
            for arm in arms
            if task_name(arm) == task_name(base)
            and arm["variant"].startswith(CHANGE)
            and arm["changes"]
            and arm["changes"]["arm"] == base["arm"]
        ]
        drawn = [base, *own]
        seeds = sorted(set.intersection(*(set(arm["seeds"]) for arm in drawn)))
        components = stats.components(
            [[arm["scores"][arm["seeds"].index(seed)] for seed in seeds] for arm in drawn]
        )
        if own and components is not None:
            found.append(Draws(drawn, seeds, components))
    return found


def make_table(arms: Sequence[Arm]) -> Table:
    """The draws as a table."""
    found = make_draws(arms)
    return Table(
        "Draws of a random bank, each tuned on its own: mean of each over the same training seeds, "
        "and the standard deviation of the score over training seeds within a draw, and over draws "
        "beyond that, in points. p: that all draws have one mean (analysis of variance).",
        ["suite", "task", "arm", "draws", "seeds", "means", "sd_within", "sd_between", "p_value",
         "records"],
        [
            {
                "suite": draws.arms[0]["suite"],
                "task": draws.arms[0]["task"],
                "arm": draws.arms[0]["arm"],
                "draws": len(draws.arms),
                "seeds": draws.seeds,
                "means": draws.components.means,
                "sd_within": draws.components.within,
                "sd_between": draws.components.between,
                "p_value": draws.components.p_value,
                "records": [path for arm in draws.arms for path in arm["records"]],
            }
            for draws in found
        ],
        ["Task", "Method", "Means of the draws", "SD over seeds", "SD over draws", "p"],
        [row_text(draws) for draws in found],
    )  # fmt: skip


def row_text(draws: Draws) -> list[str]:
    """The cells of a row."""
    found = draws.components
    return [
        task_title(task_name(draws.arms[0])),
        arm_title(draws.arms[0]),
        ", ".join(map(score, found.means)),
        score(found.within),
        score(found.between),
        p_value(found.p_value),
    ]
