"""The sheet of a cohort: a line for each profile that says which fold it is in and what it may be.

    profile           fold  donor  target  train  test  top_label  top_share
    00c1f3a97be2d840  0     1      1       31     9     offensive  0.6129

Tab-separated, one header line. The targets of fold f are the profiles with that fold and
target 1: those that methods are scored on. The donors of fold f are the profiles of all *other*
folds with donor 1: those that a warm bank may be trained on. So the two are disjoint whatever the
sheet says. `train` and `test` count the profile's rows; `top_label` is its most frequent label in
the training rows and `top_share` its share of them ("-" and 0 if it has none), so that a choice by
them never looks at a test label. They are there to read and to choose by, and are checked against
the rows.

A sheet made by hand may leave profiles out, and may divide the others as it likes.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import cycle
from pathlib import Path
from typing import Any

from xpeft.errors import ConfigError, DataError
from xpeft.hashing import derive_key
from xpeft.io import write_text

NO_LABEL = "-"
"""`top_label` of a profile without training rows."""

_MAX_FOLDS = 1000


@dataclass(frozen=True)
class Tally:
    """What the rows say of a profile.

    Attributes:
        profile: its 64-bit id.
        train, test: its rows of each side.
        top_label: name of its most frequent label in the training rows, the first of equals.
        top_share: share of that label in the training rows, four decimals.
    """

    profile: int
    train: int
    test: int
    top_label: str
    top_share: float


@dataclass(frozen=True)
class SheetRow:
    """A line of the sheet.

    Attributes:
        profile: 64-bit id.
        fold: the fold that it is a target of; it can be a donor of all others.
        donor: whether a warm bank may be trained on it.
        target: whether methods are scored on it.
        train, test, top_label, top_share: as in `Tally`.
    """

    profile: int
    fold: int
    donor: bool
    target: bool
    train: int
    test: int
    top_label: str
    top_share: float

    @property
    def tally(self) -> Tally:
        """What the line says of the profile's rows."""
        return Tally(self.profile, self.train, self.test, self.top_label, self.top_share)


COLUMNS = tuple(field.name for field in fields(SheetRow))


def tally(profile: int, train_labels: Sequence[int], test: int, labels: Sequence[str]) -> Tally:
    """Count a profile's rows.

    Args:
        profile: 64-bit id.
        train_labels: label codes of its training rows.
        test: number of its test rows.
        labels: label names in code order.
    """
    counts = [0] * len(labels)
    for code in train_labels:
        counts[code] += 1
    if not train_labels:
        return Tally(profile, 0, test, NO_LABEL, 0.0)
    top = max(counts)
    share = round(top / len(train_labels), 4)
    return Tally(profile, len(train_labels), test, labels[counts.index(top)], share)


def make_sheet(
    tallies: Iterable[Tally],
    *,
    target_min_train: int,
    target_min_test: int,
    donor_min_train: int,
    folds: int = 2,
    seed: int = 0,
    given: Mapping[int, int] | None = None,
    groups: Mapping[int, str] | None = None,
) -> list[SheetRow]:
    """Divide the profiles into folds, by a hash of their ids.

    Profiles that are target and donor, only one of them, or neither are dealt out in turn, each
    kind in the order of its hashes: so the folds have equally many of each kind, give or take
    one, and a profile's fold says nothing of its rows.

    Args:
        tallies: all profiles of the cohort.
        target_min_train, target_min_test: rows of each side that a target has at least.
        donor_min_train: training rows that a donor has at least.
        folds: number of folds, at least 2.
        seed: of the hash.
        given: fold of each profile, where the data set itself says it; `folds`, `seed` and
            `groups` are then not used.
        groups: profiles with the same name of group come into the same fold; those that are not
            named are groups of one.

    Returns:
        Rows by ascending id.

    Raises:
        ConfigError: a number is out of range.
        DataError: there are no targets, or those of a fold have no donors.
    """
    if not 2 <= folds <= _MAX_FOLDS:
        raise ConfigError(
            f"folds: found {folds}, expected 2 to {_MAX_FOLDS}: a fold's donors are in the others"
        )
    smallest = min(target_min_train, target_min_test, donor_min_train)
    if smallest < 1:
        raise ConfigError(f"thresholds of the sheet: found {smallest}, expected at least 1")
    tallies = list(tallies)
    chosen = {
        item.profile: (
            item.train >= donor_min_train,
            item.train >= target_min_train and item.test >= target_min_test,
        )
        for item in tallies
    }
    fold_of = given if given is not None else _deal(chosen, folds, seed, groups or {})
    rows = [
        SheetRow(
            item.profile,
            fold_of[item.profile],
            *chosen[item.profile],
            item.train,
            item.test,
            item.top_label,
            item.top_share,
        )
        for item in sorted(tallies, key=lambda item: item.profile)
    ]
    check_folds(
        rows,
        f"sheet of {len(rows)} profiles (targets: at least {target_min_train} training and "
        f"{target_min_test} test rows, donors: at least {donor_min_train} training rows)",
    )
    return rows


def write_sheet(path: str | os.PathLike[str], rows: Iterable[SheetRow]) -> None:
    """Write a sheet as tab-separated text."""
    lines = ["\t".join(COLUMNS)]
    lines += [
        f"{row.profile:016x}\t{row.fold}\t{row.donor:d}\t{row.target:d}\t{row.train}\t{row.test}\t"
        f"{row.top_label}\t{row.top_share:.4f}"
        for row in rows
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_sheet(
    path: str | os.PathLike[str], tallies: Mapping[int, Tally] | None = None
) -> list[SheetRow]:
    """Read a sheet and check all of it.

    Args:
        path: the file.
        tallies: what the cohort's rows say, by id; None leaves out the checks that need it.

    Returns:
        Rows by ascending id.

    Raises:
        DataError: the file is missing or no sheet; a value is not what its column holds; a
            profile occurs twice, is unknown, or its counts are not those of its rows; a target
            lacks training or test rows, a donor training rows; there are no targets, or those
            of a fold have no donors. The message names file and line.
    """
    path = Path(path)
    rows: dict[int, SheetRow] = {}
    lines: dict[int, int] = {}
    for number, cells in _cells(path):
        where = f"{path}: line {number}"
        row = _row(where, cells)
        if row.profile in rows:
            raise DataError(
                f"{where}: found profile {row.profile:016x} again, it is in line "
                f"{lines[row.profile]} too; expected one line for each profile"
            )
        _check_row(where, row, tallies)
        rows[row.profile] = row
        lines[row.profile] = number
    found = [rows[profile] for profile in sorted(rows)]
    check_folds(found, str(path))
    return found


def check_folds(rows: Sequence[SheetRow], where: str) -> None:
    """Raise a DataError unless there are targets and each fold that has some has donors."""
    folds = sorted({row.fold for row in rows if row.target})
    if not folds:
        raise DataError(f"{where}: found no target, expected some; lower what a target must have")
    for fold in folds:
        if not any(row.donor and row.fold != fold for row in rows):
            raise DataError(
                f"{where}: fold {fold} has targets and no donors, expected profiles with donor 1 "
                "in other folds; add some"
            )


def _deal(
    chosen: Mapping[int, tuple[bool, bool]], folds: int, seed: int, groups: Mapping[int, str]
) -> dict[int, int]:
    members: dict[str, list[int]] = {}
    for profile in sorted(chosen):
        members.setdefault(groups.get(profile, f"{profile:016x}"), []).append(profile)

    def kind(group: str) -> tuple[bool, bool]:
        donor, target = zip(*(chosen[profile] for profile in members[group]), strict=True)
        return any(target), any(donor)

    order = sorted(members, key=lambda group: (kind(group), derive_key("fold", seed, group)))
    turns = zip(reversed(order), cycle(range(folds)), strict=False)  # the targets come first
    return {profile: fold for group, fold in turns for profile in members[group]}


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a sheet") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; expected a sheet") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    lines = list(enumerate(reader, start=1))
    header = lines[0][1] if lines else []
    if tuple(header) != COLUMNS:
        raise DataError(
            f"{path}: line 1: found the columns {', '.join(header) or '(none)'}, "
            f"expected {', '.join(COLUMNS)}, separated by tabs"
        )
    if len(lines) == 1:
        raise DataError(f"{path}: found no profiles, expected a line for each")
    return lines[1:]


def _row(where: str, cells: list[str]) -> SheetRow:
    if len(cells) != len(COLUMNS):
        raise DataError(f"{where}: found {len(cells)} cells, expected {len(COLUMNS)}")
    values: dict[str, Any] = {}
    for name, cell in zip(COLUMNS, cells, strict=True):
        pattern, expected, convert = _FORMS[name]
        if not re.fullmatch(pattern, cell, re.ASCII):
            raise DataError(f"{where}: column {name!r}: found {cell!r}, expected {expected}")
        values[name] = convert(cell)
    return SheetRow(**values)


def _flag(cell: str) -> bool:
    return cell == "1"


_COUNT = (r"\d{1,9}", "a number of rows", int)
_FORMS: dict[str, tuple[str, str, Any]] = {
    "profile": (r"[0-9a-f]{16}", "an id of 16 hexadecimal digits", lambda cell: int(cell, 16)),
    "fold": (r"\d{1,3}", f"a number from 0 to {_MAX_FOLDS - 1}", int),
    "donor": ("[01]", "0 or 1", _flag),
    "target": ("[01]", "0 or 1", _flag),
    "train": _COUNT,
    "test": _COUNT,
    "top_label": (r"\S.*", "the name of a label", str),
    "top_share": (r"(0|1|[01]\.\d+)", "a share from 0 to 1", float),
}


def _check_row(where: str, row: SheetRow, tallies: Mapping[int, Tally] | None) -> None:
    if row.target and not (row.train and row.test):
        raise DataError(
            f"{where}: found a target with {row.train} training and {row.test} test rows, "
            "expected some of both; write target 0"
        )
    if row.donor and not row.train:
        raise DataError(f"{where}: found a donor without training rows; write donor 0")
    if tallies is None:
        return
    if row.profile not in tallies:
        raise DataError(
            f"{where}: found profile {row.profile:016x}, which has no rows in this cohort; "
            "remove the line, or take the sheet of this cohort"
        )
    expected = tallies[row.profile]
    for name in ("train", "test", "top_label", "top_share"):
        value, true = getattr(row, name), getattr(expected, name)
        same = math.isclose(value, true, abs_tol=1e-4) if name == "top_share" else value == true
        if not same:
            raise DataError(
                f"{where}: column {name!r}: found {value}, expected {true} as the rows of "
                f"profile {row.profile:016x} have it; the sheet is of other data"
            )
