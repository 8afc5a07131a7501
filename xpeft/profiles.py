"""Profiles as arrays and as bytes: what one stores, and the format that all of a store share.

A profile's bytes are its parts one after another, each in C order and little-endian:

    part          shape        where                                       kept as
    masks         [rows, N]    always; a code of xpeft.codec               the code
    head signs    [C', d]      head = binary                               bit sets, 1 is plus
    norm weight   [L, b]       method.norm = affine                        float32
    norm bias     [L, b]       method.norm = affine                        float32
    gain          [L, 2]       method.learned_gain                         float32
    head scale    [C']         head = binary                               float32
    head weight   [C, d]       head = private                              float32
    head bias     [C]          head = private or shared+bias               float32
    head bias     [C']         head = binary                               float32

The format is not in the bytes: they mean nothing without it, and whoever keeps them keeps it once.
A float64 profile (a test's) is rounded to float32, and `soft16` rounds masks; nothing else changes
a bit on the way through.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from xpeft.codec import Bytes, Codec, MaskFormat, bits_bytes, decode_bits, encode_bits
from xpeft.errors import CodecError, ConfigError, StoreError
from xpeft.ids import id_text
from xpeft.io import canonical_json
from xpeft.job import MethodSpec, binary_rows, build

if TYPE_CHECKING:  # torch takes seconds to import, and a store does without
    from torch import Tensor

    from xpeft.bank import Bank
    from xpeft.encoder import Encoder
    from xpeft.methods import BankMasks

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint64]
HeadKind = Literal["private", "binary", "shared", "shared+bias", "none"]

ENCODER_KEYS = {"name": str, "sha256": str, "pooling": str, "max_length": int, "dtype": str}
BANK_KEYS = {"kind": str, "sha256": str, "n": int, "recipe": dict}
MASKS = {"down": "mask_a", "up": "mask_b", "head_signs": "mask_head"}
"""Fields of `Profiles` that have a code, in the order of their bytes, and their parameters."""

TENSORS = {
    "norm_weight": "norm.weight",
    "norm_bias": "norm.bias",
    "gain": "gain",
    "head_scale": "head.scale",
    "head_weight": "head.weight",
    "head_bias": "head.bias",
}
"""Fields of `Profiles` that are float32, in the order of their bytes, and their parameters."""

HEAD = {"mask_head", "head.scale", "head.weight", "head.bias"}
"""Parameters of heads."""


@dataclass(frozen=True)
class ProfileFormat:
    """All that profiles of one store share: which encoder, bank, method and code they are for.

    Attributes:
        encoder: {"name", "sha256", "pooling", "max_length", "dtype"}; sha256 is its digest.
        bank: {"kind", "sha256", "n", "recipe"}; sha256 is its digest.
        method: the fields of a `MethodSpec` as plain JSON; defaults may be missing.
        codec: how masks are coded; `bits` and `enumerative` are for hard masks.
        layers, n, width, bottleneck: L, N, d, b.
        labels: class names in code order; () for regression.
        head: `private` [C, d] and [C] a profile; `binary`, signs [C', d] with scale and bias [C'],
            see `xpeft.heads`; `shared`, one head for all, kept once by the
            store; `shared+bias`, the shared weight with each profile's own bias in place of the
            shared one; `none`, there is no head here.

    Raises:
        StoreError: a field is missing, of a wrong type, or contradicts another.
    """

    encoder: dict[str, Any]
    bank: dict[str, Any]
    method: dict[str, Any]
    codec: Codec
    layers: int
    n: int
    width: int
    bottleneck: int
    labels: tuple[str, ...]
    head: HeadKind = "private"

    def __post_init__(self) -> None:
        for name, value, keys in (
            ("encoder", self.encoder, ENCODER_KEYS),
            ("bank", self.bank, BANK_KEYS),
        ):
            _require_keys(name, value, keys)
            if not re.fullmatch("[0-9a-f]{64}", value["sha256"]):
                raise _wrong(f"{name}.sha256", repr(value["sha256"]), "64 hex digits, its digest")
        for name in ("layers", "n", "width", "bottleneck"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise _wrong(name, repr(size), "an integer from 1")
        if self.bank["n"] != self.n:
            raise _wrong("bank.n", self.bank["n"], f"n = {self.n}")
        labels = self.labels
        if not isinstance(labels, tuple) or not all(isinstance(name, str) for name in labels):
            raise _wrong("labels", repr(labels), "a tuple of class names")
        if len(set(labels)) != len(labels):
            raise _wrong("labels", ", ".join(labels), "each name once")
        if self.head not in get_args(HeadKind):
            raise _wrong("head", repr(self.head), f"one of {', '.join(get_args(HeadKind))}")
        spec = self.spec
        if spec.method != "x_peft" or spec.mask is None:
            raise _wrong(
                "method", f"{spec.method} with mask {spec.mask}", "x_peft with soft or hard masks"
            )
        if spec.mask == "hard" and (spec.k is None or not 1 <= spec.k <= self.n):
            raise _wrong("method.k", spec.k, f"1 to N = {self.n} for hard masks")
        if self.mask_format.soft != (spec.mask == "soft"):
            raise _wrong("codec", f"{self.codec} for {spec.mask} masks", "a codec of that kind")
        if self.head == "binary" and self.width % 2:
            raise _wrong("width", self.width, "an even one for a binary head, half of it plus")

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        bank: Bank,
        method: MethodSpec,
        labels: Sequence[str],
        *,
        codec: Codec | None = None,
        head: HeadKind = "private",
    ) -> ProfileFormat:
        """The format of profiles trained so; `codec` None is `bits` for hard, else `soft32`."""
        return cls(
            encoder={
                "name": encoder.name,
                "sha256": encoder.digest,
                "pooling": encoder.pooling,
                "max_length": encoder.max_length,
                "dtype": str(encoder.dtype).removeprefix("torch."),
            },
            bank={"kind": bank.kind, "sha256": bank.digest, "n": bank.n, "recipe": bank.recipe},
            method=dataclasses.asdict(method),
            codec=codec or ("bits" if method.mask == "hard" else "soft32"),
            layers=bank.layers,
            n=bank.n,
            width=bank.width,
            bottleneck=bank.bottleneck,
            labels=tuple(labels),
            head=head,
        )

    @classmethod
    def from_dict(cls, value: Any) -> ProfileFormat:
        """Build a format from plain JSON.

        Raises:
            StoreError: a key is unknown or missing, or a value is not what it must be.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        found = set(value) if isinstance(value, dict) else set()
        if wrong := sorted(found ^ names):
            raise StoreError(
                f"profile format: missing or unknown fields {', '.join(wrong)}, expected "
                f"{', '.join(sorted(names))}"
            )
        labels = value["labels"]
        return cls(**{**value, "labels": tuple(labels) if isinstance(labels, list) else labels})

    def to_dict(self) -> dict[str, Any]:
        """The plain JSON form: `ProfileFormat.from_dict(form.to_dict()) == form`."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    def digest(self) -> str:
        """sha256 of the plain JSON form, in hexadecimal."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()

    @cached_property
    def spec(self) -> MethodSpec:
        """`method` as the trainer takes it."""
        try:
            return build(MethodSpec, self.method, "profile format: method")
        except ConfigError as error:
            raise StoreError(str(error)) from None

    @cached_property
    def mask_format(self) -> MaskFormat:
        """How the masks of a profile are coded."""
        spec = self.spec
        k = spec.k if spec.mask == "hard" else None
        try:
            return MaskFormat(self.codec, self.layers, self.n, k, spec.sides)
        except CodecError as error:
            raise StoreError(f"profile format: {error}") from None

    @property
    def learned_gain(self) -> bool:
        """Whether a profile has a gain of its own."""
        return self.spec.learned_gain

    @property
    def affine_norm(self) -> bool:
        """Whether a profile has norm parameters of its own."""
        return self.spec.norm == "affine"

    @property
    def outputs(self) -> int:
        """C, outputs of the head: one a class, or one for regression."""
        return len(self.labels) or 1

    @property
    def signs(self) -> tuple[int, int] | None:
        """[C', d] of a binary head, or None."""
        return (binary_rows(self.outputs), self.width) if self.head == "binary" else None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each float32 part that a profile has, by field of `Profiles`, in byte order."""
        norm, head = (self.layers, self.bottleneck), (self.outputs, self.width)
        rows = self.signs and self.signs[:1]
        parts: dict[str, tuple[int, ...] | None] = {
            "norm_weight": norm if self.affine_norm else None,
            "norm_bias": norm if self.affine_norm else None,
            "gain": (self.layers, 2) if self.learned_gain else None,
            "head_scale": rows,
            "head_weight": head if self.head == "private" else None,
            "head_bias": head[:1] if self.head in ("private", "shared+bias") else rows,
        }
        return {name: shape for name, shape in parts.items() if shape is not None}

    @cached_property
    def payload_bytes(self) -> int:
        """Bytes of a profile: masks, norm, gain, head."""
        floats = sum(int(np.prod(shape)) for shape in self.shapes.values())
        return self.mask_format.nbytes + self._sign_bytes + 4 * floats

    @property
    def _sign_bytes(self) -> int:
        return 0 if self.signs is None else bits_bytes(*self.signs)

    def encode(self, profiles: Profiles) -> Bytes:
        """The bytes of P profiles, [P, payload_bytes] uint8.

        Raises:
            CodecError: the masks are not of this format.
            StoreError: a part is missing, superfluous, of another shape, or not finite.
        """
        parts = [self.mask_format.encode_many(profiles.down, profiles.up)]
        signs = self._require_part("head_signs", profiles.head_signs, self.signs)
        if signs is not None:
            _require_half("head_signs", signs, profiles.ids)
            parts.append(encode_bits(signs))
        for name in TENSORS:
            shape = self.shapes.get(name)
            value = self._require_part(name, getattr(profiles, name), shape)
            if value is None or shape is None:
                continue
            numbers = np.ascontiguousarray(value, dtype="<f4")
            _require_finite(name, numbers, profiles.ids)
            parts.append(numbers.reshape(len(numbers), int(np.prod(shape))).view(np.uint8))
        return np.concatenate(parts, axis=1)

    def decode(self, ids: Ids, payload: Bytes) -> Profiles:
        """The profiles `ids` [P] of bytes [P, payload_bytes] uint8: the inverse of `encode`.

        Raises:
            CodecError: the bytes are not those of masks of this format.
            StoreError: their number is wrong, or a float is not finite.
        """
        if payload.ndim != 2 or payload.shape[1] != self.payload_bytes:
            raise StoreError(
                f"profile: found {payload.shape[-1]} bytes, expected {self.payload_bytes}; they "
                "are damaged or of another format"
            )
        at = self.mask_format.nbytes
        down, up = self.mask_format.decode_many(payload[:, :at])
        if self.mask_format.sides == "tied":
            up = None
        parts: dict[str, npt.NDArray[Any]] = {}
        if self.signs is not None:
            end = at + self._sign_bytes
            signs = decode_bits(payload[:, at:end], *self.signs)
            _require_half("head_signs", signs, ids)
            parts["head_signs"], at = signs, end
        for name, shape in self.shapes.items():
            end = at + 4 * int(np.prod(shape))
            numbers = np.ascontiguousarray(payload[:, at:end]).view("<f4")
            _require_finite(name, numbers, ids)
            parts[name] = numbers.reshape(len(payload), *shape).astype(np.float32)
            at = end
        return Profiles(ids, down, up, **parts)

    def _require_part(
        self, name: str, value: npt.NDArray[Any] | None, shape: tuple[int, ...] | None
    ) -> npt.NDArray[Any] | None:
        """A part as it was given, after checking that this format has it, in this shape."""
        if (value is None) != (shape is None):
            raise StoreError(
                f"{name}: found {'none' if value is None else 'values'}, expected "
                f"{'none' if shape is None else 'values'} in profiles of this format "
                f"(norm {self.spec.norm}, learned gain {self.learned_gain}, head {self.head})"
            )
        if value is not None and shape is not None and value.shape[1:] != shape:
            raise StoreError(
                f"{name}: found shape {list(value.shape[1:])} a profile, expected {list(shape)}"
            )
        return value


@dataclass(frozen=True, eq=False)
class Profiles:
    """P profiles, stacked.

    Attributes:
        ids: [P] uint64.
        down: [P, L, N], M_A: bool for hard masks, float32 scores for soft ones. None for side `up`.
        up: [P, L, N], M_B likewise. None for sides `down` and `tied`.
        gain: [P, L, 2] float32, of down and up; None where it is not learned.
        norm_weight, norm_bias: [P, L, b] float32; None unless the norm is affine.
        head_signs: [P, C', d] bool, True is plus; None unless the head is binary.
        head_scale: [P, C'] float32; None unless the head is binary.
        head_weight: [P, C, d] float32; None unless the head is private.
        head_bias: [P, C] float32, of a binary head [P, C']; None where it is shared or there is no
            head.

    Raises:
        StoreError: an array has another dtype or another number of profiles than `ids`.
    """

    ids: Ids
    down: npt.NDArray[Any] | None = None
    up: npt.NDArray[Any] | None = None
    gain: Floats | None = None
    norm_weight: Floats | None = None
    norm_bias: Floats | None = None
    head_signs: npt.NDArray[np.bool_] | None = None
    head_scale: Floats | None = None
    head_weight: Floats | None = None
    head_bias: Floats | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.dtype != np.uint64:
            raise StoreError(
                f"ids: found {self.ids.dtype} {list(self.ids.shape)}, expected uint64 [P]"
            )
        for name, value in self.arrays().items():
            allowed: tuple[Any, ...] = (np.float32,)
            if name in MASKS:
                allowed = (bool,) if name == "head_signs" else (bool, np.float32)
            if value.dtype not in allowed or not value.ndim or len(value) != len(self.ids):
                raise StoreError(
                    f"{name}: found {value.dtype} {list(value.shape)}, expected "
                    f"{' or '.join(kind.__name__ for kind in allowed)} of {len(self.ids)} profiles"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that are there, by field, without the ids."""
        values = {name: getattr(self, name) for name in (*MASKS, *TENSORS)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, indices: Sequence[int] | slice | npt.NDArray[np.integer[Any]]) -> Profiles:
        """The profiles at `indices` (positions), in that order."""
        arrays = {name: value[indices] for name, value in self.arrays().items()}
        return Profiles(self.ids[indices], **arrays)

    @classmethod
    def from_parameters(
        cls,
        ids: Sequence[int] | Ids,
        parameters: Mapping[str, Tensor],
        method: BankMasks,
        *,
        head: HeadKind | None = None,
    ) -> Profiles:
        """Profiles of trained parameters, [P, ...] each, by the names of xpeft.methods.

        Hard masks become the bits that their scores select. Soft ones stay scores.

        Args:
            ids: P ids.
            parameters: as trained; on any device.
            method: what they were trained with.
            head: the store's head, whose shared parts are left out; None keeps what is there.

        Raises:
            StoreError: a parameter is unknown, or there is not one of each id.
        """
        import torch

        from xpeft.heads import plus_signs

        known = {parameter: field for field, parameter in (MASKS | TENSORS).items()}
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise StoreError(
                f"parameters: found {unknown[0]}, expected only {', '.join(known)}: a profile of "
                "x_peft has no others"
            )
        left_out = {
            "private": (),
            "binary": (),
            "shared": HEAD,
            "shared+bias": HEAD - {"head.bias"},
            "none": HEAD,
            None: (),
        }[head]
        arrays = {}
        for name, value in parameters.items():
            if name in left_out:
                continue
            if name == "mask_head":
                arrays[known[name]] = plus_signs(value.detach()).cpu().numpy()
            elif name in ("mask_a", "mask_b") and method.spec.mask == "hard":
                arrays[known[name]] = method.selected(value.detach()).cpu().numpy()
            else:
                arrays[known[name]] = value.detach().to("cpu", torch.float32).numpy().copy()
        return cls(np.array(ids, dtype=np.uint64), **arrays)

    def to_parameters(self) -> dict[str, Tensor]:
        """The parameters, float32 [P, ...] each on the CPU, by the names of xpeft.methods.

        Bits of hard masks become 0 and 1, from which `hard_mask` selects the same bits again; so
        do the signs of a binary head.
        """
        import torch

        names = MASKS | TENSORS
        return {
            names[name]: torch.from_numpy(value.astype(np.float32))
            for name, value in self.arrays().items()
        }


def _require_keys(name: str, value: Any, keys: dict[str, type]) -> None:
    if not isinstance(value, dict) or set(value) != set(keys):
        found = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)
        raise _wrong(name, found, f"the keys {', '.join(keys)}")
    for key, kind in keys.items():
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise _wrong(f"{name}.{key}", repr(value[key]), kind.__name__)


def _require_finite(name: str, numbers: npt.NDArray[Any], ids: Ids) -> None:
    if not np.isfinite(numbers).all():
        profile = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise StoreError(
            f"{name} of profile {id_text(int(ids[profile]))}: found NaN or infinity, expected "
            "finite numbers; train it again"
        )


def _require_half(name: str, signs: npt.NDArray[np.bool_], ids: Ids) -> None:
    """Half of each row plus: what a binary head is, and what finds one flipped bit."""
    wrong = signs.sum(axis=2) * 2 != signs.shape[2]
    if wrong.any():
        profile, row = np.argwhere(wrong)[0]
        raise StoreError(
            f"{name} of profile {id_text(int(ids[profile]))}, row {row}: found "
            f"{signs[profile, row].sum()} plus signs, expected half of {signs.shape[2]}; the head "
            "is damaged"
        )


def _wrong(name: str, found: object, expected: str) -> StoreError:
    return StoreError(f"profile format: {name}: found {found}, expected {expected}")
