"""Pools: adapters tuned on one source task each, and the `trained` banks that are made of them.

A pool holds the adapters of one source task, all tuned at once by the trainer, each with a head
of its own that is thrown away. Adapters 2s and 2s + 1 start from the seed s and see one half each
of the task's rows, divided by that seed. The bank of a target takes adapters from the pools in
turn, from those of all sources but the target itself and its near-duplicates; a larger bank
begins with the adapters of a smaller one.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xpeft.bank import Bank, load_bank, save_bank
from xpeft.data.prepared import Prepared, load_prepared
from xpeft.encoder import Encoder, load_encoder
from xpeft.errors import BankError, ConfigError
from xpeft.fitting import EncodedFeatures, ProfileData, fit, schedule_of
from xpeft.hashing import derive_key, mix64, sample
from xpeft.heads import init_head
from xpeft.job import PoolJob
from xpeft.labels import LabelScale
from xpeft.machine import set_determinism
from xpeft.methods import SingleAdapter
from xpeft.running import Provenance, progress_bar, sigterm_flag

log = logging.getLogger(__name__)


def train_pool(
    job: PoolJob,
    data_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Tune the adapters of one source task and write them as a bank folder.

    Args:
        job: what to do.
        data_dir: prepared folder of the source task; its validation rows are not touched.
        out: folder to write.
        work_dir: checkpoints; removed at the end.
        device: "cpu" or "cuda".
        threads: of the CPU; None for the job's own number.

    Raises:
        ConfigError: the folder holds another task, or no such device.
        DataError, EncoderError: an input is missing or damaged.
        Interrupted: SIGTERM came; a checkpoint was written.
    """
    set_determinism(device, threads or job.threads)
    provenance = Provenance(device, threads or job.threads)
    prepared = load_prepared(data_dir)
    meta = prepared.meta
    if (meta.suite, meta.task) != (job.suite, job.task):
        raise ConfigError(
            f"{data_dir}: found data of {meta.suite}/{meta.task}, expected {job.suite}/{job.task}"
        )
    encoder = load_encoder(job.encoder, device)
    identity = provenance.identity(
        encoder, "pool", config_sha256=job.config_hash(), files=meta.files
    )
    with sigterm_flag() as stop:
        bank = _tune(job, prepared, encoder, Path(work_dir), identity, stop.is_set)
    save_bank(bank, out)
    shutil.rmtree(work_dir, ignore_errors=True)


def half(rows: npt.NDArray[np.int64], adapter: int, seed: int) -> npt.NDArray[np.int64]:
    """The rows that adapter `adapter` of a pool sees, ascending; its twin sees all others."""
    order = np.argsort(mix64(rows, derive_key("half", seed + adapter // 2)), kind="stable")
    middle = len(rows) // 2
    return np.sort(rows[order[middle:] if adapter % 2 else order[:middle]])


def make_trained_bank(pools: Sequence[str | os.PathLike[str]], n: int) -> Bank:
    """The bank of N adapters that takes from these pools in turn.

    Raises:
        BankError: a folder is no pool, pools of one task or of different encoders meet, or they
            hold too few adapters.
    """
    banks: dict[str, Bank] = {}
    for folder in pools:
        bank = load_bank(folder)
        task = bank.recipe.get("task")
        if bank.kind != "trained" or not isinstance(task, str):
            raise BankError(
                f"{folder}: found a {bank.kind} bank, expected a pool; make it with xpeft bank pool"
            )
        if task in banks:
            raise BankError(f"{folder}: found a second pool of {task}, expected one a task")
        banks[task] = bank
    encoders = {str(bank.recipe["encoder"]) for bank in banks.values()}
    if len(encoders) > 1:
        raise BankError(f"pools: found those of {len(encoders)} encoders, expected one encoder")
    places = [(task, turn) for turn in range(n) for task, b in banks.items() if turn < b.n][:n]
    if len(places) < n or not places:
        total = sum(bank.n for bank in banks.values())
        raise BankError(f"pools: found {total} adapters in {len(banks)} pools, expected {n}")
    recipe = {
        "sources": list(banks),
        "adapters": [[task, turn] for task, turn in places],
        "pools": {task: bank.digest for task, bank in banks.items()},
        "encoder": next(iter(banks.values())).recipe["encoder"],
    }
    adapters = [banks[task].adapter(turn) for task, turn in places]
    return Bank.stack(adapters, kind="trained", recipe=recipe)


def require_foreign(recipe: Mapping[str, Any], task: str, excluded: Sequence[str]) -> None:
    """Refuse a trained bank in which the target, or a near-duplicate of it, is a source.

    Raises:
        BankError: it has such a source.
    """
    known = set(recipe.get("sources", [])) & {task, *excluded}
    if known:
        raise BankError(
            f"bank: found adapters tuned on {', '.join(sorted(known))}, expected none of "
            f"{task} or its near-duplicates"
        )


def _tune(
    job: PoolJob,
    prepared: Prepared,
    encoder: Encoder,
    work: Path,
    identity: dict[str, str],
    stop: Any,
) -> Bank:
    train = prepared.train
    rows = sample(train.rows, job.max_train_rows, derive_key("pool", job.seed))
    scale = LabelScale.of(train.labels[rows])
    labels = scale.normalize(train.labels)
    seeds = [job.seed + adapter // 2 for adapter in range(job.adapters)]
    profiles = []
    for adapter, seed in enumerate(seeds):
        seen = half(rows, adapter, job.seed)
        profiles.append(ProfileData(seen, labels[seen], seed))
    log.info("pool: %d adapters, %d rows each", job.adapters, len(profiles[0].rows))
    method = SingleAdapter(encoder, job.reduction)
    start = {**method.init(seeds), **init_head(seeds, prepared.meta.num_outputs, encoder)}
    with progress_bar(f"pool {job.task}") as progress:
        fitted = fit(
            EncodedFeatures(encoder, method),
            start,
            encoder.tokenize(train.texts, train.pairs),
            profiles,
            [schedule_of(job.training, len(profile.rows)) for profile in profiles],
            batch_size=job.training.batch_size,
            rows_at_once=job.training.rows_at_once,
            checkpoint=work / "pool.safetensors",
            identity=identity,
            checkpoint_seconds=job.training.checkpoint_seconds,
            stop=stop,
            progress=progress,
        )
    tail = {p: float(losses[-20:].mean()) for p, losses in enumerate(fitted.losses)}
    if diverged := [p for p, loss in tail.items() if not np.isfinite(loss)]:
        raise ConfigError(f"pool {job.task}: adapters {diverged} diverged; lower training.lr")
    tensors = {
        name: fitted.parameters[name].transpose(0, 1).to("cpu", torch.float32).contiguous()
        for name in ("down", "up", "down_bias", "up_bias")
    }
    recipe = {
        "task": f"{job.suite}/{job.task}",
        "seeds": seeds,
        "rows": [len(profile.rows) for profile in profiles],
        "losses": [float(f"{loss:.6g}") for loss in tail.values()],
        "job": job.config_hash(),
        "data": dict(prepared.meta.files),
        "encoder": {"name": encoder.name, "sha256": encoder.digest},
    }
    return Bank(**tensors, kind="trained", recipe=recipe)
