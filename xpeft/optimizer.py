"""AdamW for P profiles at once: training together equals training alone.

Parameters are stacked, [P, ...]. Everything that an optimizer remembers or decides is kept for
each profile: moments, step count and with it the bias correction, the learning-rate schedule,
weight decay and clipping. A step touches only the profiles that take part in it; nothing of the
others is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SLOW = ("head", "norm", "gain")
"""First parts of the names that follow `head_lr`: weights of size 1 or less, unlike mask scores."""


@dataclass(frozen=True)
class Schedule:
    """How one profile is trained: linear warm-up, then linear decay to zero.

    Attributes:
        steps: steps in all.
        lr: largest learning rate of masks, adapters or encoder.
        head_lr: that of head (but for the signs of a binary one), norm and gain.
        warmup: share of the steps.
        weight_decay: decoupled, scaled by the learning rate.
        clip: largest gradient norm over all parameters of the profile; 0 for no limit.
    """

    steps: int
    lr: float
    head_lr: float
    warmup: float = 0.06
    weight_decay: float = 0.0
    clip: float = 1.0

    def factor(self, step: int) -> float:
        """Share of the largest learning rate at step `step`, from 0."""
        warm = math.ceil(self.warmup * self.steps)
        if step < warm:
            return (step + 1) / warm
        return max(0.0, (self.steps - step) / max(1, self.steps - warm))


class ProfileAdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with all its state per profile.

    Attributes:
        parameters: name -> [P, ...], changed in place by `step`.
        first, second: name -> [P, ...], the moments.
        steps: [P] int64 on the CPU, steps that each profile has taken.
    """

    def __init__(self, parameters: Mapping[str, Tensor], schedules: Sequence[Schedule]) -> None:
        self.parameters = dict(parameters)
        self.first = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.schedules = list(schedules)
        self.steps = torch.zeros(len(schedules), dtype=torch.int64)

    def leaves(self, profiles: Sequence[int]) -> dict[str, Tensor]:
        """Copies of the parameters of A profiles, [A, ...], that gradients are taken for."""
        leaves = {}
        for name, value in self.parameters.items():
            index = torch.as_tensor(profiles, device=value.device)
            leaves[name] = value.index_select(0, index).requires_grad_()
        return leaves

    @torch.no_grad()
    def step(self, profiles: Sequence[int], leaves: Mapping[str, Tensor]) -> None:
        """One step of A profiles, from the gradients of what `leaves(profiles)` gave.

        Leaves and gradients are used up: they are worked on in place.
        """
        grads = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        if not grads:
            return
        taken = [int(self.steps[p]) for p in profiles]
        chosen = [self.schedules[p] for p in profiles]
        scale = _clip_scales(grads, [schedule.clip for schedule in chosen])
        for name, grad in grads.items():
            value = self.parameters[name]
            index = torch.as_tensor(profiles, device=value.device)

            def per_profile(numbers: list[float], like: Tensor = value) -> Tensor:
                shape = (-1,) + (1,) * (like.ndim - 1)
                return torch.tensor(numbers, dtype=like.dtype, device=like.device).view(shape)

            base = "lr" if name.split(".")[0] not in SLOW else "head_lr"
            rates = [getattr(s, base) * s.factor(t) for s, t in zip(chosen, taken, strict=True)]
            decay = [1 - r * s.weight_decay for r, s in zip(rates, chosen, strict=True)]
            # Sums and products apart, never fused: a fused kernel may round the tail of a row
            # otherwise, and then a profile's bits would depend on its place in the stack. And in
            # place, as `full` has the whole encoder here: fresh memory costs more than the sums.
            grad.mul_(scale.to(grad.dtype).view((-1,) + (1,) * (grad.ndim - 1)))
            first = self.first[name].index_select(0, index).mul_(BETAS[0])
            first.add_(grad * (1 - BETAS[0]))
            second = self.second[name].index_select(0, index).mul_(BETAS[1])
            second.add_(grad.mul_(grad).mul_(1 - BETAS[1]))
            root = second / per_profile([1 - BETAS[1] ** (t + 1) for t in taken])
            root.sqrt_().add_(EPSILON)
            update = first / per_profile([1 - BETAS[0] ** (t + 1) for t in taken])
            update.div_(root).mul_(per_profile(rates))
            new = leaves[name].detach().mul_(per_profile(decay)).sub_(update)
            value.index_copy_(0, index, new)
            self.first[name].index_copy_(0, index, first)
            self.second[name].index_copy_(0, index, second)
        for profile in profiles:
            self.steps[profile] += 1


def _clip_scales(grads: Mapping[str, Tensor], limits: Sequence[float]) -> Tensor:
    """[A]: what each profile's gradient is multiplied by so that its norm keeps its limit."""
    total: Tensor | None = None
    for grad in grads.values():
        square = (grad * grad).reshape(len(limits), -1).sum(dim=1)
        # one after another: a sum over a stack takes another order for one profile than for many
        total = square if total is None else total + square
    assert total is not None
    norm = total.sqrt()
    limit = torch.tensor(
        [limit or math.inf for limit in limits], dtype=norm.dtype, device=norm.device
    )
    return (limit / (norm + 1e-6)).clamp(max=1.0)
