"""From a config to jobs: what overrides what, which configs contradict themselves."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xpeft.cells import (
    job_index,
    job_name,
    job_path,
    job_text,
    make_jobs,
    make_pool_jobs,
    needs_trained_bank,
    record_paths,
    sources_of,
    write_job,
)
from xpeft.config import merge, resolve_config
from xpeft.errors import ConfigError
from xpeft.io import read_json
from xpeft.job import Job, job_from_dict

BASE: dict[str, Any] = {
    "tier": "test",
    "data": {"source": "hub"},
    "tasks": ["glue/rte", "glue/sst2"],
    "tuning": {"epochs": 1},
    "arms": {
        "head": {"method": "head_only", "trials": [{"head_lr": 0.1}, {"head_lr": 0.2}]},
        "soft": {"method": "x_peft", "mask": "soft", "trials": [{"lr": 0.1}, {"lr": 0.2}]},
        "hard": {"method": "x_peft", "mask": "hard", "k": 5, "trials": [{"lr": 0.1}, {"lr": 0.2}]},
    },
}


def jobs(**changes: Any) -> dict[str, Job]:
    """The jobs of BASE with changes, by name."""
    config = resolve_config(merge(copy.deepcopy(BASE), changes))
    return {job_name(job): job for job in make_jobs(config)}


def error(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        jobs(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("config: ")


@pytest.mark.parametrize("key", ["tasks", "arms"])
def test_tasks_and_arms_come_together_or_there_are_cohorts(key: str) -> None:
    lacking = {name: value for name, value in BASE.items() if name != key}
    with pytest.raises(ConfigError, match=f"^config: {key}: found none, expected at least 1 entry"):
        make_jobs(resolve_config(lacking))
    people = {"sets": ["profiles/huffpost"], "arms": {"a": {"method": "head_only"}}}
    neither = {"tier": "test", "data": {"source": "local", "path": "data"}, "cohorts": people}
    assert make_jobs(resolve_config(neither)) == []
    with pytest.raises(ConfigError, match=f"^config: {key}: found none"):
        make_jobs(resolve_config({**neither, **lacking}))


# ------------------------------------------------------------------------------- the grid


def test_a_job_is_a_task_and_an_arm_with_all_seeds() -> None:
    found = jobs(seeds=[3, 1])
    assert list(found) == [
        f"glue/{task}/{arm}" for task in ("rte", "sst2") for arm in ("head", "soft", "hard")
    ]
    job = found["glue/sst2/hard"]
    assert (job.tier, job.suite, job.task, job.arm) == ("test", "glue", "sst2", "hard")
    assert job.seeds == (3, 1)
    assert (job.method.method, job.method.mask, job.method.k) == ("x_peft", "hard", 5)
    assert job.bank is not None and job.bank.n == 100
    assert found["glue/sst2/head"].bank is None


def test_training_overrides_in_order() -> None:
    found = jobs(
        training={"epochs": 1, "lr": 0.5, "clip": 9},
        task_training={"glue/rte": {"epochs": 2, "lr": 0.6}},
        arms={"soft": {"training": {"lr": 0.7}}},
    )
    training = found["glue/rte/soft"].training
    assert (training.epochs, training.lr, training.clip) == (2, 0.7, 9)
    assert found["glue/rte/hard"].training.lr == 0.6
    assert found["glue/sst2/soft"].training.epochs == 1
    assert found["glue/sst2/soft"].training.head_lr == 0.001


def test_a_task_may_keep_more_tokens_than_the_others() -> None:
    found = jobs(task_max_length={"glue/rte": 200})
    assert found["glue/rte/soft"].encoder.max_length == 200
    assert found["glue/sst2/soft"].encoder.max_length == jobs()["glue/sst2/soft"].encoder.max_length
    with pytest.raises(ConfigError, match=r"task_max_length\.glue/cola: found glue/cola"):
        jobs(task_max_length={"glue/cola": 200})


def test_a_seeded_head_needs_something_else_to_train_and_classes() -> None:
    assert jobs(arms={"soft": {"head": "seeded"}})["glue/rte/soft"].head == "seeded"
    binary = jobs(tasks=["glue/stsb"], arms={name: {"head": "binary"} for name in ("head", "soft")})
    assert {job.head for job in binary.values()} == {"private", "binary"}
    with pytest.raises(ConfigError, match=r"arms\.head\.head: found seeded for head_only"):
        jobs(arms={"head": {"head": "seeded"}})
    with pytest.raises(
        ConfigError, match=r"arms\.soft\.head: found seeded for x_peft on glue/stsb"
    ):
        jobs(tasks=["glue/stsb"], arms={"soft": {"head": "seeded"}})


def test_bank_and_settings_overrides() -> None:
    found = jobs(
        bank={"n": 20, "seed": 7},
        settings={"norm": "affine", "scale": "mean"},
        arms={"soft": {"bank": {"seed": 8}, "settings": {"scale": "sum"}, "variant": "scale"}},
    )
    soft, hard = found["glue/rte/soft"], found["glue/rte/hard"]
    assert soft.bank is not None and hard.bank is not None
    assert (soft.bank.n, soft.bank.seed, hard.bank.seed) == (20, 8, 7)
    assert (soft.method.norm, soft.method.scale, hard.method.scale) == ("affine", "sum", "mean")
    assert (soft.variant, hard.variant) == ("scale", "")


def test_tuning() -> None:
    tuning = jobs()["glue/rte/head"].tuning
    assert tuning is not None
    assert (tuning.epochs, tuning.trials) == (1, ({"head_lr": 0.1}, {"head_lr": 0.2}))
    assert jobs(tuning=None)["glue/rte/head"].tuning is None


def test_an_arm_on_some_tasks() -> None:
    found = jobs(arms={"hard": {"tasks": ["glue/rte"]}})
    assert "glue/rte/hard" in found and "glue/sst2/hard" not in found


def test_templates() -> None:
    arm = {"method": "x_peft", "mask": "hard", "trials": [{"lr": 1.0}, {"lr": 2.0}]}
    in_step = {**arm, "bank": {"n": [10, 20]}, "k": [5, 8]}
    one_n = {**arm, "bank": {"n": 10}, "k": [2, 4]}
    one_k = {**arm, "bank": {"n": [10, 30]}, "k": 3}
    found = jobs(arms={"a{n}-{k}": in_step, "b-k{k}": one_n, "c-n{n}-k{k}": one_k})
    shapes = {
        job.arm: (job.bank.n, job.method.k)
        for job in found.values()
        if job.bank is not None and job.arm[0] in "abc"
    }
    assert shapes == {
        "a10-5": (10, 5),
        "a20-8": (20, 8),
        "b-k2": (10, 2),
        "b-k4": (10, 4),
        "c-n10-k3": (10, 3),
        "c-n30-k3": (30, 3),
    }


def test_a_changed_arm_changes_its_own_jobs() -> None:
    before, after = jobs(), jobs(arms={"soft": {"trials": [{"lr": 0.1}, {"lr": 0.3}]}})
    changed = {name for name in before if job_text(before[name]) != job_text(after[name])}
    assert changed == {"glue/rte/soft", "glue/sst2/soft"}
    after = jobs(task_training={"glue/rte": {"epochs": 9}})
    changed = {name for name in before if job_text(before[name]) != job_text(after[name])}
    assert changed == {"glue/rte/head", "glue/rte/soft", "glue/rte/hard"}


POOL = {"tasks": ["glue/rte", "glue/wnli", "glue/cola"], "adapters": 3, "training": {"lr": 0.5}}
TRAINED: dict[str, Any] = {
    "method": "x_peft",
    "mask": "soft",
    "bank": {"kind": "trained", "n": 6},
    "trials": [{"lr": 0.1}, {"lr": 0.2}],
}


def test_pools_have_a_job_a_source() -> None:
    config = resolve_config(merge(copy.deepcopy(BASE), {"pool": POOL, "training": {"epochs": 7}}))
    pools = make_pool_jobs(config)
    assert [job_name(job) for job in pools.values()] == [f"pools/{task}" for task in pools]
    assert list(pools) == POOL["tasks"]
    one = pools["glue/wnli"]
    assert (one.adapters, one.training.epochs, one.training.lr) == (3, 7, 0.5)
    assert job_from_dict(one.to_dict()) == one
    assert make_pool_jobs(resolve_config(copy.deepcopy(BASE))) == {}


def test_a_trained_bank_holds_nothing_of_its_target() -> None:
    config = resolve_config(merge(copy.deepcopy(BASE), {"pool": POOL}))
    assert sources_of(config, "glue/rte") == ["glue/wnli", "glue/cola"]
    assert sources_of(config, "glue/sst2") == POOL["tasks"]
    assert sources_of(config, "superglue/wsc") == ["glue/rte", "glue/cola"]
    found = jobs(pool=POOL, arms={"trained": TRAINED})
    assert needs_trained_bank(found["glue/rte/trained"])
    assert not needs_trained_bank(found["glue/rte/soft"])


def test_what_no_pool_can_give() -> None:
    assert error(arms={"trained": TRAINED}).startswith(
        "arms.trained.bank.path: found null, expected the folder of a trained bank; or set pool"
    )
    more = merge(TRAINED, {"bank": {"n": 7}})
    assert error(pool=POOL, arms={"trained": more}).startswith(
        "arms.trained.bank.n: found 7 for glue/rte, expected at most 2 sources x 3 adapters = 6;"
    )
    mixed = merge(TRAINED, {"bank": {"random_share": 0.5}})
    named = merge(mixed, {"variant": "half"})
    assert jobs(pool=POOL, arms={"trained": named})["glue/rte/trained"].bank.drawn == 3
    assert error(pool=POOL, arms={"trained": mixed}).startswith("arms.trained.variant: found none")
    none = merge(named, {"bank": {"random_share": 0.01}})
    assert error(pool=POOL, arms={"trained": none}).endswith("expected an adapter or more")
    drawn = merge(mixed, {"bank": {"kind": "random"}})
    assert error(arms={"trained": drawn}).startswith(
        "arms.trained.bank.random_share: found 0.5, expected 0 for a random bank"
    )
    other = merge(TRAINED, {"bank": {"reduction": 4}})
    assert error(pool=POOL, arms={"trained": other}).startswith(
        "arms.trained.bank.reduction: found 4, expected 16 of the top-level bank"
    )
    assert error(pool={**POOL, "tasks": ["glue/nothing"]}).startswith("pool.tasks[0]: task glue/no")


# ------------------------------------------------------------------------------- the files


def test_job_files(tmp_path: Path) -> None:
    job = jobs()["glue/rte/soft"]
    path = job_path(tmp_path, job)
    assert path == tmp_path / "glue/rte/soft.json"
    assert write_job(path, job)
    assert Job.read(path) == job
    before = path.stat().st_mtime_ns
    assert not write_job(path, job)
    assert path.stat().st_mtime_ns == before
    path.write_text("{}")
    assert write_job(path, job)
    assert Job.read(path) == job


def test_the_index_names_all_records() -> None:
    index = job_index(jobs(seeds=[0, 4], arms={"hard": {"tasks": ["glue/rte"]}}).values())
    assert index["glue/rte/soft"] == [0, 4]
    paths = [path.as_posix() for path in record_paths("r", index)]
    assert len(paths) == 10 and len(set(paths)) == 10
    assert paths[:2] == ["r/glue/rte/head/seed0.json", "r/glue/rte/head/seed4.json"]


def test_some_arms_have_further_seeds() -> None:
    config = {"seeds": [0, 1], "more_seeds": {"seeds": [5], "arms": ["soft"]}}
    found = jobs(**config)
    assert {job.seeds for job in found.values()} == {(0, 1)}  # no job file changes by them
    index = job_index(found.values(), {"soft": [5]})
    assert index["glue/rte/soft"] == [0, 1, 5] and index["glue/rte/hard"] == [0, 1]
    with pytest.raises(ConfigError, match=r"more_seeds\.arms\[0\]: found mild, expected the name"):
        jobs(more_seeds={"seeds": [5], "arms": ["mild"]})


def test_an_unknown_key_in_a_job_file(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    write_job(path, jobs()["glue/rte/soft"])
    value = read_json(path)
    value["training"]["speed"] = 1
    with pytest.raises(ConfigError, match=r"job\.training\.speed: unknown setting"):
        Job.from_dict(value)


def test_making_jobs_needs_no_heavy_library() -> None:
    """The Snakefile is parsed again for every job on a cluster."""
    code = (
        "import sys; from xpeft.workflow import Plan; from xpeft.config import load_config\n"
        "Plan.make(load_config('config/paper.yaml'))\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'snakemake'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------- contradictions


def test_equal_budgets() -> None:
    three = [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]
    assert error(arms={"soft": {"trials": three}}) == (
        "arms.soft.trials: found 3, expected 2 as in arms.head: equal tuning budgets"
    )
    assert error(arms={"hard": {"trials": []}}).startswith("arms.hard.trials: found none, expected")
    jobs(arms={"soft": {"trials": three}}, tuning=None)  # without tuning they are ignored


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"method": "x_peft"}, "arms.a.mask: found null, expected soft or hard for x_peft"),
        ({"method": "x_peft", "mask": "hard"}, "arms.a.k: found null, expected the number of"),
        ({"method": "x_peft", "mask": "soft", "k": 3}, "arms.a.k: found 3, expected null, as soft"),
        (
            {"method": "x_peft", "mask": "hard", "k": 101},
            "arms.a.k: found 101, expected at most bank.n = 100",
        ),
        ({"method": "full", "mask": "soft"}, "arms.a.mask: found 'soft', expected none for full"),
        ({"method": "full", "k": 3}, "arms.a.k: found 3, expected none for full"),
        ({"method": "full", "bank": {"n": 9}}, "arms.a.bank: found {'n': 9}, expected none for"),
        ({"method": "full", "tasks": ["glue/cola"]}, "arms.a.tasks[0]: found glue/cola, expected"),
        (
            {"method": "x_peft", "mask": "soft", "bank": {"n": [1, 2]}},
            "arms.a: found a list in bank.n, expected {n} in the arm's name",
        ),
        (
            {"method": "x_peft", "mask": "soft", "bank": {"path": "x"}},
            "arms.a.bank.path: found 'x', expected null for a bank of kind random",
        ),
        (
            {"method": "x_peft", "mask": "soft", "bank": {"kind": "trained"}},
            "arms.a.bank.path: found null, expected the folder of a trained bank; or set pool",
        ),
    ],
)
def test_contradictory_arms(arm: dict[str, Any], message: str) -> None:
    arm = {**arm, "trials": [{"lr": 1.0}, {"lr": 2.0}]}
    assert error(arms={"a": arm}).startswith(message)


def test_masks_that_cannot_be_centred() -> None:
    arm = {"method": "x_peft", "mask": "hard", "k": 50, "trials": [{"lr": 1.0}, {"lr": 2.0}]}
    mean = {**arm, "settings": {"center": True, "scale": "mean"}}
    assert error(arms={"a": mean}).startswith(
        "arms.a.settings.center: found it with mask hard, k 50 of 100, scale mean; expected"
    )


def test_templates_that_do_not_fit() -> None:
    arm = {"method": "x_peft", "mask": "hard", "trials": [{"lr": 1.0}, {"lr": 2.0}], "k": 3}
    lists = {**arm, "bank": {"n": [9, 8]}, "k": [1, 2, 3]}
    assert error(arms={"a{n}{k}": lists}).startswith(
        "arms.a{n}{k}.k: found 3 entries, expected 2, one for each of bank.n"
    )
    assert error(arms={"a{n}": arm}).startswith("arms.a{n}: found {n} in the name, expected n")
    same = {**arm, "bank": {"n": [9, 9]}}
    assert error(arms={"a{n}": same}).startswith("arms.a9: found this name twice")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["glue/nope"]}, "tasks[0]: task glue/nope: unknown task 'nope'; known"),
        ({"tasks": ["embedded/sentiment"]}, "tasks[0]: found embedded/sentiment, which has no"),
        ({"data": {"source": "embedded"}}, "tasks[0]: found glue/rte, expected one of the suite"),
        ({"data": {"source": "local"}}, "data.path: found null, expected the data folder;"),
        (
            {"cohorts": {"sets": ["profiles/huffpost"], "arms": {"a": {"method": "head_only"}}}},
            "data.path: found null, expected the data folder of the cohorts;",
        ),
        (
            {"task_training": {"glue/cola": {}}},
            "task_training.glue/cola: found glue/cola, expected",
        ),
        (
            {"data": {"task_max_train_rows": {"glue/cola": 5}}},
            "data.task_max_train_rows.glue/cola: found glue/cola, expected one of tasks: glue/rte",
        ),
        ({"bank": {"n": [1, 2]}}, "bank.n: found a list, expected a whole number"),
        ({"encoder": {"source": "local"}}, "encoder.path: found None, expected the encoder's"),
        ({"encoder": {"path": "x"}}, "encoder.path: found 'x', expected null where encoder.source"),
    ],
)
def test_contradictory_configs(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XPEFT_DATA", raising=False)
    assert error(**changes).startswith(message)


def test_errors_name_the_config() -> None:
    config = resolve_config({**BASE, "tasks": ["glue/nope"]})
    with pytest.raises(ConfigError, match=r"^c\.yaml: tasks\[0\]: "):
        make_jobs(config, "c.yaml")
