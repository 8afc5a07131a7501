"""Files that are either whole or absent.

Everything xpeft leaves on disk goes through here: written beside its final name,
flushed to the device, then renamed. A reader, or a run that follows a `kill -9`,
sees the old content or the new (of a folder perhaps neither), never half of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xpeft.errors import XpeftError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`.

    On any exception the temporary file is removed and `path` is left as it was.

    Raises:
        XpeftError: `path` is a folder.
        OSError: as of the system, as of a full disk; it names a file.
    """
    final = Path(path)
    if final.is_dir():
        raise XpeftError(f"{path}: found a folder, expected the name of a file to write")
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp gives 0600; shared results need the umask
        os.replace(temporary, final)
        _fsync_directory(final.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _name(error, final)
        raise


@contextmanager
def atomic_directory(path: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` on success, replacing an older one.

    Args:
        path: a new or empty folder, or one that `xpeft` wrote: any other is somebody's.
        marker: the file that all folders of this kind have.

    Raises:
        XpeftError: `path` is a file, or a folder of something else; it is left as it was.
        OSError: as of the system, as of a full disk; it names a file.
    """
    final = Path(path)
    _refuse_foreign(final, marker)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        old = temporary.with_suffix(".old")
        if final.exists():  # a folder cannot be replaced at one stroke: the old one steps aside
            os.replace(final, old)
        os.replace(temporary, final)
        _fsync_directory(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _name(error, final)
        raise


def _refuse_foreign(folder: Path, marker: str) -> None:
    if not folder.exists():
        return
    expected = f"expected a new or empty folder, or an earlier one with {marker}"
    if not folder.is_dir():
        raise XpeftError(f"{folder}: found a file, {expected}")
    found = sorted(entry.name for entry in folder.iterdir())
    if found and marker not in found:
        raise XpeftError(f"{folder}: found a folder with {found[0]}, {expected}")


def _name(error: BaseException, path: Path) -> None:
    """Give an error of writing, which knows a descriptor alone, the name of its file."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        error.filename = str(path)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with `\\n` line ends."""
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no NaN: equal values give equal bytes, so it can be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` atomically as readable JSON with sorted keys; NaN is refused."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        XpeftError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise XpeftError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise XpeftError(f"{path}: expected JSON, found something else: {error}") from None


def read_made(path: str | os.PathLike[str], verb: str, *keys: str) -> dict[str, Any]:
    """Read the JSON object that a verb of the command line wrote.

    Args:
        path: the file.
        verb: as in `xpeft claims`.
        keys: what tells such a file from another.

    Raises:
        XpeftError: the file is missing, is not JSON, or lacks a key.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not set(keys) <= set(value):
        raise XpeftError(f"{path}: found something else, expected a file of xpeft {verb}")
    return value


def sha256_bytes(data: bytes) -> str:
    """The sha256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
