"""A run that must be whole fails where a test was skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
from needs import need

def test_runs():
    need(True, "never")

def test_lacks():
    need(False, "no such part")

@pytest.mark.cuda
def test_lacks_a_gpu():
    pytest.skip("no GPU")

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    assert False
"""


@pytest.mark.parametrize(
    ("value", "counts", "code"),
    [
        ("1", {"1 passed", "1 failed", "1 skipped", "1 xfailed", "1 error"}, 1),
        ("0", {"1 passed", "3 skipped", "1 xfailed"}, 0),
        ("", {"1 passed", "3 skipped", "1 xfailed"}, 0),
    ],
)
def test_skips_fail_where_all_is_required(
    tmp_path: Path, value: str, counts: set[str], code: int
) -> None:
    here = Path(__file__).parent
    for name in ("conftest.py", "needs.py"):
        (tmp_path / name).write_text((here / name).read_text())
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", str(tmp_path), "--continue-on-collection-errors", str(tmp_path)],
        env=os.environ | {"XPEFT_REQUIRE_ALL": value},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1]
    assert counts == set(last.split(" in ")[0].split(", ")) - {"1 warning"}, done.stdout
    assert done.returncode == code
    assert ("not run: Skipped: no such part" in done.stdout) == (value == "1")
