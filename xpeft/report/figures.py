"""The figures of tasks, each a function from plain data to a matplotlib figure.

Only `scores` and `learning` have a wide form for files, with the same panels side by side.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from xpeft.claims import read_claims
from xpeft.io import write_bytes
from xpeft.job import PEER_METHODS
from xpeft.ledger import read_ledger
from xpeft.report import cohort_figures
from xpeft.report.allin import allin_figure
from xpeft.report.bank_sizes import sizes_figure
from xpeft.report.diagram import method_figure
from xpeft.report.drawing import (
    LEGEND,
    WIDTH,
    colour_of,
    dash_of,
    draw_mark,
    empty,
    face_of,
    legend_name,
    mark_of,
    new_figure,
    render,
    short_bytes,
    styled,
    ticks,
)
from xpeft.report.frontier import bytes_figure
from xpeft.report.overall import performance_figure
from xpeft.report.summary import (
    Arm,
    main_grid,
    on_cohorts,
    on_tasks,
    plain_heads,
    read_summary,
    task_name,
    task_names,
)
from xpeft.report.words import arm_title, byte_count, metric_title, score, task_title, times

Json = dict[str, Any]

# ------------------------------------------------------------------------------------- writing


FIGURES = (
    "method", "waterfall", "scores", "gaps", "performance", "bytes", "sizes", "allin",
    "learning",
    "gains", "warm", "map", "overlap", "scale",
)  # fmt: skip
"""The names of the files; all are always written, without evidence as a figure that says so."""

CAPTIONS = {
    "method": "A frozen block of the encoder and what a profile adds to it. The bank is shared; "
    "the profile owns two rows of masks a block: M_A selects down-projections, M_B "
    "up-projections. The selected ones are added up to one adapter.",
    "waterfall": "From an adapter to a profile, in bytes (logarithmic), with the ratio to the "
    "adapter. The dashed line is 1/10,000 of the adapter.",
    "scores": "Score of each method on each task: small marks are seeds, the large mark is their "
    "mean (hollow over a trained bank), the bar its 95 % interval over seeds (t).",
    "gaps": "Difference to a single adapter on the same task, paired by seed, with 95 % interval "
    "over seeds (t). The band is the margin of one point. Hollow: over a trained bank. Of the "
    "peers, full fine-tuning alone.",
    "performance": "Share of the runs (task x seed) whose score is at least so many points from "
    "the adapter's mean on the same task; tasks count the same. Further right is better. Bands: "
    "95 % bootstrap over seeds at each place. Dashed: over a trained bank.",
    "bytes": "Difference to a single adapter, mean with 95 % interval over seeds, against what a "
    "profile stores (bytes, logarithmic), with and without its head; hollow over a trained bank. "
    "Over the tasks that most methods share, of those on which the adapter is above the majority "
    "class. Bytes of a peer are the file that its library writes. The dashed line is the frontier: "
    "the best score for at most so many bytes.",
    "sizes": "Random banks of N adapters: difference of the scores to N = 100 (mean over the tasks "
    "on which all sizes were trained, 95 % interval over seeds), and the time of a training step "
    "over that of an adapter, measured side by side.",
    "allin": "Difference to an adapter of its own, with 95 % interval (over seeds; of cohorts over "
    "profiles and seeds), against all that a profile takes of the file of a large store, with the "
    "shapes of BERT-base; peers by formula. The dotted line is 1/10,000 of an adapter there; the "
    "dashed one is the frontier; on people the dash-dotted one is the donors' model as it is, of "
    "which a profile stores nothing. Hollow: over a bank that is not random. Scores are those of "
    "the encoder that was trained.",
    "learning": "Training loss: thin lines are seeds, thick lines their mean, dashed over a "
    "trained bank. Of the peers, full fine-tuning alone.",
    **cohort_figures.CAPTIONS,
}


def write_figures(
    summary: str | os.PathLike[str],
    ledger: str | os.PathLike[str] | None,
    claims: str | os.PathLike[str] | None,
    out_dir: str | os.PathLike[str],
) -> None:
    """Draw all figures of a tier as `<name>.svg`, `.pdf` and `.png`.

    Args:
        summary: `<tier>/summary.json`.
        ledger: JSON of `xpeft ledger`; None draws the waterfall without evidence.
        claims: `<tier>/claims.json`; only their margin is used.
        out_dir: folder; made if it is absent.
    """
    figures = make_figures(
        read_summary(summary),
        None if ledger is None else read_ledger(ledger),
        None if claims is None else read_claims(claims),
    )
    for name, figure in figures:
        for form in ("svg", "pdf", "png"):
            write_bytes(Path(out_dir, f"{name}.{form}"), render(figure, form))


def make_figures(
    summary: Json, ledger: Json | None, claims: Json | None
) -> Iterator[tuple[str, Figure]]:
    """All figures of a tier with their names, in the order of FIGURES, each drawn when it is due.

    Args:
        summary, ledger, claims: what `write_figures` reads.
    """
    margin, pairs = _margin(claims), summary.get("pairs", ())
    arms = on_tasks(main_grid(summary["arms"]))
    profiles = on_cohorts(summary["arms"])
    wide, across = (min(3, max(1, len(task_names(found)))) for found in (arms, profiles))
    makers: dict[str, Callable[[], Figure]] = {
        "method": method_figure,
        "waterfall": lambda: waterfall_figure(ledger),
        "scores": lambda: scores_figure(arms, columns=wide),
        "gaps": lambda: gaps_figure(arms, margin),
        "performance": lambda: performance_figure(arms),
        "bytes": lambda: bytes_figure(arms),
        "sizes": lambda: sizes_figure(summary["arms"], summary["step"]),
        "allin": lambda: allin_figure(summary["arms"]),
        "learning": lambda: learning_figure(headline(arms), summary["records"], columns=wide),
        "gains": lambda: cohort_figures.gains_figure(profiles, columns=across),
        "warm": lambda: cohort_figures.warm_figure(profiles, pairs, columns=across),
        "map": lambda: cohort_figures.map_figure(profiles, columns=across),
        "overlap": lambda: cohort_figures.overlap_figure(profiles, columns=across),
        "scale": lambda: cohort_figures.scale_figure(ledger),
    }
    for name in FIGURES:
        yield name, makers[name]()


def _margin(claims: Json | None) -> float:
    found = [item["margin"] for item in (claims or {}).get("verdicts", ()) if item["margin"]]
    return found[0] if found else 1.0


def headline(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that stand for their kind: of masks over one kind of bank, those on most tasks.

    Of several on as many, those with the smallest bank, as where claims choose. With heads in full:
    those with cheap ones stand beside each other in the part all-in. Without peers, which lines of
    one colour each could not tell apart.
    """
    plain = [arm for arm in plain_heads(arms) if arm["method"] not in (*PEER_METHODS, "bitfit")]
    tasks = Counter(arm["arm"] for arm in plain)

    def size(arm: Arm) -> tuple[Any, ...]:
        return (-tasks[arm["arm"]], arm["n"] or 0, arm["bytes"]["total"], arm["arm"])

    chosen: dict[tuple[Any, ...], Arm] = {}
    for arm in plain:
        key = (task_name(arm), arm["method"], arm["mask"], arm["bank"])
        chosen[key] = min(chosen.get(key, arm), arm, key=size)
    return [arm for arm in arms if arm in chosen.values()]


# -------------------------------------------------------------------------------------- scores


@styled
def scores_figure(arms: Sequence[Arm], *, columns: int = 1) -> Figure:
    """A panel a task: seeds, mean and interval of each arm beside majority class and best score."""
    tasks = task_names(arms)
    if not tasks:
        return empty("No evidence yet: no records.")
    groups = {task: [arm for arm in arms if task_name(arm) == task] for task in tasks}
    rows = math.ceil(len(tasks) / columns)
    heights = [
        0.95 + 0.34 * max(len(groups[task]) for task in tasks[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    figure = new_figure(sum(heights), WIDTH if columns == 1 else 3.9 * columns)
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    for index, task in enumerate(tasks):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        _scores_panel(axes, task, groups[task])
    return figure


def describe_scores(arms: Sequence[Arm]) -> str:
    """The content of a panel of `scores_figure` in a sentence, as its alternative text."""
    words = [f"{arm_title(arm)} {score(arm['over_seeds']['mean'])}" for arm in arms]
    sentence = (
        f"{task_title(task_name(arms[0]))}, {metric_title(arms[0]['metric'])} in points: "
        f"{'; '.join(words)}; majority class {score(arms[0]['majority'])}."
    )
    return textwrap.shorten(sentence, 600)


def _scores_panel(axes: Axes, task: str, arms: list[Arm]) -> None:
    low, high = _score_range(arms)
    for place, arm in enumerate(arms):
        colour, marker = mark_of(arm)
        spread = arm["over_seeds"]
        if spread["low"] is not None:
            ends = [100 * spread["low"], 100 * spread["high"]]
            axes.plot(ends, [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        points = [100 * value for value in arm["scores"]]
        axes.scatter(
            points,
            [place + 0.26] * len(points),
            s=11,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.8,
            zorder=3,
        )
        draw_mark(axes, 100 * spread["mean"], place, arm, 38, zorder=4)
    axes.set_xlim(low, high)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_yticks(range(len(arms)), [legend_name(arm) for arm in arms])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(ticks(5))
    axes.grid(axis="x", linewidth=0.6)
    axes.set_xlabel(textwrap.fill(f"{metric_title(arms[0]['metric'])}, points", LEGEND))
    axes.set_title(task_title(task), pad=17 if arms[0]["best"] is None else 27)
    _reference(axes, 100 * arms[0]["majority"], "majority", (0, (4, 2)), 3)
    if arms[0]["best"] is not None:
        _reference(axes, 100 * arms[0]["best"], "best possible", (0, (1, 1.5)), 14)


def _score_range(arms: list[Arm]) -> tuple[float, float]:
    """What the axis shows: all seeds and intervals, and the references if they are not far off.

    An interval that is much wider than the scores (two or three seeds) is cut, not squeezed in.
    """
    values = [100 * value for arm in arms for value in arm["scores"]]
    low, high = min(values), max(values)
    span = max(high - low, 2.0)
    for arm in arms:
        ends = arm["over_seeds"]
        if ends["low"] is not None:
            low = min(low, max(100 * ends["low"], min(values) - span))
            high = max(high, min(100 * ends["high"], max(values) + span))
    for name in ("majority", "best"):
        value = arms[0][name]
        if value is not None and low - 1.5 * span <= 100 * value <= high + 1.5 * span:
            low, high = min(low, 100 * value), max(high, 100 * value)
    pad = max(0.05 * (high - low), 2.0 - (high - low) / 2)
    return low - pad, high + pad


def _reference(
    axes: Axes, value: float, name: str, dashes: tuple[int, tuple[float, ...]], above: float
) -> None:
    """A line with its name `above` it, or an arrow to it where it is outside of the axis."""
    low, high = axes.get_xlim()
    text = f"{name} {value:.1f}"
    if low <= value <= high:
        axes.axvline(value, color=colour_of("ink"), linewidth=1, linestyle=dashes, zorder=1)
        share = (value - low) / (high - low)
    else:
        share = 0.0 if value < low else 1.0
        text = f"\N{LEFTWARDS ARROW} {text}" if value < low else f"{text} \N{RIGHTWARDS ARROW}"
    place = "left" if share < 0.3 else "right" if share > 0.7 else "center"
    axes.annotate(
        text,
        (share, 1.0),
        xycoords="axes fraction",
        xytext=(0, above),
        textcoords="offset points",
        ha=place,
        va="bottom",
        fontsize=8,
        color=colour_of("muted"),
        annotation_clip=False,
    )


# ---------------------------------------------------------------------------------------- gaps


@styled
def gaps_figure(arms: Sequence[Arm], margin: float = 1.0) -> Figure:
    """Difference of each method to a single adapter, on each task."""
    shown = [arm for arm in headline(arms) if arm["versus"].get("single_adapter")]
    tasks = task_names(shown)
    if not tasks:
        return empty("No evidence yet: no records beside single_adapter.")
    groups = [[arm for arm in shown if task_name(arm) == task] for task in tasks]
    step, space = 0.2, 0.2  # inches: of a row, and between tasks
    kinds = _one_of_each(shown)
    height = step * len(shown) + space * len(tasks)
    figure = new_figure(0.95 + height + 0.15 * (len(kinds) + 2))
    axes = figure.add_subplot()
    axes.axvspan(-margin, margin, color=colour_of("panel"), zorder=0)
    axes.axvline(0, color=colour_of("blue"), linewidth=1.2, zorder=1)
    ends: list[float] = [-margin, margin]
    centres, top = [], 0.0
    for group in groups:
        if top:
            axes.axhline(top, color=colour_of("grid"), linewidth=0.6)
        first = top + (space + step) / 2
        for row, arm in enumerate(group):
            ends += _gap(axes, first + step * row, arm)
        centres.append(first + step * (len(group) - 1) / 2)
        top += space + step * len(group)
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(height, 0)
    axes.set_yticks(centres, [task_title(task) for task in tasks])
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", top=True, labeltop=True)  # it is longer than a screen
    axes.xaxis.set_major_locator(ticks(6))
    axes.set_xlabel("difference to a single adapter (points)")
    figure.legend(
        handles=[
            *map(_marker, kinds),
            Line2D([], [], color=colour_of("blue"), linewidth=1.2, label="adapter (zero)"),
            Patch(facecolor=colour_of("panel"), label=f"margin, {margin:g} either way"),
        ],
        loc="outside upper left",
        ncols=2,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    return figure


def _gap(axes: Axes, place: float, arm: Arm) -> list[float]:
    """Draw a row of `gaps_figure`; returns what of it the axis shows."""
    found = arm["versus"]["single_adapter"]
    mean = 100 * found["mean"]
    draw_mark(axes, mean, place, arm, 34, zorder=3)
    if found["low"] is None:
        return [mean]
    low, high = 100 * found["low"], 100 * found["high"]
    axes.plot([low, high], [place, place], color=mark_of(arm)[0], linewidth=2)
    return [mean, max(low, mean - 15), min(high, mean + 15)]


def _one_of_each(arms: Sequence[Arm]) -> list[Arm]:
    found: dict[tuple[Any, ...], Arm] = {}
    for arm in arms:
        found.setdefault((arm["method"], arm["mask"], arm["bank"], arm["n"], arm["k"]), arm)
    return list(found.values())


def _marker(arm: Arm) -> Line2D:
    """An arm's marker for a legend."""
    colour, marker = mark_of(arm)
    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face_of(arm), linestyle="none",
        markersize=6, label=legend_name(arm),
    )  # fmt: skip


# ------------------------------------------------------------------------------------- learning


@styled
def learning_figure(arms: Sequence[Arm], records: Json, *, columns: int = 1) -> Figure:
    """Training loss, a panel a task: over the steps, or their share where their numbers differ.

    Args:
        arms: what is drawn; `headline` chooses it from all tasks together.
        records: what is told of each record, by its path.
        columns: panels side by side.
    """
    tasks = task_names(arms)
    if not tasks:
        return empty("No evidence yet: no records.")
    rows = math.ceil(len(tasks) / columns)
    kinds = _one_of_each(arms)
    legend_rows = math.ceil(len(kinds) / (2 if columns == 1 else 5))
    alike = len({(task_name(arm), arm["steps"]) for arm in arms}) == len(tasks)
    figure = new_figure(2.1 * rows + 0.2 * legend_rows, WIDTH if columns == 1 else 3.6 * columns)
    grid = figure.add_gridspec(rows, columns)
    for index, task in enumerate(tasks):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        for arm in (arm for arm in arms if task_name(arm) == task):
            colour, _ = mark_of(arm)
            curves = [records[path]["result"]["loss"] for path in arm["records"]]
            unit = 1.0 if alike else 100 / max(arm["steps"], 1)
            steps = [[unit * step for step in curve["step"]] for curve in curves]
            for at, curve in zip(steps, curves, strict=True):
                axes.plot(at, curve["loss"], color=colour, linewidth=0.5, alpha=0.45)
            if all(at == steps[0] for at in steps):
                mean = [sum(v) / len(v) for v in zip(*(c["loss"] for c in curves), strict=True)]
                axes.plot(steps[0], mean, color=colour, linewidth=1.8, linestyle=dash_of(arm))
        axes.set_title(task_title(task))
        axes.set_xlabel("training step" if alike else "training done (% of the steps)")
        axes.set_ylabel("training loss")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(ticks(5))
        axes.grid(linewidth=0.6)
    figure.legend(
        handles=[
            Line2D(
                [],
                [],
                color=mark_of(arm)[0],
                linewidth=1.8,
                linestyle=dash_of(arm),
                label=legend_name(arm),
            )
            for arm in kinds
        ],
        loc="outside upper left",
        ncols=2 if columns == 1 else 5,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    return figure


# ------------------------------------------------------------------------------------ waterfall


@styled
def waterfall_figure(ledger: Json | None) -> Figure:
    """From an adapter's bytes down to the masks', and up again with what else a profile keeps."""
    if ledger is None:
        return empty("No evidence yet: no ledger.")
    rows = waterfall_rows(ledger)
    goal = ledger["goal"]["bytes"]
    figure = new_figure(0.75 + 0.44 * len(rows))
    axes = figure.add_subplot()
    left = 10 ** math.floor(math.log10(min(size for *_, size in rows)))
    for place, (name, kind, size) in enumerate(rows):
        axes.barh(place, size - left, 0.4, left=left, color=colour_of(kind))
        ratio = ledger["adapter"]["bytes"] / size
        words = f"{name}: {byte_count(size)}"
        behind = {"facecolor": colour_of("paper"), "edgecolor": "none", "pad": 0.6}
        axes.text(left, place - 0.26, words, ha="left", va="bottom", fontsize=8.5, bbox=behind)
        if ratio > 1:
            axes.annotate(
                times(ratio),
                (size, place),
                xytext=(4, -0.5),
                textcoords="offset points",
                va="center",
                ha="left",
                fontsize=8.5,
                fontweight="bold",
                bbox=behind,
            )
    axes.axvline(goal, color=colour_of("ink"), linewidth=1, linestyle=(0, (4, 2)), zorder=0.5)
    axes.annotate(
        f"1/{ledger['goal']['ratio']:,} of the adapter: {byte_count(goal)}",
        (goal, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=8,
        color=colour_of("muted"),
    )
    axes.set_xscale("log")
    axes.set_xlim(left, max(size for *_, size in rows) * 1.5)
    axes.set_ylim(len(rows) - 0.6, -0.75)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_bytes(value)))
    axes.set_xlabel("bytes a profile (logarithmic)")
    axes.spines["left"].set_visible(False)
    return figure


def waterfall_rows(ledger: Json) -> list[tuple[str, str, int]]:
    """The steps of the calculation: (name, colour, bytes)."""
    masks = ledger["masks"]
    parts = {entry["key"]: entry["bytes"] for entry in ledger["combinations"]}
    classes = ledger["head"]["classes"]
    return [
        ("adapter, float32", "blue", ledger["adapter"]["bytes"]),
        ("soft masks, float32", "green", masks["soft_fp32"]["bytes"]),
        ("soft masks, float16", "green", masks["soft_fp16"]["bytes"]),
        ("hard masks, bit set", "vermilion", masks["hard_bits"]["bytes"]),
        ("hard masks, enumerative code", "vermilion", masks["hard_enumerative"]["bytes"]),
        ("hard masks + private norm", "purple", parts["hard+norm"]),
        (f"hard masks + private head, {classes} classes", "purple", parts["hard+head"]),
        ("hard masks + private norm and head", "purple", parts["hard+norm+head"]),
    ]
