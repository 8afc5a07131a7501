"""The prepared folder: what training reads, as plain files.

    train.parquet, validation.parquet   columns text, pair, label, row
    meta.json                           the fields of `Meta`

Where rows are the candidate answers of questions there is a column `question` too, an int64 number
in the order of the source, and where taking an answer has a partial score, `credit`, a double.

`row` is the zero-based number of the row in its source split, so that a subset still says which
rows it is; where a source row unfolds to several, these are counted. `label` is int64 (class code)
or double (regression). `pair` is null throughout for single-sentence tasks. meta.json holds the
sha256 of both Parquet files, so a damaged or swapped file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xpeft.errors import DataError, XpeftError
from xpeft.hashing import mix64, sample
from xpeft.io import read_json, sha256_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

M = TypeVar("M", bound="DataclassInstance")

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Meta:
    """What is known about a prepared task.

    Attributes:
        suite: suite of the task.
        task: name within the suite.
        labels: class names in code order; [] for regression.
        metrics: metric names; the first is the primary one.
        rows: rows of each prepared split, {"train", "validation"}.
        rows_available: rows of each split in the source, before any limit.
        sha256: hash of each source split: of the file for a local source, of the canonical
            rows otherwise. All available rows count.
        files: sha256 of the prepared files, by file name.
        source: where the rows came from, without machine paths.
        licence: terms of the texts, as far as stated.
        best: best possible primary score on the validation split if it is known, else None.
        answers: how many rows of a question are taken, see `TaskSpec`; None where a row is one.
    """

    suite: str
    task: str
    labels: list[str]
    metrics: list[str]
    rows: dict[str, int]
    rows_available: dict[str, int]
    sha256: dict[str, str]
    files: dict[str, str]
    source: str
    licence: str
    best: float | None
    answers: str | None = None

    @property
    def regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels

    @property
    def num_outputs(self) -> int:
        """Width of the head: one output a class, or one for regression."""
        return len(self.labels) or 1


@dataclass(frozen=True)
class Split:
    """The rows of a split.

    Attributes:
        texts: first texts, R of them.
        pairs: second texts, R of them, or None for single-sentence tasks.
        labels: [R], int64 class codes or float64 values.
        rows: [R], int64, zero-based row numbers in the source.
        questions: [R], int64, which rows are answers of one question; None where a row is one.
        credit: [R], float64, partial score of taking a row as the answer, in [0, 1]; None where
            the label says all.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    questions: npt.NDArray[np.int64] | None = None
    credit: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Split:
        """The rows at `indices` (positions in this split), in that order."""
        positions = np.asarray(indices, dtype=np.int64)
        return Split(
            texts=[self.texts[i] for i in positions],
            pairs=None if self.pairs is None else [self.pairs[i] for i in positions],
            labels=self.labels[positions],
            rows=self.rows[positions],
            questions=None if self.questions is None else self.questions[positions],
            credit=None if self.credit is None else self.credit[positions],
        )

    def sample(self, limit: int | None, key: int) -> npt.NDArray[np.int64]:
        """Positions, ascending, of at most `limit` (None: all) rows, chosen by their hash.

        Questions stay whole: they are taken in the order of their hash until one does not fit.

        Raises:
            DataError: the first question has more rows than the limit.
        """
        if self.questions is None or limit is None:
            return sample(np.arange(len(self)), limit, key)
        _, group, counts = np.unique(self.questions, return_inverse=True, return_counts=True)
        order = np.argsort(mix64(np.arange(len(counts)), key), kind="stable")
        fitting = order[np.cumsum(counts[order]) <= limit]
        if not len(fitting):
            raise DataError(
                f"found {len(counts)} questions, the first of {counts[order[0]]} rows, expected "
                f"room for one in a limit of {limit} rows; raise the limit"
            )
        return np.flatnonzero(np.isin(group, fitting)).astype(np.int64)


@dataclass(frozen=True)
class Prepared:
    """A prepared task: both splits and what is known about them."""

    meta: Meta
    train: Split
    validation: Split


def load_prepared(folder: str | os.PathLike[str]) -> Prepared:
    """Read a prepared folder.

    Raises:
        DataError: the folder or a file is missing, damaged, or not as its meta.json says.
    """
    folder = Path(folder)
    if not (folder / "meta.json").is_file():
        raise DataError(f"{folder}: expected a prepared folder, found no meta.json; run xpeft data")
    meta = read_meta(folder / "meta.json", Meta)
    train, validation = (_read_split(folder, split, meta) for split in SPLITS)
    return Prepared(meta=meta, train=train, validation=validation)


def holdout(
    split: Split, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide a split into (fit, dev), with about `share` of the rows in dev.

    Classes keep their proportions. Which rows go to dev depends on their source row numbers and
    `seed` alone, not on their order. Where rows are answers, whole questions go.

    Returns:
        Positions in the split, ascending.

    Raises:
        DataError: a part would be empty.
    """
    if split.questions is not None:
        return _holdout_questions(split.questions, share, seed)
    order = mix64(split.rows, seed)
    classes = split.labels if split.labels.dtype.kind == "i" else np.zeros(len(split), np.int64)
    dev = np.zeros(len(split), dtype=bool)
    for code in np.unique(classes):
        members = np.flatnonzero(classes == code)
        count = round(share * len(members))
        dev[members[np.argsort(order[members], kind="stable")[:count]]] = True
    return _two_parts(dev, share)


def _holdout_questions(
    questions: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    known = np.unique(questions)
    order = np.argsort(mix64(known, seed), kind="stable")
    return _two_parts(np.isin(questions, known[order[: round(share * len(known))]]), share)


def _two_parts(
    dev: npt.NDArray[np.bool_], share: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if not 0 < int(dev.sum()) < len(dev):
        raise DataError(
            f"holding out a share of {share} of {len(dev)} rows leaves {int(dev.sum())} rows in "
            "the held-out part, expected some in both parts; use more rows or another share"
        )
    return np.flatnonzero(~dev), np.flatnonzero(dev)


def read_meta(path: Path, kind: type[M]) -> M:
    """The meta.json of a prepared folder, as the dataclass `kind`.

    Raises:
        DataError: it is no JSON, or its fields are not those of `kind`.
    """
    try:
        value = read_json(path)
    except XpeftError as error:
        raise DataError(str(error)) from None
    expected = {field.name for field in fields(kind)}
    later = {field.name for field in fields(kind) if field.default is not MISSING}
    found = set(value) if isinstance(value, dict) else set()
    if found | later != expected:
        wrong = ", ".join(sorted((found | later) ^ expected))
        raise DataError(f"{path}: missing or unknown fields: {wrong}; run xpeft data again")
    return kind(**value)


def require_file(path: Path, files: Mapping[str, str]) -> None:
    """Refuse a prepared file that is missing or not that of meta.json's `files`.

    Raises:
        DataError: with what was found and expected.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected by meta.json; run xpeft data again")
    digest, expected = sha256_file(path), files.get(path.name)
    if digest != expected:
        raise DataError(
            f"{path}: found sha256 {digest}, expected {expected} from meta.json; the file was "
            "changed or damaged, run xpeft data again"
        )


def _read_split(folder: Path, split: str, meta: Meta) -> Split:
    path = folder / f"{split}.parquet"
    require_file(path, meta.files)
    with pq.ParquetFile(path) as file:
        table: pa.Table = file.read()
    return Split(
        texts=table.column("text").to_pylist(),
        pairs=None if table.column("pair").null_count else table.column("pair").to_pylist(),
        labels=np.array(table.column("label")),
        rows=np.array(table.column("row")),
        questions=_optional(table, "question"),
        credit=_optional(table, "credit"),
    )


def _optional(table: pa.Table, name: str) -> npt.NDArray[Any] | None:
    return np.array(table.column(name)) if name in table.column_names else None
