"""All tasks as one: how far each method is from a single adapter, run by run.

A run (task x seed) is measured by its gap: its score minus the adapter's mean on the same task, in
points. Tasks where the adapter itself is not above the majority class are left out, by name; arms
are shown if they have records of all the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from xpeft import stats
from xpeft.report.drawing import (
    colour_of,
    dash_of,
    empty,
    legend_name,
    mark_of,
    new_figure,
    styled,
    ticks,
)
from xpeft.report.summary import Arm, learned, plain_heads, task_name
from xpeft.report.words import arm_title

Json = dict[str, Any]

STEPS = 81
"""Places at which a performance profile is computed."""


def make_overall(arms: Sequence[Arm]) -> Json:
    """The gaps of the arms of a main grid on tasks, and their interquartile means.

    Returns:
        tasks (those counted), left_out (those where the adapter is not above the majority class),
        and `arms`: for each arm its name, title, gaps by task in points, mean over tasks, and iqm
        (value, low, high; None with one seed everywhere).
    """
    tasks, left_out = learned(arms)
    yard = {
        task_name(arm): arm["over_seeds"]["mean"]
        for arm in plain_heads(arms)
        if arm["method"] == "single_adapter" and task_name(arm) in tasks
    }
    found = []
    for name in dict.fromkeys(arm["arm"] for arm in arms):
        own = {task_name(arm): arm for arm in arms if arm["arm"] == name}
        if not tasks or not set(tasks) <= set(own):
            continue
        gaps = {
            task: [100 * (value - mean) for value in own[task]["scores"]]
            for task, mean in yard.items()
        }
        middle = stats.iqm(gaps)
        found.append(
            {
                "arm": name,
                "title": arm_title(own[tasks[0]]),
                "gaps": gaps,
                "mean": float(np.mean([np.mean(values) for values in gaps.values()])),
                "iqm": None if middle is None else vars(middle),
            }
        )
    return {"tasks": tasks, "left_out": left_out, "arms": found}


def profile_curves(overall: Json) -> tuple[list[float], dict[str, list[stats.Interval]]]:
    """Places in points, and for each arm the share of its runs that reach them."""
    values = [gap for arm in overall["arms"] for gaps in arm["gaps"].values() for gap in gaps]
    places = np.linspace(min(values), max(max(values), 1.0), STEPS).tolist()
    return places, {
        arm["arm"]: stats.performance_profile(arm["gaps"], places) for arm in overall["arms"]
    }


@styled
def performance_figure(arms: Sequence[Arm]) -> Figure:
    """Share of the runs that come within so many points of the adapter, for each method."""
    overall = make_overall(arms)
    if len(overall["arms"]) < 2:
        return empty("No evidence yet: no method beside single_adapter on all of its tasks.")
    places, curves = profile_curves(overall)
    figure = new_figure(3.4 + 0.1 * len(curves))
    axes = figure.add_subplot()
    axes.axvline(0, color=colour_of("grid"), linewidth=1, zorder=1)
    for name, curve in curves.items():
        arm = next(arm for arm in arms if arm["arm"] == name)
        colour, _ = mark_of(arm)
        axes.plot(
            places,
            [100 * share.value for share in curve],
            color=colour,
            linewidth=1.8,
            linestyle=dash_of(arm),
            drawstyle="steps-pre",
            label=legend_name(arm),
        )
        axes.fill_between(
            places,
            [100 * share.low for share in curve],
            [100 * share.high for share in curve],
            color=colour,
            alpha=0.12,
            linewidth=0,
            step="pre",
        )
    axes.set_ylim(-2, 102)
    axes.xaxis.set_major_locator(ticks(6))
    axes.grid(linewidth=0.6)
    axes.set_xlabel("at least so many points from the adapter's mean")
    axes.set_ylabel("share of runs (task \N{MULTIPLICATION SIGN} seed), %")
    figure.legend(loc="outside upper left", ncols=2, columnspacing=1.2, handlelength=2.4)
    return figure
