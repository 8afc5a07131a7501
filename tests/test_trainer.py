"""A job from its file to its records: reproducible, resumable, tuned on training rows alone."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from localencoder import save_encoder

from xpeft import trainer
from xpeft.bank import random_bank, save_bank
from xpeft.data.prepare import prepare
from xpeft.data.prepared import load_prepared
from xpeft.data.sources import EmbeddedSource, LocalSource
from xpeft.data.specs import get_task
from xpeft.errors import BankError, ConfigError, DataError
from xpeft.fitting import Interrupted
from xpeft.job import BankSpec, EncoderSpec, Job, MethodSpec, TrainingSpec, TuningSpec
from xpeft.metrics import compute
from xpeft.records import read_record, result_bytes
from xpeft.trainer import train_job

METHODS = {
    "head_only": MethodSpec(method="head_only"),
    "single_adapter": MethodSpec(method="single_adapter", reduction=4),
    "full": MethodSpec(method="full"),
    "bitfit": MethodSpec(method="bitfit"),
    "soft": MethodSpec(mask="soft"),
    "hard": MethodSpec(mask="hard", k=2, norm="affine", learned_gain=True),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainer")
    save_encoder(folder / "encoder")
    prepare(get_task("embedded", "sentiment"), EmbeddedSource(120, 40), folder / "data")
    return folder


def job(place: Path, arm: str, **changes: Any) -> Job:
    made = Job(
        tier="test",
        suite="embedded",
        task="sentiment",
        arm=arm,
        seeds=(0, 1),
        encoder=EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="float32"),
        method=METHODS[arm],
        training=TrainingSpec(epochs=2, batch_size=8, checkpoint_seconds=1e-6),
        bank=BankSpec(n=6, reduction=4) if METHODS[arm].method == "x_peft" else None,
        tuning=TuningSpec(({"lr": 0.01}, {"lr": 0.1}), epochs=1, max_rows=60, holdout=0.25),
    )
    return dataclasses.replace(made, **changes)


def run(work: Job, place: Path, out: Path, data: str = "data") -> list[Any]:
    train_job(work, place / data, out / "records", out / "tuning.json", out / "work")
    return [read_record(out / "records" / f"seed{seed}.json") for seed in work.seeds]


@pytest.mark.parametrize("arm", METHODS)
def test_records_say_what_was_trained_and_stored(arm: str, place: Path, tmp_path: Path) -> None:
    first, second = run(job(place, arm), place, tmp_path)
    result = first["result"]
    layers, d, b, n = 2, 16, 4, 6
    head = 2 * d + 2
    masks = 2 * layers * n
    parameters = {
        "head_only": {"head": head},
        "single_adapter": {"head": head, "adapter": layers * (2 * d * b + d + b)},
        "full": {"head": head, "encoder": result["parameters"]["encoder"]},
        "bitfit": {"head": head, "encoder": d + layers * (7 * d + 32)},
        "soft": {"head": head, "masks": masks},
        "hard": {"head": head, "masks": masks, "norm": 2 * layers * b, "gain": 2 * layers},
    }[arm]
    assert {k: v for k, v in result["parameters"].items() if v and k != "total"} == parameters
    stored = {name: 4 * count for name, count in parameters.items()}
    if arm == "hard":
        stored["masks"] = 2 * layers * 1  # six adapters fit in one byte
    assert {k: v for k, v in result["bytes"].items() if v and k != "total"} == stored
    assert (result["parameters"]["encoder"] > 2000) == (arm == "full")
    assert first["cell"]["k"] == (2 if arm == "hard" else None)
    assert result["state_sha256"] != second["result"]["state_sha256"]
    labels = load_prepared(place / "data").validation.labels
    assert result["scores"] == compute(["accuracy"], result["predictions"], labels)
    assert result["steps"] == 2 * 15
    assert result["best"] == 0.95
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("arm", ["hard", "full"])
def test_the_same_job_gives_the_same_result(arm: str, place: Path, tmp_path: Path) -> None:
    first = run(job(place, arm), place, tmp_path / "a")
    again = run(job(place, arm), place, tmp_path / "b")
    assert [result_bytes(r) for r in first] == [result_bytes(r) for r in again]


@pytest.mark.parametrize("kept", [True, False])
def test_further_seeds_are_what_they_would_be_among_the_others(
    kept: bool, place: Path, tmp_path: Path
) -> None:
    *_, third = run(job(place, "hard", seeds=(0, 1, 2)), place, tmp_path / "three")
    two = job(place, "hard")
    first = [result_bytes(record) for record in run(two, place, tmp_path / "two")]
    tuning, work = tmp_path / "two/tuning.json", tmp_path / "two/work"
    if kept:
        value = json.loads(tuning.read_text())
        value["chosen"] = 1 - value["chosen"]  # so that it shows whether it was read
        tuning.write_text(json.dumps(value))
    else:
        tuning.unlink()
    before = tuning.read_bytes() if kept else None
    train_job(two, place / "data", tmp_path / "two/records", tuning, work, seeds=[2])
    found = [read_record(tmp_path / f"two/records/seed{seed}.json") for seed in (0, 1, 2)]
    assert [result_bytes(record) for record in found[:2]] == first
    assert found[2]["run"]["config_sha256"] == third["run"]["config_sha256"]
    assert (result_bytes(found[2]) == result_bytes(third)) != kept
    assert (tuning.read_bytes() if tuning.is_file() else None) == before


def test_tuning_of_other_settings_is_not_taken_over(place: Path, tmp_path: Path) -> None:
    run(job(place, "hard"), place, tmp_path)
    changed = job(place, "hard", tuning=TuningSpec(({"lr": 0.5}, {"lr": 0.6}), 1, 60, 0.25))
    folders = (tmp_path / "records", tmp_path / "tuning.json", tmp_path / "work")
    train_job(changed, place / "data", *folders, seeds=[2])
    record = read_record(tmp_path / "records/seed2.json")
    assert record["result"]["settings"]["lr"] in (0.5, 0.6)
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"tuning\.json: found no tuning of a job, expected a file"
    ):
        train_job(changed, place / "data", *folders, seeds=[2])


@pytest.mark.parametrize(("arm", "stop_at"), [("hard", 3), ("hard", 30), ("full", 17)])
def test_stopped_by_sigterm_and_resumed(
    arm: str, stop_at: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(job(place, arm), place, tmp_path / "whole")
    original, seen = trainer.fit, []

    def stopping(*args: Any, **options: Any) -> Any:
        options["stop"] = lambda: seen.append(1) or len(seen) == stop_at  # type: ignore[func-returns-value]
        return original(*args, **options)

    monkeypatch.setattr(trainer, "fit", stopping)
    with pytest.raises(Interrupted):
        run(job(place, arm), place, tmp_path / "cut")
    assert list((tmp_path / "cut/work").iterdir())
    resumed = run(job(place, arm), place, tmp_path / "cut")
    assert [result_bytes(r) for r in whole] == [result_bytes(r) for r in resumed]


def test_tuning_never_sees_the_validation_rows(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other validation labels change scores, never what was tried or chosen."""
    prepared = load_prepared(place / "data")
    turned = dataclasses.replace(
        prepared,
        validation=dataclasses.replace(prepared.validation, labels=1 - prepared.validation.labels),
    )
    (one, _), first = run(job(place, "soft"), place, tmp_path / "a"), tmp_path / "a/tuning.json"
    monkeypatch.setattr(trainer, "load_prepared", lambda folder: turned)
    (other, _), second = run(job(place, "soft"), place, tmp_path / "b"), tmp_path / "b/tuning.json"
    assert one["result"]["score"] == pytest.approx(1 - other["result"]["score"])
    assert one["result"]["state_sha256"] == other["result"]["state_sha256"]
    tried = [json.loads(path.read_text()) for path in (first, second)]
    assert tried[0]["trials"] == tried[1]["trials"]
    assert tried[0]["chosen"] == tried[1]["chosen"]
    assert [t["settings"] for t in tried[0]["trials"]] == [{"lr": 0.01}, {"lr": 0.1}]


def test_the_lowest_loss_is_chosen_whatever_the_score(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = trainer.compute, itertools.count()

    def rising(*args: Any, **options: Any) -> dict[str, float]:
        number = next(count)  # of the three trials; a record's own scores must be true
        return {"accuracy": number / 10} if number < 3 else original(*args, **options)

    monkeypatch.setattr(trainer, "compute", rising)
    trials = TuningSpec(({"lr": 0.01}, {"lr": 3.0}, {"lr": 0.01, "clip": 0.5}), None, 60, 0.25)
    run(job(place, "soft", tuning=trials), place, tmp_path)
    tried = json.loads((tmp_path / "tuning.json").read_text())
    losses = [trial["loss"] for trial in tried["trials"]]
    assert [trial["score"] for trial in tried["trials"]] == [0.0, 0.1, 0.2]
    assert tried["chosen"] == losses.index(min(losses)) != 2  # the highest score is of trial 2
    assert tried["split"].endswith(" 2 epochs")  # the arm's own


def test_a_tuned_setting_is_what_is_trained_with(place: Path, tmp_path: Path) -> None:
    tuned, _ = run(job(place, "soft"), place, tmp_path / "a")
    lr = tuned["result"]["settings"]["lr"]
    fixed = dataclasses.replace(job(place, "soft").training, lr=lr)
    plain, _ = run(job(place, "soft", tuning=None, training=fixed), place, tmp_path / "b")
    assert plain["result"]["state_sha256"] == tuned["result"]["state_sha256"]
    assert plain["run"]["config_sha256"] != tuned["run"]["config_sha256"]


@pytest.mark.parametrize("head", ["private", "binary"])
def test_regression(head: str, place: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = ["food", "service", "music", "film", "good", "bad", "great", "awful"]
    for split, count in (("train", 80), ("validation", 20)):
        rows = []
        for _ in range(count):
            left, right = random.choice(words, 3), random.choice(words, 3)
            shared = len(set(left) & set(right))
            row = {"sentence1": " ".join(left), "sentence2": " ".join(right)}
            rows.append(json.dumps({**row, "label": 5.0 * shared / 3}))
        path = tmp_path / "source/glue/stsb" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")
    prepare(get_task("glue", "stsb"), LocalSource(tmp_path / "source"), tmp_path / "stsb")
    work = job(place, "single_adapter", suite="glue", task="stsb", head=head)
    first, _ = run(work, tmp_path, tmp_path / "out", "stsb")
    result = first["result"]
    labels = load_prepared(tmp_path / "stsb").validation.labels
    expected = compute(["pearson", "spearman"], result["predictions"], labels)
    assert result["scores"]["pearson"] == pytest.approx(expected["pearson"], abs=1e-4)
    assert result["majority"] == {"pearson": 0.0, "spearman": 0.0}
    assert result["confusion"] is None
    if head == "private":  # a binary one takes more steps than these to unlearn its start
        assert abs(np.mean(result["predictions"]) - labels.mean()) < 2  # on the labels' own scale


def test_a_trial_that_diverges_is_kept_and_not_chosen(place: Path, tmp_path: Path) -> None:
    trials = TuningSpec(({"lr": 1e30, "head_lr": 1e30}, {"lr": 0.01}), 2, 60, 0.25)
    work = job(place, "single_adapter", tuning=trials)
    first, _ = run(work, place, tmp_path)
    tried = json.loads((tmp_path / "tuning.json").read_text())
    assert [trial["score"] is None for trial in tried["trials"]] == [True, False]
    assert tried["chosen"] == 1
    assert first["result"]["settings"]["lr"] == 0.01
    worse = dataclasses.replace(work.training, lr=1e30, head_lr=1e30)
    with pytest.raises(ConfigError, match="training diverged with its fixed settings; lower lr"):
        run(job(place, "single_adapter", tuning=None, training=worse), place, tmp_path / "b")


def test_full_trains_in_float32_where_auto_would_be_bfloat16(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    encoder = EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="auto")
    for arm, dtype in (("full", "float32"), ("hard", "bfloat16")):
        first, _ = run(job(place, arm, encoder=encoder), place, tmp_path / arm)
        assert first["run"]["dtype"] == dtype


def test_a_stored_bank_must_be_what_the_job_says(place: Path, tmp_path: Path) -> None:
    bank = random_bank(2, 5, 16, 4)
    save_bank(dataclasses.replace(bank, kind="trained"), tmp_path / "bank")
    spec = BankSpec(kind="trained", n=5, reduction=4, path=str(tmp_path / "bank"))
    first, _ = run(job(place, "hard", bank=spec), place, tmp_path)
    assert (first["cell"]["bank"], first["cell"]["n"]) == ("trained", 5)
    assert first["run"]["bank_sha256"] == bank.digest
    with pytest.raises(BankError, match=r"\('trained', 5, 4\), expected \('trained', 6, 4\)"):
        run(job(place, "hard", bank=dataclasses.replace(spec, n=6)), place, tmp_path)


def test_wrong_inputs(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected glue/sst2"):
        run(job(place, "soft", suite="glue", task="sst2"), place, tmp_path)
    with pytest.raises(DataError, match=r"found no meta\.json; run xpeft data"):
        run(job(place, "soft"), place, tmp_path, "nothing")
    with pytest.raises(ConfigError, match="x_peft without a bank"):
        run(job(place, "soft", bank=None), place, tmp_path)
    with pytest.raises(ConfigError, match="found the setting 'speed'"):
        run(job(place, "soft", tuning=TuningSpec(({"speed": 1.0},))), place, tmp_path)
    with pytest.raises(ConfigError, match=r"found a bank .*, expected none"):
        train_job(
            job(place, "soft"), place / "data", tmp_path / "records", tmp_path / "tuning.json",
            tmp_path / "work", bank_dir=tmp_path / "bank",
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"seeds: found \[-1\], expected different whole"):
        train_job(
            job(place, "soft"), place / "data", tmp_path / "records", tmp_path / "tuning.json",
            tmp_path / "work", seeds=[-1],
        )  # fmt: skip
    (tmp_path / "file").touch()
    for records, tuning in ((tmp_path / "file", tmp_path / "t.json"), (tmp_path / "r", tmp_path)):
        with pytest.raises(ConfigError, match=r"found a (file|folder), expected the (name|folder)"):
            train_job(job(place, "soft"), place / "data", records, tuning, tmp_path / "work")
    assert not (tmp_path / "records").exists()


def test_a_seeded_head_is_not_trained_and_costs_nothing(place: Path, tmp_path: Path) -> None:
    seeded = job(place, "hard", head="seeded", tuning=None, method=MethodSpec(mask="hard", k=2))
    records = run(seeded, place, tmp_path / "first")
    for record in records:
        assert record["result"]["bytes"]["head"] == 0
        assert record["result"]["parameters"]["head"] == 0
        assert record["result"]["settings"]["head"] == "seeded"

    def states(name: str, **changes: float) -> list[str]:
        training = dataclasses.replace(seeded.training, **changes)  # type: ignore[arg-type]
        found = run(dataclasses.replace(seeded, training=training), place, tmp_path / name)
        return [record["result"]["state_sha256"] for record in found]

    first = [record["result"]["state_sha256"] for record in records]
    assert states("head", head_lr=0.5) == first  # nothing is there to which this rate applies
    assert states("masks", lr=0.5) != first  # what stands before the head is trained through it


@pytest.mark.parametrize("arm", ["hard", "head_only"])
def test_a_binary_head_is_trained_and_costs_a_bit_a_weight(
    arm: str, place: Path, tmp_path: Path
) -> None:
    binary = job(place, arm, head="binary", tuning=None)
    first, second = run(binary, place, tmp_path / "first")
    d = 16
    assert first["result"]["bytes"]["head"] == d // 8 + 4 + 4  # of two classes one has a row
    assert first["result"]["parameters"]["head"] == d + 2
    assert first["result"]["settings"]["head"] == "binary"
    assert first["result"]["state_sha256"] != second["result"]["state_sha256"]
    for name in ("lr", "head_lr"):  # that of the signs, that of scale and bias
        training = dataclasses.replace(binary.training, **{name: 0.5})  # type: ignore[arg-type]
        (other, _) = run(dataclasses.replace(binary, training=training), place, tmp_path / name)
        assert other["result"]["state_sha256"] != first["result"]["state_sha256"]


def test_a_seeded_head_counts_in_the_hash_and_a_private_one_does_not(place: Path) -> None:
    private = job(place, "hard")
    seeded = dataclasses.replace(private, head="seeded")
    assert seeded.config_hash() != private.config_hash()
    assert Job.from_dict(seeded.to_dict()) == seeded
    without = private.to_dict()
    del without["head"]
    assert Job.from_dict(without) == Job.from_dict(private.to_dict())


def test_a_head_alone_cannot_be_seeded(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a seeded head and head_only"):
        run(dataclasses.replace(job(place, "head_only"), head="seeded"), place, tmp_path)
