"""From a source's rows to a prepared folder: check everything, then write it in one go."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xpeft.data.prepared import SPLITS, Meta, Split
from xpeft.data.sources import RawSplit, Source
from xpeft.data.taskspec import TaskSpec
from xpeft.errors import ConfigError, DataError, show
from xpeft.io import atomic_directory, canonical_json, sha256_file, write_json

SUBSET_KEY = 0
"""Key of the hash that picks training rows under `max_train_rows`: fixed, so that all seeds,
methods and machines train on the same rows."""


def prepare(
    spec: TaskSpec,
    source: Source,
    out_dir: str | os.PathLike[str],
    *,
    max_train_rows: int | None = None,
) -> Path:
    """Read both splits of a task, check every row, and write the prepared folder.

    Args:
        spec: the task.
        source: where its rows are.
        out_dir: the folder to write; it is replaced as a whole if it exists.
        max_train_rows: keep at most this many training rows: those whose row numbers have the
            smallest hashes, in source order. A smaller limit gives a subset of a larger one.
            Questions stay whole: where rows are their answers, questions are hashed.

    Returns:
        The path of the folder.

    Raises:
        ConfigError: `max_train_rows` is not positive.
        DataError: a split is missing, unreadable, empty, or a row is not what the task says.
            Nothing is left behind, and an older folder stays as it was.
    """
    if max_train_rows is not None and max_train_rows < 1:
        raise ConfigError(f"max_train_rows: found {max_train_rows}, expected at least 1, or none")
    raws = dict(
        zip(
            SPLITS,
            (source.read(spec, name) for name in (spec.train_split, spec.validation_split)),
            strict=True,
        )
    )
    splits = {name: check(spec, raw) for name, raw in raws.items()}
    train, validation = splits["train"], splits["validation"]
    if (train.texts, train.pairs) == (validation.texts, validation.pairs):
        raise DataError(
            f"{raws['validation'].where}: found the same {len(train)} texts as in "
            f"{raws['train'].where}, expected other rows; a score on training rows means nothing"
        )
    if max_train_rows is not None and max_train_rows < len(train):
        train = train.take(train.sample(max_train_rows, SUBSET_KEY))
    out = Path(out_dir)
    with atomic_directory(out, "meta.json") as folder:
        _write(folder / "train.parquet", train)
        _write(folder / "validation.parquet", validation)
        files = (folder / f"{name}.parquet" for name in SPLITS)
        meta = Meta(
            suite=spec.suite,
            task=spec.task,
            labels=list(spec.labels),
            metrics=list(spec.metrics),
            rows={"train": len(train), "validation": len(validation)},
            rows_available={name: len(split) for name, split in splits.items()},
            sha256={name: raw.sha256 or rows_sha256(splits[name]) for name, raw in raws.items()},
            files={path.name: sha256_file(path) for path in files},
            source="; ".join(dict.fromkeys(raw.source for raw in raws.values())),
            licence=spec.licence,
            best=raws["validation"].best,
            answers=spec.answers,
        )
        write_json(folder / "meta.json", asdict(meta))
    return out


def check(spec: TaskSpec, raw: RawSplit) -> Split:
    """Turn raw rows into a `Split`, or say which row is not what the task says.

    Raises:
        DataError: no rows; a text that is null, no string, or not encodable as UTF-8; a label of
            the wrong type or out of range.
    """
    if not raw.labels:
        raise DataError(f"{raw.where}: found no rows, expected at least one")
    _check_texts(raw, spec.text, raw.texts)
    if spec.pair is not None:
        _check_texts(raw, spec.pair, raw.pairs or [])
    problem = _wrong_number if spec.regression else _wrong_code
    for index, label in enumerate(raw.labels):
        expected = problem(spec, label)
        if expected:
            raise DataError(
                f"{raw.place(index)}: column {spec.label!r}: found {show(label)}, "
                f"expected {expected}; correct the row"
            )
    return Split(
        texts=list(raw.texts),
        pairs=None if raw.pairs is None else list(raw.pairs),
        labels=np.array(raw.labels, dtype=np.float64 if spec.regression else np.int64),
        rows=np.arange(len(raw.labels), dtype=np.int64),
        questions=None if raw.questions is None else _numbered(raw.questions),
        credit=None if raw.credits is None else np.array(raw.credits, dtype=np.float64),
    )


def rows_sha256(split: Split) -> str:
    """sha256 over the rows as canonical JSON lines [text, pair, label], for rows without a file."""
    digest = hashlib.sha256()
    pairs: list[str] | list[None] = split.pairs or [None] * len(split)
    for text, pair, label in zip(split.texts, pairs, split.labels.tolist(), strict=True):
        digest.update(canonical_json([text, pair, label]).encode() + b"\n")
    return digest.hexdigest()


def _numbered(questions: list[Hashable]) -> npt.NDArray[np.int64]:
    """The questions of the rows, numbered from 0 in the order in which they come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in questions], dtype=np.int64)


def _check_texts(raw: RawSplit, column: str, texts: list[Any]) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"{raw.place(index)}: column {column!r}: found {show(text)}, expected text; "
                "correct the row"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{raw.place(index)}: column {column!r}: found the unpaired surrogate "
                f"{text[error.start]!r}, expected text that UTF-8 can hold; correct the row"
            ) from None


def _wrong_code(spec: TaskSpec, label: Any) -> str | None:
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(spec.labels):
        return None
    names = ", ".join(f"{code} {name}" for code, name in enumerate(spec.labels))
    return f"an integer from 0 to {len(spec.labels) - 1} ({names})"


def _wrong_number(spec: TaskSpec, label: Any) -> str | None:
    largest = sys.float_info.max
    low, high = spec.label_range or (-largest, largest)
    number = isinstance(label, (int, float)) and not isinstance(label, bool)
    if number and low <= label <= high:  # false for NaN and infinities
        return None
    return f"a number from {low:g} to {high:g}"


def _write(path: Path, split: Split) -> None:
    pairs: list[Any] = [None] * len(split) if split.pairs is None else split.pairs
    columns = {
        "text": pa.array(split.texts, pa.string()),
        "pair": pa.array(pairs, pa.string()),
        "label": pa.array(split.labels),
        "row": pa.array(split.rows),
    }
    if split.questions is not None:
        columns["question"] = pa.array(split.questions)
    if split.credit is not None:
        columns["credit"] = pa.array(split.credit)
    pq.write_table(pa.table(columns), path, compression="zstd")
