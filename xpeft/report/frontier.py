"""Score against bytes a profile: all methods, with their intervals, and the frontier.

Two panels: all that a profile stores, and the same without its head, which profiles may share.
Bytes and score of a point are of the same records, and all points of one encoder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from xpeft import stats
from xpeft.report.drawing import (
    colour_of,
    draw_mark,
    empty,
    mark_of,
    new_figure,
    short_bytes,
    styled,
    ticks,
)
from xpeft.report.labels import Label, place_labels
from xpeft.report.summary import Arm, learned, plain_heads, scores_by_seed, task_name
from xpeft.report.words import over_tasks, short_title

YARD = "single_adapter"

_WIDE = 16
"""Most characters in a line of a name."""


@dataclass(frozen=True)
class Point:
    """An arm, over the tasks that are compared (`shared_tasks`), which all shown arms have.

    Attributes:
        arm: one of its entries, for its names and marks.
        total, bare: bytes that a profile stores, with its head and without it: of the middle task.
        gap: mean difference to a single adapter, in points, paired by task and seed.
        low, high: 95 % interval over seeds; None with one seed, and of the adapter itself.
    """

    arm: Arm
    total: int
    bare: int
    gap: float
    low: float | None
    high: float | None


def shared_tasks(arms: Sequence[Arm]) -> list[str]:
    """The tasks to compare over: those with the largest number of arms, squared, times tasks.

    Squared, for to compare methods is what this is for: all of them on two tasks say more than a
    few on four. One task is taken where no arm has more. Of the sets of tasks on which an arm has
    records and the adapter learned; of equals the largest.
    """
    tasks, _ = learned(arms)
    owned: dict[str, set[str]] = {}
    for arm in arms:
        owned.setdefault(arm["arm"], set()).update({task_name(arm)} & set(tasks))

    def results(own: set[str]) -> tuple[bool, int, int]:
        count = sum(own <= other for other in owned.values())
        return len(own) > 1, len(own) * count**2, len(own)

    best = max(owned.values(), key=results, default=set())
    return [task for task in tasks if task in best]


def make_points(
    arms: Sequence[Arm], tasks: list[str] | None = None
) -> tuple[list[Point], list[str]]:
    """The points, and the tasks; none where there is no adapter to compare with.

    Args:
        arms: on tasks, without ablations.
        tasks: to compare over; None for those that `shared_tasks` finds.
    """
    groups: dict[str, list[Arm]] = {}
    tasks = shared_tasks(arms) if tasks is None else tasks
    for arm in arms:
        if task_name(arm) in tasks:
            groups.setdefault(arm["arm"], []).append(arm)
    plain = {arm["arm"] for arm in plain_heads(arms) if arm["method"] == YARD}
    yard = next((group for name, group in groups.items() if name in plain), None)
    if yard is None:
        return [], []
    scores = {task_name(arm): scores_by_seed(arm) for arm in yard}
    encoders = {task_name(arm): arm.get("encoder") for arm in yard}
    points = []
    for group in groups.values():
        if {task_name(arm): arm.get("encoder") for arm in group} != encoders:
            continue  # not all tasks, or another encoder
        found = stats.paired({task_name(arm): scores_by_seed(arm) for arm in group}, scores)
        if found is None:
            continue
        gap, low, high = found.in_points
        middle = sorted(group, key=lambda arm: arm["bytes"]["total"])[len(group) // 2]["bytes"]
        points.append(
            Point(
                group[0],
                middle["total"],
                middle["total"] - middle["head"],
                gap,
                None if group is yard else low,
                None if group is yard else high,
            )
        )
    return points, tasks


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Those of (bytes, score) that no other beats: none has fewer bytes and at least its score.

    Ascending in bytes, and so in score; of equal ones the first.
    """
    chosen: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not chosen or points[index][1] > points[chosen[-1]][1]:
            chosen.append(index)
    return chosen


@styled
def bytes_figure(arms: Sequence[Arm]) -> Figure:
    """Score against what a profile stores, mean over the tasks that most arms share."""
    points, tasks = make_points(arms)
    if len(points) < 2:
        return empty("No evidence yet: no records beside single_adapter.")
    figure = new_figure(8.8 if len(points) > 8 else 5.6)
    upper, lower = figure.subplots(2, 1)
    panels = (
        (upper, "All that a profile stores", [(point, point.total) for point in points]),
        (lower, "Without its head", [(point, point.bare) for point in points if point.bare]),
    )
    for axes, title, shown in panels:
        draw_points(axes, shown)
        axes.set_ylim(*gap_range([point for point, _ in shown]))
        axes.set_title(title)
        axes.set_xlabel("stored a profile (bytes, logarithmic)")
        axes.set_ylabel(f"points to a single adapter,\n{over_tasks(tasks)}")
    for axes, _, shown in panels:  # now that nothing moves any more
        name_points(axes, shown)
    return figure


def draw_points(axes: Axes, shown: Sequence[tuple[Point, int]]) -> None:
    """Points at their bytes, with their intervals and the frontier, over logarithmic bytes."""
    axes.set_xscale("log")
    axes.axhline(0, color=colour_of("blue"), linewidth=0.8, zorder=1)
    x, y = _steps(shown)
    axes.plot(x, y, color=colour_of("ink"), linewidth=1.0, linestyle=(0, (3, 1.5)), zorder=1.5)
    for point, size in shown:
        colour, _ = mark_of(point.arm)
        if point.low is not None and point.high is not None:
            axes.plot([size, size], [point.low, point.high], color=colour, linewidth=1.2, zorder=2)
        draw_mark(axes, size, point.gap, point.arm, 34, linewidths=1.2, zorder=4)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=7))  # or their labels would touch
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_bytes(value)))
    axes.yaxis.set_major_locator(ticks(6))
    axes.grid(linewidth=0.6)
    sizes = [size for _, size in shown]
    axes.set_xlim(min(sizes) / 3, max(sizes) * 3)


def _steps(shown: Sequence[tuple[Point, int]]) -> tuple[list[float], list[float]]:
    """The frontier as a staircase: the best score for at most so many bytes."""
    chosen = [shown[i] for i in frontier([(size, point.gap) for point, size in shown])]
    x: list[float] = []
    y: list[float] = []
    for point, size in chosen:
        x += [size, size] if x else [size]
        y += [y[-1], point.gap] if y else [point.gap]
    if x:
        x.append(3 * max(size for _, size in shown))
        y.append(y[-1])
    return x, y


def name_points(
    axes: Axes,
    shown: Sequence[tuple[Point, int]],
    title: Callable[[Arm], str] = short_title,
) -> None:
    """Names beside the points of finished axes, in lines of a few words."""
    x, y = _steps(shown)
    lines = list(zip(x[:-1], y[:-1], x[1:], y[1:], strict=True))
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    lines.append((left, 0.0, right, 0.0))
    for point, size in shown:
        if point.low is not None and point.high is not None:
            lines.append((size, max(low, point.low), size, min(high, point.high)))
    names = [title(point.arm) for point, _ in shown]
    labels = []
    for (point, size), name in zip(shown, names, strict=True):
        arm = point.arm
        text = f"{name} k={arm['k']}" if arm["k"] and names.count(name) > 1 else name
        labels.append(Label(size, point.gap, textwrap.fill(text, _WIDE), mark_of(arm)[0]))
    place_labels(axes, labels, lines)


def gap_range(points: Sequence[Point]) -> tuple[float, float]:
    """What the axis shows: all means, and intervals unless they are much wider than these."""
    means = [point.gap for point in points]
    low, high = min(means), max(means)
    span = max(high - low, 2.0)
    ends: list[Any] = [value for p in points for value in (p.low, p.high) if value is not None]
    low = min([low, *(max(value, min(means) - span / 2) for value in ends)])
    high = max([high, *(min(value, max(means) + span / 2) for value in ends)])
    pad = 0.06 * max(high - low, span)
    return low - pad, high + pad
