"""The verb `train`, and what it shares with the other verbs that train."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from xpeft.cli.parts import TERMINATED, Args, Verbs, add_file, add_verb, say
from xpeft.errors import ConfigError


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verb = add_verb(
        verbs,
        "train",
        "Train the seeds of a job and write their records; goes on from a checkpoint.",
        _train,
        "J=embedded/sentiment/x_peft-soft-n100\n"
        "xpeft train --job results/quick/jobs/$J.json --data results/quick/data/embedded/sentiment "
        "--out results/quick/records/$J --tuning results/quick/tuning/$J.json "
        "--work results/quick/work/$J",
    )
    add_job(verb)
    add_file(verb, "--out", "folder of the job's records", metavar="DIR", required=True)
    add_file(verb, "--tuning", "file for what tuning tried and chose", required=True)
    verb.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="instead of the job's; --tuning is then read, and the job tuned again without it",
    )
    add_file(verb, "--bank", "folder of the bank, for a job over a stored one", metavar="DIR")
    add_file(verb, "--work", "folder of checkpoints, for a later run", metavar="DIR", required=True)
    add_device(verb)


def add_job(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verbs that do a job."""
    add_file(verb, "--job", "job file, from xpeft cells", required=True)
    add_file(verb, "--data", "prepared folder, from xpeft data", metavar="DIR", required=True)


def add_device(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verbs that train."""
    verb.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto is CUDA where there is one (default: %(default)s)",
    )
    verb.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: what the job says)"
    )


def run_training(args: Args, job: Any, run: Callable[..., None]) -> int:
    """Call `run(job, device=, threads=)` in a process that is set up for it.

    SIGTERM ends it with a checkpoint, from which the same command goes on.
    """
    import logging

    threads = args.threads if args.threads is not None else job.threads
    if threads < 1:
        raise ConfigError(f"--threads: found {threads}, expected at least 1")
    # Libraries read these when they are imported; more threads than torch uses change nothing
    # but the load of the machine.
    os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    from xpeft.fitting import Interrupted

    try:
        run(job, device=device_of(args.device), threads=threads)
    except Interrupted:
        say(f"ended by SIGTERM; the same command goes on from {args.work}")
        return TERMINATED
    return 0


def device_of(name: str) -> str:
    """The device that a choice of --device means."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _train(args: Args) -> int:
    from xpeft.job import Job

    def run(job: Job, **options: Any) -> None:
        from xpeft.trainer import train_job

        train_job(
            job,
            args.data,
            args.out,
            args.tuning,
            args.work,
            bank_dir=args.bank,
            seeds=args.seeds,
            **options,
        )

    return run_training(args, Job.read(args.job), run)
