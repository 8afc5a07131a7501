"""Heads: how a text's vector becomes outputs, and what of that a profile trains and keeps.

    kind      a profile trains                                     bytes, d = 768 and two classes
    private   weight [C, d] and bias [C]                           6,152
    binary    a bit for each weight of C' rows, with a scale and   104
              a bias a row (ours)
    seeded    nothing: drawn from a seed, one for all (ours)       0

A binary head takes to the head what hard masks are to the bank: row c of its weight is
    scale_c / sqrt(d) * (2 M_H[c] - 1)
with M_H[c] the hard mask of k = d / 2 out of d, so that half of the signs are plus and half minus.
With classes C' = C - 1: the first class is the reference, its row is zero. A number has C' = 1.

Names of parameters:
    head.weight [P, C, d], head.bias [P, C]                        of a private head
    mask_head [P, C', d] scores, head.scale and head.bias [P, C']  of a binary one
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from xpeft.encoder import Encoder
from xpeft.job import TaskHead, binary_rows
from xpeft.masks import hard_mask, top_k
from xpeft.methods import Parameters, draw, trained_dtype

SEEDED_HEAD = 0
"""Seed of the heads that are drawn and not trained (ours)."""

HEAD_SCALE = 1.0
"""First scale of a binary head: of 0.5, 1, 2, 4 and 8 the best with masks on held-out training rows
of STS-B, and better than 4 on those of SST-2 (ours); results/small/head_trials.jsonl."""


def init_head(seeds: Sequence[int], outputs: int, encoder: Encoder) -> dict[str, Tensor]:
    """Linear heads: weight [P, C, d] as torch.nn.Linear draws it, bias [P, C] zero."""
    std = 1 / math.sqrt(3 * encoder.width)
    weight = draw(seeds, "head", (outputs, encoder.width), std)
    dtype = trained_dtype(encoder)
    return {
        "head.weight": weight.to(encoder.device, dtype),
        "head.bias": torch.zeros(len(seeds), outputs, device=encoder.device, dtype=dtype),
    }


def init_binary_head(seeds: Sequence[int], outputs: int, encoder: Encoder) -> dict[str, Tensor]:
    """Binary heads with random signs, scale HEAD_SCALE and bias zero."""
    rows = binary_rows(outputs)
    made = {
        "mask_head": draw(seeds, "mask_head", (rows, encoder.width), 1.0),
        "head.scale": torch.full((len(seeds), rows), HEAD_SCALE),
        "head.bias": torch.zeros(len(seeds), rows),
    }
    dtype = trained_dtype(encoder)
    return {name: value.to(encoder.device, dtype) for name, value in made.items()}


def seeded_head(outputs: int, encoder: Encoder) -> dict[str, Tensor]:
    """The head that all profiles share where `head` is `seeded`: [1, ...], drawn and never trained.

    Masks must then bring the text to where the head already is; a profile stores nothing of it.
    """
    return init_head((SEEDED_HEAD,), outputs, encoder)


def own_head(
    kind: TaskHead, seeds: Sequence[int], outputs: int, encoder: Encoder
) -> dict[str, Tensor]:
    """What each profile trains of its head, as it starts; nothing of a seeded one."""
    if kind == "seeded":
        return {}
    return (init_binary_head if kind == "binary" else init_head)(seeds, outputs, encoder)


def common_head(kind: TaskHead, outputs: int, encoder: Encoder) -> dict[str, Tensor]:
    """What all profiles have in common of their heads, [1, ...], and none trains."""
    if kind == "seeded":
        return seeded_head(outputs, encoder)
    if kind == "binary":
        return reference_row(outputs, encoder)
    return {}


def reference_row(outputs: int, encoder: Encoder) -> dict[str, Tensor]:
    """The row of zeros before those of a binary head; none where the output is a number."""
    if outputs == 1:
        return {}
    row = torch.zeros(1, 1, encoder.width, device=encoder.device, dtype=trained_dtype(encoder))
    return {"head.reference": row}


def binary_weight(scores: Tensor, scale: Tensor) -> Tensor:
    """The weight of binary heads, without the reference.

    Args:
        scores: [A, C', d], of which the d / 2 largest of a row become plus.
        scale: [A, C'].

    Returns:
        [A, C', d], with a straight-through gradient to the scores.
    """
    width = scores.shape[-1]
    signs = 2 * hard_mask(scores, width // 2) - 1
    return signs * (scale.unsqueeze(-1) / math.sqrt(width))


def plus_signs(scores: Tensor) -> Tensor:
    """The stored form of a binary head's scores [..., d]: booleans, half of a row true."""
    return top_k(scores, scores.shape[-1] // 2) > 0


def head_of(parameters: Parameters, shared: Parameters) -> tuple[Tensor, Tensor]:
    """Weight [A, C, d] and bias [A, C] of the heads of A profiles.

    Args:
        parameters: name -> [A, ...], what is the profiles' own.
        shared: name -> [1, ...], see `common_head`; of a private head's parts it may hold one.

    Raises:
        KeyError: there is no head.
    """
    count = len(next(iter(parameters.values()))) if parameters else 1

    def part(name: str) -> Tensor:
        own = parameters.get(name)
        if own is not None:
            return own
        return shared[name].expand(count, *shared[name].shape[1:])

    if "mask_head" not in parameters:
        return part("head.weight"), part("head.bias")
    weight = binary_weight(parameters["mask_head"], parameters["head.scale"])
    bias = parameters["head.bias"]
    if "head.reference" in shared:
        weight = torch.cat([part("head.reference"), weight], dim=1)
        bias = functional.pad(bias, (1, 0))
    return weight, bias


def linear_heads(pooled: Tensor, weight: Tensor, bias: Tensor, rows: Tensor | None) -> Tensor:
    """Each row through the head of its profile.

    Args:
        pooled: [B, d].
        weight: [A, C, d].
        bias: [A, C].
        rows: [B], int64; None where row i belongs to profile i.

    Returns:
        logits [B, C], in the dtype of the weights.
    """
    features = pooled.to(weight.dtype).unsqueeze(2)
    if rows is not None:
        weight, bias = weight.index_select(0, rows), bias.index_select(0, rows)
    return weight.bmm(features).squeeze(2) + bias
