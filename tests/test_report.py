"""Summary, figures, tables and page: complete, linked, self-contained, the same bytes each time."""

from __future__ import annotations

import csv
import hashlib
import html
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from factory import (
    MAIN,
    finish,
    make_cohort,
    make_people,
    make_record,
    make_tier,
    make_tuning,
)

from xpeft.errors import RecordError, XpeftError
from xpeft.io import read_json, write_json
from xpeft.records import record_path, write_record
from xpeft.report import figures
from xpeft.report.bank_draws import make_draws, row_text
from xpeft.report.forms import to_latex
from xpeft.report.html import make_report, write_report
from xpeft.report.record_page import record_text
from xpeft.report.summary import make_summary, read_summary, task_name, write_summary
from xpeft.report.tables import TABLES, make_tables, write_tables
from xpeft.report.tuning_page import budget_words
from xpeft.report.words import p_value, score, signed, times

REAL = ("glue/cola", "glue/sst2", "glue/stsb", "glue/wnli")
MADE = ("embedded/sentiment",)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tiers, finished; the small one with ablations."""
    root = tmp_path_factory.mktemp("report") / "results"
    make_tier(root / "small", tasks=REAL, variants=("norm-none", "scale-mean", "bank seed 1"))
    make_tier(root / "quick", tier="quick", tasks=MADE)
    for tier in ("small", "quick"):
        finish(root / tier)
    return root


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return make_report([results / "quick", results / "small"], figures="figures", tables="tables")


class Page(HTMLParser):
    """The elements of a page, with their attributes and the text directly within them."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {key: value or "" for key, value in attrs}, [])
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element[2].append(data)

    def find(self, tag: str, **attributes: str) -> Iterator[tuple[dict[str, str], str]]:
        for name, found, text in self.elements:
            if name == tag and all(
                value in found.get(key.rstrip("_"), "").split() for key, value in attributes.items()
            ):
                yield found, "".join(text)


@pytest.fixture(scope="module")
def parsed(page: str) -> Page:
    return Page(page)


# ------------------------------------------------------------------------------------ summary


def test_the_summary_holds_every_record_and_where_it_lies(results: Path) -> None:
    summary = read_summary(results / "small" / "summary.json")
    assert summary["tier"] == "small"
    assert len(summary["records"]) == (len(REAL) * 4 + 3) * 3
    for path, record in summary["records"].items():
        assert record == read_json(results / "small" / "records" / path)
    assert sum(len(arm["records"]) for arm in summary["arms"]) == len(summary["records"])
    assert [task_name(arm) for arm in summary["arms"]][:: len(MAIN)][:3] == [
        "glue/cola",
        "glue/cola",
        "glue/sst2",
    ]


def test_an_arm_has_statistics_by_what_they_vary(results: Path) -> None:
    summary = read_summary(results / "small" / "summary.json")
    arm = next(a for a in summary["arms"] if a["task"] == "sst2" and a["mask"] == "hard")
    scores = [summary["records"][path]["result"]["score"] for path in arm["records"]]
    assert arm["scores"] == scores
    assert arm["over_seeds"]["mean"] == pytest.approx(sum(scores) / 3)
    assert arm["over_seeds"]["low"] < min(scores)
    assert len(arm["over_examples"]) == 3
    assert all(
        low < value < high for value, (low, high) in zip(scores, arm["over_examples"], strict=True)
    )
    head = next(a for a in summary["arms"] if a["task"] == "sst2" and a["method"] == "head_only")
    gap = sum(a - b for a, b in zip(scores, head["scores"], strict=True)) / 3
    assert arm["versus"]["head_only"]["mean"] == pytest.approx(gap)
    assert arm["versus"]["head_only"]["n"] == 3
    regression = next(a for a in summary["arms"] if a["task"] == "stsb")
    assert regression["over_examples"] is None
    constant = next(a for a in summary["arms"] if a["task"] == "wnli")
    assert constant["constant"] == [0, 1, 2]


def test_an_ablation_is_compared_with_the_arm_it_changes(results: Path) -> None:
    summary = read_summary(results / "small" / "summary.json")
    (arm,) = [a for a in summary["arms"] if a["variant"] == "norm-none"]
    assert arm["changes"]["arm"] == "x_peft-hard-n100-k50"
    assert arm["changes"]["difference"]["n"] == 3


def test_an_ablation_is_not_compared_with_an_arm_of_another_head(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), seeds=2, variants=("fewer",))
    for path in sorted((tmp_path / "records").rglob("*-fewer/*.json")):
        record = read_json(path)
        record["cell"]["k"] = 10
        write_json(path, record)
        record["cell"] |= {"arm": "k10-seeded", "variant": ""}
        record["result"]["settings"]["head"] = "seeded"
        write_record(tmp_path / "records" / record_path(record["cell"]), record)
    arms = {arm["arm"]: arm for arm in make_summary(tmp_path / "records")["arms"]}
    assert arms["k10-seeded"]["changes"] is None
    assert arms["x_peft-hard-n100-k50-fewer"]["changes"]["arm"] == "x_peft-hard-n100-k50"


@pytest.mark.parametrize("head", ["binary", "seeded"])
def test_an_arm_with_a_cheap_head_stands_for_no_kind(head: str, tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), seeds=2)
    usual = figures.headline(make_summary(tmp_path / "records")["arms"])
    for path in sorted((tmp_path / "records").rglob("*.json")):
        record = read_json(path)
        record["cell"]["arm"] += "-cheap"
        record["result"]["settings"]["head"] = head
        sizes = record["result"]["bytes"]
        sizes |= {"head": 0, "total": sizes["total"] - sizes["head"]}
        write_record(tmp_path / "records" / record_path(record["cell"]), record)
    both = make_summary(tmp_path / "records")["arms"]
    assert len(both) > len(usual)
    assert [arm["arm"] for arm in figures.headline(both)] == [arm["arm"] for arm in usual]


def test_a_small_bank_on_one_task_does_not_stand_for_its_kind(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2", "glue/mrpc"), seeds=2)
    usual = figures.headline(make_summary(tmp_path / "records")["arms"])
    for path in sorted((tmp_path / "records/glue/sst2/x_peft-hard-n100-k50").glob("*.json")):
        record = read_json(path)
        record["cell"] |= {"arm": "x_peft-hard-n25-k12", "n": 25, "k": 12}
        write_record(tmp_path / "records" / record_path(record["cell"]), record)
    both = make_summary(tmp_path / "records")["arms"]
    assert len(both) == len(usual) + 1
    assert [arm["arm"] for arm in figures.headline(both)] == [arm["arm"] for arm in usual]
    page = make_report([tmp_path])
    (curves,) = re.findall(r"Training loss on SST-2: [^<]*", page)
    assert "N=100, k=50 ends at" in curves and "N=25" not in curves


def test_the_seeds_of_an_arm_have_the_same_settings(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), seeds=2)
    path = next((tmp_path / "records").rglob("head_only/seed1.json"))
    record = read_json(path)
    record["result"]["settings"]["head_lr"] = 0.5
    write_json(path, record)
    with pytest.raises(RecordError, match=r"head_only/seed1\.json: result\.settings: found .*0\.5"):
        make_summary(tmp_path / "records")


def test_a_summary_of_a_grid_takes_its_cells_only(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), seeds=3)
    write_json(tmp_path / "cells.json", {"glue/sst2/head_only": [0, 2]})
    summary = make_summary(tmp_path / "records", cells=tmp_path / "cells.json")
    assert list(summary["records"]) == [f"glue/sst2/head_only/seed{seed}.json" for seed in (0, 2)]
    assert list(summary["tuning"]) == ["glue/sst2/head_only"]
    write_json(tmp_path / "cells.json", {"glue/sst2/head_only": [7]})
    with pytest.raises(RecordError, match=r"head_only/seed7\.json: missing, but .*cells\.json"):
        make_summary(tmp_path / "records", cells=tmp_path / "cells.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": None}, "trials: expected a list"),
        ({"trials": [{"score": 1}]}, r"trials\[0\]: expected settings, loss and score"),
        ({"chosen": 9}, "chosen: found 9, expected the number of a trial"),
    ],
)
def test_a_damaged_tuning_file_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    value = make_tuning("glue/sst2", "head_only") | change
    write_json(tmp_path / "tuning" / "glue" / "sst2" / "head_only.json", value)
    with pytest.raises(RecordError, match=r"head_only\.json: " + message):
        make_summary(tmp_path / "records")


def test_a_file_that_is_no_summary(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"schema": 99})
    with pytest.raises(XpeftError, match=r"summary\.json: expected a summary of schema 1"):
        read_summary(tmp_path / "summary.json")


# --------------------------------------------------------------------------------------- page


def test_nothing_is_loaded_from_anywhere(page: str, parsed: Page) -> None:
    for tag, attributes, _ in parsed.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith("#") or value == "data:,", (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    assert all(url.startswith("#") for url in re.findall(r"url\([\"']?([^)\"']*)", page))
    assert "@import" not in page
    (policy,) = parsed.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy[0]["content"].startswith("default-src 'none';")
    urls = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert not urls, "the page needs no address"


def test_ids_are_unique_and_links_arrive(parsed: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, text in parsed.find("a"):
        assert attributes["href"][1:] in ids, text
    for _, attributes, _ in parsed.elements:
        for name in ("aria-labelledby", "xlink:href"):
            if name in attributes:
                assert attributes[name].removeprefix("#") in ids


@pytest.mark.parametrize("tier", ["small", "quick"])
def test_each_score_links_to_its_record_which_is_in_the_page(
    results: Path, parsed: Page, tier: str
) -> None:
    summary = read_summary(results / tier / "summary.json")
    records: dict[str, dict[str, Any]] = {}
    path = ""
    inside = ""
    for tag, attributes, text in parsed.elements:
        if tag == "details" and "record" in attributes.get("class", ""):
            inside = attributes["id"]
        if tag == "code" and inside:
            path = "".join(text)
        if tag == "pre" and attributes.get("class") == "json":
            records[inside] = {"path": path, "record": json.loads("".join(text))}
    links = [(attributes["href"], text) for attributes, text in parsed.find("a", class_="num")]
    assert len(links) > 50
    for arm in summary["arms"]:
        arm_id = f"a-{tier}-{arm['suite']}-{arm['task']}-{arm['arm']}"
        assert (f"#{arm_id}", score(arm["over_seeds"]["mean"])) in links
        for seed, value, record_file in zip(
            arm["seeds"], arm["scores"], arm["records"], strict=True
        ):
            name = f"r-{tier}-{arm['suite']}-{arm['task']}-{arm['arm']}-seed{seed}"
            assert records[name]["record"] == summary["records"][record_file]
            assert records[name]["path"] == f"results/{tier}/records/{record_file}"
            if not arm["variant"]:
                assert (f"#{name}", score(value)) in links


def test_tiers_are_apart_and_say_what_they_are(page: str, parsed: Page) -> None:
    small, quick = page.index('<h2 id="small">'), page.index('<h2 id="quick">')
    end = page.index('<h2 id="reading">')
    assert small < quick < end
    assert "generated English sentences" in page[quick : quick + 300]
    assert "says nothing about natural language" in page[quick : quick + 900]
    assert "#r-quick" not in page[small:quick]
    assert "#r-small" not in page[quick:end]
    assert "No evidence yet from: Paper tier" in page


def test_every_claim_has_its_verdict_on_the_page(results: Path, parsed: Page) -> None:
    for tier in ("small", "quick"):
        for verdict in read_json(results / tier / "claims.json")["verdicts"]:
            assert any(verdict["statement"] in text for _, text in parsed.find("section"))
    chips = {text for _, text in parsed.find("span", class_="chip")}
    assert {"supported", "contradicted", "inconclusive", "no evidence yet"} <= chips


def test_negative_results_are_said(page: str) -> None:
    section = page[page.index("Gaps and negative results") : page.index('<h2 id="quick">')]
    assert "one class only in 3 of 3 seeds" in section
    assert "WNLI (majority 56.3)" in section
    assert "Masks below a single adapter" in section
    assert "Not shown to be better than a head alone" in section


def test_best_possible_and_majority_stand_beside_the_scores(page: str) -> None:
    quick = page[page.index('<h2 id="quick">') :]
    assert "best possible" in quick
    assert ">95.0</a>" in quick
    assert "best possible</th>" not in page[: page.index('<h2 id="quick">')]
    assert page.count("majority class</th>") == len(REAL) + len(MADE)


def test_the_draws_of_a_bank_stand_below_the_ablations(page: str, results: Path) -> None:
    (draws,) = make_draws(read_summary(results / "small" / "summary.json")["arms"])
    block = page[page.index("How much the draw of a random bank matters") :]
    block = block[: block.index("</table>")]
    for cell in row_text(draws):
        assert f">{html.escape(cell)}<" in block


def test_tuning_is_said_with_its_budget(page: str, tmp_path: Path) -> None:
    assert "Equal budgets: 4 trials for each method and task." in page
    make_tier(tmp_path / "small", tasks=("glue/sst2",), seeds=1)
    path = tmp_path / "small" / "tuning" / "glue" / "sst2" / "head_only.json"
    value = read_json(path)
    write_json(path, value | {"trials": value["trials"][:1], "chosen": 0})
    other = make_report([tmp_path / "small"])
    assert "Budgets differ: 1 trial for head_only; 4 trials for single_adapter" in other


def test_budgets_are_equal_where_tasks_differ_from_people() -> None:
    trials = {"glue/sst2/a": 2, "glue/cola/b": 2, "profiles/huffpost/a": 3}
    summary = {"tuning": {job: {"trials": [{}] * count} for job, count in trials.items()}}
    assert budget_words(summary) == (
        "Equal budgets of all methods: 2 trials for each on tasks; 3 trials for each on people."
    )
    summary["tuning"]["glue/mrpc/b"] = {"trials": [{}]}
    assert budget_words(summary).startswith("Budgets differ: 1 trial for b; 2 trials for a, b;")


def test_provenance_is_on_the_page(page: str) -> None:
    run = make_record()["run"]
    for value in (
        run["encoder"]["sha256"],
        run["data_sha256"]["train"],
        run["config_sha256"],
        run["git"],
        run["processor"],
        "torch 2.13.0",
        "all-MiniLM-L6-v2",
    ):
        assert value in page


def test_the_page_is_accessible(parsed: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    # The dialog's own heading stands after the appendix.
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for attributes, text in parsed.find("svg"):
        assert attributes["role"] == "img"
        assert len(text.strip()) > 20
    assert all(attributes["scope"] for attributes, _ in parsed.find("th"))
    assert all(attributes["aria-label"] for attributes, _ in parsed.find("div", class_="scroll"))
    (html,) = parsed.find("html")
    assert html[0]["lang"] == "en"


def test_values_are_escaped(tmp_path: Path) -> None:
    record = make_record()
    record["run"]["git"] = "<script>alert(1)</script>"
    record["run"]["processor"] = 'A & B "C"'
    write_record(tmp_path / "small" / "records" / record_path(record["cell"]), record)
    page = make_report([tmp_path / "small"])
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "A &amp; B" in page
    Page(page)


@pytest.mark.parametrize("made", [(), ("records",), ("records", "summary.json")])
def test_missing_parts_are_no_evidence_rather_than_errors(
    tmp_path: Path, made: tuple[str, ...]
) -> None:
    folder = tmp_path / "small"
    if "records" in made:
        make_tier(folder, tasks=("glue/sst2",), arms=("head_only",), seeds=1)
    if "summary.json" in made:
        write_summary(folder / "records", folder / "summary.json")
    write_report([folder], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    Page(page)
    assert "No evidence yet" in page
    assert ("no interval" in page) == bool(made)


def test_long_lists_of_predictions_are_left_to_the_file(tmp_path: Path) -> None:
    record = make_record(rows=6000)
    write_record(tmp_path / "small" / "records" / record_path(record["cell"]), record)
    page = make_report([tmp_path / "small"])
    values = json.dumps(record["result"]["predictions"], separators=(",", ":")).encode()
    assert "6000 values, in the record's file; sha256 of their JSON " in page.replace("&#39;", "'")
    assert hashlib.sha256(values).hexdigest() in page


def test_record_text_is_the_same_json() -> None:
    record = make_record("glue/stsb")
    assert json.loads(record_text(record)) == record
    assert json.loads(record_text({"a": {}, "b": [], "c": [[1, 2], [3]]})) == {
        "a": {},
        "b": [],
        "c": [[1, 2], [3]],
    }


def test_the_page_is_the_same_bytes_in_another_process(results: Path, page: str) -> None:
    code = (
        "import sys; from xpeft.report.html import write_report; "
        "write_report(sys.argv[2:], sys.argv[1], figures='figures', tables='tables')"
    )
    out = results.parent / "again.html"
    subprocess.run(
        [sys.executable, "-c", code, out, results / "quick", results / "small"],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    assert out.read_text() == page


# ------------------------------------------------------------------------------------- tables


def test_tables_hold_unrounded_values_and_paths(results: Path, tmp_path: Path) -> None:
    tier = results / "small"
    write_tables(tier / "summary.json", tier / "ledger.json", tier / "claims.json", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")
    )
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    summary = read_summary(tier / "summary.json")
    assert {row["record"]: float(row["score"]) for row in rows} == {
        path: record["result"]["score"] for path, record in summary["records"].items()
    }
    with (tmp_path / "scores.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["mean"]) == summary["arms"][0]["over_seeds"]["mean"]
    assert json.loads(first["records"]) == summary["arms"][0]["records"]
    with (tmp_path / "ledger.csv").open(newline="") as file:
        ledger = {row["key"]: int(row["bytes"]) for row in csv.DictReader(file)}
    assert (ledger["adapter"], ledger["hard"]) == (3_578_112, 312)


def test_each_table_is_well_formed_in_each_form(results: Path, tmp_path: Path) -> None:
    tier = results / "small"
    people = make_people("huffpost", 12, ("food & drink", "politics"))
    make_cohort(tmp_path, arms=("shared-head", "hard-random"), people=people, seeds=1)
    make_tier(tmp_path, tasks=("glue/sst2",), arms=(*MAIN, "x_peft-hard-n400-k200"), seeds=1)
    more = make_tables(make_summary(tmp_path / "records"), None, None)
    tables = make_tables(
        read_summary(tier / "summary.json"),
        read_json(tier / "ledger.json"),
        read_json(tier / "claims.json"),
    )
    assert tuple(tables) == TABLES
    tables |= {name: more[name] for name in ("sizes", "cohorts", "comparisons", "profiles")}
    for name, table in tables.items():
        assert table.rows, name
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert all(set(table.fields) <= set(row) for row in table.data)
        latex = to_latex(table, name)
        assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
        body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == len(table.rows)
        for line in body:
            assert len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1
            assert not re.findall(r"(?<!\\)[%#_]", line)
        assert latex.isascii(), name


def test_tables_without_evidence(tmp_path: Path) -> None:
    write_summary(tmp_path / "small" / "records", tmp_path / "summary.json")
    write_tables(tmp_path / "summary.json", None, None, tmp_path / "tables")
    for name in TABLES:
        assert (tmp_path / "tables" / f"{name}.csv").read_text().count("\n") == 1
        assert "No evidence yet." in (tmp_path / "tables" / f"{name}.md").read_text()
        assert "No evidence yet." in (tmp_path / "tables" / f"{name}.tex").read_text()


def test_numbers_are_written_one_way() -> None:
    assert [score(0.8287), score(-0.031), score(None)] == ["82.9", "\u22123.1", "\u2013"]
    assert [signed(1.26), signed(-1.24), signed(0.04), signed(-0.04)] == [
        "+1.3",
        "\u22121.2",
        "0.0",
        "0.0",
    ]
    assert [times(11468.3), times(77.03), times(2.0)] == ["11,468\u00d7", "77.0\u00d7", "2.0\u00d7"]
    assert [p_value(0.0001), p_value(0.034), p_value(0.5), p_value(None)] == [
        "< 0.001",
        "0.034",
        "0.50",
        "\u2013",
    ]
