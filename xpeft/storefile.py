"""The SQLite file under a profile store: its tables, its settings, its transactions, its errors.

What is chosen here and why (all `ours`):

- A row has a number of its own, in order of arrival, and the random 64-bit ids stand in an index.
  Keyed by id, rows would land on random pages: a batch would rewrite a good part of the file,
  and pages would be left partly empty (measured, random order: 1.25 times the payload, against
  1.16 in any order this way). Tables without row numbers split pages badly in sorted order too.
- The page is the smallest that rows fill well: two rows of 2.1 kB would take two pages of 4 kB.
- A rollback journal, not a write-ahead log: a closed store is one file, a read-only store needs
  no file beside it, and locks work on network file systems that have locks at all.
- `synchronous = EXTRA`: what was committed stays committed, after a loss of power too.
- `secure_delete`: what a removed profile held is overwritten, not just forgotten.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xpeft.errors import StoreError

APPLICATION_ID = 0x58504546  # "XPEF", which `file` and SQLite's own tools can show
SCHEMA_VERSION = 1
CACHE_KIB = 64 * 1024
PAGES = (4096, 8192, 16384, 32768)
"""Sizes of a page to choose from."""
INDEX_BYTES = 20
"""Of an id in the index: 18 with its row number, on pages that are nine tenths full."""
SCHEMA = {
    "header": "CREATE TABLE header (name TEXT PRIMARY KEY, value BLOB NOT NULL, "
    "checksum BLOB NOT NULL) WITHOUT ROWID",
    "state": "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), "
    "generation INTEGER NOT NULL, profiles INTEGER NOT NULL, names INTEGER NOT NULL, "
    "total BLOB NOT NULL, checksum BLOB NOT NULL)",
    "profiles": "CREATE TABLE profiles (row INTEGER PRIMARY KEY, id INTEGER NOT NULL, "
    "data BLOB NOT NULL)",
    "profiles_id": "CREATE UNIQUE INDEX profiles_id ON profiles (id)",
    "names": "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL, "
    "checksum BLOB NOT NULL)",
    "names_name": "CREATE UNIQUE INDEX names_name ON names (name)",
}
"""All tables and indices; a file with other ones is refused."""


class StoreFile:
    """An open file, one transaction at a time; threads take turns.

    Attributes:
        path: of the file.
        read_only: whether it was opened so; nothing is then written, not even beside it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool, timeout: float = 10.0
    ) -> None:
        """Open a store's file and check that it is one.

        Args:
            timeout: seconds to wait for another process's lock.

        Raises:
            StoreError: there is no such file, or it is not a store, or it cannot be written.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._timeout = timeout
        self._lock = threading.RLock()
        self._process = os.getpid()
        if self.path.is_dir():
            raise StoreError(f"{path}: found a folder, expected the file of a store")
        if not self.path.is_file():
            raise StoreError(f"{path}: no such file; make a store with xpeft profiles create")
        if not read_only and not os.access(self.path, os.W_OK):
            raise StoreError(f"{path}: cannot be written; open it read-only, or change its mode")
        mode = "ro" if read_only else "rw"
        with self._told():
            self._connection = _connect(f"{self.path.absolute().as_uri()}?mode={mode}", timeout)
        try:
            with self._told():
                self._check()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; what was committed is in it, and no other file is left."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def read(self, *, whole: bool = True) -> Iterator[sqlite3.Connection]:
        """A view of the file that does not change while it is used.

        Args:
            whole: False where the block runs a single statement, which is a view by itself.
        """
        with self._turn(), self._told():
            if not whole:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._roll_back()  # nothing was written: this only gives the lock back

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that the block does is committed at its end, or none of it."""
        if self.read_only:
            raise StoreError(
                f"{self.path}: was opened read-only, expected read_only=False to write to it"
            )
        with self._turn(), self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def vacuum(self) -> None:
        """Write the file anew without empty space; needs room for a copy while it runs."""
        if self.read_only:
            raise StoreError(f"{self.path}: was opened read-only, expected read_only=False")
        with self._turn(), self._told():
            self._connection.execute("VACUUM")

    def problems(self, most: int) -> list[str]:
        """What SQLite itself finds wrong with its pages, tables and indices."""
        with self.read() as connection:
            found = connection.execute(f"PRAGMA integrity_check({most:d})").fetchall()
        return [str(text) for (text,) in found if text != "ok"]

    def _check(self) -> None:
        connection = self._connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(
                f"{self.path}: found an SQLite file of another application (id {application}), "
                "expected a profile store"
            )
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: found a store of version {version}, expected {SCHEMA_VERSION}; "
                "open it with the version of xpeft that made it"
            )
        with self.read():
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            size = self.path.stat().st_size
            found = dict(connection.execute("SELECT name, sql FROM sqlite_schema").fetchall())
        if size < page * pages:  # SQLite takes a last page that is cut off for a whole one
            raise StoreError(
                f"{self.path}: found {size} bytes, expected {page * pages}; the file was cut off, "
                "restore it from a copy"
            )
        if found != SCHEMA:
            names = ", ".join(sorted(n for n in {*found, *SCHEMA} if found.get(n) != SCHEMA.get(n)))
            raise StoreError(
                f"{self.path}: found other tables than those of a store ({names}); the file is "
                "damaged or was changed by another program, restore it from a copy"
            )
        if self.read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite has rolled back by itself after some errors
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if os.getpid() != self._process:
            raise StoreError(
                f"{self.path}: was opened by process {self._process} and is used by its child "
                f"{os.getpid()}; open it in each process after the fork"
            )
        with self._lock:
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as one line that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {explain(error, self._timeout)}") from None
        except UnicodeError:  # text that was damaged, in a row or in SQLite's own message
            raise StoreError(
                f"{self.path}: found text that is not UTF-8; it is damaged, restore it from a copy"
            ) from None


def create_file(path: Path, row_bytes: int, header: dict[str, tuple[bytes, bytes]]) -> None:
    """Write the tables of an empty store into an empty file; the state is left to the caller.

    Args:
        row_bytes: bytes of a profile with its checksum.
        header: name to (value, checksum).
    """
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw", 0.0)
    try:
        connection.execute(f"PRAGMA page_size = {page_size(row_bytes)}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.values():
            connection.execute(statement)
        rows = [(name, value, checksum) for name, (value, checksum) in header.items()]
        connection.executemany("INSERT INTO header VALUES (?, ?, ?)", rows)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def page_size(row_bytes: int) -> int:
    """The smallest page on which rows with so many bytes of data waste little of the file."""
    cost = {page: _row_cost(row_bytes, page) for page in PAGES}
    fitting = [page for page in PAGES if cost[page] <= 1.05 * _record(row_bytes)]
    return fitting[0] if fitting else min(PAGES, key=lambda page: cost[page])


def file_bytes(row_bytes: int) -> int:
    """Bytes of a large file for each row with so many bytes of data: its page's share and index.

    To be expected, by formula: of 100,000 rows or more, in batches and with random ids.
    """
    return math.ceil(_row_cost(row_bytes, page_size(row_bytes)) + INDEX_BYTES)


def _record(row_bytes: int) -> int:
    """A row as SQLite writes it: the record's header, the id, the data."""
    header = 3 + _varint(12 + 2 * row_bytes)  # its own length, row number (stored once), id, data
    return header + 8 + row_bytes


def _row_cost(row_bytes: int, page: int) -> float:
    """Bytes of pages for each row, as SQLite lays out a table's leaves.

    A page of U bytes has 8 of its own, a row its record, two lengths and a pointer; a record that
    does not fit goes on in pages of U - 4 bytes.
    """
    record = local = _record(row_bytes)
    overflow = 0
    if record > page - 35:
        least = (page - 12) * 32 // 255 - 23
        local = least + (record - least) % (page - 4)
        local = least if local > page - 35 else local
        overflow = -(-(record - local) // (page - 4))
    cell = local + _varint(record) + 4 + 2 + (4 if overflow else 0)  # up to 2 ** 28 rows
    return page / ((page - 8) // cell) + page * overflow


def explain(error: sqlite3.Error, timeout: float) -> str:
    """What an error of SQLite means here, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "") or ""
    for prefix, text in (
        (
            "SQLITE_BUSY",
            f"is locked by another process that writes to it, waited {timeout:g} s; nothing was "
            "written, try again when it is done",
        ),
        (
            "SQLITE_FULL",
            "no room is left on the disk; nothing was written, make room and try again",
        ),
        (
            "SQLITE_READONLY_ROLLBACK",
            "a writer was ended in the middle, and what it had begun must be taken back, which a "
            "read-only store cannot do; run xpeft profiles verify --recover, or open it once with "
            "read_only=False",
        ),
        ("SQLITE_READONLY", "cannot be written; change the mode of the file and of its folder"),
        (
            "SQLITE_CORRUPT",
            "is damaged, SQLite cannot read its pages; restore it from a copy",
        ),
        ("SQLITE_NOTADB", "found something else than an SQLite file, expected a profile store"),
        (
            "SQLITE_CANTOPEN",
            "cannot be opened, or no file can be made beside it; check the modes of both",
        ),
        (
            "SQLITE_IOERR",
            "the disk gave an error while it was read or written; nothing was committed, check "
            "its room, quota and health",
        ),
    ):
        if name.startswith(prefix):
            return f"{text} ({name})"
    return f"SQLite found an error: {error}; is the file damaged, or was the store closed?"


def _connect(uri: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        for setting in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "secure_delete = ON",
            "synchronous = EXTRA",
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {setting}").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _varint(value: int) -> int:
    """Bytes that SQLite needs for a number: seven bits each."""
    return max(1, -(-value.bit_length() // 7))
