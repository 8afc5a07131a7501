"""Draws of a random bank: which arms are draws of one bank, and the two spreads of their scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from factory import make_record, make_tier

from xpeft.records import record_path, write_record
from xpeft.report.bank_draws import make_draws, make_table
from xpeft.report.summary import make_summary

HARD = "x_peft-hard-n100-k50"


def test_draws_of_one_bank_over_the_seeds_that_all_have(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2", "glue/stsb"), seeds=3)
    for number in (1, 2):
        for seed in range(2 if number == 2 else 3):
            record = make_record("glue/sst2", HARD, seed, variant=f"bank seed {number}")
            write_record(tmp_path / "records" / record_path(record["cell"]), record)
    tied = make_record("glue/sst2", HARD, 0, variant="tied")
    write_record(tmp_path / "records" / record_path(tied["cell"]), tied)
    arms = make_summary(tmp_path / "records")["arms"]
    (draws,) = make_draws(arms)
    assert [arm["arm"] for arm in draws.arms] == [HARD, f"{HARD}-bankseed1", f"{HARD}-bankseed2"]
    assert draws.seeds == [0, 1]
    own = {arm["arm"]: arm["scores"] for arm in draws.arms}
    assert draws.components.means == pytest.approx([sum(s[:2]) / 2 for s in own.values()])
    table = make_table(arms)
    assert table.data[0]["draws"] == 3 and len(table.rows[0]) == len(table.columns)


def test_without_another_draw_there_is_nothing_to_say(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), seeds=3)
    assert make_table(make_summary(tmp_path / "records")["arms"]).rows == []
