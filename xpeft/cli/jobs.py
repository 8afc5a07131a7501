"""The verbs before a run: `plan`, `stage`, `cells`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpeft.cli.parts import Args, Verbs, add_file, add_verb
from xpeft.errors import ConfigError


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    for one in (_add_plan, _add_stage, _add_cells):
        one(verbs)


def _add_plan(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "plan",
        "Say how many jobs a config means, their hours, memory and disk, before it is run.",
        _plan,
        "xpeft plan config/paper.yaml",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config, a YAML file")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_stage(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "stage",
        "Fetch encoder and data of a config once, so that its jobs run without a network.",
        _stage,
        "HF_HOME=/scratch/hub xpeft stage config/paper.yaml",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config, a YAML file")


def _add_cells(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "cells",
        "Resolve a config into its jobs, one JSON file each.",
        _cells,
        "xpeft cells --config config/quick.yaml\n"
        "xpeft cells --config config/quick.yaml --out results/quick/jobs",
    )
    source = verb.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="config, a YAML file")
    source.add_argument("--job", metavar="JSON", help="one job as JSON, instead of a config")
    source.add_argument("--index", metavar="JSON", help="job names and their seeds as JSON")
    add_file(
        verb,
        "--out",
        "folder of the job files (file, for --job and --index); one that does not change keeps "
        "its time; without it the jobs are listed",
        metavar="PATH",
    )


def _plan(args: Args) -> None:
    import json

    from xpeft.config import read_yaml
    from xpeft.estimate import plan_json, plan_text
    from xpeft.workflow import Plan

    plan = Plan.make(read_yaml(args.config), str(args.config))
    print(json.dumps(plan_json(plan), indent=1) if args.json else plan_text(plan))


def _stage(args: Args) -> None:
    from xpeft.config import load_config
    from xpeft.stage import stage

    for line in stage(load_config(args.config)):
        print(line, flush=True)


def _cells(args: Args) -> None:
    from xpeft.cells import job_index, job_path, make_jobs, more_seeds, write_job
    from xpeft.cohorts.grid import make_cohort_grid
    from xpeft.config import load_config
    from xpeft.io import write_json
    from xpeft.job import AnyJob, CohortJob, Job, job_from_dict

    if args.config is None and args.out is None:
        raise ConfigError("--out: found nothing, expected the file to write")
    if args.job is not None:
        write_job(args.out, job_from_dict(_json("--job", args.job)))
    elif args.index is not None:
        write_json(args.out, _json("--index", args.index))
    else:
        config = load_config(args.config)
        grid = make_cohort_grid(config, str(args.config))
        scored: list[Job | CohortJob] = [*make_jobs(config, str(args.config)), *grid.jobs.values()]
        jobs: list[AnyJob] = [*scored, *grid.donors.values()]
        written = [job for job in jobs if args.out and write_job(job_path(args.out, job), job)]
        index = job_index(scored, more_seeds(config))
        for name, seeds in index.items() if args.out is None else []:
            print(f"{name}  seeds {' '.join(map(str, seeds))}")
        cells = sum(map(len, index.values()))
        changed = "" if args.out is None else f"; {len(written)} files written to {args.out}"
        print(f"{len(scored)} jobs, {cells} cells{changed}")


def _json(flag: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{flag}: expected JSON: {error}") from None
