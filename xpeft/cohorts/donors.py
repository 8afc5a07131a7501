"""What the donors of a fold leave to its targets: the base, and the warm bank.

The base is trained on the rows of all donors as if they were one profile: a head on the plain
encoder, and an adapter with a head of its own. From that adapter, with that head frozen, each of
the N donors with most rows tunes an adapter (all at once, each from the same start and on its own
rows): the warm bank. Adapters that share a start and a head can be averaged, which is what masks
do to them.

A folder of donors:
    base.safetensors   head.*, adapter.*, adapter.head.*, without the dimension of profiles
    base.json          where it came from
    bank/              the warm bank, if the job asks for one
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xpeft.bank import Bank, save_bank
from xpeft.cohorts.inputs import Inputs, capped, load_inputs, profile_seed
from xpeft.errors import BankError, XpeftError
from xpeft.fitting import (
    EncodedFeatures,
    Features,
    Fitted,
    FrozenFeatures,
    ProfileData,
    fit,
    schedule_of,
)
from xpeft.heads import init_head
from xpeft.io import (
    atomic_directory,
    read_json,
    sha256_file,
    write_bytes,
    write_json,
)
from xpeft.job import DonorJob, TrainingSpec
from xpeft.methods import SingleAdapter
from xpeft.running import progress_bar, sigterm_flag

log = logging.getLogger(__name__)

SCHEMA = 1


@dataclass(frozen=True)
class Base:
    """What was trained on all donors together; tensors [1, ...].

    Attributes:
        head: head.weight and head.bias on the plain encoder.
        adapter: the parameters of one `single_adapter`.
        adapter_head: head.weight and head.bias on the encoder with that adapter.
        sha256: of the file.
    """

    head: dict[str, Tensor]
    adapter: dict[str, Tensor]
    adapter_head: dict[str, Tensor]
    sha256: str


def train_donors(
    job: DonorJob,
    data_dir: str | os.PathLike[str],
    fold: int,
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Train base and bank of one fold and write their folder.

    Args:
        job: what to do.
        data_dir: prepared folder of the cohort.
        fold: of the targets that they are for; the donors are of the other folds.
        out: folder to write.
        work_dir: checkpoints; removed at the end.
        device: "cpu" or "cuda".
        threads: of the CPU; None for the job's own number.

    Raises:
        BankError: there are fewer donors than the bank is to have adapters.
        ConfigError, DataError, EncoderError: as for `load_inputs`.
        Interrupted: SIGTERM came; a checkpoint was written.
    """
    inputs = load_inputs(job.encoder, data_dir, job.cohort, device, threads or job.threads)
    with sigterm_flag() as stop:
        run = _Run(job, inputs, fold, Path(work_dir), stop)
        base = run.base()
        bank = run.bank(base)
        run.write(Path(out), base, bank)
    shutil.rmtree(work_dir, ignore_errors=True)


def check_donors(folder: str | os.PathLike[str], inputs: Inputs, fold: int) -> None:
    """See that a folder of donors is of this cohort and fold.

    The donors of one fold are the targets of the other: those of the wrong fold would let a
    profile meet what was trained on itself.

    Raises:
        BankError: it is of another cohort, fold, or version of the data, or is no such folder.
    """
    path = Path(folder, "base.json")
    value = _read_manifest(path)
    try:
        found = value["cohort"], value["fold"]
        data = value["run"]["data_sha256"]
    except (KeyError, TypeError):
        raise BankError(f"{path}: found something else, expected a base.json of donors") from None
    meta = inputs.cohort.meta
    if found != (meta.task, fold):
        raise BankError(
            f"{path}: found donors of {found[0]}, fold {found[1]}, expected those of {meta.task}, "
            f"fold {fold}"
        )
    if data != dict(meta.files):
        raise BankError(
            f"{path}: found donors of other data of {meta.task} (by the hashes), expected those "
            "that profiles are trained on; run xpeft cohort donors again"
        )


def _read_manifest(path: Path) -> Any:
    try:
        return read_json(path)
    except XpeftError as error:
        raise BankError(f"{error}; run xpeft cohort donors first") from None


def load_base(folder: str | os.PathLike[str]) -> Base:
    """Read the base of a folder of donors.

    Raises:
        BankError: a file is missing or is not as base.json says.
    """
    folder = Path(folder)
    path = folder / "base.safetensors"
    manifest = _read_manifest(folder / "base.json")
    try:
        expected = manifest["file_sha256"]
        found = sha256_file(path)
        if found != expected:
            raise BankError(
                f"{path}: found sha256 {found}, expected {expected} from base.json; the file was "
                "changed or damaged, run xpeft cohort donors again"
            )
        tensors = load_file(path)
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise BankError(f"{folder}: cannot be read as a folder of donors: {error}") from None

    def of(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value.unsqueeze(0)
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    heads = of("adapter.head.")
    adapter = {k: v for k, v in of("adapter.").items() if not k.startswith("head.")}
    plain = of("head.")
    return Base(
        {f"head.{name}": value for name, value in plain.items()},
        adapter,
        {f"head.{name}": value for name, value in heads.items()},
        expected,
    )


class _Run:
    def __init__(
        self, job: DonorJob, inputs: Inputs, fold: int, work: Path, stop: threading.Event
    ) -> None:
        self.job, self.inputs, self.fold, self.work, self.stop = job, inputs, fold, work, stop
        cohort = inputs.cohort
        self.donors = [int(donor) for donor in cohort.donors(fold)]
        if len(self.donors) < max(1, job.n):
            raise BankError(
                f"cohort {job.cohort}, fold {fold}: found {len(self.donors)} donors, expected at "
                f"least {max(1, job.n)} for a bank of that many adapters; lower bank.n or the "
                "threshold of donors"
            )
        counts = {donor: len(cohort.train_rows(donor)) for donor in self.donors}
        ranked = sorted(self.donors, key=lambda d: (-counts[d], inputs.name(d)))
        self.givers = sorted(ranked[: job.n])
        self.method = SingleAdapter(inputs.encoder, job.reduction)

    def base(self) -> Base:
        """Heads and adapter on the pooled rows of all donors."""
        inputs, job = self.inputs, self.job
        rows = [capped(inputs.cohort.train_rows(d), job.max_train_rows) for d in self.donors]
        pooled = inputs.data(np.sort(np.concatenate(rows)), job.seed)
        log.info("base: %d donors, %d rows", len(self.donors), len(pooled.rows))

        def head() -> dict[str, Tensor]:  # made anew each time: training changes it in place
            return init_head([job.seed], inputs.outputs, inputs.encoder)

        frozen = FrozenFeatures(inputs.encoder)
        plain = self._fit("head", frozen, head(), [pooled], job.base_training)
        start = {**self.method.init([job.seed]), **head()}
        encoded = EncodedFeatures(inputs.encoder, self.method)
        adapted = self._fit("adapter", encoded, start, [pooled], job.base_training)
        of_head = {k: v for k, v in adapted.parameters.items() if k.startswith("head.")}
        adapter = {k: v for k, v in adapted.parameters.items() if k not in of_head}
        return Base(plain.parameters, adapter, of_head, "")

    def bank(self, base: Base) -> Bank | None:
        """An adapter a donor, from the base adapter and with its head."""
        job, inputs = self.job, self.inputs
        if not job.n:
            return None
        profiles = []
        for donor in self.givers:
            seed = profile_seed(job.seed, inputs.name(donor))
            profiles.append(inputs.training(donor, job.max_train_rows, seed))
        log.info("bank: %d donors, %d rows", len(profiles), sum(len(p.rows) for p in profiles))
        start = {
            name: value.repeat(len(profiles), *[1] * (value.ndim - 1))
            for name, value in base.adapter.items()
        }
        encoded = EncodedFeatures(inputs.encoder, self.method)
        fitted = self._fit("bank", encoded, start, profiles, job.training, base.adapter_head)
        stacked = {
            name: fitted.parameters[name].transpose(0, 1).float().cpu().contiguous()
            for name in ("down", "up", "down_bias", "up_bias")
        }
        recipe = {
            "cohort": job.cohort,
            "fold": self.fold,
            "donors": [inputs.name(donor) for donor in self.givers],
            "job": job.config_hash(),
            "data": dict(inputs.cohort.meta.files),
            "encoder": {"name": inputs.encoder.name, "sha256": inputs.encoder.digest},
        }
        return Bank(**stacked, kind="warm", recipe=recipe)

    def write(self, out: Path, base: Base, bank: Bank | None) -> None:
        """The folder, whole or not at all."""
        tensors = {
            **base.head,
            **{f"adapter.{name}": value for name, value in base.adapter.items()},
            **{f"adapter.{name}": value for name, value in base.adapter_head.items()},
        }
        plain = {name: value[0].detach().cpu().contiguous() for name, value in tensors.items()}
        inputs = self.inputs
        with atomic_directory(out, "base.json") as folder:
            write_bytes(folder / "base.safetensors", save(plain))
            if bank is not None:
                save_bank(bank, folder / "bank")
            write_json(
                folder / "base.json",
                {
                    "schema": SCHEMA,
                    "cohort": self.job.cohort,
                    "fold": self.fold,
                    "donors": [inputs.name(donor) for donor in self.donors],
                    "file_sha256": sha256_file(folder / "base.safetensors"),
                    "run": inputs.provenance.to_dict(
                        inputs.encoder,
                        config_sha256=self.job.config_hash(),
                        data_sha256=dict(inputs.cohort.meta.files),
                        bank_sha256=None if bank is None else bank.digest,
                    ),
                },
            )

    def _fit(
        self,
        phase: str,
        features: Features,
        parameters: dict[str, Tensor],
        profiles: list[ProfileData],
        training: TrainingSpec,
        shared: Mapping[str, Tensor] | None = None,
    ) -> Fitted:
        job, inputs = self.job, self.inputs
        with progress_bar(f"{job.cohort} fold {self.fold} {phase}") as progress:
            return fit(
                features,
                parameters,
                inputs.tokens,
                profiles,
                [schedule_of(training, len(profile.rows)) for profile in profiles],
                shared=shared,
                batch_size=training.batch_size,
                rows_at_once=training.rows_at_once,
                checkpoint=self.work / f"{phase}.safetensors",
                identity=inputs.identity(f"donors {phase} {self.fold}", job.config_hash()),
                checkpoint_seconds=training.checkpoint_seconds,
                stop=self.stop.is_set,
                progress=progress,
            )


__all__ = ["Base", "check_donors", "load_base", "train_donors"]
