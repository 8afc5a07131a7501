"""What a larger bank brings and costs: score, speed, memory and bytes against N.

Random banks only, hard masks that select half of them, all with a head of their own; the size that
all are compared with is BASE. Time and memory of a step are what `benchmarks/step.py` measured side
by side in one run: records of different days and machines have no seconds in common.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from xpeft import stats
from xpeft.codec import code_bytes
from xpeft.errors import EncoderError
from xpeft.ledger import REDUCTION
from xpeft.report.drawing import colour_of, empty, mark_of, new_figure, styled, ticks
from xpeft.report.forms import Table
from xpeft.report.summary import (
    Arm,
    learned,
    main_grid,
    on_tasks,
    plain_heads,
    scores_by_seed,
    task_name,
    task_names,
)
from xpeft.report.words import byte_count, over_tasks, signed, signed_ends, task_title
from xpeft.shapes import encoder_shape

Json = dict[str, Any]

BASE = 100
"""N that the others are compared with."""

CODES = {"soft32": "Soft", "bits": "Bit set", "enumerative": "Enumerative"}
"""The codes of masks, and their headings."""


@dataclass(frozen=True)
class Size:
    """A size of the bank, over the tasks on which it and BASE have records and an adapter learned.

    Attributes:
        tasks: `suite/task` each.
        mask: soft or hard.
        n, k: adapters of the bank; those that a hard mask selects, or None.
        gap: mean difference of the scores to BASE, in points.
        low, high: 95 % interval over seeds; None for BASE and with one seed.
        time: of a training step over that of an adapter; None where it was not measured.
        memory: peak of the process beyond the bank over the adapter's, likewise.
        bank: bytes of the bank in memory; None for an encoder of unknown shape.
        codes: bytes of the masks, by code.
    """

    tasks: list[str]
    mask: str
    n: int
    k: int | None
    gap: float
    low: float | None
    high: float | None
    time: float | None
    memory: float | None
    bank: int | None
    codes: dict[str, int]


def make_sizes(
    arms: Sequence[Arm], step: Json | None, tasks: Collection[str] | None = None
) -> dict[str, list[Size]]:
    """By kind of mask the sizes in ascending order; none without BASE and another.

    Args:
        arms: all of a tier.
        step: what the benchmark wrote, or None.
        tasks: the only ones to count; None for all.
    """
    found = {}
    useful, _ = learned(on_tasks(arms))
    if tasks is not None:
        useful = [task for task in useful if task in tasks]
    for mask in ("soft", "hard"):
        by_size: dict[int, dict[str, Arm]] = {}
        for arm in plain_heads(on_tasks(main_grid(arms))):
            half = arm["k"] is None or arm["k"] == arm["n"] // 2
            fits = (arm["method"], arm["mask"], arm["bank"]) == ("x_peft", mask, "random")
            if fits and half and task_name(arm) in useful:
                by_size.setdefault(arm["n"], {})[task_name(arm)] = arm
        base = by_size.get(BASE, {})
        sizes = [
            size
            for _, own in sorted(by_size.items())
            if (size := _size(own, base, step)) is not None
        ]
        if len(sizes) > 1:
            found[mask] = sizes
    return found


def make_table(arms: Sequence[Arm], step: Json | None) -> Table:
    """The sizes as a table."""
    data: list[Json] = []
    rows = []
    for sizes in make_sizes(arms, step).values():
        for size in sizes:
            data.append(
                {
                    "mask": size.mask,
                    "n": size.n,
                    "k": size.k,
                    "tasks": size.tasks,
                    "difference": size.gap,
                    "low_over_seeds": size.low,
                    "high_over_seeds": size.high,
                    "step_time": size.time,
                    "process_memory": size.memory,
                    "bank_bytes": size.bank,
                    **{f"{code}_bytes": size.codes.get(code) for code in CODES},
                }
            )
            rows.append([", ".join(map(task_title, size.tasks)), *row_text(size)])
    return Table(
        f"Banks of N random adapters against one of {BASE}: difference of the scores in points, "
        "mean over the tasks of the row with 95 % interval over seeds; time of a training step, "
        "and memory of its process beyond the bank, an adapter's being 1; the bank in memory; "
        "bytes of both masks by code. Bytes are those of the encoder that was trained.",
        ["mask", "n", "k", "tasks", "difference", "low_over_seeds", "high_over_seeds", "step_time",
         "process_memory", "bank_bytes", *(f"{code}_bytes" for code in CODES)],
        data,
        ["Tasks", "Masks", "N", "Difference", "95 % over seeds", "Step", "Process", "Bank",
         *CODES.values()],
        rows,
    )  # fmt: skip


def row_text(size: Size) -> list[str]:
    """The cells of a row, from the kind of mask on."""
    dash = "\N{EN DASH}"
    return [
        f"{size.mask} masks",
        str(size.n),
        signed(size.gap),
        dash if size.n == BASE else signed_ends(size.low, size.high),
        dash if size.time is None else f"{size.time:.2f}",
        dash if size.memory is None else f"{size.memory:.2f}",
        dash if size.bank is None else f"{size.bank / 1e6:,.0f} MB",
        *(byte_count(size.codes[code]) if code in size.codes else dash for code in CODES),
    ]


@styled
def sizes_figure(arms: Sequence[Arm], step: Json | None) -> Figure:
    """Score, over the tasks that all sizes share, and time of a step, against N."""
    owned = [set(size.tasks) for sizes in make_sizes(arms, step).values() for size in sizes]
    tasks = set.intersection(*owned) if owned else set()  # or a line would join different tasks
    found = make_sizes(arms, step, tasks)
    if not found:
        return empty(f"No evidence yet: no task with random banks of {BASE} and of all other N.")
    figure = new_figure(4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    every = sorted({size.n for sizes in found.values() for size in sizes})
    for place, (mask, sizes) in enumerate(found.items()):
        colour, marker = mark_of({"method": "x_peft", "mask": mask})
        shift = 1.02 ** (2 * place - 1)  # so that intervals of equal N stand side by side
        x = [size.n * shift for size in sizes]
        style: Json = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2}
        upper.plot(x, [size.gap for size in sizes], label=f"{mask} masks", **style)
        for at, size in zip(x, sizes, strict=True):
            if size.low is not None and size.high is not None:
                upper.plot([at, at], [size.low, size.high], color=colour, linewidth=1.2)
        timed = [(at, size.time) for at, size in zip(x, sizes, strict=True) if size.time]
        lower.plot([at for at, _ in timed], [time for _, time in timed], **style)
    for axes, level in ((upper, 0.0), (lower, 1.0)):
        axes.axhline(level, color=colour_of("muted"), linewidth=0.8, zorder=0.5)
        axes.yaxis.set_major_locator(ticks(5))
        axes.grid(axis="y", linewidth=0.6)
        axes.margins(y=0.12)
    named = sorted(tasks, key=task_names(arms).index)
    upper.set_ylabel(f"points over N = {BASE},\n{over_tasks(named)}")
    upper.legend(loc="best")
    lower.set_ylabel("time of a step,\nan adapter's is 1")
    lower.set_xscale("log")
    lower.set_xticks(every, [str(n) for n in every])
    lower.minorticks_off()
    lower.set_xlabel("adapters in the bank, N (logarithmic)")
    return figure


def _size(own: Mapping[str, Arm], base: Mapping[str, Arm], step: Json | None) -> Size | None:
    tasks = [task for task in base if task in own]
    if not tasks:
        return None
    first = own[tasks[0]]
    difference = stats.paired(
        {task: scores_by_seed(own[task]) for task in tasks},
        {task: scores_by_seed(base[task]) for task in tasks},
    )
    if difference is None:
        return None
    measured: Json = next(
        (
            entry
            for entry in (step["steps"] if step and step["encoder"] == first["encoder"] else ())
            if (entry["mask"], entry["n"]) == (first["mask"], first["n"])
        ),
        {},
    )
    gap, low, high = difference.in_points
    return Size(
        tasks,
        first["mask"],
        first["n"],
        first["k"],
        gap,
        None if own is base else low,
        None if own is base else high,
        measured.get("time_ratio"),
        measured.get("memory_ratio"),
        *_bytes(first),
    )


def _bytes(arm: Arm) -> tuple[int | None, dict[str, int]]:
    """Of the bank in memory, without biases, and of the masks by code; none of unknown shapes."""
    try:
        shape = encoder_shape(arm["encoder"])
    except EncoderError:
        return None, {}
    n, layers, bottleneck = arm["n"], shape.layers, shape.width // REDUCTION
    if arm["mask"] == "soft":
        codes = {"soft32": code_bytes("soft32", layers, n)}
    else:
        codes = {
            "bits": code_bytes("bits", layers, n),
            "enumerative": code_bytes("enumerative", layers, n, arm["k"]),
        }
    return 4 * n * 2 * layers * shape.width * bottleneck, codes
