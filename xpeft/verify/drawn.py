"""The data behind a figure: what its lines, points, bars and texts hold.

Taken from the figure itself, so that it is what a reader sees and cannot fall out of step with the
code that draws. Colours, sizes, and what matplotlib works out by itself (places of ticks, limits
of axes, layout) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

Json = dict[str, Any]


def drawn(figure: Figure) -> Json:
    """What a figure shows, as plain JSON: `texts` and `legend` of the whole, `axes` one by one.

    An axes has its `title`, `labels` (of x and y), `ticks` (names given to places of x and y),
    `lines` and `points` (x and y in units of the data), `bars` (left, bottom, width, height) and
    `texts`; what is empty is left out.
    """
    legends = [legend for legend in figure.legends if legend is not None]
    return _filled(
        texts=_texts(figure.texts),
        legend=[text for legend in legends for text in _texts(legend.get_texts())],
        axes=[_axes(axes) for axes in figure.axes],
    )


def _axes(axes: Axes) -> Json:
    points = [found for found in axes.collections if isinstance(found, PathCollection)]
    bars = [found for found in axes.patches if isinstance(found, Rectangle)]
    return _filled(
        title=axes.get_title(),
        labels=[text for text in (axes.get_xlabel(), axes.get_ylabel()) if text],
        ticks=[_names(axis) for axis in (axes.xaxis, axes.yaxis) if _names(axis)],
        lines=[_places(line.get_xydata()) for line in axes.lines],
        points=[_places(found.get_offsets()) for found in points],
        bars=[
            [float(x) for x in (*bar.get_xy(), bar.get_width(), bar.get_height())] for bar in bars
        ],
        texts=_texts(axes.texts),
    )


def _names(axis: Any) -> list[str]:
    fixed = isinstance(axis.get_major_locator(), FixedLocator)
    return _texts(axis.get_ticklabels()) if fixed else []


def _places(values: Any) -> Json:
    """[n, 2] as x and y."""
    x, y = np.asarray(values, dtype=np.float64).reshape(-1, 2).T
    return {"x": x.tolist(), "y": y.tolist()}


def _texts(texts: Iterable[Any]) -> list[str]:
    return [text.get_text() for text in texts if text.get_text()]


def _filled(**parts: Any) -> Json:
    return {name: part for name, part in parts.items() if part}
