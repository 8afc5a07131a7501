"""The Snakemake workflow: its style, its plans, and a whole tiny run from config to report."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factory import make_tier
from localencoder import save_encoder

from xpeft.config import load_config
from xpeft.errors import ConfigError
from xpeft.io import read_json
from xpeft.workflow import Plan

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

CONFIG = """
tier: test
evidence: evidence/small
encoder: {name: tiny, source: local, path: encoder, dtype: float32}
data: {embedded: {train_rows: 40, validation_rows: 20}}
tasks: [embedded/sentiment, embedded/entailment]
seeds: [0, 1]
device: cpu
training: {epochs: 1, batch_size: 8}
tuning: {epochs: 1, max_rows: 20}
arms:
  head_only: {method: head_only, trials: [{head_lr: 0.01}, {head_lr: 0.1}]}
  x_peft-hard-n4-k2:
    method: x_peft
    mask: hard
    k: 2
    bank: {n: 4, reduction: 4}
    tasks: [embedded/sentiment]
    trials: [{lr: 1.0}, {lr: 2.0}]
"""

POOLED = """
tier: test
evidence: null
encoder: {name: tiny, source: local, path: encoder, dtype: float32}
data: {embedded: {train_rows: 40, validation_rows: 20}}
tasks: [embedded/sentiment]
seeds: [0]
device: cpu
bank: {n: 4, reduction: 4}
training: {epochs: 1, batch_size: 8}
pool: {tasks: [embedded/sentiment, embedded/entailment], adapters: 4}
arms:
  x_peft-soft-trained-n{n}:
    method: x_peft
    mask: soft
    bank: {kind: trained, n: [2, 4]}
"""

AGGREGATION = {"examples": 1, "summary": 1, "claims": 1, "figures": 1, "tables": 1, "html": 1}


def tool(*argv: object, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the environment; its folder is not on the path, as where it is not active."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, argv)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg", **env},
    )


def snakemake(folder: Path, *argv: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder of its own."""
    return tool(
        "snakemake", "-s", ROOT / "Snakefile", "--directory", folder, *argv, cwd=folder, **env
    )


def planned(folder: Path, *argv: object) -> dict[str, int]:
    """How many jobs of each rule a run would have."""
    done = snakemake(folder, "--dry-run", "--cores", "2", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    if "Nothing to be done" in text:
        return {}
    table = text.partition("Job stats:\n")[2].partition("\n\n")[0]
    counts = dict(line.split() for line in table.splitlines()[2:])
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


def planned_jobs(folder: Path, *argv: object) -> Counter[tuple[str, str]]:
    """The jobs that a run would have, as (rule, wildcards)."""
    done = snakemake(folder, "--dry-run", "--cores", "2", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", done.stdout + done.stderr, re.M)
    return Counter(
        (rule, found.group(1) if (found := re.search(r"wildcards: (.*)", block)) else "")
        for rule, block in blocks
    )


# ---------------------------------------------------------------------------------- style


def test_lint() -> None:
    done = tool("snakemake", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_format() -> None:
    done = subprocess.run(
        [BIN / "snakefmt", "--check", "Snakefile", "workflow"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_says_what_it_needs() -> None:
    rules = [
        rule
        for path in sorted((ROOT / "workflow/rules").glob("*.smk"))
        for rule in re.split(r"^rule ", path.read_text(), flags=re.M)[1:]
    ]
    assert len(rules) >= 10
    for rule in rules:
        name = rule.partition(":")[0]
        for key in ("output", "log", "benchmark", "threads", "resources", "conda", "shell"):
            assert f"    {key}:" in rule, f"rule {name}: no {key}"
        assert rule.count("xpeft ") == 1, f"rule {name}: not one verb"


# ----------------------------------------------------------------------------- dry runs


def test_the_quick_tier_resolves(tmp_path: Path) -> None:
    assert planned(tmp_path) == {
        "cells": 1,
        "job": 5 + 3 + 1,  # tasks, cohort, donors
        "data": 1,
        "train": 5,
        "cohort_data": 1,
        "donors": 2,
        "cohort_part": 6,
        "cohort_records": 3,
        "ledger": 1,
        **AGGREGATION,
    }


def test_make_figures_trains_nothing(tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(ROOT / "config")
    make_tier(tmp_path / "results/small", tasks=("glue/sst2",))
    shown = subprocess.run(
        ["make", "--dry-run", "figures"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    _, _, command = shown.stdout.replace("\\\n", " ").partition("snakemake --cores all ")
    argv = shlex.split(command.splitlines()[0])
    done = dict.fromkeys(("summary", "ledger", "claims", "figures", "tables"), 1)
    assert planned(tmp_path, *argv) == done


@pytest.mark.parametrize(
    "argv", [("--configfile", ROOT / "config/paper.yaml"), ("--profile", "slurm")]
)
def test_the_full_paper_tier_resolves(tmp_path: Path, argv: tuple[object, ...]) -> None:
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    (tmp_path / "config").symlink_to(ROOT / "config")
    # 9 tasks x (head_only, single_adapter, full, bitfit, six peers, soft and hard masks over
    # random banks at five N and over trained ones at two); 24 ablations on 3; pools of 8 tasks
    assert planned(tmp_path, *argv) == {
        "cells": 1,
        "job": 424 + 24 * 3 + 8,
        "data": 17,
        "pool": 8,
        "trained_bank": 34,
        "train": 424 + 24 * 3,
        "ledger": 1,
        **AGGREGATION,
    }


def test_another_config_is_not_mixed_with_the_default(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert planned(tmp_path, "records", "--configfile", "c.yaml") == {
        "job": 3,
        "data": 2,
        "train": 3,
        "records": 1,
    }


def test_a_trained_bank_is_made_of_the_other_tasks(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(POOLED)
    argv = ("records", "--configfile", "c.yaml")
    assert planned(tmp_path, *argv) == {
        "job": 3,  # two arms, and the pool of entailment alone
        "data": 2,
        "pool": 1,
        "trained_bank": 2,
        "train": 2,
        "records": 1,
    }
    save_encoder(tmp_path / "encoder")
    done = snakemake(tmp_path, "--cores", "2", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_json(
        tmp_path / "results/test/records/embedded/sentiment/x_peft-soft-trained-n4/seed0.json"
    )
    manifest = read_json(tmp_path / "results/test/banks/embedded/sentiment/n4/manifest.json")
    assert manifest["recipe"]["sources"] == ["embedded/entailment"]
    assert record["run"]["bank_sha256"] == manifest["digest"]
    assert planned(tmp_path, *argv) == {}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--config", "training={lr: fast}"), "training.lr: found 'fast', expected a number"),
        (("--config", "trainig={lr: 1}"), "trainig: unknown key; did you mean training? known: "),
        (
            ("--config", "arms={full: {trials: [{lr: 1}]}}"),
            "arms.full.trials: found 1, expected 2 as in arms.head_only: equal tuning budgets",
        ),
    ],
)
def test_a_config_error_is_one_line(tmp_path: Path, argv: tuple[str, str], message: str) -> None:
    done = snakemake(tmp_path, "--dry-run", "--cores", "1", *argv)
    lines = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if not line.startswith("Config file ")  # Snakemake's own note on --config
    ]
    assert done.returncode != 0
    assert len(lines) == 1, lines
    assert lines[0].startswith("xpeft: error: ")
    assert f"config/quick.yaml: {message}" in lines[0]


def test_what_xpeft_ends_with_is_what_its_rule_ends_with(tmp_path: Path) -> None:
    done = snakemake(
        tmp_path,
        *("--cores", "1", "--configfile", ROOT / "config/small.yaml"),
        *("--", "results/small/data/glue/sst2/meta.json"),
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "xpeft: error: data: no such folder" in output
    assert "Error in rule data" in output
    assert "completed successfully" not in output  # as it would be by the status of `tee`


# ---------------------------------------------------------------------------- the plan


def test_plan_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPEFT_DATA", str(tmp_path / "my data"))

    class Wildcards:
        suite, task, arm = "glue", "sst2", "head_only"

    plan = Plan.make(load_config(ROOT / "config/small.yaml"))
    assert plan.data_arguments(Wildcards) == (
        f"--task glue/sst2 --source local --path '{tmp_path}/my data' --max-train-rows 10000"
    )
    assert plan.data_files(Wildcards) == []  # nothing there: left to `xpeft data` to report
    monkeypatch.setenv("XPEFT_DATA", f"{tmp_path}/./my data/")  # the same folder: nothing is new
    assert Plan.make(load_config(ROOT / "config/small.yaml")).data_arguments(Wildcards) == (
        plan.data_arguments(Wildcards)
    )

    for split in ("train", "validation"):
        path = tmp_path / "my data/glue/sst2" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert [Path(path).name for path in plan.data_files(Wildcards)] == [
        "train.jsonl",
        "validation.jsonl",
    ]
    assert plan.ledger_arguments == (
        "--encoder bert-base-uncased --adapters 100 --k 50 --classes 15"
    )


def test_a_slip_in_the_name_of_the_data_folder_costs_nothing(tmp_path: Path) -> None:
    """Snakemake would delete what it has, and train anew what was made from it."""
    prepared = tmp_path / "results/small/data/glue/sst2"
    prepared.mkdir(parents=True)
    for name in ("meta.json", "train.parquet", "validation.parquet"):
        (prepared / name).touch()
    done = snakemake(
        tmp_path,
        *("--cores", "1", "--configfile", ROOT / "config/small.yaml"),
        *("--", "results/small/data/glue/sst2/meta.json"),
        XPEFT_DATA="/slip",
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "data.path: found no folder /slip, expected the one that results/small/data/gl" in output
    assert len(list(prepared.iterdir())) == 3


def test_a_tier_that_there_is_none_of() -> None:
    for target in ("partial", "missing", "resume"):
        done = subprocess.run(
            ["make", "--old-file=setup", target, "TIER=none"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        line = "TIER=none: found no config/none.yaml, expected one of: "
        assert line in done.stderr and "quick" in done.stderr


def test_a_gpu_is_asked_for_where_the_config_says_so() -> None:
    assert Plan.make(load_config(ROOT / "config/paper.yaml")).gpus == 1
    assert Plan.make(load_config(ROOT / "config/quick.yaml")).gpus == 0


def test_tasks_of_the_hub_and_cohorts_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPEFT_DATA", str(tmp_path))
    file = tmp_path / "news/huffpost.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("")
    config = load_config(ROOT / "config/small.yaml", {"data": {"source": "hub"}})
    plan = Plan.make(config)
    task = SimpleNamespace(suite="glue", task="rte")
    assert plan.data_arguments(task) == "--task glue/rte --source hub"
    cohort = SimpleNamespace(cohort="huffpost")
    words = plan.cohort_arguments(cohort)
    assert words.startswith(f"--task profiles/huffpost --source local --path {tmp_path} ")
    assert plan.cohort_files(cohort) == [str(file)]


def test_evidence(tmp_path: Path) -> None:
    def plan(tier: str, evidence: Any) -> Plan:
        base = {"tasks": ["embedded/sentiment"], "arms": {"a": {"method": "full"}}}
        return Plan.make({"tier": tier, "evidence": evidence, **base})

    folder = str(tmp_path / "small")
    assert plan("quick", folder).tiers == ["quick"]  # nothing there
    make_tier(tmp_path / "small")
    assert plan("quick", folder).tiers == ["quick", "small"]
    assert len(plan("quick", folder).records("small")) > 10
    assert plan("quick", None).tiers == ["quick"]
    assert plan("small", folder).tiers == ["small"]  # its own records, not the committed ones


def test_a_plan_checks_the_config() -> None:
    with pytest.raises(ConfigError, match=r"^c\.yaml: tier: found nothing"):
        Plan.make({}, "c.yaml")


# ------------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the workflow has run from a tiny config to the report."""
    folder = tmp_path_factory.mktemp("finished")
    save_encoder(folder / "encoder")
    make_tier(folder / "evidence/small")
    (folder / "c.yaml").write_text(CONFIG)
    done = snakemake(folder, "--cores", "2", "--configfile", "c.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_run_ends_with_the_report(finished: Path) -> None:
    page = (finished / "report/index.html").read_text()
    assert "<html" in page
    summary = read_json(finished / "results/test/summary.json")
    assert sorted(summary["records"]) == [
        f"embedded/{job}/seed{seed}.json"
        for job in ("entailment/head_only", "sentiment/head_only", "sentiment/x_peft-hard-n4-k2")
        for seed in (0, 1)
    ]
    assert read_json(finished / "results/small/summary.json")["tier"] == "small"
    for tier in ("test", "small"):
        assert list((finished / "figures" / tier).glob("*.svg"))
        assert list((finished / "report/tables" / tier).glob("*.csv"))


def test_every_step_leaves_a_log_and_a_benchmark(finished: Path) -> None:
    job = "embedded/sentiment/x_peft-hard-n4-k2"
    log = (finished / f"results/test/logs/train/{job}.log").read_text()
    assert "rows a second" in log
    assert (finished / f"results/test/benchmarks/train/{job}.tsv").read_text().startswith("s\t")


def test_a_second_run_does_nothing(finished: Path) -> None:
    assert planned(finished, "--configfile", "c.yaml") == {}


def test_a_partial_report_trains_nothing_and_says_what_is_missing(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    job = "embedded/sentiment/x_peft-hard-n4-k2"
    (folder / f"results/test/records/{job}/seed1.json").unlink()
    log = folder / f"results/test/logs/train/{job}.log"
    log.write_text("xpeft: error: the disk is full <of records>\n")
    argv = ("--configfile", "c.yaml", "--config", "partial=true", "--forcerun", "summary")
    assert "train" not in planned(folder, *argv)
    done = snakemake(folder, "--cores", "2", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (folder / "report/index.html").read_text()
    assert "Partial: 1 job without all of their records" in page
    assert "the disk is full &lt;of records&gt;" in page
    assert f"{job}/seed0.json" in page
    assert planned(folder, "--configfile", "c.yaml")["train"] == 1  # the way back


def clone_of(finished: Path, place: Path) -> Path:
    """A folder as a clone of a repository has it: records without what they were made from."""
    clone = place / "clone"
    for part in ("c.yaml", "encoder", "evidence", "results/test/records", "results/test/tuning"):
        copy = shutil.copytree if (finished / part).is_dir() else shutil.copy
        (clone / part).parent.mkdir(parents=True, exist_ok=True)
        copy(finished / part, clone / part)
    return clone


def test_only_jobs_without_all_of_their_records_are_trained(finished: Path, tmp_path: Path) -> None:
    argv = ("--configfile", "c.yaml", "--", "missing")
    nothing = {"missing": 1}  # the target itself
    assert planned(finished, *argv) == nothing
    clone = clone_of(finished, tmp_path)
    assert planned(clone, *argv) == nothing
    job = "embedded/sentiment/x_peft-hard-n4-k2"
    (clone / f"results/test/records/{job}/seed1.json").unlink()
    jobs = planned_jobs(clone, *argv)
    assert [names for rule, names in jobs if rule == "train"] == [
        "suite=embedded, task=sentiment, arm=x_peft-hard-n4-k2"
    ]


def test_further_seeds_train_nothing_again(finished: Path, tmp_path: Path) -> None:
    folder = clone_of(finished, tmp_path)
    arm = "x_peft-hard-n4-k2"
    with (folder / "c.yaml").open("a") as file:
        file.write(f"more_seeds: {{seeds: [5, 7], arms: [{arm}]}}\n")
    argv = ("--configfile", "c.yaml", "--", "missing")
    jobs = planned_jobs(folder, *argv)
    names = f"suite=embedded, task=sentiment, arm={arm}"
    assert [job for job in jobs if "train" in job[0]] == [("train_more", names)]
    done = snakemake(folder, "--cores", "2", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    records = folder / f"results/test/records/embedded/sentiment/{arm}"
    assert sorted(path.name for path in records.iterdir()) == [
        f"seed{seed}.json" for seed in (0, 1, 5, 7)
    ]
    first, more = (read_json(records / f"seed{seed}.json") for seed in (0, 5))
    assert more["run"]["config_sha256"] == first["run"]["config_sha256"]
    assert more["result"]["settings"] == first["result"]["settings"]
    assert planned(folder, *argv) == {"missing": 1}
    log = (folder / f"results/test/logs/train_more/embedded/sentiment/{arm}.log").read_text()
    assert "tuning" not in log


def test_a_changed_setting_runs_again_what_depends_on_it(finished: Path) -> None:
    text = (finished / "c.yaml").read_text()

    def after(old: str, new: str) -> Counter[tuple[str, str]]:
        assert old in text
        (finished / "changed.yaml").write_text(text.replace(old, new))
        return planned_jobs(finished, "--configfile", "changed.yaml")

    def names(rule: str, *jobs: str) -> list[tuple[str, str]]:
        words = (zip(("suite", "task", "arm"), job.split("/"), strict=False) for job in jobs)
        return [(rule, ", ".join(f"{key}={value}" for key, value in word)) for word in words]

    last = [("summary", "tier=test"), ("claims", "tier=test"), ("figures", "tier=test")]
    last += [("examples", ""), ("tables", "tier=test"), ("html", ""), ("all", "")]
    hard = ["embedded/sentiment/x_peft-hard-n4-k2"]
    head = ["embedded/sentiment/head_only", "embedded/entailment/head_only"]

    def expect(*jobs: tuple[str, str]) -> Counter[tuple[str, str]]:
        return Counter([*jobs, *last])

    # a trial of one arm
    assert after("{lr: 2.0}", "{lr: 3.0}") == expect(*names("job", *hard), *names("train", *hard))
    # a setting of all
    everything = [*head, *hard]
    assert after("batch_size: 8", "batch_size: 4") == expect(
        *names("job", *everything), *names("train", *everything)
    )
    # the data: no job file changes
    data = ["embedded/sentiment", "embedded/entailment"]
    assert after("train_rows: 40", "train_rows: 44") == expect(
        *names("data", *data), *names("train", *everything)
    )
    # an arm that is gone: its records stay, the summary does not take them
    assert after(text[text.index("  x_peft-hard") :], "") == expect(("cells", ""))
    # comments and what is written differently
    assert after("seeds: [0, 1]", "seeds: [0, 1] # two") == Counter()


def test_snakemakes_own_report_needs_no_network(finished: Path) -> None:
    dead = "http://127.0.0.1:9"
    done = snakemake(
        finished,
        "--configfile",
        "c.yaml",
        "--report",
        "snakemake.html",
        http_proxy=dead,
        https_proxy=dead,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (finished / "snakemake.html").read_text()
    assert "self-contained report" in text  # a caption
