"""The methods: what each trains for a profile, and how it enters the encoder.

A method is small: `init` gives the parameters of P profiles stacked [P, ...], and `deltas` turns
the parameters of the A profiles that take part in a batch into one function a block. What is no
function behind a block gives a `run` instead: another forward pass, of one profile. The head is
common to all.

Names of parameters, with the part of the ledger that they belong to:
    mask_a, mask_b  [P, L, N]   masks      scores of M_A (downs) and M_B (ups)
    gain            [P, L, 2]   gain       one factor a block and side
    norm.weight/bias [P, L, b]  norm       LayerNorm over the bottleneck
    down, up, ...   [P, L, ...] adapter
    encoder.*       [P, ...]    encoder    the encoder's own, of `full` and `bitfit`
    peer.*          [P, ...]    adapter    of a peer; see `xpeft.peers`
    head.*, mask_head [P, ...]  head        see `xpeft.heads`
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xpeft.bank import Adapter, Bank, load_bank, random_bank
from xpeft.encoder import Delta, Encoder, Run
from xpeft.errors import BankError, ConfigError
from xpeft.hashing import derive_key, uniform
from xpeft.job import OWN_WEIGHTS, PEER_METHODS, BankSpec, MethodSpec, check_center
from xpeft.layers import BlockAdapters
from xpeft.masks import aggregate_scale, hard_mask, soft_mask, top_k
from xpeft.shapes import EncoderShape

Parameters = Mapping[str, Tensor]

PARTS = {
    "mask_a": "masks",
    "mask_b": "masks",
    "gain": "gain",
    "norm": "norm",
    "head": "head",
    "mask_head": "head",
    "encoder": "encoder",
}
"""The ledger's part by the first part of a parameter's name; all others belong to `adapter`."""

FEW = 0.25
"""Largest k / N for which reading the selected adapters alone is faster, measured on CPUs: about
three times at N / 4 for one profile and 1.3 times for 32 at once, slower at N / 2."""


class Method(Protocol):
    """What the trainer asks of a method.

    Attributes:
        frozen: whether the encoder's output is the same before and after training, so that it is
            computed once a text.
        together: profiles that can be trained at once; None for any number.
    """

    frozen: bool
    together: int | None

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Parameters of one profile a seed, [P, ...], without the head."""
        ...

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """One function a block for a batch; rows [B] says which of the A profiles a row is of."""
        ...

    def run(self, parameters: Parameters) -> Run | None:
        """What runs in place of the encoder's model for the one profile; None for the model."""
        ...


def part_of(name: str) -> str:
    """The ledger's part that a parameter belongs to."""
    return PARTS.get(name.split(".")[0], "adapter")


class HeadOnly:
    """`head_only`: a linear head on the frozen encoder's output."""

    frozen = True
    together: int | None = None

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """See `Method.init`."""
        return {}

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """See `Method.deltas`."""
        return None

    def run(self, parameters: Parameters) -> Run | None:
        """See `Method.run`."""
        return None


class SingleAdapter:
    """`single_adapter`: a new Pfeiffer adapter for each profile (Pfeiffer et al., 2005.00247).

    Weights start with AdapterHub's standard deviation 0.02 (uniform here, ours), biases zero.
    """

    frozen = False
    together: int | None = None

    def __init__(self, encoder: Encoder, reduction: int) -> None:
        self.layers = encoder.layers
        self.width = encoder.width
        self.bottleneck = bottleneck_of(encoder.width, reduction)
        self._dtype, self._device = trained_dtype(encoder), encoder.device

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """See `Method.init`."""
        layers, d, b = self.layers, self.width, self.bottleneck
        made = {}
        for name, shape in (("down", (layers, d, b)), ("up", (layers, b, d))):
            made[name] = draw(seeds, name, shape, 0.02)
        made["down_bias"] = torch.zeros(len(seeds), layers, b)
        made["up_bias"] = torch.zeros(len(seeds), layers, d)
        return {name: value.to(self._device, self._dtype) for name, value in made.items()}

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """See `Method.deltas`."""
        adapters = [
            BlockAdapters(
                parameters["down"][:, layer],
                parameters["up"][:, layer],
                parameters["down_bias"][:, layer],
                parameters["up_bias"][:, layer],
            )
            for layer in range(self.layers)
        ]
        return [_delta(adapter, rows) for adapter in adapters]

    def run(self, parameters: Parameters) -> Run | None:
        """See `Method.run`."""
        return None


class BankMasks:
    """`x_peft`: masks M_A and M_B over a frozen bank (arXiv 2401.16137).

    The profile's adapter in block l is
        relu(norm(x @ g_A c sum_i (M_A[l,i] - m) down[l,i])) @ g_B c sum_i (M_B[l,i] - m) up[l,i]
    with c from `aggregate_scale`, constant (and, with `learned_gain`, trained) gains g, and m = 0,
    or k/N with `center`. A norm takes out what scales its input: g_A is then without effect.
    """

    frozen = False
    together: int | None = None

    def __init__(self, encoder: Encoder, bank: Bank, spec: MethodSpec) -> None:
        """Raises BankError where the bank's shape is not the encoder's."""
        if (bank.layers, bank.width) != (encoder.layers, encoder.width):
            raise BankError(
                f"bank: found L={bank.layers}, d={bank.width}, expected L={encoder.layers}, "
                f"d={encoder.width} of the encoder {encoder.name}"
            )
        if spec.mask == "hard" and spec.k is None:
            raise ConfigError("method.k: found nothing, expected the k of a hard mask")
        check_center("method.center", spec, bank.n)
        self.spec = spec
        self.bank = bank.to(encoder.device, trained_dtype(encoder))
        self._downs = self.bank.down.flatten(2)  # [L, N, d * b]
        self._ups = self.bank.up.flatten(2)  # [L, N, b * d]

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the trained scores."""
        return {
            "separate": ("mask_a", "mask_b"),
            "tied": ("mask_a",),
            "down": ("mask_a",),
            "up": ("mask_b",),
        }[self.spec.sides]

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """See `Method.init`."""
        bank, spec = self.bank, self.spec
        made = {}
        for name in self.sides:
            scores = draw(seeds, name, (bank.layers, bank.n), spec.mask_init_std)
            made[name] = scores + spec.mask_init_mean
        if spec.learned_gain:
            made["gain"] = torch.ones(len(seeds), bank.layers, 2)
        if spec.norm == "affine":
            made["norm.weight"] = torch.ones(len(seeds), bank.layers, bank.bottleneck)
            made["norm.bias"] = torch.zeros(len(seeds), bank.layers, bank.bottleneck)
        dtype, device = bank.down.dtype, bank.down.device
        return {name: value.to(device, dtype) for name, value in made.items()}

    def masks(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """M_A and M_B of A profiles, [A, L, N] each, before scale and gains."""
        tied = self.spec.sides == "tied"
        a = self._mask(parameters.get("mask_a"), parameters)
        b = a if tied else self._mask(parameters.get("mask_b"), parameters)
        return a, b

    def aggregate(self, parameters: Parameters) -> list[BlockAdapters]:
        """The adapters that the masks of A profiles make, one entry a block.

        One product a profile, block and side: [N] x [N, d * b]. Without gradients (`predict`,
        serving, `export`), hard masks with few ones read the adapters that they select and no
        others: the same sum in another order, so its last bits are not those of a training step.
        """
        bank, spec = self.bank, self.spec
        mask_a, mask_b = self.masks(parameters)
        downs = mask_a * (spec.down_gain * self._scale("down"))
        ups = mask_b * (spec.up_gain * self._scale("up"))
        if "gain" in parameters:
            downs = downs * parameters["gain"][:, :, :1]
            ups = ups * parameters["gain"][:, :, 1:]
        d, b = bank.width, bank.bottleneck
        down, up = self._places("down", mask_a), self._places("up", mask_b)
        return [
            BlockAdapters(
                down=_weighted(downs, self._downs, layer, down).view(-1, d, b),
                up=_weighted(ups, self._ups, layer, up).view(-1, b, d),
                down_bias=None
                if bank.down_bias is None
                else _weighted(downs, bank.down_bias, layer, down),
                up_bias=None if bank.up_bias is None else _weighted(ups, bank.up_bias, layer, up),
                norm=spec.norm != "none",
                norm_weight=_of_layer(parameters, "norm.weight", layer),
                norm_bias=_of_layer(parameters, "norm.bias", layer),
            )
            for layer in range(bank.layers)
        ]

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """See `Method.deltas`."""
        return [_delta(adapter, rows) for adapter in self.aggregate(parameters)]

    def run(self, parameters: Parameters) -> Run | None:
        """See `Method.run`."""
        return None

    @torch.no_grad()
    def export(self, parameters: Parameters, profile: int) -> Adapter:
        """The profile's aggregate as a plain Pfeiffer adapter, as AdapterHub could load it.

        Raises:
            ConfigError: a LayerNorm over the bottleneck has no place in that format.
        """
        if self.spec.norm != "none":
            raise ConfigError(
                f"export: found norm {self.spec.norm!r}, expected none; a plain adapter has no "
                "LayerNorm over its bottleneck"
            )
        one = {name: value[profile : profile + 1].detach() for name, value in parameters.items()}
        blocks = self.aggregate(one)
        down = torch.stack([block.down[0] for block in blocks])
        up = torch.stack([block.up[0] for block in blocks])
        down_bias = [block.down_bias for block in blocks if block.down_bias is not None]
        up_bias = [block.up_bias for block in blocks if block.up_bias is not None]
        return Adapter(
            down,
            up,
            torch.cat(down_bias) if down_bias else down.new_zeros(len(blocks), down.shape[2]),
            torch.cat(up_bias) if up_bias else up.new_zeros(len(blocks), up.shape[2]),
        )

    def selected(self, scores: Tensor) -> Tensor:
        """The stored form of hard scores [..., N]: booleans, k of them true in a row."""
        return top_k(scores, self.spec.k or 1) > 0

    def _places(self, side: str, mask: Tensor) -> Tensor | None:
        """Places of the ones of each row, [A, L, k] ascending, where the sum reads them alone."""
        spec = self.spec
        few = spec.mask == "hard" and spec.k is not None and spec.k <= self.bank.n * FEW
        if not few or not self._masked(side) or spec.center:
            return None
        if torch.is_grad_enabled() or mask.device.type != "cpu":
            return None
        return mask.nonzero()[:, 2].view(*mask.shape[:2], -1)

    def _masked(self, side: str) -> bool:
        return self.spec.sides in ("separate", "tied", side)

    def _mask(self, scores: Tensor | None, parameters: Parameters) -> Tensor:
        spec, bank = self.spec, self.bank
        if scores is None:  # the side that is not masked takes all adapters alike
            some = next(iter(parameters.values()))
            return some.new_ones(some.shape[0], bank.layers, bank.n)
        if spec.mask == "hard":
            return hard_mask(scores, spec.k or 1, spec.estimator) - self._centre
        return soft_mask(scores, spec.activation)

    @property
    def _centre(self) -> float:
        """What is taken off each entry of a hard mask.

        With k/N taken off, the entries of a row sum to zero and pull both ways: at k = N/2 they
        are signs. It is the same selection and the same bytes; what is taken off, k/N times the
        sum of the bank, is common to all profiles.
        """
        return (self.spec.k or 1) / self.bank.n if self.spec.center else 0.0

    def _scale(self, side: str) -> float:
        if self.spec.mask != "hard" or not self._masked(side):
            return aggregate_scale(self.bank.n, self.spec.scale)
        return aggregate_scale((self.spec.k or 1) * (1 - self._centre), self.spec.scale)


class OwnWeights:
    """`full` and `bitfit`: the encoder's own parameters are trained, all of them or its biases.

    `full` is fine-tuning, the reference. BitFit (Ben Zaken et al., 2106.10199) trains every bias,
    those of LayerNorms included. One profile at a time.
    """

    frozen = False
    together: int | None = 1

    def __init__(self, encoder: Encoder, method: str) -> None:
        """Raises ConfigError where the encoder's weights are not in full precision."""
        if encoder.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"method {method}: found encoder.dtype {encoder.dtype}, expected float32: weights "
                "that are trained keep full precision"
            )
        self._model = encoder.model
        self._names = [
            name
            for name, _ in encoder.model.named_parameters()
            if method == "full" or name.endswith(".bias")
        ]

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """See `Method.init`."""
        made = {}
        for name in self._names:
            value = self._model.get_parameter(name).detach().clone()
            made[f"encoder.{name}"] = value.unsqueeze(0).repeat(len(seeds), *[1] * value.ndim)
        return made

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """See `Method.deltas`."""
        return None

    def run(self, parameters: Parameters) -> Run | None:
        """See `Method.run`."""
        weights = {name: parameters[f"encoder.{name}"][0] for name in self._names}

        def run(arguments: dict[str, Any]) -> Tensor:
            output = torch.func.functional_call(self._model, weights, (), arguments)
            states: Tensor = output.last_hidden_state
            return states

        return run


def make_method(encoder: Encoder, spec: MethodSpec, bank: Bank | None = None) -> Method:
    """The method that a spec names.

    Raises:
        ConfigError: `x_peft` without a bank or mask kind.
        BankError: the bank does not fit the encoder.
        XpeftError: a peer without the library `peft`.
    """
    if spec.method == "head_only":
        return HeadOnly()
    if spec.method == "single_adapter":
        return SingleAdapter(encoder, spec.reduction)
    if spec.method in OWN_WEIGHTS:
        return OwnWeights(encoder, spec.method)
    if spec.method in PEER_METHODS:
        from xpeft.peers import Peer  # which stands on this module

        return Peer(encoder, spec.method)
    if bank is None or spec.mask is None:
        raise ConfigError("method x_peft: found no bank or no mask kind, expected both")
    return BankMasks(encoder, bank, spec)


def make_bank(
    encoder: Encoder | EncoderShape,
    spec: BankSpec,
    folder: str | os.PathLike[str] | None = None,
) -> Bank:
    """The random bank of a spec, or the stored one at its path, or else in `folder`.

    Of the encoder only its blocks and width count. Of a stored bank with a random share the last
    adapters are those that a random bank of the same spec has at their places.

    Raises:
        ConfigError: a stored bank without a place.
        BankError: the stored one is missing, damaged, or not what the spec says.
    """
    if spec.kind == "random":
        return _drawn(encoder, spec)
    place = spec.path or folder
    if place is None:
        raise ConfigError(f"bank.path: found nothing, expected the folder of a {spec.kind} bank")
    bank = load_bank(place)
    found = (bank.kind, bank.n, bank.bottleneck)
    expected = (spec.kind, spec.n, bottleneck_of(encoder.width, spec.reduction))
    if found != expected:
        raise BankError(
            f"{place}: found a bank of kind, N and b {found}, expected {expected} from the job"
        )
    return bank.with_last(_drawn(encoder, spec), spec.drawn) if spec.drawn else bank


def _drawn(encoder: Encoder | EncoderShape, spec: BankSpec) -> Bank:
    return random_bank(
        encoder.layers,
        spec.n,
        encoder.width,
        bottleneck_of(encoder.width, spec.reduction),
        seed=spec.seed,
        init=spec.init,
        down_std=spec.down_std,
        up_std=spec.up_std,
    )


def bottleneck_of(width: int, reduction: int) -> int:
    """b = d / reduction.

    Raises:
        ConfigError: the reduction does not divide the width.
    """
    if width % reduction:
        raise ConfigError(
            f"reduction: found {reduction}, expected a divisor of the encoder's width {width}"
        )
    return width // reduction


def trained_dtype(encoder: Encoder) -> torch.dtype:
    """Dtype of trained parameters and banks: float32, or float64 for a float64 encoder."""
    return torch.promote_types(encoder.dtype, torch.float32)


def draw(seeds: Sequence[int], name: str, shape: tuple[int, ...], std: float) -> Tensor:
    """[P, *shape] float32, uniform of that standard deviation; a stream for each seed and name."""
    count = int(np.prod(shape))
    rows = [uniform(count, derive_key("init", name, seed)) for seed in seeds]
    return torch.from_numpy(np.stack(rows).reshape(len(seeds), *shape)) * (std * math.sqrt(3))


def _weighted(weights: Tensor, bank: Tensor, layer: int, places: Tensor | None = None) -> Tensor:
    """Sums of a block of a bank [L, N, D] by the weights [A, L, N] of A profiles: [A, D].

    A batch of A products with one row each, not one product with A rows: matrix libraries sum in
    another order for another number of rows, and a profile's aggregate must have the same bits
    in any company. On CPUs it is also several times faster for few profiles. With `places`
    [A, L, k] each profile's sum goes over these, one after another, and reads nothing else.
    """
    chosen, entries = weights[:, layer], bank[layer]
    if places is None:
        return torch.bmm(chosen.unsqueeze(1), entries.expand(len(chosen), -1, -1)).squeeze(1)
    index = places[:, layer]
    return functional.embedding_bag(
        index, entries, mode="sum", per_sample_weights=chosen.gather(1, index)
    )


def _of_layer(parameters: Parameters, name: str, layer: int) -> Tensor | None:
    value = parameters.get(name)
    return None if value is None else value[:, layer]


def _delta(adapter: BlockAdapters, rows: Tensor) -> Delta:
    return lambda hidden: adapter.delta(hidden, rows)
