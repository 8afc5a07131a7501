"""Banks: a random bank is its seed; a stored bank is checked; permuting changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LAYERS, WIDTH, tiny_encoder, tiny_tokens

from xpeft.bank import Adapter, Bank, load_bank, random_bank, save_bank
from xpeft.errors import BankError
from xpeft.fitting import EncodedFeatures
from xpeft.hashing import uniform
from xpeft.job import BankSpec, MethodSpec
from xpeft.methods import BankMasks, make_bank
from xpeft.shapes import EncoderShape


def imported(n: int = 3) -> Bank:
    bank = random_bank(2, n, 8, 2, seed=5)
    bias = torch.linspace(-1, 1, 2 * n * 10).view(2, n, 10)
    down_bias, up_bias = bias[..., :2].contiguous(), bias[..., 2:].contiguous()
    return Bank(bank.down, bank.up, down_bias, up_bias, kind="trained", recipe={"of": "test"})


def test_the_same_numbers_on_every_machine() -> None:
    """Values and digest written down once: a change of either breaks every stored profile."""
    bank = random_bank(2, 3, 8, 2, seed=7)
    assert bank.down[0, 0, 0].tolist() == DOWN_VALUES
    assert bank.digest == DIGEST
    assert random_bank(2, 3, 8, 2, seed=7, init="signed").digest == SIGNED_DIGEST


DOWN_VALUES = [0.005327200051397085, -0.013025186955928802]
DIGEST = "0ed8e5f46b039474702fa463af5bba5bd1a890a3415f1052e696861a1480c78d"
SIGNED_DIGEST = "2dec2937ce8d692385ae32721156d180cae0a9b5e277ff98a4775a1f3bfd9547"


def test_adapter_i_does_not_depend_on_n() -> None:
    small, large = random_bank(2, 3, 8, 2, seed=1), random_bank(2, 9, 8, 2, seed=1)
    assert torch.equal(small.down, large.down[:, :3])
    assert torch.equal(small.up, large.up[:, :3])
    assert small.digest != large.digest


def test_seeds_sides_blocks_and_adapters_differ() -> None:
    bank, other = random_bank(2, 2, 8, 2, seed=1), random_bank(2, 2, 8, 2, seed=2)
    streams = [*bank.down.flatten(0, 1), *other.down.flatten(0, 1)]
    streams += [up.T.reshape(8, 2) for up in bank.up.flatten(0, 1)]
    flat = torch.stack([stream.flatten() for stream in streams])
    assert len(torch.unique(flat, dim=0)) == len(streams)


@pytest.mark.parametrize(("init", "kurtosis"), [("uniform", 1.8), ("signed", 1.0)])
def test_moments(init: str, kurtosis: float) -> None:
    bank = random_bank(1, 20, 64, 16, init=init, down_std=0.02, up_std=0.5)  # type: ignore[arg-type]
    for values, std in ((bank.down.double(), 0.02), (bank.up.double(), 0.5)):
        assert values.mean().abs() < 4 * std / values.numel() ** 0.5
        assert values.std().item() == pytest.approx(std, rel=0.02)
        assert ((values / std) ** 4).mean().item() == pytest.approx(kurtosis, rel=0.05)


def test_uniform_draws_are_exact_and_any_part_can_be_drawn_alone() -> None:
    draws = uniform(1001, key=3)
    assert np.array_equal(draws, (draws.astype(np.float64) * 2**24).round() / 2**24)
    assert np.abs(draws).max() < 1
    assert not (draws == 0).any()
    assert np.array_equal(uniform(100, key=3, offset=501), draws[501:601])


def test_permuting_the_bank_with_the_masks_changes_nothing() -> None:
    encoder, tokens = tiny_encoder(), tiny_tokens(6)
    bank = random_bank(LAYERS, 10, WIDTH, 4, down_std=0.3, up_std=0.3)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    for spec in (MethodSpec(mask="soft", mask_init_std=1.0), MethodSpec(mask="hard", k=4)):
        method = BankMasks(encoder, bank, spec)
        permuted = BankMasks(encoder, bank.permuted(order), spec)
        parameters = method.init([0])
        moved = {name: value[..., order] for name, value in parameters.items()}
        owners, rows = torch.zeros(6, dtype=torch.int64), np.arange(6)
        before = EncodedFeatures(encoder, method)(tokens, rows, owners, parameters)
        after = EncodedFeatures(encoder, permuted)(tokens, rows, owners, moved)
        wrong = EncodedFeatures(encoder, permuted)(tokens, rows, owners, parameters)
        torch.testing.assert_close(before, after, rtol=0, atol=1e-12)
        assert (before - wrong).abs().max() > 1e-3


def test_round_trip(tmp_path: Path) -> None:
    for bank in (random_bank(2, 3, 8, 2, seed=5), imported()):
        save_bank(bank, tmp_path / "bank")
        again = load_bank(tmp_path / "bank")
        assert again.digest == bank.digest
        assert again.kind == bank.kind
        assert again.recipe == bank.recipe
        assert all(torch.equal(a, again.tensors()[name]) for name, a in bank.tensors().items())


def test_a_random_bank_costs_bytes_on_disk(tmp_path: Path) -> None:
    save_bank(random_bank(2, 100, 8, 2, seed=5), tmp_path / "bank")
    assert [path.name for path in (tmp_path / "bank").iterdir()] == ["manifest.json"]
    assert (tmp_path / "bank" / "manifest.json").stat().st_size < 1000


def test_stack_and_adapter() -> None:
    bank = imported()
    again = Bank.stack([bank.adapter(i) for i in range(3)], "trained", {})
    assert again.digest == bank.digest
    plain = random_bank(2, 3, 8, 2)
    assert not plain.adapter(1).down_bias.any()
    with pytest.raises(BankError, match="found adapter 3, expected 0 to 2"):
        bank.adapter(3)
    with pytest.raises(BankError, match="found no adapters"):
        Bank.stack([], "trained", {})
    small = random_bank(2, 1, 4, 2).adapter(0)
    with pytest.raises(BankError, match="expected one shape"):
        Bank.stack([bank.adapter(0), small], "trained", {})


def test_a_part_of_a_stored_bank_may_be_random(tmp_path: Path) -> None:
    stored, drawn = imported(4), random_bank(2, 4, 8, 2, seed=9)
    save_bank(stored, tmp_path / "bank")
    encoder = EncoderShape("small", layers=2, width=8)
    spec = BankSpec("trained", n=4, seed=9, reduction=4, path=str(tmp_path / "bank"))
    assert make_bank(encoder, spec).digest == stored.digest
    mixed = make_bank(encoder, replace(spec, random_share=0.25))
    assert mixed.kind == "trained" and mixed.recipe["last"]["count"] == 1
    assert mixed.recipe["of"] == "test"  # still says what it was tuned on
    for i in range(3):
        assert torch.equal(mixed.down[:, i], stored.down[:, i])
        assert torch.equal(mixed.adapter(i).up_bias, stored.adapter(i).up_bias)
    assert torch.equal(mixed.up[:, 3], drawn.up[:, 3]) and not mixed.adapter(3).up_bias.any()
    assert make_bank(encoder, replace(spec, random_share=1)).down.equal(drawn.down)
    with pytest.raises(BankError, match=r"found 5 adapters to take .* expected 0 to 4"):
        stored.with_last(drawn, 5)
    with pytest.raises(BankError, match=r"expected 0 to 4 of one of \[2, 4, 8, 2\]"):
        stored.with_last(random_bank(2, 3, 8, 2), 1)


def test_wrong_shapes() -> None:
    bank = imported()
    with pytest.raises(BankError, match=r"found up .* expected \[2, 3, 2, 8\]"):
        Bank(bank.down, bank.up[:, :2])
    with pytest.raises(BankError, match="expected all >= 1"):
        random_bank(2, 0, 8, 2)
    assert isinstance(bank.adapter(0), Adapter)


def test_damage_is_found(tmp_path: Path) -> None:
    save_bank(imported(), tmp_path / "bank")
    file = tmp_path / "bank" / "bank.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BankError, match=r"expected .* from its manifest"):
        load_bank(tmp_path / "bank")
    file.write_bytes(whole[:40])
    with pytest.raises(BankError, match="cannot be read as a bank"):
        load_bank(tmp_path / "bank")
    file.unlink()
    with pytest.raises(BankError, match="cannot be read as a bank"):
        load_bank(tmp_path / "bank")
    with pytest.raises(BankError, match=r"manifest\.json: no such file"):
        load_bank(tmp_path / "none")


def test_another_seed_in_the_manifest_is_refused(tmp_path: Path) -> None:
    save_bank(random_bank(2, 3, 8, 2, seed=5), tmp_path / "bank")
    path = tmp_path / "bank" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["recipe"]["seed"] = 6
    path.write_text(json.dumps(manifest))
    with pytest.raises(BankError, match=r"expected .* from its manifest"):
        load_bank(tmp_path / "bank")
    del manifest["recipe"]["seed"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BankError, match="wrong or missing field: 'seed'"):
        load_bank(tmp_path / "bank")
