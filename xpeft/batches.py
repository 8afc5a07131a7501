"""Which rows a profile sees, in which order: a function of its seed, the epoch and nothing else.

Rows of like length share a batch, so that little is spent on padding. Each epoch's order is
shuffled and cut into pools; a pool is sorted by length and cut into batches, whose order is
shuffled once more. That last shuffle is the same for every profile, so that profiles trained
together meet batches of like length, and still none depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from xpeft.hashing import derive_key, permutation

POOL = 32
"""Batches a pool; ours: large enough to sort by length, small enough to stay random."""


def steps_in_epoch(rows: int, batch_size: int) -> int:
    """Batches an epoch has; the last one may be smaller."""
    return -(-rows // batch_size)


def epoch_batches(
    lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """The batches of one epoch.

    Args:
        lengths: [R], tokens a row.
        batch_size: rows a batch.
        seed: of the profile.
        epoch: from 0.

    Returns:
        Row indices a batch; every row once.
    """
    order = permutation(len(lengths), derive_key("rows", seed, epoch))
    batches = []
    for number, start in enumerate(range(0, len(order), POOL * batch_size)):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        cut = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        shuffled = permutation(len(cut), derive_key("batches", epoch, number))
        batches += [cut[i] for i in shuffled]
    return batches


class RowOrder:
    """The batches of a profile, step after step, from any step on.

    Attributes:
        lengths: [R], tokens a row.
        batch_size: rows a step.
        seed: of the profile.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._batches: list[npt.NDArray[np.int64]] = []

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """Row indices of step `step`, from 0."""
        epoch, place = divmod(step, steps_in_epoch(len(self.lengths), self.batch_size))
        if epoch != self._epoch:
            self._batches = epoch_batches(self.lengths, self.batch_size, self.seed, epoch)
            self._epoch = epoch
        return self._batches[place]


def by_length(lengths: npt.NDArray[np.int64], batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """All rows once, shortest first, in batches: for passes without training."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
