"""CLAIMS.md, ARTIFACT.md and LICENSES.md: filled in from records and configs, and up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from factory import make_ledger, make_tier

from xpeft.claims import judge, load_claims, write_claims
from xpeft.config import load_config
from xpeft.data.specs import TASKS
from xpeft.io import read_json, write_json
from xpeft.ledger import ledger
from xpeft.report.claims_page import claims_page
from xpeft.report.papers import PAPERS, make_papers, write_papers
from xpeft.report.summary import make_summary, write_summary
from xpeft.shapes import encoder_shape
from xpeft.workflow import Plan

ROOT = Path(__file__).parent.parent
TIERS = ("quick", "small", "paper")


def test_papers_of_made_up_records(tmp_path: Path) -> None:
    tier = tmp_path / "results" / "small"
    make_tier(tier, tasks=("glue/sst2", "glue/rte"))
    later = tier / "records/glue/sst2/head_only/seed2.json"  # a seed that another process added
    record = read_json(later)
    record["run"] |= {"finished": "2031-01-01T00:00:00Z", "wall_seconds": 7200.0}
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

    licences = (tmp_path / "LICENSES.md").read_text()
    for spec in TASKS.values():
        assert f"| `{spec.name}` | {spec.licence} |" in licences


@pytest.mark.parametrize("name", ["CLAIMS.md", *PAPERS])
def test_the_committed_papers_are_those_of_the_committed_records(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XPEFT_DATA", raising=False)
    summary = make_summary(ROOT / "results/small/records")
    claims = judge(
        load_claims(), summary, [ledger(encoder_shape("bert-base-uncased"), adapters=100)]
    )
    if name == "CLAIMS.md":
        text = claims_page(claims, "results/small/records")
    else:
        plans = [Plan.make(load_config(ROOT / f"config/{tier}.yaml")) for tier in TIERS]
        text = make_papers(summary, claims, plans, "results/small/records")[name]
    assert (ROOT / name).read_text() == text, "run make papers"
