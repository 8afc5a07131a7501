"""Training P profiles at once, and predicting for them.

The loop knows profiles, batches and a method, and nothing of jobs, files of data or records. In
each round every profile that is not done takes one step. Profiles are put into groups of at most
`rows_at_once` rows; a group is one forward and backward pass and one optimizer step, and as no
profile depends on another, how they are grouped changes speed and memory, not results.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from xpeft.batches import RowOrder, by_length, steps_in_epoch
from xpeft.checkpoint import load_checkpoint, save_checkpoint
from xpeft.encoder import Delta, Encoder, TokenTable
from xpeft.heads import head_of, linear_heads
from xpeft.job import TrainingSpec
from xpeft.methods import Method, Parameters
from xpeft.optimizer import ProfileAdamW, Schedule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProfileData:
    """The rows that one profile trains on, out of a token table that all profiles share.

    Attributes:
        rows: [R] int64, indices into the table.
        labels: [R], int64 class codes or float64 values.
        seed: of its order and its initial parameters.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.generic]
    seed: int


def schedule_of(spec: TrainingSpec, rows: int) -> Schedule:
    """The schedule of a profile with so many rows: at least one step."""
    return Schedule(
        steps=max(1, round(spec.epochs * steps_in_epoch(rows, spec.batch_size))),
        lr=spec.lr,
        head_lr=spec.head_lr,
        warmup=spec.warmup,
        weight_decay=spec.weight_decay,
        clip=spec.clip,
    )


class Features(Protocol):
    """Turns rows of a token table into vectors, [B, d]."""

    def __call__(
        self, tokens: TokenTable, rows: npt.NDArray[np.int64], owners: Tensor, leaves: Parameters
    ) -> Tensor:
        """Vectors of `rows`, of which row i belongs to profile `owners[i]` of the leaves."""
        ...


class EncodedFeatures:
    """Features by a pass through the encoder, with the method's adapters in it."""

    def __init__(self, encoder: Encoder, method: Method) -> None:
        self.encoder = encoder
        self.method = method

    def __call__(
        self, tokens: TokenTable, rows: npt.NDArray[np.int64], owners: Tensor, leaves: Parameters
    ) -> Tensor:
        """See `Features`."""
        deltas, run = self.method.deltas(leaves, owners), self.method.run(leaves)
        return self.encoder(tokens.batch(rows), deltas, run)


class FrozenFeatures:
    """Features that training does not change: computed once a text, then kept.

    Those of the plain encoder, or of an encoder with one adapter that is the same for all.
    """

    def __init__(
        self,
        encoder: Encoder,
        method: Method | None = None,
        parameters: Parameters | None = None,
        batch_size: int = 64,
    ) -> None:
        """`method` and its `parameters` [1, ...] give the adapter; None for the plain encoder."""
        self.encoder = encoder
        self.method = method
        self.parameters = parameters or {}
        self.batch_size = batch_size
        self._kept: list[tuple[TokenTable, Tensor]] = []

    @torch.no_grad()
    def __call__(
        self, tokens: TokenTable, rows: npt.NDArray[np.int64], owners: Tensor, leaves: Parameters
    ) -> Tensor:
        """See `Features`."""
        for table, vectors in self._kept:
            if table is tokens:
                return vectors[torch.from_numpy(rows)]
        vectors = torch.cat(
            [
                self.encoder(tokens.batch(batch), self._deltas(len(batch)))
                for batch in by_length(tokens.lengths, self.batch_size)
            ]
        )
        order = np.concatenate(list(by_length(tokens.lengths, self.batch_size)))
        self._kept.append((tokens, vectors[torch.from_numpy(np.argsort(order))]))
        return self._kept[-1][1][torch.from_numpy(rows)]

    def _deltas(self, count: int) -> Sequence[Delta] | None:
        if self.method is None:
            return None
        owners = torch.zeros(count, dtype=torch.int64, device=self.encoder.device)
        return self.method.deltas(self.parameters, owners)


@dataclass
class Fitted:
    """What training gave.

    Attributes:
        parameters: name -> [P, ...].
        losses: a loss a step, for each profile.
        rows: training rows that were processed, over all profiles.
        tokens: tokens with padding, likewise.
        seconds: wall time of the loop, that before a resume included.
    """

    parameters: dict[str, Tensor]
    losses: list[npt.NDArray[np.float64]]
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0


def fit(
    features: Features,
    parameters: dict[str, Tensor],
    tokens: TokenTable,
    profiles: Sequence[ProfileData],
    schedules: Sequence[Schedule],
    *,
    shared: Parameters | None = None,
    batch_size: int = 32,
    rows_at_once: int = 32,
    checkpoint: Path | None = None,
    identity: dict[str, str] | None = None,
    checkpoint_seconds: float = 120.0,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fitted:
    """Train P profiles.

    Args:
        features: how rows become vectors.
        parameters: initial ones, name -> [P, ...], private heads included; they are changed in
            place.
        tokens: the texts of all profiles.
        profiles: which rows are whose, P of them.
        schedules: their schedules, P of them.
        shared: name -> [1, ...], what all profiles have in common and none trains, such as the
            head or its weight.
        batch_size: rows a profile and step.
        rows_at_once: most rows of one pass, but at least one profile's batch.
        checkpoint: file to go on from and to write to; None for neither.
        identity: what the checkpoint must be of.
        checkpoint_seconds: least time between two checkpoints.
        stop: asked after each group; when it says True, a checkpoint is written and
            `Interrupted` raised.
        progress: told the steps done and to do, over all profiles.
    """
    optimizer = ProfileAdamW(parameters, schedules)
    losses = [np.zeros(schedule.steps) for schedule in schedules]
    fitted = Fitted(optimizer.parameters, losses)
    if checkpoint is not None:
        _restore(checkpoint, identity or {}, optimizer, fitted)
    orders = [
        RowOrder(tokens.lengths[profile.rows], batch_size, profile.seed) for profile in profiles
    ]
    total = sum(schedule.steps for schedule in schedules)
    if optimizer.steps.any():
        log.info("going on from a checkpoint at step %d of %d", optimizer.steps.sum(), total)
    begun = saved = time.monotonic()
    before = fitted.seconds
    for group in _groups(optimizer, tokens, profiles, orders, rows_at_once):
        leaves = optimizer.leaves([p for p, _ in group])
        batches = [profiles[p].rows[rows] for p, rows in group]
        sizes = [len(rows) for rows in batches]
        device = _device(leaves, shared)
        owners = torch.repeat_interleave(torch.arange(len(group)), torch.tensor(sizes)).to(device)
        rows = np.concatenate(batches)
        vectors = features(tokens, rows, owners, leaves)
        logits = _logits(vectors, leaves, shared, owners)
        labels = np.concatenate([profiles[p].labels[chosen] for p, chosen in group])
        values = row_losses(logits, torch.from_numpy(labels).to(device))
        means = [value.mean() for value in torch.split(values, sizes)]
        torch.stack(means).sum().backward()  # type: ignore[no-untyped-call]
        for (profile, _), mean in zip(group, torch.stack(means).tolist(), strict=True):
            losses[profile][int(optimizer.steps[profile])] = mean
        optimizer.step([p for p, _ in group], leaves)
        fitted.rows += len(rows)
        fitted.tokens += len(rows) * tokens.padded_width(rows)
        fitted.seconds = before + time.monotonic() - begun
        done = int(optimizer.steps.sum())
        progress(done, total)
        stopping = stop() and done < total
        if checkpoint is not None and (stopping or time.monotonic() - saved >= checkpoint_seconds):
            _save(checkpoint, identity or {}, optimizer, fitted)
            saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped at step {done} of {total}; run again to go on")
    if checkpoint is not None:
        _save(checkpoint, identity or {}, optimizer, fitted)
    return fitted


class Interrupted(Exception):
    """Training was asked to stop, and wrote a checkpoint first."""


@torch.no_grad()
def predict(
    features: Features,
    parameters: Parameters,
    profile: int,
    tokens: TokenTable,
    rows: npt.NDArray[np.int64] | None = None,
    *,
    shared: Parameters | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Outputs of one profile for rows of a table (None: all), in their order: [R, C] on the CPU."""
    wanted = np.arange(len(tokens)) if rows is None else rows
    one = {name: value[profile : profile + 1] for name, value in parameters.items()}
    outputs = []
    order = list(by_length(tokens.lengths[wanted], batch_size))
    for batch in order:
        owners = torch.zeros(len(batch), dtype=torch.int64, device=_device(one, shared))
        vectors = features(tokens, wanted[batch], owners, one)
        outputs.append(_logits(vectors, one, shared, owners).cpu())
    return torch.cat(outputs)[torch.from_numpy(np.argsort(np.concatenate(order)))]


def _groups(
    optimizer: ProfileAdamW,
    tokens: TokenTable,
    profiles: Sequence[ProfileData],
    orders: Sequence[RowOrder],
    rows_at_once: int,
) -> Iterator[list[tuple[int, npt.NDArray[np.int64]]]]:
    """Round after round, the profiles that are not done with the rows of their next step.

    A group holds batches of one padded width, for two reasons: nothing is spent on more padding
    than a profile has alone, and matrix libraries sum in another order for another width, so
    that a profile's last bits would depend on its company. After a resume in the middle of a
    round, the groups that are left are those that would have come.
    """
    steps, schedules = optimizer.steps, optimizer.schedules
    last = max(schedule.steps for schedule in schedules)
    for step in range(int(steps.min()), last):
        pending = []
        for p, profile in enumerate(profiles):
            if int(steps[p]) == step < schedules[p].steps:
                rows = orders[p].batch(step)
                pending.append((tokens.padded_width(profile.rows[rows]), p, rows))
        pending.sort(key=lambda entry: entry[:2])
        for _, same in itertools.groupby(pending, key=lambda entry: entry[0]):
            group: list[tuple[int, npt.NDArray[np.int64]]] = []
            for _, p, rows in same:
                if group and sum(len(r) for _, r in group) + len(rows) > rows_at_once:
                    yield group
                    group = []
                group.append((p, rows))
            yield group


def _logits(
    vectors: Tensor, leaves: Parameters, shared: Parameters | None, owners: Tensor
) -> Tensor:
    """[B, d] vectors through each row's head, of which parts may be shared: [B, C]."""
    return linear_heads(vectors, *head_of(leaves, shared or {}), owners)


def _device(leaves: Parameters, shared: Parameters | None) -> torch.device:
    return next(iter((*leaves.values(), *(shared or {}).values()))).device


def row_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """[B]: cross-entropy of class codes, or the squared error of numbers."""
    if labels.is_floating_point():
        return (outputs[:, 0] - labels.to(outputs.dtype)) ** 2
    return functional.cross_entropy(outputs, labels, reduction="none")


def _save(path: Path, identity: dict[str, str], optimizer: ProfileAdamW, fitted: Fitted) -> None:
    tensors = {"steps": optimizer.steps, "spent": _spent(fitted)}
    for kind, values in _state(optimizer).items():
        tensors |= {f"{kind}/{name}": value for name, value in values.items()}
    tensors |= {f"losses/{p}": torch.from_numpy(values) for p, values in enumerate(fitted.losses)}
    save_checkpoint(path, tensors, identity)


def _restore(path: Path, identity: dict[str, str], optimizer: ProfileAdamW, fitted: Fitted) -> None:
    tensors = load_checkpoint(path, identity)
    if tensors is None:
        return
    optimizer.steps.copy_(tensors["steps"])
    rows, count, fitted.seconds = tensors["spent"].tolist()
    fitted.rows, fitted.tokens = int(rows), int(count)
    for kind, values in _state(optimizer).items():
        for name, value in values.items():
            value.copy_(tensors[f"{kind}/{name}"])
    for profile, losses in enumerate(fitted.losses):
        losses[:] = tensors[f"losses/{profile}"].numpy()


def _spent(fitted: Fitted) -> Tensor:
    return torch.tensor([fitted.rows, fitted.tokens, fitted.seconds], dtype=torch.float64)


def _state(optimizer: ProfileAdamW) -> dict[str, dict[str, Tensor]]:
    return {
        "parameters": optimizer.parameters,
        "first": optimizer.first,
        "second": optimizer.second,
    }
