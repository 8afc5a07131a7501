"""The report: one HTML file that needs nothing else, no server, no network and no script.

Every record is embedded, and every measured number is a link to the record, or to the arm with
its records, that it comes from. Without JavaScript the links jump to a `<details>` at the end of
the page; with it, they open in place.

The modules `*_page` turn summaries, ledgers and claims into plain values; the words and the markup
are in `templates/`. Nothing is computed in a template.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xpeft.claims import judge, load_claims, read_claims
from xpeft.io import write_text
from xpeft.ledger import read_ledger
from xpeft.report.answers import make_answers
from xpeft.report.calculation_page import calculation
from xpeft.report.diagram import method_figure
from xpeft.report.drawing import COLOURS, inline_svg
from xpeft.report.summary import make_summary, read_summary
from xpeft.report.tier_page import tier_section
from xpeft.report.verdict_page import glance, tally
from xpeft.report.words import tier_title

Json = dict[str, Any]

TEMPLATES = Path(__file__).with_name("templates")

KNOWN_TIERS = ("paper", "small", "quick")
"""In the order of the page: what says most about the method comes first."""


def write_report(
    tiers: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    figures: str | os.PathLike[str] | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> None:
    """Write the page.

    Args:
        tiers: folders `results/<tier>` with summary.json, ledger.json and claims.json. A summary
            or claims that are missing are made from the records there.
        out: the HTML file.
        figures, tables: folders of the tiers' files, only to name them in the page.

    Raises:
        XpeftError: a file is damaged; the message names it.
    """
    write_text(out, make_report(tiers, figures=figures, tables=tables))


def make_report(
    tiers: Iterable[str | os.PathLike[str]],
    *,
    figures: str | os.PathLike[str] | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> str:
    """The page as text; the same input gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loaded = sorted((_load(Path(folder)) for folder in tiers), key=_tier_order)
    ledger = next((item["ledger"] for item in loaded if item["ledger"]), None)
    sections = [tier_section(item, figures, tables) for item in loaded]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("page.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + _colour_css()),
        script=Markup((TEMPLATES / "script.js").read_text(encoding="utf-8")),
        tiers=sections,
        absent=[
            tier_title(tier)
            for tier in KNOWN_TIERS
            if tier not in {item["summary"]["tier"] for item in loaded if item["summary"]["arms"]}
        ],
        answers=make_answers(sections),
        glance=glance(sections),
        tally=tally(sections),
        calculation=None if ledger is None else calculation(ledger),
        counted=next((s["claims"]["counted"] for s in sections if s["claims"]["counted"]), []),
        method_figure=inline_svg(
            method_figure(),
            "method",
            "Drawing of the method: a bank of frozen adapters; for each block two rows of bits, "
            "M_A over the down-projections and M_B over the up-projections; the sums of the "
            "selected ones form one adapter, which reads the normalised sum after the "
            "feed-forward layer of a frozen encoder block and is added before its LayerNorm.",
        ),
    )
    return page.rstrip() + "\n"


def _load(folder: Path) -> Json:
    summary_file = folder / "summary.json"
    if summary_file.is_file():
        summary = read_summary(summary_file)
    else:
        summary = make_summary(folder / "records")
    ledger_file, claims_file = folder / "ledger.json", folder / "claims.json"
    ledger = read_ledger(ledger_file) if ledger_file.is_file() else None
    if claims_file.is_file():
        claims = read_claims(claims_file)
    else:
        claims = judge(load_claims(), summary, [ledger] if ledger else [])
    return {"folder": folder, "summary": summary, "ledger": ledger, "claims": claims}


def _tier_order(item: Json) -> tuple[int, str]:
    tier = item["summary"]["tier"]
    return (KNOWN_TIERS.index(tier) if tier in KNOWN_TIERS else len(KNOWN_TIERS), tier)


def _colour_css() -> str:
    """The colours of the figures as variables, for light and dark pages."""
    light = "".join(f"--f-{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--f-{name}:{pair[1]};" for name, pair in COLOURS.items())
    return (
        f"\n:root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{{light}}}}}\n"
    )
