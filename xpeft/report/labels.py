"""Names beside the points of a figure, each near its own and none over another.

The places are searched on a fixed grid around each point, in a fixed order, so that equal input
gives equal figures; libraries that push labels apart stop by a clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

from xpeft.report.drawing import colour_of

SIZE = 8.0
"""Of the type, in points."""

_RADII = (7.0, 11.0, 16.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0)
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 68, 112, 248, 292)
_NEAR = 12.0
"""Up to here, in points, a label needs no line to its point."""

_MARK = 5.0
"""Half the side of the square that a mark takes, in points."""

_ROUNDS = 8
"""Most times that all labels are placed anew."""

_GAP = 1.5
"""Least space between two labels, in points."""


@dataclass(frozen=True)
class Label:
    """A name for a point, in data coordinates, and the colour of its text."""

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True)
class Box:
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, wide) * max(0.0, high)

    def distance(self, point: tuple[float, float]) -> float:
        """From a point to the nearest of its own."""
        return math.hypot(
            max(self.left - point[0], 0.0, point[0] - self.right),
            max(self.bottom - point[1], 0.0, point[1] - self.top),
        )

    @property
    def area(self) -> float:
        """Of the rectangle."""
        return (self.right - self.left) * (self.top - self.bottom)


def place_labels(
    axes: Axes, labels: Sequence[Label], lines: Sequence[tuple[float, float, float, float]] = ()
) -> None:
    """Write the labels into finished axes: no limit or other text may change afterwards.

    Args:
        axes: of a figure that is drawn but for these labels.
        labels: a point each; every point counts as taken, also by the labels of others.
        lines: segments (x0, y0, x1, y1) along an axis, in data coordinates, that labels had better
            not cover.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # settles where the axes are
    unit = 72 / figure.dpi

    def at(x: float, y: float) -> tuple[float, float]:
        px, py = axes.transData.transform((x, y))
        return float(px * unit), float(py * unit)

    room = axes.get_window_extent()
    frame = Box(room.x0 * unit, room.y0 * unit, room.x1 * unit, room.y1 * unit)
    points = [at(label.x, label.y) for label in labels]
    soft = [_segment(at(x0, y0), at(x1, y1)) for x0, y0, x1, y1 in lines]
    sizes = [_extent(label.text) for label in labels]
    places: dict[int, _Place] = {}
    order = _most_crowded_first(points)
    for _ in range(_ROUNDS):  # in the first each meets those before it, then all meet all
        before = dict(places)
        for index in order:
            others = [place for other, place in places.items() if other != index]
            places[index] = _best(points[index], sizes[index], others, frame, points, soft)
        if places == before:
            break
    for index in order:
        _write(axes, labels[index], places[index])


@dataclass(frozen=True)
class _Place:
    """Where a label goes: the shift of its middle from its point, its box and its leader."""

    dx: float
    dy: float
    box: Box
    leader: tuple[Box, ...]


def _best(
    point: tuple[float, float],
    size: tuple[float, float],
    others: Sequence[_Place],
    frame: Box,
    points: Sequence[tuple[float, float]],
    soft: Sequence[Box],
) -> _Place:
    """The place of least cost, of equals the nearest, with all others where they are."""
    wide, high = size
    boxes = [place.box for place in others]
    leaders = [step for place in others for step in place.leader]
    marks = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in points]
    best, least = None, math.inf
    for radius in _RADII:
        if radius >= least:
            break  # no further one can cost less
        for turn, angle in enumerate(_ANGLES):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            dx, dy = dx * (radius + wide / 2), dy * (radius + high / 2)
            x, y = point[0] + dx, point[1] + dy
            box = Box(
                x - wide / 2 - _GAP, y - high / 2 - _GAP,
                x + wide / 2 + _GAP, y + high / 2 + _GAP,
            )  # fmt: skip
            leader = tuple(_leader(point, (x, y))) if radius > _NEAR else ()
            nearer = sum(box.distance(other) < box.distance(point) for other in points)
            cost = (
                100 * (box.area - box.overlap(frame))
                + 20 * sum(box.overlap(other) for other in (*boxes, *leaders))
                + 20 * sum(box.overlap(mark) for mark in marks)
                + 40 * nearer  # it would read as the name of these
                + 3 * sum(box.overlap(line) for line in soft)
                + 8 * sum(step.overlap(other) for step in leader for other in boxes)
                + 8 * sum(step.overlap(other) for step in leader for other in leaders)
                + 4 * sum(step.overlap(mark) for step in leader for mark in marks)
                + sum(step.overlap(line) for step in leader for line in soft)
                + radius
                + 0.1 * turn
            )
            if cost < least:
                best, least = _Place(dx, dy, box, leader), cost
    assert best is not None
    return best


def _write(axes: Axes, label: Label, place: _Place) -> None:
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "alpha": 0.7}
    note = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=SIZE,
        color=colour_of("ink"),  # small text in the colour of its mark would lack contrast
        arrowprops={**line, "shrinkA": 0, "shrinkB": _MARK - 1} if place.leader else None,
        zorder=5,
        bbox={"facecolor": colour_of("paper"), "edgecolor": "none", "alpha": 0.75, "pad": 0.3},
    )
    note.set_in_layout(False)  # or the axes would move under the labels


def _extent(text: str) -> tuple[float, float]:
    """Width and height of a text in points, without a renderer."""
    wide = max(TextPath((0, 0), line, size=SIZE).get_extents().width for line in text.split("\n"))
    return wide + 1.0, 1.2 * SIZE * len(text.split("\n"))


def _segment(start: tuple[float, float], end: tuple[float, float]) -> Box:
    left, right = sorted((start[0], end[0]))
    bottom, top = sorted((start[1], end[1]))
    return Box(left - 1, bottom - 1, right + 1, top + 1)


def _leader(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """The line from a mark to the middle of its label, as small squares along it."""
    length = math.dist(start, end)
    squares = []
    for step in range(int(_MARK) + 2, int(length), 4):
        x = start[0] + (end[0] - start[0]) * step / length
        y = start[1] + (end[1] - start[1]) * step / length
        squares.append(Box(x - 1.5, y - 1.5, x + 1.5, y + 1.5))
    return squares


def _most_crowded_first(points: Sequence[tuple[float, float]]) -> list[int]:
    """Those with most others near by choose first; of equals, the left one."""

    def crowd(index: int) -> float:
        x, y = points[index]
        return sum(1 / (20 + math.hypot(x - a, y - b)) for a, b in points)

    return sorted(range(len(points)), key=lambda i: (-round(crowd(i), 9), points[i]))
