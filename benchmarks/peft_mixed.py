"""peft beside it: a batch of texts with one LoRA, and with a LoRA each through `adapter_names`.

    python benchmarks/peft_mixed.py FOLDER_OF_THE_ENCODER

Run by benchmarks/serving.py in an environment that has peft; needs nothing of xpeft. Prints JSON:
seconds of the fastest pass of both kinds, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import time

import peft
import torch
from transformers import AutoModel


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    config = peft.LoraConfig(r=8, target_modules=["query", "value"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModel.from_pretrained(options.folder), config, "0")
    for row in range(1, options.rows):
        model.add_adapter(str(row), config)
    model.set_adapter("0")
    model.eval()
    ids = torch.randint(1000, 20000, (options.rows, options.tokens))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = {
        "one": {},
        "mixed": {"adapter_names": [str(row) for row in range(options.rows)]},
    }
    taken: dict[str, list[float]] = {kind: [] for kind in names}
    with torch.no_grad():
        for turn in range(options.rounds + 1):
            for kind in names if turn % 2 else reversed(list(names)):
                begun = clock()
                model(**inputs, **names[kind])
                taken[kind].append(clock() - begun)
    seconds = {kind: min(values[1:]) for kind, values in taken.items()}
    print(json.dumps({"version": peft.__version__, **seconds}))


if __name__ == "__main__":
    main()
