"""Where rows come from: the hub, a local folder, or the embedded generator.

A source answers one question: `read(spec, split)`. It opens, decodes and picks columns, or lets the
task's form (`xpeft.data.forms`) make rows of what it finds; whether the values fit the task is
checked in one place for all sources, `xpeft.data.prepare.check`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from xpeft.data.embedded import generate
from xpeft.data.forms import FORMS, unfold
from xpeft.data.specs import TASKS
from xpeft.data.taskspec import TaskSpec
from xpeft.errors import ConfigError, DataError
from xpeft.io import sha256_file

KINDS = ("hub", "local", "embedded")


@dataclass(frozen=True)
class RawSplit:
    """The rows of a split as a source found them, unchecked.

    Attributes:
        texts, pairs, labels: one value a row; pairs is None for single-sentence tasks.
        where: what an error calls the split: the path of its file, or its address.
        numbers: what an error calls each row: its line in the file, or its row, from 1. Rows that
            come of one source row share it.
        unit: "line" or "row".
        source: description for the record, without machine paths.
        sha256: hash of the file; None if there is no file.
        best: best possible primary score if it is known.
        questions: the question of each row; None where a row is a question.
        credits: partial score of taking each row as the answer; None where there is none.
    """

    texts: list[Any]
    pairs: list[Any] | None
    labels: list[Any]
    where: str
    numbers: Sequence[int]
    unit: str
    source: str
    sha256: str | None = None
    best: float | None = None
    questions: list[Hashable] | None = None
    credits: list[float] | None = None

    def place(self, index: int) -> str:
        """Where row `index` (from 0) is, for an error message."""
        return f"{self.where}: {self.unit} {self.numbers[index]}"


class Source(Protocol):
    """Anything that can give the rows of a task's split."""

    def read(self, spec: TaskSpec, split: str) -> RawSplit:
        """Read the split named as on the hub (`train`, `validation_matched`, ...).

        Raises:
            DataError: the split is missing or unreadable, or lacks a column.
        """
        ...


def make_source(kind: str, path: str | os.PathLike[str] | None = None) -> Source:
    """The source of that kind; `path` is the folder of a local one.

    Raises:
        ConfigError: the kind is unknown, or a path is missing or not used by that kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"data source: found {kind!r}, expected one of {', '.join(KINDS)}")
    if kind == "local":
        if path is None:
            raise ConfigError("data source local: found no path, expected the data folder")
        return LocalSource(path)
    if path is not None:
        raise ConfigError(f"data source {kind}: found the path {path}, expected none; use local")
    return HubSource() if kind == "hub" else EmbeddedSource()


class Table(Protocol):
    """What the readers of files ask for: names of columns, and how CSV cells are to be read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        ...

    @property
    def label(self) -> str:
        """The column that holds numbers."""
        ...

    @property
    def regression(self) -> bool:
        """Whether they are fractions rather than integers."""
        ...


@dataclass(frozen=True)
class HubSource:
    """Data sets on the Hugging Face hub, or on the mirror that HF_ENDPOINT names.

    Read with `datasets`, at the commit that the spec pins. Downloads stay in the cache that
    HF_HOME names; HF_HUB_OFFLINE=1 reads from that cache alone.
    """

    def read(self, spec: TaskSpec, split: str) -> RawSplit:
        """See `Source.read`."""
        if spec.hub_id is None:
            raise DataError(f"task {spec.name}: not on the hub; its source is embedded")
        import datasets

        address = f"{spec.hub_id}@{spec.revision or 'main'} ({spec.hub_config or 'default'})"
        where = f"hub data set {address}, split {split}"
        try:
            data = datasets.load_dataset(
                spec.hub_id, spec.hub_config, split=split, revision=spec.revision
            )
            if spec.form is None:
                _require_columns(where, data.column_names, spec)
            table = data.with_format("arrow")[:]
        except DataError:
            raise
        except Exception as error:  # httpx, OSError, ValueError, ...: all mean "could not read"
            raise DataError(
                f"{where}: cannot be loaded: {_first_line(error)}; check the network, HF_ENDPOINT "
                "and HF_HOME, or use a local data folder"
            ) from error
        names = getattr(data.features.get(spec.label), "names", None)
        expected = None if spec.form is None else FORMS[spec.form].labels
        expected = spec.labels if expected is None else expected
        if names is not None and tuple(names) != expected:
            raise DataError(
                f"{where}: column {spec.label!r}: found the labels {', '.join(names)}, "
                f"expected {', '.join(expected)}; pin the revision that the task was made for"
            )
        origin = _Origin(where, range(1, len(data) + 1), "row", f"hub {address}")
        if spec.form is not None:
            return _unfolded(spec, table.to_pylist(), origin)
        columns = {name: table.column(name).to_pylist() for name in spec.columns}
        return _raw(spec, columns, origin)


@dataclass(frozen=True)
class LocalSource:
    """A folder with the layout `<suite>/<task>/<split>` + .jsonl.gz, .jsonl, .parquet or .csv.

    Columns are named as on the hub; text is UTF-8. A .csv has a header line. The folders and files
    of an official distribution (`BoolQ/val.jsonl`) are taken as they are, in the folder or in
    `<suite>`.

    Attributes:
        folder: the folder that holds the suites.
    """

    folder: str | os.PathLike[str]

    def find(self, spec: TaskSpec, split: str) -> Path:
        """The file of a split.

        Raises:
            DataError: no such file, or more than one.
        """
        root = Path(self.folder)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder, expected the data folder <suite>/<task>/...")
        own = root / spec.suite / spec.task / split
        if spec.official is not None and not _tables(own):
            name = OFFICIAL_SPLITS.get(split, split)
            for folder in (root / spec.suite, root):
                if _tables(folder / spec.official / name):
                    return find_table(folder / spec.official / name)
        return find_table(own)

    def read(self, spec: TaskSpec, split: str) -> RawSplit:
        """See `Source.read`."""
        path = self.find(spec, split)
        source = f"local {path.relative_to(self.folder).as_posix()}"

        def origin(numbers: Sequence[int], unit: str) -> _Origin:
            return _Origin(str(path), numbers, unit, source, sha256_file(path))

        if spec.form is not None:
            rows, numbers, unit = read_rows(path, FORMS[spec.form].whole_numbers)
            return _unfolded(spec, rows, origin(numbers, unit))
        columns, numbers, unit = read_table(path, spec)
        return _raw(spec, columns, origin(numbers, unit))


@dataclass(frozen=True)
class EmbeddedSource:
    """The generator of `xpeft.data.embedded`.

    Attributes:
        train_rows, validation_rows: rows of each split.
        noise: share of the labels that is flipped, in [0, 0.5).
        seed: of all draws.
    """

    train_rows: int = 2000
    validation_rows: int = 400
    noise: float = 0.05
    seed: int = 0

    def read(self, spec: TaskSpec, split: str) -> RawSplit:
        """See `Source.read`."""
        if spec.suite != "embedded":
            known = ", ".join(task.name for task in TASKS.values() if task.suite == "embedded")
            raise DataError(f"task {spec.name}: not an embedded task; embedded ones: {known}")
        rows = generate(
            spec.task,
            train_rows=self.train_rows,
            validation_rows=self.validation_rows,
            noise=self.noise,
            seed=self.seed,
        )[split]
        return RawSplit(
            texts=list(rows.texts),
            pairs=None if rows.pairs is None else list(rows.pairs),
            labels=list(rows.labels),
            where=f"embedded {spec.task}, split {split}",
            numbers=range(1, len(rows.labels) + 1),
            unit="row",
            source=f"embedded generator, noise {self.noise:g}, seed {self.seed}",
            best=rows.best,
        )


Columns = dict[str, list[Any]]

OFFICIAL_SPLITS = {"validation": "val"}
"""Names of the files of SuperGLUE's distribution, where they are not those of the splits."""


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line."""
    lines = read_text(path).split("\n")  # not splitlines: JSON strings may hold U+2028
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: line {number}: found {line[:40]!r}, expected a JSON object: "
                f"{_first_line(error)}; correct the line"
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}: line {number}: found {type(row).__name__}, expected a JSON object"
            )
        yield number, row


def _read_jsonl(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    columns: Columns = {name: [] for name in spec.columns}
    number = 0
    for number, row in _json_rows(path):
        _require_columns(f"{path}: line {number}", list(row), spec)
        for name, values in columns.items():
            values.append(row[name])
    return columns, range(1, number + 1)


def _csv_rows(path: Path, spec: Table | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """First line and cells of each row; `spec` names columns that the header must have."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    last = 0  # a quoted cell may span lines, so a row starts after the line that ended the last
    try:
        header = next(reader, [])
        if spec is not None:
            _require_columns(str(path), header, spec)
        last = reader.line_num
        for cells in reader:
            if len(cells) != len(header):
                raise DataError(
                    f"{path}: line {last + 1}: found {len(cells)} cells, expected {len(header)} "
                    "as in the header; correct the line"
                )
            yield last + 1, dict(zip(header, cells, strict=True))
            last = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}: line {last + 1}: expected CSV: {error}") from None


def _read_csv(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    columns: Columns = {name: [] for name in spec.columns}
    numbers: list[int] = []
    for number, row in _csv_rows(path, spec):
        for name, values in columns.items():
            cell = row[name]
            values.append(_number(cell, spec.regression) if name == spec.label else cell)
        numbers.append(number)
    return columns, numbers


def _read_parquet(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    columns = _parquet_columns(path, spec)
    return columns, range(1, len(columns[spec.label]) + 1)


def _parquet_columns(path: Path, spec: Table | None = None) -> Columns:
    """The columns that `spec` names; without one, all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if spec is not None:
                _require_columns(str(path), file.schema_arrow.names, spec)
            table = file.read(columns=None if spec is None else list(spec.columns))
        return {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a Parquet file: {_first_line(error)}") from None


READERS: dict[str, Callable[[Path, Table], tuple[Columns, Sequence[int]]]] = {
    ".jsonl.gz": _read_jsonl,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
"""Reader of each file name suffix: file and spec to columns and row numbers."""


def _tables(stem: Path) -> list[Path]:
    return [path for suffix in READERS if (path := Path(f"{stem}{suffix}")).is_file()]


def find_table(stem: Path) -> Path:
    """The file `stem` with the suffix of one of the READERS.

    Raises:
        DataError: no such file, or more than one.
    """
    found = _tables(stem)
    if not found:
        raise DataError(f"{stem}: no such file, expected one with {', '.join(READERS)}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{stem.parent}: found {names}, expected one of them; remove the others")
    return found[0]


def read_table(path: Path, spec: Table) -> tuple[Columns, Sequence[int], str]:
    """The columns of a file, the number of each row in it, and whether that is a "line" or "row".

    Raises:
        DataError: the file is unreadable, lacks a column, or has no rows.
    """
    suffix = next(suffix for suffix in READERS if path.name.endswith(suffix))
    columns, numbers = READERS[suffix](path, spec)
    if not numbers:
        raise DataError(f"{path}: found no rows, expected at least one")
    return columns, numbers, "row" if suffix == ".parquet" else "line"


def read_rows(
    path: Path, whole_numbers: Sequence[str]
) -> tuple[list[dict[str, Any]], Sequence[int], str]:
    """All rows of a file with all their columns, their numbers, and "line" or "row".

    Args:
        path: with the suffix of one of the READERS.
        whole_numbers: columns whose cells a .csv spells and that are integers.

    Raises:
        DataError: the file is unreadable or has no rows.
    """
    rows: list[dict[str, Any]]
    if path.name.endswith(".parquet"):
        columns = _parquet_columns(path)
        rows = [
            dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
        ]
        numbers: Sequence[int] = range(1, len(rows) + 1)
    else:
        csv_file = path.name.endswith(".csv")
        found: list[tuple[int, dict[str, Any]]] = list(
            _csv_rows(path) if csv_file else _json_rows(path)
        )
        numbers, rows = [number for number, _ in found], [row for _, row in found]
        for row in rows if csv_file else ():
            row.update({k: _number(row[k], False) for k in whole_numbers if k in row})
    if not rows:
        raise DataError(f"{path}: found no rows, expected at least one")
    return rows, numbers, "row" if path.name.endswith(".parquet") else "line"


@dataclass(frozen=True)
class _Origin:
    """Where the rows of a split were found; the fields are those of `RawSplit`."""

    where: str
    numbers: Sequence[int]
    unit: str
    source: str
    sha256: str | None = None


def _unfolded(spec: TaskSpec, rows: Sequence[dict[str, Any]], origin: _Origin) -> RawSplit:
    numbers = origin.numbers
    made = unfold(spec, rows, lambda index: f"{origin.where}: {origin.unit} {numbers[index]}")
    return RawSplit(
        texts=list(made.texts),
        pairs=list(made.pairs),
        labels=made.labels,
        questions=made.questions if spec.answers else None,
        credits=[float(c) for c in made.credits if c is not None] if made.has_credit else None,
        **vars(replace(origin, numbers=[numbers[index] for index in made.source])),
    )


def _raw(spec: TaskSpec, columns: Columns, origin: _Origin) -> RawSplit:
    return RawSplit(
        texts=columns[spec.text],
        pairs=None if spec.pair is None else columns[spec.pair],
        labels=columns[spec.label],
        **vars(origin),
    )


def read_text(path: Path) -> str:
    """The whole file as text, unpacked if it ends in .gz; a byte order mark is dropped."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: expected a whole gzip file: {_first_line(error)}; fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from None
    if not data:
        raise DataError(f"{path}: found an empty file, expected rows")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: found the byte 0x{error.object[error.start]:02x}, "
            "expected UTF-8; convert the file"
        ) from None


def _require_columns(where: str, found: Sequence[str], spec: Table) -> None:
    missing = [name for name in spec.columns if name not in found]
    if missing:
        raise DataError(
            f"{where}: found the columns {', '.join(found) or '(none)'}, "
            f"expected also {', '.join(missing)}"
        )


def _number(cell: str, regression: bool) -> Any:
    """A CSV cell as the number it spells; the cell itself if it spells none, for `check`."""
    try:
        return float(cell) if regression else int(cell)
    except ValueError:
        return cell


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
