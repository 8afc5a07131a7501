"""Masks: how a profile chooses from the bank.

A profile has scores S_A and S_B, [L, N] each. A soft mask is the scores themselves (or their
softmax); a hard mask is 1 for the k largest of each row and 0 elsewhere, exactly, with a
straight-through gradient to the scores. The aggregate of a block and side is
`scale * sum_i mask[i] * bank[i]`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from xpeft.errors import ConfigError


def top_k(scores: Tensor, k: int) -> Tensor:
    """The binary mask of the k largest entries of each row; among equals the first ones win.

    Args:
        scores: [..., N].
        k: selected entries, 1 <= k <= N.

    Returns:
        [..., N] of the same dtype, exactly 0 and 1, each row with exactly k ones.

    Raises:
        ConfigError: k is out of range.
    """
    n = scores.shape[-1]
    if not 1 <= k <= n:
        raise ConfigError(f"mask: found k = {k}, expected 1 <= k <= N = {n}")
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(scores).scatter_(-1, order, 1.0)


class _StraightThrough(torch.autograd.Function):
    """Forward: the binary mask, to the bit. Backward: the gradient of a smooth stand-in.

    Written as a function rather than `hard + soft - soft.detach()`, whose forward value is
    off by a rounding error.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: int, estimator: str) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.estimator = estimator
        ctx.k = k
        return top_k(scores, k)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        (scores,) = ctx.saved_tensors
        if ctx.estimator == "sigmoid":
            probability = torch.sigmoid(scores)
            grad = grad * probability * (1 - probability)
        elif ctx.estimator == "softmax":
            weight = torch.softmax(scores, dim=-1)
            inner = (grad * weight).sum(dim=-1, keepdim=True)
            grad = ctx.k * weight * (grad - inner)
        return grad, None, None


def hard_mask(
    scores: Tensor, k: int, estimator: Literal["identity", "sigmoid", "softmax"] = "identity"
) -> Tensor:
    """The binary top-k mask, differentiable by a straight-through estimator.

    Args:
        scores: [..., N].
        k: selected entries a row.
        estimator: what the backward pass takes the mask to be (ours): `identity` the scores,
            `sigmoid` their sigmoid, `softmax` k times their softmax over N.

    Returns:
        [..., N], exactly 0 and 1.
    """
    return _StraightThrough.apply(scores, k, estimator)  # type: ignore[no-untyped-call, no-any-return]


def soft_mask(scores: Tensor, activation: Literal["linear", "softmax"] = "linear") -> Tensor:
    """Real weights from scores [..., N]: themselves, or N times their softmax.

    The factor N gives uniform scores the weight 1 each, as linear masks of ones would have, so
    that the aggregate's scale means the same for both.
    """
    if activation == "softmax":
        return scores.shape[-1] * torch.softmax(scores, dim=-1)
    return scores


def aggregate_scale(selected: float, scale: Literal["sqrt", "mean", "sum"]) -> float:
    """The constant before the aggregate of `selected` adapters (k if hard, N if soft; ours).

    `sqrt`: 1/sqrt(selected), which keeps the variance of a random adapter's entries; `mean`:
    1/selected; `sum`: 1.
    """
    factors: dict[str, float] = {"sqrt": selected**-0.5, "mean": 1.0 / selected, "sum": 1.0}
    return factors[scale]
