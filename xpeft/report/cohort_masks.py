"""What the hard masks of many profiles say about them: a map, and who selects what others select.

Only masks over one and the same bank can be set beside each other, so these are for random banks:
a warm bank is another one in each fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

MOST = 1000
"""Profiles that pairs are formed of; of more, the first by id, and ids are hashes."""

SHUFFLES = 199


@dataclass(frozen=True)
class Projection:
    """The two directions in which masks differ most (principal components of their bits).

    Attributes:
        places: [P, 2].
        shares: of the variance, along the two.
        chance: share along the first one if each bit is dealt out anew over the profiles, which
            keeps how often it is set and nothing else; a larger share in `shares` is structure.
    """

    places: Floats
    shares: tuple[float, float]
    chance: float


def project(bits: Bits) -> Projection | None:
    """Project masks [P, rows, N] onto a plane; None for fewer than 3 profiles or equal masks."""
    flat = bits.reshape(len(bits), -1).astype(np.float64)
    if len(flat) < 3:
        return None
    places, shares = _components(flat)
    if not shares.sum():
        return None
    rng = np.random.default_rng(0)
    dealt = rng.permuted(flat, axis=0)
    _, chance = _components(dealt)
    return Projection(places, (float(shares[0]), float(shares[1])), float(chance[0]))


def _components(flat: Floats) -> tuple[Floats, Floats]:
    centred = flat - flat.mean(axis=0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    # a direction has no sign of its own: its largest entry shall be positive
    signs = np.sign(vt[np.arange(2), np.abs(vt[:2]).argmax(axis=1)])
    total = float((s**2).sum())
    shares = s[:2] ** 2 / total if total > 1e-9 else np.zeros(2)
    return u[:, :2] * s[:2] * signs, shares


@dataclass(frozen=True)
class Overlap:
    """Of what a profile selects, the share that another one selects too.

    Attributes:
        alike: [rows], mean over pairs of profiles with the same main label.
        different: [rows], over pairs with different ones.
        chance: k / N, what independent masks have.
        p_value: of "main labels have nothing to do with it": share of shuffled labels with a
            difference alike - different, over all rows, that is as large.
        pairs: number of pairs of the two kinds.
    """

    alike: Floats
    different: Floats
    chance: float
    p_value: float
    pairs: tuple[int, int]


def overlaps(bits: Bits, labels: Sequence[str]) -> Overlap | None:
    """Overlap of masks [P, rows, N], P labels; None where a kind of pairs does not occur."""
    bits = bits[:MOST]
    names = sorted(set(labels[:MOST]))
    member = np.zeros((len(bits), len(names)))
    member[np.arange(len(bits)), [names.index(label) for label in labels[:MOST]]] = 1
    sizes = member.sum(axis=0)
    alike_pairs = float((sizes * (sizes - 1)).sum())
    all_pairs = float(len(bits) * (len(bits) - 1))
    if not alike_pairs or alike_pairs == all_pairs:
        return None
    k = bits[0].sum(axis=1).astype(np.float64)
    alike, total = [], []
    joint = np.zeros((len(bits), len(bits)))
    for row in range(bits.shape[1]):
        one = bits[:, row].astype(np.float32)
        both = (one @ one.T).astype(np.float64) / k[row]
        np.fill_diagonal(both, 0)
        joint += both
        alike.append(_within(both, member))
        total.append(both.sum())
    found = _within(joint, member)
    rng = np.random.default_rng(0)
    # the sum over all pairs is the same for all labels, so the sum within labels decides
    as_large = sum(
        _within(joint, member[rng.permutation(len(member))]) >= found - 1e-9
        for _ in range(SHUFFLES)
    )
    within = np.array(alike)
    return Overlap(
        alike=within / alike_pairs,
        different=(np.array(total) - within) / (all_pairs - alike_pairs),
        chance=float(k.mean() / bits.shape[2]),
        p_value=(as_large + 1) / (SHUFFLES + 1),
        pairs=(int(alike_pairs / 2), int((all_pairs - alike_pairs) / 2)),
    )


def _within(both: Floats, member: Floats) -> float:
    """Sum over the pairs with the same label."""
    return float(((both @ member) * member).sum())
