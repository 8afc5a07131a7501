"""ARTIFACT.md and LICENSES.md are filled in from records and configs."""

from __future__ import annotations

import re
from pathlib import Path

from factory import make_ledger, make_tier

from xpeft.claims import write_claims
from xpeft.config import load_config
from xpeft.data.specs import TASKS
from xpeft.io import read_json, write_json
from xpeft.report.papers import write_papers
from xpeft.report.summary import write_summary
from xpeft.workflow import Plan

ROOT = Path(__file__).parent.parent


def test_papers_of_made_up_records(tmp_path: Path) -> None:
    tier = tmp_path / "results" / "small"
    make_tier(tier, tasks=("glue/sst2", "glue/rte"))
    later = tier / "records/glue/sst2/head_only/seed2.json"  # a seed that another process added
    record = read_json(later)
    record["run"] |= {"finished": "2031-01-01T00:00:00Z", "wall_seconds": 7200.0}
    record["run"]["git"] = "0000000 (modified)"
    write_json(later, record)
    write_summary(tier / "records", tier / "summary.json")
    write_json(tier / "ledger.json", make_ledger())
    write_claims(tier / "summary.json", tier / "claims.json", [tier / "ledger.json"])
    configs = [ROOT / f"config/{name}.yaml" for name in ("quick", "small")]
    write_papers(tier / "summary.json", tier / "claims.json", configs, tmp_path)

    artifact = (tmp_path / "ARTIFACT.md").read_text()
    for link in re.findall(r"\]\((results/small/[^)]+)\)", artifact):
        assert list((tmp_path / link).glob("seed*.json")), link
    seconds = read_json(tier / "records/glue/rte/single_adapter/seed0.json")["run"]["wall_seconds"]
    (row,) = [line for line in artifact.splitlines() if "glue/rte/single_adapter)" in line]
    assert f"| {seconds / 3600:.2f} |" in row
    first = read_json(tier / "records/glue/sst2/head_only/seed0.json")["run"]["wall_seconds"]
    (added,) = [line for line in artifact.splitlines() if "glue/sst2/head_only)" in line]
    assert f"| {first / 3600 + 2:.2f} |" in added
    plan = Plan.make(load_config(configs[1]))
    planned = plan.sizes.train(plan.jobs["glue/rte/single_adapter"]).seconds / 3600
    assert f"| {planned:.2f} |" in row  # its first seeds: those further ones are not there
    assert plan.hours_of("glue/rte/single_adapter", [0, 3]) > planned
    for verdict in read_json(tier / "claims.json")["verdicts"]:
        assert f"CLAIMS.md#{verdict['id']}" in artifact

    there = len(list((tier / "records").rglob("seed*.json")))
    assert f"The {there} records of the tier `small`" in artifact
    assert (
        f"The other {sum(map(len, plan.seeds.values())) - there} are still to be run." in artifact
    )
    assert "Of the records 1 come from a working tree with changes" in artifact
    assert "2 passes over the rows of a task (MRPC 3, WNLI 3, CB 20," in artifact

    rows = read_json(tier / "records/glue/sst2/head_only/seed0.json")["result"]["rows"]["train"]
    assert f"SST-2 {rows:,} of 67,349" in artifact

    licences = (tmp_path / "LICENSES.md").read_text()
    for spec in TASKS.values():
        assert f"| `{spec.name}` | {spec.licence} |" in licences
