"""A Slurm for the tests of this folder, and the table of what they saw."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import lab as slurm
import pytest
from needs import need
from runs import ROOT, Run

DOCUMENT = ROOT / "docs/slurm.md"
BEGIN = "<!-- Written by `make test-slurm`. -->"
END = "<!-- End of what `make test-slurm` wrote. -->"
FAULTS = (
    "`scancel` of a training job",
    "time limit in the middle of training",
    "memory limit",
    "pre-emption in the middle of training",
    "`kill -9` of the driver",
    "`kill -9` of the driver, jobs cancelled",
    "`kill -9` of slurmd, started again",
    "the node is lost",
    "the controller is away for a minute",
    "a job that cannot succeed",
)

Note = Callable[[str, str, str, str], None]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to those who ask for them by `-m`."""
    if "slurm_long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("slurm_long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def lab() -> Iterator[slurm.Lab]:
    """A cluster of one node, for all tests."""
    reason = slurm.why_not()
    need(reason is None, f"no Slurm for the tests: {reason}")
    before = signal.signal(signal.SIGTERM, interrupt)  # else nothing would be cleaned up
    try:
        with slurm.Lab() as cluster:
            yield cluster
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


@pytest.fixture(scope="session")
def undisturbed(
    lab: slurm.Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Run, str]]:
    """A run by the literal command that nothing disturbed, and what it printed."""
    run = Run(tmp_path_factory.mktemp("undisturbed") / "run")
    try:
        yield run, run.do(run.literal())
    finally:
        run.stop()


@pytest.fixture
def run(lab: slurm.Lab, tmp_path: Path) -> Iterator[Run]:
    """A run folder; what still runs in it at the end is stopped, in Slurm too."""
    made = Run(tmp_path / "run")
    yield made
    made.stop()
    lab.end_jobs()


@pytest.fixture(scope="session")
def note() -> Iterator[Note]:
    """Note a row of the table: fault, what was seen, command, outcome.

    Once all faults have been seen, the table goes into the guide.
    """
    rows: dict[str, str] = {}

    def add(fault: str, seen: str, command: str, outcome: str) -> None:
        assert fault in FAULTS
        rows[fault] = f"| {fault} | {seen} | {command} | {outcome} |"

    yield add
    if set(rows) == set(FAULTS):
        write_table([rows[fault] for fault in FAULTS])


def write_table(rows: list[str]) -> None:
    """Put the rows into the guide, between the marks."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert rest and after, f"{DOCUMENT}: the marks of the table are gone"
    head = [
        "| fault | what is seen | what finishes the run | outcome |",
        "| --- | --- | --- | --- |",
    ]
    DOCUMENT.write_text("\n".join([before + BEGIN, *head, *rows, END]) + after)
