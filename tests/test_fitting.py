"""The training loop: it learns, it resumes to the same bits, and it stops when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LAYERS, WIDTH, tiny_encoder, tiny_profile, tiny_tokens, train

from xpeft.bank import random_bank
from xpeft.batches import RowOrder, epoch_batches
from xpeft.encoder import weights_digest
from xpeft.errors import BankError, ConfigError
from xpeft.fitting import EncodedFeatures, FrozenFeatures, Interrupted, fit, predict
from xpeft.heads import init_head, linear_heads
from xpeft.job import MethodSpec
from xpeft.methods import BankMasks, HeadOnly, make_method
from xpeft.optimizer import ProfileAdamW, Schedule

TOKENS = tiny_tokens(60)
PROFILES = [tiny_profile(TOKENS, range(0, 40), 1), tiny_profile(TOKENS, range(20, 60), 2)]
SCHEDULES = [Schedule(steps=12, lr=0.05, head_lr=0.05), Schedule(steps=7, lr=0.05, head_lr=0.05)]
BANK = random_bank(LAYERS, 12, WIDTH, 4, down_std=0.3, up_std=0.3)


def hard() -> tuple[Any, BankMasks]:
    encoder = tiny_encoder()
    return encoder, BankMasks(encoder, BANK, MethodSpec(mask="hard", k=5, norm="affine"))


@pytest.mark.parametrize(
    "spec",
    [
        MethodSpec(method="head_only"),
        MethodSpec(method="single_adapter", reduction=4),
        MethodSpec(method="full"),
        MethodSpec(method="bitfit"),
        MethodSpec(mask="soft", mask_init_std=1.0),
        MethodSpec(mask="soft", activation="softmax", norm="none"),
        MethodSpec(mask="hard", k=6, center=True),
        MethodSpec(mask="hard", k=6, sides="tied", estimator="sigmoid"),
        MethodSpec(mask="hard", k=6, sides="down", estimator="softmax"),
        MethodSpec(mask="hard", k=6, sides="up", learned_gain=True, scale="mean"),
    ],
    ids=str,
)
def test_every_method_learns_and_trains_only_what_is_its_own(spec: MethodSpec) -> None:
    encoder = tiny_encoder()
    before = weights_digest(encoder.model)
    method = make_method(encoder, spec, BANK)
    schedule = Schedule(steps=100, lr=0.003 if spec.method == "full" else 0.05, head_lr=0.1)
    tokens = tiny_tokens(40, longest=4)
    fitted = train(encoder, method, tokens, [tiny_profile(tokens, range(40), 1)], [schedule])
    losses = fitted.losses[0]
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()
    assert weights_digest(encoder.model) == before
    start = {**method.init([1])}
    assert all(not torch.equal(value, fitted.parameters[name]) for name, value in start.items())


@pytest.mark.parametrize("stop_at", [1, 5, 8, 18])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, stop_at: int) -> None:
    encoder, method = hard()
    whole = train(encoder, method, TOKENS, PROFILES, SCHEDULES, rows_at_once=8)
    calls = iter(range(1, 1000))
    options: dict[str, Any] = {"checkpoint": tmp_path / "c", "identity": {"job": "a"}}
    with pytest.raises(Interrupted):
        train(
            encoder,
            method,
            TOKENS,
            PROFILES,
            SCHEDULES,
            rows_at_once=8,
            stop=lambda: next(calls) >= stop_at,
            **options,
        )
    resumed = train(encoder, method, TOKENS, PROFILES, SCHEDULES, rows_at_once=8, **options)
    assert (resumed.rows, resumed.tokens) == (whole.rows, whole.tokens)
    assert resumed.seconds > 0
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name]), name
    for one, other in zip(whole.losses, resumed.losses, strict=True):
        assert np.array_equal(one, other)


def test_a_checkpoint_of_other_work_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    encoder, method = hard()
    path = tmp_path / "c"
    whole = train(
        encoder, method, TOKENS, PROFILES, SCHEDULES, checkpoint=path, identity={"job": "a"}
    )
    passes: list[int] = []

    def passes_of_b() -> int:
        passes.clear()
        fitted = train(
            encoder,
            method,
            TOKENS,
            PROFILES,
            SCHEDULES,
            checkpoint=path,
            identity={"job": "b"},
            progress=lambda done, total: passes.append(done),
        )
        assert torch.equal(fitted.parameters["mask_a"], whole.parameters["mask_a"])
        return len(passes)

    needed = passes_of_b()
    assert needed > 10
    path.write_bytes(path.read_bytes()[:100])
    assert passes_of_b() == needed
    assert passes_of_b() == 0


def test_frozen_features_equal_the_encoder_and_are_computed_once() -> None:
    encoder = tiny_encoder()
    frozen, encoded = FrozenFeatures(encoder), EncodedFeatures(encoder, HeadOnly())
    rows, owners = np.array([5, 3, 59]), torch.zeros(3, dtype=torch.int64)
    expected = encoded(TOKENS, rows, owners, {})
    torch.testing.assert_close(frozen(TOKENS, rows, owners, {}), expected, rtol=0, atol=1e-12)
    calls = []
    original = encoder.states
    encoder.states = lambda *a, **k: calls.append(1) or original(*a, **k)  # type: ignore[method-assign, func-returns-value]
    frozen(TOKENS, rows, owners, {})
    assert not calls


def test_predictions_are_those_of_the_profile_in_the_order_of_the_rows() -> None:
    encoder, method = hard()
    fitted = train(encoder, method, TOKENS, PROFILES, SCHEDULES)
    features = EncodedFeatures(encoder, method)
    for profile in (0, 1):
        outputs = predict(features, fitted.parameters, profile, TOKENS, batch_size=7)
        for row in (0, 31, 59):
            owners = torch.tensor([profile])
            vector = features(TOKENS, np.array([row]), owners, fitted.parameters)
            parameters = fitted.parameters
            one = linear_heads(vector, parameters["head.weight"], parameters["head.bias"], owners)
            torch.testing.assert_close(outputs[row], one[0].detach(), rtol=0, atol=1e-12)


def test_a_row_does_not_depend_on_its_company_in_a_mixed_batch() -> None:
    encoder, method = hard()
    parameters = method.init([1, 2, 3])
    features = EncodedFeatures(encoder, method)
    rows = np.array([4, 9, 14, 4])
    mixed = features(TOKENS, rows, torch.tensor([2, 0, 1, 0]), parameters)
    for place, profile in enumerate([2, 0, 1, 0]):
        alone = {name: value[profile : profile + 1] for name, value in parameters.items()}
        one = features(TOKENS, rows[place : place + 1], torch.tensor([0]), alone)
        torch.testing.assert_close(mixed[place], one[0], rtol=0, atol=1e-12)
    assert (mixed[0] - mixed[3]).abs().max() > 1e-3


def test_an_epoch_holds_every_row_once_and_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, size=1000)
    batches = epoch_batches(lengths, 16, seed=3, epoch=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert [len(batch) for batch in batches].count(16) == 62
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.15 * lengths.sum()
    other = epoch_batches(lengths, 16, seed=4, epoch=1)
    assert any(set(a) != set(b) for a, b in zip(batches, other, strict=True))
    means = [[lengths[b].mean() for b in order[:32]] for order in (batches, other)]
    assert np.corrcoef(means)[0, 1] > 0.95  # profiles meet batches of like length together


def test_the_order_is_a_function_of_the_step() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, size=50)
    one, other = RowOrder(lengths, 8, 5), RowOrder(lengths, 8, 5)
    forward = [one.batch(step).tolist() for step in range(20)]
    backward = [other.batch(step).tolist() for step in reversed(range(20))][::-1]
    assert forward == backward
    assert forward[:7] != forward[7:14]


def test_schedule() -> None:
    schedule = Schedule(steps=10, lr=1.0, head_lr=1.0, warmup=0.4)
    factors = [schedule.factor(step) for step in range(11)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_the_optimizer_equals_torchs_adamw() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    schedule = Schedule(steps=20, lr=0.1, head_lr=0.2, warmup=0.0, weight_decay=0.3, clip=0.5)
    ours = ProfileAdamW({"w": start.clone()}, [schedule] * 3)
    for profile in range(3):
        theirs = torch.nn.Parameter(start[profile].clone())
        reference = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3)
        for step in range(20):
            target = torch.sin(torch.arange(20.0).double() + step + profile).view(4, 5) * 3
            leaves = ours.leaves([profile])
            ((leaves["w"][0] - target) ** 2).sum().backward()
            ours.step([profile], leaves)
            for group in reference.param_groups:
                group["lr"] = 0.1 * schedule.factor(step)
            reference.zero_grad()
            ((theirs - target) ** 2).sum().backward()
            torch.nn.utils.clip_grad_norm_([theirs], 0.5)
            reference.step()
        torch.testing.assert_close(ours.parameters["w"][profile], theirs.detach())


def test_wrong_settings() -> None:
    encoder = tiny_encoder()
    with pytest.raises(ConfigError, match="no bank or no mask kind"):
        make_method(encoder, MethodSpec())
    with pytest.raises(ConfigError, match="expected the k of a hard mask"):
        make_method(encoder, MethodSpec(mask="hard"), BANK)
    with pytest.raises(ConfigError, match="expected a divisor of the encoder's width 16"):
        make_method(encoder, MethodSpec(method="single_adapter", reduction=5))
    for wrong in (
        MethodSpec(mask="soft", center=True),
        MethodSpec(mask="hard", k=12, center=True),
        MethodSpec(mask="hard", k=5, center=True, scale="mean"),
    ):
        with pytest.raises(ConfigError, match="expected a hard mask with k < N"):
            make_method(encoder, wrong, BANK)
    with pytest.raises(BankError, match="expected L=2, d=16"):
        make_method(encoder, MethodSpec(mask="soft"), random_bank(3, 4, WIDTH, 4))


def test_groups_never_hold_two_widths() -> None:
    encoder, method = hard()
    seen: list[set[int]] = []

    class Spy(EncodedFeatures):
        def __call__(self, tokens: Any, rows: Any, owners: Any, leaves: Any) -> torch.Tensor:
            parts = [rows[owners.numpy() == p] for p in range(int(owners.max()) + 1)]
            seen.append({tokens.padded_width(part) for part in parts})
            return super().__call__(tokens, rows, owners, leaves)

    fit(
        Spy(encoder, method),
        {**method.init([1, 2]), **init_head([1, 2], 2, encoder)},
        TOKENS,
        PROFILES,
        SCHEDULES,
        batch_size=8,
        rows_at_once=64,
    )
    assert all(len(widths) == 1 for widths in seen)
    assert len(seen) < 19  # some groups held both profiles
