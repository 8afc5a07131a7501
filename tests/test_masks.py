"""Masks: exactly binary forward, the gradient that the estimator says, weights as documented."""

from __future__ import annotations

import pytest
import torch

from xpeft.errors import ConfigError
from xpeft.masks import aggregate_scale, hard_mask, soft_mask, top_k


def scores(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("estimator", ["identity", "sigmoid", "softmax"])
def test_forward_is_exactly_binary(k: int, estimator: str) -> None:
    value = scores(2, 3, 7).float().requires_grad_()
    mask = hard_mask(value * 1e3, k, estimator)  # type: ignore[arg-type]
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(mask.sum(dim=-1), torch.full((2, 3), float(k)))
    chosen = value.detach().masked_fill(mask == 0, -torch.inf)
    left = value.detach().masked_fill(mask == 1, torch.inf)
    if k < 7:
        assert (chosen.max(dim=-1).values >= left.min(dim=-1).values).all()
        assert (chosen.masked_fill(mask == 0, torch.inf).min(-1).values > torch.tensor(-9)).all()


def test_equal_scores_select_the_first_ones() -> None:
    assert top_k(torch.zeros(5), 2).tolist() == [1, 1, 0, 0, 0]
    assert top_k(torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0]), 3).tolist() == [0, 1, 1, 1, 0]


def test_identity_passes_the_gradient_on() -> None:
    value, weight = scores(4, 6).requires_grad_(), scores(6)
    (hard_mask(value, 2) * weight).sum().backward()
    assert torch.equal(value.grad, weight.expand(4, 6))


@pytest.mark.parametrize("estimator", ["sigmoid", "softmax"])
def test_gradient_is_that_of_the_stand_in(estimator: str) -> None:
    weight, k = scores(6), 2
    value = scores(4, 6).requires_grad_()
    (hard_mask(value, k, estimator) * weight).sum().backward()  # type: ignore[arg-type]
    smooth = value.detach().clone().requires_grad_()
    stand_in = torch.sigmoid(smooth) if estimator == "sigmoid" else k * torch.softmax(smooth, -1)
    (stand_in * weight).sum().backward()
    torch.testing.assert_close(value.grad, smooth.grad)


def test_soft_masks() -> None:
    value = scores(3, 5)
    assert soft_mask(value) is value
    torch.testing.assert_close(soft_mask(value, "softmax").sum(-1), torch.full((3,), 5.0).double())
    assert torch.equal(soft_mask(torch.zeros(4), "softmax"), torch.ones(4))


def test_scales() -> None:
    assert aggregate_scale(16, "sqrt") == 0.25
    assert aggregate_scale(16, "mean") == 0.0625
    assert aggregate_scale(16, "sum") == 1.0


@pytest.mark.parametrize("k", [0, 8])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ConfigError, match=f"found k = {k}, expected 1 <= k <= N = 7"):
        top_k(scores(7), k)
