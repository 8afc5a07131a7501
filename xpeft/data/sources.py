"""Where rows come from: the hub, a local folder, or the embedded generator.

A source answers one question: `read(spec, split)`. It opens, decodes and picks columns; whether
the values fit the task is checked in one place for all sources, `xpeft.data.prepare.check`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xpeft.data.embedded import generate
from xpeft.data.specs import TASKS, TaskSpec
from xpeft.errors import ConfigError, DataError
from xpeft.io import sha256_file

KINDS = ("hub", "local", "embedded")


@dataclass(frozen=True)
class RawSplit:
    """The rows of a split as a source found them, unchecked.

    Attributes:
        texts, pairs, labels: one value a row; pairs is None for single-sentence tasks.
        where: what an error calls the split: the path of its file, or its address.
        numbers: what an error calls each row: its line in the file, or its row, from 1.
        unit: "line" or "row".
        source: description for the record, without machine paths.
        sha256: hash of the file; None if there is no file.
        best: best possible primary score if it is known.
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
            _require_columns(where, data.column_names, spec)
            table = data.with_format("arrow")[:]
            columns = {name: table.column(name).to_pylist() for name in spec.columns}
        except DataError:
            raise
        except Exception as error:  # httpx, OSError, ValueError, ...: all mean "could not read"
            raise DataError(
                f"{where}: cannot be loaded: {_first_line(error)}; check the network, HF_ENDPOINT "
                "and HF_HOME, or use a local data folder"
            ) from error
        names = getattr(data.features[spec.label], "names", None)
        if names is not None and tuple(names) != spec.labels:
            raise DataError(
                f"{where}: column {spec.label!r}: found the labels {', '.join(names)}, "
                f"expected {', '.join(spec.labels)}; pin the revision that the task was made for"
            )
        return _raw(
            spec,
            columns,
            where=where,
            numbers=range(1, len(data) + 1),
            unit="row",
            source=f"hub {address}",
        )


@dataclass(frozen=True)
class LocalSource:
    """A folder with the layout `<suite>/<task>/<split>` + .jsonl.gz, .jsonl, .parquet or .csv.

    Columns are named as on the hub; text is UTF-8. A .csv has a header line.

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
        return find_table(root / spec.suite / spec.task / split)

    def read(self, spec: TaskSpec, split: str) -> RawSplit:
        """See `Source.read`."""
        path = self.find(spec, split)
        columns, numbers, unit = read_table(path, spec)
        return _raw(
            spec,
            columns,
            where=str(path),
            numbers=numbers,
            unit=unit,
            source=f"local {path.relative_to(self.folder).as_posix()}",
            sha256=sha256_file(path),
        )


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


def _read_jsonl(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    lines = read_text(path).split("\n")  # not splitlines: JSON strings may hold U+2028
    if lines[-1] == "":
        lines.pop()
    columns: Columns = {name: [] for name in spec.columns}
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
        _require_columns(f"{path}: line {number}", list(row), spec)
        for name, values in columns.items():
            values.append(row[name])
    return columns, range(1, len(lines) + 1)


def _read_csv(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    columns: Columns = {name: [] for name in spec.columns}
    numbers: list[int] = []
    last = 0  # a quoted cell may span lines, so a row starts after the line that ended the last
    try:
        header = next(reader, [])
        _require_columns(str(path), header, spec)
        places = {name: header.index(name) for name in spec.columns}
        last = reader.line_num
        for cells in reader:
            if len(cells) != len(header):
                raise DataError(
                    f"{path}: line {last + 1}: found {len(cells)} cells, expected {len(header)} "
                    "as in the header; correct the line"
                )
            for name, values in columns.items():
                cell = cells[places[name]]
                values.append(_number(cell, spec.regression) if name == spec.label else cell)
            numbers.append(last + 1)
            last = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}: line {last + 1}: expected CSV: {error}") from None
    return columns, numbers


def _read_parquet(path: Path, spec: Table) -> tuple[Columns, Sequence[int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _require_columns(str(path), file.schema_arrow.names, spec)
            table = file.read(columns=list(spec.columns))
        columns = {name: table.column(name).to_pylist() for name in spec.columns}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a Parquet file: {_first_line(error)}") from None
    return columns, range(1, table.num_rows + 1)


READERS: dict[str, Callable[[Path, Table], tuple[Columns, Sequence[int]]]] = {
    ".jsonl.gz": _read_jsonl,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
"""Reader of each file name suffix: file and spec to columns and row numbers."""


def find_table(stem: Path) -> Path:
    """The file `stem` with the suffix of one of the READERS.

    Raises:
        DataError: no such file, or more than one.
    """
    found = [path for suffix in READERS if (path := Path(f"{stem}{suffix}")).is_file()]
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


def _raw(
    spec: TaskSpec,
    columns: Columns,
    *,
    where: str,
    numbers: Sequence[int],
    unit: str,
    source: str,
    sha256: str | None = None,
) -> RawSplit:
    return RawSplit(
        texts=columns[spec.text],
        pairs=None if spec.pair is None else columns[spec.pair],
        labels=columns[spec.label],
        where=where,
        numbers=numbers,
        unit=unit,
        source=source,
        sha256=sha256,
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
