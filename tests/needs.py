"""Parts that a test needs and a machine may lack.

Without the part the test is skipped, with a reason. Where `XPEFT_REQUIRE_ALL` is set, as in CI,
conftest.py turns each skip into a failure, except for tests marked `cuda`.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def need(found: object, what: str) -> None:
    """Skip the calling test unless `found`; `what` says what is missing and how to get it."""
    if not found:
        pytest.skip(what)


def chromium() -> Path:
    """The browser's program; the calling test is skipped where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    need(found, f"found none of {', '.join(BROWSERS)} in PATH; apt-get install chromium")
    return Path(str(found))


def peft() -> Any:
    """The library peft; the calling test is skipped where it is not installed."""
    found = importlib.util.find_spec("peft")
    need(found, "found no library peft; pip install 'xpeft[peers]'")
    return importlib.import_module("peft")


def git() -> str:
    """The program git; the calling test is skipped where there is none."""
    found = shutil.which("git")
    need(found, "found no git in PATH")
    return str(found)
