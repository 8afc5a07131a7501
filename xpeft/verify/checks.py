"""Verify a tier: its files, each record by itself, and all that follows from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from xpeft.config import load_config
from xpeft.errors import DataError, RecordError
from xpeft.examples import compare_from, paths_of, tasks_of
from xpeft.io import read_json, sha256_file
from xpeft.records import Record, read_record, record_path
from xpeft.report.claims_page import claims_page
from xpeft.report.papers import TIERS, make_papers
from xpeft.verify.expected import DERIVED, EXAMPLES, derive, file_hashes, judged, read_expected
from xpeft.verify.findings import Findings
from xpeft.verify.inputs import check_inputs
from xpeft.verify.values import differences
from xpeft.workflow import Plan

Json = dict[str, Any]

_AGAIN = "run xpeft examples again"


def verify(plan: Plan, folder: Path, data: Path, project: Path | None = None) -> Findings:
    """Check a tier against what is expected of it.

    What follows from the records needs all of them: one that is not valid leaves it unchecked.

    Args:
        plan: of the config that the records are of.
        folder: of the tier, with `expected.json`.
        data: the data folder; hashed where it is there.
        project: folder of CLAIMS.md and the papers, which are compared with what the records give,
            and of `config/`; None leaves them out.

    Raises:
        XpeftError: there is no readable `expected.json`.
        ConfigError: a config of the project is missing or invalid.
    """
    expected, findings = read_expected(folder), Findings()
    _check_files(findings, file_hashes(folder), expected["files"])
    records = _check_records(findings, folder)
    try:
        summary, counted, claims = judged(folder, plan.config["ledger"])
    except RecordError as error:
        if str(error) not in findings.differs:
            findings.differs.append(str(error))
        findings.not_checked.append(f"{', '.join(DERIVED)}: no summary can be made")
    else:
        _check_derived(findings, derive(summary, counted, claims), expected)
        if project is not None:
            _check_papers(findings, project, folder / "records", summary, claims)
        _check_examples(findings, folder, records, plan)
    check_inputs(findings, records, plan, folder, data)
    return findings


def _check_files(findings: Findings, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for path in sorted(found.keys() | expected.keys()):
        if path not in found:
            lines = [f"{path}: found no such file, expected one of sha256 {expected[path]}"]
        elif path not in expected:
            lines = [
                f"{path}: found a file that is not expected; if it was committed on purpose, "
                "run xpeft verify --update"
            ]
        elif found[path] != expected[path]:
            lines = [f"{path}: found sha256 {found[path]}, expected {expected[path]}"]
        else:
            lines = []
        findings.check("files", lines)


def _check_records(findings: Findings, folder: Path) -> dict[str, Record]:
    """Each record by itself; returns those that are valid."""
    root, records = folder / "records", {}
    for path in sorted(root.rglob("*.json")):
        name = path.relative_to(root).as_posix()
        try:
            record = read_record(path)
            if record_path(record["cell"]) != name:
                raise RecordError(f"{path}: found the cell of {record_path(record['cell'])}")
        except RecordError as error:
            findings.check("records", [str(error)])
        else:
            findings.check("records")
            records[name] = record
    return records


def _check_derived(findings: Findings, found: Json, expected: Json) -> None:
    if found["tier"] != expected["tier"]:
        findings.differs.append(f"tier: found {found['tier']}, expected {expected['tier']}")
    for kind in DERIVED:
        for name in sorted(found[kind].keys() | expected[kind].keys()):
            left = {name: found[kind][name]} if name in found[kind] else {}
            right = {name: expected[kind][name]} if name in expected[kind] else {}
            findings.check(kind, differences({kind: left}, {kind: right}))


def _check_papers(
    findings: Findings, project: Path, records: Path, summary: Json, claims: Json
) -> None:
    """The pages for people say what the records give, to the letter."""
    place = Path(os.path.relpath(records, project)).as_posix()
    plans = [
        Plan.make(load_config(path), str(path))
        for path in (project / "config" / f"{tier}.yaml" for tier in TIERS)
    ]
    pages = {"CLAIMS.md": claims_page(claims, place)}
    pages |= make_papers(summary, claims, plans, place)
    for name, text in pages.items():
        path = project / name
        found = path.read_bytes() if path.is_file() else b""
        same = found == text.encode()
        findings.check("papers", [] if same else [_first_difference(path, found, text)])


def _first_difference(path: Path, found: bytes, expected: str) -> str:
    lines = zip_longest(
        found.decode(errors="replace").split("\n"), expected.split("\n"), fillvalue="no line"
    )
    number, one, other = next(
        (number, one, other) for number, (one, other) in enumerate(lines, 1) if one != other
    )
    return f"{path}: line {number}: found {one!r}, expected {other!r}; run make papers"


def _check_examples(
    findings: Findings, folder: Path, records: Mapping[str, Record], plan: Plan
) -> None:
    """The comparisons over examples are of these records; made again where prepared data are."""
    path = folder / EXAMPLES
    if not path.is_file():
        return
    kept = read_json(path)
    entries = {entry["task"]: entry for entry in kept["tasks"]}
    for task in sorted(set(tasks_of(records)) - entries.keys() - set(kept["absent"])):
        findings.check("examples", [f"{EXAMPLES}: found nothing on {task}; {_AGAIN}"])
    absent = list(kept["absent"])
    for task, entry in entries.items():
        named: Mapping[str, str] = entry["records"]
        own = {name: records[name] for name in paths_of(task, records)}
        grid = {name for name in own if name.rpartition("/")[0] in plan.jobs}
        lines = [
            f"{EXAMPLES}: {task}: found records/{name} of sha256 {value}, expected "
            f"{named.get(name, 'none')}; {_AGAIN}"
            for name in sorted(grid | named.keys())
            if (value := _hash_of(folder / "records" / name)) != named.get(name)
        ]
        if not lines and (folder / "data" / task / "meta.json").is_file():
            lines = _made_again(entry, {name: own[name] for name in named}, folder / "data")
        elif not lines:
            absent.append(task)
        findings.check("examples", lines)
    if absent:
        findings.not_checked.append(
            f"{EXAMPLES}: not made again for {', '.join(absent)}: no prepared data in "
            f"{folder / 'data'}"
        )


def _hash_of(path: Path) -> str:
    return sha256_file(path) if path.is_file() else "no file"


def _made_again(entry: Json, records: Mapping[str, Record], data: Path) -> list[str]:
    """Where the comparisons of a task differ from those that its data and records give now."""
    task = entry["task"]
    try:
        made = compare_from(task, records, data)
    except DataError as error:
        return [f"{EXAMPLES}: {error}"]
    kept = {key: value for key, value in entry.items() if key != "records"}
    return list(differences({f"{EXAMPLES}: {task}": made}, {f"{EXAMPLES}: {task}": kept}))
