"""All-in: everything that a profile takes of a store's file, on one encoder's shapes, by score.

The claim of 10,000 times is about BERT-base. Profiles that were trained on another encoder are
counted anew for its shapes: the same method, N, k, head and classes, with the blocks and the width
of BERT-base. The scores stay those of the encoder that was trained, whose own ratio stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from xpeft import stats
from xpeft.codec import Codec, code_bytes
from xpeft.errors import EncoderError
from xpeft.job import Sides
from xpeft.ledger import (
    GOAL,
    REDUCTION,
    adapter_parameters,
    binary_head_bytes,
    head_parameters,
)
from xpeft.peersizes import peer_sizes
from xpeft.report.cohorts import cohorts
from xpeft.report.drawing import colour_of, empty, new_figure, styled
from xpeft.report.forms import Table
from xpeft.report.frontier import (
    YARD,
    Point,
    draw_points,
    gap_range,
    make_points,
    name_points,
    shared_tasks,
)
from xpeft.report.pairs import accuracy_rows
from xpeft.report.summary import Arm, main_grid, on_tasks, task_name, varied
from xpeft.report.words import (
    arm_title,
    byte_count,
    short_title,
    signed,
    signed_ends,
    task_title,
    times,
)
from xpeft.shapes import SHAPES, EncoderShape, encoder_shape
from xpeft.store import profile_file_bytes

Json = dict[str, Any]

TARGET = SHAPES["bert-base-uncased"]
"""The encoder of the claim."""

_MANY = 12
"""Names beyond which a panel of the figure is twice as high."""


@dataclass(frozen=True)
class Row:
    """An arm, all-in.

    Attributes:
        arm: one of its entries.
        payload: bytes of its profile on the shapes of TARGET; of several tasks the middle one's.
        stored: what such a profile takes of a store's file.
        ratio: an adapter's bytes over `stored`, on the shapes of TARGET.
        own_ratio: the same on the encoder that was trained.
        gap: mean difference to an adapter of the profile's own, in points.
        low, high: 95 % interval: over seeds; of a cohort over profiles and seeds. None for the
            adapter itself, and with one seed.
    """

    arm: Arm
    payload: int
    stored: int
    ratio: float
    own_ratio: float
    gap: float
    low: float | None
    high: float | None

    @property
    def fits(self) -> bool:
        """Whether it reaches the goal."""
        return self.ratio >= GOAL


@dataclass(frozen=True)
class Panel:
    """What is compared over some data.

    Attributes:
        data: the names of the tasks, or of the cohort.
        over: what intervals are over.
        rows: the arms, fewest bytes first.
        learned: whether the adapter is above the majority class, or a profile's own usual label;
            a distance from one that is not says little.
        left_out: titles of arms that have no records on some of the data.
        free: mean difference of the donors' model as it is, in points, which has no place among
            the rows, as a profile stores nothing of it; None without it.
    """

    data: list[str]
    over: str
    rows: list[Row]
    learned: bool = True
    left_out: tuple[str, ...] = ()
    free: float | None = None


def payload_at(arm: Arm, own: EncoderShape, other: EncoderShape) -> int | None:
    """Bytes of an arm's profile on another encoder, by what it holds on its own.

    Hard masks are taken in the enumerative code, peers as `xpeft.peersizes` counts them.

    Args:
        arm: of tasks or of a cohort.
        own: the encoder that it was trained on.
        other: the encoder to count for.

    Returns:
        None for a method whose bytes on the other encoder are not known.
    """
    held = arm["parameters"]
    match arm["head"]:
        case "shared+bias":
            head = 4 * held["head"]
        case "binary":
            head = binary_head_bytes(other.width, held["head"] // (own.width + 2))
        case _:
            head = 4 * head_parameters(other.width, held["head"] // (own.width + 1))
    match arm["method"]:
        case "head_only":
            rest: int | None = 0
        case "single_adapter":
            each = held["adapter"] // own.layers  # 2 d b + b + d
            scaled = (each - own.width) // (2 * own.width + 1) * other.width // own.width
            rest = 4 * adapter_parameters(other.layers, other.width, scaled)
        case "x_peft":
            rest = _masked(arm, own, other)
        case "full":
            rest = other.parameters and 4 * other.parameters
        case method:
            peers = peer_sizes(other)
            rest = peers[method].bytes if method in peers else None
    return None if rest is None else rest + head


def _masked(arm: Arm, own: EncoderShape, other: EncoderShape) -> int | None:
    """Bytes of masks, norm and gain."""
    held, rows = arm["parameters"], arm["parameters"]["masks"] / (own.layers * arm["n"])
    if rows not in (1, 2):
        return None
    codec: Codec = "enumerative" if arm["mask"] == "hard" else "soft32"
    sides: Sides = "separate" if rows == 2 else "tied"
    masks = code_bytes(codec, other.layers, arm["n"], arm["k"], sides)
    norm = 4 * held["norm"] * other.layers * other.width // (own.layers * own.width)
    return int(masks + norm + 4 * held["gain"] * other.layers // own.layers)


def make_panels(arms: Sequence[Arm]) -> list[Panel]:
    """Tasks first, as one panel, then every cohort with an adapter of each profile's own."""
    panels = [_of_tasks(on_tasks(main_grid(arms)))]
    panels += [_of_cohort(task, group) for task, group in cohorts(arms).items()]
    return [panel for panel in panels if panel.rows]


def make_table(arms: Sequence[Arm]) -> Table:
    """The panels as a table."""
    data: list[Json] = []
    rows = []
    for panel in make_panels(arms):
        for row in panel.rows:
            data.append(
                {
                    "data": panel.data,
                    "arm": row.arm["arm"],
                    "payload_bytes": row.payload,
                    "file_bytes": row.stored,
                    "ratio": row.ratio,
                    "reaches_goal": row.fits,
                    "encoder": row.arm["encoder"],
                    "own_ratio": row.own_ratio,
                    "difference": row.gap,
                    "low": row.low,
                    "high": row.high,
                    "over": panel.over,
                    "adapter_learned": panel.learned,
                }
            )
            rows.append([", ".join(map(task_title, panel.data)), *row_text(row)])
    return Table(
        f"All-in on the shapes of {TARGET.name}: what a profile takes of the file of a large "
        "store, data, checksum, id, index and page; how many times that fits into an adapter, and "
        "the same on the encoder that was trained. Difference to an adapter of its own in points, "
        "with 95 % interval over seeds; of cohorts over profiles and seeds.",
        ["data", "arm", "payload_bytes", "file_bytes", "ratio", "reaches_goal", "encoder",
         "own_ratio", "difference", "low", "high", "over", "adapter_learned"],
        data,
        ["Data", "Method", "Data of a profile", "Of the file", "Adapter over it",
         "On its own encoder", "Difference", "95 %"],
        rows,
    )  # fmt: skip


def row_text(row: Row) -> list[str]:
    """The cells of a row, from the method on."""
    return [
        arm_title(row.arm),
        byte_count(row.payload),
        byte_count(row.stored),
        times(row.ratio),
        times(row.own_ratio),
        signed(row.gap),
        signed_ends(row.low, row.high),
    ]


@styled
def allin_figure(arms: Sequence[Arm]) -> Figure:
    """Score against all that a profile takes, with the line of 10,000 times."""
    panels = make_panels(arms)
    if not panels:
        return empty("No evidence yet: no records beside an adapter.")
    heights = [5.6 if len(panel.rows) > _MANY else 2.6 for panel in panels]
    figure = new_figure(sum(heights) + 0.4)
    goal = _adapter(TARGET) / GOAL
    sizes = [row.stored for panel in panels for row in panel.rows]
    drawn = []
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        shown = [(_point(row), row.stored) for row in panel.rows]
        draw_points(axes, shown)
        axes.set_xlim(min([*sizes, goal]) / 3, max(sizes) * 3)
        low, high = gap_range([point for point, _ in shown])
        axes.axvline(goal, color=colour_of("muted"), linewidth=1.0, linestyle=":", zorder=1)
        if panel.free is not None:
            low, high = min(low, panel.free - 1), max(high, panel.free + 1)
            axes.axhline(
                panel.free, color=colour_of("muted"), linewidth=1.2, linestyle="-.", zorder=1
            )
        axes.set_ylim(low, high)
        axes.set_title(_title(panel))
        axes.set_ylabel("points to an\nadapter of its own")
        drawn.append((axes, shown))
    drawn[-1][0].set_xlabel(f"bytes of a store's file a profile (logarithmic),\n{TARGET.name}")
    for axes, shown in drawn:
        name_points(axes, shown, _name)
    return figure


def _title(panel: Panel) -> str:
    names = [task_title(task) for task in panel.data]
    if len(names) > 3:
        return f"Mean of {len(names)} tasks"
    return ", ".join(names) + ("" if panel.learned else "\n(the adapter learned nothing)")


def _name(arm: Arm) -> str:
    """A name that fits into a panel; with cohorts, what is not said is in the table."""
    if arm["profiles"] is None:
        return short_title(arm)
    if arm["method"] == "x_peft":
        return f"{arm['mask']} N={arm['n']} {arm['bank']}"
    if arm["method"] == YARD:
        start = {"head": ", donors' head", "adapter": ", donors' start"}
        return f"adapter{start.get(arm['base'], '')}"
    return "bias" if arm["head"] == "shared+bias" else "head"


def _point(row: Row) -> Point:
    return Point(row.arm, row.stored, row.payload, row.gap, row.low, row.high)


def _row(group: Sequence[Arm], gap: float, low: float | None, high: float | None) -> Row | None:
    """The row of an arm from its entries; None where it cannot be counted."""
    counted = []
    for arm in group:
        try:
            own = encoder_shape(arm["encoder"])
        except EncoderError:
            return None
        payload, here = payload_at(arm, own, TARGET), payload_at(arm, own, own)
        if not payload or here is None:
            return None  # unknown; or one model for all, of which a profile stores nothing
        counted.append((payload, here, own, arm))
    payload, here, own, arm = sorted(counted, key=lambda item: item[0])[len(counted) // 2]
    stored = profile_file_bytes(payload)
    return Row(
        arm,
        payload,
        stored,
        _adapter(TARGET) / stored,
        _adapter(own) / profile_file_bytes(here),
        gap,
        low,
        high,
    )


def _adapter(shape: EncoderShape) -> int:
    return 4 * adapter_parameters(shape.layers, shape.width, shape.width // REDUCTION)


def _of_tasks(arms: Sequence[Arm]) -> Panel:
    """Over the tasks that the arms which reach the goal share; without such arms, any."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(arm["arm"], []).append(arm)
    plain = {name: _row(group, 0.0, None, None) for name, group in groups.items()}
    reach = {name for name, row in plain.items() if row and row.fits}
    chosen = [arm for arm in arms if arm["arm"] in reach or arm["method"] == YARD]
    points, tasks = make_points(arms, shared_tasks(chosen if reach else arms))
    rows = []
    for point in points:
        own = [arm for arm in groups[point.arm["arm"]] if task_name(arm) in tasks]
        rows.append(_row(own, point.gap, point.low, point.high))
    shown = {point.arm["arm"] for point in points}
    left_out = tuple(
        arm_title(group[0])
        for name, group in groups.items()
        if name not in shown and plain[name] and points
    )
    return Panel(tasks, "seeds", _sorted(rows), left_out=left_out)


def _of_cohort(task: str, arms: Sequence[Arm]) -> Panel:
    """Over the profiles of the headline, against the adapter that is trained on own rows alone."""
    over = "profiles and seeds"
    yard = next((arm for arm in arms if _is_yard(arm)), None)
    if yard is None:
        return Panel([task], over, [])
    kept = varied(yard["profiles"])
    found: list[Row | None] = []
    free = None
    for arm in arms:
        seeds = [seed for seed in arm["seeds"] if seed in yard["seeds"]]
        same = arm["encoder"] == yard["encoder"]
        if arm["scope"] == "cohort" or not (same and seeds and kept):
            continue
        one, other = (accuracy_rows(a, seeds)[:, kept] for a in (arm, yard))
        if not arm["parameters"]["total"]:
            free = 100 * float((one - other).mean())
            continue
        both = None if arm is yard else stats.paired_profiles({"": one}, {"": other})
        found.append(_row([arm], *(both.in_points if both else (0.0, None, None))))
    learned = yard["over_seeds"]["mean"] > yard["majority"]
    return Panel([task], over, _sorted(found), learned, free=free)


def _is_yard(arm: Arm) -> bool:
    plain = arm["scope"] == "profile" and arm["base"] == "none" and not arm["variant"]
    return bool(arm["method"] == YARD and plain)


def _sorted(rows: Sequence[Row | None]) -> list[Row]:
    return sorted((row for row in rows if row), key=lambda row: (row.stored, row.arm["arm"]))
