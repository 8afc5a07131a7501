"""What jobs will take: by formula, for every job of the project's own configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xpeft import cli
from xpeft.config import load_config, merge
from xpeft.estimate import make_steps, plan_json, plan_line, plan_text
from xpeft.shapes import encoder_shape
from xpeft.sizes import (
    START,
    Need,
    adapter_weights,
    block_weights,
    memory_request,
    shape_of,
    time_request,
)
from xpeft.workflow import Plan

ROOT = Path(__file__).parents[1]


def plan(name: str, changes: dict[str, Any] | None = None) -> Plan:
    config = load_config(ROOT / f"config/{name}.yaml", {"data": {"path": "data"}})
    return Plan.make(merge(config, changes or {}))


def hours(made: Plan) -> dict[str, float]:
    return {step.rule: step.hours for step in make_steps(made)}


def test_weights_are_those_of_bert_base() -> None:
    bert = encoder_shape("bert-base-uncased")
    assert block_weights(bert) == 12 * 12 * 768**2  # 85 million
    assert 4 * adapter_weights(bert, 16) == 3_578_112  # bytes of an adapter, as in the ledger


def test_a_job_takes_the_encoders_passes_over_its_tokens() -> None:
    made = plan("small")
    need = made.sizes.train(made.jobs["glue/cola/single_adapter"])
    rows = 3 * 8551 * 2 + 2 * 7500 * 0.8 * 2  # seeds, and trials without what is held out
    passes = rows * 2 * 1.15 + 3 * 1043
    flops = 2 * block_weights(encoder_shape("all-MiniLM-L6-v2")) * 11.3 * passes
    assert need.seconds == pytest.approx(START + flops / 40e9)
    assert need.device_mb == 0
    limited = made.sizes.task("glue", "sst2")
    assert limited.train == 10000  # of 67,349, as the config says


def test_what_is_more_takes_more() -> None:
    made = plan("small")
    sizes, jobs = made.sizes, made.jobs

    def seconds(arm: str) -> float:
        return sizes.train(jobs[f"glue/sst2/{arm}"]).seconds

    assert seconds("head_only") < 0.1 * seconds("single_adapter")
    larger = sizes.train(jobs["glue/sst2/x_peft-hard-n400-k200"]).memory_mb
    assert larger > sizes.train(jobs["glue/sst2/x_peft-hard-n100-k50"]).memory_mb
    more = hours(plan("small", {"seeds": [0, 1, 2, 3, 4, 5]}))["train"]
    assert 1.3 < more / hours(made)["train"] < 2  # the trials are the same
    paper = plan("paper")
    full = paper.sizes.train(paper.jobs["glue/rte/full"])
    adapter = paper.sizes.train(paper.jobs["glue/rte/single_adapter"])
    assert full.seconds > adapter.seconds
    half = plan("paper", {"speed": {"gpu_tflops": 60}})
    assert hours(half)["pool"] < hours(paper)["pool"]


@pytest.mark.parametrize("name", ["quick", "small", "paper", "people"])
def test_every_job_of_a_tier_has_a_plan(name: str) -> None:
    made, gpu = plan(name), name in ("paper", "people")
    value = plan_json(made)
    needs = [need for _, need in made.needs()]
    assert len(needs) == value["jobs"] >= len(made.jobs) + len(made.grid.jobs)
    assert all(need.seconds >= START and need.memory_mb > 500 for need in needs)
    assert all((need.device_mb > 0) == gpu for rule, need in made.needs()
               if rule != "trained_bank")  # fmt: skip
    assert value["hours"] == pytest.approx(made.hours, rel=1e-3)
    text = plan_text(made)
    for step in value["steps"]:
        assert step["rule"] in text
    assert ("GPU hours" in text) == gpu
    assert plan_line(made).startswith(f"{value['jobs']} jobs that train, some ")


def test_requests_leave_room_and_grow_with_each_attempt() -> None:
    need = Need(seconds=3600, memory_mb=2100, disk_mb=1)
    assert (memory_request(need), memory_request(need, 2)) == (3500, 7000)
    assert (time_request(need), time_request(need, 3)) == (180, 540)
    assert time_request(Need(1, 1, 1)) == 15


def test_rules_ask_for_what_their_job_takes() -> None:
    made = plan("small")

    class Wildcards:
        suite, task, arm = "glue", "sst2", "head_only"
        cohort = "md_agreement"

    assert made.memory("train")(Wildcards, 1) == memory_request(
        made.sizes.train(made.jobs["glue/sst2/head_only"])
    )
    assert made.minutes("donors")(Wildcards, 2) == time_request(
        made.sizes.donors(made.grid.donors["md_agreement"]), 2
    )
    Wildcards.arm = "adapter"
    assert made.minutes("cohort_part")(Wildcards, 1) > made.minutes("cohort_tune")(Wildcards, 1)


def test_an_encoder_that_nothing_is_known_of_is_sized_as_bert_base() -> None:
    assert shape_of({"name": "somebody/model", "path": None}).name == "bert-base-uncased"


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(ROOT / "config/paper.yaml")]) == 0
    assert "tier paper: bert-base-uncased, 2480 records" in capsys.readouterr().out
    assert cli.main(["plan", str(ROOT / "config/paper.yaml"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert {step["rule"]: step["jobs"] for step in value["steps"]} == {
        "pool": 8,
        "trained_bank": 34,
        "train": 496,
    }
