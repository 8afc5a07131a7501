"""The figures of cohorts: a panel a cohort, and what many profiles take in bytes."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from xpeft.report.cohort_masks import overlaps, project
from xpeft.report.cohorts import accuracies, chief, cohorts, mask_bits, row_counts, yardstick
from xpeft.report.drawing import (
    WIDTH,
    colour_of,
    empty,
    mark_of,
    new_figure,
    short_bytes,
    short_count,
    signed_tick,
    styled,
    ticks,
)
from xpeft.report.pairs import nearest_random
from xpeft.report.summary import VARIED, Arm, varied
from xpeft.report.words import arm_title, signed, task_title

Json = dict[str, Any]
Floats = npt.NDArray[np.float64]

CAPTIONS = {
    "gains": "What masks give each profile over one model for all (points of accuracy, mean over "
    "seeds), against its number of rows: those that it trains on and those that it is scored on. "
    "A dot is a profile; a line is the running mean over a fifth of the profiles.",
    "warm": "Masks over a warm bank minus the same masks over a random bank: the profiles of the "
    "headline by their difference (points of accuracy, mean over seeds). The line is the mean "
    "over profiles, the band its 95 % interval (bootstrap over profiles).",
    "map": "Profiles by their hard masks over one random bank (first seed): the two directions in "
    "which the bits differ most. Colour: the most frequent training label. By chance: the share "
    "of variance if each bit is dealt out anew over the profiles.",
    "overlap": "Of the adapters that a profile selects, how many another profile selects too, "
    "mean over pairs with the same most frequent training label and over the others (hard masks "
    "over one random bank, first seed).",
    "scale": "Bytes on disk for P profiles: adapters, or a bank and masks, without heads. A random "
    "bank is its seed; a trained or warm one is stored. The rings are where hard masks with their "
    "bank begin to take less than adapters.",
}


def _panels(
    names: Sequence[str], columns: int, height: float, above: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with an axes a cohort, each named after it, and room `above` for a legend."""
    columns = min(columns, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(height * rows + above, WIDTH if columns == 1 else 3.9 * columns)
    grid = figure.add_gridspec(rows, columns)
    made = []
    for index, name in enumerate(names):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        axes.set_title(task_title(name))
        made.append(axes)
    return figure, made


def _legend(figure: Figure, handles: Iterable[Any], columns: int) -> None:
    figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
    )


# --------------------------------------------------------------------------------------- gains


@styled
def gains_figure(arms: Sequence[Arm], *, columns: int = 1) -> Figure:
    """Gain of each profile over one model for all, against its rows."""
    shown = {
        name: (left, right, group)
        for name, group in cohorts(arms).items()
        if (left := chief(group)) and (right := yardstick(group))
    }
    if not shown:
        return empty("No evidence yet: no masks of profiles beside another method.")
    lines = {name: gain_lines(group) for name, (_, _, group) in shown.items()}
    handles: dict[str, Line2D] = {
        arm_title(arm): Line2D([], [], label=_wrapped(arm_title(arm), 44), **_line(arm, place))
        for found in lines.values()
        for place, arm in enumerate(found)
    }
    dots = [
        Line2D([], [], label=label, marker="o", linestyle="none", markersize=4.5, **style)
        for label, style in (
            ("a profile", {"color": colour_of("vermilion"), "alpha": 0.6}),
            (
                f"a profile, {100 * VARIED:.0f} % or more of one label",
                {"color": colour_of("muted"), "markerfacecolor": "none"},
            ),
        )
    ]
    across = 1 if columns == 1 or len(shown) == 1 else 2
    wrapped = sum(str(handle.get_label()).count("\n") for handle in handles.values())
    room = 0.2 * math.ceil((len(handles) + 2 + wrapped) / across)
    figure, panels = _panels(list(shown), columns, 2.7, room)
    for axes, (name, (left, right, _)) in zip(panels, shown.items(), strict=True):
        _gains_panel(axes, left, right, lines[name])
    _legend(figure, [*dots, *handles.values()], across)
    return figure


def gain_lines(arms: Sequence[Arm]) -> list[Arm]:
    """The arms of a cohort whose running means are drawn: the chief ones, and own adapter, head."""
    own = [
        next(
            (
                arm
                for arm in arms
                if arm["method"] == method and arm["scope"] != "cohort" and arm["base"] == "none"
            ),
            None,
        )
        for method in ("single_adapter", "head_only")
    ]
    found = [chief(arms), chief(arms, "random"), *own]
    yard = yardstick(arms)
    kept: list[Arm] = []
    for arm in found:
        if arm is not None and arm is not yard and arm not in kept:
            kept.append(arm)
    return kept


def _line(arm: Arm, place: int) -> dict[str, Any]:
    second = place > 0 and arm["method"] == "x_peft"
    return {
        "color": mark_of(arm)[0],
        "linewidth": 2.2 if place == 0 else 1.6,
        "linestyle": (0, (4, 1.5)) if second else "solid",
    }


def _gains_panel(axes: Axes, left: Arm, right: Arm, lines: Sequence[Arm]) -> None:
    rows = row_counts(left).astype(np.float64)
    alike = bool(np.ptp(rows) == 0)
    # dots of the same rows and gain would hide each other
    spread = np.random.default_rng(0).uniform(-1, 1, len(rows)) * (0.16 if alike else 0.03)
    gaps = 100 * (accuracies(left) - accuracies(right))
    kept = np.zeros(len(rows), dtype=bool)
    kept[varied(left["profiles"])] = True
    places = rows * np.exp(spread)
    axes.axhline(0, color=colour_of("ink"), linewidth=1, zorder=1)
    axes.scatter(
        places[~kept], gaps[~kept], s=13, facecolors="none", edgecolors=colour_of("muted"),
        linewidths=0.7, zorder=2,
    )  # fmt: skip
    axes.scatter(
        places[kept], gaps[kept], s=15, color=mark_of(left)[0], alpha=0.4, linewidths=0, zorder=2
    )
    for place, arm in enumerate(lines):
        at, mean = running_mean(rows, 100 * (accuracies(arm) - accuracies(right)))
        axes.plot(at, mean, zorder=4, **_line(arm, place))
    axes.set_xscale("log")
    if alike:
        axes.set_xlim(rows[0] / 1.5, rows[0] * 1.5)
    narrow = rows.max() < 8 * rows.min()
    axes.xaxis.set_major_locator(ticks(5) if narrow else LogLocator(10, subs=(1, 2, 5)))
    if alike:
        axes.set_xticks([rows[0]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(ticks(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed_tick(value)))
    axes.grid(axis="y", linewidth=0.6)
    axes.set_xlabel("training and test rows (logarithmic)")
    axes.set_ylabel(f"points over\n{_wrapped(arm_title(right), 24)}")


def _wrapped(words: str, width: int) -> str:
    return "\n".join(textwrap.wrap(words, width))


def running_mean(rows: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Means over windows of a fifth of the profiles, in order of their rows.

    Returns:
        Where they stand (geometric mean of the window's rows), and the means; for equal rows one
        mean over all, twice.
    """
    if np.ptp(rows) == 0:
        return rows[0] * np.array([0.85, 1.18]), np.full(2, values.mean())
    width = max(min(5, len(rows)), round(len(rows) / 5))
    order = np.argsort(rows, kind="stable")
    window = np.ones(width) / width
    at = np.exp(np.convolve(np.log(rows[order]), window, "valid"))
    return at, np.convolve(values[order], window, "valid")


# ---------------------------------------------------------------------------------------- warm


def warm_pairs(arms: Sequence[Arm], pairs: Sequence[Json]) -> dict[str, tuple[Arm, Arm, Json]]:
    """Of each cohort: masks over a warm and over a random bank, and their pair of the summary."""
    found = {}
    for name, group in cohorts(arms).items():
        warm = chief(group, "warm")
        near = warm and nearest_random(warm, group)
        if warm is None or near is None:
            continue
        for pair in pairs:
            named = (f"{pair['suite']}/{pair['task']}", pair["left"], pair["right"])
            if named == (name, warm["arm"], near["arm"]) and pair["headline"]:
                found[name] = (warm, near, pair)
    return found


@styled
def warm_figure(arms: Sequence[Arm], pairs: Sequence[Json], *, columns: int = 1) -> Figure:
    """How many profiles a warm bank gives more or less than a random one."""
    shown = warm_pairs(arms, pairs)
    if not shown:
        return empty("No evidence yet: no masks of profiles over warm and random banks.")
    figure, panels = _panels(list(shown), columns, 2.4, 0.25)
    for axes, (warm, near, pair) in zip(panels, shown.values(), strict=True):
        _warm_panel(axes, warm, near, pair["headline"])
    _legend(
        figure,
        [
            Patch(facecolor=colour_of("amber"), label="warm better"),
            Patch(facecolor=colour_of("muted"), label="about equal"),
            Patch(facecolor=colour_of("purple"), label="random better"),
        ],
        3,
    )
    return figure


def _warm_panel(axes: Axes, warm: Arm, near: Arm, found: Json) -> None:
    kept = varied(warm["profiles"])
    gaps = 100 * (accuracies(warm) - accuracies(near))[kept]
    reach = max(5.0, float(np.abs(gaps).max()))
    width = next(w for w in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if reach / w <= 12 or w == 20.0)
    sides = math.ceil(reach / width - 0.5)
    edges = (np.arange(-sides, sides + 2) - 0.5) * width  # one bar is around zero
    counts, _ = np.histogram(gaps, edges)
    for count, low in zip(counts, edges[:-1], strict=True):
        middle = low + width / 2
        name = "muted" if abs(middle) < width / 4 else "amber" if middle > 0 else "purple"
        axes.bar(low, count, width * 0.92, align="edge", color=colour_of(name), zorder=2)
    if found["low"] is not None:
        axes.axvspan(100 * found["low"], 100 * found["high"], color=colour_of("panel"), zorder=0)
    axes.axvline(100 * found["mean"], color=colour_of("ink"), linewidth=1.4, zorder=3)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(ticks(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed_tick(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", linewidth=0.6)
    axes.set_xlabel(f"points, warm minus random bank (mean {signed(100 * found['mean'])})")
    axes.set_ylabel("profiles")


# ----------------------------------------------------------------------------------------- map


_LABELS = (
    ("blue", "o"),
    ("vermilion", "^"),
    ("green", "s"),
    ("purple", "D"),
    ("amber", "v"),
    ("ink", "P"),
)
"""Colours and markers of the most frequent labels; the rest is `other`."""


def mapped(arms: Sequence[Arm]) -> dict[str, tuple[Arm, npt.NDArray[np.bool_]]]:
    """Of each cohort: an arm with hard masks over a random bank, and its bits."""
    found = {}
    for name, group in cohorts(arms).items():
        hard = [arm for arm in group if arm["mask"] == "hard"]
        arm = chief(hard, "random")
        bits = None if arm is None else mask_bits(arm)
        if arm is not None and bits is not None:
            found[name] = (arm, bits)
    return found


@styled
def map_figure(arms: Sequence[Arm], *, columns: int = 1) -> Figure:
    """Profiles on a plane by their masks, coloured by their most frequent label."""
    shown = {
        name: (arm, found)
        for name, (arm, bits) in mapped(arms).items()
        if (found := project(bits)) is not None
    }
    if not shown:
        return empty("No evidence yet: no hard masks of profiles.")
    most = max(len(set(arm["profiles"]["top"])) for arm, _ in shown.values())
    figure, panels = _panels(list(shown), columns, 3.2 + 0.2 * math.ceil(min(most, 7) / 2))
    for axes, (arm, found) in zip(panels, shown.values(), strict=True):
        top = arm["profiles"]["top"]
        named = [label for label, _ in Counter(sorted(top)).most_common(len(_LABELS))]
        for label in [None, *reversed(named)]:
            colour, marker = ("muted", "x") if label is None else _LABELS[named.index(label)]
            here = [i for i, own in enumerate(top) if (own if own in named else None) == label]
            if here:
                x, y = found.places[here].T
                axes.scatter(
                    x, y, s=16, marker=marker, color=colour_of(colour),
                    alpha=0.75, linewidths=0.8 if marker == "x" else 0,
                    label=f"{label or 'other'} ({len(here)})",
                )  # fmt: skip
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0, -0.09), ncols=2,
            columnspacing=1.0, handletextpad=0.2, borderpad=0,
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(NullLocator())
        first, second = (100 * share for share in found.shares)
        axes.set_xlabel(f"{first:.1f} % of variance ({100 * found.chance:.1f} % by chance)")
        axes.set_ylabel(f"{second:.1f} % of variance")
    return figure


# ------------------------------------------------------------------------------------- overlap


@styled
def overlap_figure(arms: Sequence[Arm], *, columns: int = 1) -> Figure:
    """Of what a profile selects, how much others select too, block by block."""
    shown = {
        name: found
        for name, (arm, bits) in mapped(arms).items()
        if (found := overlaps(bits, arm["profiles"]["top"])) is not None
    }
    if not shown:
        return empty("No evidence yet: no hard masks of profiles.")
    figure, panels = _panels(list(shown), columns, 2.4, 0.65)
    for axes, found in zip(panels, shown.values(), strict=True):
        separate = len(found.alike) % 2 == 0
        half = len(found.alike) // 2 if separate else len(found.alike)
        blocks = np.arange(1, half + 1)
        for side, (colour, marker) in enumerate(_SIDES[: 2 if separate else 1]):
            rows = slice(side * half, (side + 1) * half)
            for values, fill in ((found.alike, colour_of(colour)), (found.different, None)):
                axes.plot(
                    blocks, 100 * values[rows], color=colour_of(colour), marker=marker,
                    linewidth=1.2, markersize=5.5, markerfacecolor=fill or colour_of("paper"),
                    linestyle="solid" if fill else (0, (3, 2)),
                )  # fmt: skip
        axes.axhline(100 * found.chance, color=colour_of("ink"), linewidth=1, linestyle=(0, (1, 1)))
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.set_xlim(0.6, half + 0.4)
        low, high = axes.get_ylim()
        middle, reach = (low + high) / 2, max(high - low, 2.0)
        axes.set_ylim(middle - reach / 2, middle + reach / 2)
        axes.yaxis.set_major_locator(ticks(5))
        axes.grid(axis="y", linewidth=0.6)
        axes.set_xlabel("block of the encoder")
        axes.set_ylabel("selected by both,\n% of the selected")
    _legend(figure, _overlap_handles(), 2)
    return figure


_SIDES = (("blue", "o"), ("vermilion", "^"))


def _overlap_handles() -> list[Line2D]:
    made = []
    for (colour, marker), side in zip(_SIDES, ("M_A", "M_B"), strict=True):
        for words, fill in (("same main label", True), ("other main label", False)):
            made.append(
                Line2D(
                    [], [], color=colour_of(colour), marker=marker, markersize=5.5,
                    markerfacecolor=colour_of(colour if fill else "paper"),
                    linestyle="solid" if fill else (0, (3, 2)), label=f"{side}, {words}",
                )
            )  # fmt: skip
    ink = colour_of("ink")
    return [*made, Line2D([], [], color=ink, linewidth=1, linestyle=(0, (1, 1)), label="chance")]


# --------------------------------------------------------------------------------------- scale


def scale_lines(ledger: Json) -> dict[str, tuple[str, Any, Callable[[float], float]]]:
    """What P profiles take in bytes, by name: colour, line style, function of P."""
    banks = ledger["bank"]
    adapter = ledger["adapter"]["bytes"]
    soft, hard = (ledger["masks"][key]["bytes"] for key in ("soft_fp32", "hard_bits"))

    def line(bank: float, each: float) -> Callable[[float], float]:
        return lambda count: bank + count * each

    dashed = (0, (4, 2))
    found: dict[str, tuple[str, Any, Callable[[float], float]]] = {
        "an adapter each": ("blue", "solid", line(0, adapter))
    }
    if "trained" in banks:
        stored = banks["trained"]["bytes"]
        found["soft masks, stored bank"] = ("green", dashed, line(stored, soft))
        found["hard masks, stored bank"] = ("vermilion", dashed, line(stored, hard))
    if "random" in banks:
        seed = banks["random"]["bytes"]
        found["soft masks, random bank"] = ("green", "solid", line(seed, soft))
        found["hard masks, random bank"] = ("vermilion", "solid", line(seed, hard))
    return found


@styled
def scale_figure(ledger: Json | None) -> Figure:
    """Bytes for 1 to 1,000,000 profiles, with the break-even against adapters."""
    if ledger is None:
        return empty("No evidence yet: no ledger.")
    counts = np.array([entry["profiles"] for entry in ledger["profiles"]], dtype=np.float64)
    counts = np.geomspace(counts.min(), counts.max(), 61)
    lines = scale_lines(ledger)
    figure = new_figure(3.2 + 0.2 * math.ceil(len(lines) / 2))
    axes = figure.add_subplot()
    for name, (colour, style, size) in lines.items():
        axes.plot(
            counts, [size(count) for count in counts], color=colour_of(colour), linestyle=style,
            linewidth=1.8, label=name,
        )  # fmt: skip
    adapter = ledger["adapter"]["bytes"]
    for bank in ledger["bank"].values():
        pays = bank["break_even_profiles"]
        if pays is None:
            continue
        axes.scatter(
            pays, pays * adapter, s=60, facecolors="none", edgecolors=colour_of("ink"),
            linewidths=1.3, zorder=4,
        )  # fmt: skip
        if pays > 1:
            axes.annotate(
                f"from {pays:,} on",
                (pays, pays * adapter),
                xytext=(-7, 5),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=8.5,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.yaxis.set_major_locator(LogLocator(10, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_bytes(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(linewidth=0.6)
    axes.set_xlabel("profiles (logarithmic)")
    axes.set_ylabel("bytes on disk (logarithmic)")
    _legend(figure, axes.get_legend_handles_labels()[0], 2)
    return figure
