"""The grid of cohorts: from a config to its donor jobs, cohort jobs and parts.

training    defaults < training < cohorts.training < the arm's training < the chosen trial
bank        defaults < bank < cohorts.bank < cohorts.set_n < the arm's bank
settings    defaults < settings < the arm's settings
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpeft.cells import check_share, check_trials
from xpeft.config import Config
from xpeft.data.cohort_specs import get_cohort
from xpeft.errors import ConfigError, DataError
from xpeft.job import CohortJob, DonorJob, check_center


@dataclass(frozen=True)
class CohortGrid:
    """All jobs on cohorts.

    Attributes:
        donors: a job a cohort, by its name; each is run once a fold.
        jobs: by `profiles/<cohort>/<arm>`.
        folds: of every sheet.
        parts: of a fold's targets.
    """

    donors: dict[str, DonorJob]
    jobs: dict[str, CohortJob]
    folds: int
    parts: int

    def parts_of(self, job: CohortJob) -> list[str]:
        """The parts of a job, as `xpeft cohort train --part` takes them."""
        if job.scope == "cohort":
            return ["all"]
        folds = get_cohort(job.cohort).target_folds or self.folds
        return [f"{f}/{p}/{self.parts}" for f in range(folds) for p in range(self.parts)]


def needs_donors(job: CohortJob) -> bool:
    """Whether a job stands on what donors leave."""
    return job.base != "none" or (job.bank is not None and job.bank.kind == "warm")


def make_cohort_grid(config: Config, where: str = "config") -> CohortGrid:
    """All jobs on the cohorts of a config; none where it has no cohorts.

    Raises:
        ConfigError: settings contradict each other; the message names the key.
    """
    try:
        return _make(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _make(config: Config) -> CohortGrid:
    cohorts = config["cohorts"]
    if cohorts is None:
        return CohortGrid({}, {}, 0, 0)
    sets = [_cohort_name(f"cohorts.sets[{i}]", name) for i, name in enumerate(cohorts["sets"])]
    check_trials(cohorts, "cohorts.")
    if config["data"]["source"] == "embedded" and cohorts["authors"] % 2:
        raise ConfigError(
            f"cohorts.authors: found {cohorts['authors']}, expected an even number: they are pairs"
        )
    for name in cohorts["set_n"]:
        _known(f"cohorts.set_n.{name}", name, cohorts)
    for pattern, arm in cohorts["arms"].items():
        for name in arm["sets"] or []:
            _known(f"cohorts.arms.{pattern}.sets", name, cohorts)
    donors, jobs = {}, {}
    common = {**config["training"], **cohorts["training"]}
    for cohort in sets:
        wanted = cohorts["donors"]
        bank = {**config["bank"], **cohorts["bank"]}
        if f"profiles/{cohort}" in cohorts["set_n"]:
            bank["n"] = cohorts["set_n"][f"profiles/{cohort}"]
        if isinstance(bank["n"], list):
            raise ConfigError("cohorts.bank.n: found a list, expected a whole number")
        arms = {
            name: arm
            for name, arm in cohorts["arms"].items()
            if arm["sets"] is None or f"profiles/{cohort}" in arm["sets"]
        }
        warm = any(arm["bank"].get("kind", bank["kind"]) == "warm" for arm in arms.values())
        donors[cohort] = DonorJob.from_dict(
            {
                "tier": config["tier"],
                "cohort": cohort,
                "encoder": config["encoder"],
                "base_training": {**common, **wanted["base_training"]},
                "training": {**common, **wanted["training"]},
                "n": bank["n"] if warm else 0,
                "reduction": bank["reduction"],
                "max_train_rows": wanted["max_train_rows"],
                "seed": wanted["seed"],
                "threads": config["threads"],
            }
        )
        for pattern, arm in arms.items():
            job = _job(config, cohort, pattern, arm, bank)
            jobs[f"profiles/{cohort}/{job.arm}"] = job
    return CohortGrid(donors, jobs, cohorts["folds"], cohorts["parts"])


def _job(
    config: Config, cohort: str, pattern: str, arm: dict[str, Any], common: dict[str, Any]
) -> CohortJob:
    cohorts, key = config["cohorts"], f"cohorts.arms.{pattern}"
    bank = {**common, **arm["bank"]}
    masked = arm["method"] == "x_peft"
    if masked == (arm["mask"] is None):
        expected = "soft or hard" if masked else "null"
        raise ConfigError(f"{key}.mask: found {arm['mask']}, expected {expected}")
    if bank["path"] is not None:
        raise ConfigError(f"{key}.bank.path: found {bank['path']!r}, expected null")
    if isinstance(bank["n"], list):
        raise ConfigError(f"{key}.bank.n: found a list, expected a whole number")
    check_share(key, bank, arm["variant"])
    if bank["kind"] == "trained":
        raise ConfigError(f"{key}.bank.kind: found trained, expected random or warm")
    if masked and bank["kind"] == "warm" and bank["n"] != common["n"]:
        raise ConfigError(
            f"{key}.bank.n: found {bank['n']}, expected {common['n']} as in cohorts: all arms "
            "over a warm bank share it"
        )
    if masked and arm["base"] == "adapter" and bank["kind"] != "warm":
        raise ConfigError(
            f"{key}.base: found adapter over a {bank['kind']} bank, expected a warm one: its head "
            "is made for the donors' adapters"
        )
    if arm["head"] != "private" and arm["base"] == "none":
        raise ConfigError(f"{key}.head: found {arm['head']}, expected private for base none")
    if arm["scope"] == "cohort" and (arm["base"] != "none" or (bank["kind"] == "warm" and masked)):
        raise ConfigError(f"{key}.scope: found cohort, expected profile on a base or a warm bank")
    k = max(1, round(arm["k_share"] * bank["n"])) if arm["mask"] == "hard" else None
    job = CohortJob.from_dict(
        {
            "tier": config["tier"],
            "cohort": cohort,
            "arm": pattern.replace("{n}", str(bank["n"])),
            "seeds": cohorts["seeds"],
            "encoder": config["encoder"],
            "method": {
                "method": arm["method"],
                "mask": arm["mask"],
                "k": k,
                **config["settings"],
                **arm["settings"],
            },
            "training": {**config["training"], **cohorts["training"], **arm["training"]},
            "scope": arm["scope"],
            "base": arm["base"],
            "head": arm["head"],
            "bank": bank if masked else None,
            "tuning": None
            if cohorts["tuning"] is None
            else {**cohorts["tuning"], "trials": arm["trials"]},
            "max_train_rows": cohorts["max_train_rows"],
            "threads": config["threads"],
            "variant": arm["variant"],
        }
    )
    if job.bank is not None:
        check_center(f"{key}.settings.center", job.method, job.bank.n)
    return job


def _cohort_name(key: str, name: str) -> str:
    suite, _, cohort = name.partition("/")
    if suite != "profiles":
        raise ConfigError(f"{key}: found {name}, expected profiles/<name>")
    try:
        get_cohort(cohort)
    except DataError as error:
        raise ConfigError(f"{key}: {error}") from None
    return cohort


def _known(key: str, name: str, cohorts: dict[str, Any]) -> None:
    if name not in cohorts["sets"]:
        raise ConfigError(
            f"{key}: found {name}, expected one of cohorts.sets: {', '.join(cohorts['sets'])}"
        )
