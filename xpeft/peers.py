"""The peers: LoRA and its kin, built by the library `peft` around the same frozen encoder.

They are baselines, so nothing of them is written anew: `peft` makes the layers, initialises them
and saves them; the trainer, optimizer and head are those of all methods. A copy of the encoder's
modules shares its frozen weights, and the peer's own parameters are given to each pass, so the
encoder itself is never changed. One profile trains at a time.

What a profile stores is the weights file that `peft` writes for it, `adapter_model.safetensors`,
to the byte. Projections and indices that a seed makes again (VeRA, UniLoRA) are not in that file;
they are the same for all profiles, as `peft` has them by default.

`peft` is imported here and nowhere else, when the first peer is made: pip install 'xpeft[peers]'.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xpeft.encoder import Delta, Encoder, Run
from xpeft.errors import ConfigError
from xpeft.hashing import derive_key
from xpeft.methods import Parameters, trained_dtype
from xpeft.peersizes import (
    LORA_RANK,
    PROMPT_TOKENS,
    UNILORA_LENGTH,
    UNILORA_RANK,
    VBLORA_RANK,
    VBLORA_TOP,
    VBLORA_VECTORS,
    VERA_RANK,
    vblora_length,
)

PREFIX = "peer."
"""Of the names of a peer's parameters, before their names in peft's model."""

_QUERY_VALUE = {"distilbert": ["q_lin", "v_lin"]}
_OUTPUTS = ("output.dense", "out_lin", "lin2")  # layers whose inputs (IA)3 scales, not outputs


@dataclass(frozen=True)
class Kind:
    """What `peft` is told for a peer; what is not said here is its default.

    Attributes:
        config: the name of its config class.
        settings: that config's values.
        targets: the layers it changes, as names of BERT's, RoBERTa's and ELECTRA's modules; none
            for prompts.
        targets_in: the same layers in families that name them otherwise.
    """

    config: str
    settings: Mapping[str, Any]
    targets: tuple[str, ...] = ("query", "value")  # as all these papers have it on GLUE
    targets_in: Mapping[str, list[str]] = field(default_factory=lambda: _QUERY_VALUE)


KINDS = {
    "lora": Kind("LoraConfig", {"r": LORA_RANK, "lora_alpha": LORA_RANK}),
    # Liu et al., 2205.05638: keys, values, and the inputs of a block's output layers, as peft maps
    # it to BERT (both output layers, where the paper has only the feed-forward one)
    "ia3": Kind(
        "IA3Config",
        {},
        targets=("key", "value", "output.dense"),
        targets_in={"distilbert": ["k_lin", "v_lin", "out_lin", "lin2"]},
    ),
    # its projections are a seed, not bytes
    "vera": Kind("VeraConfig", {"r": VERA_RANK, "save_projection": False}),
    # one rate for logits and vectors is ours; the paper's are 0.01 and 0.001
    "vblora": Kind(
        "VBLoRAConfig",
        {
            "r": VBLORA_RANK,
            "num_vectors": VBLORA_VECTORS,
            "topk": VBLORA_TOP,
            "save_only_topk_weights": True,
        },
    ),
    "unilora": Kind("UniLoraConfig", {"r": UNILORA_RANK, "theta_d_length": UNILORA_LENGTH}),
    # prompts start as embeddings of sampled words, as Lester et al. do; peft's default, numbers
    # of size 1, is far from any word
    "prompt_tuning": Kind(
        "PromptTuningConfig",
        {
            "num_virtual_tokens": PROMPT_TOKENS,
            "prompt_tuning_init": "SAMPLE_VOCAB",
            "task_type": "FEATURE_EXTRACTION",
        },
        targets=(),
    ),
}
"""The peers by the method's name. Sizes and their sources stand in `xpeft.peersizes`."""


class Peer:
    """A method of other work, as `peft` has it. See `xpeft.methods.Method`."""

    frozen = False
    together: int | None = 1

    def __init__(self, encoder: Encoder, method: str) -> None:
        """Build the layers of `method`, one of KINDS, around a copy of the encoder's modules.

        Raises:
            ConfigError: `peft` is not installed.
        """
        self.method = method
        self._encoder = encoder
        self._model = self._build(0, trained_dtype(encoder))
        self._names = list(_own(self._model))

    def init(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """See `Method.init`. The numbers are peft's, drawn from the profile's seed."""
        dtype = trained_dtype(self._encoder)
        made = [_own(self._build(seed, dtype)) for seed in seeds]
        return {PREFIX + name: torch.stack([own[name] for own in made]) for name in self._names}

    def deltas(self, parameters: Parameters, rows: Tensor) -> list[Delta] | None:
        """See `Method.deltas`."""
        return None

    def run(self, parameters: Parameters) -> Run | None:
        """See `Method.run`."""
        own = {name: parameters[PREFIX + name][0] for name in self._names}

        def run(arguments: dict[str, Any]) -> Tensor:
            states: Tensor = torch.func.functional_call(self._model, own, (), arguments)
            return states

        return run

    def save(self, one: Parameters, folder: str | Path) -> Path:
        """Write a profile as `peft` does, in float32, and return its weights file.

        Args:
            one: the parameters of one profile, name -> [...]; a head among them is left out.
            folder: gets the weights, their config and a model card.
        """
        adapted = self._build(0, torch.float32)
        own = dict(adapted.named_parameters())
        with torch.no_grad():
            for name in self._names:
                own[name].copy_(one[PREFIX + name])
        adapted.peft_model.save_pretrained(folder, save_embedding_layers=False)
        return Path(folder) / "adapter_model.safetensors"

    def saved_bytes(self, one: Parameters) -> int:
        """Bytes of that file."""
        with tempfile.TemporaryDirectory() as folder:
            return self.save(one, folder).stat().st_size

    def _build(self, seed: int, dtype: torch.dtype) -> _Adapted:
        """The encoder's modules with the peer's in them, initialised from a seed."""
        shared = itertools.chain(self._encoder.model.parameters(), self._encoder.model.buffers())
        frozen = {id(tensor): tensor for tensor in shared}
        base = copy.deepcopy(self._encoder.model, dict(frozen))  # modules anew, the same weights
        with torch.random.fork_rng(), warnings.catch_warnings():
            # that VeRA's projections are not saved is what we want; the other is between libraries
            warnings.filterwarnings("ignore", message="Specified to not save vera_A")
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            torch.manual_seed(derive_key("init", self.method, seed) % 2**63)
            adapted = _Adapted(_library().get_peft_model(base, self._config()))
        for tensor in itertools.chain(adapted.parameters(), adapted.buffers()):
            if id(tensor) not in frozen and tensor.is_floating_point():
                tensor.data = tensor.data.to(self._encoder.device, dtype)
        return adapted.eval()

    def _config(self) -> Any:
        kind = KINDS[self.method]
        family = self._encoder.model.config.model_type
        settings = dict(kind.settings)
        if kind.targets:
            targets = kind.targets_in.get(family, list(kind.targets))
            settings["target_modules"] = targets
            if self.method == "ia3":
                settings["feedforward_modules"] = [name for name in targets if name in _OUTPUTS]
        if self.method == "vblora":
            settings["vector_length"] = vblora_length(self._encoder.width)
        return getattr(_library(), kind.config)(**settings)


class _Adapted(nn.Module):
    """peft's model with one way to call it: the encoder's arguments to the text's hidden states."""

    def __init__(self, peft_model: Any) -> None:
        super().__init__()
        self.peft_model = peft_model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Ids [B, T], mask [B, 1, T, T] of equal rows and types [B, T] to states [B, T, d].

        A prompt stands before the text and takes part in attention, but not in the pooled vector;
        its segment is 0, as peft's own classifiers have it.
        """
        model, count = self.peft_model, 0
        arguments: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            arguments["token_type_ids"] = token_type_ids
        if model.active_peft_config.is_prompt_learning:
            words = model.word_embeddings(arguments.pop("input_ids"))
            prompt = model.get_prompt(len(words)).to(words.dtype)
            count = prompt.shape[1]
            arguments["inputs_embeds"] = torch.cat([prompt, words], dim=1)
            whole = nn.functional.pad(attention_mask[:, :, :1], (count, 0), value=True)
            arguments["attention_mask"] = whole.expand(-1, -1, whole.shape[3], -1)
            if token_type_ids is not None:
                arguments["token_type_ids"] = nn.functional.pad(token_type_ids, (count, 0))
        states: Tensor = model.get_base_model()(**arguments).last_hidden_state
        return states[:, count:]


def _own(adapted: nn.Module) -> dict[str, Tensor]:
    """The parameters of a peer that are trained, by name; one that layers share stands once."""
    return {
        name: value.detach() for name, value in adapted.named_parameters() if value.requires_grad
    }


def _library() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            f"method: found a peer and no library peft ({error}), expected it installed; "
            "pip install 'xpeft[peers]'"
        ) from None
    return peft
