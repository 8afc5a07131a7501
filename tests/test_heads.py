"""Heads: signs and their gradient against plain arithmetic, and each profile by itself."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import WIDTH, tiny_encoder

from xpeft.heads import (
    HEAD_SCALE,
    binary_weight,
    common_head,
    head_of,
    init_binary_head,
    init_head,
    linear_heads,
    own_head,
    plus_signs,
    seeded_head,
)
from xpeft.job import TaskHead, binary_rows
from xpeft.labels import LabelScale

ENCODER = tiny_encoder()
VECTORS = torch.linspace(-1, 1, 4 * WIDTH, dtype=torch.float64).sin().view(4, WIDTH)


def test_a_binary_weight_is_half_plus_and_half_minus_times_a_scale() -> None:
    scores = torch.tensor([[[3.0, -1.0, 0.5, 0.4], [0.0, 0.0, 0.0, 0.0]]])
    weight = binary_weight(scores, torch.tensor([[2.0, 4.0]]))
    assert weight.tolist() == [[[1.0, -1.0, 1.0, -1.0], [2.0, 2.0, -2.0, -2.0]]]
    assert plus_signs(scores).tolist() == [[[True, False, True, False], [True, True, False, False]]]


def test_the_gradient_goes_straight_through_to_the_scores_and_exactly_to_the_scale() -> None:
    scores = torch.tensor([[[3.0, -1.0, 0.5, 0.4]]], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([[[1.0, 2.0, -3.0, 5.0]]], dtype=torch.float64)
    (binary_weight(scores, scale) * upstream).sum().backward()
    assert scores.grad is not None and scale.grad is not None
    assert torch.equal(scores.grad, upstream * 2 * 2.0 / math.sqrt(4))
    assert scale.grad.item() == (1 - 2 - 3 - 5) / math.sqrt(4)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_binary_head_against_plain_arithmetic(outputs: int) -> None:
    own = init_binary_head([5, 6], outputs, ENCODER)
    own["head.bias"] += torch.tensor([0.25, -0.5])[:, None]
    weight, bias = head_of(own, common_head("binary", outputs, ENCODER))
    assert weight.shape == (2, outputs, WIDTH) and bias.shape == (2, outputs)
    owners = torch.tensor([0, 1, 1, 0])
    found = linear_heads(VECTORS, weight, bias, owners)
    first = outputs - binary_rows(outputs)
    assert first == (outputs > 1)
    assert not found[:, :first].any()
    for row, owner in enumerate(owners.tolist()):
        for c in range(binary_rows(outputs)):
            order = own["mask_head"][owner, c].argsort(descending=True)
            plus, minus = order[: WIDTH // 2], order[WIDTH // 2 :]
            dot = VECTORS[row, plus].sum() - VECTORS[row, minus].sum()
            expected = HEAD_SCALE * dot / math.sqrt(WIDTH) + own["head.bias"][owner, c]
            torch.testing.assert_close(found[row, first + c], expected)


@pytest.mark.parametrize("kind", ["private", "binary"])
def test_the_head_of_a_profile_does_not_depend_on_the_others(kind: TaskHead) -> None:
    together = own_head(kind, [3, 4, 5], 3, ENCODER)
    alone = own_head(kind, [4], 3, ENCODER)
    shared = common_head(kind, 3, ENCODER)
    assert all(torch.equal(together[name][1], alone[name][0]) for name in alone)
    for one, all_of_them in zip(head_of(alone, shared), head_of(together, shared), strict=True):
        assert torch.equal(one[0], all_of_them[1])


def test_a_seeded_head_is_the_same_for_all_and_a_part_may_be_a_profiles_own() -> None:
    shared = common_head("seeded", 3, ENCODER)
    assert own_head("seeded", [1, 2], 3, ENCODER) == {}
    assert all(torch.equal(shared[name], seeded_head(3, ENCODER)[name]) for name in shared)
    weight, bias = head_of({}, shared)
    assert torch.equal(weight, shared["head.weight"]) and torch.equal(bias, shared["head.bias"])
    own = {"head.bias": torch.ones(2, 3, dtype=torch.float64)}
    weight, bias = head_of(own, {"head.weight": shared["head.weight"]})
    assert torch.equal(weight, shared["head.weight"].expand(2, -1, -1))
    assert torch.equal(bias, own["head.bias"])
    with pytest.raises(KeyError):
        head_of({"mask_a": torch.zeros(1, 2, 3)}, {})


@pytest.mark.parametrize("kind", ["private", "binary"])
def test_a_head_of_numbers_takes_on_the_scale_of_the_labels(kind: TaskHead) -> None:
    own, owners = own_head(kind, [7], 1, ENCODER), torch.zeros(4, dtype=torch.int64)
    own["head.bias"] += 0.5
    before = linear_heads(VECTORS, *head_of(own, {}), owners)
    LabelScale(mean=3.0, std=2.0).fold_into(own)
    after = linear_heads(VECTORS, *head_of(own, {}), owners)
    torch.testing.assert_close(after, before * 2.0 + 3.0)


def test_private_heads_start_as_they_always_did() -> None:
    """Scores of records hang on these draws."""
    weight = init_head([0], 2, ENCODER)["head.weight"]
    assert weight[0, 0, :3].tolist() == pytest.approx(
        [0.12351582944393158, -0.18604661524295807, 0.028930142521858215]
    )
