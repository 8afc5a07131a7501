"""The verb `bank` and those below it: draw, train, import, look into, check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpeft.cli.parts import Args, Verbs, add_file, add_group, add_verb
from xpeft.cli.train import add_device, add_job, run_training
from xpeft.errors import ConfigError


def add(verbs: Verbs) -> None:
    """Add the verb and those below it."""
    group = add_group(verbs, "bank", "Make, inspect, import and export banks of adapters.")
    verb = add_verb(
        group,
        "random",
        "Write an untrained bank: its seed and shape, not its weights.",
        _bank_random,
        "xpeft bank random --encoder all-MiniLM-L6-v2 --n 100 --out banks/random100",
    )
    verb.add_argument("--encoder", required=True, help="name of an encoder, or its config.json")
    verb.add_argument("--n", type=int, default=100, help="adapters (default: %(default)s)")
    verb.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    verb.add_argument("--reduction", type=int, default=16, help="d / b (default: %(default)s)")
    verb.add_argument(
        "--init", choices=("uniform", "signed"), default="uniform", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--down-std", type=float, default=0.02, metavar="X", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--up-std", type=float, default=0.02, metavar="X", help="(default: %(default)s)"
    )
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    verb = add_verb(
        group,
        "info",
        "Show what a bank's manifest says, without reading its weights.",
        _bank_info,
        "xpeft bank info banks/random100",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb = add_verb(
        group,
        "verify",
        "Read a bank and compare its digest with its manifest.",
        _bank_verify,
        "xpeft bank verify banks/random100",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb = add_verb(
        group,
        "import",
        "Make a bank of AdapterHub folders, one adapter each.",
        _bank_import,
        "xpeft bank import adapters/sst2 adapters/rte --out banks/imported",
    )
    verb.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="AdapterHub folders")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    verb = add_verb(
        group,
        "export",
        "Write one adapter of a bank as a folder that AdapterHub loads.",
        _bank_export,
        "xpeft bank export banks/imported --adapter 0 --name sst2 "
        "--model-name bert-base-uncased --out adapters/sst2",
    )
    verb.add_argument("bank", type=Path, metavar="DIR", help="folder of the bank")
    verb.add_argument("--adapter", type=int, required=True, metavar="I", help="number, from 0")
    verb.add_argument("--name", required=True, help="name of the adapter")
    verb.add_argument("--model-name", required=True, help="encoder that it belongs to")
    verb.add_argument("--model-type", default="bert", help="its family (default: %(default)s)")
    add_file(verb, "--out", "folder to write", metavar="FOLDER", required=True)

    verb = add_verb(
        group,
        "pool",
        "Tune the adapters of one source task, all at once; goes on from a checkpoint.",
        _bank_pool,
        "xpeft bank pool --job results/small/jobs/pools/glue/rte.json "
        "--data results/small/data/glue/rte --out results/small/pools/glue/rte "
        "--work results/small/work/pools/glue/rte",
    )
    add_job(verb)
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)
    add_file(verb, "--work", "folder of checkpoints, for a later run", metavar="DIR", required=True)
    add_device(verb)
    verb = add_verb(
        group,
        "trained",
        "Make a bank of the adapters of some pools, taken in turn.",
        _bank_trained,
        "xpeft bank trained results/small/pools/glue/rte results/small/pools/glue/mrpc --n 20 "
        "--out banks/pairs",
    )
    verb.add_argument("pools", type=Path, nargs="+", metavar="POOL", help="folders of pools")
    verb.add_argument("--n", type=int, required=True, help="adapters of the bank")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _bank_random(args: Args) -> None:
    from xpeft.shapes import encoder_shape

    shape = encoder_shape(args.encoder)
    if args.reduction < 1 or shape.width % args.reduction:
        raise ConfigError(
            f"--reduction: found {args.reduction}, expected a divisor of the width {shape.width}"
        )
    from xpeft.bank import random_bank, save_bank

    bank = random_bank(
        shape.layers,
        args.n,
        shape.width,
        shape.width // args.reduction,
        seed=args.seed,
        init=args.init,
        down_std=args.down_std,
        up_std=args.up_std,
    )
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_info(args: Args) -> None:
    import json

    from xpeft.io import read_json

    print(json.dumps(read_json(args.bank / "manifest.json"), indent=1, sort_keys=True))


def _bank_verify(args: Args) -> None:
    from xpeft.bank import load_bank

    print(f"{args.bank}: ok, {_bank_text(load_bank(args.bank))}")


def _bank_import(args: Args) -> None:
    from xpeft.adapterhub import import_bank
    from xpeft.bank import save_bank

    bank = import_bank(args.folders)
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_export(args: Args) -> None:
    from xpeft.adapterhub import export_adapter
    from xpeft.bank import load_bank

    bank = load_bank(args.bank)
    if not 0 <= args.adapter < bank.n:
        raise ConfigError(f"--adapter: found {args.adapter}, expected 0 to {bank.n - 1}")
    export_adapter(
        bank.adapter(args.adapter),
        args.out,
        name=args.name,
        model_name=args.model_name,
        model_type=args.model_type,
        hidden_size=bank.width,
    )
    print(f"{args.out}: adapter {args.adapter} of {args.bank}")


def _bank_pool(args: Args) -> int:
    from xpeft.job import PoolJob

    def run(job: PoolJob, **options: Any) -> None:
        from xpeft.pool import train_pool

        train_pool(job, args.data, args.out, args.work, **options)

    return run_training(args, PoolJob.read(args.job), run)


def _bank_trained(args: Args) -> None:
    from xpeft.bank import save_bank
    from xpeft.pool import make_trained_bank

    bank = make_trained_bank(args.pools, args.n)
    save_bank(bank, args.out)
    print(f"{args.out}: {_bank_text(bank)}")


def _bank_text(bank: Any) -> str:
    return (
        f"{bank.kind} bank, L={bank.layers} N={bank.n} d={bank.width} b={bank.bottleneck}, "
        f"sha256 {bank.digest}"
    )
