"""Labels of regression tasks on a scale on which learning rates mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True)
class LabelScale:
    """Numbers with mean 0 and deviation 1; class codes stay as they are."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, labels: npt.NDArray[Any]) -> LabelScale:
        """The scale of these labels, [R] int64 or float64."""
        if labels.dtype.kind != "f":
            return cls()
        return cls(float(labels.mean()), float(labels.std()) or 1.0)

    def normalize(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The labels on this scale."""
        return labels if labels.dtype.kind != "f" else (labels - self.mean) / self.std

    def fold_into(self, parameters: dict[str, Tensor]) -> None:
        """Let the heads give numbers on the labels' own scale: nothing more to store."""
        binary = "head.scale" in parameters
        parameters["head.scale" if binary else "head.weight"].mul_(self.std)
        parameters["head.bias"].mul_(self.std).add_(self.mean)
