"""What all figures share: colours, style, their forms, and small pieces.

They are drawn narrow, one column of a phone or of a paper, with type that stays legible there.
Colours are those of Okabe and Ito, which the colour-blind can tell apart, and every method has a
marker of its own. The same input gives the same bytes: no dates, a fixed salt for ids.

No pyplot and no global settings: each figure carries its style.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xpeft.report.summary import Arm
from xpeft.report.words import arm_title, minus

COLOURS: dict[str, tuple[str, str]] = {
    # name: on a light page, on a dark page
    "ink": ("#1f2328", "#e6e8eb"),
    "muted": ("#59636e", "#a9b3bf"),
    "grid": ("#d8dde3", "#3b434d"),
    "paper": ("#ffffff", "#15181c"),
    "panel": ("#eef1f4", "#242a31"),
    "blue": ("#0072b2", "#56b4e9"),
    "green": ("#009e73", "#1fb88b"),
    "vermilion": ("#d55e00", "#e8762a"),
    "purple": ("#b8608f", "#cc79a7"),
    "amber": ("#a87d00", "#e6b400"),
    "sky": ("#d3e8f5", "#1d4058"),
    "sand": ("#fbe3cf", "#5a3413"),
}
"""Okabe-Ito hues and neutrals. A dark page swaps each for its second value."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["muted"][0],
    "axes.labelcolor": COLOURS["ink"][0],
    "axes.titlecolor": COLOURS["ink"][0],
    "text.color": COLOURS["ink"][0],
    "xtick.color": COLOURS["muted"][0],
    "ytick.color": COLOURS["muted"][0],
    "xtick.labelcolor": COLOURS["ink"][0],
    "ytick.labelcolor": COLOURS["ink"][0],
    "grid.color": COLOURS["grid"][0],
    "axes.axisbelow": True,
    "figure.facecolor": COLOURS["paper"][0],
    "axes.facecolor": COLOURS["paper"][0],
    "savefig.facecolor": COLOURS["paper"][0],
    "savefig.dpi": 200,
    "svg.hashsalt": "xpeft",
    "svg.fonttype": "path",
    "path.simplify": False,
    "pdf.compression": 6,
    "axes.unicode_minus": True,
}

WIDTH = 4.1  # inches: one column
LEGEND = 23  # most characters in a line of a legend's name: two columns fit in one of ours
MARKS = {
    # method, mask: colour, marker
    ("head_only", None): ("muted", "s"),
    ("single_adapter", None): ("blue", "D"),
    ("x_peft", "soft"): ("green", "o"),
    ("x_peft", "hard"): ("vermilion", "^"),
    ("full", None): ("purple", "P"),
    ("bitfit", None): ("purple", "X"),
    ("lora", None): ("amber", "v"),  # LoRA and its kin share a colour
    ("vera", None): ("amber", "<"),
    ("vblora", None): ("amber", ">"),
    ("unilora", None): ("amber", "p"),
    ("ia3", None): ("ink", "h"),
    ("prompt_tuning", None): ("ink", "*"),
}


def colour_of(name: str) -> str:
    """A colour by its name, as it is on a light page."""
    return COLOURS[name][0]


def mark_of(arm: Arm) -> tuple[str, str]:
    """Colour and marker of an arm's method."""
    name, marker = MARKS.get((arm["method"], arm["mask"]), ("purple", "X"))
    return colour_of(name), marker


def face_of(arm: Arm) -> str:
    """Fill of an arm's marker: its colour, or that of paper over a bank that is not random."""
    return mark_of(arm)[0] if arm["bank"] in (None, "random") else colour_of("paper")


def dash_of(arm: Arm) -> Any:
    """Line style of an arm: dashed over a bank that is not random, dotted without one."""
    return {None: (0, (1, 1)), "random": "solid"}.get(arm["bank"], (0, (4, 1.5)))


def draw_mark(axes: Axes, x: float, y: float, arm: Arm, size: float, **style: Any) -> None:
    """An arm's marker at a place, `size` as of `Axes.scatter`."""
    colour, marker = mark_of(arm)
    axes.scatter(x, y, s=size, marker=marker, facecolor=face_of(arm), edgecolor=colour, **style)


def legend_name(arm: Arm) -> str:
    """What an arm is, in lines that fit into a legend of two columns."""
    return textwrap.fill(arm_title(arm), LEGEND)


def render(figure: Figure, form: str) -> bytes:
    """A figure as svg, pdf or png; equal figures give equal bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=form, metadata=metadata[form])
    return buffer.getvalue()


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """A figure for the page: real text, colours that follow the page, ids of its own.

    Args:
        figure: as drawn.
        name: unique on the page; prefixes all ids.
        title: what it shows, for those who do not see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.fonttype": "none", "savefig.transparent": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for colour, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--f-{colour})")
    text = re.sub(r'font: ([^;"]*?)([\d.]+px) [^;"]*', r"font: \1\2 var(--f-font)", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    head = re.sub(r' xmlns(:xlink)?="[^"]*"', "", head)
    title = title.replace("&", "&amp;").replace("<", "&lt;")
    label = f'role="img" aria-labelledby="{name}-title"'
    return f'{head} {label}><title id="{name}-title">{title}</title>{rest.strip()}'


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, that makes room for what is on it."""
    return Figure(figsize=(width, height), layout="constrained")


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a figure function under the style, which matplotlib reads when things are made."""

    def run(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    run.__doc__ = function.__doc__
    return run


def ticks(most: int) -> MaxNLocator:
    """Round places for at most that many ticks."""
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


def empty(words: str) -> Figure:
    """A figure that says why there is nothing to show."""
    figure = new_figure(1.0)
    lines = "\n".join(textwrap.wrap(words, 48))
    figure.text(0.5, 0.5, lines, ha="center", va="center", color=colour_of("muted"))
    return figure


def short_bytes(value: float) -> str:
    """Bytes for an axis: 10 kB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"


def signed_tick(value: float) -> str:
    """A difference for an axis: +2.5, 0."""
    return minus(f"{value:+g}") if value else "0"


def short_count(value: float) -> str:
    """A number for an axis: 10k."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
