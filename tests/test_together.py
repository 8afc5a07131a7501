"""Training together equals training alone; no profile depends on another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny import LAYERS, WIDTH, tiny_encoder, tiny_profile, tiny_tokens, train

from xpeft.bank import random_bank
from xpeft.encoder import Encoder
from xpeft.fitting import Fitted, ProfileData
from xpeft.job import MethodSpec, TaskHead
from xpeft.methods import Method, make_method
from xpeft.optimizer import Schedule

BANK = random_bank(LAYERS, 12, WIDTH, 4, down_std=0.3, up_std=0.3)
SPECS = {
    "single_adapter": MethodSpec(method="single_adapter", reduction=4),
    "soft": MethodSpec(mask="soft", norm="affine", learned_gain=True, mask_init_std=1.0),
    "hard": MethodSpec(mask="hard", k=5, norm="fixed"),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A sum over rows may be cut differently for other numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TOKENS = tiny_tokens(120)
PROFILES = [
    tiny_profile(TOKENS, range(0, 21), seed=1),
    tiny_profile(TOKENS, range(21, 88), seed=2),
    tiny_profile(TOKENS, range(88, 120), seed=3),
]
SCHEDULES = [
    Schedule(steps=9, lr=0.02, head_lr=0.01, weight_decay=0.1),
    Schedule(steps=14, lr=0.05, head_lr=0.02, clip=0.1),
    Schedule(steps=6, lr=0.01, head_lr=0.05, clip=0.0, warmup=0.5),
]


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[Encoder, Method]:
    encoder = tiny_encoder(dtype)
    return encoder, make_method(encoder, SPECS[name], BANK)


def assert_same(together: Fitted, place: int, alone: Fitted) -> None:
    for name, value in alone.parameters.items():
        assert torch.equal(together.parameters[name][place], value[0]), name
    assert np.array_equal(together.losses[place], alone.losses[0])


@pytest.mark.parametrize("rows_at_once", [8, 16, 64])
@pytest.mark.parametrize(
    ("name", "head"), [*((name, "private") for name in SPECS), ("hard", "binary")]
)
def test_together_equals_alone_to_the_bit(name: str, head: TaskHead, rows_at_once: int) -> None:
    encoder, method = make(name)
    together = train(encoder, method, TOKENS, PROFILES, SCHEDULES, head, rows_at_once=rows_at_once)
    for place in range(len(PROFILES)):
        one = slice(place, place + 1)
        alone = train(encoder, method, TOKENS, PROFILES[one], SCHEDULES[one], head)
        assert_same(together, place, alone)
        assert alone.losses[0][-1] != alone.losses[0][0]


@pytest.mark.parametrize("name", SPECS)
def test_together_equals_alone_in_float32_within_tolerance(name: str) -> None:
    encoder, method = make(name, torch.float32)
    together = train(encoder, method, TOKENS, PROFILES, SCHEDULES, rows_at_once=64)
    for place in range(len(PROFILES)):
        alone = train(
            encoder, method, TOKENS, PROFILES[place : place + 1], SCHEDULES[place : place + 1]
        )
        np.testing.assert_allclose(together.losses[place], alone.losses[0], rtol=2e-3, atol=2e-4)


def test_changing_one_profiles_data_changes_no_other_profile() -> None:
    encoder, method = make("hard")
    before = train(encoder, method, TOKENS, PROFILES, SCHEDULES, rows_at_once=64)
    turned = ProfileData(PROFILES[1].rows[:40], 1 - PROFILES[1].labels[:40], seed=9)
    changed = [PROFILES[0], turned, PROFILES[2]]
    after = train(encoder, method, TOKENS, changed, SCHEDULES, rows_at_once=64)
    for place, same in ((0, True), (1, False), (2, True)):
        equal = [
            torch.equal(before.parameters[name][place], after.parameters[name][place])
            for name in before.parameters
        ]
        assert all(equal) if same else not any(equal)


def test_a_profile_without_rows_in_a_step_is_not_touched() -> None:
    encoder, method = make("soft")
    short = [Schedule(steps=1, lr=0.02, head_lr=0.01), SCHEDULES[1], SCHEDULES[2]]
    fitted = train(encoder, method, TOKENS, PROFILES, short, rows_at_once=64)
    alone = train(encoder, method, TOKENS, PROFILES[:1], short[:1])
    assert_same(fitted, 0, alone)
