"""Training for the targets of a cohort: tuning, then one part of one fold with all seeds.

A part is a share of a fold's targets. All of its profiles and seeds train at once; as no profile
depends on another, how targets are cut into parts changes memory and time, not results. What a
part writes are the predictions on the test rows; `xpeft.cohorts.gather` makes records of them.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpeft.bank import Bank
from xpeft.codec import MaskFormat
from xpeft.cohorts.donors import Base, check_donors, load_base
from xpeft.cohorts.grid import needs_donors
from xpeft.cohorts.inputs import Inputs, capped, load_inputs, profile_seed
from xpeft.data.cohort import Cohort
from xpeft.errors import ConfigError
from xpeft.fitting import (
    EncodedFeatures,
    Features,
    Fitted,
    FrozenFeatures,
    ProfileData,
    fit,
    predict,
    row_losses,
    schedule_of,
)
from xpeft.hashing import mix64
from xpeft.heads import init_head
from xpeft.io import write_json
from xpeft.job import ALONE, CohortJob, TrainingSpec, TuningSpec
from xpeft.methods import BankMasks, Method, SingleAdapter, make_bank, make_method
from xpeft.running import progress_bar, sigterm_flag
from xpeft.stored import count_parts, state_digest, stored_bytes
from xpeft.tuning import choose, read_chosen, trial_specs, with_settings

log = logging.getLogger(__name__)

TUNING_SCHEMA, PART_SCHEMA = 1, 2

CURVE_POINTS = 20
"""Most points of a learning curve, each the mean of a twentieth of every profile's steps."""


def tune_cohort(
    job: CohortJob,
    data_dir: str | os.PathLike[str],
    donors_dir: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Choose among a job's trials by the loss on held-out training rows, and write the file.

    Targets of the first fold in the order of a hash, until their training rows are
    `tuning.max_rows`; of one model for all (scope `cohort`) all rows that it trains on, as a rate
    that suits a tenth of its steps need not suit all of them. Rows are held out by their item, so
    that no text of these rows is on both sides; donors, who trained the base, may have judged it.

    Args:
        job: what to do.
        data_dir: prepared folder of the cohort.
        donors_dir: folder of donors of the first fold; None where the job needs none.
        out: tuning file.
        work_dir: checkpoints; removed at the end.
        device: "cpu" or "cuda".
        threads: of the CPU; None for the job's own number.

    Raises:
        ConfigError: the job has no trials, or settings contradict each other.
        BankError, DataError, EncoderError: an input is missing, damaged or does not fit.
        Interrupted: SIGTERM came; a checkpoint was written.
    """
    if not job.tuned:
        raise ConfigError(
            f"job {job.arm} on {job.cohort}: found no trials, expected some to choose among; "
            "train it without a tuning file"
        )
    inputs = load_inputs(job.encoder, data_dir, job.cohort, device, threads or job.threads)
    fold = int(inputs.cohort.folds[0])
    with sigterm_flag() as stop:
        chosen = _tune(_Arm.make(job, inputs, donors_dir, fold), fold, Path(work_dir), stop)
    run = inputs.provenance.to_dict(
        inputs.encoder,
        config_sha256=job.config_hash(),
        data_sha256=dict(inputs.cohort.meta.files),
        bank_sha256=None,
    )
    value = {
        "schema": TUNING_SCHEMA,
        "job": f"profiles/{job.cohort}/{job.arm}",
        "primary": inputs.cohort.meta.metrics[0],
        **chosen,
        "run": run,
    }
    write_json(out, value)
    shutil.rmtree(work_dir, ignore_errors=True)


def train_part(
    job: CohortJob,
    data_dir: str | os.PathLike[str],
    donors_dir: str | os.PathLike[str] | None,
    tuning_file: str | os.PathLike[str] | None,
    part: str,
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Train one part with all seeds, and write its predictions on the test rows.

    Args:
        job: what to do.
        data_dir: prepared folder of the cohort.
        donors_dir: folder of donors of the part's fold; None where the job needs none.
        tuning_file: from `tune_cohort`; None for a job without trials.
        part: `FOLD/PART/PARTS`, as `0/1/4`: of fold 0 the targets 1, 5, 9, ...; or `all`, the
            targets of all folds, for the one model of a job of scope `cohort`.
        out: file of the part.
        work_dir: checkpoints; removed at the end.
        device: "cpu" or "cuda".
        threads: of the CPU; None for the job's own number.

    Raises:
        ConfigError: settings contradict each other, or training diverged.
        BankError, DataError, EncoderError: an input is missing, damaged or does not fit.
        Interrupted: SIGTERM came; a checkpoint was written.
    """
    if (part == "all") != (job.scope == "cohort"):
        raise ConfigError(
            f"part: found {part} for a job of scope {job.scope}; a model for all has the part all"
        )
    inputs = load_inputs(job.encoder, data_dir, job.cohort, device, threads or job.threads)
    chosen = _chosen(job, inputs, tuning_file)
    fold, targets = _targets(inputs.cohort, part)
    with sigterm_flag() as stop:
        arm = _Arm.make(job, inputs, donors_dir, fold)
        value = _train(arm, targets, chosen, part.replace("/", "-"), Path(work_dir), stop)
    write_json(out, {"schema": PART_SCHEMA, "part": part, **value})
    shutil.rmtree(work_dir, ignore_errors=True)


@dataclass(frozen=True)
class _Arm:
    """A job with its inputs: what is trained, from where it starts, what is common to all."""

    job: CohortJob
    inputs: Inputs
    method: Method
    features: Features
    base: Base | None
    bank: Bank | None

    @classmethod
    def make(
        cls,
        job: CohortJob,
        inputs: Inputs,
        donors_dir: str | os.PathLike[str] | None,
        fold: int | None,
    ) -> _Arm:
        _check(job, donors_dir)
        if needs_donors(job):
            assert donors_dir is not None and fold is not None
            check_donors(donors_dir, inputs, fold)
        encoder = inputs.encoder
        base = None
        if job.base != "none" and donors_dir is not None:
            found = load_base(donors_dir)
            base = Base(
                _on(found.head, encoder.device),
                _on(found.adapter, encoder.device),
                _on(found.adapter_head, encoder.device),
                found.sha256,
            )
        bank = None
        if job.method.method == "x_peft":
            assert job.bank is not None
            folder = None if donors_dir is None else Path(donors_dir, "bank")
            bank = make_bank(encoder, job.bank, folder)
        method = make_method(encoder, job.method, bank)
        features: Features
        if not method.frozen:
            features = EncodedFeatures(encoder, method)
        elif job.base == "adapter" and base is not None:
            features = FrozenFeatures(
                encoder, SingleAdapter(encoder, job.method.reduction), base.adapter
            )
        else:
            features = FrozenFeatures(encoder)
        return cls(job, inputs, method, features, base, bank)

    @property
    def head(self) -> dict[str, Tensor] | None:
        """The base's head for the features of this arm, [1, ...]."""
        if self.base is None:
            return None
        return self.base.adapter_head if self.job.base == "adapter" else self.base.head

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Initial parameters of one profile a seed: what is trained."""
        job, count = self.job, len(seeds)

        def repeated(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.repeat(count, *[1] * (v.ndim - 1)) for k, v in tensors.items()}

        if job.method.method == "single_adapter" and job.base == "adapter" and self.base:
            made = repeated(self.base.adapter)
        else:
            made = self.method.init(seeds)
        if self.head is None:
            made |= init_head(seeds, self.inputs.outputs, self.inputs.encoder)
        elif job.head == "private":
            made |= repeated(self.head)
        elif job.head == "shared+bias":
            made |= repeated({"head.bias": self.head["head.bias"]})
        return made

    @property
    def shared(self) -> dict[str, Tensor]:
        """What is common to all profiles and frozen."""
        if self.head is None or self.job.head == "private":
            return {}
        return {
            name: value
            for name, value in self.head.items()
            if self.job.head == "shared" or name != "head.bias"
        }

    def fit(
        self,
        profiles: list[ProfileData],
        specs: list[TrainingSpec],
        phase: str,
        work: Path,
        stop: threading.Event,
    ) -> Fitted:
        """Train all profiles at once; of an arm that trains nothing, take them as they are."""
        job, inputs = self.job, self.inputs
        if not job.trains:
            return Fitted({}, [np.zeros(0) for _ in profiles])
        parameters = self.start([profile.seed for profile in profiles])
        with progress_bar(f"{job.cohort} {job.arm} {phase}") as progress:
            return fit(
                self.features,
                parameters,
                inputs.tokens,
                profiles,
                [schedule_of(s, len(p.rows)) for s, p in zip(specs, profiles, strict=True)],
                shared=self.shared,
                batch_size=job.training.batch_size,
                rows_at_once=job.training.rows_at_once,
                checkpoint=work / f"{phase}.safetensors",
                identity=inputs.identity(
                    phase,
                    job.config_hash(),
                    seeds=",".join(str(profile.seed) for profile in profiles),
                    base="" if self.base is None else self.base.sha256,
                    bank="" if self.bank is None else self.bank.digest,
                    specs=repr(sorted({str(s) for s in specs})),
                ),
                checkpoint_seconds=job.training.checkpoint_seconds,
                stop=stop.is_set,
                progress=progress,
            )

    def outputs(self, fitted: Fitted, profile: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """[R, C] on the CPU, of one trained profile for rows of the cohort."""
        inputs = self.inputs
        items = inputs.cohort.item[rows]
        return predict(
            self.features, fitted.parameters, profile, inputs.tokens, items, shared=self.shared
        )


def _chosen(
    job: CohortJob, inputs: Inputs, tuning_file: str | os.PathLike[str] | None
) -> dict[str, float]:
    """The settings that tuning chose; none for a job without trials."""
    if (tuning_file is not None) != job.tuned:
        raise ConfigError(
            f"job {job.arm} on {job.cohort}: found {tuning_file or 'no tuning file'}, expected "
            + ("the file of xpeft cohort tune" if tuning_file is None else "none: it has no trials")
        )
    if tuning_file is None:
        return {}
    run, settings = read_chosen(tuning_file, "of xpeft cohort tune")
    found = run.get("config_sha256"), run.get("data_sha256")
    if settings is None or found != (job.config_hash(), dict(inputs.cohort.meta.files)):
        raise ConfigError(
            f"{tuning_file}: found the tuning of other settings or data, expected that of "
            f"{job.arm} on {job.cohort}; tune again: xpeft cohort tune"
        )
    return settings


def _tune(arm: _Arm, fold: int, work: Path, stop: threading.Event) -> dict[str, Any]:
    job, inputs = arm.job, arm.inputs
    cohort, tuning = inputs.cohort, job.tuning
    assert tuning is not None
    if job.scope == "cohort":
        chosen = [_rows_of_all(job, cohort)]
    else:
        chosen = _some_targets(job, cohort, fold, tuning)
    divided = []
    for rows in chosen:
        # the share of a hash, not a count: an item is held out for all who judged it
        held = mix64(cohort.item[rows], tuning.seed) < np.uint64(tuning.holdout * 2.0**64)
        if held.any() and not held.all():
            divided.append((rows[~held], rows[held]))
    if not divided:
        raise ConfigError(
            f"tuning: holding out {tuning.holdout} of the items leaves no profile with rows on "
            "both sides; raise tuning.max_rows or change tuning.holdout"
        )
    trials = [dict(trial) for trial in tuning.trials]
    profiles, specs = [], []
    for spec in trial_specs(job.training, tuning):
        for number, (rows, _) in enumerate(divided):
            profiles.append(inputs.data(rows, tuning.seed + number))
            specs.append(spec)
    fitted = arm.fit(profiles, specs, "tuning", work, stop)
    results = []
    for number, trial in enumerate(trials):
        losses, hits = [], []
        for place, (_, held_rows) in enumerate(divided):
            outputs = arm.outputs(fitted, number * len(divided) + place, held_rows)
            labels = torch.from_numpy(cohort.label[held_rows])
            losses.append(row_losses(outputs.double(), labels))
            hits.append(outputs.argmax(dim=1) == labels)
        loss = float(torch.cat(losses).mean())
        finite = np.isfinite(loss)
        results.append(
            {
                "settings": trial,
                "loss": float(f"{loss:.6g}") if finite else None,
                "score": float(torch.cat(hits).double().mean()) if finite else None,
            }
        )
        log.info("  trial %d: %s: loss %.4f", number + 1, trial, loss)
    held_count = sum(len(held_rows) for _, held_rows in divided)
    total = held_count + sum(len(rows) for rows, _ in divided)
    return {
        "split": f"{held_count} of {total} training rows of {len(chosen)} "
        f"{'model' if job.scope == 'cohort' else 'profiles'}, held out by item",
        "trials": results,
        "chosen": choose(results, f"job {job.arm} on {job.cohort}"),
    }


def _some_targets(
    job: CohortJob, cohort: Cohort, fold: int, tuning: TuningSpec
) -> list[npt.NDArray[np.int64]]:
    """The training rows of as many targets as fit `tuning.max_rows`, in the order of a hash."""
    order = mix64([cohort.sheet[t].profile for t in cohort.targets(fold)], tuning.seed)
    chosen: list[npt.NDArray[np.int64]] = []
    for target in cohort.targets(fold)[np.argsort(order, kind="stable")]:
        rows = capped(cohort.train_rows(int(target)), job.max_train_rows)
        if chosen and sum(map(len, chosen)) + len(rows) > tuning.max_rows:
            break
        chosen.append(rows)
    return chosen


def _rows_of_all(job: CohortJob, cohort: Cohort) -> npt.NDArray[np.int64]:
    """The rows that one model for all trains on: those of every profile, donors included."""
    everyone = range(len(cohort.sheet))
    return np.sort(
        np.concatenate([capped(cohort.train_rows(p), job.max_train_rows) for p in everyone])
    )


def _train(
    arm: _Arm,
    targets: list[int],
    chosen: dict[str, float],
    phase: str,
    work: Path,
    stop: threading.Event,
) -> dict[str, Any]:
    job, inputs = arm.job, arm.inputs
    cohort = inputs.cohort
    spec = with_settings(job.training, chosen)
    profiles: list[ProfileData] = []
    if job.scope == "cohort":
        rows = _rows_of_all(job, cohort)
        profiles = [inputs.data(rows, seed) for seed in job.seeds]
    else:
        for seed in job.seeds:
            for target in targets:
                name = inputs.name(target)
                profiles.append(
                    inputs.training(target, job.max_train_rows, profile_seed(seed, name))
                )
    log.info(
        "training: %s, %d targets, %d seeds, %d rows",
        job.arm, len(targets), len(job.seeds), sum(len(p.rows) for p in profiles),
    )  # fmt: skip
    fitted = arm.fit(profiles, [spec] * len(profiles), phase, work, stop)
    size = 1 if job.scope == "cohort" else len(targets)
    predictions: dict[str, list[list[int]]] = {}
    digests: dict[str, str] = {}
    for number, seed in enumerate(job.seeds):
        found = []
        for place, target in enumerate(targets):
            owner = number if job.scope == "cohort" else number * len(targets) + place
            outputs = arm.outputs(fitted, owner, cohort.test_rows(target))
            if not outputs.isfinite().all():
                raise ConfigError(
                    f"job {job.arm} on {job.cohort}: training diverged with "
                    f"{chosen or 'its fixed settings'}; lower lr or head_lr"
                )
            found.append(outputs.argmax(dim=1).tolist())
        predictions[str(seed)] = found
        of_seed = slice(number * size, (number + 1) * size)
        digests[str(seed)] = state_digest(
            {name: value[of_seed].detach().cpu() for name, value in fitted.parameters.items()}
        )
    # of one model for all, a profile stores nothing of its own
    one = {name: value[0].detach().cpu() for name, value in fitted.parameters.items()}
    if job.scope == "cohort":
        one = {}
    return {
        "job": job.config_hash(),
        "profiles": [inputs.name(target) for target in targets],
        "rows": sum(len(p.rows) for p in profiles) // len(job.seeds) if job.trains else 0,
        "train": [
            min(len(cohort.train_rows(t)), job.max_train_rows or len(cohort.item)) for t in targets
        ],
        "usual": [_usual(cohort.label[cohort.train_rows(t)]) for t in targets],
        "labels": [cohort.label[cohort.test_rows(t)].tolist() for t in targets],
        "predictions": predictions,
        **_mask_codes(arm, fitted, len(targets)),
        "state_sha256": digests,
        "losses": {
            str(seed): _curve(fitted.losses[number * size : (number + 1) * size])
            for number, seed in enumerate(job.seeds)
        },
        "steps": round(sum(map(len, fitted.losses)) / len(fitted.losses)),
        "settings": {"epochs": spec.epochs, "lr": spec.lr, "head_lr": spec.head_lr, **chosen}
        if job.trains
        else {},
        "parameters": count_parts({name: value.numel() for name, value in one.items()}),
        "bytes": count_parts(stored_bytes(arm.method, one) if one else {}),
        "run": inputs.provenance.to_dict(
            inputs.encoder,
            config_sha256=job.config_hash(),
            data_sha256=dict(cohort.meta.files),
            bank_sha256=None if arm.bank is None else arm.bank.digest,
            rows_per_second=fitted.rows / fitted.seconds if fitted.seconds > 0 else 0.0,
        ),
    }


def _check(job: CohortJob, donors_dir: str | os.PathLike[str] | None) -> None:
    """Refuse what could not be trained, before anything is."""
    where = f"job {job.arm} on {job.cohort}"
    if job.method.method in ALONE:
        raise ConfigError(
            f"{where}: found method {job.method.method}, expected one that trains many profiles "
            "at once"
        )
    if job.head != "private" and job.base == "none":
        raise ConfigError(f"{where}: found head {job.head} and base none, expected a base")
    if job.tuned and not job.trains:
        raise ConfigError(
            f"{where}: found trials, expected none: head_only with a shared head trains nothing"
        )
    if job.method.method == "x_peft" and job.bank is None:
        raise ConfigError(f"{where}: found x_peft and no bank, expected one")
    if job.scope == "cohort" and needs_donors(job):
        raise ConfigError(f"{where}: found scope cohort on a base, expected base none")
    if needs_donors(job) and donors_dir is None:
        raise ConfigError(f"{where}: needs what donors leave; name their folder with --donors")


def _targets(cohort: Cohort, part: str) -> tuple[int | None, list[int]]:
    """The fold, None for all, and the targets of a part; see `train_part`."""
    if part == "all":
        return None, [int(target) for fold in cohort.folds for target in cohort.targets(fold)]
    try:
        fold, number, parts = map(int, part.split("/"))
    except ValueError:
        fold = number = parts = -1
    if not (fold in cohort.folds and 0 <= number < parts):
        raise ConfigError(
            f"part: found {part!r}, expected FOLD/PART/PARTS, as 0/1/4, with a fold of the sheet: "
            f"{', '.join(map(str, cohort.folds))}"
        )
    targets = [int(target) for target in cohort.targets(fold)][number::parts]
    if not targets:
        raise ConfigError(f"part {part}: found no targets; use fewer parts a fold")
    return fold, targets


def _mask_codes(arm: _Arm, fitted: Fitted, count: int) -> dict[str, list[str]]:
    """The bit sets of the first seed's hard masks, as hexadecimal digits."""
    method = arm.method
    if not isinstance(method, BankMasks) or method.spec.mask != "hard":
        return {}
    form = MaskFormat(
        "bits", method.bank.layers, method.bank.n, k=method.spec.k, sides=method.spec.sides
    )
    masks = [
        method.selected(fitted.parameters[name][:count]).cpu().numpy()
        if name in method.sides
        else None
        for name in ("mask_a", "mask_b")
    ]
    return {"masks": [code.tobytes().hex() for code in form.encode_many(*masks)]}


def _curve(losses: Sequence[npt.NDArray[np.float64]]) -> list[float]:
    """Mean loss over profiles in CURVE_POINTS windows of equal share of each one's steps."""
    found = np.full((len(losses), CURVE_POINTS), np.nan)
    for row, values in zip(found, losses, strict=True):
        places = np.minimum(np.arange(len(values)) * CURVE_POINTS // len(values), CURVE_POINTS - 1)
        for place in np.unique(places):
            row[place] = values[places == place].mean()
    filled = np.isfinite(found)
    means = np.where(filled, found, 0.0).sum(axis=0) / np.maximum(1, filled.sum(axis=0))
    return [
        float(f"{mean:.6g}") for mean, some in zip(means, filled.any(axis=0), strict=True) if some
    ]


def _usual(labels: npt.NDArray[np.int64]) -> int:
    """The most frequent label; among equals the smallest."""
    return int(np.bincount(labels).argmax())


def _on(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


__all__ = ["train_part", "tune_cohort"]
