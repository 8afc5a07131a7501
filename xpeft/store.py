"""A profile store: any number of profiles of one format in one SQLite file.

    header   the format as JSON, and the shared head where there is one; never changed
    profiles row by row an id and its data: the bytes of xpeft.profiles, then a checksum
    names    where wanted: a name for an id
    state    generation, number of profiles and of names, sum of all checksums

Each checksum is a keyed BLAKE2b of 64 bits whose key is the digest of the header. That of a row
covers its id and all its bytes, so that a flipped bit, rows that were swapped, or a row of another
store's format are errors that name the profile. A row that is gone, or an older one that was put
back, has no wrong checksum: the state's sum and number find those, in `verify`. SQLite itself
checks none of this; it only knows pages. The checksums find damage and mistakes. They are no
signature: whoever can write the file can make new ones.

A profile that is read has been checked. There is no default profile and no way back to the plain
encoder: an unknown id is an error. `put_many` is one transaction, and so is `remove`: a killed
writer leaves all of it or nothing. Readers and a writer may be different processes; a reader waits
while a writer commits. Threads of one process may share a store and take turns; after a fork each
process opens its own. The generation rises with every change, by anyone, so that a cache knows when
to compare its `stamps`.

Ids are unsigned 64-bit; SQLite's integers are signed, so the file has their two's complement:
`printf('%016x', id)` shows an id in SQL as it is shown elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xpeft.errors import CodecError, StoreError
from xpeft.ids import id_text
from xpeft.io import atomic_path, canonical_json
from xpeft.profiles import Floats, Ids, ProfileFormat, Profiles
from xpeft.storefile import StoreFile, create_file, file_bytes

CHECKSUM_BYTES = 8
CHUNK = 4096  # profiles that are decoded at once
MOST_PROBLEMS = 20  # that a report lists
Progress = Callable[[int, int], None]
AnyIds = Sequence[int] | npt.NDArray[np.integer[Any]]
SharedHead = tuple[Floats, Floats]


def profile_file_bytes(payload_bytes: int) -> int:
    """What a profile with so many bytes takes of a large store's file, checksum and id included.

    By formula; `benchmarks/store.py` measures it.
    """
    return file_bytes(payload_bytes + CHECKSUM_BYTES)


@dataclass(frozen=True)
class VerifyReport:
    """What `ProfileStore.verify` found.

    Attributes:
        profiles: rows that were read.
        names: names that were read.
        file_bytes: size of the file.
        problems: what is wrong, the first MOST_PROBLEMS of each kind; () for a sound store.
    """

    profiles: int
    names: int
    file_bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class _State:
    generation: int
    profiles: int
    names: int
    total: int  # of all checksums, modulo 2 ** 64

    def changed(self, *, profiles: int = 0, names: int = 0, total: int = 0) -> _State:
        """The state after a change by so much, of the same generation."""
        return _State(
            self.generation,
            self.profiles + profiles,
            self.names + names,
            (self.total + total) % 2**64,
        )

    def next(self) -> _State:
        """The same numbers in the next generation."""
        return replace(self, generation=self.generation + 1)


class ProfileStore:
    """An open store. Close it, or use it in a `with`.

    Attributes:
        path: of the file.
        format: what all its profiles are.
        shared_head: weight [C, d] and bias [C] that profiles share, or None.
        read_only: whether it can only be read.
    """

    def __init__(self, file: StoreFile) -> None:
        """Use `create` or `open`."""
        self._file = file
        self.path = file.path
        self.read_only = file.read_only
        with file.read() as connection:
            header = self._read_header(connection)
            self.format = self._parse_format(header["format"])
            self.shared_head = self._parse_head(header.get("shared_head"))
            self._checksums = _Checksums(_header_digest(header))
            self._state(connection)

    # ---------------------------------------------------------------------- open and close

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        format: ProfileFormat,
        shared_head: SharedHead | None = None,
        *,
        timeout: float = 10.0,
    ) -> Self:
        """Make an empty store and open it for writing.

        Args:
            path: a file that does not exist yet.
            format: what its profiles will be.
            shared_head: weight [C, d] and bias [C], float32, where `format.head` is shared.
            timeout: as for `open`.

        Raises:
            StoreError: the file exists, or the shared head is missing, superfluous or not finite.
        """
        path = Path(path)
        for there in (path, Path(f"{path}-journal"), Path(f"{path}-wal")):
            if there.exists():  # SQLite would take a journal that was left here for the new file's
                raise StoreError(
                    f"{there}: exists already; open or remove it, or choose another file"
                )
        values = {"format": canonical_json(format.to_dict()).encode()}
        wanted = format.head in ("shared", "shared+bias")
        if wanted != (shared_head is not None):
            raise StoreError(
                f"shared head: found {'one' if shared_head is not None else 'none'}, expected "
                f"{'one' if wanted else 'none'} in a store whose head is {format.head}"
            )
        if shared_head is not None:
            values["shared_head"] = _head_bytes(format, shared_head)
        checksums = _Checksums(_header_digest(values))
        header = {name: (value, _header_checksum(name, value)) for name, value in values.items()}
        try:
            with atomic_path(path) as temporary:
                create_file(temporary, format.payload_bytes + CHECKSUM_BYTES, header)
                file = StoreFile(temporary, read_only=False)
                try:
                    with file.write() as connection:
                        _write_state(connection, _State(0, 0, 0, 0), checksums)
                finally:
                    file.close()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: cannot be made: {error}") from None
        return cls(StoreFile(path, read_only=False, timeout=timeout))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder_sha256: str | None = None,
        bank_sha256: str | None = None,
        read_only: bool = True,
        timeout: float = 10.0,
    ) -> Self:
        """Open a store.

        Args:
            encoder_sha256, bank_sha256: digests of what the profiles are to be used with; a store
                for another encoder or bank is refused, of the same shape too.
            read_only: True writes nothing, not even beside the file.
            timeout: seconds to wait for another process's lock.

        Raises:
            StoreError: the file is missing, damaged, not a store, or for other parts.
        """
        file = StoreFile(path, read_only=read_only, timeout=timeout)
        try:
            store = cls(file)
            store.require(encoder_sha256=encoder_sha256, bank_sha256=bank_sha256)
        except BaseException:
            file.close()
            raise
        return store

    def require(self, *, encoder_sha256: str | None = None, bank_sha256: str | None = None) -> None:
        """Refuse an encoder or bank that the profiles were not trained with.

        Raises:
            StoreError: a digest that is given is not the store's.
        """
        for what, found, expected in (
            ("encoder", encoder_sha256, self.format.encoder["sha256"]),
            ("bank", bank_sha256, self.format.bank["sha256"]),
        ):
            if found is not None and found != expected:
                raise StoreError(
                    f"{self.path}: {what}: found digest {found}, expected {expected}: the profiles "
                    f"of this store are for that {what} and mean nothing with another, even of the "
                    "same shape"
                )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------------------- read

    @property
    def digest(self) -> str:
        """sha256 over the header, format and shared head, in hexadecimal."""
        return self._checksums.digest.hex()

    @property
    def generation(self) -> int:
        """A number that rises with every change of the store, by any process."""
        with self._file.read(whole=False) as connection:
            return self._state(connection).generation

    def __len__(self) -> int:
        """Profiles, as the state counts them."""
        with self._file.read(whole=False) as connection:
            return self._state(connection).profiles

    def __contains__(self, identity: object) -> bool:
        if not isinstance(identity, int | np.integer) or not 0 <= identity < 2**64:
            return False
        with self._file.read(whole=False) as connection:
            found = connection.execute(_HAS, (_signed(int(identity)),)).fetchone()
        return found is not None

    def ids(self) -> Ids:
        """All ids, ascending: uint64 [P]."""
        with self._file.read(whole=False) as connection:
            rows = connection.execute("SELECT id FROM profiles").fetchall()
        return np.sort(np.array([row[0] for row in rows], dtype=np.int64).view(np.uint64))

    def get(self, identity: int) -> Profiles:
        """One profile, P = 1, checked.

        Raises:
            StoreError: the id is unknown, or the profile is damaged; the message says which.
        """
        return self.get_many([identity])

    def get_many(self, ids: AnyIds) -> Profiles:
        """The profiles `ids`, in that order, checked; an id may come twice.

        Raises:
            StoreError: an id is unknown, or a profile is damaged; the message says which.
        """
        wanted = _as_ids(ids)
        with self._file.read(whole=len(wanted) > 1) as connection:
            found = [self._row(connection, _DATA, identity) for identity in wanted.tolist()]
        rows = zip(wanted.tolist(), found, strict=True)
        return self._decode_rows(
            [(identity, self._payload(identity, data)) for identity, data in rows]
        )

    def stamps(self, ids: AnyIds) -> Ids:
        """A number for each profile that differs when it was replaced: uint64 [P], not checked.

        Raises:
            StoreError: an id is unknown.
        """
        wanted = _as_ids(ids)
        with self._file.read(whole=len(wanted) > 1) as connection:
            found = [self._row(connection, _STAMP, identity) for identity in wanted.tolist()]
        return np.array([_number(stamp) for stamp in found], dtype=np.uint64)

    def id_of(self, name: str) -> int:
        """The id that a name stands for.

        Raises:
            StoreError: the name is unknown, or its row is damaged.
        """
        with self._file.read(whole=False) as connection:
            query = "SELECT id, checksum FROM names WHERE name = ?"
            row = connection.execute(query, (name,)).fetchone()
        if row is None:
            raise StoreError(f"{self.path}: found no profile of the name asked for")
        if row[1] != self._checksums.name(row[0], name):
            raise self._damaged_name(row[0])
        return _unsigned(row[0])

    def name_of(self, identity: int) -> str | None:
        """The name of an id, or None.

        Raises:
            StoreError: its row is damaged.
        """
        (signed,) = _as_ids([identity]).view(np.int64).tolist()
        with self._file.read(whole=False) as connection:
            query = "SELECT name, checksum FROM names WHERE id = ?"
            row = connection.execute(query, (signed,)).fetchone()
        if row is None:
            return None
        if row[1] != self._checksums.name(signed, row[0]):
            raise self._damaged_name(signed)
        return str(row[0])

    # ------------------------------------------------------------------------------- write

    def put(self, profile: Profiles, name: str | None = None, *, replace: bool = False) -> None:
        """Store one profile; see `put_many`."""
        self.put_many(profile, None if name is None else [name], replace=replace)

    def put_many(
        self,
        profiles: Profiles,
        names: Sequence[str | None] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Store P profiles, all of them or, on any error, none.

        Args:
            profiles: of the store's format.
            names: a name for each, or None; a name stands for one profile.
            replace: whether an id that is there already is replaced; otherwise it is an error.

        Raises:
            StoreError: an id comes twice or is there already, a name is taken, a part is missing
                or not finite, the disk is full, or another process writes.
            CodecError: masks are not of the store's format.
        """
        self.put_batches([(profiles, names)], replace=replace)

    def put_batches(
        self,
        batches: Iterable[tuple[Profiles, Sequence[str | None] | None]],
        *,
        replace: bool = False,
    ) -> None:
        """Store any number of profiles, batch by batch, in one transaction; see `put_many`.

        The batches are asked for while the store is locked for other writers.
        """
        with self._file.write() as connection:
            state = before = self._state(connection)
            for profiles, names in batches:
                state = self._put(connection, state, profiles, replace=replace)
                if names is not None:
                    state = self._put_names(connection, state, profiles, names)
            if state != before:
                _write_state(connection, state.next(), self._checksums)

    def remove(self, ids: AnyIds) -> None:
        """Remove profiles and their names, all of them or, on any error, none.

        What they held is overwritten in the file; `compact` gives the room back.

        Raises:
            StoreError: an id is unknown, or comes twice.
        """
        wanted = _as_ids(ids)
        if len(np.unique(wanted)) != len(wanted):
            raise StoreError("remove: found an id twice, expected each once")
        signed = wanted.view(np.int64).tolist()
        with self._file.write() as connection:
            old = dict(self._stored(connection, signed))
            for identity in signed:
                if identity not in old:
                    raise self._unknown(_unsigned(identity))
            names = [
                _number(row[0])
                for identity in signed
                if (row := connection.execute(_NAME_STAMP, (identity,)).fetchone())
            ]
            keys = [(identity,) for identity in signed]
            connection.executemany("DELETE FROM profiles WHERE id = ?", keys)
            connection.executemany("DELETE FROM names WHERE id = ?", keys)
            state = self._state(connection).changed(
                profiles=-len(signed), names=-len(names), total=-sum(old.values()) - sum(names)
            )
            _write_state(connection, state.next(), self._checksums)

    def compact(self) -> tuple[int, int]:
        """Give back the room of removed profiles; needs room for a copy while it runs.

        Returns:
            Bytes of the file before and after.

        Raises:
            StoreError: there is not enough room, or another process uses the store.
        """
        before = self.path.stat().st_size
        self._file.vacuum()
        return before, self.path.stat().st_size

    # ------------------------------------------------------------------------------ verify

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read everything and check it: pages, indices, every checksum, every code, the numbers.

        Writers wait meanwhile.

        Args:
            progress: called with the profiles read so far and their number.
        """
        problems: list[str] = []
        counts = _Counts(self.path, problems)
        profiles = names = 0
        try:
            problems += [f"SQLite: {text}" for text in self._file.problems(MOST_PROBLEMS)]
            with self._file.read() as connection:
                state = None
                try:
                    if _header_digest(self._read_header(connection)) != self._checksums.digest:
                        raise StoreError("header: found another one than when it was opened")
                    state = self._state(connection)
                except StoreError as error:
                    counts.problem(error)
                for profiles in self._verify_rows(connection, counts):
                    if progress is not None:
                        progress(profiles, profiles if state is None else state.profiles)
                names = self._verify_names(connection, counts)
            found = {"profiles": profiles, "names": names, "total": counts.total}
            for what in found if state is not None else ():
                if found[what] != getattr(state, what):
                    problems.append(
                        f"state: {'sum of checksums' if what == 'total' else what}: found "
                        f"{found[what]}, expected {getattr(state, what)}; rows were lost, added or "
                        "put back from an older copy"
                    )
        except StoreError as error:  # pages that cannot be read at all
            counts.problem(error)
        return VerifyReport(profiles, names, self.path.stat().st_size, tuple(problems))

    def _verify_rows(self, connection: sqlite3.Connection, counts: _Counts) -> Iterator[int]:
        """Check rows chunk by chunk; yields how many were read."""
        cursor = connection.execute("SELECT id, data FROM profiles ORDER BY row")
        read = 0
        while rows := cursor.fetchmany(CHUNK):
            sound = []
            for signed, data in rows:
                counts.add(data)
                try:
                    sound.append((_unsigned(signed), self._payload(_unsigned(signed), data)))
                except StoreError as error:
                    counts.problem(error)
            try:
                self._decode_rows(sound)
            except StoreError:  # right checksums over what is no code: name each of them
                for row in sound:
                    try:
                        self._decode_rows([row])
                    except StoreError as error:
                        counts.problem(StoreError(f"profile {id_text(row[0])}: {error}"))
            read += len(rows)
            yield read

    def _verify_names(self, connection: sqlite3.Connection, counts: _Counts) -> int:
        query = (
            "SELECT names.id, name, checksum, profiles.id IS NULL FROM names "
            "LEFT JOIN profiles ON profiles.id = names.id"
        )
        read = 0
        for identity, name, checksum, lost in connection.execute(query):
            read += 1
            counts.add(checksum)
            if checksum != self._checksums.name(identity, name):
                counts.problem(self._damaged_name(identity))
            elif lost:
                counts.problem(
                    StoreError(f"name of profile {id_text(_unsigned(identity))}: has no profile")
                )
        return read

    # --------------------------------------------------------------------------- in pieces

    def _row(self, connection: sqlite3.Connection, query: str, identity: int) -> Any:
        row = connection.execute(query, (_signed(identity),)).fetchone()
        if row is None:
            raise self._unknown(identity)
        return row[0]

    def _payload(self, identity: int, data: Any) -> bytes:
        """A row's bytes without their checksum, after checking it."""
        size = self.format.payload_bytes
        if not isinstance(data, bytes) or len(data) != size + CHECKSUM_BYTES:
            raise StoreError(
                f"{self.path}: profile {id_text(identity)}: found "
                f"{len(data) if isinstance(data, bytes) else type(data).__name__} bytes, expected "
                f"{size + CHECKSUM_BYTES}; it is damaged, put it again or restore the store"
            )
        payload = data[:size]
        if data[size:] != self._checksums.row(_signed(identity), payload):
            raise StoreError(
                f"{self.path}: profile {id_text(identity)}: found a checksum that is not that of "
                "its id and bytes; it is damaged or was swapped with another, put it again or "
                "restore the store from a copy"
            )
        return payload

    def _decode_rows(self, rows: Sequence[tuple[int, bytes]]) -> Profiles:
        """Profiles of ids and their bytes."""
        ids = np.array([identity for identity, _ in rows], dtype=np.uint64)
        flat = np.frombuffer(b"".join(payload for _, payload in rows), np.uint8)
        try:
            return self.format.decode(ids, flat.reshape(len(rows), self.format.payload_bytes))
        except CodecError as error:
            raise StoreError(f"{self.path}: {error}") from None

    def _stored(
        self, connection: sqlite3.Connection, signed: Iterable[int]
    ) -> Iterator[tuple[int, int]]:
        """Those of the ids that are there, with their checksums as numbers."""
        for identity in signed:
            if (row := connection.execute(_STAMP, (identity,)).fetchone()) is not None:
                yield identity, _number(row[0])

    def _put(
        self, connection: sqlite3.Connection, state: _State, profiles: Profiles, *, replace: bool
    ) -> _State:
        """Store profiles; the state with them."""
        payload = self.format.encode(profiles)
        signed = profiles.ids.view(np.int64)
        order = np.argsort(signed)  # neighbours in the index are then written together
        if (same := np.flatnonzero(np.diff(signed[order]) == 0)).size:
            raise StoreError(
                f"profile {id_text(int(profiles.ids[order[same[0]]]))}: found it twice among the "
                "profiles to store, expected each id once"
            )
        old = dict(self._stored(connection, signed.tolist())) if replace else {}
        rows = _Rows(self._checksums, signed, payload, order)
        try:
            connection.executemany(_REPLACE if replace else _INSERT, rows)
        except sqlite3.IntegrityError:
            known, _ = next(self._stored(connection, signed.tolist()))
            raise StoreError(
                f"{self.path}: profile {id_text(_unsigned(known))} is there already, expected new "
                "ids; pass replace=True (--replace) to replace profiles"
            ) from None
        return state.changed(
            profiles=len(profiles) - len(old), total=rows.total - sum(old.values())
        )

    def _put_names(
        self,
        connection: sqlite3.Connection,
        state: _State,
        profiles: Profiles,
        names: Sequence[str | None],
    ) -> _State:
        """Name profiles; the state with the names."""
        if len(names) != len(profiles):
            raise StoreError(f"names: found {len(names)}, expected one of {len(profiles)} profiles")
        signed = profiles.ids.view(np.int64).tolist()
        for identity, name in zip(signed, names, strict=True):
            if name is None:
                continue
            if (row := connection.execute(_NAME_STAMP, (identity,)).fetchone()) is not None:
                connection.execute("DELETE FROM names WHERE id = ?", (identity,))
                state = state.changed(names=-1, total=-_number(row[0]))
            checksum = self._checksums.name(identity, name)
            try:
                connection.execute("INSERT INTO names VALUES (?, ?, ?)", (identity, name, checksum))
            except sqlite3.IntegrityError:
                query = "SELECT id FROM names WHERE name = ?"
                (other,) = connection.execute(query, (name,)).fetchone()
                raise StoreError(
                    f"{self.path}: profile {id_text(_unsigned(identity))}: found its name taken "
                    f"by profile {id_text(_unsigned(other))}, expected a name of its own"
                ) from None
            state = state.changed(names=1, total=_number(checksum))
        return state

    def _state(self, connection: sqlite3.Connection) -> _State:
        query = "SELECT generation, profiles, names, total, checksum FROM state"
        row = connection.execute(query).fetchone()
        if row is None or row[4] != self._checksums.state(*row[:4]):
            raise StoreError(
                f"{self.path}: state: found a checksum that is not that of its numbers; the store "
                "is damaged, restore it from a copy"
            )
        generation, profiles, names, total, _ = row
        return _State(generation, profiles, names, _number(total))

    def _read_header(self, connection: sqlite3.Connection) -> dict[str, bytes]:
        rows = connection.execute("SELECT name, value, checksum FROM header").fetchall()
        for name, value, checksum in rows:
            if not isinstance(value, bytes) or checksum != _header_checksum(name, value):
                raise StoreError(
                    f"{self.path}: header {name}: found a checksum that is not that of its bytes; "
                    "the store is damaged, restore it from a copy"
                )
        header = {name: value for name, value, _ in rows}
        if "format" not in header:
            raise StoreError(f"{self.path}: header: found no format, expected one; it is damaged")
        return header

    def _parse_format(self, text: bytes) -> ProfileFormat:
        try:
            return ProfileFormat.from_dict(json.loads(text))
        except (ValueError, StoreError) as error:
            raise StoreError(f"{self.path}: header: {error}") from None

    def _parse_head(self, data: bytes | None) -> SharedHead | None:
        if data is None:
            return None
        outputs, width = self.format.outputs, self.format.width
        numbers = np.frombuffer(data, "<f4").astype(np.float32)
        if numbers.size != outputs * (width + 1):
            raise StoreError(f"{self.path}: header: found a shared head of another size")
        numbers.flags.writeable = False
        weight, bias = numbers[: outputs * width], numbers[outputs * width :]
        return weight.reshape(outputs, width), bias

    def _unknown(self, identity: int) -> StoreError:
        return StoreError(
            f"{self.path}: found no profile {id_text(identity)}; train and put it, or check the id"
        )

    def _damaged_name(self, signed: int) -> StoreError:
        return StoreError(
            f"{self.path}: name of profile {id_text(_unsigned(signed))}: found a checksum that is "
            "not that of id and name; it is damaged, put the profile with its name again"
        )


class _Checksums:
    """Keyed BLAKE2b of 64 bits over rows, names and the state of one header."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        make = hashlib.blake2b
        self._row, self._name, self._numbers = (
            make(key=digest, digest_size=CHECKSUM_BYTES, person=person)
            for person in (b"xpeft row", b"xpeft name", b"xpeft state")
        )

    def row(self, signed: int, payload: bytes) -> bytes:
        found = self._row.copy()
        found.update(signed.to_bytes(8, "big", signed=True) + payload)
        return found.digest()

    def name(self, signed: int, name: Any) -> bytes:
        found = self._name.copy()
        found.update(signed.to_bytes(8, "big", signed=True) + str(name).encode())
        return found.digest()

    def state(self, *numbers: Any) -> bytes:
        found = self._numbers.copy()
        found.update(repr(numbers).encode())
        return found.digest()


class _Rows:
    """Rows for SQLite, made as it asks for them; sums up their checksums."""

    def __init__(
        self,
        checksums: _Checksums,
        signed: npt.NDArray[np.int64],
        payload: npt.NDArray[np.uint8],
        order: npt.NDArray[np.intp],
    ) -> None:
        self.total = 0
        self._arguments = checksums, signed, payload, order

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        checksums, signed, payload, order = self._arguments
        for start in range(0, len(order), CHUNK):
            part = order[start : start + CHUNK]
            flat, size = payload[part].tobytes(), payload.shape[1]
            for i, identity in enumerate(signed[part].tolist()):
                data = flat[i * size : (i + 1) * size]
                checksum = checksums.row(identity, data)
                self.total += _number(checksum)
                yield identity, data + checksum


class _Counts:
    """What `verify` has seen so far."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.total = 0
        self._prefix = f"{path}: "
        self._problems = problems
        self._left = MOST_PROBLEMS

    def add(self, data: Any) -> None:
        """Count the checksum at the end of a row; the state knows the sum of all."""
        if isinstance(data, bytes):
            self.total = (self.total + _number(data[-CHECKSUM_BYTES:])) % 2**64

    def problem(self, error: StoreError) -> None:
        """Note a problem, unless there are many already."""
        self._left -= 1
        if self._left >= 0:
            self._problems.append(str(error).removeprefix(self._prefix))


_HAS = "SELECT 1 FROM profiles WHERE id = ?"
_DATA = "SELECT data FROM profiles WHERE id = ?"
_STAMP = f"SELECT substr(data, -{CHECKSUM_BYTES}) FROM profiles WHERE id = ?"
_NAME_STAMP = "SELECT checksum FROM names WHERE id = ?"
_INSERT = "INSERT INTO profiles (id, data) VALUES (?, ?)"
_REPLACE = f"{_INSERT} ON CONFLICT (id) DO UPDATE SET data = excluded.data"


def _write_state(connection: sqlite3.Connection, state: _State, checksums: _Checksums) -> None:
    numbers = (
        state.generation,
        state.profiles,
        state.names,
        state.total.to_bytes(CHECKSUM_BYTES, "little"),
    )
    row = (1, *numbers, checksums.state(*numbers))
    connection.execute("REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?)", row)


def _head_bytes(form: ProfileFormat, head: SharedHead) -> bytes:
    expected = (form.outputs, form.width), (form.outputs,)
    if tuple(part.shape for part in head) != expected:
        raise StoreError(
            f"shared head: found shapes {[list(part.shape) for part in head]}, expected "
            f"{[list(shape) for shape in expected]}, weight [C, d] and bias [C]"
        )
    if not all(np.isfinite(part).all() for part in head):
        raise StoreError("shared head: found NaN or infinity, expected finite numbers")
    return b"".join(np.ascontiguousarray(part, dtype="<f4").tobytes() for part in head)


def _header_checksum(name: str, value: bytes) -> bytes:
    return hashlib.sha256(f"{name}\0".encode() + value).digest()


def _header_digest(values: dict[str, bytes]) -> bytes:
    return hashlib.sha256(
        b"".join(_header_checksum(name, value) for name, value in sorted(values.items()))
    ).digest()


def _as_ids(ids: AnyIds) -> Ids:
    """Ids as uint64 [P]; of signed arrays, which could hide a negative id, only numbers from 0."""
    try:
        found = np.asarray(ids)
        if found.dtype != np.uint64:
            found = np.array([operator.index(identity) for identity in ids], dtype=np.uint64)
    except (OverflowError, TypeError, ValueError):
        raise StoreError(f"profile ids: found {ids!r}, expected integers 0 to 2**64 - 1") from None
    if found.ndim != 1:
        raise StoreError(f"profile ids: found {list(found.shape)}, expected one after another, [P]")
    return found


def _signed(identity: int) -> int:
    return identity - 2**64 if identity >= 2**63 else identity


def _unsigned(signed: int) -> int:
    return signed % 2**64


def _number(checksum: bytes) -> int:
    return int.from_bytes(checksum, "little")
