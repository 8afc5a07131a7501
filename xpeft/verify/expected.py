"""What is expected of a tier: the hash of each committed file and all that follows from them.

    schema, tier
    files       sha256 of each record, tuning file, list of trials and comparison over examples
    verdicts    of each claim: verdict, effect, interval, and the same task by task
    tables      each table by its columns
    figures     the data of each figure

The file is `expected.json` beside the folder of records. `xpeft verify --update` writes it after
new records were committed; it is never edited by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpeft.claims import judge, load_claims
from xpeft.errors import RecordError, XpeftError
from xpeft.io import read_json, sha256_file, write_json
from xpeft.ledger import ledger
from xpeft.records import STEP_FILE
from xpeft.report.figures import make_figures
from xpeft.report.forms import Table
from xpeft.report.summary import make_summary
from xpeft.report.tables import make_tables
from xpeft.shapes import encoder_shape
from xpeft.verify.drawn import drawn
from xpeft.verify.values import condense

SCHEMA = 1
NAME, EXAMPLES = "expected.json", "examples.json"

EVIDENCE = ("records/**/*.json", "tuning/**/*.json", "*.jsonl", EXAMPLES, STEP_FILE)
"""The files of a tier that git keeps, beside the one of this module."""

DERIVED = ("verdicts", "tables", "figures")

MOST_ROWS, MOST_POINTS = 250, 24
"""Length of a column of a table, and of a line of a figure, that is kept value by value (ours)."""

Json = dict[str, Any]


def update_expected(folder: Path, account: Mapping[str, Any]) -> str:
    """Write the file of a tier, and say in a line what it holds; see `make_expected`."""
    expected = make_expected(folder, account)
    write_json(folder / NAME, expected)
    parts = ", ".join(f"{len(expected[name])} {name}" for name in ("files", *DERIVED))
    return f"{folder / NAME}: {parts}"


def make_expected(folder: Path, account: Mapping[str, Any]) -> Json:
    """All that is expected of a tier, from its files as they are.

    Args:
        folder: of the tier, with `records` and `tuning`.
        account: key `ledger` of a config: encoder, adapters, k, classes.

    Raises:
        RecordError: there are no records, or one is invalid.
    """
    return {"schema": SCHEMA, "files": file_hashes(folder)} | derive(*judged(folder, account))


def read_expected(folder: Path) -> Json:
    """Read the file of a tier.

    Raises:
        XpeftError: it is missing, damaged, or of another version.
    """
    path = folder / NAME
    if not path.is_file():
        raise XpeftError(f"{path}: no such file; write it with xpeft verify --update")
    value = read_json(path)
    wanted = {"schema", "tier", "files", *DERIVED}
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not wanted <= set(value):
        raise XpeftError(
            f"{path}: expected an object of schema {SCHEMA} with {', '.join(sorted(wanted))}; "
            "write it with xpeft verify --update"
        )
    return value


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of the evidence, by its path below the tier's folder."""
    paths = {path for pattern in EVIDENCE for path in folder.glob(pattern)}
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(paths)}


def judged(folder: Path, account: Mapping[str, Any]) -> tuple[Json, Json, Json]:
    """Summary, ledger and claims of a tier, from its files as they are; see `make_expected`."""
    examples = folder / EXAMPLES
    summary = make_summary(folder / "records", examples=examples if examples.is_file() else None)
    if not summary["records"]:
        raise RecordError(f"{folder / 'records'}: found no records, expected at least one")
    options = {key: value for key, value in account.items() if key != "encoder"}
    counted = ledger(encoder_shape(account["encoder"]), **options)
    return summary, counted, judge(load_claims(), summary, [counted])


def derive(summary: Json, counted: Json, claims: Json) -> Json:
    """Tier, verdicts, tables and figures from what `judged` returns."""
    tables = make_tables(summary, counted, claims)
    return {
        "tier": summary["tier"],
        "verdicts": {found["id"]: _verdict(found) for found in claims["verdicts"]},
        "tables": {name: condense(_columns(table), MOST_ROWS) for name, table in tables.items()},
        "figures": {
            name: condense(drawn(figure), MOST_POINTS)
            for name, figure in make_figures(summary, counted, claims)
        },
    }


def _verdict(found: Json) -> Json:
    kept = ("verdict", "effect", "unit", "bound", "interval", "p_value", "tasks", "left_out")
    shown: Json = condense({name: found[name] for name in kept}, MOST_ROWS)
    return shown


def _columns(table: Table) -> dict[str, list[Any]]:
    return {field: [row[field] for row in table.data] for field in table.fields}
