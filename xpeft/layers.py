"""The adapter of P profiles at once: for each row of a batch, the adapter of its profile.

One code path serves a single task, a hundred authors trained together, and a mixed batch at
inference. Each row meets its own weights in one batched product, so what a row gives does not
depend on which other rows, or how many profiles, share its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
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

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(value.nbytes for value in self._tensors().values())

    def of_profile(self, index: int, dtype: torch.dtype) -> BlockAdapters:
        """The adapter of one of the A profiles, in a dtype: a copy, [1, ...]."""
        return BlockAdapters(
            norm=self.norm,
            **{
                name: value[index : index + 1].to(dtype, copy=True)
                for name, value in self._tensors().items()
            },
        )

    @staticmethod
    def join(blocks: Sequence[BlockAdapters]) -> BlockAdapters:
        """The adapters of all `blocks`, in that order; all of one method."""
        names = blocks[0]._tensors()
        return BlockAdapters(
            norm=blocks[0].norm,
            **{name: torch.cat([getattr(block, name) for block in blocks]) for name in names},
        )

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def delta(self, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """relu(norm(hidden @ down + down_bias)) @ up + up_bias, with each row's own adapter.

        Args:
            hidden: [B, T, d], in the encoder's dtype; weights are cast to it.
            rows: [B], int64, which of the A profiles each row belongs to; None where row i belongs
                to profile i.

        Returns:
            [B, T, d]: what the block adds to its residual stream.
        """

        def of_rows(weight: Tensor) -> Tensor:
            cast = weight.to(hidden.dtype)
            return cast if rows is None else cast.index_select(0, rows)

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
