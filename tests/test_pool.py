"""Trained banks: pools of adapters tuned on source tasks, and what a target may take of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from localencoder import save_encoder

import xpeft.pool
from xpeft.bank import Bank, load_bank, random_bank, save_bank
from xpeft.data.prepare import prepare
from xpeft.data.sources import EmbeddedSource
from xpeft.data.specs import get_task, near_duplicates
from xpeft.errors import BankError, ConfigError
from xpeft.fitting import Interrupted
from xpeft.job import BankSpec, EncoderSpec, Job, MethodSpec, PoolJob, TrainingSpec
from xpeft.pool import half, make_trained_bank, train_pool
from xpeft.records import read_record
from xpeft.trainer import train_job

TASKS = ("sentiment", "entailment")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder, both embedded tasks, and a pool of four adapters of each."""
    folder = tmp_path_factory.mktemp("pool")
    save_encoder(folder / "encoder")
    for task in TASKS:
        prepare(get_task("embedded", task), EmbeddedSource(60, 20), folder / task)
        train_pool(job(folder, task), folder / task, folder / f"pool-{task}", folder / "work")
    return folder


def job(place: Path, task: str = "entailment", **changes: Any) -> PoolJob:
    made = PoolJob(
        tier="test",
        suite="embedded",
        task=task,
        encoder=EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="float64"),
        training=TrainingSpec(epochs=2, batch_size=8, lr=0.01, checkpoint_seconds=1e-6),
        adapters=4,
        reduction=4,
        max_train_rows=41,
    )
    return dataclasses.replace(made, **changes)


def pool(made: PoolJob, place: Path, out: Path) -> Bank:
    train_pool(made, place / made.task, out / "pool", out / "work")
    assert not (out / "work").exists()
    return load_bank(out / "pool")


def test_twins_see_complementary_halves_and_each_seed_divides_anew() -> None:
    rows = np.arange(10, 31)
    for seed in (0, 5):
        first, second = half(rows, 2, seed), half(rows, 3, seed)
        assert (len(first), len(second)) == (10, 11)
        assert sorted([*first, *second]) == rows.tolist()
        assert first.tolist() != half(rows, 0, seed).tolist()
    assert half(rows, 2, 0).tolist() == half(rows, 0, 1).tolist()  # both of seed 1


def test_a_pool_says_what_it_is_of(place: Path) -> None:
    bank = load_bank(place / "pool-entailment")
    assert (bank.kind, bank.layers, bank.n, bank.width, bank.bottleneck) == ("trained", 2, 4, 16, 4)
    assert bank.recipe["task"] == "embedded/entailment"
    assert bank.recipe["seeds"] == [0, 0, 1, 1]
    assert bank.recipe["rows"] == [20, 21, 20, 21]
    assert bank.up_bias is not None
    assert bank.up_bias.abs().sum() > 0  # trained: biases start at zero
    downs = [bank.adapter(i).down for i in range(4)]
    assert all((downs[i] != downs[j]).any() for i in range(4) for j in range(i))


def test_an_adapter_does_not_depend_on_how_many_there_are(place: Path, tmp_path: Path) -> None:
    two = pool(job(place, adapters=2), place, tmp_path)
    four = load_bank(place / "pool-entailment")
    for name, value in two.tensors().items():
        assert value.equal(four.tensors()[name][:, :2]), name


def test_stopped_and_resumed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_bank(place / "pool-entailment").digest
    original, seen = xpeft.pool.fit, []

    def stopping(*args: Any, **options: Any) -> Any:
        options["stop"] = lambda: seen.append(1) or len(seen) == 3  # type: ignore[func-returns-value]
        return original(*args, **options)

    monkeypatch.setattr(xpeft.pool, "fit", stopping)
    with pytest.raises(Interrupted):
        pool(job(place), place, tmp_path)
    assert not (tmp_path / "pool").exists()
    assert (tmp_path / "work/pool.safetensors").is_file()
    assert pool(job(place), place, tmp_path).digest == whole


def test_a_bank_takes_from_the_pools_in_turn(place: Path) -> None:
    pools = [place / f"pool-{task}" for task in TASKS]
    bank = make_trained_bank(pools, 5)
    assert bank.recipe["sources"] == [f"embedded/{task}" for task in TASKS]
    assert bank.recipe["adapters"] == [
        ["embedded/sentiment", 0],
        ["embedded/entailment", 0],
        ["embedded/sentiment", 1],
        ["embedded/entailment", 1],
        ["embedded/sentiment", 2],
    ]
    for i, (task, turn) in enumerate(bank.recipe["adapters"]):
        source = load_bank(place / f"pool-{task.partition('/')[2]}")
        assert bank.adapter(i).up.equal(source.adapter(turn).up)
    larger = make_trained_bank(pools, 8)
    assert larger.down[:, :5].equal(bank.down)
    assert larger.digest != bank.digest


def test_what_no_bank_is_made_of(place: Path, tmp_path: Path) -> None:
    pools = [place / f"pool-{task}" for task in TASKS]
    with pytest.raises(BankError, match="found 8 adapters in 2 pools, expected 9"):
        make_trained_bank(pools, 9)
    with pytest.raises(BankError, match="found a second pool of embedded/sentiment"):
        make_trained_bank([pools[0], pools[0]], 2)
    save_bank(random_bank(2, 3, 16, 4), tmp_path / "random")
    with pytest.raises(BankError, match="found a random bank, expected a pool"):
        make_trained_bank([tmp_path / "random"], 2)
    with pytest.raises(ConfigError, match="found data of embedded/sentiment, expected embedded/en"):
        train_pool(job(place), place / "sentiment", tmp_path / "pool", tmp_path / "work")
    assert not (tmp_path / "pool").exists()


def test_a_target_meets_no_adapters_of_its_own(place: Path, tmp_path: Path) -> None:
    def target(out: str, *sources: str) -> dict[str, Any]:
        bank = make_trained_bank([place / f"pool-{task}" for task in sources], 4)
        save_bank(bank, tmp_path / out / "bank")
        work = Job(
            tier="test",
            suite="embedded",
            task="sentiment",
            arm="x_peft-soft-trained-n4",
            seeds=(0,),
            encoder=EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="float32"),
            method=MethodSpec(mask="soft"),
            training=TrainingSpec(epochs=1, batch_size=8),
            bank=BankSpec(kind="trained", n=4, reduction=4),
        )
        files = tmp_path / out
        train_job(
            work,
            place / "sentiment",
            files / "records",
            files / "tuning.json",
            files / "work",
            bank_dir=files / "bank",
        )
        record = dict(read_record(files / "records/seed0.json"))
        assert record["run"]["bank_sha256"] == bank.digest
        return record

    cell = target("foreign", "entailment")["cell"]
    assert (cell["bank"], cell["n"]) == ("trained", 4)
    with pytest.raises(BankError, match="found adapters tuned on embedded/sentiment, expected non"):
        target("own", *TASKS)


def test_near_duplicates_hold_on_both_sides() -> None:
    assert near_duplicates("glue/rte") == ("superglue/rte",)
    assert near_duplicates("superglue/rte") == ("glue/rte",)
    assert near_duplicates("glue/wnli") == ("superglue/wsc",)
    assert near_duplicates("glue/sst2") == ()
