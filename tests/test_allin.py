"""All-in: bytes are counted for the shapes of the claim, scores are those of the records."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import MAIN, SMALL, make_cohort, make_people, make_tier

from xpeft.ledger import ledger, profile_bytes
from xpeft.report.allin import TARGET, allin_figure, make_panels, make_table, payload_at
from xpeft.report.drawing import render
from xpeft.report.forms import to_markdown
from xpeft.report.summary import make_summary, varied
from xpeft.shapes import SHAPES
from xpeft.store import profile_file_bytes

MINI = SHAPES["all-MiniLM-L6-v2"]
COHORT = ("shared-adapter", "single_adapter", "base", "bias", "hard-random")


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("allin")
    make_tier(folder, tasks=SMALL[:3], arms=(*MAIN, "full", "lora"), seeds=3)
    make_cohort(folder, "huffpost", arms=COHORT, people=make_people("huffpost", 24))
    made: list[dict[str, Any]] = make_summary(folder / "records")["arms"]
    return made


def one(arms: list[dict[str, Any]], name: str, suite: str = "glue") -> dict[str, Any]:
    return next(arm for arm in arms if (arm["arm"], arm["suite"]) == (name, suite))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("head_only", {}),
        ("single_adapter", {}),
        ("x_peft-soft-n100", {"mask": "soft", "n": 100}),
        ("x_peft-hard-n100-k50", {"mask": "hard", "n": 100, "k": 50, "codec": "enumerative"}),
    ],
)
@pytest.mark.parametrize(("shape", "bottleneck"), [(TARGET, 48), (MINI, 24)])
def test_a_profile_is_counted_as_the_ledger_counts_it(
    arms: list[dict[str, Any]], name: str, form: dict[str, Any], shape: Any, bottleneck: int
) -> None:
    arm = one(arms, name)
    sizes = {"layers": shape.layers, "width": shape.width, "bottleneck": bottleneck, "classes": 2}
    expected = profile_bytes(method=arm["method"], **sizes, **form)["total"]
    assert payload_at(arm, MINI, shape) == expected


def test_norm_gain_tied_masks_and_heads_are_counted_for_the_other_shapes(
    arms: list[dict[str, Any]],
) -> None:
    arm = copy.deepcopy(one(arms, "x_peft-hard-n100-k50"))
    bare = 290
    arm |= {"head": "seeded", "parameters": arm["parameters"] | {"head": 0}}
    assert payload_at(arm, MINI, TARGET) == bare
    arm["parameters"] |= {"norm": 2 * 24 * 6, "gain": 12}
    assert payload_at(arm, MINI, TARGET) == bare + 4 * 2 * 48 * 12 + 4 * 24
    arm["parameters"] |= {"norm": 0, "gain": 0, "head": 15}
    assert payload_at(arm | {"head": "shared+bias"}, MINI, TARGET) == bare + 60
    arm["parameters"] |= {"head": 2 * (384 + 2)}  # of three classes two have a row
    assert payload_at(arm | {"head": "binary"}, MINI, TARGET) == bare + 2 * (96 + 8)
    arm["parameters"] |= {"masks": 600, "head": 0}
    assert payload_at(arm, MINI, TARGET) == 145
    arm["parameters"] |= {"masks": 599}
    assert payload_at(arm, MINI, TARGET) is None


def test_peers_and_fine_tuning_are_counted_by_formula(arms: list[dict[str, Any]]) -> None:
    head = 4 * 769 * 2
    account = {entry["key"]: entry["bytes"] for entry in ledger(TARGET)["peers"]}
    for name in ("lora", "full"):
        assert payload_at(one(arms, name), MINI, TARGET) == account[name] + head
    unknown = one(arms, "lora") | {"method": "another"}
    assert payload_at(unknown, MINI, TARGET) is None


def test_arms_on_fewer_tasks_are_named(arms: list[dict[str, Any]]) -> None:
    few = [arm for arm in arms if (arm["arm"], arm["task"]) != ("lora", "mrpc")]
    panel = make_panels(few)[0]
    assert panel.data == list(SMALL[:3]) and panel.left_out == ("LoRA",)


def test_the_row_of_a_method_says_whether_it_reaches_the_goal(
    arms: list[dict[str, Any]],
) -> None:
    seeded = []
    for arm in arms:
        if arm["arm"] == "x_peft-hard-n100-k50" and arm["task"] != "mrpc":
            parameters = arm["parameters"] | {"head": 0}
            seeded.append(arm | {"arm": "drawn", "head": "seeded", "parameters": parameters})
    (tasks, cohort) = make_panels([*arms, *seeded])
    shown = {row.arm["arm"]: row for row in tasks.rows}
    assert set(shown) == {*MAIN, "full", "lora", "drawn"} and tasks.left_out == ()
    assert tasks.data == [task for task in SMALL[:3] if task != "glue/mrpc"]  # those it has
    assert [name for name, row in shown.items() if row.fits] == ["drawn"]
    row = shown["drawn"]
    account = ledger(TARGET, 100)
    (stored,) = (item for item in account["store"] if item["key"] == "enumerative")
    assert (row.payload, row.stored) == (stored["payload_bytes"], stored["bytes"])
    assert row.ratio == pytest.approx(stored["ratio"], abs=1e-3)
    own = profile_file_bytes(ledger(MINI, 100)["masks"]["hard_enumerative"]["bytes"])
    assert row.own_ratio == pytest.approx(ledger(MINI)["adapter"]["bytes"] / own)
    gaps = [
        100 * arm["versus"]["single_adapter"]["mean"]
        for arm in arms
        if arm["arm"] == "x_peft-hard-n100-k50" and f"{arm['suite']}/{arm['task']}" in tasks.data
    ]
    assert row.gap == pytest.approx(np.mean(gaps))
    assert {row.arm["arm"] for row in cohort.rows} == {"single_adapter", "bias", "hard-random"}


def test_people_are_compared_with_an_adapter_of_their_own(arms: list[dict[str, Any]]) -> None:
    cohort = make_panels(arms)[-1]
    left, right = one(arms, "hard-random", "profiles"), one(arms, "single_adapter", "profiles")
    kept = varied(left["profiles"])
    gaps = np.array(left["profiles"]["accuracy"]) - np.array(right["profiles"]["accuracy"])
    base = np.array(one(arms, "base", "profiles")["profiles"]["accuracy"])
    free = (base - np.array(right["profiles"]["accuracy"]))[:, kept].mean()
    assert cohort.free == pytest.approx(100 * free)  # and no row, as nothing of it is stored
    (row,) = (row for row in cohort.rows if row.arm is left)
    assert row.gap == pytest.approx(100 * gaps[:, kept].mean())
    assert row.low is not None and row.high is not None and row.low < row.gap < row.high
    assert [row.stored for row in cohort.rows] == sorted(row.stored for row in cohort.rows)
    for majority, learned in ((0.0, True), (2.0, False)):
        changed = [arm | {"majority": majority} if arm is right else arm for arm in arms]
        assert make_panels(changed)[-1].learned == learned
    other = [arm | {"encoder": "bert-base-uncased"} if arm is left else arm for arm in arms]
    assert len(make_panels(other)[-1].rows) == len(cohort.rows) - 1


def test_table_and_figure_hold_every_row(arms: list[dict[str, Any]], tmp_path: Path) -> None:
    panels, table = make_panels(arms), make_table(arms)
    assert len(table.rows) == len(table.data) == sum(len(panel.rows) for panel in panels) > 6
    assert "adapter" in to_markdown(table)
    figure = allin_figure(arms)
    assert len(figure.axes) == len(panels)
    assert render(allin_figure(arms), "png") == render(figure, "png")
    alone = [arm for arm in arms if arm["method"] != "single_adapter"]
    assert make_panels(alone) == [] and make_table([]).rows == []
    assert "No evidence yet" in allin_figure(alone).texts[0].get_text()


def test_an_encoder_of_unknown_shape_is_left_out(arms: list[dict[str, Any]]) -> None:
    assert make_panels([arm | {"encoder": "another"} for arm in arms]) == []
