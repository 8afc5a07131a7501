"""Fixtures that say what AdapterHub's library computes, made by that library itself.

    make oracle                                     # sets up .venv-oracle and runs this
    .venv-oracle/bin/python oracle/make_fixtures.py --out tests/fixtures/adapterhub

For a tiny random encoder of each family it writes:

    FAMILY/encoder/         config and weights (float16: every value is exact, at half the bytes)
    FAMILY/adapters/NAME/   adapters as `model.save_adapter` writes them
    FAMILY/outputs.safetensors  inputs, a linear head, and last hidden states and logits without
                            adapter, with each adapter, and with their weighted `average_adapter`
    refused.json            configs of other kinds of adapters, as the library writes them
    meta.json               versions, weights of the average, and the round-trip checks below

It also takes our exports the other way: each adapter, and the aggregate of a profile whose masks
are the average's weights, is written by `xpeft.adapterhub.export_adapter`, loaded by AdapterHub's
library, and must give the same logits. `meta.json` keeps the differences and the sha256 of each
exported file, so that the tests can tell that today's export is still the one that was checked.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import AutoAdapterModel
from safetensors.torch import save
from torch import Tensor, nn
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    PretrainedConfig,
    RobertaConfig,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from xpeft.adapterhub import export_adapter, import_adapter, import_bank
from xpeft.encoder import Encoder
from xpeft.io import (
    atomic_directory,
    sha256_file,
    write_json,
)
from xpeft.job import MethodSpec
from xpeft.methods import BankMasks

LAYERS, WIDTH, VOCABULARY, CLASSES = 2, 32, 50, 3
CONFIG = "seq_bn[reduction_factor=8]"  # a bottleneck of 4
LENGTHS = (8, 5, 3)  # tokens of each text; the others are padding
WEIGHTS = {"first": 0.7, "second": -0.4, "third": 1.1}  # do not sum to one, and one is negative
TOLERANCE = 1e-5  # an average may be summed in another order

REFUSED = (
    "seq_bn[reduction_factor=8,non_linearity='swish']",
    "seq_bn[reduction_factor=8,non_linearity='gelu']",
    "seq_bn[reduction_factor=8,scaling='learned']",
    "seq_bn[reduction_factor=8,use_gating=True]",
    "seq_bn[reduction_factor=8,leave_out=[1]]",
    "seq_bn_inv[reduction_factor=8]",
    "double_seq_bn[reduction_factor=8]",
    "par_bn[reduction_factor=8]",
    "compacter++[reduction_factor=8]",
    "lora",
    "prefix_tuning",
    "unipelt",
)

FAMILIES: dict[str, PretrainedConfig] = {
    "bert": BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    ),
    "roberta": RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=18,  # positions start behind the padding id
        type_vocab_size=1,
    ),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=WIDTH,
        n_layers=LAYERS,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=16,
    ),
    "electra": ElectraConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        embedding_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    ),
}


def main() -> None:
    """Make all fixtures; exit 1 where a round trip fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures/adapterhub"))
    out = parser.parse_args().out.resolve()
    transformers.logging.set_verbosity_error()
    logging.getLogger("adapters").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with atomic_directory(out) as temporary:
        families = {name: make_family(temporary / name, name) for name in FAMILIES}
        write_json(temporary / "refused.json", refused_configs(temporary / "bert" / "encoder"))
        meta = {
            "versions": {
                "adapters": adapters.__version__,
                "transformers": transformers.__version__,
                "torch": torch.__version__.split("+")[0],
            },
            "weights": WEIGHTS,
            "families": families,
        }
        write_json(temporary / "meta.json", meta)
        for path in temporary.rglob("*"):  # safetensors makes its files private
            path.chmod(0o755 if path.is_dir() else 0o644)
    worst = 0.0
    for name, family in families.items():
        difference = max(family["round_trip"].values())
        worst = max(worst, difference)
        print(f"{name}: logits after export and reload differ by at most {difference:.1e}")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size} bytes")
    if worst > TOLERANCE:
        sys.exit(f"a round trip failed: found a difference of {worst:.1e}, expected {TOLERANCE}")


def make_family(folder: Path, family: str) -> dict[str, Any]:
    """Write one family's folder; returns its part of `meta.json`."""
    seed = 1 + list(FAMILIES).index(family)
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir()
    make_encoder(folder / "encoder", FAMILIES[family], generator)
    model = load(folder / "encoder", family)
    for name in WEIGHTS:
        model.add_adapter(name, config=CONFIG)
        randomize_adapter(model, name, generator)
    # What the hub holds: most files are pickles of a model with heads, newer ones safetensors;
    # a plain model leaves its prefix out of the names.
    plain = load_plain(folder / "encoder", family)
    copy_adapter(model, plain, "third")
    adapter_folders = {name: folder / "adapters" / name for name in WEIGHTS}
    (folder / "adapters").mkdir()
    model.save_adapter(str(adapter_folders["first"]), "first")
    model.save_adapter(str(adapter_folders["second"]), "second", use_safetensors=True)
    plain.save_adapter(str(adapter_folders["third"]), "third", use_safetensors=True)

    inputs = make_inputs(family, generator)
    head = {
        "head.weight": torch.randn(CLASSES, WIDTH, generator=generator) / WIDTH**0.5,
        "head.bias": torch.randn(CLASSES, generator=generator),
    }
    model.average_adapter(
        "average", list(WEIGHTS), weights=list(WEIGHTS.values()), normalize_weights=False
    )
    results: dict[str, Tensor] = {}
    for name in (None, *WEIGHTS, "average"):
        states = run(model, inputs, name)
        results[f"states.{name}"] = states
        results.update(logits(states, inputs["attention_mask"], head, str(name)))
    outputs = folder / "outputs.safetensors"
    outputs.write_bytes(save({**inputs, **head, **results}))
    trips, exported = check_round_trips(folder, family, adapter_folders, inputs, head, results)
    return {
        "spread": {  # how much the adapters change the logits: the parity tests are not vacuous
            name: difference(results, str(None), name) for name in (*WEIGHTS, "average")
        },
        "round_trip": trips,
        "exported_sha256": exported,
    }


def make_encoder(folder: Path, config: PretrainedConfig, generator: torch.Generator) -> None:
    """A model whose every parameter matters, with values that float16 holds exactly."""
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            draws = torch.randn(value.shape, generator=generator)
            if value.ndim == 2:
                value.copy_(draws * 0.2)
            elif "norm" in name.lower() and name.endswith("weight"):
                value.copy_(1 + 0.2 * draws)
            else:
                value.copy_(0.2 * draws)
    if getattr(model, "pooler", None) is not None:  # not used, and a tenth of the bytes
        model.pooler = None
    model.half().save_pretrained(folder)


def load(folder: Path, family: str) -> Any:
    """An AdapterHub model on the tiny encoder, in float32."""
    model = AutoAdapterModel.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.name_or_path = f"xpeft-tests/tiny-{family}"  # not the path on this machine
    return model


def load_plain(folder: Path, family: str) -> Any:
    """The same without heads, as `adapters.init` makes it."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.name_or_path = f"xpeft-tests/tiny-{family}"
    adapters.init(model)
    return model


def copy_adapter(source: Any, target: Any, name: str) -> None:
    """Give one model the adapter of another."""
    target.add_adapter(name, config=CONFIG)
    values = adapter_parameters(source, name)
    with torch.no_grad():
        for key, value in adapter_parameters(target, name).items():
            value.copy_(values[key])


def adapter_parameters(model: Any, name: str) -> dict[str, nn.Parameter]:
    """Parameters of one adapter, by names that do not depend on the kind of model."""
    prefix = f"{model.base_model_prefix}."
    return {
        key.removeprefix(prefix): value
        for key, value in model.named_parameters()
        if f".adapters.{name}." in key
    }


def randomize_adapter(model: Any, name: str, generator: torch.Generator) -> None:
    """Weights and biases large enough to change the logits."""
    with torch.no_grad():
        for value in adapter_parameters(model, name).values():
            value.copy_(0.4 * torch.randn(value.shape, generator=generator))


def make_inputs(family: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Three texts of different lengths, padded; segment ids where the family has them."""
    config = FAMILIES[family]
    width = max(LENGTHS)
    mask = torch.arange(width) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, VOCABULARY, (len(LENGTHS), width), generator=generator)
    inputs = {
        "input_ids": ids.masked_fill(~mask, config.pad_token_id),
        "attention_mask": mask.long(),
    }
    if getattr(config, "type_vocab_size", 0) > 1:  # the second half of a text is its second segment
        second = torch.arange(width) >= (torch.tensor(LENGTHS)[:, None] + 1) // 2
        inputs["token_type_ids"] = (second & mask).long()
    return inputs


def run(model: Any, inputs: dict[str, Tensor], adapter: str | None) -> Tensor:
    """Last hidden states [B, T, d] with one adapter active, or none."""
    model.set_active_adapters(adapter)
    with torch.no_grad():
        states: Tensor = model(**inputs).last_hidden_state
    return states.contiguous()


def logits(states: Tensor, mask: Tensor, head: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Logits [B, C] of the first token's state and of the mean over the tokens."""
    kept = states * mask.unsqueeze(2)
    pooled = {"cls": states[:, 0], "mean": kept.sum(1) / mask.sum(1, keepdim=True)}
    return {
        f"logits.{pooling}.{name}": nn.functional.linear(
            value, head["head.weight"], head["head.bias"]
        )
        for pooling, value in pooled.items()
    }


def refused_configs(encoder: Path) -> dict[str, Any]:
    """`adapter_config.json` of adapters that are not Pfeiffer's with ReLU, by config string."""
    found = {}
    for config in REFUSED:
        model = load(encoder, "bert")
        model.add_adapter("first", config=config)
        with tempfile.TemporaryDirectory() as temporary:
            model.save_adapter(temporary, "first")
            found[config] = json.loads(Path(temporary, "adapter_config.json").read_text())
    return found


def difference(results: dict[str, Tensor], first: str, second: str) -> float:
    """Largest difference of logits between two results."""
    return max(
        float((results[f"logits.{p}.{first}"] - results[f"logits.{p}.{second}"]).abs().max())
        for p in ("cls", "mean")
    )


def check_round_trips(
    folder: Path,
    family: str,
    adapter_folders: dict[str, Path],
    inputs: dict[str, Tensor],
    head: dict[str, Tensor],
    results: dict[str, Tensor],
) -> tuple[dict[str, float], dict[str, dict[str, str]]]:
    """Export with xpeft, load with AdapterHub: largest differences of logits, and file hashes."""
    ours = {name: import_adapter(path) for name, path in adapter_folders.items()}
    encoder = Encoder(
        AutoModel.from_pretrained(folder / "encoder", dtype=torch.float32), name=family
    )
    spec = MethodSpec(mask="soft", activation="linear", norm="none", scale="sum")
    method = BankMasks(encoder, import_bank(list(adapter_folders.values())), spec)
    scores = torch.tensor(list(WEIGHTS.values())).expand(1, LAYERS, len(WEIGHTS))
    ours["average"] = method.export({"mask_a": scores, "mask_b": scores}, 0)

    trips, exported = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, adapter in ours.items():
            path = Path(temporary) / name
            export_adapter(
                adapter,
                path,
                name=name,
                model_name=f"xpeft-tests/tiny-{family}",
                model_type=family,
                hidden_size=WIDTH,
            )
            exported[name] = {file.name: sha256_file(file) for file in sorted(path.iterdir())}
            for kind in ("heads", "plain"):
                model = (load if kind == "heads" else load_plain)(folder / "encoder", family)
                info: dict[str, Any] = {}
                model.load_adapter(str(path), use_safetensors=True, loading_info=info)
                missing, unexpected = info["missing_keys"], info["unexpected_keys"]
                if missing or unexpected:
                    sys.exit(f"{family} {name}: missing {missing}, unexpected {unexpected}")
                states = run(model, inputs, name)
                again = logits(states, inputs["attention_mask"], head, "again")
                trips[f"{name}.{kind}"] = difference({**results, **again}, name, "again")
    return trips, exported


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
