"""A table and its forms: CSV for programs, Markdown for readers, LaTeX (booktabs) for papers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table in both forms.

    Attributes:
        caption: what it shows and what its intervals are.
        data: rows for CSV, unrounded; all with the same keys.
        fields: the keys of `data`, so that an empty table has a header too.
        columns: headings for readers.
        rows: the same content for readers, as text.
    """

    caption: str
    fields: Sequence[str]
    data: list[Json]
    columns: Sequence[str]
    rows: list[list[str]]


def to_csv(table: Table) -> str:
    """CSV with a header, lists and objects as JSON in a field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.fields)
    for row in table.data:
        writer.writerow([_field(row[name]) for name in table.fields])
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """A caption and a pipe table."""
    if not table.rows:
        return f"{table.caption}\n\nNo evidence yet.\n"
    rows = [list(table.columns), *table.rows]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return f"{table.caption}\n\n" + "\n".join(lines) + "\n"


def to_latex(table: Table, name: str) -> str:
    """A `table` environment in the style of booktabs; needs `\\usepackage{booktabs}`."""
    body = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    if not body:
        body = [rf"\multicolumn{{{len(table.columns)}}}{{l}}{{No evidence yet.}} \\"]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _field(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    return "" if value is None else value


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
