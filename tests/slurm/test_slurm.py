"""The literal command of the README on a real Slurm, and the two faults that come most often."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from conftest import Note
from lab import Lab, LabError, wait_for
from runs import LONG, Run

Undisturbed = tuple[Run, str]


def test_there_is_one_lab_at_a_time(lab: Lab) -> None:
    with pytest.raises(LabError, match="another test run has a Slurm up"):
        Lab().start()
    assert lab.jobs() is not None  # the first one is as it was


def test_the_literal_command_ends_with_the_report(lab: Lab, undisturbed: Undisturbed) -> None:
    run, output = undisturbed
    assert "<html" in (run.folder / "report/index.html").read_text()
    assert len(run.results()) == 6
    assert "100%" in output
    for job in lab.jobs("train", run.folder):
        # As the profile says, though `--cores all` of this machine may be less.
        assert lab.detail(job)["CPUs/Task"] == "4"


def test_only_rules_that_train_see_a_gpu(undisturbed: Undisturbed) -> None:
    run, _ = undisturbed
    verbs = Counter(verb for verb, _, _ in run.seen())
    assert verbs["train"] == 2
    for verb, job, gpus in run.seen():
        if verb == "train":
            assert job.isdigit() and gpus in ("0", "1")
        else:
            assert gpus == "none", f"{verb} sees GPUs"
        if verb in ("cells", "data", "report"):
            assert job == "local"  # a moment each, or they need the network


def test_a_cancelled_job_goes_on(lab: Lab, undisturbed: Undisturbed, run: Run, note: Note) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    lab.cancel(job)
    wait_for(lambda: job not in lab.live_jobs(), "the end of the job")
    assert lab.jobs()[job] == "CANCELLED"
    assert "ended by SIGTERM; the same command goes on from" in run.log()
    assert run.checkpoint().exists()
    assert run.finish(driver) == 0, run.output()
    assert "going on from a checkpoint at step" in run.log()
    assert run.results() == undisturbed[0].results()
    note(
        "`scancel` of a training job",
        "state CANCELLED; the job's log ends with a checkpoint",
        "nothing: the run itself tries again",
        "goes on from the checkpoint; equal records",
    )


def test_after_kill_9_of_the_driver(
    lab: Lab, undisturbed: Undisturbed, run: Run, note: Note
) -> None:
    driver = run.start(run.literal("records"))
    job = run.wait_for_training(lab)
    run.kill(driver)
    assert job in lab.live_jobs()
    output = run.do(run.resume("ARGS=records"))
    assert re.search(rf"waiting for Slurm jobs of a killed run: .*\b{job} \(rule_train_", output)
    assert "removed the lock" in output
    assert run.results() == undisturbed[0].results()
    # What was being written was waited for, and not made again.
    assert sum(verb == "train" for verb, _, _ in run.seen()) == 2
    assert "going on from" not in run.log(LONG)
    note(
        "`kill -9` of the driver",
        "the folder is locked; its Slurm jobs go on",
        "`make resume TIER=... PROFILE=slurm`",
        "waits for the jobs that run, then submits what is missing; equal records",
    )
