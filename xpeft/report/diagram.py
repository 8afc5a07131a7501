"""The method as a diagram: bank, masks, their aggregate, and its place in a frozen block."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from xpeft.report.drawing import WIDTH, colour_of, styled


@styled
def method_figure() -> Figure:
    """The method, drawn: bank, masks, their aggregate, and its place in a frozen block."""
    figure = Figure(figsize=(WIDTH, 5.75))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 100)
    axes.set_ylim(-4, 136)
    axes.set_axis_off()

    # The bank: N pairs of trapezia.
    _box(axes, 2, 98, 96, 36, "panel")
    axes.text(5, 130, "Bank: N frozen adapters, shared by all", va="center", weight="bold")
    picked = (0, 2, 3), (1, 2, 5)  # in M_A, in M_B
    centres = [25 + 11.5 * i for i in range(7)]
    for side, (y, name, colour) in enumerate(((119, "down", "blue"), (106, "up", "vermilion"))):
        axes.text(5, y, name, va="center", color=colour_of(colour), weight="bold")
        for index, x in enumerate(centres):
            if index == 6:
                axes.text(x, y, "\N{HORIZONTAL ELLIPSIS}", ha="center", va="center")
                continue
            chosen = index in picked[side]
            _trapezium(axes, x, y, side == 1, colour, filled=chosen)

    # The masks of a profile.
    axes.text(5, 92.5, "Profile: two masks of N bits a block", va="center", weight="bold")
    for side, (y, name, colour) in enumerate(((83, "$M_A$", "blue"), (73, "$M_B$", "vermilion"))):
        axes.text(5, y, name, va="center", color=colour_of(colour), size=11)
        for index, x in enumerate(centres):
            if index == 6:
                axes.text(x, y, "\N{HORIZONTAL ELLIPSIS}", ha="center", va="center")
                continue
            chosen = index in picked[side]
            axes.add_patch(
                Rectangle(
                    (x - 3.6, y - 3.6), 7.2, 7.2, linewidth=1,
                    facecolor=colour_of(colour) if chosen else "none", edgecolor=colour_of(colour),
                )
            )  # fmt: skip
            axes.text(
                x, y - 0.2, str(int(chosen)), ha="center", va="center", size=9,
                color=colour_of("paper") if chosen else colour_of("ink"),
            )  # fmt: skip

    # The aggregate: one adapter, entered from the left and left at the top.
    axes.text(5, 63, "Sum of the selected: the profile's adapter", va="center", weight="bold")
    _box(axes, 55, 2, 43, 55, "none", edge="muted", dashed=True)
    _box(axes, 64, 4.5, 25, 7.5, "paper", edge="muted")
    axes.text(76.5, 8.1, "LayerNorm", ha="center", va="center", size=8.5)
    _trapezium(axes, 76.5, 20, False, "blue", filled=True, scale=2.1)
    axes.text(76.5, 20, "down", ha="center", va="center", color=colour_of("paper"), size=9)
    _box(axes, 64, 28.5, 25, 7.5, "panel")
    axes.text(76.5, 32.1, "norm, ReLU", ha="center", va="center", size=8.5)
    _trapezium(axes, 76.5, 44, True, "vermilion", filled=True, scale=2.1)
    axes.text(76.5, 44, "up", ha="center", va="center", color=colour_of("paper"), size=9)
    for low, high in ((12, 15.4), (24.6, 28.5), (36, 39.4)):
        _arrow(axes, (76.5, low), (76.5, high))

    # The frozen block.
    _box(axes, 3, 2, 40, 55, "panel")
    for y, words in ((5, "self-attention"), (18, "feed-forward, skip"), (46, "LayerNorm")):
        _box(axes, 6, y, 34, 8.5, "paper", edge="muted")
        axes.text(23, y + 4.1, words, ha="center", va="center", size=8.5)
    axes.text(23, 36.9, "+", ha="center", va="center", size=12)
    axes.add_patch(Circle((23, 37), 3.0, facecolor="none", edgecolor=colour_of("ink"), linewidth=1))
    for low, high in ((13.5, 18), (26.5, 34), (40, 46)):
        _arrow(axes, (23, low), (23, high))
    axes.plot([23, 51, 51], [29.5, 29.5, 8.2], color=colour_of("ink"), linewidth=1.1)
    _arrow(axes, (51, 8.2), (64, 8.2))
    axes.plot([76.5, 76.5, 48, 48], [48.6, 53, 53, 37], color=colour_of("ink"), linewidth=1.1)
    _arrow(axes, (48, 37), (26, 37))
    axes.text(23, -1.5, "frozen encoder block", ha="center", va="center", size=8.5)
    axes.text(76.5, -1.5, "put together from the bank", ha="center", va="center", size=8.5)
    return figure


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, fill: str,
    *, edge: str | None = None, dashed: bool = False,
) -> None:  # fmt: skip
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1.5",
            facecolor="none" if fill == "none" else colour_of(fill),
            edgecolor="none" if edge is None else colour_of(edge),
            linewidth=1,
            linestyle=(0, (3, 2)) if dashed else "solid",
        )
    )


def _trapezium(
    axes: Axes, x: float, y: float, up: bool, colour: str, *, filled: bool, scale: float = 1.0
) -> None:
    """A projection: wide where d enters or leaves, narrow at the bottleneck."""
    wide, narrow, half = 4.4 * scale, 2.2 * scale, 4.6
    bottom, top = (narrow, wide) if up else (wide, narrow)
    axes.add_patch(
        Polygon(
            [
                (x - bottom, y - half),
                (x + bottom, y - half),
                (x + top, y + half),
                (x - top, y + half),
            ],
            facecolor=colour_of(colour) if filled else "none",
            edgecolor=colour_of(colour),
            linewidth=1,
            closed=True,
        )
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, linewidth=1.1, shrinkA=0, shrinkB=0,
            color=colour_of("ink"),
        )
    )  # fmt: skip
