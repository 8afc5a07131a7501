"""The adapter of P profiles at once: for each row of a batch, the adapter of its profile.

One code path serves a single task, a hundred authors trained together, and a mixed batch at
inference. Each row meets its own weights in one batched product, so what a row gives does not
depend on which other rows, or how many profiles, share its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

NORM_EPS = 1e-5  # ours: that of torch's LayerNorm


@dataclass(frozen=True)
class BlockAdapters:
    """The adapters of A profiles in one block.

    Attributes:
        down: [A, d, b].
        up: [A, b, d].
        down_bias: [A, b], or None for zero.
        up_bias: [A, d], or None for zero.
        norm: whether a LayerNorm over the bottleneck follows the down-projection (ours).
        norm_weight, norm_bias: [A, b] of that LayerNorm, or None where it has no parameters.
    """

    down: Tensor
    up: Tensor
    down_bias: Tensor | None = None
    up_bias: Tensor | None = None
    norm: bool = False
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None

    def delta(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """relu(norm(hidden @ down + down_bias)) @ up + up_bias, with each row's own adapter.

        Args:
            hidden: [B, T, d], in the encoder's dtype; weights are cast to it.
            rows: [B], int64, which of the A profiles each row belongs to.

        Returns:
            [B, T, d]: what the block adds to its residual stream.
        """

        def of_rows(weight: Tensor) -> Tensor:
            return weight.to(hidden.dtype).index_select(0, rows)

        def vectors(weight: Tensor) -> Tensor:
            return of_rows(weight).unsqueeze(1)

        inner = hidden.bmm(of_rows(self.down))
        if self.down_bias is not None:
            inner = inner + vectors(self.down_bias)
        if self.norm:
            inner = functional.layer_norm(inner, inner.shape[-1:], eps=NORM_EPS)
            if self.norm_weight is not None and self.norm_bias is not None:
                inner = inner * vectors(self.norm_weight) + vectors(self.norm_bias)
        outer = functional.relu(inner).bmm(of_rows(self.up))
        if self.up_bias is not None:
            outer = outer + vectors(self.up_bias)
        return outer


def linear_heads(pooled: Tensor, weight: Tensor, bias: Tensor, rows: Tensor) -> Tensor:
    """Each row through the head of its profile.

    Args:
        pooled: [B, d].
        weight: [A, C, d].
        bias: [A, C].
        rows: [B], int64.

    Returns:
        logits [B, C], in the dtype of the weights.
    """
    features = pooled.to(weight.dtype).unsqueeze(2)
    product = weight.index_select(0, rows).bmm(features).squeeze(2)
    return product + bias.index_select(0, rows)
