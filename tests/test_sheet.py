"""The sheet: how profiles are divided, and what a sheet made by hand may say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from xpeft.data.sheet import NO_LABEL, SheetRow, Tally, make_sheet, read_sheet, tally, write_sheet
from xpeft.errors import ConfigError, DataError
from xpeft.hashing import derive_key

LABELS = ("no", "yes")


def a_tally(number: int, train: int = 12, test: int = 6) -> Tally:
    codes = [index % 3 == 0 for index in range(train)]
    return tally(derive_key("test profile", number), [int(code) for code in codes], test, LABELS)


def sheet(tallies: list[Tally], **options: object) -> list[SheetRow]:
    settings = {"target_min_train": 10, "target_min_test": 5, "donor_min_train": 8} | options
    return make_sheet(tallies, **settings)  # type: ignore[arg-type]


MANY = [a_tally(number, train=number % 20, test=number % 7) for number in range(200)]


# ----------------------------------------------------------------------------------- making


def test_a_tally_counts_training_labels_only() -> None:
    assert tally(7, [1, 0, 1], 4, LABELS) == Tally(7, 3, 4, "yes", 0.6667)
    assert tally(7, [1, 0], 0, LABELS) == Tally(7, 2, 0, "no", 0.5)  # the first of equals
    assert tally(7, [], 4, LABELS) == Tally(7, 0, 4, NO_LABEL, 0.0)


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_donors_and_targets_of_a_fold_are_disjoint_and_all_are_used(folds: int) -> None:
    rows = sheet(MANY, folds=folds)
    assert [row.tally for row in rows] == sorted(MANY, key=lambda item: item.profile)
    for row in rows:
        assert row.target == (row.train >= 10 and row.test >= 5)
        assert row.donor == (row.train >= 8)
    assert {row.fold for row in rows} == set(range(folds))
    scored: Counter[int] = Counter()
    for fold in range(folds):
        targets = {row.profile for row in rows if row.target and row.fold == fold}
        donors = {row.profile for row in rows if row.donor and row.fold != fold}
        assert targets and donors and not targets & donors
        scored.update(targets)
    assert scored == {row.profile: 1 for row in rows if row.target}


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_are_balanced_in_every_kind_of_profile(folds: int) -> None:
    rows = sheet(MANY, folds=folds)
    for kind in {(row.target, row.donor) for row in rows}:
        sizes = Counter(row.fold for row in rows if (row.target, row.donor) == kind)
        assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 1


def test_folds_depend_on_ids_and_seed_and_nothing_else() -> None:
    rows = sheet(MANY)
    assert sheet(MANY[::-1]) == rows
    other = sheet(MANY, seed=1)
    assert [row.tally for row in other] == [row.tally for row in rows]
    assert 20 < sum(a.fold != b.fold for a, b in zip(rows, other, strict=True)) < 180
    # Not by the order of ids: neighbours in the sheet are in different folds often, not always.
    same = sum(a.fold == b.fold for a, b in pairwise(rows))
    assert 50 < same < 150


def test_groups_stay_together() -> None:
    tallies = [a_tally(number) for number in range(40)]
    groups = {item.profile: f"pair {place // 2}" for place, item in enumerate(tallies)}
    fold = {row.profile: row.fold for row in sheet(tallies, groups=groups)}
    assert all(
        fold[a.profile] == fold[b.profile] for a, b in zip(tallies[::2], tallies[1::2], strict=True)
    )
    assert Counter(fold.values()) == {0: 20, 1: 20}


def test_given_folds_are_kept() -> None:
    tallies = [a_tally(number, test=6 * (number < 5)) for number in range(12)]
    given = {item.profile: int(place >= 5) for place, item in enumerate(tallies)}
    rows = sheet(tallies, given=given)
    assert {row.profile: row.fold for row in rows} == given
    assert {row.fold for row in rows if row.target} == {0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds: found 1, expected 2 to 1000"),
        ({"folds": 1001}, "folds: found 1001"),
        ({"target_min_test": 0}, "thresholds of the sheet: found 0, expected at least 1"),
    ],
)
def test_settings_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sheet(MANY, **options)


def test_a_sheet_without_targets_or_without_donors_is_refused() -> None:
    with pytest.raises(DataError, match=r"sheet of 3 profiles \(targets: at least 10 training"):
        sheet([a_tally(number, train=9) for number in range(3)])
    with pytest.raises(DataError, match="fold 0 has targets and no donors"):
        sheet([a_tally(0)])


# ---------------------------------------------------------------------------------- reading


def test_a_written_sheet_reads_the_same(tmp_path: Path) -> None:
    rows = sheet(MANY)
    write_sheet(tmp_path / "sheet.tsv", rows)
    tallies = {item.profile: item for item in MANY}
    assert read_sheet(tmp_path / "sheet.tsv", tallies) == rows
    lines = (tmp_path / "sheet.tsv").read_text().splitlines()
    assert lines[0] == "profile\tfold\tdonor\ttarget\ttrain\ttest\ttop_label\ttop_share"
    # By hand: another order of lines, some left out.
    (tmp_path / "hand.tsv").write_text("\n".join([lines[0], *lines[:50:-1]]))
    assert read_sheet(tmp_path / "hand.tsv", tallies) == rows[50:]


FIRST = "00000000000000aa\t0\t1\t1\t4\t2\tno\t0.5000"
SECOND = "00000000000000bb\t1\t1\t1\t4\t2\tyes\t0.7500"
HEADER = "profile\tfold\tdonor\ttarget\ttrain\ttest\ttop_label\ttop_share"
TALLIES = {0xAA: Tally(0xAA, 4, 2, "no", 0.5), 0xBB: Tally(0xBB, 4, 2, "yes", 0.75)}


def change(column: str, value: str) -> str:
    cells = dict(zip(HEADER.split("\t"), SECOND.split("\t"), strict=True))
    assert cells[column] != value
    return "\t".join((cells | {column: value}).values())


BAD: dict[str, tuple[list[str], str]] = {
    "empty file": ([], r"line 1: found the columns \(none\), expected profile, fold"),
    "other columns": (["profile\tfold"], "line 1: found the columns profile, fold, expected"),
    "no rows": ([HEADER], "found no profiles"),
    "too few cells": ([HEADER, FIRST, "00000000000000bb\t1"], "line 3: found 2 cells, expected 8"),
    "blank line": ([HEADER, FIRST, "", SECOND], "line 3: found 0 cells"),
    "short id": ([HEADER, FIRST, change("profile", "bb")], "line 3: column 'profile': found 'bb'"),
    "id in capitals": (
        [HEADER, FIRST, change("profile", "00000000000000BB")],
        "expected an id of 16 hexadecimal digits",
    ),
    "fold": ([HEADER, FIRST, change("fold", "-1")], "line 3: column 'fold': found '-1', expected"),
    "flag": ([HEADER, FIRST, change("donor", "yes")], "column 'donor': found 'yes', expected 0 or"),
    "count": ([HEADER, FIRST, change("test", "2.0")], "column 'test': found '2.0', expected a num"),
    "share": ([HEADER, FIRST, change("top_share", "75%")], "column 'top_share': found '75%'"),
    "twice": ([HEADER, FIRST, SECOND, FIRST], "line 4: found profile 00000000000000aa again, .* 2"),
    "unknown profile": (
        [HEADER, FIRST, change("profile", "00000000000000cc")],
        "line 3: found profile 00000000000000cc, which has no rows in this cohort",
    ),
    "other train": ([HEADER, FIRST, change("train", "5")], "'train': found 5, expected 4 as"),
    "other test": ([HEADER, FIRST, change("test", "1")], "'test': found 1, expected 2 as the rows"),
    "other label": ([HEADER, FIRST, change("top_label", "no")], "found no, expected yes as"),
    "other share": ([HEADER, FIRST, change("top_share", "0.7")], "found 0.7, expected 0.75"),
    "no targets": (
        [HEADER, FIRST.replace("\t1\t1\t", "\t1\t0\t")],
        "found no target, expected some",
    ),
    "fold without donors": (
        [HEADER, FIRST, change("donor", "0")],
        "fold 0 has targets and no donors",
    ),
    "all in one fold": ([HEADER, FIRST, change("fold", "0")], "fold 0 has targets and no donors"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sheet_is_named(tmp_path: Path, case: str) -> None:
    path = tmp_path / "sheet.tsv"
    path.write_text("\n".join([HEADER, FIRST, SECOND]) + "\n")
    assert len(read_sheet(path, TALLIES)) == 2
    lines, message = BAD[case]
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError, match=message) as caught:
        read_sheet(path, TALLIES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda item: replace(item, test=0), "target with 4 training and 0 test rows"),
        (lambda item: replace(item, train=0), "target with 0 training and 2 test rows"),
    ],
)
def test_a_target_needs_rows_of_both_sides(
    tmp_path: Path, spoil: Callable[[Tally], Tally], message: str
) -> None:
    item = spoil(TALLIES[0xBB])
    path = tmp_path / "sheet.tsv"
    path.write_text(f"{HEADER}\n{FIRST}\n" + change(*_difference(item)) + "\n")
    with pytest.raises(DataError, match=message):
        read_sheet(path, TALLIES | {0xBB: item})


def _difference(item: Tally) -> tuple[str, str]:
    return ("test", "0") if item.test == 0 else ("train", "0")


def test_a_donor_needs_training_rows(tmp_path: Path) -> None:
    path = tmp_path / "sheet.tsv"
    path.write_text(f"{HEADER}\n{FIRST}\n00000000000000bb\t1\t1\t0\t0\t2\t-\t0\n")
    with pytest.raises(DataError, match="line 3: found a donor without training rows"):
        read_sheet(path)


def test_a_missing_or_binary_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tsv: no such file, expected a sheet"):
        read_sheet(tmp_path / "none.tsv")
    (tmp_path / "sheet.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"sheet\.tsv: cannot be read: .* expected a sheet"):
        read_sheet(tmp_path / "sheet.tsv")
