"""A batch in which every row has a profile of its own, beside one with one profile for all.

    python benchmarks/serving.py [--rows 32] [--tokens 32] [--rounds 24] [--peft PYTHON]

`mixed` is 32 texts with 32 profiles, from the cache. It is held against the faster of two ways to
serve 32 texts with one profile: through the same code, and with the adapter's two matrices applied
to all rows at once, as a model with one adapter would. `cold` makes all 32 adapters from their
codes in the store first; its bound says only that this is no reason to keep adapters on disk.

Passes of all kinds alternate in one process, so that a busy machine slows them alike; a figure is
that of the fastest pass, to which other load can only have added. With one thread, --clock cpu
counts the time of this process alone, which a machine that does other things leaves steadier.

With --peft, or where .venv-oracle has the library peft, the same is measured there: LoRA adapters
(r = 8, query and value) of the same encoder, `adapter_names` for a mixed batch.

Prints a line a figure (name, value, bound, ok or MISSED); exits 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xpeft.bank import Bank
from xpeft.encoder import Encoder, _package_folder, load_encoder
from xpeft.heads import init_head, linear_heads
from xpeft.job import BankSpec, EncoderSpec, MethodSpec
from xpeft.layers import NORM_EPS
from xpeft.methods import BankMasks, make_bank
from xpeft.profiles import ProfileFormat, Profiles
from xpeft.serving import XPeft
from xpeft.store import ProfileStore

MIXED_BOUND = 1.15
WORDS = "the of and to in for on with as by at from his her they we you it was are".split()
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
METHODS = {
    "hard k=50 of 100": (MethodSpec(mask="hard", k=50), 100),
    "hard k=10 of 100": (MethodSpec(mask="hard", k=10), 100),
    "soft N=100": (MethodSpec(mask="soft"), 100),
}


def fastest(
    passes: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of the fastest of `rounds` passes of each kind, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for run in passes.values():
        run()
    for turn in range(rounds):
        for name in passes if turn % 2 else reversed(list(passes)):
            begun = clock()
            passes[name]()
            taken[name].append(clock() - begun)
    return {name: min(values) for name, values in taken.items()}


def make_store(path: Path, encoder: Encoder, bank: Bank, spec: MethodSpec, profiles: int) -> None:
    """A store of profiles with random masks and heads; ids 0 to `profiles` - 1."""
    method = BankMasks(encoder, bank, spec)
    seeds = range(profiles)
    parameters = {**method.init(seeds), **init_head(seeds, 2, encoder)}
    form = ProfileFormat.of(encoder, bank, spec, ("no", "yes"))
    with ProfileStore.create(path, form) as store:
        store.put_many(Profiles.from_parameters(list(seeds), parameters, method))


@torch.no_grad()
def one_for_all(served: XPeft, texts: list[str]) -> Callable[[], Tensor]:
    """A pass with one profile, its matrices applied to all rows in one product each."""
    encoder = served.encoder
    (ready,) = served._cache.ready([0])
    assert ready.weight is not None and ready.bias is not None
    weight, bias, rows = ready.weight, ready.bias, torch.zeros(len(texts), dtype=torch.int64)

    def delta(layer: int) -> Callable[[Tensor], Tensor]:
        down, up = ready.blocks[layer].down[0], ready.blocks[layer].up[0]
        size = down.shape[1:]
        return lambda hidden: (
            functional.relu(functional.layer_norm(hidden @ down, size, eps=NORM_EPS)) @ up
        )

    deltas = [delta(layer) for layer in range(encoder.layers)]

    @torch.no_grad()
    def run() -> Tensor:
        table = encoder.tokenize(texts)
        vectors = encoder(table.batch(np.arange(len(texts))), deltas)
        return linear_heads(vectors, weight, bias, rows)

    return run


def measure(
    name: str, encoder: Encoder, folder: Path, texts: list[str], options: argparse.Namespace
) -> bool:
    """Print the figures of a method; whether a bound was missed."""
    spec, n = METHODS[name]
    bank = make_bank(encoder, BankSpec(n=n))
    path = folder / f"{name}.xps"
    rows = len(texts)
    make_store(path, encoder, bank, spec, rows)
    with (
        XPeft.load(encoder, bank, path) as warm,
        XPeft.load(encoder, bank, path, cache_bytes=0) as cold,
    ):
        seconds = fastest(
            {
                "bare encoder": torch.no_grad()(
                    lambda: encoder(encoder.tokenize(texts).batch(np.arange(rows)))
                ),
                "one, one product": one_for_all(warm, texts),
                "one": lambda: warm.logits(texts, 0),
                "mixed": lambda: warm.logits(texts, range(rows)),
                "cold": lambda: cold.logits(texts, range(rows)),
            },
            options.rounds,
            CLOCKS[options.clock],
        )
    one = min(seconds["one"], seconds["one, one product"])
    shown = ", ".join(f"{kind} {1000 * value:.1f} ms" for kind, value in seconds.items())
    print(f"{name}: {shown}")
    ratio = seconds["mixed"] / one
    verdict = "ok" if ratio <= MIXED_BOUND else "MISSED"
    print(f"{name}, mixed / one profile: {ratio:.3f} (bound {MIXED_BOUND:.2f}) {verdict}")
    made = 1000 * (seconds["cold"] - seconds["mixed"]) / rows
    print(f"{name}, cold / one profile: {seconds['cold'] / one:.3f}; {made:.2f} ms a profile")
    return ratio > MIXED_BOUND


def measure_peft(python: str | None, options: argparse.Namespace) -> None:
    """Print peft's figures, or why there are none."""
    here = Path(__file__).resolve().parent
    command = python or str(here.parent / ".venv-oracle" / "bin" / "python")
    arguments = [command, str(here / "peft_mixed.py"), str(_package_folder("all-MiniLM-L6-v2"))]
    for name in ("rows", "tokens", "rounds", "threads", "clock"):
        arguments += [f"--{name}", str(getattr(options, name))]
    try:
        found = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        seconds = json.loads(found.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        print(f"peft, mixed / one adapter: not measured ({said[-1] if said else error})")
        return
    ratio = seconds["mixed"] / seconds["one"]
    print(
        f"peft {seconds['version']}, {options.rows} LoRAs, mixed / one adapter: {ratio:.3f} "
        f"(one {1000 * seconds['one']:.1f} ms, mixed {1000 * seconds['mixed']:.1f} ms)"
    )


def main() -> int:
    """Measure, print, and say whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--peft", metavar="PYTHON", help="an interpreter that has peft")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu needs --threads 1: idle threads would be counted")
    torch.set_num_threads(options.threads)
    encoder = load_encoder(EncoderSpec(dtype="float32"))
    random = np.random.default_rng(0)
    # words that are one token each, and two tokens around them
    texts = [" ".join(random.choice(WORDS, options.tokens - 2)) for _ in range(options.rows)]
    assert set(encoder.tokenize(texts).lengths) == {options.tokens}
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            missed |= measure(name, encoder, Path(folder), texts, options)
    measure_peft(options.peft, options)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
