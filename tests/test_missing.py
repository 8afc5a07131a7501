"""What is missing in a partial run, and why."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from factory import make_tier

from xpeft.errors import RecordError
from xpeft.io import write_json, write_text
from xpeft.report.missing import NOT_STARTED, list_missing
from xpeft.report.summary import make_summary


def test_the_reason_is_what_the_newest_log_says(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_text(logs / "train/glue/rte/failed.log", "step 1\nxpeft: error: no data\nbye\n")
    write_text(logs / "train/glue/rte/killed.log", "step 1\nstep 2\n\n")
    write_text(logs / "train/glue/rte/silent.log", "")
    for age, (name, text) in enumerate(
        [("part/people/arm/1-0-1.log", "xpeft: error: out of memory\n"),
         ("part/people/arm/0-0-1.log", "done\n"), ("tune/people/arm.log", "done\n")]
    ):  # fmt: skip
        write_text(logs / name, text)
        os.utime(logs / name, (1e9 - age, 1e9 - age))
    jobs = ["glue/rte/failed", "glue/rte/killed", "glue/rte/silent", "glue/rte/waiting"]
    assert list_missing(["glue/rte/waiting/seed0.json"], logs, {})[0]["reason"] == NOT_STARTED
    found = list_missing(
        [f"{job}/seed{seed}.json" for job in [*jobs, "profiles/people/arm"] for seed in (2, 0)],
        logs,
        damaged={"glue/rte/waiting/seed2.json": "seed2.json: half a record"},
    )
    assert [entry["job"] for entry in found] == [*jobs, "profiles/people/arm"]
    assert all(entry["seeds"] == [0, 2] for entry in found)
    assert [entry["reason"] for entry in found] == [
        "no data",
        "no error in its log; it ends with: step 2",
        "its log is empty",
        "seed2.json: half a record",
        "out of memory",
    ]


def test_only_a_partial_summary_may_lack_records(tmp_path: Path) -> None:
    make_tier(tmp_path)
    index = {"glue/sst2/head_only": [0, 1], "glue/sst2/new": [0], "glue/rte/new": [0]}
    write_json(tmp_path / "cells.json", index)
    with pytest.raises(RecordError, match=r"missing, but .*cells\.json names it, and 1 more; run"):
        make_summary(tmp_path / "records", cells=tmp_path / "cells.json")
    summary = make_summary(
        tmp_path / "records", cells=tmp_path / "cells.json", logs_dir=tmp_path / "logs"
    )
    assert sorted(summary["records"]) == [f"glue/sst2/head_only/seed{seed}.json" for seed in (0, 1)]
    assert [entry["job"] for entry in summary["missing"]] == ["glue/rte/new", "glue/sst2/new"]


def test_a_damaged_record_is_missing_and_told(tmp_path: Path) -> None:
    make_tier(tmp_path)
    write_json(tmp_path / "cells.json", {"glue/sst2/head_only": [0, 1]})
    (tmp_path / "records/glue/sst2/head_only/seed0.json").write_text('{"half')
    told = (
        r"head_only/seed0\.json: expected JSON, found .*; delete it, and its cell is trained again"
    )
    with pytest.raises(RecordError, match=told):
        make_summary(tmp_path / "records", cells=tmp_path / "cells.json")
    summary = make_summary(
        tmp_path / "records", cells=tmp_path / "cells.json", logs_dir=tmp_path / "logs"
    )
    assert list(summary["records"]) == ["glue/sst2/head_only/seed1.json"]
    (entry,) = summary["missing"]
    assert (entry["job"], entry["seeds"]) == ("glue/sst2/head_only", [0])
    assert re.search(told, entry["reason"])
