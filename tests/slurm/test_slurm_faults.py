"""What else may happen to a run on a cluster, on a real Slurm; minutes each (`make test-slurm`).

After each fault one documented command finishes the run, and the `result` part of each record
equals that of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time

import psutil
import pytest
from conftest import Note
from lab import Lab, answer, wait_for
from runs import Run

Undisturbed = tuple[Run, str]
pytestmark = pytest.mark.slurm_long


def ended(lab: Lab, job: str) -> str:
    """Wait for the end of a job: its state."""
    wait_for(lambda: job not in lab.live_jobs(), f"the end of job {job}")
    return lab.jobs()[job]


def test_a_time_limit_in_the_middle_of_training(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    # However fast this machine is, the limit falls into training: it stands still until Slurm
    # ends it, by SIGCONT and SIGTERM. And however slow it is, the next attempt has time.
    run.trainer().suspend()
    answer("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    assert ended(lab, job) == "TIMEOUT"
    assert "ended by SIGTERM; the same command goes on from" in run.log()
    assert run.finish(driver) == 0, run.output()
    assert "going on from a checkpoint at step" in run.log()
    assert run.results() == undisturbed[0].results()
    note(
        "time limit in the middle of training",
        "state TIMEOUT; the job's log ends with a checkpoint",
        "nothing: the run itself tries again, three times (`retries`)",
        "goes on from the checkpoint; equal records",
    )


def test_a_memory_limit(lab: Lab, undisturbed: Undisturbed, run: Run, note: Note) -> None:
    run.edit_profile((r"mem_mb: 2000", "mem_mb: 200 * attempt ** 4"))
    output = run.do(run.literal("records"))
    states = lab.jobs("train", run.folder).values()
    assert "Error in rule train" in output
    assert {"FAILED", "OUT_OF_MEMORY"} & set(states)
    assert run.results() == undisturbed[0].results()
    logs = (run.folder / ".snakemake/slurm_logs/rule_train").rglob("*.log")
    assert any("memory" in log.read_text().lower() for log in logs)
    note(
        "memory limit",
        "state OUT_OF_MEMORY or FAILED; the cause stands in the job's Slurm log",
        "nothing: the next attempt asks for more",
        "equal records",
    )


def test_pre_emption(lab: Lab, undisturbed: Undisturbed, run: Run, note: Note) -> None:
    run.edit_profile((r"slurm_partition: gpu # EDIT 3", "slurm_partition: low # EDIT 3"))
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    words = ("--parsable", "--partition=gpu", "--gpus=2", "--output=/dev/null", "--wrap=sleep 20")
    answer("sbatch", *words)
    wait_for(lambda: lab.detail(job)["Restarts"] == "1", "the job to be queued again")
    assert run.finish(driver) == 0, run.output()
    assert "going on from a checkpoint at step" in run.log()
    assert lab.jobs()[job] == "COMPLETED"  # the same job
    assert run.results() == undisturbed[0].results()
    note(
        "pre-emption in the middle of training",
        "the job is PENDING again, under its old number",
        "nothing: Slurm starts it again (`slurm-requeue`)",
        "goes on from the checkpoint; equal records",
    )


def test_kill_9_of_the_driver_and_cancelled_jobs(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    run.kill(driver)
    run.trainer().suspend()  # it would not end by itself
    output = run.do(run.resume("CANCEL=1", "ARGS=records"))
    assert lab.jobs()[job] == "CANCELLED"
    assert re.search(rf"cancelled Slurm jobs of a killed run; .*\b{job} \(rule_train_", output)
    assert "going on from a checkpoint at step" in run.log()
    assert run.results() == undisturbed[0].results()
    note(
        "`kill -9` of the driver, jobs cancelled",
        "as above",
        "`make resume TIER=... PROFILE=slurm CANCEL=1`",
        "cancels the jobs; new ones go on from their checkpoints; equal records",
    )


def test_slurmd_is_killed_and_started_again(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    lab.kill_node()
    lab.start_node()
    assert run.finish(driver) == 0, run.output()
    assert ended(lab, job) == "COMPLETED"
    assert run.results() == undisturbed[0].results()
    note(
        "`kill -9` of slurmd, started again",
        "nothing: the job goes on meanwhile",
        "nothing",
        "equal records",
    )


def test_the_node_is_lost(lab: Lab, undisturbed: Undisturbed, run: Run, note: Note) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    lab.lose_node()
    # Slurm finds out after SlurmdTimeout; meanwhile the job looks as if it ran.
    wait_for(lambda: lab.detail(job)["Restarts"] == "1", "the job to be queued again")
    lab.start_node()
    assert run.finish(driver) == 0, run.output()
    assert "going on from a checkpoint at step" in run.log()
    assert run.results() == undisturbed[0].results()
    note(
        "the node is lost",
        "the job is PENDING again once Slurm has noticed (SlurmdTimeout)",
        "nothing: Slurm starts it again on another node (`slurm-requeue`)",
        "goes on from the last checkpoint by time; equal records",
    )


def test_the_controller_is_away_for_a_minute(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    driver = run.start(run.literal("records"))
    run.wait_for_training(lab)
    lab.kill_controller()
    refused = subprocess.run(["squeue"], capture_output=True, text=True, timeout=120)
    assert refused.returncode != 0
    time.sleep(60)
    lab.start_controller()
    with contextlib.suppress(psutil.TimeoutExpired):  # see docs/slurm.md: it may wait for ever
        driver.wait(timeout=120)
    run.do(run.resume("STOP=1", "ARGS=records"))
    assert run.results() == undisturbed[0].results()
    note(
        "the controller is away for a minute",
        "squeue fails; what is submitted meanwhile fails, and is tried again; a driver that got no "
        "answer may wait for ever",
        "`make resume TIER=... PROFILE=slurm STOP=1`, which ends a driver that waits",
        "equal records",
    )


def test_a_job_that_cannot_succeed(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    config = run.folder / "config/test.yaml"
    good = config.read_text()
    config.write_text(
        good
        + "  wild: {method: single_adapter, settings: {reduction: 4}, training: {lr: 1.0e30}}\n"
    )
    run.edit_profile((r"retries: 3", "retries: 0"))
    assert run.finish(run.start(run.literal("records"))) == 1
    assert "training diverged" in run.log("embedded/sentiment/wild")
    assert run.results() == undisturbed[0].results()
    config.write_text(good)
    run.do(run.literal("records"))
    note(
        "a job that cannot succeed",
        "Snakemake names it and its log, and ends with status 1",
        "correct the config, then the command again",
        "all other records are there, and stay",
    )
