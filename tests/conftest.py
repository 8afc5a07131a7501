"""What holds for all tests.

Under XPEFT_REQUIRE_ALL a skipped test fails: CI must not be green for lack of parts. XPEFT_DATA is
forgotten: no test may depend on what the user has.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

os.environ.pop("XPEFT_DATA", None)
REQUIRE_ALL = os.environ.get("XPEFT_REQUIRE_ALL", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test; those marked `cuda` may lack a GPU, and an expected failure is none."""
    report = yield
    if not hasattr(report, "wasxfail") and item.get_closest_marker("cuda") is None:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a test file that is skipped as a whole."""
    report = yield
    _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"XPEFT_REQUIRE_ALL is set, and the test was not run: {reason}"
