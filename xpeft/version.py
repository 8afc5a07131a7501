"""The version of the code at work: the release, and the commit where it runs from a checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from xpeft import __version__

UNKNOWN = "unknown"
CODE = ("xpeft/", "workflow/", "config/", "slurm/", "tools/", "Snakefile", "Makefile")
"""Where an untracked file changes what runs; elsewhere it may be anyone's notes."""


def version_text() -> str:
    """What `xpeft --version` prints: `xpeft 0.1.0 (git abc1234, clean)`, or `(git unknown)`."""
    state = git_state()
    if state == UNKNOWN:
        return f"xpeft {__version__} (git {UNKNOWN})"
    commit, condition = state.split()
    return f"xpeft {__version__} (git {commit}, {condition.strip('()')})"


def git_state(root: str | os.PathLike[str] | None = None) -> str:
    """The commit at the top of a checkout and whether its code is as committed.

    Args:
        root: the top of the checkout; by default the folder that holds the package `xpeft`.

    Returns:
        `abc1234 (clean)` or `abc1234 (modified)`; `unknown` where `root` is not the top of a
        checkout with a commit, or there is no git. What a run writes below `results/` and
        untracked files outside of the code do not count as a modification.
    """
    top = Path(__file__).resolve().parent.parent if root is None else Path(root).resolve()
    prefix = _git(top, "rev-parse", "--show-prefix")
    commit = _git(top, "rev-parse", "--short=7", "--verify", "HEAD")
    if prefix is None or prefix.strip() or commit is None:  # in a folder of another repository
        return UNKNOWN
    status = _git(top, "status", "--porcelain", "--untracked-files=all", "--", ":!results")
    if status is None:
        return UNKNOWN
    modified = any(
        not line.startswith("??") or line[3:].strip('"').startswith(CODE)
        for line in status.splitlines()
    )
    return f"{commit.strip()} ({'modified' if modified else 'clean'})"


def _git(folder: Path, *words: str) -> str | None:
    """What git says in `folder`, None where it fails or is absent."""
    # Without the variables by which a git hook names its own repository, and without writing to
    # the index, which others may be using.
    hook = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
    environment = {k: v for k, v in os.environ.items() if k not in hook}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            env=environment | {"LC_ALL": "C"},
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
