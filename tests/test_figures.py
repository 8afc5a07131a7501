"""Figures: whole, legible, the same bytes each time; what they show can be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factory import MAIN, MORE, QUICK, SMALL, WIDE, finish, make_ledger, make_record, make_tier
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from xpeft.records import record_path, write_record
from xpeft.report import figures
from xpeft.report.drawing import colour_of
from xpeft.report.figures import FIGURES, write_figures
from xpeft.report.frontier import bytes_figure
from xpeft.report.overall import performance_figure
from xpeft.report.summary import make_summary, write_summary


def test_figures_are_whole_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    tier = tmp_path / "quick"
    make_tier(tier, tier="quick", tasks=("embedded/sentiment",), arms=MAIN[:3], seeds=2)
    finish(tier)
    for folder in ("one", "two"):
        write_figures(
            tier / "summary.json", tier / "ledger.json", tier / "claims.json", tmp_path / folder
        )
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}.{form}" for name in FIGURES for form in ("svg", "pdf", "png"))
    for name in names:
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name
        assert len(one) > 2000
        assert one.startswith((b"<?xml", b"%PDF", b"\x89PNG"))
        assert b"<dc:date>" not in one
        assert b"CreationDate" not in one


def test_figures_without_evidence(tmp_path: Path) -> None:
    write_summary(tmp_path / "small" / "records", tmp_path / "summary.json")
    write_figures(tmp_path / "summary.json", None, None, tmp_path / "figures")
    assert len(list((tmp_path / "figures").iterdir())) == 3 * len(FIGURES)


def made_figures(folder: Path) -> Iterator[tuple[str, Figure]]:
    summary = make_summary(folder / "records")
    arms = [arm for arm in summary["arms"] if not arm["variant"]]
    for columns in (1, 3):
        yield f"scores {columns}", figures.scores_figure(arms, columns=columns)
        yield (
            f"learning {columns}",
            figures.learning_figure(figures.headline(arms), summary["records"], columns=columns),
        )
    yield "gaps", figures.gaps_figure(arms)
    yield "performance", performance_figure(arms)
    yield "bytes", bytes_figure(arms)
    yield "waterfall", figures.waterfall_figure(make_ledger())
    yield "method", figures.method_figure()


def texts(figure: Figure) -> list[tuple[str, Any]]:
    """Each visible text of a figure with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    unused = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for place, tick in enumerate(axis.majorTicks)
        for label in (tick.label1, tick.label2)
        if place >= len(axis.get_majorticklocs()) or not within(tick.get_loc(), axis)
    }
    return [
        (text.get_text(), Text.get_window_extent(text, renderer))  # of a label without its line
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in unused
    ]


def within(place: float, axis: Any) -> bool:
    """Ticks outside of the axis are kept by matplotlib, but not drawn."""
    low, high = sorted(axis.get_view_interval())
    return bool(low <= place <= high)


@pytest.mark.parametrize(
    ("tasks", "arms", "seeds"),
    [(SMALL, MAIN, 3), (QUICK, MAIN, 2), (("glue/wnli", "glue/cola"), MORE, 1), (SMALL, WIDE, 3)],
)
def test_no_text_of_a_figure_overlaps_another_or_leaves_the_figure(
    tmp_path: Path, tasks: tuple[str, ...], arms: tuple[str, ...], seeds: int
) -> None:
    make_tier(tmp_path, tasks=tasks, arms=arms, seeds=seeds)
    for name, figure in made_figures(tmp_path):
        found = texts(figure)
        width, height = figure.bbox.width, figure.bbox.height
        for index, (words, box) in enumerate(found):
            assert box.x0 > -1 and box.x1 < width + 1, (name, words)
            assert box.y0 > -1 and box.y1 < height + 1, (name, words)
            for other, second in found[index + 1 :]:
                over_x = min(box.x1, second.x1) - max(box.x0, second.x0)
                over_y = min(box.y1, second.y1) - max(box.y0, second.y0)
                assert over_x < 1 or over_y < 1, (name, words, other)


def test_axes_say_what_they_show(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=QUICK, seeds=2)
    for name, figure in made_figures(tmp_path):
        for axes in figure.axes if name != "method" else ():
            assert axes.get_xlabel(), name
            assert any(unit in axes.get_xlabel() for unit in ("point", "bytes", "step", "%")), name


def test_what_a_figure_shows_can_be_told_apart(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=SMALL, arms=WIDE, seeds=2)
    summary = make_summary(tmp_path / "records")
    arms = summary["arms"]

    shown = figures.gaps_figure(arms)
    (axes,) = shown.axes
    dots = [dot for dot in axes.collections if dot.get_offsets().size == 2]
    places = [float(dot.get_offsets()[0][1]) for dot in dots]
    kinds = 1 + 4 + 1  # the head, masks over both kinds of banks, full fine-tuning
    assert len(set(places)) == len(places) == kinds * len(SMALL)
    marks = {(line.get_marker(), str(line.get_markerfacecolor())) for line in legend_lines(shown)}
    assert len(marks) == kinds + 1  # and the line of the adapter

    curves = figures.learning_figure(figures.headline(arms), summary["records"])
    for figure in (curves, performance_figure(arms)):
        found = [(line.get_color(), line.get_linestyle()) for line in legend_lines(figure)]
        masks = [style for style in found if style[0] in map(colour_of, ("green", "vermilion"))]
        assert len(set(masks)) == 4


def legend_lines(figure: Figure) -> list[Any]:
    (legend,) = figure.legends
    return [handle for handle in legend.legend_handles if isinstance(handle, Line2D)]


def test_curves_of_different_length_share_an_axis(tmp_path: Path) -> None:
    for arm, steps in (("head_only", 600), ("single_adapter", 300)):
        record = make_record(arm=arm)
        record["result"]["steps"] = steps
        record["result"]["loss"]["step"] = [steps // 30 * (i + 1) for i in range(30)]
        write_record(tmp_path / "records" / record_path(record["cell"]), record)
    summary = make_summary(tmp_path / "records")
    (axes,) = figures.learning_figure(summary["arms"], summary["records"]).axes
    assert axes.get_xlabel() == "training done (% of the steps)"
    assert {max(line.get_xdata()) for line in axes.lines} == {100.0}
