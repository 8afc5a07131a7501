"""The workflow over a cohort: a whole tiny run, from the config to the records of each arm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from localencoder import save_encoder
from test_workflow import planned, snakemake

from xpeft.io import read_json
from xpeft.records import read_records

CONFIG = """
tier: test
evidence: null
encoder: {name: tiny, source: local, path: encoder, dtype: float32}
data: {embedded: {train_rows: 40, validation_rows: 20}}
tasks: [embedded/sentiment]
seeds: [0]
device: cpu
training: {epochs: 1, batch_size: 8}
bank: {n: 4, reduction: 4}
arms:
  head_only: {method: head_only}
cohorts:
  sets: [profiles/embedded_authors]
  authors: 24
  seeds: [0, 1]
  tuning: {max_rows: 100, holdout: 0.3}
  arms:
    shared: {method: head_only, scope: cohort, trials: [{head_lr: 0.01}, {head_lr: 0.1}]}
    x_peft-hard-warm-n{n}:
      method: x_peft
      mask: hard
      bank: {kind: warm}
      base: adapter
      head: shared+bias
      settings: {norm: none, scale: mean}
      trials: [{lr: 0.1}, {lr: 1.0}]
"""


def test_a_dry_run_is_a_handful_of_jobs(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    found = planned(tmp_path, "--configfile", "c.yaml")
    expected = {
        "cohort_data": 1,
        "donors": 2,
        "cohort_tune": 2,
        "cohort_part": 3,
        "cohort_records": 2,
    }
    assert {rule: found[rule] for rule in expected} == expected
    assert found["data"] == found["train"] == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts")
    save_encoder(folder / "encoder")
    (folder / "c.yaml").write_text(CONFIG)
    done = snakemake(folder, "records", "--cores", "2", "--configfile", "c.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_records_are_of_the_whole_cohort(finished: Path) -> None:
    records = read_records(finished / "results/test/records")
    assert sorted(records) == [
        "embedded/sentiment/head_only/seed0.json",
        *(
            f"profiles/embedded_authors/{arm}/seed{seed}.json"
            for arm in ("shared", "x_peft-hard-warm-n4")
            for seed in (0, 1)
        ),
    ]
    masks = []
    for path, record in records.items():
        if path.startswith("profiles"):
            people = record["result"]["profiles"]
            assert len(people["id"]) == 24
            share = np.mean([c / t for c, t in zip(people["correct"], people["test"], strict=True)])
            assert record["result"]["score"] == pytest.approx(share)
            masks.append("masks" in people)
    assert masks == [False, False, True, False]  # of hard masks, with the first seed
    tuned = read_json(
        finished / "results/test/tuning/profiles/embedded_authors/x_peft-hard-warm-n4.json"
    )
    assert len(tuned["trials"]) == 2 and tuned["chosen"] in (0, 1)


def test_a_second_run_does_nothing(finished: Path) -> None:
    found = planned(finished, "records", "--configfile", "c.yaml")
    assert found == {}
