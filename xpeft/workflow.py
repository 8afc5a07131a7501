"""What the Snakefile asks: which jobs, which files, which arguments.

The rules hold no logic; they take their names from a `Plan`, which is made from the config and
imports neither torch nor Snakemake, so that a workflow of hundreds of jobs is parsed at once.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xpeft.cells import (
    job_index,
    job_name,
    job_text,
    make_jobs,
    make_pool_jobs,
    more_seeds,
    needs_trained_bank,
    record_paths,
    sources_of,
)
from xpeft.cohorts.grid import CohortGrid, make_cohort_grid, needs_donors
from xpeft.config import DATA_VARIABLE, Config, resolve_config
from xpeft.errors import ConfigError, DataError
from xpeft.io import canonical_json
from xpeft.job import Job, PoolJob
from xpeft.records import STEP_FILE
from xpeft.sizes import Need, Sizes, memory_request, time_request

NOTHING = "(?!)"
"""A pattern that matches no name."""


@dataclass(frozen=True)
class Plan:
    """The files of a workflow.

    Attributes:
        config: the resolved config.
        jobs: all jobs, by name `<suite>/<task>/<arm>`.
        pools: jobs of the pools that trained banks are made of, by source task.
        grid: donor and cohort jobs.
        evidence: name and record files of the tier that is shown beside this run; None if none.
    """

    config: Config
    jobs: dict[str, Job]
    pools: dict[str, PoolJob]
    grid: CohortGrid
    evidence: tuple[str, list[str]] | None

    @classmethod
    def make(cls, config: Mapping[str, Any], where: str = "config") -> Plan:
        """Check a config and plan its workflow.

        Raises:
            ConfigError: one line that names the key.
        """
        resolved = resolve_config(config, where)
        jobs = {job_name(job): job for job in make_jobs(resolved, where)}
        return cls(
            resolved,
            jobs,
            make_pool_jobs(resolved),
            make_cohort_grid(resolved, where),
            _evidence(resolved),
        )

    @property
    def tier(self) -> str:
        """Name of the tier that this workflow runs."""
        return str(self.config["tier"])

    @property
    def tiers(self) -> list[str]:
        """Names of the tiers that the report shows: this run's, then the evidence's."""
        return [self.tier] if self.evidence is None else [self.tier, self.evidence[0]]

    @property
    def results(self) -> str:
        """Folder of all tiers' results."""
        return str(self.config["results"])

    @property
    def root(self) -> str:
        """Folder of this run's results."""
        return f"{self.results}/{self.tier}"

    @property
    def index(self) -> str:
        """The grid in short, as JSON; see `xpeft.cells.job_index`."""
        return canonical_json(self.seeds)

    @property
    def seeds(self) -> dict[str, list[int]]:
        """The seeds of each job that is scored; see `xpeft.cells.job_index`."""
        return job_index([*self.jobs.values(), *self.grid.jobs.values()], self.more_seeds)

    @cached_property
    def more_seeds(self) -> dict[str, list[int]]:
        """The seeds that are trained apart from the others, by arm."""
        return more_seeds(self.config)

    @property
    def more(self) -> tuple[list[int], str]:
        """Those seeds, and what the names of their arms match; of no arm where there are none."""
        seeds = next(iter(self.more_seeds.values()), [0])  # all arms have the same
        return seeds, "|".join(map(re.escape, self.more_seeds)) or NOTHING

    @cached_property
    def further(self) -> dict[str, Job]:
        """The jobs that have such seeds, with these in place of their own, by name."""
        return {
            name: dataclasses.replace(job, seeds=tuple(self.more_seeds[job.arm]))
            for name, job in self.jobs.items()
            if job.arm in self.more_seeds
        }

    @property
    def gpus(self) -> int:
        """GPUs of a training job: one where the device is `cuda`; `auto` asks for none."""
        return int(self.config["device"] == "cuda")

    @cached_property
    def sizes(self) -> Sizes:
        """What the jobs of this config take."""
        return Sizes(self.config, self.grid.folds, self.grid.parts)

    def needs(self) -> Iterator[tuple[str, Need]]:
        """What every job that trains takes, with the name of its rule, in the order of the run."""
        sizes = self.sizes
        banks = {
            (f"{job.suite}/{job.task}", job.bank.n)
            for job in self.jobs.values()
            if job.bank is not None and needs_trained_bank(job)
        }
        if banks:
            yield from (("pool", sizes.pool(job)) for job in self.pools.values())
            yield from (("trained_bank", sizes.trained_bank(*bank)) for bank in sorted(banks))
        yield from (("train", sizes.train(job)) for job in self.jobs.values())
        yield from (("train_more", self._train_more(job)) for job in self.further.values())
        for donors in self.grid.donors.values():
            yield from (("donors", sizes.donors(donors)) for _ in range(self.grid.folds))
        for job in self.grid.jobs.values():
            if job.tuned:
                yield "cohort_tune", sizes.tune(job)
            yield from (("cohort_part", sizes.part(job)) for _ in self.grid.parts_of(job))

    @property
    def hours(self) -> float:
        """Of one device, over all jobs."""
        return sum(need.seconds for _, need in self.needs()) / 3600

    def need(self, rule: str, wildcards: Any) -> Need:
        """What the job of a rule and wildcards takes."""
        if rule == "trained_bank":
            return self.sizes.trained_bank(f"{wildcards.suite}/{wildcards.task}", int(wildcards.n))
        if rule in ("train", "train_more"):
            # of `train_more` with time for the trials, should it come before `train`
            jobs = self.jobs if rule == "train" else self.further
            return self.sizes.train(jobs[f"{wildcards.suite}/{wildcards.task}/{wildcards.arm}"])
        if rule == "pool":
            return self.sizes.pool(self.pools[f"{wildcards.suite}/{wildcards.task}"])
        if rule == "donors":
            return self.sizes.donors(self.grid.donors[wildcards.cohort])
        arm = self.grid.jobs[f"profiles/{wildcards.cohort}/{wildcards.arm}"]
        return self.sizes.tune(arm) if rule == "cohort_tune" else self.sizes.part(arm)

    def _train_more(self, job: Job) -> Need:
        """What one of `further` takes where the tuning is there, as it mostly is."""
        return self.sizes.train(dataclasses.replace(job, tuning=None))

    def hours_of(self, name: str, seeds: Collection[int]) -> float:
        """Of one device, for a job on a task: its first seeds, and further ones if in `seeds`."""
        needs = [self.sizes.train(self.jobs[name])]
        further = self.further.get(name)
        if further is not None and not set(seeds).isdisjoint(further.seeds):
            needs.append(self._train_more(further))
        return sum(need.seconds for need in needs) / 3600

    def memory(self, rule: str) -> Callable[..., int]:
        """The megabytes that a rule asks for, by wildcards and attempt."""

        def request(wildcards: Any, attempt: int) -> int:
            return memory_request(self.need(rule, wildcards), attempt)

        return request

    def minutes(self, rule: str) -> Callable[..., int]:
        """The minutes that a rule asks for, by wildcards and attempt."""

        def request(wildcards: Any, attempt: int) -> int:
            return time_request(self.need(rule, wildcards), attempt)

        return request

    def job_text(self, wildcards: Any) -> str:
        """The job file of the wildcards suite, task and arm."""
        name = f"{wildcards.suite}/{wildcards.task}/{wildcards.arm}"
        if wildcards.suite == "pools":
            return job_text(self.pools[f"{wildcards.task}/{wildcards.arm}"]).rstrip()
        if wildcards.suite == "donors":
            return job_text(self.grid.donors[wildcards.task]).rstrip()
        if wildcards.suite == "profiles":
            return job_text(self.grid.jobs[name]).rstrip()
        return job_text(self.jobs[name]).rstrip()

    def data_files(self, wildcards: Any) -> list[str]:
        """The local files that a task is prepared from; none for the other sources.

        A missing file is left to `xpeft data` to report.
        """
        if self.config["data"]["source"] != "local":
            return []
        from xpeft.data.sources import LocalSource
        from xpeft.data.specs import get_task

        spec = get_task(wildcards.suite, wildcards.task)
        source = LocalSource(self.config["data"]["path"])
        try:
            splits = (spec.train_split, spec.validation_split)
            return [str(source.find(spec, split)) for split in splits]
        except DataError:
            return []

    def data_arguments(self, wildcards: Any) -> str:
        """Arguments of `xpeft data` for a task, quoted for the shell."""
        data = self.config["data"]
        words = self._source(f"{wildcards.suite}/{wildcards.task}")
        if data["source"] == "embedded":
            for key, value in data["embedded"].items():
                words += [f"--{key.replace('_', '-')}", f"{value}"]
        default = data["max_train_rows"]
        limit = data["task_max_train_rows"].get(f"{wildcards.suite}/{wildcards.task}", default)
        if limit is not None:
            words += ["--max-train-rows", f"{limit}"]
        return shlex.join(words)

    def _source(self, task: str) -> list[str]:
        """The task and where its rows are.

        Raises:
            ConfigError: the data folder is gone, but the task was prepared from one: Snakemake
                would delete what it has before it finds that it cannot make it again.
        """
        data = self.config["data"]
        local = data["source"] == "local" or (
            data["source"] == "hub" and task.startswith("profiles/")  # the hub has no cohorts
        )
        words = ["--task", task, "--source", "local" if local else data["source"]]
        if not local:
            return words
        prepared = Path(self.root, "data", task)
        if (prepared / "meta.json").exists() and not Path(data["path"]).is_dir():
            raise ConfigError(
                f"data.path: found no folder {data['path']}, expected the one that {prepared} was "
                f"made from; set {DATA_VARIABLE} to it"
            )
        return [*words, "--path", data["path"]]

    def bank(self, wildcards: Any) -> list[str]:
        """The folder of the stored bank that a job needs; none for a random bank."""
        job = self.jobs[f"{wildcards.suite}/{wildcards.task}/{wildcards.arm}"]
        if job.bank is None or job.bank.kind == "random":
            return []
        if needs_trained_bank(job):
            return [f"{self.root}/banks/{wildcards.suite}/{wildcards.task}/n{job.bank.n}"]
        return [str(job.bank.path)]

    def bank_argument(self, wildcards: Any) -> str:
        """The argument of `xpeft train` for the stored bank, quoted for the shell."""
        return _option("--bank", self.bank(wildcards))

    def donors_argument(self, wildcards: Any) -> str:
        """The argument of `xpeft cohort` for the folder of donors, quoted for the shell."""
        return _option("--donors", self.donors(wildcards))

    def pool_folders(self, wildcards: Any) -> list[str]:
        """The pools that the trained banks of a task are made of."""
        sources = sources_of(self.config, f"{wildcards.suite}/{wildcards.task}")
        return [f"{self.root}/pools/{source}" for source in sources]

    def cohort_files(self, wildcards: Any) -> list[str]:
        """The local files that a cohort is prepared from; none for the embedded one.

        A missing file is left to `xpeft data` to report.
        """
        if self.config["data"]["source"] == "embedded":
            return []
        from xpeft.data.cohort_readers import cohort_files
        from xpeft.data.cohort_specs import get_cohort

        root = Path(self.config["data"]["path"])
        try:
            return [str(path) for path in cohort_files(get_cohort(wildcards.cohort), root)]
        except DataError:
            return []

    def cohort_arguments(self, wildcards: Any) -> str:
        """Arguments of `xpeft data` for a cohort, quoted for the shell."""
        data, cohorts = self.config["data"], self.config["cohorts"]
        words = [*self._source(f"profiles/{wildcards.cohort}"), "--folds", str(cohorts["folds"])]
        if data["source"] == "embedded":
            words += ["--authors", str(cohorts["authors"])]
        return shlex.join(words)

    def donors(self, wildcards: Any) -> list[str]:
        """The folders of donors that a cohort job needs: of its part's fold, or of the first."""
        job = self.grid.jobs[f"profiles/{wildcards.cohort}/{wildcards.arm}"]
        if not needs_donors(job):
            return []
        fold = getattr(wildcards, "part", "0").split("-")[0]
        return [f"{self.root}/donors/{wildcards.cohort}/fold{fold}"]

    def cohort_tuning(self, wildcards: Any) -> list[str]:
        """The tuning file of a cohort job; none for a job without trials."""
        job = self.grid.jobs[f"profiles/{wildcards.cohort}/{wildcards.arm}"]
        if not job.tuned:
            return []
        return [f"{self.root}/tuning/profiles/{wildcards.cohort}/{wildcards.arm}.json"]

    def tuning_argument(self, wildcards: Any) -> str:
        """The argument of `xpeft cohort train` for the tuning file, quoted for the shell."""
        return _option("--tuning", self.cohort_tuning(wildcards))

    def parts(self, wildcards: Any) -> list[str]:
        """The files of all parts of a cohort job."""
        job = self.grid.jobs[f"profiles/{wildcards.cohort}/{wildcards.arm}"]
        folder = f"{self.root}/parts/profiles/{wildcards.cohort}/{wildcards.arm}"
        return [f"{folder}/{part.replace('/', '-')}.json" for part in self.grid.parts_of(job)]

    @property
    def cohort_seeds(self) -> list[int]:
        """Seeds of the cohort jobs."""
        return list((self.config["cohorts"] or {"seeds": []})["seeds"])

    @property
    def ledger_arguments(self) -> str:
        """Arguments of `xpeft ledger`, quoted for the shell."""
        options = self.config["ledger"].items()
        return shlex.join([word for key, value in options for word in (f"--{key}", f"{value}")])

    def records(self, tier: str) -> list[str]:
        """The record files of a tier."""
        if self.evidence is not None and tier == self.evidence[0]:
            return self.evidence[1]
        paths = record_paths(f"{self.root}/records", self.seeds)
        return [path.as_posix() for path in paths]

    @property
    def missing(self) -> list[str]:
        """The record files of this run that are not there yet."""
        return [path for path in self.records(self.tier) if not Path(path).is_file()]

    @property
    def examples(self) -> list[str]:
        """The comparisons of this run example by example; none without tasks."""
        return [f"{self.root}/examples.json"] if self.jobs else []

    @property
    def examples_inputs(self) -> list[str]:
        """What they are made from: the records and the prepared data of all tasks."""
        tasks = dict.fromkeys(f"{job.suite}/{job.task}" for job in self.jobs.values())
        index = job_index(self.jobs.values(), self.more_seeds)
        paths = record_paths(f"{self.root}/records", index)
        data = [f"{self.root}/data/{task}/meta.json" for task in tasks]
        return [*(path.as_posix() for path in paths), *data]

    def _evidence_file(self, name: str) -> list[str]:
        """A file beside the records of the evidence, where it is there."""
        path = Path(str(self.config["evidence"]), name)
        return [path.as_posix()] if path.is_file() else []

    @property
    def _evidence_examples(self) -> list[str]:
        return self._evidence_file("examples.json")

    def summary_inputs(self, wildcards: Any) -> list[str]:
        """What the summary of a tier is made from: its records and, for this run, its grid.

        Of a partial run the grid alone: what is not asked for is not trained.
        """
        if wildcards.tier != self.tier:
            step = self._evidence_file(STEP_FILE)
            return [*self.records(wildcards.tier), *self._evidence_examples, *step]
        if self.config["partial"]:
            return [f"{self.root}/cells.json"]
        return [*self.records(self.tier), f"{self.root}/cells.json", *self.examples]

    def summary_arguments(self, wildcards: Any) -> str:
        """Arguments of `xpeft summary` for a tier, quoted for the shell."""
        if wildcards.tier == self.tier:
            words = ["--records", f"{self.root}/records", "--cells", f"{self.root}/cells.json"]
            words += ["--planned-hours", f"{self.hours:.4g}"]
            if self.config["partial"]:
                words += ["--partial", f"{self.root}/logs"]
            elif self.examples:
                words += ["--examples", *self.examples]
        else:
            words = ["--records", f"{self.config['evidence']}/records"]
            if self._evidence_examples:
                words += ["--examples", *self._evidence_examples]
        return shlex.join(words)


def _option(name: str, values: list[str]) -> str:
    return shlex.join([name, *values]) if values else ""


def _evidence(config: Config) -> tuple[str, list[str]] | None:
    folder = config["evidence"]
    if folder is None or Path(folder).name == config["tier"]:
        return None
    records = sorted(Path(folder, "records").rglob("*.json"))
    return (Path(folder).name, [path.as_posix() for path in records]) if records else None


def put_on_path() -> None:
    """Let the rules find `xpeft` beside this Python where the environment is not activated."""
    folder = str(Path(sys.executable).parent)
    if shutil.which("xpeft") is None and shutil.which("xpeft", path=folder) is not None:
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
