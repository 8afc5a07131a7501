"""`xpeft cohort`: donors, tuning, training and gathering for a set of profiles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpeft.cli.parts import Args, Verbs, add_file, add_group, add_verb
from xpeft.cli.train import add_device, add_job, run_training


def add(verbs: Verbs) -> None:
    """Add the verb and those below it."""
    group = add_group(verbs, "cohort", "Train the profiles of a cohort, all at once.")
    verb = add_verb(
        group,
        "donors",
        "Train what the donors leave to the targets of a fold: base and warm bank.",
        _donors,
        "R=results/quick; C=embedded_authors\n"
        "xpeft cohort donors --job $R/jobs/donors/$C/donors.json --data $R/data/profiles/$C "
        "--fold 0 --out $R/donors/$C/fold0 --work $R/work/donors/$C/fold0",
    )
    _common(verb)
    verb.add_argument("--fold", type=int, required=True, metavar="F", help="fold of the targets")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)

    verb = add_verb(
        group,
        "tune",
        "Choose among a job's trials on held-out training rows.",
        _tune,
        "R=results/quick; J=profiles/embedded_authors/bias\n"
        "xpeft cohort tune --job $R/jobs/$J.json --data $R/data/profiles/embedded_authors "
        "--donors $R/donors/embedded_authors/fold0 --out $R/tuning/$J.json --work $R/work/tune/$J",
    )
    _common(verb)
    _donors_folder(verb)
    add_file(verb, "--out", "tuning file to write", required=True)

    verb = add_verb(
        group,
        "train",
        "Train a part of the targets with all seeds; goes on from a checkpoint.",
        _train,
        "R=results/quick; J=profiles/embedded_authors/bias\n"
        "xpeft cohort train --job $R/jobs/$J.json --data $R/data/profiles/embedded_authors "
        "--donors $R/donors/embedded_authors/fold0 --tuning $R/tuning/$J.json --part 0/0/1 "
        "--out $R/parts/$J/0-0-1.json --work $R/work/$J/0-0-1",
    )
    _common(verb)
    _donors_folder(verb)
    add_file(verb, "--tuning", "file that tune wrote, for a job with trials")
    verb.add_argument(
        "--part",
        required=True,
        metavar="F/P/PARTS",
        help="fold, part and number of parts, as 0/1/4; `all` for a job of scope cohort",
    )
    add_file(verb, "--out", "file of the part", required=True)

    verb = add_verb(
        group,
        "gather",
        "Make a job's records of its parts.",
        _gather,
        "R=results/quick; J=profiles/embedded_authors/bias\n"
        "xpeft cohort gather --job $R/jobs/$J.json --data $R/data/profiles/embedded_authors "
        "--out $R/records/$J $R/parts/$J/*.json",
    )
    add_job(verb)
    verb.add_argument("parts", type=Path, nargs="+", metavar="PART", help="files of all parts")
    add_file(verb, "--out", "folder of the job's records", metavar="DIR", required=True)


def _common(verb: argparse.ArgumentParser) -> None:
    add_job(verb)
    add_file(verb, "--work", "folder of checkpoints, for a later run", metavar="DIR", required=True)
    add_device(verb)


def _donors_folder(verb: argparse.ArgumentParser) -> None:
    add_file(verb, "--donors", "folder that donors wrote, for jobs on a base", metavar="DIR")


def _donors(args: Args) -> int:
    from xpeft.job import DonorJob

    def run(job: DonorJob, **options: Any) -> None:
        from xpeft.cohorts.donors import train_donors

        train_donors(job, args.data, args.fold, args.out, args.work, **options)

    return run_training(args, DonorJob.read(args.job), run)


def _tune(args: Args) -> int:
    from xpeft.job import CohortJob

    def run(job: CohortJob, **options: Any) -> None:
        from xpeft.cohorts.training import tune_cohort

        tune_cohort(job, args.data, args.donors, args.out, args.work, **options)

    return run_training(args, CohortJob.read(args.job), run)


def _train(args: Args) -> int:
    from xpeft.job import CohortJob

    def run(job: CohortJob, **options: Any) -> None:
        from xpeft.cohorts.training import train_part

        train_part(
            job, args.data, args.donors, args.tuning, args.part, args.out, args.work, **options
        )

    return run_training(args, CohortJob.read(args.job), run)


def _gather(args: Args) -> None:
    from xpeft.cohorts.gather import gather
    from xpeft.job import CohortJob

    gather(CohortJob.read(args.job), args.data, args.parts, args.out)
