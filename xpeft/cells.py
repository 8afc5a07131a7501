"""The grid: from a config to its jobs.

A job is a task x method x bank with all its seeds. Everything an arm leaves open is resolved
here, so that a job file holds every setting and training needs nothing of the config.

    encoder    its max_length < task_max_length
    training   defaults < task_training < the arm's training < the trial that tuning chose
    bank       defaults < the arm's bank
    settings   defaults < the arm's settings
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpeft.config import Config
from xpeft.data.specs import get_task, near_duplicates
from xpeft.errors import ConfigError, DataError
from xpeft.io import canonical_json, write_text
from xpeft.job import AnyJob, CohortJob, DonorJob, Job, PoolJob, check_center, trains
from xpeft.records import cell_paths

BANK_METHODS = ("x_peft",)
"""Methods that choose from a bank."""


def make_jobs(config: Config, where: str = "config") -> list[Job]:
    """All jobs of a config, arms in the config's order within each task.

    Args:
        config: as `xpeft.config.load_config` returns it.
        where: what an error calls it.

    Raises:
        ConfigError: settings contradict each other; the message names the key.
    """
    try:
        return _make_jobs(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _make_jobs(config: Config) -> list[Job]:
    _check_common(config)
    arms = [resolved for name, arm in config["arms"].items() for resolved in _expand(name, arm)]
    _check_names([name for name, _ in arms])
    check_trials(config)
    jobs = []
    for task in config["tasks"]:
        for name, arm in arms:
            if arm["tasks"] is None or task in arm["tasks"]:
                jobs.append(_job(config, task, name, arm))
    if arms and not jobs:
        raise ConfigError("arms: found no arm for any task, expected at least one job")
    _check_more(config, [name for name, _ in arms])
    return jobs


def more_seeds(config: Config) -> dict[str, list[int]]:
    """The seeds that an arm has beside those of its jobs, by arm; see `more_seeds` of a config."""
    more = config["more_seeds"]
    if more is None:
        return {}
    seeds = [seed for seed in more["seeds"] if seed not in config["seeds"]]
    return dict.fromkeys(more["arms"], seeds) if seeds else {}


def make_pool_jobs(config: Config) -> dict[str, PoolJob]:
    """The jobs that tune adapters for `trained` banks, by source task; none without a pool."""
    pool = config["pool"]
    if pool is None:
        return {}
    return {
        task: PoolJob.from_dict(
            {
                "tier": config["tier"],
                "suite": task.split("/")[0],
                "task": task.split("/")[1],
                "encoder": config["encoder"],
                "training": {**config["training"], **pool["training"]},
                "adapters": pool["adapters"],
                "reduction": config["bank"]["reduction"],
                "max_train_rows": pool["max_train_rows"],
                "seed": pool["seed"],
                "threads": config["threads"],
            }
        )
        for task in pool["tasks"]
    }


def sources_of(config: Config, task: str) -> list[str]:
    """The source tasks that a `trained` bank for `task` may hold, in the pool's order."""
    kept_out = (task, *near_duplicates(task))
    return [source for source in config["pool"]["tasks"] if source not in kept_out]


def needs_trained_bank(job: Job) -> bool:
    """Whether the job's bank is made of the pools."""
    return job.bank is not None and job.bank.kind == "trained" and job.bank.path is None


def job_name(job: AnyJob) -> str:
    """`<suite>/<task>/<arm>`, as in paths.

    Jobs without an arm are `donors/<cohort>/donors` and `pools/<suite>/<task>`.
    """
    if isinstance(job, PoolJob):
        return f"pools/{job.suite}/{job.task}"
    if isinstance(job, DonorJob):
        return f"donors/{job.cohort}/donors"
    if isinstance(job, CohortJob):
        return f"profiles/{job.cohort}/{job.arm}"
    return f"{job.suite}/{job.task}/{job.arm}"


def cell_of(job: Job | CohortJob, seed: int) -> dict[str, Any]:
    """The part `cell` of the record of a job and seed; see `xpeft.records.Cell`."""
    suite, task, arm = job_name(job).split("/")
    masked = job.method.method == "x_peft"
    return {
        "tier": job.tier,
        "suite": suite,
        "task": task,
        "arm": arm,
        "method": job.method.method,
        "mask": job.method.mask if masked else None,
        "bank": job.bank.kind if masked and job.bank else None,
        "n": job.bank.n if masked and job.bank else None,
        "k": job.method.k if masked and job.method.mask == "hard" else None,
        "variant": job.variant,
        "seed": seed,
    }


def job_path(folder: str | os.PathLike[str], job: AnyJob) -> Path:
    """The file of a job below the folder of jobs."""
    return Path(folder, f"{job_name(job)}.json")


def write_job(path: str | os.PathLike[str], job: AnyJob) -> bool:
    """Write a job file, unless it already says the same; returns whether it was written.

    A file that did not change keeps its time, so that nothing that depends on it runs again.
    """
    text = job_text(job)
    try:
        if Path(path).read_text(encoding="utf-8") == text:
            return False
    except (OSError, UnicodeDecodeError):
        pass
    write_text(path, text)
    return True


def job_text(job: AnyJob) -> str:
    """A job as a line of JSON with sorted keys: equal jobs give equal text."""
    return canonical_json(job.to_dict()) + "\n"


def job_index(
    jobs: Iterable[Job | CohortJob], more: Mapping[str, Sequence[int]] | None = None
) -> dict[str, list[int]]:
    """The grid in short: the seeds of each job, by job name.

    Args:
        jobs: with their own seeds.
        more: further seeds of jobs on tasks, by arm.
    """
    return {
        job_name(job): [
            *job.seeds,
            *((more or {}).get(job.arm, ()) if isinstance(job, Job) else ()),
        ]
        for job in jobs
    }


def record_paths(folder: str | os.PathLike[str], index: dict[str, list[int]]) -> list[Path]:
    """The records that the jobs of an index leave below the folder of records."""
    return [Path(folder, path) for path in cell_paths(index)]


# ------------------------------------------------------------------------------- building


def _expand(name: str, arm: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """An arm as (name, arm) with single values of n and k, in step where both are lists."""
    n, k = arm["bank"].get("n"), arm["k"]
    lists = [value for value in (n, k) if isinstance(value, list)]
    for what, value in (("n", n), ("k", k)):
        if isinstance(value, list) and f"{{{what}}}" not in name:
            raise ConfigError(
                f"arms.{name}: found a list in {'bank.n' if what == 'n' else 'k'}, expected "
                f"{{{what}}} in the arm's name, so that each entry gives a name of its own"
            )
        if value is None and f"{{{what}}}" in name:
            raise ConfigError(
                f"arms.{name}: found {{{what}}} in the name, expected {what} in the arm"
            )
    if len({len(value) for value in lists}) > 1:
        raise ConfigError(
            f"arms.{name}.k: found {len(k)} entries, expected {len(n)}, one for each of bank.n"
        )
    expanded = []
    for i in range(len(lists[0]) if lists else 1):
        at_n = n[i] if isinstance(n, list) else n
        at_k = k[i] if isinstance(k, list) else k
        bank = arm["bank"] if at_n is None else {**arm["bank"], "n": at_n}
        full_name = name.replace("{n}", str(at_n)).replace("{k}", str(at_k))
        expanded.append((full_name, {**arm, "bank": bank, "k": at_k}))
    return expanded


def _job(config: Config, task: str, name: str, arm: dict[str, Any]) -> Job:
    suite, short = task.split("/")
    bank = {**config["bank"], **arm["bank"]}
    _check_arm(name, arm, bank)
    if arm["method"] in BANK_METHODS and bank["kind"] == "trained" and bank["path"] is None:
        _check_trained(name, config, task, bank)
    if arm["head"] == "seeded" and (
        arm["method"] == "head_only" or get_task(suite, short).regression
    ):
        raise ConfigError(
            f"arms.{name}.head: found seeded for {arm['method']} on {task}, expected private: "
            "head_only trains nothing else, and a regression needs a head on its scale"
        )
    tuning = config["tuning"]
    training = {
        **config["training"],
        **config["task_training"].get(task, {}),
        **arm["training"],
    }
    job = Job.from_dict(
        {
            "tier": config["tier"],
            "suite": suite,
            "task": short,
            "arm": name,
            "seeds": config["seeds"],
            "encoder": _encoder(config, task),
            "method": {
                "method": arm["method"],
                "mask": arm["mask"],
                "k": arm["k"],
                **config["settings"],
                **arm["settings"],
            },
            "training": training,
            "bank": bank if arm["method"] in BANK_METHODS else None,
            "tuning": None if tuning is None else {**tuning, "trials": arm["trials"]},
            "threads": config["threads"],
            "variant": arm["variant"],
            "head": arm["head"],
        }
    )
    if job.bank is not None:
        check_center(f"arms.{name}.settings.center", job.method, job.bank.n)
    return job


def _encoder(config: Config, task: str) -> dict[str, Any]:
    tokens = config["task_max_length"].get(task, config["encoder"]["max_length"])
    return {**config["encoder"], "max_length": tokens}


# ------------------------------------------------------------------------------- checking


def _check_common(config: Config) -> None:
    tasks, data, encoder = config["tasks"], config["data"], config["encoder"]
    for key, other in (("tasks", "arms"), ("arms", "tasks")):
        if not config[key] and (config[other] or config["cohorts"] is None):
            raise ConfigError(f"{key}: found none, expected at least 1 entry")
    for i, task in enumerate(tasks):
        _check_task(f"tasks[{i}]", task, data["source"])
    sources = [] if config["pool"] is None else config["pool"]["tasks"]
    for i, task in enumerate(sources):
        _check_task(f"pool.tasks[{i}]", task, data["source"])
    for key, named in (
        ("task_training", config["task_training"]),
        ("task_max_length", config["task_max_length"]),
        ("data.task_max_train_rows", data["task_max_train_rows"]),
    ):
        for task in named:
            _check_known(f"{key}.{task}", task, [*tasks, *sources])
    for name, arm in config["arms"].items():
        for i, task in enumerate(arm["tasks"] or []):
            _check_known(f"arms.{name}.tasks[{i}]", task, tasks)
    local = data["source"] == "local" or (data["source"] == "hub" and config["cohorts"] is not None)
    if local and data["path"] is None:
        raise ConfigError(
            "data.path: found null, expected the data folder"
            + (" of the cohorts" if data["source"] == "hub" else "")
            + "; set it, or the variable XPEFT_DATA"
        )
    if isinstance(config["bank"]["n"], list):
        raise ConfigError("bank.n: found a list, expected a whole number; lists go into an arm")
    if (encoder["source"] == "local") != (encoder["path"] is not None):
        expected = "the encoder's folder" if encoder["path"] is None else "null"
        raise ConfigError(
            f"encoder.path: found {encoder['path']!r}, expected {expected} "
            f"where encoder.source is {encoder['source']}"
        )


def _check_task(key: str, task: str, source: str) -> None:
    suite, short = task.split("/")
    try:
        spec = get_task(suite, short)
    except DataError as error:
        raise ConfigError(f"{key}: {error}") from None
    if source == "embedded" and suite != "embedded":
        raise ConfigError(
            f"{key}: found {task}, expected one of the suite embedded, as data.source is embedded"
        )
    if source != "embedded" and spec.hub_id is None:
        raise ConfigError(f"{key}: found {task}, which has no data in a {source} data.source")


def _check_known(key: str, task: str, tasks: Sequence[str]) -> None:
    if task not in tasks:
        raise ConfigError(f"{key}: found {task}, expected one of tasks: {', '.join(tasks)}")


def _check_more(config: Config, names: Sequence[str]) -> None:
    more = config["more_seeds"]
    if more is None:
        return
    for i, arm in enumerate(more["arms"]):
        if arm not in names:
            raise ConfigError(f"more_seeds.arms[{i}]: found {arm}, expected the name of an arm")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"arms.{name}: found this name twice, expected a name for each arm")


def _check_arm(name: str, arm: dict[str, Any], bank: dict[str, Any]) -> None:
    key, method, mask, k = f"arms.{name}", arm["method"], arm["mask"], arm["k"]
    if method not in BANK_METHODS:
        for what, found in (("mask", mask), ("k", k), ("bank", arm["bank"] or None)):
            if found is not None:
                raise ConfigError(f"{key}.{what}: found {found!r}, expected none for {method}")
        return
    if mask is None:
        raise ConfigError(f"{key}.mask: found null, expected soft or hard for {method}")
    if mask == "soft" and k is not None:
        raise ConfigError(f"{key}.k: found {k}, expected null, as soft masks weigh all adapters")
    if mask == "hard" and k is None:
        raise ConfigError(f"{key}.k: found null, expected the number of adapters to select")
    if k is not None and k > bank["n"]:
        raise ConfigError(f"{key}.k: found {k}, expected at most bank.n = {bank['n']}")
    check_share(key, bank, arm["variant"])
    wrong = {"random": bank["path"] is not None, "warm": bank["path"] is None}
    if wrong.get(bank["kind"]):
        expected = "null" if bank["kind"] == "random" else "the bank's folder"
        raise ConfigError(
            f"{key}.bank.path: found {bank['path']!r}, expected {expected} "
            f"for a bank of kind {bank['kind']}"
        )


def _check_trained(name: str, config: Config, task: str, bank: dict[str, Any]) -> None:
    key, pool = f"arms.{name}.bank", config["pool"]
    if pool is None:
        raise ConfigError(
            f"{key}.path: found null, expected the folder of a trained bank; or set pool, of "
            "whose tasks trained banks are made"
        )
    sources = sources_of(config, task)
    if bank["n"] > len(sources) * pool["adapters"]:
        raise ConfigError(
            f"{key}.n: found {bank['n']} for {task}, expected at most {len(sources)} sources x "
            f"{pool['adapters']} adapters = {len(sources) * pool['adapters']}; raise "
            "pool.adapters or add to pool.tasks"
        )
    if bank["reduction"] != config["bank"]["reduction"]:
        raise ConfigError(
            f"{key}.reduction: found {bank['reduction']}, expected {config['bank']['reduction']} "
            "of the top-level bank, with which the pools are tuned"
        )


def check_share(key: str, bank: dict[str, Any], variant: str) -> None:
    """A random share is one of a stored bank, of one adapter or more, and makes a variant.

    Raises:
        ConfigError: it is not; `key` is the arm's.
    """
    share = bank["random_share"]
    if not share:
        return
    if bank["kind"] == "random" or round(share * bank["n"]) == 0:
        expected = "0 for a random bank" if bank["kind"] == "random" else "an adapter or more"
        raise ConfigError(f"{key}.bank.random_share: found {share:g}, expected {expected}")
    if not variant:
        raise ConfigError(
            f"{key}.variant: found none, expected a name: a bank that is part random is no "
            f"{bank['kind']} bank like others"
        )


def check_trials(section: Config, prefix: str = "") -> None:
    """Equal budgets: the same number of trials for every arm of a section with tuning and arms.

    What trains nothing has nothing to choose, and no trials.

    Raises:
        ConfigError: the numbers differ, or an arm has none; `prefix` goes before the key.
    """
    if section["tuning"] is None:
        return
    counts = {}
    for name, arm in section["arms"].items():
        found = len(arm["trials"])
        if trains(arm["method"], arm["head"]):
            counts[name] = found
        elif found:
            raise ConfigError(
                f"{prefix}arms.{name}.trials: found {found}, expected none: head_only with a "
                "shared head trains nothing"
            )
    if not counts:
        return
    expected = Counter(counts.values()).most_common(1)[0][0]
    first = next(name for name, found in counts.items() if found == expected)
    for name, found in counts.items():
        if found == 0:
            raise ConfigError(
                f"{prefix}arms.{name}.trials: found none, expected at least one; "
                "tuning: null needs none"
            )
        if found != expected:
            raise ConfigError(
                f"{prefix}arms.{name}.trials: found {found}, expected {expected} as in "
                f"{prefix}arms.{first}: "
                "equal tuning budgets"
            )
