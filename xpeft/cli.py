"""The command line: one verb for each step from a config to the report.

A verb parses its arguments and calls one function of the library. Heavy imports stand inside the
verbs, so that `xpeft --help` is instant and training needs nothing of the report.

Exit status: 0 done; 1 `verify` found a difference; 2 an error that the user can act on, told on
one line; 130 interrupted; 143 ended by SIGTERM. A traceback is a bug.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xpeft.errors import ConfigError, XpeftError

Args = argparse.Namespace
Run = Callable[[Args], int | None]
Verbs = Any  # argparse's type for a group of subparsers is private

INTERRUPTED, TERMINATED, ERROR, DIFFERS = 130, 143, 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        args = parser().parse_args(argv)
        return args.run(args) or 0
    except XpeftError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "xpeft").startswith("xpeft"):
            raise
        return _fail(f"this needs the package {error.name}: pip install 'xpeft[suite]'")
    except BrokenPipeError:  # `xpeft ledger | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except _Terminated:
        _say("ended by SIGTERM")
        return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    """SIGTERM came: unwinds the stack, so that half-written files are removed."""


def _terminate(number: int, frame: Any) -> None:
    raise _Terminated


def _fail(message: str) -> int:
    _say(f"error: {' '.join(message.split())}")
    return ERROR


def _say(message: str) -> None:
    print(f"xpeft: {message}", file=sys.stderr)


# --------------------------------------------------------------------------------- parser


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="xpeft",
        description="Profiles as masks over a frozen bank of adapters (X-PEFT).",
        epilog="xpeft VERB --help shows an example of each verb. To run a whole tier: make report",
    )
    from xpeft import cli_cohort, cli_profiles

    top.add_argument("--version", action=_Version, nargs=0, help="version and git state, then exit")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (
        _add_plan,
        _add_stage,
        _add_cells,
        _add_data,
        _add_bank,
        _add_train,
        cli_cohort.add,
        cli_profiles.add,
        _add_ledger,
        _add_examples,
        _add_summary,
        _add_claims,
        _add_figures,
        _add_tables,
        _add_papers,
        _add_report,
        _add_verify,
        _add_config,
    ):
        add(verbs)
    return top


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from xpeft.version import version_text

        print(version_text())
        parser.exit()


def add_verb(verbs: Verbs, name: str, text: str, run: Run, example: str) -> argparse.ArgumentParser:
    """A verb with its one-line text and an example for `--help`."""
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    added: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def add_group(verbs: Verbs, name: str, text: str) -> Verbs:
    """A verb that has verbs of its own."""
    added = verbs.add_parser(name, help=text, description=text)
    return added.add_subparsers(title="verbs", metavar="VERB", required=True)


def add_file(add: argparse.ArgumentParser, flag: str, text: str, **options: Any) -> None:
    """An argument that is a path."""
    add.add_argument(flag, type=Path, metavar=options.pop("metavar", "FILE"), help=text, **options)


# ---------------------------------------------------------------------------------- cells


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


def _plan(args: Args) -> None:
    import json

    from xpeft.config import read_yaml
    from xpeft.estimate import plan_json, plan_text
    from xpeft.workflow import Plan

    plan = Plan.make(read_yaml(args.config), str(args.config))
    print(json.dumps(plan_json(plan), indent=1) if args.json else plan_text(plan))


def _add_stage(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "stage",
        "Fetch encoder and data of a config once, so that its jobs run without a network.",
        _stage,
        "HF_HOME=/scratch/hub xpeft stage config/paper.yaml",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config, a YAML file")


def _stage(args: Args) -> None:
    from xpeft.config import load_config
    from xpeft.stage import stage

    for line in stage(load_config(args.config)):
        print(line, flush=True)


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


def _cells(args: Args) -> None:
    from xpeft.cells import job_index, job_path, make_jobs, write_job
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
        for name, seeds in job_index(scored).items() if args.out is None else []:
            print(f"{name}  seeds {' '.join(map(str, seeds))}")
        cells = sum(len(job.seeds) for job in scored)
        changed = "" if args.out is None else f"; {len(written)} files written to {args.out}"
        print(f"{len(scored)} jobs, {cells} cells{changed}")


def _json(flag: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{flag}: expected JSON: {error}") from None


# ----------------------------------------------------------------------------------- data


def _add_data(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "data",
        "Check the rows of a task or cohort and write its prepared folder.",
        _data,
        "xpeft data --task glue/sst2 --source local --path data --max-train-rows 10000 "
        "--out results/small/data/glue/sst2\n"
        "xpeft data --task embedded/sentiment --source embedded --out /tmp/sentiment\n"
        "xpeft data --task profiles/md_agreement --source local --path data --out /tmp/md",
    )
    verb.add_argument("--task", required=True, metavar="SUITE/TASK", help="as in glue/sst2")
    verb.add_argument(
        "--source", required=True, choices=("embedded", "local", "hub"), help="where the rows are"
    )
    add_file(verb, "--path", "data folder of the source local", metavar="DIR")
    verb.add_argument("--max-train-rows", type=int, metavar="N", help="keep at most N of them")
    verb.add_argument("--train-rows", type=int, metavar="N", help="embedded: training rows")
    verb.add_argument("--validation-rows", type=int, metavar="N", help="embedded: validation rows")
    verb.add_argument(
        "--authors", type=int, metavar="N", help="embedded_authors: authors; the rows are of each"
    )
    verb.add_argument("--noise", type=float, metavar="X", help="embedded: share of flipped labels")
    verb.add_argument("--seed", type=int, metavar="N", help="embedded: seed of the sentences")
    verb.add_argument("--folds", type=int, metavar="N", help="profiles: folds of the sheet")
    add_file(verb, "--sheet", "profiles: a sheet to take instead of making one")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _data(args: Args) -> None:
    if args.task.startswith("profiles/"):
        _data_cohort(args)
        return
    from xpeft.data.prepare import prepare
    from xpeft.data.prepared import load_prepared
    from xpeft.data.sources import EmbeddedSource, Source, make_source
    from xpeft.data.specs import get_task

    suite, _, task = args.task.partition("/")
    names = ("train_rows", "validation_rows", "noise", "seed")
    _refuse(args, ("authors", "folds", "sheet"), "only suite profiles has it")
    options = {name: value for name in names if (value := getattr(args, name)) is not None}
    source: Source = make_source(args.source, args.path)
    if options:
        if args.source != "embedded":
            flag = next(iter(options)).replace("_", "-")
            raise ConfigError(f"--{flag}: only the source embedded has it, found {args.source}")
        source = EmbeddedSource(**options)
    out = prepare(get_task(suite, task), source, args.out, max_train_rows=args.max_train_rows)
    meta = load_prepared(out).meta
    print(
        f"{args.task}: {meta.rows['train']} of {meta.rows_available['train']} training rows, "
        f"{meta.rows['validation']} validation rows, from {meta.source}"
    )


def _data_cohort(args: Args) -> None:
    from xpeft.data.cohort import load_cohort
    from xpeft.data.cohort_prepare import prepare_cohort
    from xpeft.data.cohort_specs import get_cohort
    from xpeft.data.embedded_authors import EmbeddedAuthors

    spec = get_cohort(args.task.partition("/")[2])
    _refuse(args, ("max_train_rows",), "suite profiles does not have it")
    source: Path | EmbeddedAuthors
    fields = {"authors": "authors", "train_rows": "train_rows", "validation_rows": "test_rows"}
    fields |= {"noise": "noise", "seed": "seed"}
    if args.source == "embedded":
        _refuse(args, ("path",), "source embedded does not have it")
        given = {name: getattr(args, flag) for flag, name in fields.items()}
        source = EmbeddedAuthors(
            **{name: value for name, value in given.items() if value is not None}
        )
    else:
        _refuse(args, tuple(fields), "only source embedded has it")
        if args.source == "hub":
            raise ConfigError("--source: found hub, expected local or embedded for suite profiles")
        if args.path is None:
            raise ConfigError("--path: found nothing, expected the data folder")
        source = args.path
    cohort = load_cohort(prepare_cohort(spec, source, args.out, sheet=args.sheet, folds=args.folds))
    meta = cohort.meta
    targets = sum(len(cohort.targets(fold)) for fold in cohort.folds)
    print(
        f"{args.task}: {meta.profiles} profiles, {targets} of them targets in {len(cohort.folds)} "
        f"folds, {meta.rows['train']} training rows, {meta.rows['test']} test rows, "
        f"from {meta.source}"
    )
    for reason, number in meta.left_out.items():
        print(f"left out: {number} x {reason}")


def _refuse(args: Args, names: tuple[str, ...], why: str) -> None:
    """Raise a ConfigError if an option is given that means nothing here."""
    for name in names:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: {why}; drop it")


# ----------------------------------------------------------------------------------- bank


def _add_bank(verbs: Verbs) -> None:
    group = add_group(verbs, "bank", "Make, inspect, import and export banks of adapters.")
    verb = add_verb(
        group,
        "random",
        "Write an untrained bank: its seed and shape, not its weights.",
        _bank_random,
        "xpeft bank random --encoder all-MiniLM-L6-v2 --n 100 --out banks/random100",
    )
    verb.add_argument("--encoder", required=True, help="name of an encoder, or its config.json")
    verb.add_argument("--n", type=int, default=100, help="adapters (default: %(default)s)")
    verb.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    verb.add_argument("--reduction", type=int, default=16, help="d / b (default: %(default)s)")
    verb.add_argument(
        "--init", choices=("uniform", "signed"), default="uniform", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--down-std", type=float, default=0.02, metavar="X", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--up-std", type=float, default=0.02, metavar="X", help="(default: %(default)s)"
    )
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    verb = add_verb(
        group,
        "info",
        "Show what a bank's manifest says, without reading its weights.",
        _bank_info,
        "xpeft bank info banks/random100",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb = add_verb(
        group,
        "verify",
        "Read a bank and compare its digest with its manifest.",
        _bank_verify,
        "xpeft bank verify banks/random100",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb = add_verb(
        group,
        "import",
        "Make a bank of AdapterHub folders, one adapter each.",
        _bank_import,
        "xpeft bank import adapters/sst2 adapters/rte --out banks/imported",
    )
    verb.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="AdapterHub folders")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    verb = add_verb(
        group,
        "export",
        "Write one adapter of a bank as a folder that AdapterHub loads.",
        _bank_export,
        "xpeft bank export banks/imported --adapter 0 --name sst2 "
        "--model-name bert-base-uncased --out adapters/sst2",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb.add_argument("--adapter", type=int, required=True, metavar="I", help="number, from 0")
    verb.add_argument("--name", required=True, help="name of the adapter")
    verb.add_argument("--model-name", required=True, help="encoder that it belongs to")
    verb.add_argument("--model-type", default="bert", help="its family (default: %(default)s)")
    add_file(verb, "--out", "folder to write", metavar="FOLDER", required=True)

    verb = add_verb(
        group,
        "pool",
        "Tune the adapters of one source task, all at once; goes on from a checkpoint.",
        _bank_pool,
        "xpeft bank pool --job results/small/jobs/pools/glue/rte.json "
        "--data results/small/data/glue/rte --out results/small/pools/glue/rte "
        "--work results/small/work/pools/glue/rte",
    )
    add_job(verb)
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    add_file(verb, "--work", "folder of checkpoints, for a later run", metavar="DIR", required=True)
    add_device(verb)
    verb = add_verb(
        group,
        "trained",
        "Make a bank of the adapters of some pools, taken in turn.",
        _bank_trained,
        "xpeft bank trained results/small/pools/glue/rte results/small/pools/glue/mrpc --n 20 "
        "--out banks/pairs",
    )
    verb.add_argument("pools", type=Path, nargs="+", metavar="POOL", help="folders of pools")
    verb.add_argument("--n", type=int, required=True, help="adapters of the bank")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _bank_random(args: Args) -> None:
    from xpeft.shapes import encoder_shape

    shape = encoder_shape(args.encoder)
    if args.reduction < 1 or shape.width % args.reduction:
        raise ConfigError(
            f"--reduction: found {args.reduction}, expected a divisor of the width {shape.width}"
        )
    from xpeft.bank import random_bank, save_bank

    bank = random_bank(
        shape.layers,
        args.n,
        shape.width,
        shape.width // args.reduction,
        seed=args.seed,
        init=args.init,
        down_std=args.down_std,
        up_std=args.up_std,
    )
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_info(args: Args) -> None:
    import json

    from xpeft.io import read_json

    print(json.dumps(read_json(args.bank / "manifest.json"), indent=1, sort_keys=True))


def _bank_verify(args: Args) -> None:
    from xpeft.bank import load_bank

    print(f"{args.bank}: ok, {_bank_text(load_bank(args.bank))}")


def _bank_import(args: Args) -> None:
    from xpeft.adapterhub import import_bank
    from xpeft.bank import save_bank

    bank = import_bank(args.folders)
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_export(args: Args) -> None:
    from xpeft.adapterhub import export_adapter
    from xpeft.bank import load_bank

    bank = load_bank(args.bank)
    if not 0 <= args.adapter < bank.n:
        raise ConfigError(f"--adapter: found {args.adapter}, expected 0 to {bank.n - 1}")
    export_adapter(
        bank.adapter(args.adapter),
        args.out,
        name=args.name,
        model_name=args.model_name,
        model_type=args.model_type,
        hidden_size=bank.width,
    )
    print(f"{args.out}: adapter {args.adapter} of {args.bank}")


def _bank_pool(args: Args) -> int:
    from xpeft.job import PoolJob

    def run(job: PoolJob, **options: Any) -> None:
        from xpeft.pool import train_pool

        train_pool(job, args.data, args.out, args.work, **options)

    return run_training(args, PoolJob.read(args.job), run)


def _bank_trained(args: Args) -> None:
    from xpeft.bank import save_bank
    from xpeft.pool import make_trained_bank

    bank = make_trained_bank(args.pools, args.n)
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_text(bank: Any) -> str:
    return (
        f"{bank.kind} bank, L={bank.layers} N={bank.n} d={bank.width} b={bank.bottleneck}, "
        f"sha256 {bank.digest}"
    )


# ---------------------------------------------------------------------------------- train


def _add_train(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "train",
        "Train all seeds of a job and write their records; goes on from a checkpoint.",
        _train,
        "J=embedded/sentiment/x_peft-soft-n100\n"
        "xpeft train --job results/quick/jobs/$J.json --data results/quick/data/embedded/sentiment "
        "--out results/quick/records/$J --tuning results/quick/tuning/$J.json "
        "--work results/quick/work/$J",
    )
    add_job(verb)
    add_file(verb, "--out", "folder of the job's records", metavar="DIR", required=True)
    add_file(verb, "--tuning", "file for what tuning tried and chose", required=True)
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
        _say(f"ended by SIGTERM; the same command goes on from {args.work}")
        return TERMINATED
    return 0


def _train(args: Args) -> int:
    from xpeft.job import Job

    def run(job: Job, **options: Any) -> None:
        from xpeft.trainer import train_job

        train_job(job, args.data, args.out, args.tuning, args.work, bank_dir=args.bank, **options)

    return run_training(args, Job.read(args.job), run)


def device_of(name: str) -> str:
    """The device that a choice of --device means."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# ----------------------------------------------------------------------- ledger to report


def _add_ledger(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "ledger",
        "Count the bytes of a profile, by formula and from files.",
        _ledger,
        "xpeft ledger --encoder bert-base-uncased --adapters 100\n"
        "xpeft ledger --encoder path/to/config.json --adapters 400 --k 200 --json",
    )
    verb.add_argument(
        "--encoder", required=True, help="name of an encoder, or its config.json; no weights"
    )
    verb.add_argument("--adapters", type=int, default=100, metavar="N", help="(default: 100)")
    verb.add_argument("--k", type=int, help="selected by a hard mask (default: half of N)")
    verb.add_argument("--classes", type=int, default=15, help="of a head (default: 15)")
    verb.add_argument("--reduction", type=int, default=16, help="d / b (default: 16)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_file(verb, "--out", "write the JSON to a file, and print only what --json asks for")


def _ledger(args: Args) -> None:
    import json

    from xpeft.io import write_json
    from xpeft.ledger import format_table, ledger
    from xpeft.shapes import encoder_shape

    account = ledger(
        encoder_shape(args.encoder),
        adapters=args.adapters,
        k=args.k,
        classes=args.classes,
        reduction=args.reduction,
    )
    if args.out is not None:
        write_json(args.out, account)
    if args.json:
        print(json.dumps(account, indent=1, sort_keys=True))
    elif args.out is None:
        print(format_table(account), end="")
    else:
        print(f"{args.out}: ledger of {args.encoder}, N = {args.adapters}")


def _add_examples(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "examples",
        "Compare methods example by example: bootstrap over validation rows, McNemar's test.",
        _examples,
        "T=results/small; xpeft examples --records $T/records --data $T/data "
        "--out $T/examples.json",
    )
    add_file(verb, "--records", "folder of the records", metavar="DIR", required=True)
    add_file(
        verb,
        "--data",
        "folder of prepared folders <suite>/<task>, from xpeft data; tasks that it lacks are named",
        metavar="DIR",
        required=True,
    )
    add_file(verb, "--cells", "index of the grid: other records are left out")
    add_file(verb, "--out", "file to write", required=True)


def _examples(args: Args) -> None:
    from xpeft.examples import write_examples

    found = write_examples(args.records, args.data, args.out, args.cells)
    pairs = sum(len(task["pairs"]) for task in found["tasks"])
    print(f"{args.out}: {pairs} comparisons on {len(found['tasks'])} tasks")
    for task in found["absent"]:
        print(f"{task}: left out, no prepared data in {args.data}")


def _add_summary(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "summary",
        "Merge the records of a tier into one file, with statistics.",
        _summary,
        "xpeft summary --records results/small/records --out results/small/summary.json",
    )
    add_file(verb, "--records", "folder of the records", metavar="DIR", required=True)
    add_file(
        verb, "--tuning", "folder of the tuning files (default: beside --records)", metavar="DIR"
    )
    add_file(verb, "--cells", "index of the grid: its records must be there, others are left out")
    add_file(verb, "--examples", "from xpeft examples: comparisons example by example")
    verb.add_argument(
        "--planned-hours", type=float, metavar="H", help="what xpeft plan estimated, to compare"
    )
    add_file(
        verb,
        "--partial",
        "folder of logs: cells without a record are listed, with what their log says",
        metavar="DIR",
    )
    add_file(verb, "--out", "file to write", required=True)


def _summary(args: Args) -> None:
    from xpeft.report.summary import write_summary

    write_summary(
        args.records,
        args.out,
        args.tuning,
        args.cells,
        examples=args.examples,
        logs_dir=args.partial,
        planned_hours=args.planned_hours,
    )


def _add_claims(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "claims",
        "Judge the claims against the records of a tier.",
        _claims,
        "xpeft claims --summary results/small/summary.json --ledger results/small/ledger.json "
        "--out results/small/claims.json",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--ledger", "from xpeft ledger; may be given several times", action="append")
    add_file(verb, "--claims", "claims as YAML (default: those of the package)")
    add_file(verb, "--out", "file to write", required=True)
    add_file(
        verb,
        "--markdown",
        "also write the verdicts as Markdown, with links to the folder records beside the summary",
    )


def _claims(args: Args) -> None:
    from xpeft.claims import CLAIMS_FILE, write_claims

    claims = write_claims(args.summary, args.out, args.ledger or (), args.claims or CLAIMS_FILE)
    if args.markdown:
        from xpeft.report.claims_page import write_claims_page

        write_claims_page(claims, args.markdown, Path(args.summary).parent / "records")


def _drawn(verbs: Verbs, name: str, text: str, run: Run, out: str) -> None:
    """A verb that draws something from the summary, ledger and claims of a tier."""
    verb = add_verb(
        verbs,
        name,
        text,
        run,
        f"T=results/small; xpeft {name} --summary $T/summary.json --ledger $T/ledger.json "
        f"--claims $T/claims.json --out {out}",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--ledger", "from xpeft ledger", required=True)
    add_file(verb, "--claims", "from xpeft claims", required=True)
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _add_figures(verbs: Verbs) -> None:
    text = "Draw the figures of a tier as SVG, PDF and PNG."
    _drawn(verbs, "figures", text, _figures, "figures/small")


def _figures(args: Args) -> None:
    from xpeft.report.figures import write_figures

    write_figures(args.summary, args.ledger, args.claims, args.out)


def _add_tables(verbs: Verbs) -> None:
    text = "Write the tables of a tier as CSV, Markdown and LaTeX."
    _drawn(verbs, "tables", text, _tables, "report/tables/small")


def _tables(args: Args) -> None:
    from xpeft.report.tables import write_tables

    write_tables(args.summary, args.ledger, args.claims, args.out)


def _add_papers(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "papers",
        "Write ARTIFACT.md and LICENSES.md: what is expected of each tier, claim and experiment.",
        _papers,
        "T=results/small; xpeft papers --summary $T/summary.json --claims $T/claims.json "
        "--config config/quick.yaml --config config/small.yaml --out .",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--claims", "from xpeft claims", required=True)
    add_file(verb, "--config", "a tier; may be given several times", action="append", required=True)
    add_file(verb, "--out", "folder to write to", metavar="DIR", required=True)


def _papers(args: Args) -> None:
    from xpeft.report.papers import write_papers

    write_papers(args.summary, args.claims, args.config, args.out)


def _add_report(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "report",
        "Write the report of one or more tiers as one self-contained HTML file.",
        _report,
        "xpeft report --tier results/quick --tier results/small --out report/index.html",
    )
    add_file(
        verb,
        "--tier",
        "folder with summary.json, ledger.json and claims.json; may be given several times",
        metavar="DIR",
        action="append",
        required=True,
    )
    add_file(
        verb, "--figures", "folder of the tiers' figures", metavar="DIR", default=Path("figures")
    )
    add_file(
        verb,
        "--tables",
        "folder of the tiers' tables",
        metavar="DIR",
        default=Path("report/tables"),
    )
    add_file(verb, "--out", "file to write", required=True)


def _report(args: Args) -> None:
    from xpeft.report.html import write_report

    write_report(args.tier, args.out, figures=args.figures, tables=args.tables)
    print(f"the report: {args.out}")


def _add_verify(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "verify",
        "Check committed records, and all that follows from them, against what is expected.",
        _verify,
        "xpeft verify config/small.yaml --data data\nxpeft verify config/small.yaml --update",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config of the tier, a YAML file")
    add_file(
        verb,
        "--folder",
        "folder of the tier (default: what the config says, as in results/small)",
        metavar="DIR",
    )
    add_file(
        verb, "--data", "data folder, hashed where it is there (default: the config's)",
        metavar="DIR",
    )  # fmt: skip
    verb.add_argument(
        "--update",
        action="store_true",
        help="write expected.json from the records as they are, instead of checking",
    )


def _verify(args: Args) -> int:
    from xpeft.config import read_yaml
    from xpeft.verify.checks import verify
    from xpeft.verify.expected import update_expected
    from xpeft.workflow import Plan

    plan = Plan.make(read_yaml(args.config), str(args.config))
    folder = args.folder or Path(plan.root)
    if args.update:
        print(update_expected(folder, plan.config["ledger"]))
        return 0
    findings = verify(plan, folder, args.data or Path(plan.config["data"]["path"] or "data"))
    print(findings.text())
    return DIFFERS if findings.differs else 0


# --------------------------------------------------------------------------------- config


def _add_config(verbs: Verbs) -> None:
    group = add_group(verbs, "config", "Check a config, show it in full, document its keys.")
    verb = add_verb(
        group,
        "validate",
        "Check configs against the schema and against themselves.",
        _config_validate,
        "xpeft config validate config/*.yaml",
    )
    verb.add_argument("configs", type=Path, nargs="+", metavar="FILE", help="configs, YAML files")
    verb = add_verb(
        group,
        "show",
        "Print a config with all its defaults, as JSON.",
        _config_show,
        "xpeft config show config/quick.yaml",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config, a YAML file")
    verb = add_verb(
        group,
        "docs",
        "Write configuration.md and cli.md, the generated part of the documentation.",
        _config_docs,
        "xpeft config docs --out docs",
    )
    add_file(verb, "--out", "folder to write to", metavar="DIR", required=True)


def _config_validate(args: Args) -> None:
    from xpeft.cells import make_jobs
    from xpeft.config import load_config

    for path in args.configs:
        jobs = make_jobs(load_config(path), str(path))
        print(f"{path}: ok, {len(jobs)} jobs, {sum(len(job.seeds) for job in jobs)} cells")


def _config_show(args: Args) -> None:
    import json

    from xpeft.config import load_config

    print(json.dumps(load_config(args.config), indent=1))


def _config_docs(args: Args) -> None:
    from xpeft.config import documentation
    from xpeft.io import write_text

    write_text(args.out / "configuration.md", documentation())
    write_text(args.out / "cli.md", cli_documentation())


def cli_documentation() -> str:
    """docs/cli.md, from the parser."""
    lines = [
        "# Command line",
        "",
        "<!-- Written by `xpeft config docs` from xpeft/cli.py. -->",
        "",
        "Every step of the workflow is a verb, and runs without Snakemake too. Exit status: 0",
        "done; 1 `verify` found a difference; 2 an error that you can act on, told on one line;",
        "130 interrupted; 143 ended by SIGTERM.",
        "",
    ]
    for name, verb in _subparsers(parser()):
        for full, leaf in _subparsers(verb, f"{name} ") or [(name, verb)]:
            lines += [f"## `xpeft {full}`", "", str(leaf.description), ""]
            example = str(leaf.epilog).removeprefix("example:\n").splitlines()
            lines += ["```sh", *(line.removeprefix("  ") for line in example), "```", ""]
            lines += ["| argument | meaning |", "| --- | --- |"]
            for action in leaf._actions:
                if not isinstance(action, argparse._HelpAction):
                    lines.append(f"| `{_usage(action)}` | {_help(action)} |")
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _subparsers(
    verb: argparse.ArgumentParser, prefix: str = ""
) -> list[tuple[str, argparse.ArgumentParser]]:
    for action in verb._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [(f"{prefix}{name}", below) for name, below in action.choices.items()]
    return []


def _usage(action: argparse.Action) -> str:
    metavar = action.metavar or "\\|".join(action.choices or ()) or action.dest.upper()
    if not action.option_strings:
        return f"{metavar}{'...' if action.nargs == '+' else ''}"
    return (
        action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {metavar}"
    )


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default}
    return f"{text} (required)".strip() if action.required and action.option_strings else text


if __name__ == "__main__":
    sys.exit(main())
