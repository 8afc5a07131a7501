"""A tiny encoder and tiny data, for tests that need a whole model but not a real one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import BertConfig, BertModel

from xpeft.encoder import Encoder, TokenTable
from xpeft.fitting import EncodedFeatures, Fitted, ProfileData, fit
from xpeft.heads import common_head, own_head
from xpeft.job import TaskHead
from xpeft.methods import Method
from xpeft.optimizer import Schedule

LAYERS, WIDTH, VOCABULARY = 2, 16, 40


def tiny_encoder(dtype: torch.dtype = torch.float64) -> Encoder:
    """A BERT of two blocks of width 16 with random weights, the same at every call."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config)
    return Encoder(model, name="tiny", dtype=dtype)


def tiny_tokens(rows: int, seed: int = 0, longest: int = 20) -> TokenTable:
    """Random token ids, 2 to `longest` a text."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest + 1, size=rows)
    ids = [random.integers(1, VOCABULARY, size=n).astype(np.int32) for n in lengths]
    types = [np.zeros(n, dtype=np.int32) for n in lengths]
    return TokenTable(ids, types, lengths.astype(np.int64), pad=0)


def tiny_profile(
    tokens: TokenTable, rows: Sequence[int], seed: int, classes: int = 2
) -> ProfileData:
    """A profile on some rows; its labels depend on the first token."""
    chosen = np.asarray(rows, dtype=np.int64)
    labels = np.array([int(tokens.ids[row][0]) % classes for row in chosen], dtype=np.int64)
    return ProfileData(chosen, labels, seed)


def train(
    encoder: Encoder,
    method: Method,
    tokens: TokenTable,
    profiles: Sequence[ProfileData],
    schedules: Sequence[Schedule],
    head: TaskHead = "private",
    **options: object,
) -> Fitted:
    """Train profiles from their seeds."""
    seeds = [profile.seed for profile in profiles]
    parameters = {**method.init(seeds), **own_head(head, seeds, 2, encoder)}
    features = EncodedFeatures(encoder, method)
    options = {"batch_size": 8, "shared": common_head(head, 2, encoder), **options}
    return fit(features, parameters, tokens, profiles, schedules, **options)  # type: ignore[arg-type]
