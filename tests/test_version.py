"""`xpeft --version` and records name the commit, and never another repository's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from needs import git

import xpeft
from xpeft.version import git_state, version_text

NAME = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    top = tmp_path / "checkout"
    (top / "xpeft").mkdir(parents=True)
    (top / "results/small").mkdir(parents=True)
    (top / "xpeft/__init__.py").write_text("")
    (top / "results/small/record.json").write_text("1")
    subprocess.run([git(), "init", "-q", top], check=True)
    subprocess.run([git(), "-C", top, "add", "-A"], check=True)
    subprocess.run([git(), "-C", top, *NAME, "commit", "-qm", "first"], check=True)
    return top


def head(top: Path) -> str:
    words = [git(), "-C", str(top), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_clean_until_the_code_changes(checkout: Path) -> None:
    assert git_state(checkout) == f"{head(checkout)} (clean)"
    (checkout / "results/small/record.json").write_text("2")
    (checkout / "results/small/new.json").write_text("3")
    (checkout / "notes.txt").write_text("mine")
    assert git_state(checkout) == f"{head(checkout)} (clean)"
    (checkout / "xpeft/__init__.py").write_text("x = 1\n")
    assert git_state(checkout) == f"{head(checkout)} (modified)"


def test_a_new_file_of_code_is_a_modification(checkout: Path) -> None:
    (checkout / "xpeft/other.py").write_text("")
    assert git_state(str(checkout)) == f"{head(checkout)} (modified)"


def test_an_environment_inside_another_repository_has_no_state(checkout: Path) -> None:
    inside = checkout / ".venv/lib/site-packages"
    inside.mkdir(parents=True)
    assert git_state(inside) == "unknown"
    assert git_state(checkout / "absent") == "unknown"


def test_the_state_is_that_of_the_folder_not_of_a_hook(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_state(checkout).endswith("(clean)")


def test_no_commit_yet_or_no_git(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([git(), "init", "-q", tmp_path / "empty"], check=True)
    assert git_state(tmp_path / "empty") == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) == "unknown"
    assert version_text() == f"xpeft {xpeft.__version__} (git unknown)"


def test_version_text_in_a_checkout_and_in_a_copy(checkout: Path, tmp_path: Path) -> None:
    source = Path(xpeft.__file__).parent
    for top in (checkout, tmp_path / "copy"):
        (top / "xpeft").mkdir(parents=True, exist_ok=True)
        for name in ("__init__.py", "version.py"):
            shutil.copy(source / name, top / "xpeft" / name)
    code = "import xpeft.version; print(xpeft.version.version_text())"
    texts = {
        top.name: subprocess.run(
            [sys.executable, "-c", code],
            cwd=top,
            env=os.environ | {"PYTHONPATH": str(top)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for top in (checkout, tmp_path / "copy")
    }
    version = xpeft.__version__
    assert texts["checkout"] == f"xpeft {version} (git {head(checkout)}, modified)"
    assert texts["copy"] == f"xpeft {version} (git unknown)"
