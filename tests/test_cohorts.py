"""Donors, tuning, parts and records of a cohort: isolated, resumable, independent of the parts."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from localencoder import save_encoder
from safetensors.numpy import load_file

from xpeft.bank import load_bank
from xpeft.cohorts import inputs as cohort_inputs
from xpeft.cohorts import training
from xpeft.cohorts.donors import train_donors
from xpeft.cohorts.gather import PRIMARY, gather
from xpeft.cohorts.training import train_part, tune_cohort
from xpeft.data.cohort import Cohort, CohortMeta
from xpeft.data.embedded import ASPECTS, BAD, GOOD
from xpeft.data.sheet import SheetRow
from xpeft.errors import BankError, ConfigError, RecordError
from xpeft.fitting import Interrupted, fit
from xpeft.io import read_json, write_json
from xpeft.job import (
    BankSpec,
    CohortJob,
    DonorJob,
    EncoderSpec,
    MethodSpec,
    TrainingSpec,
    TuningSpec,
)
from xpeft.records import read_record

PROFILES, TEXTS, TRAIN, TEST = 10, 40, 14, 6
LAYERS, WIDTH, B = 2, 16, 4


def make_cohort(changed: int | None = None) -> Cohort:
    """Ten profiles in two folds; `changed` flips the labels of that profile's training rows."""
    rng = np.random.default_rng(3)
    texts = [f"the {a} was {w}" for a in ASPECTS for w in (*GOOD, *BAD)][:TEXTS]
    good = np.array([any(text.endswith(word) for word in GOOD) for text in texts])
    held = np.arange(TEXTS) % 4 == 0
    profile: list[int] = []
    item: list[int] = []
    test: list[bool] = []
    for p in range(PROFILES):
        for scored, count in ((False, TRAIN), (True, TEST)):
            chosen = rng.permutation(np.flatnonzero(held == scored))[:count]
            profile += [p] * count
            item += chosen.tolist()
            test += [scored] * count
    owner, items, side = np.array(profile), np.array(item), np.array(test)
    label = (good[items] ^ (owner % 3 == 0)).astype(np.int64)  # every third one means the contrary
    if changed is not None:
        mine = (owner == changed) & ~side
        label[mine] = 1 - label[mine]
    sheet = [
        SheetRow(1000 + p, p % 2, True, True, TRAIN, TEST, "bad", 0.5) for p in range(PROFILES)
    ]
    meta = CohortMeta(
        suite="profiles",
        task="tiny",
        labels=["bad", "good"],
        metrics=["accuracy", "macro_f1"],
        profiles=PROFILES,
        rows={"train": PROFILES * TRAIN, "test": PROFILES * TEST},
        left_out={},
        sha256={"made": "0" * 64},
        files={"rows.parquet": "1" * 64},
        source="made for tests",
        licence="none",
        split="item",
        thresholds=None,
        best=None,
    )
    return Cohort(meta, sheet, texts, owner, items, label, side)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("cohorts") / "encoder")


@pytest.fixture(autouse=True)
def cohort(monkeypatch: pytest.MonkeyPatch) -> Cohort:
    made = make_cohort()
    use(monkeypatch, made)
    return made


def use(monkeypatch: pytest.MonkeyPatch, cohort: Cohort) -> None:
    monkeypatch.setattr(cohort_inputs, "load_cohort", lambda folder: cohort)
    monkeypatch.setattr("xpeft.cohorts.gather.load_cohort", lambda folder: cohort)


TRAINING = TrainingSpec(
    epochs=2, batch_size=4, rows_at_once=12, lr=0.05, head_lr=0.05, checkpoint_seconds=1e-6
)
FROM_BASE = MethodSpec(mask="hard", k=2, norm="none", scale="mean", mask_init_std=1.0, reduction=4)
ARMS: dict[str, dict[str, Any]] = {
    "shared": {"method": MethodSpec(method="head_only"), "scope": "cohort"},
    "bias": {
        "method": MethodSpec(method="head_only", reduction=4),
        "base": "adapter", "head": "shared+bias",
    },
    "base": {
        "method": MethodSpec(method="head_only", reduction=4), "base": "adapter", "head": "shared",
    },
    "head": {"method": MethodSpec(method="head_only")},
    "adapter": {"method": MethodSpec(method="single_adapter", reduction=4)},
    "adapter-base": {
        "method": MethodSpec(method="single_adapter", reduction=4),
        "base": "adapter", "head": "shared",
    },
    "soft-random": {"method": MethodSpec(mask="soft"), "bank": BankSpec(n=6, reduction=4)},
    "hard-warm": {
        "method": FROM_BASE, "base": "adapter", "head": "shared+bias",
        "bank": BankSpec(kind="warm", n=4, reduction=4),
    },
}  # fmt: skip


def spec(encoder: Path) -> EncoderSpec:
    return EncoderSpec("tiny", "local", path=str(encoder), dtype="float64")


def donor_job(encoder: Path, **changes: Any) -> DonorJob:
    made = DonorJob("test", "tiny", spec(encoder), TRAINING, TRAINING, n=4, reduction=4)
    return dataclasses.replace(made, **changes)


def cohort_job(encoder: Path, arm: str, **changes: Any) -> CohortJob:
    made = CohortJob("test", "tiny", arm, (0, 1), spec(encoder), training=TRAINING, **ARMS[arm])
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def donors(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("donors")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, make_cohort())
        for fold in (0, 1):
            train_donors(donor_job(encoder), "", fold, folder / f"fold{fold}", folder / "work")
    return folder


def train(job: CohortJob, donors: Path, out: Path, parts: int = 1) -> list[Path]:
    """All parts of a job."""
    tuning = None
    if job.tuning is not None:
        tuning = out / "tuning.json"
        tune_cohort(job, "", donors / "fold0", tuning, out / "work")
    names = [f"{f}/{p}/{parts}" for f in (0, 1) for p in range(parts)]
    files = []
    for name in ["all"] if job.scope == "cohort" else names:
        files.append(out / f"{name.replace('/', '-')}.json")
        fold = "fold0" if name == "all" else f"fold{name[0]}"
        train_part(job, "", donors / fold, tuning, name, files[-1], out / "work")
    return files


def predictions(files: list[Path]) -> dict[str, dict[str, list[int]]]:
    """Seed to profile to predictions."""
    found: dict[str, dict[str, list[int]]] = {}
    for value in map(read_json, files):
        for seed, rows in value["predictions"].items():
            found.setdefault(seed, {}).update(zip(value["profiles"], rows, strict=True))
    return found


@pytest.mark.parametrize("arm", ARMS)
def test_records_of_every_kind_of_arm(
    arm: str, encoder: Path, donors: Path, tmp_path: Path, cohort: Cohort
) -> None:
    job = cohort_job(encoder, arm)
    gather(job, "", train(job, donors, tmp_path), tmp_path / "records")
    record = read_record(tmp_path / "records" / "seed1.json")
    result = record["result"]
    head = 2 * WIDTH + 2
    adapter = LAYERS * (2 * WIDTH * B + WIDTH + B)
    expected = {
        "shared": {},
        "base": {},
        "bias": {"head": 2},
        "head": {"head": head},
        "adapter": {"head": head, "adapter": adapter},
        "adapter-base": {"adapter": adapter},
        "soft-random": {"head": head, "masks": 2 * LAYERS * 6},
        "hard-warm": {"head": 2, "masks": 2 * LAYERS * 4},
    }[arm]
    assert {k: v for k, v in result["parameters"].items() if v and k != "total"} == expected
    assert result["bytes"]["masks"] == {"soft-random": 96, "hard-warm": 4}.get(arm, 0)
    people = result["profiles"]
    assert people["id"] == [f"{1000 + p:016x}" for p in range(PROFILES)]
    assert people["train"] == [TRAIN] * PROFILES and people["test"] == [TEST] * PROFILES
    share = np.mean([c / TEST for c in people["correct"]])
    assert result["primary"] == PRIMARY and result["score"] == pytest.approx(share)
    confusion = np.array(result["confusion"])
    assert np.trace(confusion) == sum(people["correct"])
    assert confusion.sum(axis=1).tolist() == np.bincount(cohort.label[cohort.test]).tolist()


def test_the_base_and_the_bank_are_of_the_other_fold(donors: Path) -> None:
    for fold in (0, 1):
        manifest = read_json(donors / f"fold{fold}" / "base.json")
        assert manifest["donors"] == [f"{1000 + p:016x}" for p in range(PROFILES) if p % 2 != fold]
        bank = load_bank(donors / f"fold{fold}" / "bank")
        assert (bank.kind, bank.n, bank.layers, bank.bottleneck) == ("warm", 4, LAYERS, B)
        assert set(bank.recipe["donors"]) <= set(manifest["donors"])
        assert manifest["run"]["bank_sha256"] == bank.digest


def test_donors_depend_on_no_target(
    encoder: Path, donors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, make_cohort(changed=2))  # of fold 0
    for fold in (0, 1):
        train_donors(donor_job(encoder), "", fold, tmp_path / f"fold{fold}", tmp_path / "work")
    same = [
        load_bank(tmp_path / f"fold{f}/bank").digest == load_bank(donors / f"fold{f}/bank").digest
        for f in (0, 1)
    ]
    assert same == [True, False]


def test_a_donor_changes_its_own_adapter_alone(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same base: the base itself knows all donors."""
    job = donor_job(encoder, base_training=dataclasses.replace(TRAINING, lr=1e-30, head_lr=1e-30))
    train_donors(job, "", 0, tmp_path / "a", tmp_path / "work")
    use(monkeypatch, make_cohort(changed=5))
    train_donors(job, "", 0, tmp_path / "b", tmp_path / "work")
    one, other = (load_file(tmp_path / name / "bank/bank.safetensors") for name in "ab")
    givers = load_bank(tmp_path / "a/bank").recipe["donors"]
    assert f"{1005:016x}" in givers
    for place, giver in enumerate(givers):
        same = np.array_equal(one["down"][:, place], other["down"][:, place])
        assert same == (giver != f"{1005:016x}")


@pytest.mark.parametrize("arm", ["head", "bias", "soft-random", "hard-warm", "adapter-base"])
def test_parts_change_nothing(arm: str, encoder: Path, donors: Path, tmp_path: Path) -> None:
    job = cohort_job(encoder, arm)
    whole = train(job, donors, tmp_path / "whole")
    parts = train(job, donors, tmp_path / "parts", parts=3)
    assert predictions(whole) == predictions(parts)
    gather(job, "", whole, tmp_path / "a")
    gather(job, "", parts[::-1], tmp_path / "b")
    a, b = (read_record(tmp_path / name / "seed0.json")["result"] for name in "ab")
    assert {**a, "state_sha256": "", "loss": ""} == {**b, "state_sha256": "", "loss": ""}
    assert a["loss"]["loss"] == pytest.approx(b["loss"]["loss"], rel=1e-5)


@pytest.mark.parametrize("arm", ["soft-random", "hard-warm", "bias"])
def test_a_profiles_data_change_no_other_profile(
    arm: str, encoder: Path, donors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cohort_job(encoder, arm, seeds=(0,))
    states: dict[str, Any] = {}
    real = fit

    def spy(*args: Any, **options: Any) -> Any:
        fitted = real(*args, **options)
        states[name] = fitted.parameters
        return fitted

    monkeypatch.setattr(training, "fit", spy)
    for name, changed in (("before", None), ("after", 2)):
        use(monkeypatch, make_cohort(changed))
        train_part(
            job, "", donors / "fold0", None, "0/0/1",
            tmp_path / "part.json", tmp_path / name,
        )  # fmt: skip
    targets = [0, 2, 4, 6, 8]
    for field, value in states["before"].items():
        for place, target in enumerate(targets):
            same = bool((value[place] == states["after"][field][place]).all())
            if target != 2:
                assert same, (field, target)
    assert any(
        bool((value[1] != states["after"][field][1]).any())
        for field, value in states["before"].items()
    )


def test_a_stopped_run_goes_on_to_the_same_result(
    encoder: Path, donors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cohort_job(encoder, "hard-warm")
    straight = train(job, donors, tmp_path / "straight")
    real = fit
    calls: list[int] = []

    def stopping(*args: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 1:
            asked = iter(range(1000))
            options["stop"] = lambda: next(asked) >= 7
        return real(*args, **options)

    monkeypatch.setattr(training, "fit", stopping)
    with pytest.raises(Interrupted, match="stopped at step"):
        train(job, donors, tmp_path / "again")
    again = train(job, donors, tmp_path / "again")
    for one, other in zip(straight, again, strict=True):
        a, b = read_json(one), read_json(other)
        assert {**a, "run": None} == {**b, "run": None}


def test_tuning_takes_the_lowest_loss_and_holds_items_out(
    encoder: Path, donors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = fit

    def spy(
        features: Any, parameters: Any, tokens: Any, profiles: Any, *rest: Any, **o: Any
    ) -> Any:
        seen.append(profiles)
        return real(features, parameters, tokens, profiles, *rest, **o)

    monkeypatch.setattr(training, "fit", spy)
    tuning = TuningSpec(({"lr": 1e-6, "head_lr": 1e-6}, {"lr": 0.05}), None, 40, 0.3)
    job = cohort_job(encoder, "soft-random", tuning=tuning)
    files = train(job, donors, tmp_path)
    value = read_json(tmp_path / "tuning.json")
    losses = [trial["loss"] for trial in value["trials"]]
    assert value["chosen"] == losses.index(min(losses))
    assert "of 2 profiles, held out by item" in value["split"]  # 40 rows are two profiles of 14
    assert len(seen[0]) == 4 and all(len(profile.rows) < TRAIN for profile in seen[0])
    chosen = value["trials"][value["chosen"]]["settings"]
    assert read_json(files[0])["settings"].items() >= chosen.items()


def test_the_base_as_it_is_is_what_training_at_a_rate_of_zero_leaves(
    encoder: Path, donors: Path, tmp_path: Path
) -> None:
    job = cohort_job(encoder, "base")
    as_it_is = predictions(train(job, donors, tmp_path))
    still = dataclasses.replace(TRAINING, lr=0.0, head_lr=0.0)
    assert as_it_is == predictions(
        train(cohort_job(encoder, "adapter-base", training=still), donors, tmp_path)
    )
    assert as_it_is["0"] == as_it_is["1"]
    with pytest.raises(ConfigError, match="found trials, expected none: head_only with a shared"):
        tune_cohort(
            dataclasses.replace(job, tuning=TuningSpec(({"lr": 0.1},))), "", donors / "fold0",
            tmp_path / "tuning.json", tmp_path / "work",
        )  # fmt: skip


def test_one_model_for_all_is_tuned_on_all_that_it_trains_on(
    encoder: Path, donors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    sheet = [dataclasses.replace(line, target=place < 6) for place, line in enumerate(cohort.sheet)]
    use(monkeypatch, dataclasses.replace(cohort, sheet=sheet))
    tuning = TuningSpec(({"head_lr": 1e-6}, {"head_lr": 0.05}), None, max_rows=20, holdout=0.3)
    job = cohort_job(encoder, "shared", tuning=tuning)
    gather(job, "", train(job, donors, tmp_path), tmp_path / "records")
    everyone = PROFILES * TRAIN
    split = read_json(tmp_path / "tuning.json")["split"]
    assert f"of {everyone} training rows of 1 model" in split
    result = read_record(tmp_path / "records" / "seed0.json")["result"]
    assert result["rows"]["train"] == everyone and result["profiles"]["train"] == [TRAIN] * 6


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("head", {"method": MethodSpec(method="full")}, "found method full"),
        ("head", {"head": "shared"}, "head shared and base none, expected a base"),
        ("soft-random", {"bank": None}, "x_peft and no bank"),
        ("shared", {"base": "head"}, "scope cohort on a base"),
    ],
)
def test_what_cannot_be_trained(
    arm: str, changes: dict[str, Any], message: str, encoder: Path, donors: Path, tmp_path: Path
) -> None:
    job = cohort_job(encoder, arm, **changes)
    part = "all" if job.scope == "cohort" else "0/0/1"
    with pytest.raises(ConfigError, match=message):
        train_part(
            job, "", donors / "fold0", None, part,
            tmp_path / "part.json", tmp_path / "work",
        )  # fmt: skip
    assert not (tmp_path / "part.json").exists()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("0/1", "expected FOLD/PART/PARTS"),
        ("2/0/1", "with a fold of the sheet: 0, 1"),
        ("0/1/1", "expected FOLD/PART/PARTS"),
        ("0/7/8", "found no targets; use fewer parts"),
        ("all", "found all for a job of scope profile"),
    ],
)
def test_bad_parts(part: str, message: str, encoder: Path, donors: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_part(
            cohort_job(encoder, "head"), "", None, None, part,
            tmp_path / "part.json", tmp_path / "work",
        )  # fmt: skip


def test_a_tuning_file_belongs_to_a_job_with_trials(encoder: Path, tmp_path: Path) -> None:
    fixed = cohort_job(encoder, "head")
    tuned = cohort_job(encoder, "head", tuning=TuningSpec(({"lr": 0.1},)))
    files = (tmp_path / "part.json", tmp_path / "work")
    with pytest.raises(ConfigError, match="found no trials, expected some to choose among"):
        tune_cohort(fixed, "", None, *files)
    with pytest.raises(ConfigError, match=r"found t\.json, expected none: it has no trials"):
        train_part(fixed, "", None, "t.json", "0/0/1", *files)
    with pytest.raises(ConfigError, match="found no tuning file, expected the file of xpeft coho"):
        train_part(tuned, "", None, None, "0/0/1", *files)
    tune_cohort(tuned, "", None, tmp_path / "tuning.json", tmp_path / "work")
    other = dataclasses.replace(tuned, max_train_rows=5)
    with pytest.raises(ConfigError, match="found the tuning of other settings or data, expected"):
        train_part(other, "", None, tmp_path / "tuning.json", "0/0/1", *files)
    write_json(tmp_path / "tuning.json", {"trials": []})
    with pytest.raises(ConfigError, match="found no tuning of a job, expected a file of xpeft coh"):
        train_part(tuned, "", None, tmp_path / "tuning.json", "0/0/1", *files)
    assert not files[0].exists()


def test_missing_and_damaged_donors(encoder: Path, donors: Path, tmp_path: Path) -> None:

    def attempt(folder: Path | None) -> None:
        train_part(
            cohort_job(encoder, "bias"), "", folder, None, "0/0/1",
            tmp_path / "part.json", tmp_path / "work",
        )  # fmt: skip

    with pytest.raises(ConfigError, match="needs what donors leave; name their folder"):
        attempt(None)
    with pytest.raises(BankError, match="run xpeft cohort donors first"):
        attempt(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    copy.mkdir()
    data = bytearray((donors / "fold0/base.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "base.safetensors").write_bytes(bytes(data))
    (copy / "base.json").write_text((donors / "fold0/base.json").read_text())
    with pytest.raises(BankError, match="changed or damaged"):
        attempt(copy)
    with pytest.raises(BankError, match=r"donors of tiny, fold 1, expected those of tiny, fold 0"):
        attempt(donors / "fold1")  # which were trained on the targets of fold 0
    value = read_json(donors / "fold0/base.json")
    value["run"]["data_sha256"] = {"rows.parquet": "2" * 64}
    write_json(copy / "base.json", value)
    with pytest.raises(BankError, match="found donors of other data of tiny"):
        attempt(copy)
    write_json(copy / "base.json", {"cohort": "tiny"})
    with pytest.raises(BankError, match="something else, expected a base"):
        attempt(copy)
    assert not (tmp_path / "part.json").exists()
    with pytest.raises(BankError, match=r"found 5 donors, expected at least 6"):
        train_donors(donor_job(encoder, n=6), "", 0, tmp_path / "d", tmp_path / "work")


def test_parts_that_do_not_make_a_record(encoder: Path, donors: Path, tmp_path: Path) -> None:
    job = cohort_job(encoder, "head")
    files = train(job, donors, tmp_path)
    with pytest.raises(RecordError, match=r"found parts with 5 targets .* each of the 10"):
        gather(job, "", files[:1], tmp_path / "records")
    with pytest.raises(RecordError, match=r"found parts with 15 targets \(10 different\)"):
        gather(job, "", [*files, files[0]], tmp_path / "records")
    other = dataclasses.replace(job, max_train_rows=5)
    with pytest.raises(RecordError, match="found a part of another job"):
        gather(other, "", files, tmp_path / "records")
    more = dataclasses.replace(job, seeds=(0, 1, 2))
    with pytest.raises(RecordError, match="found no predictions of seed 2"):
        gather(more, "", files, tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_the_log_names_no_text(
    encoder: Path, donors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        files = train(cohort_job(encoder, "bias"), donors, tmp_path)
    written = caplog.text + "".join(json.dumps(read_json(file)) for file in files)
    assert not any(text in written for text in make_cohort().texts)
