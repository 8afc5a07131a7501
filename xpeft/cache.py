"""Ready adapters of the profiles that are asked for: made from a store's codes, kept while used.

A profile's code is a few hundred bytes, the adapter that it makes from the bank some hundred
kilobytes (2 L d b numbers in the encoder's dtype), so all of a million profiles are never in
memory. Kept are those used last, within a limit of bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xpeft.encoder import Encoder
from xpeft.heads import head_of, reference_row
from xpeft.layers import BlockAdapters
from xpeft.methods import BankMasks, trained_dtype
from xpeft.store import ProfileStore


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds and did.

    Attributes:
        profiles, bytes: adapters that are kept, and their bytes.
        limit: most bytes that are kept from one batch to the next.
        hits: times a batch found a profile's adapter; a profile counts once a batch.
        misses: times it was made from the store's code, after a replacement too.
        evicted: adapters given up for lack of room.
    """

    profiles: int
    bytes: int
    limit: int
    hits: int
    misses: int
    evicted: int


@dataclass
class ReadyProfile:
    """One profile, ready for a batch.

    Attributes:
        blocks: its adapter, [1, ...] a block, in the encoder's dtype.
        weight, bias: its head, [1, C, d] and [1, C]; None where the store has no heads.
        stamp: the store's, of what the adapter was made from.
        generation: of the store, when it was last known to hold that.
        nbytes: of all that is its own.
    """

    blocks: list[BlockAdapters]
    weight: Tensor | None
    bias: Tensor | None
    stamp: int
    generation: int
    nbytes: int


class AdapterCache:
    """Adapters by profile, the least recently used given up first. Not for two threads at once."""

    def __init__(
        self, store: ProfileStore, encoder: Encoder, method: BankMasks, limit: int
    ) -> None:
        self.store = store
        self.encoder = encoder
        self.method = method
        self.limit = limit
        self._dtype = trained_dtype(encoder)
        self._kept: OrderedDict[int, ReadyProfile] = OrderedDict()
        self._bytes = self._hits = self._misses = self._evicted = 0
        self._shared: dict[str, Tensor] = {}  # of the head, [1, ...]
        if store.shared_head is not None:
            for name, part in zip(("head.weight", "head.bias"), store.shared_head, strict=True):
                self._shared[name] = self._move(torch.tensor(part)).unsqueeze(0)
        elif store.format.head == "binary":
            self._shared = reference_row(store.format.outputs, encoder)

    @property
    def info(self) -> CacheInfo:
        """See `CacheInfo`."""
        return CacheInfo(
            profiles=len(self._kept),
            bytes=self._bytes,
            limit=self.limit,
            hits=self._hits,
            misses=self._misses,
            evicted=self._evicted,
        )

    def require(self, ids: Sequence[int]) -> None:
        """Raise StoreError for the first of `ids` that the store does not hold, before any work."""
        self.store.stamps(self._doubtful(ids, self.store.generation))

    @torch.no_grad()
    def ready(self, ids: Sequence[int]) -> list[ReadyProfile]:
        """The profiles `ids`, each given once, ready to use, in that order.

        Where the store changed since a profile was last looked at, its stamp is compared, and the
        adapter made anew if the profile was replaced.

        Raises:
            StoreError: the store does not hold one of them, or it is damaged.
        """
        # Generation and stamps are read before the codes: what is replaced in between gets a stamp
        # that is too old, and is made again next time.
        generation = self.store.generation
        doubtful = self._doubtful(ids, generation)
        stamps = dict(zip(doubtful, self.store.stamps(doubtful).tolist(), strict=True))
        found = {identity: self._kept[identity] for identity in ids if identity in self._kept}
        wanted = [i for i in doubtful if i not in found or found[i].stamp != stamps[i]]
        found |= self._make(wanted, stamps)
        for identity in doubtful:
            found[identity].generation = generation
        self._misses += len(wanted)
        self._hits += len(ids) - len(wanted)
        for identity in ids:
            self._keep(identity, found[identity])
        while self._bytes > self.limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._evicted += 1
        return [found[identity] for identity in ids]

    def _doubtful(self, ids: Sequence[int], generation: int) -> list[int]:
        """Those of `ids` that are not known to be as this generation of the store has them."""
        kept = self._kept
        return [i for i in ids if i not in kept or kept[i].generation != generation]

    def _keep(self, identity: int, profile: ReadyProfile) -> None:
        before = self._kept.pop(identity, None)
        self._bytes += profile.nbytes - (0 if before is None else before.nbytes)
        self._kept[identity] = profile

    def _make(self, ids: Sequence[int], stamps: dict[int, int]) -> dict[int, ReadyProfile]:
        if not ids:
            return {}
        stored = self.store.get_many(ids).to_parameters()
        parameters = {name: self._move(value) for name, value in stored.items()}
        blocks = self.method.aggregate(parameters)
        made = {}
        for place, identity in enumerate(ids):
            own = [block.of_profile(place, self.encoder.dtype) for block in blocks]
            weight, bias, nbytes = self._head_of(parameters, place)
            nbytes += sum(block.nbytes for block in own)
            made[identity] = ReadyProfile(own, weight, bias, stamps[identity], -1, nbytes)
        return made

    def _head_of(
        self, parameters: dict[str, Tensor], place: int
    ) -> tuple[Tensor | None, Tensor | None, int]:
        """A profile's weight and bias, and the bytes of what is its own of them."""
        if self.store.format.head == "none":
            return None, None, 0
        one = {name: value[place : place + 1] for name, value in parameters.items()}
        weight, bias = head_of(one, self._shared)
        nbytes = 0
        if not one.keys().isdisjoint(("head.weight", "mask_head")):
            weight = weight.clone()  # not a view, which would keep those of the others
            nbytes += weight.nbytes
        if "head.bias" in one:
            bias = bias.clone()
            nbytes += bias.nbytes
        return weight, bias, nbytes

    def _move(self, value: Tensor) -> Tensor:
        return value.to(self.encoder.device, self._dtype)
