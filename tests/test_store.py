"""A profile store: what is put comes back, and what does not belong there is refused."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profilefactory import (
    large_format,
    make_format,
    make_head,
    make_ids,
    make_profiles,
    many_profiles,
    same,
    sha,
)

from xpeft.errors import CodecError, StoreError
from xpeft.ids import id_text
from xpeft.store import ProfileStore, profile_file_bytes
from xpeft.storefile import page_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a #store?.xps"  # a name that a URI must escape


@pytest.mark.parametrize("head", ["private", "binary", "shared", "shared+bias", "none"])
@pytest.mark.parametrize("codec", ["bits", "enumerative", "soft32", "soft16"])
def test_what_is_put_comes_back(codec: Any, head: Any, path: Path) -> None:
    form = make_format(codec, head)
    shared = make_head(form) if head.startswith("shared") else None
    profiles = make_profiles(form, 30)
    with ProfileStore.create(path, form, shared) as store:
        store.put_many(profiles.take(slice(0, 20)))
        for i in range(20, 30):
            store.put(profiles.take([i]))
    with ProfileStore.open(path) as store:
        assert store.format == form
        assert len(store) == 30
        order = np.random.default_rng(1).permutation(30)
        assert same(store.get_many(profiles.ids[order]), profiles.take(order))
        assert same(store.get(int(profiles.ids[7])), profiles.take([7]))
        assert np.array_equal(store.ids(), np.sort(profiles.ids))
        assert store.verify().ok
        if shared is None:
            assert store.shared_head is None
        else:
            assert store.shared_head is not None
            for found, given in zip(store.shared_head, shared, strict=True):
                assert found.tobytes() == given.tobytes() and found.shape == given.shape


def test_all_64_bits_of_an_id_count(path: Path) -> None:
    profiles = make_profiles(make_format(), 6)
    ids = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    profiles.ids[:] = ids
    with ProfileStore.create(path, make_format()) as store:
        store.put_many(profiles)
        assert store.ids().tolist() == ids.tolist()
        for i, identity in enumerate(ids.tolist()):
            assert identity in store and same(store.get(identity), profiles.take([i]))
        assert 3 not in store and 2**64 not in store and -1 not in store and "1" not in store
    rows = sqlite3.connect(path).execute("SELECT printf('%016x', id) FROM profiles").fetchall()
    assert sorted(text for (text,) in rows) == [id_text(i) for i in ids.tolist()]


def test_any_mix_of_ids_in_one_call(path: Path) -> None:
    profiles = make_profiles(make_format(), 5)
    with ProfileStore.create(path, make_format()) as store:
        store.put_many(profiles)
        twice = store.get_many(profiles.ids[[3, 1, 3]])
        assert same(twice, profiles.take([3, 1, 3]))
        assert len(store.get_many([])) == 0
        assert same(store.get_many(profiles.ids.tolist()), profiles)
        for wrong in ([-1], [2**64], [1.5], ["1"], [[1]], np.array([-1])):
            with pytest.raises(StoreError, match="profile ids: found"):
                store.get_many(wrong)  # type: ignore[arg-type]


def test_an_unknown_id_is_an_error_that_names_it(path: Path) -> None:
    profiles = make_profiles(make_format(), 3)
    with ProfileStore.create(path, make_format()) as store:
        store.put_many(profiles)
        before = path.read_bytes()
        for call in (store.get_many, store.stamps, store.remove):
            with pytest.raises(StoreError, match="found no profile 00000000000000ff"):
                call([int(profiles.ids[0]), 255])
        assert path.read_bytes() == before


# -------------------------------------------------------------------------------- change


def test_putting_twice_is_refused_unless_asked_for(path: Path) -> None:
    form = make_format()
    old, new = make_profiles(form, 10), make_profiles(form, 10, seed=1)
    new.ids[:5] = old.ids[:5]
    with ProfileStore.create(path, form) as store:
        store.put_many(old)
        with pytest.raises(StoreError, match=rf"profile {id_text(int(old.ids[0]))} is there"):
            store.put_many(new)
        assert len(store) == 10 and same(store.get_many(old.ids), old)
        store.put_many(new, replace=True)
        assert len(store) == 15
        assert same(store.get_many(new.ids), new)
        assert same(store.get_many(old.ids[5:]), old.take(slice(5, 10)))
        assert store.verify().ok


def test_an_id_comes_once_in_a_call(path: Path) -> None:
    profiles = make_profiles(make_format(), 4).take([0, 1, 2, 1])
    with ProfileStore.create(path, make_format()) as store:
        with pytest.raises(StoreError, match=rf"{id_text(int(profiles.ids[1]))}: found it twice"):
            store.put_many(profiles, replace=True)
        store.put_many(profiles.take([0, 1]))
        with pytest.raises(StoreError, match="found an id twice"):
            store.remove(profiles.ids[[1, 1]])
        assert len(store) == 2


def test_batches_are_one_transaction(path: Path) -> None:
    form = make_format()
    profiles = make_profiles(form, 9)
    with ProfileStore.create(path, form) as store, ProfileStore.open(path) as reader:

        def batches(last: Any) -> Any:
            yield profiles.take(slice(0, 4)), None
            assert len(reader) == 0
            yield last, None

        with pytest.raises(StoreError, match="is there already"):
            store.put_batches(batches(profiles.take(slice(3, 9))))
        assert len(store) == len(reader) == 0
        store.put_batches(batches(profiles.take(slice(4, 9))))
        assert same(reader.get_many(profiles.ids), profiles)
        assert store.verify().ok


def test_what_is_not_of_the_format_is_refused(path: Path) -> None:
    profiles = make_profiles(make_format(), 4)
    with ProfileStore.create(path, make_format(head="none")) as store:
        with pytest.raises(StoreError, match="head_weight: found values, expected none"):
            store.put_many(profiles)
        with pytest.raises(CodecError):
            store.put_many(make_profiles(make_format("soft32", "none"), 4))
        assert len(store) == 0 and store.generation == 0


def test_removed_profiles_are_gone_from_the_file(path: Path) -> None:
    form = make_format()
    profiles = make_profiles(form, 200)
    data = form.encode(profiles)
    with ProfileStore.create(path, form) as store:
        store.put_many(profiles, [f"author {i}" for i in range(200)])
        store.remove(profiles.ids[:150])
        assert len(store) == 50 and int(profiles.ids[0]) not in store
        content = path.read_bytes()
        assert all(row.tobytes() not in content for row in data[:150])
        assert b"author 149" not in content and b"author 150" in content
        assert store.verify().ok
        before, after = store.compact()
        assert after < 0.7 * before and after == path.stat().st_size
        assert same(store.get_many(profiles.ids[150:]), profiles.take(slice(150, 200)))
        assert store.verify().ok
        store.put_many(profiles.take(slice(0, 150)))
        assert store.verify().profiles == 200


def test_the_generation_rises_with_every_change_by_anyone(path: Path) -> None:
    form = make_format()
    old, new = make_profiles(form, 3), make_profiles(form, 3, seed=1)
    new.ids[:] = old.ids
    with ProfileStore.create(path, form) as store, ProfileStore.open(path) as reader:
        seen = [reader.generation]
        store.put_many(old)
        seen.append(reader.generation)
        stamps = reader.stamps(old.ids)
        store.put(new.take([1]), replace=True)
        seen.append(reader.generation)
        assert (reader.stamps(old.ids) != stamps).tolist() == [False, True, False]
        assert same(reader.get_many(old.ids[1:2]), new.take([1]))
        store.remove(old.ids[2:])
        seen.append(reader.generation)
        assert seen == sorted(set(seen))
        store.compact()
        store.get_many(old.ids[:2])
        store.put_many(old.take([0]), replace=True)  # the same bytes again: nothing changed
        assert reader.generation == seen[-1]


def test_names(path: Path) -> None:
    form = make_format()
    profiles = make_profiles(form, 4)
    ids = profiles.ids.tolist()
    with ProfileStore.create(path, form) as store:
        store.put_many(profiles.take(slice(0, 3)), ["Zoë", None, "o'x"])
        assert [store.name_of(i) for i in ids] == ["Zoë", None, "o'x", None]
        assert store.id_of("Zoë") == ids[0]
        with pytest.raises(StoreError, match="no profile of the name") as error:
            store.id_of("zoë")
        assert "zo" not in str(error.value).removeprefix(str(path))
        with pytest.raises(StoreError, match=f"found its name taken by profile {id_text(ids[0])}"):
            store.put(profiles.take([3]), "Zoë")
        assert ids[3] not in store
        with pytest.raises(StoreError, match="names: found 1, expected one of 2"):
            store.put_many(profiles.take([1, 3]), ["a"], replace=True)
        store.put(profiles.take([0]), "Chloë", replace=True)
        store.put(profiles.take([3]), "Zoë")
        store.put(profiles.take([2]), replace=True)  # keeps its name
        assert [store.name_of(i) for i in ids] == ["Chloë", None, "o'x", "Zoë"]
        store.remove([ids[2]])
        assert store.name_of(ids[2]) is None
        report = store.verify()
        assert (report.ok, report.profiles, report.names) == (True, 3, 2)


# ---------------------------------------------------------------------- create and open


def test_a_store_is_not_made_twice(path: Path) -> None:
    ProfileStore.create(path, make_format()).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        ProfileStore.create(path, make_format())
    assert path.read_bytes() == before
    other = path.with_name("other")
    Path(f"{other}-journal").write_text("of a store that was deleted")
    with pytest.raises(StoreError, match="other-journal: exists already"):
        ProfileStore.create(other, make_format())
    assert not other.exists()


def test_the_shared_head_is_there_if_the_format_says_so(path: Path) -> None:
    form = make_format(head="shared")
    weight, bias = make_head(form)
    for given, head, message in (
        (form, None, "shared head: found none, expected one"),
        (make_format(), (weight, bias), "shared head: found one, expected none"),
        (form, (weight.T, bias), "shared head: found shapes"),
        (form, (weight, bias * np.float32(np.nan)), "shared head: found NaN"),
    ):
        with pytest.raises(StoreError, match=message):
            ProfileStore.create(path, given, head)
        assert not path.exists()


def test_another_encoder_or_bank_is_refused(path: Path) -> None:
    ProfileStore.create(path, make_format(bank="seed 0")).close()
    for wanted, message in (
        ({"bank_sha256": sha("seed 1")}, "bank: found digest"),
        ({"encoder_sha256": sha("seed 1")}, "encoder: found digest"),
        ({"encoder_sha256": sha("encoder"), "bank_sha256": sha("encoder")}, "bank: found digest"),
    ):
        with pytest.raises(StoreError, match=message):
            ProfileStore.open(path, **wanted)  # type: ignore[arg-type]
    right = {"encoder_sha256": sha("encoder"), "bank_sha256": sha("seed 0")}
    with ProfileStore.open(path, **right) as store:  # type: ignore[arg-type]
        assert len(store) == 0


def test_files_that_are_no_stores(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        ProfileStore.open(path)
    path.mkdir()
    with pytest.raises(StoreError, match="found a folder, expected the file of a store"):
        ProfileStore.open(path)
    path.rmdir()
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="another application"):
        ProfileStore.open(path)
    path.write_text("no database at all, but long enough to be taken for one " * 20)
    with pytest.raises(StoreError, match="something else than an SQLite file"):
        ProfileStore.open(path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE profiles (id INTEGER)").connection.close()
    with pytest.raises(StoreError, match="another application"):
        ProfileStore.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("PRAGMA user_version = 2", "found a store of version 2, expected 1"),
        ("DROP INDEX profiles_id", r"other tables than those of a store \(profiles_id\)"),
        ("CREATE VIEW v AS SELECT 1", r"other tables .* \(v\)"),
        ("CREATE TRIGGER t AFTER INSERT ON profiles BEGIN SELECT 1; END", r"other tables .* \(t\)"),
        ("UPDATE header SET value = replace(value, 'tiny', 'fine')", "header format: found a"),
        ("DELETE FROM header", "header: found no format"),
        ("DELETE FROM state", "state: found a checksum"),
        ("UPDATE state SET profiles = 3", "state: found a checksum"),
        ("UPDATE state SET generation = -1", "state: found a checksum"),
    ],
)
def test_changes_by_other_programs_are_noticed_on_opening(
    change: str, message: str, path: Path
) -> None:
    ProfileStore.create(path, make_format()).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(change)
    connection.close()
    with pytest.raises(StoreError, match=message):
        ProfileStore.open(path)


def test_opening_read_only_writes_nothing(path: Path) -> None:
    profiles = make_profiles(make_format(), 5)
    with ProfileStore.create(path, make_format()) as store:
        store.put_many(profiles)
    path.chmod(0o444)
    before, listing = path.read_bytes(), os.listdir(path.parent)
    mtime = path.stat().st_mtime_ns
    with ProfileStore.open(path) as store:
        assert store.read_only
        assert store.verify().ok
        assert same(store.get_many(profiles.ids), profiles)
        for change in (
            lambda: store.put_many(profiles, replace=True),
            lambda: store.remove(profiles.ids),
            store.compact,
        ):
            with pytest.raises(StoreError, match="was opened read-only"):
                change()
        assert os.listdir(path.parent) == listing
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, mtime)


def test_a_read_only_file_is_not_opened_for_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProfileStore.create(path, make_format()).close()
    path.chmod(0o444)
    access = os.access  # root may write everywhere: told the truth about the mode here
    monkeypatch.setattr(
        os,
        "access",
        lambda file, mode: access(file, mode) and bool(os.stat(file).st_mode & stat.S_IWUSR),
    )
    with pytest.raises(StoreError, match="cannot be written; open it read-only"):
        ProfileStore.open(path, read_only=False)


def test_a_closed_store_is_one_file(path: Path) -> None:
    with ProfileStore.create(path, make_format()) as store:
        for i in range(3):
            store.put_many(make_profiles(make_format(), 3, seed=i))
        assert os.listdir(path.parent) == [path.name]
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(StoreError, match="was the store closed"):
        len(store)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ------------------------------------------------------------------------ size and cost


@pytest.mark.parametrize("size", [24, 144, 312, 456, 600, 1208, 2048, 2400, 4096, 6500, 9600])
def test_pages_are_filled_whatever_the_size_of_a_row(size: int, tmp_path: Path) -> None:
    """As SQLite lays it out: rows of any size cost little more than their bytes."""
    count = max(200, 4_000_000 // size)
    connection = sqlite3.connect(tmp_path / "t", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size(size)}")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE t (row INTEGER PRIMARY KEY, id INTEGER, data BLOB)")
    connection.execute("BEGIN")
    rows = ((2**62, bytes(size)) for _ in range(count))
    connection.executemany("INSERT INTO t (id, data) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()
    per_row = (tmp_path / "t").stat().st_size / count
    assert per_row <= 1.13 * (size + 17)


def test_a_store_filled_in_random_order_is_small(path: Path) -> None:
    form = large_format()
    with ProfileStore.create(path, form) as store:
        for i in range(10):
            store.put_many(many_profiles(form, 1000, seed=i))
        assert path.stat().st_size <= 1.2 * 10_000 * form.payload_bytes
        assert form.payload_bytes == 312


@pytest.mark.parametrize("n", [40, 100, 200, 400])
def test_the_bytes_a_profile_takes_in_a_file_are_those_of_the_formula(n: int, path: Path) -> None:
    form = large_format(n, n // 2)
    with ProfileStore.create(path, form) as store:
        for i in range(20):
            store.put_many(many_profiles(form, 2000, seed=i))
    expected = profile_file_bytes(form.payload_bytes)
    assert path.stat().st_size / 40_000 == pytest.approx(expected, rel=0.02)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts written bytes by /proc")
def test_a_put_costs_the_same_at_any_size(path: Path) -> None:
    """Counted in bytes that are written, not in seconds."""
    form = large_format()
    costs = {}
    with ProfileStore.create(path, form) as store:
        for size in (10, 20_000):
            store.put_many(many_profiles(form, size - len(store), seed=size))
            singles = make_profiles(form, 20, seed=size + 1)
            before = _written()
            for i in range(20):
                store.put(singles.take([i]))
            costs[size] = (_written() - before) / 20
    page = page_size(form.payload_bytes + 8)
    # at most one page more each in the journal and in the file: the index has a level more
    assert 0 < costs[20_000] <= costs[10] + 3 * page


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


# ----------------------------------------------------------------- threads and processes


def test_threads_take_turns(path: Path) -> None:
    form = make_format()
    profiles = make_profiles(form, 60)
    errors: list[BaseException] = []
    with ProfileStore.create(path, form) as store:
        store.put_many(profiles.take(slice(0, 20)))

        def run(work: Any) -> None:
            try:
                for i in range(20):
                    work(i)
            except BaseException as error:
                errors.append(error)

        def read(i: int) -> None:
            assert same(store.get_many(profiles.ids[[i, 3]]), profiles.take([i, 3]))

        def write(i: int) -> None:
            store.put(profiles.take([20 + i]))

        works = [read, read, write, lambda i: store.put(profiles.take([40 + i]))]
        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert same(store.get_many(profiles.ids), profiles)
        assert store.verify().ok


def test_a_child_opens_its_own(path: Path) -> None:
    ProfileStore.create(path, make_format()).close()
    code = (
        "import os, sys\n"
        "from xpeft.store import ProfileStore, StoreError\n"
        "store = ProfileStore.open(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try: len(store)\n"
        "    except StoreError as error: os._exit(7 if 'after the fork' in str(error) else 8)\n"
        "    os._exit(9)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(store))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout.split() == ["7", "0"], done.stderr


def test_a_store_needs_no_torch(path: Path) -> None:
    profiles = make_profiles(make_format(), 2)
    with ProfileStore.create(path, make_format()) as store:
        store.put_many(profiles)
    code = (
        "import sys; from xpeft.store import ProfileStore\n"
        "store = ProfileStore.open(sys.argv[1])\n"
        "assert len(store.get_many(store.ids())) == store.verify().profiles == 2\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_ids_are_as_good_as_random() -> None:
    assert len(np.unique(make_ids(1000) >> np.uint64(48))) > 900
