"""From the files of a cohort to its prepared folder: divide the rows, make the sheet, write."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xpeft.data.cohort import FILES, SUITE, CohortMeta
from xpeft.data.cohort_readers import Judgement, Reading, read_annotators, read_bylines
from xpeft.data.cohort_specs import CohortSpec
from xpeft.data.embedded_authors import EmbeddedAuthors, read_embedded_authors
from xpeft.data.lamp import read_lamp
from xpeft.data.sheet import Tally, make_sheet, read_sheet, tally, write_sheet
from xpeft.errors import ConfigError, DataError
from xpeft.hashing import derive_key
from xpeft.ids import profile_id
from xpeft.io import atomic_directory, sha256_file, write_json

READERS: dict[str, Callable[[CohortSpec, Path], Reading]] = {
    "annotators": read_annotators,
    "bylines": read_bylines,
    "lamp": read_lamp,
}
"""Reader of each form of files."""

FOLDS = 2
"""Folds of a sheet that is made: each needs a warm bank of its own, so few. ours."""

_T = TypeVar("_T")


def prepare_cohort(
    spec: CohortSpec,
    source: str | os.PathLike[str] | EmbeddedAuthors,
    out_dir: str | os.PathLike[str],
    *,
    sheet: str | os.PathLike[str] | None = None,
    folds: int | None = None,
    seed: int | None = None,
) -> Path:
    """Read a cohort, check every row, divide it, and write the prepared folder.

    A judgement that a profile repeats counts once; where it repeats a text with another label,
    that text is left out for it. A training row whose text (up to case and blanks) is a test row
    of anyone is left out. `CohortMeta.left_out` counts all of these.

    Args:
        spec: the cohort.
        source: the data folder, or the settings of the embedded cohort.
        out_dir: the folder to write; it is replaced as a whole if it exists.
        sheet: a sheet to take instead of making one; profiles that it does not name are left out.
        folds: folds of the sheet that is made (default 2).
        seed: of the division into folds (default 0).

    Returns:
        The path of the folder.

    Raises:
        ConfigError: a setting is out of range, or not used by this cohort.
        DataError: a file is missing or unreadable, a row or the sheet is not what it should be.
            Nothing is left behind, and an older folder stays as it was.
    """
    if sheet is not None and not (folds is None and seed is None):
        raise ConfigError("sheet: found a number of folds or a seed too, expected the sheet alone")
    reading = _read(spec, source)
    if reading.folds is not None and folds not in (None, FOLDS):
        raise ConfigError(
            f"folds: found {folds}, expected none or 2: {spec.name} says itself who is a target"
        )
    left_out = Counter(reading.left_out)
    rows = _apart(_divide(spec, _once(reading.judgements, left_out)), left_out)
    ids = _ids(spec, rows)
    counted = _count(spec, rows, ids)
    thresholds = None
    if sheet is not None:
        lines = read_sheet(sheet, counted)
    else:
        thresholds = {
            "target_min_train": spec.target_min_train,
            "target_min_test": spec.target_min_test,
            "donor_min_train": spec.donor_min_train,
            "folds": FOLDS if folds is None else folds,
            "seed": seed or 0,
        }
        lines = make_sheet(
            counted.values(),
            given=_by_id(ids, reading.folds),
            groups=_by_id(ids, reading.groups),
            **thresholds,
        )
    place = {line.profile: number for number, line in enumerate(lines)}
    kept = [row for row in rows if ids[row.name] in place]
    kept.sort(key=lambda row: (place[ids[row.name]], row.day, row.text))
    left_out["profile not in the sheet"] = len(rows) - len(kept)
    out = Path(out_dir)
    with atomic_directory(out, "meta.json") as folder:
        _write_rows(folder, kept, [place[ids[row.name]] for row in kept])
        write_sheet(folder / "sheet.tsv", lines)
        test = sum(bool(row.test) for row in kept)
        meta = CohortMeta(
            suite=SUITE,
            task=spec.task,
            labels=list(spec.labels),
            metrics=list(spec.metrics),
            profiles=len(lines),
            rows={"train": len(kept) - test, "test": test},
            left_out={reason: number for reason, number in left_out.items() if number},
            sha256=reading.sha256,
            files={name: sha256_file(folder / name) for name in FILES},
            source=reading.source,
            licence=spec.licence,
            split=spec.split,
            thresholds=thresholds,
            best=reading.best if sheet is None else None,
        )
        write_json(folder / "meta.json", asdict(meta))
    return out


def _read(spec: CohortSpec, source: str | os.PathLike[str] | EmbeddedAuthors) -> Reading:
    if isinstance(source, EmbeddedAuthors):
        if spec.reader != "embedded":
            raise ConfigError(f"task {spec.name}: not an embedded cohort; use the source local")
        return read_embedded_authors(source)
    if spec.reader == "embedded":
        raise ConfigError(f"task {spec.name}: generated, not read; use the source embedded")
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, expected the data folder with {spec.files[0]}")
    return READERS[spec.reader](spec, root)


def _once(judgements: Iterable[Judgement], left_out: Counter[str]) -> list[Judgement]:
    """Each judgement once, the first by day; none of those that contradict each other."""
    said: dict[tuple[str, str, bool | None], list[Judgement]] = {}
    for row in judgements:
        said.setdefault((row.name, row.text, row.test), []).append(row)
    once = []
    for rows in said.values():
        if len({row.label for row in rows}) > 1:
            left_out["text with two labels of one profile"] += len(rows)
        else:
            left_out["repeated judgement"] += len(rows) - 1
            once.append(min(rows, key=lambda row: row.day))
    return once


def _divide(spec: CohortSpec, rows: list[Judgement]) -> list[Judgement]:
    """The rows with `test` set, as the spec's split says."""
    if spec.split == "given":
        return rows
    if spec.split == "item":
        held = {
            key: derive_key("cohort item", spec.task, key) < spec.test_share * 2**64
            for key in {_key(row.text) for row in rows}
        }
        return [replace(row, test=held[_key(row.text)]) for row in rows]
    days: dict[str, list[str]] = {}
    for row in rows:
        days.setdefault(row.name, []).append(row.day)
    first = {name: _first_test_day(found, spec.test_share) for name, found in days.items()}
    return [replace(row, test=row.day >= first[row.name]) for row in rows]


def _first_test_day(days: list[str], share: float) -> str:
    """The day of the first of the last `share` texts.

    That day is a test day as a whole, so that every test text is later than every training text.
    """
    return sorted(days)[-max(1, round(share * len(days)))]


def _apart(rows: list[Judgement], left_out: Counter[str]) -> list[Judgement]:
    """The rows without training rows whose text is a test row of anyone."""
    held = {_key(row.text) for row in rows if row.test}
    kept = [row for row in rows if row.test or _key(row.text) not in held]
    left_out["training row with a test text"] = len(rows) - len(kept)
    return kept


def _key(text: str) -> str:
    """Texts that differ in case and blanks only are one item to the split."""
    return " ".join(text.split()).casefold()


def _ids(spec: CohortSpec, rows: list[Judgement]) -> dict[str, int]:
    """The id of each name."""
    ids = {name: profile_id(spec.task, name) for name in {row.name for row in rows}}
    if len(set(ids.values())) < len(ids):
        raise DataError(f"{spec.name}: two profiles have the same id; rename one of them")
    return ids


def _by_id(ids: Mapping[str, int], values: Mapping[str, _T] | None) -> dict[int, _T] | None:
    return None if values is None else {ids[name]: values[name] for name in ids}


def _count(spec: CohortSpec, rows: list[Judgement], ids: dict[str, int]) -> dict[int, Tally]:
    """What the rows say of each profile, by id."""
    train: dict[int, list[int]] = {profile: [] for profile in ids.values()}
    test: Counter[int] = Counter()
    for row in rows:
        if row.test:
            test[ids[row.name]] += 1
        else:
            train[ids[row.name]].append(row.label)
    return {
        profile: tally(profile, codes, test[profile], spec.labels)
        for profile, codes in train.items()
    }


def _write_rows(folder: Path, rows: list[Judgement], profile: list[int]) -> None:
    texts = sorted({row.text for row in rows})
    item = {text: number for number, text in enumerate(texts)}
    _write_table(
        folder / "items.parquet",
        item=np.arange(len(texts), dtype=np.int64),
        text=pa.array(texts, pa.string()),
    )
    _write_table(
        folder / "rows.parquet",
        profile=np.array(profile, dtype=np.int32),
        item=np.array([item[row.text] for row in rows], dtype=np.int64),
        label=np.array([row.label for row in rows], dtype=np.int64),
        test=np.array([bool(row.test) for row in rows]),
    )


def _write_table(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")
