"""A store that something happens to: flipped bits, swapped and lost rows, kills, full disks."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from profilefactory import make_format, make_head, make_profiles, many_profiles, same

from xpeft.errors import StoreError
from xpeft.ids import id_text
from xpeft.profiles import HeadKind, ProfileFormat, Profiles
from xpeft.store import ProfileStore
from xpeft.storefile import APPLICATION_ID

TESTS = Path(__file__).parent
PROFILES = 40


@dataclass(frozen=True)
class Whole:
    """A sound store to damage copies of, and what is in it."""

    path: Path
    form: ProfileFormat
    profiles: Profiles
    content: bytes

    def write(self, path: Path, content: bytes) -> Path:
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Every profile with masks, norm, gain and a head of its own."""
    return make_whole("private", tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A shared head in the header, a bias for every profile."""
    return make_whole("shared+bias", tmp_path_factory.mktemp("shared"))


def make_whole(kind: HeadKind, folder: Path) -> Whole:
    form = make_format(head=kind)
    head = make_head(form) if kind != "private" else None
    profiles = make_profiles(form, PROFILES)
    path = folder / "s.xps"
    with ProfileStore.create(path, form, head) as store:
        store.put_many(profiles, [f"name {i}" for i in range(PROFILES)])
    return Whole(path, form, profiles, path.read_bytes())


def problems(path: Path) -> list[str]:
    """What opening and verifying a store finds wrong; [] for a sound one."""
    try:
        with ProfileStore.open(path) as store:
            return list(store.verify().problems)
    except StoreError as error:
        return [str(error)]


def intact(path: Path, whole: Whole) -> bool:
    """Whether every profile, name and the shared head are read as they were put."""
    with ProfileStore.open(path) as store, ProfileStore.open(whole.path) as before:
        heads = [store.shared_head or (), before.shared_head or ()]
        return (
            same(store.get_many(whole.profiles.ids), whole.profiles)
            and np.array_equal(store.ids(), before.ids())
            and all(a.tobytes() == b.tobytes() for a, b in zip(*heads, strict=True))
            and all(store.id_of(f"name {i}") == int(whole.profiles.ids[i]) for i in range(PROFILES))
        )


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# ------------------------------------------------------------------------- flipped bits


def places(whole: Whole) -> dict[str, list[int]]:
    """Where in the file each kind of thing stands: byte offsets."""
    form, content = whole.form, whole.content
    found: dict[str, list[int]] = {}

    def span(kind: str, start: int, size: int) -> None:
        found.setdefault(kind, []).extend(range(start, start + size))

    for identity, row in zip(whole.profiles.ids.tolist(), form.encode(whole.profiles), strict=True):
        assert content.count(row.tobytes()) == 1
        at = content.index(row.tobytes())
        span("codes", at, form.mask_format.nbytes)
        at += form.mask_format.nbytes
        for name, shape in form.shapes.items():
            span(name.partition("_")[0], at, 4 * int(np.prod(shape)))
            at += 4 * int(np.prod(shape))
        span("row checksum", at, 8)
        key = struct.pack(">Q", identity)
        found_at = [match.start() for match in re.finditer(re.escape(key), content)]
        assert len(found_at) == 3  # in the table and in the indices of ids and of names
        for at in found_at:
            span("ids", at, 8)
    connection = sqlite3.connect(whole.path)
    for value, checksum in connection.execute("SELECT value, checksum FROM header"):
        for part in (value, checksum):
            span("header", content.index(part), len(part))
    for part in connection.execute("SELECT total, checksum FROM state").fetchone():
        span("state", content.index(part), len(part))
    for name, checksum in connection.execute("SELECT name, checksum FROM names"):
        span("names", content.index(name.encode()), len(name))
        span("names", content.index(checksum), len(checksum))
    connection.close()
    return found


@pytest.mark.parametrize("which", ["whole", "shared"])
def test_200_flipped_bits_are_all_found(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """By kind in turn, so that the small ones are hit as often as the large ones."""
    whole: Whole = request.getfixturevalue(which)
    kinds, draw = places(whole), random.Random(0)
    expected = {"codes", "norm", "gain", "head", "row checksum", "ids", "header", "state", "names"}
    assert set(kinds) == expected
    missed = []
    for number in range(200):
        kind = sorted(kinds)[number % len(kinds)]
        bit = 8 * draw.choice(kinds[kind]) + draw.randrange(8)
        path = whole.write(tmp_path / "s.xps", flipped(whole.content, bit))
        if not problems(path):
            missed.append((kind, bit))
    assert missed == []


@pytest.mark.parametrize("kind", ["codes", "norm", "gain", "head", "row checksum"])
def test_a_damaged_profile_is_named_and_the_others_can_be_read(
    whole: Whole, kind: str, tmp_path: Path
) -> None:
    draw = random.Random(kind)
    for _ in range(10):
        bit = 8 * draw.choice(places(whole)[kind]) + draw.randrange(8)
        path = whole.write(tmp_path / "s.xps", flipped(whole.content, bit))
        bad = []
        with ProfileStore.open(path) as store:
            for i, identity in enumerate(whole.profiles.ids.tolist()):
                try:
                    assert same(store.get(identity), whole.profiles.take([i]))
                except StoreError as error:
                    bad.append((identity, str(error)))
            ((damaged, message),) = bad
            assert f"profile {id_text(damaged)}: found a checksum" in message
            with pytest.raises(StoreError, match=id_text(damaged)):
                store.get_many(whole.profiles.ids)
            assert any(id_text(damaged) in problem for problem in store.verify().problems)


def test_a_bit_anywhere_is_found_or_changes_nothing(shared: Whole, tmp_path: Path) -> None:
    """Empty space and counters of SQLite's own are in no checksum; nothing is read from them."""
    draw, found = random.Random(1), 0
    for _ in range(200):
        bit = draw.randrange(8 * len(shared.content))
        path = shared.write(tmp_path / "s.xps", flipped(shared.content, bit))
        if problems(path):
            found += 1
        else:
            assert intact(path, shared), f"bit {bit}"
    assert found > 20  # a fair part of the file is in use


def test_a_bit_of_the_first_page_is_found_or_changes_nothing(whole: Whole, tmp_path: Path) -> None:
    """Where SQLite keeps page size, formats, encoding and its counters."""
    for bit in [*range(16 * 8, 28 * 8), *range(44 * 8, 72 * 8)]:
        path = whole.write(tmp_path / "s.xps", flipped(whole.content, bit))
        assert problems(path) or intact(path, whole), f"bit {bit}"
        for beside in tmp_path.glob("s.xps-*"):
            beside.unlink()


# ---------------------------------------------------------------------------------- rows


def sql(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Change a store as a careless program would."""
    connection = sqlite3.connect(path)
    with connection:
        for statement, values in statements:
            connection.execute(statement, values)
    connection.close()


def signed(profiles: Profiles, i: int) -> int:
    return int(profiles.ids.view(np.int64)[i])


def test_swapped_rows_are_found_and_both_are_named(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    a, b = signed(whole.profiles, 3), signed(whole.profiles, 17)
    connection = sqlite3.connect(path)
    query = "SELECT data FROM profiles WHERE id = ?"
    data = [connection.execute(query, (i,)).fetchone()[0] for i in (a, b)]
    connection.close()
    put = "UPDATE profiles SET data = ? WHERE id = ?"
    sql(path, (put, (data[1], a)), (put, (data[0], b)))
    with ProfileStore.open(path) as store:
        listed = "\n".join(store.verify().problems)
        for i in (3, 17):
            identity = int(whole.profiles.ids[i])
            with pytest.raises(StoreError, match=f"profile {id_text(identity)}.*swapped"):
                store.get(identity)
            assert id_text(identity) in listed
        assert same(store.get(int(whole.profiles.ids[4])), whole.profiles.take([4]))


def test_a_row_of_a_store_for_another_bank_is_found(whole: Whole, tmp_path: Path) -> None:
    """The same shapes and the same id, a bank of another seed."""
    form = make_format(head=whole.form.head, bank="seed 1")
    head = make_head(form) if "shared" in form.head else None
    with ProfileStore.create(tmp_path / "other.xps", form, head) as store:
        store.put_many(whole.profiles)
    other = sqlite3.connect(tmp_path / "other.xps")
    query = "SELECT data FROM profiles WHERE id = ?"
    (data,) = other.execute(query, (signed(whole.profiles, 5),)).fetchone()
    other.close()
    path = whole.write(tmp_path / "s.xps", whole.content)
    sql(path, ("UPDATE profiles SET data = ? WHERE id = ?", (data, signed(whole.profiles, 5))))
    with ProfileStore.open(path) as store, pytest.raises(StoreError, match="found a checksum"):
        store.get(int(whole.profiles.ids[5]))
    assert problems(path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM profiles WHERE id = ?", "state: profiles: found 39, expected 40"),
        ("DELETE FROM names WHERE id = ?", "state: names: found 39, expected 40"),
        (
            "UPDATE names SET name = 'x' || name WHERE id = ?",
            "name of profile .*: found a checksum",
        ),
        ("UPDATE profiles SET data = substr(data, 2) WHERE id = ?", "bytes, expected"),
        ("UPDATE profiles SET data = 'text' WHERE id = ?", "found str bytes"),
        ("UPDATE profiles SET data = x'' WHERE id = ?", "found 0 bytes"),
        ("UPDATE profiles SET id = id + 1 WHERE id = ?", "found a checksum"),
        ("UPDATE names SET id = id + 1 WHERE id = ?", "name of profile .*: found a checksum"),
    ],
)
def test_rows_that_other_programs_changed_are_found(
    statement: str, message: str, whole: Whole, tmp_path: Path
) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    sql(path, (statement, (signed(whole.profiles, 8),)))
    found = problems(path)
    assert any(re.search(message, problem) for problem in found), found


def test_an_older_row_that_was_put_back_is_found(whole: Whole, tmp_path: Path) -> None:
    """Its checksum is right; the sum over all is not."""
    path = whole.write(tmp_path / "s.xps", whole.content)
    connection = sqlite3.connect(path)
    query = "SELECT data FROM profiles WHERE id = ?"
    (old,) = connection.execute(query, (signed(whole.profiles, 2),)).fetchone()
    connection.close()
    newer = make_profiles(whole.form, PROFILES, seed=5)
    newer.ids[:] = whole.profiles.ids
    with ProfileStore.open(path, read_only=False) as store:
        store.put(newer.take([2]), replace=True)
    assert problems(path) == []
    sql(path, ("UPDATE profiles SET data = ? WHERE id = ?", (old, signed(whole.profiles, 2))))
    (problem,) = problems(path)
    assert problem.startswith("state: sum of checksums: found")


def test_right_checksums_over_what_is_no_code_are_found(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    with ProfileStore.open(path) as store:
        payload = bytes(whole.form.payload_bytes)  # rows without any selected adapter
        data = payload + store._checksums.row(signed(whole.profiles, 6), payload)
    sql(path, ("UPDATE profiles SET data = ? WHERE id = ?", (data, signed(whole.profiles, 6))))
    identity = int(whole.profiles.ids[6])
    with ProfileStore.open(path) as store, pytest.raises(StoreError, match="expected k = 5"):
        store.get(identity)
    assert any(f"profile {id_text(identity)}: " in p and "k = 5" in p for p in problems(path))


def test_a_truncated_file_is_found(whole: Whole, tmp_path: Path) -> None:
    size = len(whole.content)
    for kept in (0, 1, 99, 100, 4096, size // 3, size // 2, size - 4096, size - 1):
        path = whole.write(tmp_path / "s.xps", whole.content[:kept])
        assert problems(path), f"{kept} of {size} bytes"
        with pytest.raises(StoreError), ProfileStore.open(path) as store:
            store.get_many(whole.profiles.ids)


def test_many_problems_are_not_all_listed(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    sql(path, ("UPDATE profiles SET data = x'00'", ()))
    assert 20 <= len(problems(path)) <= 22


# ------------------------------------------------------------------------------- writers


def test_a_second_writer_waits_and_then_gives_up(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    new = make_profiles(whole.form, 4, seed=9)

    with (
        ProfileStore.open(path, read_only=False) as first,
        ProfileStore.open(path, read_only=False, timeout=0.05) as second,
    ):

        def batches() -> Iterator[tuple[Profiles, None]]:
            yield new.take([0, 1]), None
            with pytest.raises(StoreError, match=r"is locked by another process.*0\.05 s"):
                second.put_many(new.take([2, 3]))
            assert same(second.get(int(whole.profiles.ids[0])), whole.profiles.take([0]))

        first.put_batches(batches())
        second.put_many(new.take([2, 3]))
        assert same(first.get_many(new.ids), new)
    assert problems(path) == []


WRITER = """
import sys
from profilefactory import make_profiles
from xpeft.store import ProfileStore
with ProfileStore.open(sys.argv[1], read_only=False, timeout=120) as store:
    profiles = make_profiles(store.format, 25, seed=int(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(25):
        store.put(profiles.take([i]))
"""


def test_two_writers_at_once_lose_nothing(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        for seed in ("11", "12")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=120)
        assert writer.returncode == 0
    assert problems(path) == []
    with ProfileStore.open(path) as store:
        assert len(store) == PROFILES + 50
        for seed in (11, 12):
            put = make_profiles(whole.form, 25, seed=seed)
            assert same(store.get_many(put.ids), put)


# A process that forks a writer again and again and kills it: half of the times at a moment of its
# own while it is busy, half of them from inside a batch, with pages written already.
KILLER = """
import json, os, random, select, signal, sys, time
import numpy as np
from profilefactory import make_ids, many_profiles
from xpeft import storefile
from xpeft.store import ProfileStore

path, draw, committed, outcomes = sys.argv[1], random.Random(0), [], []
with ProfileStore.open(path) as store:
    form = store.format

def write(number, pipe, die_inside):
    storefile.CACHE_KIB = 16  # pages go to the file in the middle of a batch, not at its end
    with ProfileStore.open(path, read_only=False) as store:
        for batch in range(1000 * number, 1000 * number + 1000):
            profiles = many_profiles(form, 400, seed=batch)
            def parts():
                yield profiles.take(slice(0, 350)), None
                if die_inside and batch % 1000 == number % 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield profiles.take(slice(350, 400)), None
            store.put_batches(parts())
            os.write(pipe, batch.to_bytes(4, "little"))

for number in range(20):
    end, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(number, pipe, number % 2)
        finally:
            os._exit(1)
    os.close(pipe)
    if number % 2 == 0:
        os.read(end, 4 * 1) and committed.append(1000 * number)
        time.sleep(draw.random() * 0.05)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    while data := os.read(end, 4):
        committed.append(int.from_bytes(data, "little"))
    os.close(end)
    hot = os.path.exists(path + "-journal")
    refused = None
    if hot and number % 2:
        try:
            ProfileStore.open(path).close()
        except Exception as error:
            refused = str(error)
    with ProfileStore.open(path, read_only=False) as store:
        there = set(store.ids().tolist())
        report = store.verify()
        lost = [b for b in committed if not set(make_ids(400, b).tolist()) <= there]
        outcomes.append({"status": status, "hot": hot, "refused": refused, "lost": lost,
                         "profiles": len(store), "problems": report.problems,
                         "batches": len(committed)})
print(json.dumps(outcomes))
"""


def test_20_killed_writers_lose_nothing_and_leave_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "s.xps"
    ProfileStore.create(path, make_format()).close()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 20
    for number, outcome in enumerate(outcomes):
        assert outcome["status"] == -9, outcome  # killed, not ended by an error
        assert outcome["problems"] == [] and outcome["lost"] == [], outcome
        assert outcome["profiles"] % 400 == 0, outcome  # whole batches only
        # at most the one batch whose word did not get through
        assert 0 <= outcome["profiles"] // 400 - outcome["batches"] <= number + 1
        if number % 2:
            assert outcome["hot"] and "must be taken back" in outcome["refused"], outcome
    assert os.listdir(tmp_path) == ["s.xps"]
    assert outcomes[-1]["batches"] >= 20


def test_an_error_inside_a_batch_takes_it_back(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    new = make_profiles(whole.form, 4, seed=9)

    def batches(error: BaseException) -> Iterator[tuple[Profiles, None]]:
        yield new, None
        raise error

    with ProfileStore.open(path, read_only=False) as store:
        for error in (ValueError("of the caller"), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                store.put_batches(batches(error))
            assert len(store) == PROFILES
        assert os.listdir(tmp_path) == ["s.xps"]
        store.put_many(new)
    assert problems(path) == []


# ---------------------------------------------------------------------------------- disk


def test_a_full_disk_is_told_and_changes_nothing(whole: Whole, tmp_path: Path) -> None:
    path = whole.write(tmp_path / "s.xps", whole.content)
    many = many_profiles(whole.form, 2000, seed=9)
    with ProfileStore.open(path, read_only=False) as store:
        connection = store._file._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 5}").fetchone()
        with pytest.raises(StoreError, match=r"no room is left on the disk; nothing was written"):
            store.put_many(many)
        assert len(store) == PROFILES and os.listdir(tmp_path) == ["s.xps"]
        assert intact(path, whole) and problems(path) == []
        connection.execute("PRAGMA max_page_count = 1000000").fetchone()
        store.put_many(many)
    assert problems(path) == []


LIMITED = """
import sys
from profilefactory import many_profiles
from xpeft.store import ProfileStore, StoreError
with ProfileStore.open(sys.argv[1], read_only=False) as store:
    try:
        store.put_many(many_profiles(store.format, 2000, seed=9))
    except StoreError as error:
        print(error)
"""


def test_a_file_that_may_not_grow_is_told_and_changes_nothing(whole: Whole, tmp_path: Path) -> None:
    """As with a quota: the kernel itself refuses to write on."""
    path = whole.write(tmp_path / "s.xps", whole.content)
    most = len(whole.content) + 20_000
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout and "nothing was" in done.stdout, done.stdout
    assert done.stdout.count("\n") == 1
    with ProfileStore.open(path, read_only=False) as store:  # takes back what was begun
        assert len(store) == PROFILES
    assert intact(path, whole) and problems(path) == []


def test_no_room_for_the_journal_is_told(whole: Whole, tmp_path: Path) -> None:
    """SQLite's journal cannot be made where a folder of its name is."""
    path = whole.write(tmp_path / "s.xps", whole.content)
    Path(f"{path}-journal").mkdir()
    with pytest.raises(StoreError, match="nothing was committed"):
        ProfileStore.open(path, read_only=False)
    shutil.rmtree(f"{path}-journal")
    assert intact(path, whole)


def test_a_store_says_what_it_is(whole: Whole) -> None:
    assert whole.content[68:72] == struct.pack(">I", APPLICATION_ID) == b"XPEF"
