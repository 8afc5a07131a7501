"""Verification: what is committed passes, and every planted change is found and named."""

from __future__ import annotations

import copy
import gzip
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factory import make_record, make_tier
from matplotlib.figure import Figure

from xpeft.cli import main
from xpeft.config import load_config, read_yaml
from xpeft.io import read_json, sha256_file, write_json
from xpeft.records import record_path, write_record
from xpeft.report.claims_page import claims_page
from xpeft.report.figures import FIGURES
from xpeft.report.papers import TIERS, make_papers
from xpeft.verify.checks import verify
from xpeft.verify.drawn import drawn
from xpeft.verify.expected import NAME, derive, judged, update_expected
from xpeft.verify.findings import MOST_LINES, Findings
from xpeft.verify.values import condense, differences
from xpeft.workflow import Plan

ROOT = Path(__file__).parents[1]
ONE = "records/glue/sst2/x_peft-hard-n100-k50/seed1.json"
LEDGER = {"encoder": "bert-base-uncased", "adapters": 100, "k": 50, "classes": 15}

CONFIG = """
tier: small
encoder: {name: all-MiniLM-L6-v2, source: local, path: none}
data: {source: local, path: none}
tasks: [glue/sst2]
seeds: [0, 1, 2]
arms:
  head_only: {method: head_only}
"""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier of made-up records with what is expected of it, and its config."""
    folder = tmp_path_factory.mktemp("verify") / "small"
    make_tier(folder, tasks=("glue/sst2", "glue/stsb"))
    (folder / "config.yaml").write_text(CONFIG)
    update_expected(folder, LEDGER)
    return folder


@pytest.fixture
def tier(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(made, tmp_path / "small")


def check(tier: Path, data: Path | None = None) -> Findings:
    plan = Plan.make(read_yaml(tier / "config.yaml"), "config.yaml")
    return verify(plan, tier, data or tier / "none")


def pages(tier: Path) -> Path:
    """A project beside a tier, with the pages that its records give."""
    project = tier.parent
    (project / "config").symlink_to(ROOT / "config")
    summary, _, claims = judged(tier, LEDGER)
    plans = [Plan.make(load_config(ROOT / f"config/{name}.yaml")) for name in TIERS]
    found = make_papers(summary, claims, plans, "small/records")
    found["CLAIMS.md"] = claims_page(claims, "small/records")
    for name, text in found.items():
        (project / name).write_text(text)
    return project


def edit(path: Path, change: Callable[[Json], None]) -> None:
    value = read_json(path)
    change(value)
    write_json(path, value)


def test_the_pages_say_what_the_records_give_to_the_letter(tier: Path) -> None:
    project, plan = pages(tier), Plan.make(read_yaml(tier / "config.yaml"), "config.yaml")
    assert not verify(plan, tier, tier / "none", project).differs
    page = project / "CLAIMS.md"
    page.write_text(page.read_text().replace("11,468", "11,648", 1))
    (project / "LICENSES.md").unlink()
    artifact = project / "ARTIFACT.md"
    artifact.write_bytes(artifact.read_bytes().replace(b"\n", b"\r\n\xff", 1))
    wrong, damaged, absent = verify(plan, tier, tier / "none", project).differs
    assert wrong.startswith(f"{page}: line ") and "11,648" in wrong and "make papers" in wrong
    assert damaged.startswith(f"{artifact}: line 1: found '# Artifact appendix\\r', expected")
    assert absent.startswith(f"{project / 'LICENSES.md'}: line 1: found ''")


# --------------------------------------------------------------------------- what is committed


def test_the_committed_evidence_is_as_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XPEFT_DATA", raising=False)
    plan = Plan.make(read_yaml(ROOT / "config/small.yaml"), "config/small.yaml")
    found = verify(plan, ROOT / "results/small", tmp_path / "none", ROOT)
    assert not found.differs, (
        "after new records: xpeft verify config/small.yaml --update, make papers"
    )
    assert found.checked["papers"] == 3
    records = len(list((ROOT / "results/small/records").rglob("*.json")))
    assert found.checked["records"] == records > 0
    assert found.checked["files"] > records
    assert found.checked["figures"] == len(FIGURES)
    assert found.checked["encoders"] and found.checked["banks"] >= 2
    assert any(line.startswith("data of glue/cola: ") for line in found.not_checked)


def test_a_planted_score_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tier = shutil.copytree(ROOT / "results/small", tmp_path / "small")
    path = next((tier / "records").rglob("seed0.json"))
    edit(path, lambda record: record["result"].update(score=0.99))
    argv = ["verify", str(ROOT / "config/small.yaml"), "--folder", str(tier)]
    assert main(argv) == 1
    out = capsys.readouterr().out
    name = path.relative_to(tier).as_posix()
    assert f"differs: {name}: found sha256 " in out
    assert f"differs: {path}: result.score: found 0.99, expected " in out


# ------------------------------------------------------------------------------ planted changes


def test_nothing_is_found_where_nothing_changed(tier: Path) -> None:
    found = check(tier)
    assert not found.differs
    kinds = ("files", "records", "verdicts", "tables", "figures")
    assert all(found.checked[kind] for kind in kinds)
    assert "encoder all-MiniLM-L6-v2: no folder none" in found.not_checked
    assert found.text().endswith(f"; differences 0, not checked {len(found.not_checked)}")


def consistent(record: Json) -> None:
    """One more row right, in all places that say so."""
    result = record["result"]
    row = next(i for i, code in enumerate(result["predictions"]) if code == 0)
    result["predictions"][row] = 1
    result["confusion"][1][0] -= 1
    result["confusion"][1][1] += 1
    hits, rows = sum(result["confusion"][i][i] for i in (0, 1)), len(result["predictions"])
    result["score"] = result["scores"]["accuracy"] = hits / rows


def curve(record: Json) -> None:
    record["result"]["loss"]["loss"][3] += 0.01


def stored(record: Json) -> None:
    record["result"]["bytes"]["masks"] += 8
    record["result"]["bytes"]["total"] += 8


@pytest.mark.parametrize(
    ("change", "places"),
    [
        (
            consistent,
            ["tables.scores.mean[", "tables.records.score[", "figures.scores.axes[", "verdicts."],
        ),
        (curve, ["figures.learning.axes[0].lines["]),
        (stored, ["tables.records.bytes["]),
    ],
)
def test_a_record_that_agrees_with_itself_is_found_by_hash_and_by_what_follows(
    tier: Path, change: Callable[[Json], None], places: list[str]
) -> None:
    edit(tier / ONE, change)
    found = check(tier)
    assert found.differs[0].startswith(f"{ONE}: found sha256 ")
    for place in places:
        assert any(line.startswith(place) for line in found.differs), (place, found.differs)


def test_exchanged_predictions_are_found_by_hash(tier: Path) -> None:
    def exchange(record: Json) -> None:
        predictions = record["result"]["predictions"]
        one, other = predictions.index(0), predictions.index(1)
        predictions[one], predictions[other] = 1, 0

    edit(tier / ONE, exchange)
    (line,) = check(tier).differs
    assert line.startswith(f"{ONE}: found sha256 ")


def test_a_changed_tuning_file(tier: Path) -> None:
    path = "tuning/glue/sst2/head_only.json"
    edit(tier / path, lambda value: value["trials"][0].update(score=0.123))
    differs = check(tier).differs
    assert differs[0].startswith(f"{path}: found sha256 ")
    assert any(line.startswith("tables.tuning.score[") for line in differs)


def test_a_missing_record(tier: Path) -> None:
    (tier / ONE).unlink()
    differs = check(tier).differs
    assert differs[0].startswith(f"{ONE}: found no such file, expected one of sha256 ")
    assert any(line.startswith("tables.records.") for line in differs)


def test_a_record_that_is_not_expected(tier: Path) -> None:
    record = make_record("glue/sst2", "head_only", 9)
    path = f"records/{record_path(record['cell'])}"
    write_record(tier / path, record)
    differs = check(tier).differs
    assert differs[0].startswith(f"{path}: found a file that is not expected; ")


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"[]"])
def test_a_damaged_record(tier: Path, content: bytes) -> None:
    (tier / ONE).write_bytes(content)
    found = check(tier)
    assert [line.partition(": ")[0] for line in found.differs] == [ONE, str(tier / ONE)]
    assert "verdicts, tables, figures: no summary can be made" in found.not_checked
    assert found.checked["records"] == 24 and not found.checked["tables"]


def test_a_damaged_tuning_file(tier: Path) -> None:
    path = "tuning/glue/sst2/head_only.json"
    (tier / path).write_text("{")
    differs = check(tier).differs
    assert [line.partition(": ")[0] for line in differs] == [path, str(tier / path)]


def test_a_record_in_the_wrong_place(tier: Path) -> None:
    (tier / ONE).rename(tier / ONE.replace("seed1", "seed7"))
    assert any("found the cell of glue/sst2" in line for line in check(tier).differs)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda e: e["tables"]["scores"]["mean"].__setitem__(1, 0.5), "tables.scores.mean[1]"),
        (lambda e: e["tables"]["scores"].pop("mean"), "tables.scores.mean"),
        (lambda e: e["tables"].pop("gaps"), "tables.gaps"),
        (lambda e: e["tables"].update(more={}), "tables.more"),
        (lambda e: e["figures"]["waterfall"]["axes"][0]["texts"].pop(), "figures.waterfall.axes"),
        (
            lambda e: e["verdicts"]["memory-masks"].update(verdict="contradicted"),
            "verdicts.memory-masks.verdict",
        ),
        (
            lambda e: e["verdicts"]["memory-masks"].update(effect=11468.3),
            "verdicts.memory-masks.effect",
        ),
        (lambda e: e.update(tier="paper"), "tier"),
    ],
)
def test_another_result_of_the_same_records(
    tier: Path, change: Callable[[Json], None], place: str
) -> None:
    """As changed code would give it: here it is what is expected that was changed."""
    edit(tier / NAME, change)
    (line,) = check(tier).differs
    assert line.startswith(place) and "found" in line and "expected" in line


def test_no_expectation_is_an_error(tier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["verify", str(tier / "config.yaml"), "--folder", str(tier)]
    write_json(tier / NAME, {"schema": 1})
    assert main(argv) == 2
    assert "write it with xpeft verify --update" in capsys.readouterr().err
    (tier / NAME).unlink()
    assert main(argv) == 2
    assert f"{tier / NAME}: no such file" in capsys.readouterr().err


def test_update_takes_records_as_they_are_if_they_are_valid(
    tier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["verify", str(tier / "config.yaml"), "--folder", str(tier)]
    edit(tier / ONE, consistent)
    before = (tier / NAME).read_bytes()
    assert main([*argv, "--update"]) == 0
    assert main(argv) == 0
    assert (tier / NAME).read_bytes() != before
    kept = (tier / NAME).read_bytes()
    edit(tier / ONE, lambda record: record["result"].update(score=0.5))
    assert main([*argv, "--update"]) == 2
    assert "result.score: found 0.5" in capsys.readouterr().err
    assert (tier / NAME).read_bytes() == kept


def test_a_tier_without_records_has_nothing_to_expect(
    tier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["verify", str(tier / "config.yaml"), "--folder", str(tier / "none"), "--update"]
    assert main(argv) == 2
    assert "found no records" in capsys.readouterr().err


# --------------------------------------------------------------------------------------- inputs


@pytest.fixture
def data(tier: Path) -> Path:
    """A tier of one record, and the data folder that it was made from."""
    record = make_record("glue/sst2", "head_only", 0)
    result = record["result"]
    left = copy.deepcopy(result["confusion"])
    labels = []
    for code in result["predictions"]:
        true = next(true for true in (0, 1) if left[true][code])
        left[true][code] -= 1
        labels.append(true)
    folder = tier / "data-of-hub" / "glue" / "sst2"
    folder.mkdir(parents=True)
    for split, codes in (("train", [0, 1]), ("validation", labels)):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            for number, code in enumerate(codes):
                file.write(json.dumps({"sentence": f"row {number}", "label": code}) + "\n")
        record["run"]["data_sha256"][split] = sha256_file(folder / f"{split}.jsonl.gz")
    shutil.rmtree(tier / "records")
    shutil.rmtree(tier / "tuning")
    write_record(tier / "records" / record_path(record["cell"]), record)
    update_expected(tier, LEDGER)
    return folder.parents[1]


def test_data_is_hashed_and_predictions_are_scored_again(tier: Path, data: Path) -> None:
    found = check(tier, data)
    assert not found.differs
    assert found.checked["data files"] == 2 and found.checked["scores from labels"] == 1


def test_other_data_is_named(tier: Path, data: Path) -> None:
    path = data / "glue/sst2/train.jsonl.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    (line,) = check(tier, data).differs
    assert line.startswith(f"{path}: found sha256 {sha256_file(path)}, expected ")
    assert line.endswith("which 1 records name, the first records/glue/sst2/head_only/seed0.json")


def test_predictions_that_do_not_give_the_score_are_found_though_all_else_agrees(
    tier: Path, data: Path
) -> None:
    path = tier / "records/glue/sst2/head_only/seed0.json"
    with gzip.open(data / "glue/sst2/validation.jsonl.gz", "rt") as file:
        labels = [json.loads(line)["label"] for line in file]

    def exchange(record: Json) -> None:
        codes = record["result"]["predictions"]
        rows = [
            next(i for i, code in enumerate(codes) if code == labels[i] == true) for true in (0, 1)
        ]
        for row in rows:
            codes[row] = 1 - codes[row]

    edit(path, exchange)
    update_expected(tier, LEDGER)
    (line,) = check(tier, data).differs
    assert line.startswith("records/glue/sst2/head_only/seed0.json: result.scores.accuracy: found")
    assert "from its predictions and the labels of glue/sst2" in line


def test_predictions_of_other_rows_are_found(tier: Path, data: Path) -> None:
    record = make_record("glue/sst2", "head_only", 1, rows=100)
    record["run"]["data_sha256"]["validation"] = sha256_file(data / "glue/sst2/validation.jsonl.gz")
    record["run"]["data_sha256"]["train"] = sha256_file(data / "glue/sst2/train.jsonl.gz")
    write_record(tier / "records" / record_path(record["cell"]), record)
    update_expected(tier, LEDGER)
    (line,) = check(tier, data).differs
    assert "seed1.json: result.predictions: found 100, expected one for each of the 872" in line


def test_a_prepared_file_is_hashed_where_it_is(tier: Path, data: Path) -> None:
    record = tier / "records/glue/sst2/head_only/seed0.json"
    edit(record, lambda r: r["run"]["data_sha256"].update({"train.parquet": "6" * 64}))
    update_expected(tier, LEDGER)
    place = tier / "data/glue/sst2"
    assert f"prepared files of glue/sst2: train.parquet not in {place}" in check(tier).not_checked
    place.mkdir(parents=True)
    (place / "train.parquet").write_bytes(b"rows")
    (line,) = check(tier).differs
    assert line.startswith(f"{place / 'train.parquet'}: found sha256 ")


def test_a_bank_of_another_recipe_is_named(tier: Path) -> None:
    """The made-up records name a bank that no recipe gives."""
    config = CONFIG.replace("source: local, path: none", "source: hub, revision: none", 1)
    arm = "  x_peft-hard-n100-k50: {method: x_peft, mask: hard, k: 2, bank: {n: 4, seed: 3}}\n"
    (tier / "config.yaml").write_text(config + arm)
    found = check(tier)
    (line,) = found.differs
    assert line.startswith("random bank of 4 adapters, seed 3: found sha256 ")
    assert f"expected {'5' * 64}, which 3 records name" in line
    lines = found.not_checked
    assert "bank of glue/sst2/x_peft-soft-n100: the config has no such arm now" in lines
    assert "config of glue/sst2/x_peft-hard-n100-k50: the config has other settings now" in lines
    assert any(line.startswith("encoder all-MiniLM-L6-v2: it is of the hub") for line in lines)


# ---------------------------------------------------------------------------------- the pieces


def test_floats_are_compared_with_a_tolerance_and_all_else_exactly() -> None:
    def found(one: Any, other: Any, most: int = 9) -> list[str]:
        return list(differences(condense(one, most), condense(other, most), "x"))

    assert not found({"a": [0.1 + 0.2, None]}, {"a": [0.3, None]})
    assert found({"a": [0.1 + 1e-8]}, {"a": [0.1]}) == ["x.a[0]: found 0.10000001, expected 0.1"]
    assert found([1], [1.0]) and found([True], [1]) and found([None], [0.0])
    assert found([1, 2], [1]) == ["x: found 2 items, expected 1"]
    assert found({"a": 1}, {"b": 1}) == [
        "x.a: found 1, expected nothing of that name",
        "x.b: found nothing, expected 1",
    ]
    with pytest.raises(ValueError, match="JSON compliant"):
        condense([math.nan], 9)


def test_a_long_list_is_compared_by_its_sums_and_the_hash_of_the_rest() -> None:
    values = [{"name": str(i), "value": i / 7} for i in range(100)]
    short = condense(values, 9)
    assert set(short) == {"items", "sha256", "sums"} and short["items"] == 100

    def differs(change: Callable[[list[Json]], object]) -> bool:
        other = copy.deepcopy(values)
        change(other)
        return any(differences(condense(other, 9), short))

    assert not differs(lambda v: v[50].update(value=v[50]["value"] + 1e-13))
    assert differs(lambda v: v[50].update(value=v[50]["value"] + 1e-4))
    assert differs(lambda v: v[50].update(name="other"))
    assert differs(lambda v: v[50].update(value=None))
    assert differs(lambda v: v.pop())

    def exchange(v: list[Json]) -> None:
        v[3]["value"], v[70]["value"] = v[70]["value"], v[3]["value"]

    assert differs(exchange)


def test_the_data_of_a_figure_are_what_it_shows() -> None:
    figure = Figure()
    axes = figure.add_subplot(title="title", xlabel="x")
    axes.plot([1, 2], [3, 4])
    axes.scatter([5], [6])
    axes.bar([0], [7], width=1)
    axes.text(0, 0, "words")
    axes.set_yticks([0], ["zero"])
    figure.legend(axes.lines, ["line"])
    assert drawn(figure) == {
        "legend": ["line"],
        "axes": [
            {
                "title": "title",
                "labels": ["x"],
                "ticks": [["zero"]],
                "lines": [{"x": [1.0, 2.0], "y": [3.0, 4.0]}],
                "points": [{"x": [5.0], "y": [6.0]}],
                "bars": [[-0.5, 0.0, 1.0, 7.0]],
                "texts": ["words"],
            }
        ],
    }


def test_no_figure_is_without_data(made: Path) -> None:
    figures = derive(*judged(made, LEDGER))["figures"]
    assert list(figures) == list(FIGURES)
    others = {"gains", "warm", "map", "overlap", "sizes"}  # of which there are no records here
    for name in set(FIGURES) - others - {"method"}:
        (axes, *_) = figures[name]["axes"]
        assert axes.get("lines") or axes.get("points") or axes.get("bars"), name


def test_a_thing_that_differs_in_many_places_is_told_in_few_lines() -> None:
    findings = Findings()
    findings.check("tables", (f"tables.x[{i}]: found 1, expected 2" for i in range(40)))
    assert len(findings.differs) == MOST_LINES + 1
    assert findings.differs[-1] == "tables.x[0]: and 35 more places beside it"


# --------------------------------------------------------------------------------- without torch

WITHOUT_TORCH = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
from xpeft.cli import main

T = "small"
drawn = ["--summary", f"{T}/summary.json", "--ledger", f"{T}/ledger.json"]
for argv in (
    ["summary", "--records", f"{T}/records", "--out", f"{T}/summary.json"],
    ["ledger", "--encoder", "bert-base-uncased", "--out", f"{T}/ledger.json"],
    ["claims", *drawn, "--out", f"{T}/claims.json"],
    ["tables", *drawn, "--claims", f"{T}/claims.json", "--out", "tables"],
    ["figures", *drawn, "--claims", f"{T}/claims.json", "--out", "figures"],
    ["verify", f"{T}/config.yaml", "--folder", T],
):
    if main(argv):
        sys.exit(f"{argv[0]} failed")
"""


def test_figures_tables_and_verdicts_need_no_torch(tier: Path) -> None:
    """What `make figures` runs, and `xpeft verify`, where torch cannot be imported."""
    config = (tier / "config.yaml").read_text()
    (tier / "config.yaml").write_text(
        config.replace("source: local, path: none", "source: package", 1)
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=tier.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (tier.parent / "figures").iterdir()}
    assert names == {f"{name}.{form}" for name in FIGURES for form in ("svg", "pdf", "png")}
    assert (tier.parent / "tables/scores.csv").is_file()
    assert "not checked: encoder all-MiniLM-L6-v2: needs the package " in done.stdout
