"""Serving: texts and the profile of each in, classes out; any mix of profiles in one batch.

A batch goes through the encoder once. Each of its rows meets the adapter and the head of its own
profile, so its result is that of the same batch with this profile for all rows, to the bit. What
was trained, stored and loaded predicts as it did after training: to the bit for the same texts in
batches of the same size, with the same number of threads on the same processor model.

There is no default profile: an id that the store does not hold is an error, never the plain
encoder.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpeft.bank import Bank, load_bank
from xpeft.batches import by_length
from xpeft.cache import AdapterCache, CacheInfo, ReadyProfile
from xpeft.encoder import Delta, Encoder, load_encoder
from xpeft.errors import BankError, ConfigError, EncoderError, StoreError
from xpeft.heads import linear_heads
from xpeft.ids import parse_id
from xpeft.job import BankSpec, EncoderSpec
from xpeft.layers import BlockAdapters
from xpeft.methods import BankMasks, make_bank
from xpeft.profiles import ProfileFormat
from xpeft.store import ProfileStore

AnyId = int | str
"""A profile: its number, or the 16 hex digits that files and reports show."""
AnyIds = AnyId | Sequence[AnyId] | npt.NDArray[np.integer[Any]]

BATCH_SIZE = 64  # that of xpeft.fitting.predict
CACHE_BYTES = 256 * 2**20


class XPeft:
    """An encoder, a bank and a store of profiles, ready to predict. Close it, or use a `with`.

    Several threads may share one: they take turns, batch by batch, with all others that use the
    same encoder. After a fork each process loads its own.

    Attributes:
        encoder, store: what it serves with.
        format: what all profiles of the store are.
    """

    def __init__(
        self, encoder: Encoder, method: BankMasks, store: ProfileStore, cache_bytes: int
    ) -> None:
        """Use `load`, which checks that the parts belong together."""
        self.encoder = encoder
        self.store = store
        self.format = store.format
        self._cache = AdapterCache(store, encoder, method, cache_bytes)
        self._opened_here = False

    @classmethod
    def load(
        cls,
        encoder: Encoder | EncoderSpec,
        bank: Bank | BankSpec | str | os.PathLike[str] | None,
        store: ProfileStore | str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        cache_bytes: int = CACHE_BYTES,
    ) -> Self:
        """Put encoder, bank and store together.

        Args:
            encoder: one that is loaded, or a spec of one; dtype `auto` then means that of the
                store's profiles, and another one is taken as wished: results differ in last digits.
            bank: the bank itself, its spec, its folder, or None for a random one, which the store
                knows how to make.
            store: an open store, or the path of one, which is opened for reading.
            device: where an encoder is loaded that is given as a spec.
            cache_bytes: of ready adapters to keep; a profile takes 2 L d b numbers and its head.

        Raises:
            StoreError: the store is missing, damaged, or for another encoder or bank.
            EncoderError: the encoder cannot be loaded, or turns texts into vectors another way.
            BankError: the bank cannot be loaded or made.
        """
        if cache_bytes < 0:
            raise ConfigError(f"cache_bytes: found {cache_bytes}, expected 0 or more")
        opened = store if isinstance(store, ProfileStore) else ProfileStore.open(store)
        try:
            form = opened.format
            if isinstance(encoder, EncoderSpec):
                found = _load_as(encoder, form, device)
            else:
                found = _require_same(encoder, form, ("pooling", "max_length", "dtype"))
            opened.require(encoder_sha256=found.digest)
            entries = _the_bank(bank, found, form)
            opened.require(bank_sha256=entries.digest)
            served = cls(found, BankMasks(found, entries, form.spec), opened, cache_bytes)
        except BaseException:
            if opened is not store:
                opened.close()
            raise
        served._opened_here = opened is not store
        return served

    def predict(
        self,
        texts: Sequence[str],
        profile_ids: AnyIds,
        pairs: Sequence[str] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[Any]:
        """The class of each text, as its profile sees it.

        Args:
            texts: R texts.
            profile_ids: a profile for each text, or one for all.
            pairs: second parts of the texts, where the task has pairs.
            batch_size: texts that go through the encoder at once, sorted by length.

        Returns:
            [R] in the order of the texts: int64 class codes, or float64 numbers of a regression.

        Raises:
            StoreError: a profile is unknown or damaged, or the store has no heads.
            ConfigError: the arguments do not fit together.
        """
        logits = self.logits(texts, profile_ids, pairs, batch_size)
        if not self.format.labels:
            return logits[:, 0].astype(np.float64)
        return torch.from_numpy(logits).argmax(dim=1).numpy()

    def labels(
        self,
        texts: Sequence[str],
        profile_ids: AnyIds,
        pairs: Sequence[str] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """The name of the class of each text; see `predict`."""
        names = self.format.labels
        if not names:
            raise ConfigError(
                f"{self.store.path}: its profiles give numbers, not classes; use predict"
            )
        return [names[code] for code in self.predict(texts, profile_ids, pairs, batch_size)]

    def logits(
        self,
        texts: Sequence[str],
        profile_ids: AnyIds,
        pairs: Sequence[str] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[Any]:
        """What the head of its profile gives for each text, [R, C]; see `predict`."""
        if self.format.head == "none":
            raise StoreError(
                f"{self.store.path}: found a store without heads, expected one with them; use "
                "vectors and a head of your own"
            )
        return self._pass(texts, profile_ids, pairs, batch_size, self.format.outputs, _heads)

    def vectors(
        self,
        texts: Sequence[str],
        profile_ids: AnyIds,
        pairs: Sequence[str] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[Any]:
        """The vector of each text that a head gets, [R, d]; see `predict`."""
        return self._pass(
            texts, profile_ids, pairs, batch_size, self.encoder.width, lambda vectors, _: vectors
        )

    def cache_info(self) -> CacheInfo:
        """What is kept ready, and how often that was of use."""
        with self.encoder.lock:
            return self._cache.info

    def close(self) -> None:
        """Close the store, if `load` opened it."""
        if self._opened_here:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.no_grad()
    def _pass(
        self,
        texts: Sequence[str],
        profile_ids: AnyIds,
        pairs: Sequence[str] | None,
        batch_size: int,
        width: int,
        finish: Callable[[Tensor, list[ReadyProfile]], Tensor],
    ) -> npt.NDArray[Any]:
        """[R, width]: `finish` of the vectors of each batch and the profiles of its rows."""
        ids = _require_arguments(texts, profile_ids, pairs, batch_size)
        with self.encoder.lock:
            self._cache.require(_unique(ids))
            if not ids:
                return np.zeros((0, width), dtype=np.float32)
            table = self.encoder.tokenize(texts, pairs)
        order = list(by_length(table.lengths, batch_size))
        outputs = []
        for rows in order:
            asked = [ids[row] for row in rows]
            with self.encoder.lock:  # taken for each batch: a long request lets short ones in
                unique = _unique(asked)
                ready = dict(zip(unique, self._cache.ready(unique), strict=True))
                profiles = [ready[identity] for identity in asked]
                vectors = self.encoder(table.batch(rows), _deltas(profiles))
                outputs.append(finish(vectors, profiles).cpu())
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(outputs)[back].numpy()


def _deltas(profiles: list[ReadyProfile]) -> list[Delta]:
    """A function a block, in which row i has the adapter of `profiles[i]`.

    The rows' adapters are put together when the encoder gets to the block: those of one block are
    in memory at a time, and still in the processor's cache when they are used.
    """

    def delta(layer: int) -> Delta:
        return lambda hidden: BlockAdapters.join(
            [profile.blocks[layer] for profile in profiles]
        ).delta(hidden, None)

    return [delta(layer) for layer in range(len(profiles[0].blocks))]


def _heads(vectors: Tensor, profiles: list[ReadyProfile]) -> Tensor:
    weights = [profile.weight for profile in profiles if profile.weight is not None]
    biases = [profile.bias for profile in profiles if profile.bias is not None]
    return linear_heads(vectors, torch.cat(weights), torch.cat(biases), None)


def _require_arguments(
    texts: Sequence[str], profile_ids: AnyIds, pairs: Sequence[str] | None, batch_size: int
) -> list[int]:
    """The id of each text, after checking that all arguments fit together."""
    if isinstance(texts, str) or isinstance(pairs, str):
        raise ConfigError("texts: found one text, expected a sequence of texts; put it in a list")
    if pairs is not None and len(pairs) != len(texts):
        raise ConfigError(f"pairs: found {len(pairs)}, expected one for each of {len(texts)} texts")
    if batch_size < 1:
        raise ConfigError(f"batch_size: found {batch_size}, expected 1 or more")
    if isinstance(profile_ids, int | str | np.integer):
        return [_as_id(profile_ids)] * len(texts)
    if len(profile_ids) != len(texts):
        raise ConfigError(
            f"profile_ids: found {len(profile_ids)}, expected one for each of {len(texts)} texts, "
            "or one for all"
        )
    return [_as_id(identity) for identity in profile_ids]


def _as_id(identity: Any) -> int:
    if isinstance(identity, str):
        return parse_id(identity)
    if isinstance(identity, bool) or not isinstance(identity, int | np.integer):
        raise StoreError(f"profile id: found {identity!r}, expected an integer or 16 hex digits")
    if not 0 <= identity < 2**64:
        raise StoreError(f"profile id: found {identity}, expected 0 to 2**64 - 1")
    return int(identity)


def _unique(ids: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(ids))


def _load_as(spec: EncoderSpec, form: ProfileFormat, device: torch.device | str) -> Encoder:
    if spec.dtype == "auto":
        spec = dataclasses.replace(spec, dtype=form.encoder["dtype"])
    return _require_same(load_encoder(spec, device), form, ("pooling", "max_length"))


def _require_same(encoder: Encoder, form: ProfileFormat, names: Sequence[str]) -> Encoder:
    """The encoder, if it turns texts into vectors as that of the profiles did."""
    for name in names:
        found = str(getattr(encoder, name)).removeprefix("torch.")
        expected = str(form.encoder[name])
        if found != expected:
            raise EncoderError(
                f"encoder {encoder.name}: found {name} {found}, expected {expected}, with which "
                f"the store's profiles were trained; load it with {name}={expected}"
            )
    return encoder


def _the_bank(
    bank: Bank | BankSpec | str | os.PathLike[str] | None, encoder: Encoder, form: ProfileFormat
) -> Bank:
    if isinstance(bank, Bank):
        return bank
    if isinstance(bank, BankSpec):
        return make_bank(encoder, bank)
    if bank is not None:
        return load_bank(bank)
    if form.bank["kind"] != "random":
        raise BankError(
            f"bank: found none, expected the {form.bank['kind']} bank of digest "
            f"{form.bank['sha256']}; only a random one can be made from its recipe"
        )
    recipe = form.bank["recipe"]
    options = {name: recipe[name] for name in ("seed", "init", "down_std", "up_std")}
    return make_bank(
        encoder, BankSpec(n=form.n, reduction=form.width // form.bottleneck, **options)
    )
