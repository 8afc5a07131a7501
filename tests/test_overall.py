"""All tasks as one: gaps to the adapter, which tasks count, and the figure of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from factory import MORE, SMALL, make_tier

from xpeft.report.overall import make_overall, performance_figure, profile_curves
from xpeft.report.summary import Arm, main_grid, make_summary


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> list[Arm]:
    folder: Path = tmp_path_factory.mktemp("tier")
    make_tier(folder, tasks=SMALL, arms=MORE)
    return main_grid(make_summary(folder / "records")["arms"])


def test_gaps_are_points_from_the_adapters_mean(arms: list[Arm]) -> None:
    found = make_overall(arms)
    assert found["left_out"] == ["glue/wnli"]  # where the adapter says one class
    assert set(found["tasks"]) == set(SMALL) - {"glue/wnli"}
    by_name = {entry["arm"]: entry for entry in found["arms"]}
    adapter = by_name["single_adapter"]
    assert adapter["mean"] == pytest.approx(0)
    assert adapter["iqm"]["low"] <= 0 <= adapter["iqm"]["high"]
    head = by_name["head_only"]
    own = next(a for a in arms if (a["task"], a["arm"]) == ("sst2", "head_only"))
    yard = next(a for a in arms if (a["task"], a["arm"]) == ("sst2", "single_adapter"))
    assert head["gaps"]["glue/sst2"] == pytest.approx(
        [100 * (score - yard["over_seeds"]["mean"]) for score in own["scores"]]
    )
    assert head["iqm"]["high"] < 0


def test_an_arm_without_all_tasks_is_not_compared_over_them(arms: list[Arm]) -> None:
    partly = [a for a in arms if (a["task"], a["arm"]) != ("rte", "head_only")]
    assert "head_only" not in {entry["arm"] for entry in make_overall(partly)["arms"]}
    assert make_overall([a for a in arms if a["method"] != "single_adapter"])["arms"] == []


def test_shares_fall_from_all_runs_to_none(arms: list[Arm]) -> None:
    places, curves = profile_curves(make_overall(arms))
    assert places == sorted(places)
    for curve in curves.values():
        shares = [share.value for share in curve]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] == pytest.approx(1)


def test_the_figure_names_each_method_or_says_what_is_missing(arms: list[Arm]) -> None:
    (legend,) = performance_figure(arms).legends
    assert len(legend.get_texts()) == len({a["arm"] for a in arms})
    (words,) = performance_figure([]).texts
    assert "No evidence yet" in words.get_text()
