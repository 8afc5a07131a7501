"""Made-up profile formats and profiles, the same at every call; without torch."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from xpeft.codec import Codec
from xpeft.profiles import Floats, HeadKind, ProfileFormat, Profiles

LAYERS, N, K, WIDTH, BOTTLENECK = 2, 20, 5, 16, 4
LABELS = ("no", "maybe", "yes")


def sha(text: str) -> str:
    """A digest that belongs to a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_format(
    codec: Codec = "bits", head: HeadKind = "private", bank: str = "seed 0", **method: Any
) -> ProfileFormat:
    """A small format; hard masks for hard codecs, soft ones for soft codecs."""
    mask = {"mask": "soft"} if codec.startswith("soft") else {"mask": "hard", "k": K}
    return ProfileFormat(
        encoder={
            "name": "tiny",
            "sha256": sha("encoder"),
            "pooling": "mean",
            "max_length": 32,
            "dtype": "float32",
        },
        bank={"kind": "random", "sha256": sha(bank), "n": N, "recipe": {"seed": 0}},
        method={"norm": "affine", "learned_gain": True, **mask, **method},
        codec=codec,
        layers=LAYERS,
        n=N,
        width=WIDTH,
        bottleneck=BOTTLENECK,
        labels=LABELS,
        head=head,
    )


def large_format(n: int = 100, k: int = 50) -> ProfileFormat:
    """Masks alone, of BERT's 12 blocks: what a million profiles are counted with."""
    small = make_format(head="none", norm="fixed", learned_gain=False).to_dict()
    sizes = {"layers": 12, "n": n, "width": 768, "bottleneck": 48}
    changed = {"bank": {**small["bank"], "n": n}, "method": {**small["method"], "k": k}}
    return ProfileFormat.from_dict({**small, **sizes, **changed})


def make_ids(count: int, seed: int = 0) -> np.ndarray:
    """Random ids over all 64 bits, each once."""
    ids = np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64)
    assert len(np.unique(ids)) == count
    return ids


def make_profiles(form: ProfileFormat, count: int, seed: int = 0) -> Profiles:
    """Random profiles of a format."""
    random = np.random.default_rng(seed)
    masks = {}
    for side in ("down", "up"):
        scores = random.standard_normal((count, form.layers, form.n), dtype=np.float32)
        if form.codec == "soft16":
            scores = scores.astype(np.float16).astype(np.float32)
        if not form.mask_format.soft:
            masks[side] = scores.argsort(axis=2).argsort(axis=2) < (form.spec.k or 0)
        else:
            masks[side] = scores
    unused = {"separate": (), "tied": ("up",), "down": ("up",), "up": ("down",)}
    for side in unused[form.mask_format.sides]:
        del masks[side]
    if form.signs is not None:
        scores = random.standard_normal((count, *form.signs), dtype=np.float32)
        masks["head_signs"] = scores.argsort(axis=2).argsort(axis=2) < form.width // 2
    floats = {
        name: random.standard_normal((count, *shape), dtype=np.float32)
        for name, shape in form.shapes.items()
    }
    return Profiles(make_ids(count, seed), **masks, **floats)


def many_profiles(form: ProfileFormat, count: int, seed: int = 0) -> Profiles:
    """As `make_profiles`, faster: few different masks, over and over, under new ids."""
    few = make_profiles(form, 64, seed).take(np.arange(count) % 64)
    return Profiles(make_ids(count, seed), **few.arrays())


def make_head(form: ProfileFormat, seed: int = 0) -> tuple[Floats, Floats]:
    """A shared head: weight [C, d], bias [C]."""
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((form.outputs, form.width), dtype=np.float32),
        random.standard_normal(form.outputs, dtype=np.float32),
    )


def same(left: Profiles, right: Profiles) -> bool:
    """Whether two stacks of profiles are equal, to the bit and in dtype."""
    a, b = ({"ids": p.ids, **p.arrays()} for p in (left, right))
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].tobytes() == b[name].tobytes()
        for name in a
    )
