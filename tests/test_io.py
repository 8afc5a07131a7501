"""Files and folders that are whole or absent, and never somebody else's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xpeft.cli import main
from xpeft.errors import XpeftError
from xpeft.io import atomic_directory, atomic_path, write_text


def entries(folder: Path) -> list[str]:
    """All that is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def make(folder: Path, text: str) -> None:
    with atomic_directory(folder, "meta.json") as temporary:
        (temporary / "meta.json").write_text(text)


def test_a_folder_is_replaced_by_one_of_its_kind(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder, "old")  # an empty folder is anybody's
    (folder / ".snakemake_timestamp").touch()
    make(folder, "new")
    assert (folder / "meta.json").read_text() == "new"
    assert entries(folder) == ["meta.json"] and entries(tmp_path) == ["data"]


@pytest.mark.parametrize(
    "argv",
    [
        ("bank", "random", "--n", "2", "--encoder", "all-MiniLM-L6-v2"),
        ("data", "--task", "embedded/sentiment", "--source", "embedded", "--train-rows", "8"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    argv: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years")
    for out, found in ((home, "a folder with thesis.txt"), (home / "thesis.txt", "a file")):
        assert main([*argv, "--out", str(out)]) == 2
        message = capsys.readouterr().err
        assert f"error: {out}: found {found}, expected a new or empty folder, or an ear" in message
    assert (home / "thesis.txt").read_text() == "years"
    assert entries(home) == ["thesis.txt"] and entries(tmp_path) == ["home"]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(XpeftError, match=r"found a folder, expected the name of a file"):
        write_text(tmp_path, "text")
    assert entries(tmp_path) == []


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for name, writing in (
        ("file", atomic_path(tmp_path / "file")),
        ("folder", atomic_directory(tmp_path / "folder", "meta.json")),
    ):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of a descriptor: without a name
        with pytest.raises(OSError, match=rf"No space left on device: '.*/{name}'"), writing:
            raise full
    assert (tmp_path / "file").read_text() == "old" and entries(tmp_path) == ["file"]
