"""The grid of cohorts: what a config gives, and what it is refused for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from xpeft.cells import job_index, job_name
from xpeft.cohorts.grid import make_cohort_grid, needs_donors
from xpeft.config import merge, resolve_config
from xpeft.errors import ConfigError
from xpeft.job import CohortJob, DonorJob, job_from_dict

BASE: dict[str, Any] = {
    "tier": "test",
    "tasks": ["embedded/sentiment"],
    "arms": {"head_only": {"method": "head_only"}},
    "training": {"epochs": 4, "head_lr": 0.02},
    "cohorts": {
        "sets": ["profiles/md_agreement", "profiles/huffpost"],
        "seeds": [0, 1],
        "parts": 3,
        "max_train_rows": 64,
        "training": {"batch_size": 8},
        "bank": {"n": 100},
        "donors": {"base_training": {"epochs": 2}, "training": {"lr": 0.001}},
        "set_n": {"profiles/huffpost": 30},
        "arms": {
            "shared": {"method": "head_only", "scope": "cohort"},
            "bias": {"method": "head_only", "base": "adapter", "head": "shared+bias"},
            "random-n{n}": {"method": "x_peft", "mask": "hard", "k_share": 0.25},
            "warm-n{n}": {
                "method": "x_peft",
                "mask": "soft",
                "bank": {"kind": "warm"},
                "base": "adapter",
                "head": "shared",
                "settings": {"norm": "none", "scale": "mean"},
            },
        },
    },
}


def grid(changes: dict[str, Any] | None = None) -> Any:
    return make_cohort_grid(resolve_config(merge(copy.deepcopy(BASE), changes or {})))


def test_a_config_without_cohorts_has_none() -> None:
    made = grid({"cohorts": None})
    assert (made.jobs, made.donors) == ({}, {})


def test_jobs_hold_what_the_config_says() -> None:
    made = grid()
    assert list(made.jobs) == [
        f"profiles/{cohort}/{arm}"
        for cohort, n in (("md_agreement", 100), ("huffpost", 30))
        for arm in ("shared", "bias", f"random-n{n}", f"warm-n{n}")
    ]
    job = made.jobs["profiles/huffpost/random-n30"]
    assert (job.method.k, job.bank.n, job.bank.kind) == (8, 30, "random")
    assert (job.training.epochs, job.training.batch_size, job.training.head_lr) == (4, 8, 0.02)
    assert job.max_train_rows == 64
    warm = made.jobs["profiles/huffpost/warm-n30"]
    assert (warm.method.k, warm.bank.n, warm.method.norm) == (None, 30, "none")
    donors = made.donors["huffpost"]
    assert (donors.n, donors.base_training.epochs, donors.training.epochs) == (30, 2, 4)
    assert (donors.base_training.lr, donors.training.lr, donors.training.batch_size) == (
        1e-3,
        1e-3,
        8,
    )
    assert made.donors["md_agreement"].n == 100


def test_donors_tune_adapters_only_where_an_arm_is_over_a_warm_bank() -> None:
    made = grid({"cohorts": {"arms": {"warm-n{n}": {"sets": ["profiles/huffpost"]}}}})
    assert {name: job.n for name, job in made.donors.items()} == {"md_agreement": 0, "huffpost": 30}


def test_parts() -> None:
    made = grid()
    assert made.parts_of(made.jobs["profiles/huffpost/shared"]) == ["all"]
    assert made.parts_of(made.jobs["profiles/huffpost/bias"]) == [
        f"{fold}/{part}/3" for fold in (0, 1) for part in range(3)
    ]
    changed = merge(copy.deepcopy(BASE), {"cohorts": {"sets": ["profiles/lamp_news_user"]}})
    del changed["cohorts"]["set_n"]
    lamp = make_cohort_grid(resolve_config(changed))
    lamp_job = lamp.jobs["profiles/lamp_news_user/bias"]
    assert lamp.parts_of(lamp_job) == ["0/0/3", "0/1/3", "0/2/3"]  # fold 1 has donors alone


def test_which_jobs_need_donors() -> None:
    made = grid()
    found = {name.split("/")[2]: needs_donors(job) for name, job in made.jobs.items()}
    assert found == {
        "shared": False, "bias": True, "random-n100": False, "random-n30": False,
        "warm-n100": True, "warm-n30": True,
    }  # fmt: skip


def test_jobs_are_read_back_and_named() -> None:
    made = grid()
    for job in (*made.jobs.values(), *made.donors.values()):
        assert job_from_dict(job.to_dict()) == job
    names = [job_name(job) for job in made.donors.values()]
    assert names == ["donors/md_agreement/donors", "donors/huffpost/donors"]
    assert job_index(made.jobs.values())["profiles/huffpost/bias"] == [0, 1]
    assert all(isinstance(job, CohortJob) for job in made.jobs.values())
    assert all(isinstance(job, DonorJob) for job in made.donors.values())


def test_a_seed_more_leaves_the_hash_as_it_is() -> None:
    one, two = grid(), grid({"cohorts": {"seeds": [0, 1, 2]}})
    for name, job in one.jobs.items():
        assert job.config_hash() == two.jobs[name].config_hash()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": ["glue/sst2"]}, r"cohorts.sets\[0\]: found glue/sst2, expected profiles/<name>"),
        ({"sets": ["profiles/nobody"]}, r"cohorts.sets\[0\]: .*nobody"),
        ({"set_n": {"profiles/x": 3}}, "set_n.profiles/x: found profiles/x"),
        ({"arms": {"bias": {"sets": ["profiles/x"]}}}, "cohorts.arms.bias.sets: found profiles/x"),
        ({"arms": {"bias": {"mask": "soft"}}}, "cohorts.arms.bias.mask: found soft, expected null"),
        ({"arms": {"a": {"method": "x_peft"}}}, "arms.a.mask: found None, expected soft or hard"),
        ({"arms": {"warm-n{n}": {"bank": {"n": 7}}}}, "bank.n: found 7, expected 100 as in"),
        ({"arms": {"warm-n{n}": {"bank": {"kind": "trained"}}}}, "bank.kind: found trained"),
        ({"arms": {"warm-n{n}": {"bank": {"kind": "random"}}}}, "found adapter over a random"),
        ({"arms": {"warm-n{n}": {"settings": {"center": True}}}}, "settings.center: found it with"),
        ({"arms": {"warm-n{n}": {"bank": {"path": "b"}}}}, "bank.path: found 'b', expected null"),
        ({"arms": {"bias": {"base": "none"}}}, "head: found shared.bias, expected private"),
        (
            {"tuning": {}, "arms": {"bias": {"head": "shared", "trials": [{"lr": 1}]}}},
            "arms.bias.trials: found 1, expected none: head_only with a shared head trains nothing",
        ),
        ({"arms": {"shared": {"base": "head"}}}, "scope: found cohort, expected profile on a base"),
        ({"tuning": {}, "arms": {"bias": {"trials": [{"lr": 1}]}}}, "trials: found"),
    ],
)  # fmt: skip
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^config: .*{message}"):
        grid({"cohorts": changes})
