"""Shapes of encoders: what can be counted about one without its weights or a network.

A shape comes from the table below, by name, or from a `config.json` on disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xpeft.errors import EncoderError, XpeftError
from xpeft.io import read_json

POOLED = ("bert", "roberta", "xlm-roberta", "camembert")
"""Families whose model ends with a pooler: a dense layer [d, d] over the first token."""

COUNTED = (*POOLED, "distilbert", "electra")
"""Families whose parameters we count; of others only layers and width are used."""


@dataclass(frozen=True)
class EncoderShape:
    """The numbers of an encoder that decide the bytes of its adapters, masks and peers.

    Attributes:
        name: of the encoder.
        layers: L, blocks.
        width: d.
        family: `model_type` of its config; None if unknown.
        intermediate: f, width of a block's feed-forward layer; None if unknown.
        vocab, positions, types: rows of the three embedding tables; 0 where there is none.
        embedding: width of the embeddings; None means d (ELECTRA may have less).
    """

    name: str
    layers: int
    width: int
    family: str | None = None
    intermediate: int | None = None
    vocab: int = 0
    positions: int = 0
    types: int = 0
    embedding: int | None = None

    @property
    def parameters(self) -> int | None:
        """Parameters of the encoder without a task head; None for a family that is not counted."""
        if self.family not in COUNTED or not self.intermediate or not self.vocab:
            return None
        d, f, e = self.width, self.intermediate, self.embedding or self.width
        tables = (self.vocab + self.positions + self.types) * e + 2 * e  # and a LayerNorm
        projection = 0 if e == d else e * d + d
        block = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d
        pooler = d * d + d if self.family in POOLED else 0
        return tables + projection + self.layers * block + pooler

    @property
    def biases(self) -> int | None:
        """How many of `parameters` are biases, those of LayerNorms included."""
        if self.parameters is None or self.intermediate is None:
            return None
        d, e = self.width, self.embedding or self.width
        projection = 0 if e == d else d
        pooler = d if self.family in POOLED else 0
        return e + projection + self.layers * (7 * d + self.intermediate) + pooler


_BERT = EncoderShape("bert-base-uncased", 12, 768, "bert", 3072, 30522, 512, 2)
_ROBERTA = EncoderShape("roberta-base", 12, 768, "roberta", 3072, 50265, 514, 1)
_LARGE: dict[str, Any] = {"layers": 24, "width": 1024, "intermediate": 4096}

SHAPES = {
    shape.name: shape
    for shape in (
        _BERT,
        replace(_BERT, name="bert-base-cased", vocab=28996),
        replace(_BERT, name="bert-large-uncased", **_LARGE),
        _ROBERTA,
        replace(_ROBERTA, name="roberta-large", **_LARGE),
        EncoderShape("distilbert-base-uncased", 6, 768, "distilbert", 3072, 30522, 512),
        EncoderShape("electra-small-discriminator", 12, 256, "electra", 1024, 30522, 512, 2, 128),
        EncoderShape("electra-base-discriminator", 12, 768, "electra", 3072, 30522, 512, 2, 768),
        EncoderShape("all-MiniLM-L6-v2", 6, 384, "bert", 1536, 30522, 512, 2),
    )
}
"""Encoders whose shape is known by name, an organisation before it or not."""

_KEYS = {
    "layers": ("num_hidden_layers", "n_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "dim", "n_embd", "d_model"),
    "intermediate": ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff"),
    "vocab": ("vocab_size",),
    "positions": ("max_position_embeddings",),
    "types": ("type_vocab_size",),
    "embedding": ("embedding_size",),
}
"""Where a config keeps each number: families of encoders name them differently."""


def encoder_shape(encoder: str | os.PathLike[str]) -> EncoderShape:
    """The shape of an encoder, from a `config.json` (or its folder), or by name from the table.

    Raises:
        EncoderError: neither a file nor a known name, or the file is not an encoder's config.
    """
    path = Path(encoder)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    if path.is_file():
        try:
            config = read_json(path)
        except XpeftError as error:
            raise EncoderError(str(error)) from None
        name = path.resolve().parent.name if path.name == "config.json" else path.stem
        return shape_from_config(config, name, where=str(path))
    name = str(encoder).rsplit("/", 1)[-1]
    if name not in SHAPES:
        raise EncoderError(
            f"encoder {str(encoder)!r}: no such config file and no known name; give the path of "
            f"its config.json, or one of {', '.join(sorted(SHAPES))}"
        )
    return SHAPES[name]


def shape_from_config(config: Any, name: str, *, where: str = "config") -> EncoderShape:
    """The shape that a config in the manner of transformers tells.

    Raises:
        EncoderError: it has no number of blocks or no width, or one is not a positive integer.
    """
    if not isinstance(config, dict):
        raise EncoderError(
            f"{where}: found {type(config).__name__}, expected the object of an encoder's config"
        )
    found: dict[str, int] = {}
    for field, keys in _KEYS.items():
        key = next((key for key in keys if config.get(key) is not None), None)
        if key is None:
            if field in ("layers", "width"):
                raise EncoderError(f"{where}: expected one of the keys {', '.join(keys)}")
            continue
        least = 0 if field in ("positions", "types") else 1
        if type(config[key]) is not int or config[key] < least:
            raise EncoderError(
                f"{where}: {key}: found {config[key]!r}, expected an integer of at least {least}"
            )
        found[field] = config[key]
    return EncoderShape(name, family=config.get("model_type"), **found)
