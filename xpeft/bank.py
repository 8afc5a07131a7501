"""The bank: N adapters, stacked per block, that every profile chooses from.

A random bank *is* its seed. Its entries are float32 values from a counter-based generator, each
adapter and matrix a stream of its own, so adapter i is the same in a bank of 100 and of 1000,
on every machine. A digest over shapes and bytes is what profiles are bound to. A stored bank is
a folder of two files: `bank.safetensors` and `manifest.json`.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xpeft.errors import BankError, XpeftError
from xpeft.hashing import derive_key, uniform
from xpeft.io import (
    atomic_directory,
    canonical_json,
    read_json,
    sha256_file,
    write_bytes,
    write_json,
)

MANIFEST_SCHEMA = 1
GENERATOR = 1
"""Version of the random banks: another one gives other numbers for the same seed."""
_TENSORS = ("down", "up", "down_bias", "up_bias")


@dataclass(frozen=True)
class Adapter:
    """One Pfeiffer adapter over all L blocks: x + relu(x @ down + down_bias) @ up + up_bias.

    Attributes:
        down: [L, d, b].
        up: [L, b, d].
        down_bias: [L, b].
        up_bias: [L, d].
    """

    down: Tensor
    up: Tensor
    down_bias: Tensor
    up_bias: Tensor


@dataclass(frozen=True, eq=False)
class Bank:
    """N adapters, immutable: another N is another bank.

    Attributes:
        down: [L, N, d, b].
        up: [L, N, b, d].
        down_bias: [L, N, b], selected by M_A with the downs; None means zero.
        up_bias: [L, N, d], selected by M_B with the ups; None means zero.
        kind: "random", "trained", "warm" or "imported".
        recipe: how it was made, plain JSON; for a random bank all that is needed to make it.
    """

    down: Tensor
    up: Tensor
    down_bias: Tensor | None = None
    up_bias: Tensor | None = None
    kind: str = "imported"
    recipe: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.down.ndim != 4 or not self.down.numel():
            raise BankError(f"bank: found down {list(self.down.shape)}, expected [L, N, d, b]")
        layers, n, width, bottleneck = self.down.shape
        expected = {
            "up": (layers, n, bottleneck, width),
            "down_bias": (layers, n, bottleneck),
            "up_bias": (layers, n, width),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise BankError(
                    f"bank: found {name} {list(value.shape)}, expected {list(shape)} beside down "
                    f"{list(self.down.shape)}"
                )

    @property
    def layers(self) -> int:
        """L, blocks of the encoder."""
        return self.down.shape[0]

    @property
    def n(self) -> int:
        """N, adapters."""
        return self.down.shape[1]

    @property
    def width(self) -> int:
        """d, the encoder's width."""
        return self.down.shape[2]

    @property
    def bottleneck(self) -> int:
        """b."""
        return self.down.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in memory."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @cached_property
    def digest(self) -> str:
        """sha256 over names, dtypes, shapes and little-endian bytes, in hexadecimal."""
        total = hashlib.sha256()
        for name, tensor in self.tensors().items():
            header = canonical_json([name, str(tensor.dtype), list(tensor.shape)])
            total.update(header.encode())
            for block in tensor.detach().cpu():  # block by block: a large bank is not copied whole
                total.update(block.contiguous().view(torch.uint8).numpy().data)
        return total.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        values = {name: getattr(self, name) for name in _TENSORS}
        return {name: value for name, value in values.items() if value is not None}

    def adapter(self, index: int) -> Adapter:
        """Adapter `index`, from 0, with zero biases where the bank has none."""
        if not 0 <= index < self.n:
            raise BankError(f"bank: found adapter {index}, expected 0 to {self.n - 1}")
        down, up = self.down[:, index], self.up[:, index]
        return Adapter(
            down,
            up,
            down.new_zeros(down.shape[0], down.shape[2])
            if self.down_bias is None
            else self.down_bias[:, index],
            up.new_zeros(up.shape[0], up.shape[2])
            if self.up_bias is None
            else self.up_bias[:, index],
        )

    def permuted(self, order: Sequence[int]) -> Bank:
        """The bank whose adapter i is adapter `order[i]` of this one: another bank."""
        index = torch.as_tensor(list(order), device=self.down.device)
        if sorted(index.tolist()) != list(range(self.n)):
            raise BankError(f"bank: expected each of 0 to {self.n - 1} once, found {list(order)}")
        tensors = {name: value.index_select(1, index) for name, value in self.tensors().items()}
        recipe = {"permuted": index.tolist(), "of": self.digest}
        return Bank(**tensors, kind=self.kind, recipe=recipe)

    def with_last(self, other: Bank, count: int) -> Bank:
        """The bank whose last `count` adapters are those of `other` at the same places (ours).

        Raises:
            BankError: the banks differ in shape, or have fewer adapters.
        """
        if other.down.shape != self.down.shape or not 0 <= count <= self.n:
            raise BankError(
                f"bank: found {count} adapters to take from a bank of down "
                f"{list(other.down.shape)}, expected 0 to {self.n} of one of "
                f"{list(self.down.shape)}"
            )
        kept = self.n - count
        adapters = [(self if i < kept else other).adapter(i) for i in range(self.n)]
        taken = {"count": count, "kind": other.kind, "digest": other.digest}
        recipe = {**self.recipe, "last": taken}
        return Bank.stack(adapters, kind=self.kind, recipe=recipe)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Bank:
        """The same bank on a device, in a dtype."""
        moved = {name: value.to(device, dtype) for name, value in self.tensors().items()}
        return Bank(**moved, kind=self.kind, recipe=self.recipe)

    @staticmethod
    def stack(adapters: Sequence[Adapter], kind: str, recipe: dict[str, Any]) -> Bank:
        """The bank of these adapters, in this order.

        Raises:
            BankError: there are none, or their shapes differ.
        """
        if not adapters:
            raise BankError("bank: found no adapters, expected at least one")
        for name in _TENSORS:
            shapes = sorted({tuple(getattr(adapter, name).shape) for adapter in adapters})
            if len(shapes) > 1:
                raise BankError(
                    f"bank: found {name} of the shapes {shapes}, expected one shape; adapters of "
                    "one bank share encoder and reduction"
                )
        tensors = {
            name: torch.stack([getattr(adapter, name) for adapter in adapters], dim=1)
            for name in _TENSORS
        }
        return Bank(**tensors, kind=kind, recipe=recipe)


def random_bank(
    layers: int,
    n: int,
    width: int,
    bottleneck: int,
    *,
    seed: int = 0,
    init: Literal["uniform", "signed"] = "uniform",
    down_std: float = 0.02,
    up_std: float = 0.02,
) -> Bank:
    """An untrained bank, made from its seed; biases are zero.

    Args:
        layers, n, width, bottleneck: L, N, d, b.
        seed: of all draws; adapter i does not depend on N.
        init: "uniform" entries, or "signed": plus or minus one value (ours, after supermasks).
        down_std, up_std: standard deviation of the entries (ours).

    Raises:
        BankError: a size or deviation is not positive, or the seed is negative.
    """
    if not (0 < down_std < math.inf and 0 < up_std < math.inf and seed >= 0):
        raise BankError(
            f"random bank: found down_std={down_std}, up_std={up_std}, seed={seed}, expected "
            "deviations above 0 and a seed from 0"
        )
    if min(layers, n, width, bottleneck) < 1:
        raise BankError(
            f"random bank: found L={layers}, N={n}, d={width}, b={bottleneck}, expected all >= 1"
        )
    tensors = {}
    for side, shape, std in (
        ("down", (layers, n, width, bottleneck), down_std),
        ("up", (layers, n, bottleneck, width), up_std),
    ):
        values = np.empty((layers, n, width * bottleneck), dtype=np.float32)
        for layer in range(layers):
            for index in range(n):
                key = derive_key("bank", GENERATOR, seed, side, layer, index)
                values[layer, index] = _entries(width * bottleneck, key, init, std)
        tensors[side] = torch.from_numpy(values.reshape(shape))
    recipe = {
        "generator": GENERATOR,
        "seed": seed,
        "init": init,
        "down_std": down_std,
        "up_std": up_std,
        "shape": [layers, n, width, bottleneck],
    }
    return Bank(**tensors, kind="random", recipe=recipe)


def save_bank(bank: Bank, folder: str | os.PathLike[str]) -> None:
    """Write a bank's folder; a random bank is written as its manifest alone."""
    with atomic_directory(folder, "manifest.json") as temporary:
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "kind": bank.kind,
            "shape": {
                "layers": bank.layers,
                "n": bank.n,
                "width": bank.width,
                "bottleneck": bank.bottleneck,
            },
            "recipe": bank.recipe,
            "digest": bank.digest,
        }
        if bank.kind != "random":
            file = temporary / "bank.safetensors"
            tensors = {name: value.detach().cpu() for name, value in bank.tensors().items()}
            # not save_file, which leaves a file that its owner alone can read
            write_bytes(file, save({name: value.contiguous() for name, value in tensors.items()}))
            manifest["file_sha256"] = sha256_file(file)
        write_json(temporary / "manifest.json", manifest)


def load_bank(folder: str | os.PathLike[str]) -> Bank:
    """Read a bank's folder and check its digest.

    Raises:
        BankError: a file is missing or damaged, or the digest is not the manifest's.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    try:
        manifest = read_json(path)
        kind, recipe, digest = manifest["kind"], manifest["recipe"], manifest["digest"]
        if kind == "random":
            if recipe["generator"] != GENERATOR:
                raise BankError(
                    f"{path}: found generator {recipe['generator']}, expected {GENERATOR}; the "
                    "bank is of another version of xpeft"
                )
            layers, n, width, bottleneck = recipe["shape"]
            options = {key: recipe[key] for key in ("seed", "init", "down_std", "up_std")}
            bank = random_bank(layers, n, width, bottleneck, **options)
        else:
            bank = Bank(**load_file(folder / "bank.safetensors"), kind=kind, recipe=recipe)
    except (KeyError, TypeError, ValueError) as error:
        raise BankError(
            f"{path}: expected the manifest of a bank, found a wrong or missing field: {error}"
        ) from None
    except (OSError, SafetensorError) as error:
        raise BankError(
            f"{folder}: cannot be read as a bank: {error}; make or copy it again"
        ) from None
    except BankError:
        raise
    except XpeftError as error:
        raise BankError(f"{error}; expected a bank folder, made with xpeft bank") from None
    if bank.digest != digest:
        raise BankError(
            f"{folder}: found a bank of digest {bank.digest}, expected {digest} from its "
            "manifest; the files were changed or damaged, make or copy the bank again"
        )
    return bank


def _entries(count: int, key: int, init: str, std: float) -> np.ndarray:
    draws = uniform(count, key)
    if init == "signed":
        return np.copysign(np.float32(std), draws)
    # sqrt(3) as a literal: a uniform draw in (-1, 1) has variance 1/3
    return draws * np.float32(std * 1.7320508075688772)
