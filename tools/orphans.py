"""Deal with the Slurm jobs of a Snakemake that was killed, before another one starts.

    .venv/bin/python tools/orphans.py [--cancel] [FOLDER]

Slurm jobs outlive their driver. Another driver would submit a second job for what they are still
writing, so they come first: those that run are waited for, as they have their node and their
results count; those that wait in the queue are cancelled, as the next driver submits them anew.
With `--cancel` the running ones are cancelled too: training then writes a checkpoint, from which
the next job goes on.

Which jobs are meant: all of this user that the executor plugin of Snakemake submitted from this
folder, whichever run that was. Its jobs carry a comment `rule_...`; the name alone, a number that
is new in each run, would find only jobs of a run whose log is still there.

Exit status 1 where a Snakemake is alive here (its jobs are no orphans), else 0.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import unlock

WITHOUT = "`make resume` without PROFILE goes on without Slurm"

SECONDS = 5.0
"""Between two looks at the queue."""


class QueueError(Exception):
    """Slurm does not answer; the message is its own."""


@dataclass(frozen=True)
class SlurmJob:
    """A job in the queue.

    Attributes:
        number: its id.
        state: PENDING, RUNNING, COMPLETING and so on.
        rule: the rule and what it makes, as the comment has it.
    """

    number: str
    state: str
    rule: str


def main(folder: Path, cancel: bool = False) -> int:
    """Return when no Slurm job of a killed run is left in `folder`: the exit status."""
    if shutil.which("squeue") is None:
        return 0
    locks = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if reason := unlock.why_live(folder, locks):
        say(folder, reason)
        return 1
    told: object = None
    while True:
        try:
            jobs = orphans(folder)
            news = tell(jobs, cancel)
            if jobs:
                # Slurm itself looks at the state, so a job that starts meanwhile is let run.
                numbers = [job.number for job in jobs]
                ask("scancel", *([] if cancel else ["--state=PENDING"]), *numbers)
        except QueueError as error:
            jobs, news = [], f"waiting for Slurm, which does not answer: {error} ({WITHOUT})"
        else:
            if not jobs and not submitting(folder):
                return 0
        if news and news != told:
            say(folder, news)
            told = news
        time.sleep(SECONDS)


def orphans(folder: Path) -> list[SlurmJob]:
    """The jobs in the queue that a Snakemake submitted from `folder`."""
    return list(parse(ask("squeue", "--me", "--noheader", "--format=%i|%T|%Z|%k"), folder))


def parse(text: str, folder: Path) -> Iterator[SlurmJob]:
    """The jobs of `folder` in the answer of squeue: id, state, folder, comment a line."""
    for line in text.splitlines():
        number, _, rest = line.partition("|")
        state, _, rest = rest.partition("|")
        where, _, comment = rest.rpartition("|")  # a folder's name may have a bar, not a comment
        if comment.startswith(("rule_", "group_")) and same(Path(where), folder):
            yield SlurmJob(number, state, comment)


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def submitting(folder: Path) -> bool:
    """Whether an `sbatch` that the dead driver started is not through yet."""
    for process in psutil.process_iter():
        try:
            if process.name() == "sbatch" and same(Path(process.cwd()), folder):
                return True
        except (psutil.Error, OSError):
            continue  # gone, or another user's
    return False


def tell(jobs: list[SlurmJob], cancel: bool) -> str:
    """What is waited for, in a line; nothing where there is nothing."""
    running = [job for job in jobs if job.state != "PENDING"]
    names = ", ".join(f"{job.number} ({job.rule})" for job in running)
    if not names:
        return "cancelled jobs that a killed run left in the queue" if jobs else ""
    if cancel:
        return f"cancelled Slurm jobs of a killed run; waiting for their end: {names}"
    return (
        f"waiting for Slurm jobs of a killed run: {names}. They may be cancelled "
        "(make resume ... CANCEL=1); training goes on from its checkpoint"
    )


def ask(*words: str) -> str:
    """The answer of a program of Slurm.

    Raises:
        QueueError: there was none.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise QueueError(f"{words[0]}: no answer in two minutes") from None
    # scancel fails for a job that has just ended.
    if done.returncode != 0 and words[0] != "scancel":
        raise QueueError(" ".join(done.stderr.split()) or f"{words[0]} failed")
    return done.stdout


def say(folder: Path, text: str) -> None:
    print(f"{folder}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cancel", action="store_true", help="cancel running jobs too")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("."))
    args = parser.parse_args()
    sys.exit(main(args.folder.resolve(), args.cancel))
