"""The set-up is done once and survives a kill; a lock is removed only when it is stale."""

from __future__ import annotations

import ensurepip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
BUSY = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the set-up script and a lock that a new venv meets without a download."""
    (tmp_path / "tools").mkdir()
    shutil.copy(TOOLS / "setup.sh", tmp_path / "tools")
    (tmp_path / "some.lock").write_text(f"pip=={ensurepip.version()}\n")
    return tmp_path


def set_up(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "tools/setup.sh", ".venv-some", "some.lock"],
        cwd=project,
        env=os.environ | {"PYTHON": sys.executable} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_set_up_from_nothing_again_and_after_a_kill(project: Path) -> None:
    venv = project / ".venv-some"
    programs = project / "programs"
    fake(programs, "python3.11", "exit 127")  # as a version manager's stub does
    fake(programs, "python3", f'exec "{sys.executable}" "$@"')
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    first = set_up(project, PYTHON="", PATH=path)
    assert first.returncode == 0, first.stderr
    assert f"making .venv-some with Python {sys.version.split()[0]}" in first.stderr
    assert "is ready" in first.stderr
    assert (venv / "bin/python").exists() and not (venv / ".setting-up").exists()

    assert set_up(project).stderr == ""  # nothing to do

    with (project / "some.lock").open("a") as lock:
        lock.write("# another\n")
    again = set_up(project)
    assert again.returncode == 0
    assert "making" not in again.stderr and "is ready" in again.stderr

    # A pin that cannot be met: the error of pip, and no stamp.
    good = (project / "some.lock").read_text()
    (project / "some.lock").write_text("xpeft-no-such-package==1.0\n")
    bad = set_up(project, PIP_NO_INDEX="1")
    assert bad.returncode == 1
    assert "ERROR: No matching distribution found for xpeft-no-such-package==1.0" in bad.stderr
    assert "setup.log" in bad.stderr
    assert not (venv / ".stamp").exists() and not (venv / ".setting-up").exists()

    # What a set-up killed inside pip leaves: perhaps half a package, so the venv is made anew.
    (project / "some.lock").write_text(good)
    (venv / ".setting-up").touch()
    (venv / "half").touch()
    assert "making .venv-some" in set_up(project).stderr
    assert not (venv / "half").exists()


def test_no_python_that_is_new_enough_is_a_clear_error(project: Path) -> None:
    programs = project / "programs"
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3", "python"):
        fake(programs, name, "exit 1")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = set_up(project, PYTHON="", PATH=path)
    assert done.returncode == 1
    assert "found no Python >= 3.11 in PATH" in done.stderr
    done = set_up(project, PYTHON=str(programs / "python3"))
    assert done.returncode == 1
    assert f"PYTHON={programs / 'python3'}: not a Python >= 3.11" in done.stderr
    assert not (project / ".venv-some").exists()


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder as Snakemake leaves it when it is killed."""
    for name in ("locks", "log"):
        (tmp_path / ".snakemake" / name).mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("results/x.json\n")
    write_log(tmp_path, "here", os.uname().nodename)
    return tmp_path


def write_log(folder: Path, name: str, host: str) -> Path:
    log = folder / f".snakemake/log/{name}.snakemake.log"
    log.write_text(f"\nSNAKEMAKE\n=========\n  Date: 2026-01-01 00:00:00\n  Host: {host}\n")
    return log


def unlock(folder: Path, *flags: str) -> str:
    words = [sys.executable, str(TOOLS / "unlock.py"), *flags, str(folder)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stderr


def is_locked(folder: Path) -> bool:
    return (folder / ".snakemake/locks").exists()


@contextmanager
def working(folder: Path, program: str) -> Iterator[int]:
    """A process that runs `program` in `folder`."""
    (folder / program).write_text(BUSY)
    with subprocess.Popen(
        [sys.executable, f"./{program}"], cwd=folder, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield process.pid
        finally:
            process.kill()


def test_the_lock_of_a_killed_run_is_removed(locked: Path) -> None:
    assert "removed the lock" in unlock(locked)
    assert not is_locked(locked)
    assert unlock(locked) == ""


def test_the_lock_of_a_live_run_stays(
    locked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with working(locked, "snakemake") as pid:
        assert f"Snakemake runs here as process {pid}" in unlock(locked)
        assert is_locked(locked)
    with working(tmp_path_factory.mktemp("other"), "snakemake"):
        assert "removed the lock" in unlock(locked)


def test_a_run_that_hangs_is_killed_where_asked(
    locked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        working(locked, "snakemake") as pid,
        working(tmp_path_factory.mktemp("other"), "snakemake") as other,
    ):
        said = unlock(locked, "--stop")
        assert f"killing Snakemake, process {pid}" in said
        assert str(other) not in said  # of another folder
        assert "removed the lock" in said
        assert not is_locked(locked)


def test_the_lock_of_a_run_on_another_machine_stays(locked: Path) -> None:
    log = write_log(locked, "there", "node17")
    assert "a run on node17 may be live" in unlock(locked)
    assert is_locked(locked)
    os.utime(log, (1, 1))  # ended long before the lock was made
    assert "removed the lock" in unlock(locked)


def test_a_job_that_outlived_its_run_is_named(locked: Path) -> None:
    with working(locked, "xpeft") as pid:
        assert f"process {pid} of that run still works" in unlock(locked)


def test_a_job_that_outlived_its_run_is_waited_for(locked: Path) -> None:
    words = [sys.executable, str(TOOLS / "unlock.py"), "--wait", str(locked)]
    with (
        working(locked, "xpeft") as pid,
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as waiting,
    ):
        assert waiting.stderr is not None
        assert "removed the lock" in waiting.stderr.readline()
        assert f"process {pid} of that run still works; waiting" in waiting.stderr.readline()
        assert waiting.poll() is None
        os.kill(pid, signal.SIGKILL)
        assert waiting.wait(timeout=60) == 0


@pytest.fixture
def queue(tmp_path_factory: pytest.TempPathFactory, locked: Path) -> Path:
    """Programs `squeue` and `scancel` over a file that holds the queue."""
    folder = tmp_path_factory.mktemp("slurm")
    lines = [
        f"1|RUNNING|{locked}|rule_train_wildcards_a",
        f"2|PENDING|{locked}|rule_train_wildcards_b",
        f"3|RUNNING|{locked}/other|rule_train_wildcards_c",
        f"4|RUNNING|{locked}|somebody else's",
    ]
    (folder / "queue").write_text("\n".join(lines) + "\n")
    # What runs ends by the third look at the queue.
    squeue = f"""cat {folder}/queue; echo >> {folder}/looks
        [ $(wc -l < {folder}/looks) -lt 2 ] || sed -i '/^1/d' {folder}/queue"""
    scancel = f"""echo "$*" >> {folder}/cancelled; sed -i '/PENDING/d' {folder}/queue"""
    fake(folder, "squeue", squeue)
    fake(folder, "scancel", scancel)
    return folder


def settle(folder: Path, queue: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    script = "import orphans, sys; orphans.SECONDS = 0.05; sys.exit(orphans.main("
    script += f"orphans.Path({str(folder)!r}), {'--cancel' in argv}))"
    path = f"{queue}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=TOOLS,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )


def test_jobs_of_a_killed_run_are_waited_for(locked: Path, queue: Path) -> None:
    done = settle(locked, queue)
    assert done.returncode == 0, done.stderr
    assert "waiting for Slurm jobs of a killed run: 1 (rule_train_wildcards_a)" in done.stderr
    assert "--state=PENDING 1 2" in (queue / "cancelled").read_text()
    left = (queue / "queue").read_text()
    assert left.startswith("3|") and len(left.splitlines()) == 2  # what is not ours is let alone
    assert is_locked(locked)  # until then nobody else may start


def test_jobs_of_a_killed_run_are_cancelled_if_wanted(locked: Path, queue: Path) -> None:
    done = settle(locked, queue, "--cancel")
    assert done.returncode == 0, done.stderr
    assert (queue / "cancelled").read_text().startswith("1 2\n")


def test_jobs_of_a_live_run_are_let_alone(locked: Path, queue: Path) -> None:
    with working(locked, "snakemake") as pid:
        done = settle(locked, queue)
        assert done.returncode == 1
        assert f"Snakemake runs here as process {pid}" in done.stderr
    assert not (queue / "cancelled").exists()


def test_slurm_that_does_not_answer_is_waited_for(locked: Path, queue: Path) -> None:
    fake(queue, "squeue", f"mv {queue}/squeue.good {queue}/squeue; echo no controller >&2; exit 1")
    fake(queue, "squeue.good", "exit 0")
    done = settle(locked, queue)
    assert done.returncode == 0
    assert "waiting for Slurm, which does not answer: no controller" in done.stderr


def test_a_folder_without_a_lock_may_have_jobs(locked: Path, queue: Path) -> None:
    shutil.rmtree(locked / ".snakemake/locks")
    assert "waiting for Slurm jobs" in settle(locked, queue).stderr
