"""The version, with the state of the checkout that it runs from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from xpeft import __version__


def git_state(root: Path | None = None) -> str:
    """`abc1234 (clean)` or `abc1234 (modified)`; `unknown` outside a checkout or without git."""
    folder = root or Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return "unknown"
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit} ({'modified' if changed else 'clean'})"


def version_text() -> str:
    """What `xpeft --version` prints."""
    return f"xpeft {__version__} (git {git_state()})"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
