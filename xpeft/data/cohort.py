"""A cohort: hundreds of profiles with their texts, and the sheet that divides them.

The prepared folder, what training reads:

    items.parquet   columns item, text: each text once
    rows.parquet    columns profile, item, label, test: one row a judgement
    sheet.tsv       see `xpeft.data.sheet`; `profile` of a row is a line of it, from 0
    meta.json       the fields of `CohortMeta`

Rows are sorted by profile, and within a profile by time where the texts have one. No text is on
both sides for anyone: a text that is a test row of one profile is a training row of none.
Profiles are named by 64-bit ids alone (`profile_id`); the names of authors are in no file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from xpeft.data.prepared import read_meta, require_file
from xpeft.data.sheet import SheetRow, Tally, read_sheet, tally
from xpeft.errors import DataError

SUITE = "profiles"
FILES = ("items.parquet", "rows.parquet", "sheet.tsv")


@dataclass(frozen=True)
class CohortMeta:
    """What is known about a prepared cohort.

    Attributes:
        suite: "profiles".
        task: name of the cohort.
        labels: label names in code order.
        metrics: metric names; the first is the primary one.
        profiles: number of profiles, whatever the sheet says of them.
        rows: rows of each side, {"train", "test"}.
        left_out: rows of the source that are not here, by the reason.
        sha256: hash of each source file, or of the generated rows.
        files: sha256 of the prepared files, by file name.
        source: where the rows came from, without machine paths.
        licence: terms of the texts, as far as stated.
        split: what divides the rows, "item", "time" or "given"; see `CohortSpec`.
        thresholds: what the sheet was made with, {"target_min_train", "target_min_test",
            "donor_min_train", "folds", "seed"}; None if it was made by hand.
        best: best possible accuracy over all targets, {"shared", "personal"}, if it is known.
    """

    suite: str
    task: str
    labels: list[str]
    metrics: list[str]
    profiles: int
    rows: dict[str, int]
    left_out: dict[str, int]
    sha256: dict[str, str]
    files: dict[str, str]
    source: str
    licence: str
    split: str
    thresholds: dict[str, int] | None
    best: dict[str, float] | None

    @property
    def num_outputs(self) -> int:
        """Width of a head: one output a label."""
        return len(self.labels)


@dataclass(frozen=True)
class Cohort:
    """A prepared cohort of P profiles, R rows and I texts.

    Attributes:
        meta: what is known about it.
        sheet: P lines, by ascending profile id.
        texts: I texts, all different.
        profile: int64 [R], ascending: line of the sheet.
        item: int64 [R]: place in `texts`.
        label: int64 [R]: label code.
        test: bool [R]: whether the row is a test row.
    """

    meta: CohortMeta
    sheet: list[SheetRow]
    texts: list[str]
    profile: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    test: npt.NDArray[np.bool_]

    @property
    def folds(self) -> list[int]:
        """The folds that have targets, ascending."""
        return sorted({row.fold for row in self.sheet if row.target})

    def targets(self, fold: int) -> npt.NDArray[np.int64]:
        """The profiles (lines of the sheet) that fold `fold` is scored on: int64, ascending.

        Raises:
            DataError: the fold has no targets.
        """
        return self._lines(fold, [row.target and row.fold == fold for row in self.sheet])

    def donors(self, fold: int) -> npt.NDArray[np.int64]:
        """The profiles whose training rows a warm bank of fold `fold` may see: int64, ascending.

        Raises:
            DataError: the fold has no targets.
        """
        return self._lines(fold, [row.donor and row.fold != fold for row in self.sheet])

    def train_rows(self, profile: int) -> npt.NDArray[np.int64]:
        """Training rows of a profile (a line of the sheet): int64 row numbers, ascending."""
        return self._rows(profile, test=False)

    def test_rows(self, profile: int) -> npt.NDArray[np.int64]:
        """Test rows of a profile (a line of the sheet): int64 row numbers, ascending."""
        return self._rows(profile, test=True)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """First row of each profile, and R: int64 [P + 1]."""
        lines = np.arange(len(self.sheet) + 1)
        starts: npt.NDArray[np.int64] = np.searchsorted(self.profile, lines)
        return starts

    def _lines(self, fold: int, chosen: list[bool]) -> npt.NDArray[np.int64]:
        if fold not in self.folds:
            raise DataError(
                f"cohort {self.meta.task}: fold {fold}: has no targets; folds that have some: "
                f"{', '.join(map(str, self.folds))}"
            )
        return np.flatnonzero(chosen).astype(np.int64)

    def _rows(self, profile: int, test: bool) -> npt.NDArray[np.int64]:
        if not 0 <= profile < len(self.sheet):
            raise IndexError(f"profile {profile} of a cohort of {len(self.sheet)}")
        first, last = (int(start) for start in self._starts[profile : profile + 2])
        return first + np.flatnonzero(self.test[first:last] == test).astype(np.int64)


def load_cohort(folder: str | os.PathLike[str]) -> Cohort:
    """Read a prepared folder.

    Raises:
        DataError: the folder or a file is missing, damaged, or not as its meta.json says.
    """
    folder = Path(folder)
    if not (folder / "meta.json").is_file():
        raise DataError(f"{folder}: expected a prepared cohort, found no meta.json; run xpeft data")
    meta = read_meta(folder / "meta.json", CohortMeta)
    for name in FILES:
        require_file(folder / name, meta.files)
    with pq.ParquetFile(folder / "items.parquet") as file:
        items = file.read()
    with pq.ParquetFile(folder / "rows.parquet") as file:
        rows = file.read()
    profile, item, label = (
        np.array(rows.column(name)).astype(np.int64) for name in ("profile", "item", "label")
    )
    test = np.array(rows.column("test")).astype(np.bool_)
    sheet = read_sheet(folder / "sheet.tsv")
    ids = [row.profile for row in sheet]
    counted = tallies(ids, profile, label, test, meta.labels)
    return Cohort(
        meta=meta,
        sheet=read_sheet(folder / "sheet.tsv", counted),
        texts=items.column("text").to_pylist(),
        profile=profile,
        item=item,
        label=label,
        test=test,
    )


def tallies(
    ids: list[int],
    profile: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64],
    test: npt.NDArray[np.bool_],
    labels: list[str],
) -> dict[int, Tally]:
    """What the rows say of each profile, by id; `profile` [R] is ascending places in `ids`."""
    starts = np.searchsorted(profile, np.arange(len(ids) + 1))
    found = {}
    for place, (first, last) in enumerate(pairwise(starts.tolist())):
        held = test[first:last]
        codes = label[first:last][~held].tolist()
        found[ids[place]] = tally(ids[place], codes, int(held.sum()), labels)
    return found
