"""One job, from its file to the records of its seeds.

The order is fixed: read the prepared data, tokenize, tune on a held-out part of the training rows
(all trials together, each a profile), train all seeds together with what the tuning chose, score
them once on the validation rows, write the records. The validation rows decide nothing.

A killed job goes on from its checkpoint in the work folder and gives the same `result`.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpeft import records
from xpeft.bank import Bank
from xpeft.cells import cell_of
from xpeft.data.prepared import Prepared, Split, holdout, load_prepared
from xpeft.data.specs import near_duplicates
from xpeft.encoder import Encoder, TokenTable, load_encoder
from xpeft.errors import ConfigError
from xpeft.fitting import (
    EncodedFeatures,
    Features,
    Fitted,
    FrozenFeatures,
    Interrupted,
    ProfileData,
    fit,
    predict,
    row_losses,
    schedule_of,
)
from xpeft.heads import common_head, own_head
from xpeft.io import read_json, write_json
from xpeft.job import OWN_WEIGHTS, Job, TrainingSpec
from xpeft.labels import LabelScale
from xpeft.machine import set_determinism
from xpeft.methods import Method, make_bank, make_method
from xpeft.metrics import compute
from xpeft.pool import require_foreign
from xpeft.questions import parts, places, take_best, usual_place
from xpeft.running import Provenance, progress_bar, sigterm_flag
from xpeft.stored import count_parts, state_digest, stored_bytes
from xpeft.tuning import choose, read_chosen, trial_specs, with_settings

log = logging.getLogger(__name__)

CURVE_POINTS = 40
"""Most points of a learning curve in a record."""

ONE_CLASS = ("f1", "f1a")
"""Metrics that count the class 1 alone, so that another majority class would score 0."""


def train_job(
    job: Job,
    data_dir: str | os.PathLike[str],
    records_dir: str | os.PathLike[str],
    tuning_file: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    *,
    bank_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    seeds: Sequence[int] | None = None,
) -> None:
    """Run a job and write `seed<k>.json` for each seed, and the tuning file.

    Args:
        job: what to do.
        data_dir: prepared folder of the task.
        records_dir: folder of the job's records.
        tuning_file: what was tried on held-out training rows, and what was chosen.
        work_dir: checkpoints; removed when the records are written.
        bank_dir: the stored bank, for a job whose bank is stored and names no path.
        device: "cpu" or "cuda".
        threads: of the CPU; None for the job's own number. Scores depend on it.
        seeds: trained instead of the job's own. The tuning file is then read and not written; where
            there is none of this job yet, it is tuned again, which chooses the same.

    Raises:
        ConfigError: settings contradict each other, or no such device.
        DataError, EncoderError, BankError: an input is missing, damaged or does not fit.
        Interrupted: SIGTERM came; a checkpoint was written.
    """
    if Path(tuning_file).is_dir():
        raise ConfigError(f"{tuning_file}: found a folder, expected the name of the tuning file")
    if Path(records_dir).is_file():
        raise ConfigError(f"{records_dir}: found a file, expected the folder of the records")
    wanted = job if seeds is None else dataclasses.replace(job, seeds=tuple(seeds))
    run = _Run(wanted, Path(data_dir), Path(work_dir), bank_dir, device, threads or job.threads)
    with sigterm_flag() as stop:
        run.stop = stop
        tuning = Path(tuning_file)
        settings = None
        if seeds is not None:
            settings, tuning = run.tuned(tuning), run.work / "tuned.json"
        if settings is None:
            settings = run.tune(tuning)
        run.train(settings, Path(records_dir))
    shutil.rmtree(work_dir, ignore_errors=True)


class _Run:
    """A job with its inputs loaded."""

    def __init__(
        self,
        job: Job,
        data_dir: Path,
        work_dir: Path,
        bank_dir: str | os.PathLike[str] | None,
        device: str,
        threads: int,
    ) -> None:
        set_determinism(device, threads)
        self.job = job
        self.device = device
        self.threads = threads
        self.work = work_dir
        self.stop = threading.Event()
        self.provenance = Provenance(device, threads)
        self.prepared: Prepared = load_prepared(data_dir)
        meta = self.prepared.meta
        if (meta.suite, meta.task) != (job.suite, job.task):
            raise ConfigError(
                f"{data_dir}: found data of {meta.suite}/{meta.task}, expected "
                f"{job.suite}/{job.task}"
            )
        encoder = job.encoder
        if job.method.method in OWN_WEIGHTS and encoder.dtype == "auto":
            encoder = dataclasses.replace(encoder, dtype="float32")  # trained weights need it
        self.encoder: Encoder = load_encoder(encoder, device)
        self.bank: Bank | None = None
        stored = job.bank is not None and job.bank.kind != "random"
        if bank_dir is not None and not stored:
            raise ConfigError(
                f"job {job.arm}: found a bank {bank_dir}, expected none: it has no use"
            )
        if job.method.method == "x_peft":
            if job.bank is None:
                raise ConfigError(f"job {job.arm}: x_peft without a bank")
            self.bank = make_bank(self.encoder, job.bank, bank_dir)
            name = f"{job.suite}/{job.task}"
            require_foreign(self.bank.recipe, name, near_duplicates(name))
        self.method: Method = make_method(self.encoder, job.method, self.bank)
        self.shared = self._shared_head()
        self.tokens = self._tokenize(self.prepared.train)
        self.validation = self._tokenize(self.prepared.validation)
        self.features: Features = (
            FrozenFeatures(self.encoder)
            if self.method.frozen
            else EncodedFeatures(self.encoder, self.method)
        )

    def _shared_head(self) -> dict[str, Tensor]:
        """What no profile trains of its head."""
        job, meta = self.job, self.prepared.meta
        if job.head == "seeded" and (meta.regression or job.method.method == "head_only"):
            reason = "a regression" if meta.regression else "head_only, which trains nothing else"
            raise ConfigError(f"job {job.arm} on {job.task}: found a seeded head and {reason}")
        return common_head(job.head, meta.num_outputs, self.encoder)

    def tune(self, path: Path) -> dict[str, float]:
        """The settings with the lowest loss on held-out training rows; writes the tuning file.

        The loss decides, and the task's metric is only kept: on a few hundred rows the metric
        is coarse, and chance can win (CoLA's is zero for every model that is not yet right).
        Without trials, the training settings as they are. Among equal losses the first trial wins.
        """
        job, tuning = self.job, self.job.tuning
        trials = [dict(trial) for trial in tuning.trials] if tuning else []
        specs = trial_specs(job.training, tuning) if tuning else []
        if tuning is None or not trials:
            write_json(path, self._tuning_json([], None, "no tuning: settings are fixed"))
            return {}
        kept = self.work / "tuning.json"
        identity = self._identity("tuning")
        if kept.is_file() and (done := read_json(kept)).get("identity") == identity:
            write_json(path, done["tuning"])
            return dict(trials[done["tuning"]["chosen"]])
        rows = self.prepared.train.sample(tuning.max_rows, tuning.seed)
        subset = self.prepared.train.take(rows)
        fit_rows, dev_rows = (rows[part] for part in holdout(subset, tuning.holdout, tuning.seed))
        log.info(
            "tuning: %d trials of %g epochs on %d rows, scored on %d held-out rows",
            len(trials),
            specs[0].epochs,
            len(fit_rows),
            len(dev_rows),
        )
        fitted = self._fit("tuning", fit_rows, specs, [tuning.seed] * len(trials))
        dev_tokens, dev = self.tokens.take(dev_rows), self.prepared.train.take(dev_rows)
        dev_labels = torch.from_numpy(dev.labels)
        metric = self.prepared.meta.metrics[0]
        results = []
        for number, trial in enumerate(trials):
            outputs = self._predict(fitted, number, dev_tokens)
            score = loss = None  # diverged: tried, and never chosen
            if outputs.isfinite().all():
                score = self._scores(self._decide(outputs, dev), dev)[metric]
                loss = float(row_losses(outputs.double(), dev_labels).mean())
                loss = float(f"{loss:.6g}")
            results.append({"settings": trial, "loss": loss, "score": score})
            log.info("  trial %d: %s: loss %s, %s %s", number + 1, trial, loss, metric, score)
        best = choose(results, f"job {job.arm} on {job.task}")
        split = (
            f"{len(dev_rows)} of {len(rows)} training rows, held out; {specs[0].epochs:g} epochs"
        )
        value = self._tuning_json(results, best, split)
        write_json(kept, {"identity": identity, "tuning": value})
        write_json(path, value)
        return dict(trials[best])

    def tuned(self, path: Path) -> dict[str, float] | None:
        """The settings that tuning chose before; None where the file is not of this very job.

        Raises:
            ConfigError: the file is none that tuning writes.
        """
        if not path.is_file():
            return None
        found, settings = read_chosen(path, "that xpeft train wrote")
        expected = self._run_json(None, None)
        same = ("config_sha256", "data_sha256", "bank_sha256")
        if any(found.get(key) != expected[key] for key in same):
            log.info("tuning again: %s is of other settings, data or bank", path)
            return None
        return settings or {}

    def train(self, settings: dict[str, float], records_dir: Path) -> None:
        """Train all seeds and write their records."""
        job = self.job
        spec = with_settings(job.training, settings)
        rows = np.arange(len(self.prepared.train))
        log.info(
            "training: %s, %d seeds, %d rows, %g epochs, %s",
            job.arm,
            len(job.seeds),
            len(rows),
            spec.epochs,
            settings or "fixed settings",
        )
        seeds = list(job.seeds)
        fitted = self._fit("train", rows, [spec] * len(seeds), seeds)
        share = self._encoder_share(fitted)
        if fitted.seconds > 0 and fitted.rows:
            log.info(
                "efficiency: %.0f rows a second, %s of the encoder's own forward and backward",
                fitted.rows / fitted.seconds,
                "no part" if share is None else f"{share:.0%}",
            )
        outputs = [self._predict(fitted, number, self.validation) for number in range(len(seeds))]
        if not all(output.isfinite().all() for output in outputs):
            raise ConfigError(
                f"job {job.arm} on {job.task}: training diverged with "
                f"{settings or 'its fixed settings'}; lower lr or head_lr"
            )
        run = self._run_json(fitted, share)
        for number, seed in enumerate(seeds):
            result = self._result(fitted, number, outputs[number], spec, settings)
            record: Any = {"schema": records.SCHEMA, "cell": cell_of(job, seed)}
            record |= {"result": result, "run": run}
            records.write_record(records_dir / f"seed{seed}.json", record)
            log.info(
                "%s/%s %s seed %d: %s %.4f",
                job.suite,
                job.task,
                job.arm,
                seed,
                result["primary"],
                result["score"],
            )

    def _fit(
        self,
        phase: str,
        rows: npt.NDArray[np.int64],
        specs: Sequence[TrainingSpec],
        seeds: Sequence[int],
    ) -> Fitted:
        """Train one profile a spec and seed, as many at once as the method can."""
        labels = self.prepared.train.labels[rows]
        scale = LabelScale.of(labels)
        profiles = [ProfileData(rows, scale.normalize(labels), seed) for seed in seeds]
        schedules = [schedule_of(spec, len(rows)) for spec in specs]
        size = self.method.together or len(seeds)
        parts = []
        for start in range(0, len(seeds), size):
            few = slice(start, start + size)
            parameters = self.method.init(seeds[few])
            outputs = self.prepared.meta.num_outputs
            parameters |= own_head(self.job.head, seeds[few], outputs, self.encoder)
            with progress_bar(f"{self.job.task} {self.job.arm} {phase}") as progress:
                parts.append(
                    fit(
                        self.features,
                        parameters,
                        self.tokens,
                        profiles[few],
                        schedules[few],
                        shared=self.shared,
                        batch_size=self.job.training.batch_size,
                        rows_at_once=self.job.training.rows_at_once,
                        checkpoint=self.work / f"{phase}-{start}.safetensors",
                        identity=self._identity(f"{phase}-{start}", seeds[few]),
                        checkpoint_seconds=self.job.training.checkpoint_seconds,
                        stop=self.stop.is_set,
                        progress=progress,
                    )
                )
        merged = _merge(parts)
        if self.job.head != "seeded":
            scale.fold_into(merged.parameters)
        return merged

    def _predict(self, fitted: Fitted, profile: int, tokens: TokenTable) -> Tensor:
        return predict(self.features, fitted.parameters, profile, tokens, shared=self.shared)

    def _tokenize(self, split: Split) -> TokenTable:
        return self.encoder.tokenize(split.texts, split.pairs)

    def _decide(self, outputs: Tensor, split: Split) -> npt.NDArray[Any]:
        """[R, C] outputs to class codes, or to numbers; of a choice, 1 for the row taken."""
        meta = self.prepared.meta
        if meta.regression:
            return outputs[:, 0].double().numpy()
        if meta.answers == "one" and split.questions is not None:
            return take_best((outputs[:, 1] - outputs[:, 0]).double().numpy(), split.questions)
        return outputs.argmax(dim=1).numpy()

    def _scores(self, predicted: npt.NDArray[Any], split: Split) -> dict[str, float]:
        meta = self.prepared.meta
        return compute(
            meta.metrics,
            predicted,
            split.labels,
            num_labels=len(meta.labels) or None,
            questions=split.questions,
            credit=split.credit,
        )

    def _blind(self, split: Split) -> npt.NDArray[Any]:
        """The best predictions for a split that look at no text, by the training labels.

        The mean, or the most frequent class (the class 1 where the metric counts it alone); of a
        choice, the place that is most often right.
        """
        meta, train = self.prepared.meta, self.prepared.train
        if meta.regression:
            return np.full(len(split), float(train.labels.mean()))
        if meta.answers == "one" and split.questions is not None and train.questions is not None:
            return usual_place(train.labels, train.questions, split.questions)
        usual = 1 if meta.metrics[0] in ONE_CLASS else int(np.bincount(train.labels).argmax())
        return np.full(len(split), usual)

    def _result(
        self,
        fitted: Fitted,
        number: int,
        outputs: Tensor,
        spec: TrainingSpec,
        settings: dict[str, float],
    ) -> dict[str, Any]:
        meta, split = self.prepared.meta, self.prepared.validation
        predicted = self._decide(outputs, split)
        scores = self._scores(predicted, split)
        more: dict[str, Any] = {}
        if split.questions is not None:
            above, below = parts(
                meta.metrics[0], predicted, split.labels, split.questions, split.credit
            )
            more["questions"] = {"above": above.tolist(), "below": below.tolist()}
        if meta.regression:
            values = [float(f"{value:.6g}") for value in predicted.tolist()]
            confusion = None
        else:
            values = predicted.tolist()
            size = len(meta.labels)
            pairs = split.labels * size + predicted
            confusion = np.bincount(pairs, minlength=size * size).reshape(size, size).tolist()
        said = values
        if meta.answers == "one" and split.questions is not None:
            said = places(split.questions)[predicted == 1].tolist()
        losses = fitted.losses[number]
        ends = np.unique(np.linspace(0, len(losses), CURVE_POINTS + 1).round().astype(int))
        windows = [float(losses[a:b].mean()) for a, b in itertools.pairwise(ends)]
        one = {name: value[number].detach().cpu() for name, value in fitted.parameters.items()}
        shown: dict[str, Any] = {"epochs": spec.epochs, "lr": spec.lr, "head_lr": spec.head_lr}
        shown |= settings
        if self.job.head != "private":
            shown["head"] = self.job.head
        return {
            "primary": meta.metrics[0],
            "score": scores[meta.metrics[0]],
            "scores": scores,
            "rows": {"train": len(self.prepared.train), "validation": len(split)},
            "best": meta.best,
            "majority": self._scores(self._blind(split), split),
            "constant": len(set(said)) == 1,
            "confusion": confusion,
            "predictions": values,
            "loss": {"step": ends[1:].tolist(), "loss": [float(f"{x:.6g}") for x in windows]},
            "steps": len(losses),
            "parameters": count_parts({name: value.numel() for name, value in one.items()}),
            "bytes": count_parts(stored_bytes(self.method, one)),
            "settings": shown,
            "state_sha256": state_digest(one),
            **more,
        }

    def _encoder_share(self, fitted: Fitted) -> float | None:
        """Time that the bare encoder's forward and backward would take, over the time taken.

        Both count padded tokens. None where the encoder is not part of training.
        """
        if self.method.frozen or not fitted.tokens or fitted.seconds <= 0:
            return None
        seconds, tokens = _bare_encoder(self.encoder, self.tokens, self.job.training.rows_at_once)
        return (seconds / tokens) / (fitted.seconds / fitted.tokens)

    def _run_json(self, fitted: Fitted | None, share: float | None) -> dict[str, Any]:
        return self.provenance.to_dict(
            self.encoder,
            config_sha256=self.job.config_hash(),
            data_sha256={**self.prepared.meta.sha256, **self.prepared.meta.files},
            bank_sha256=None if self.bank is None else self.bank.digest,
            rows_per_second=fitted.rows / fitted.seconds if fitted and fitted.seconds > 0 else 0.0,
            encoder_share=share,
        )

    def _tuning_json(
        self, results: list[dict[str, Any]], chosen: int | None, split: str
    ) -> dict[str, Any]:
        job = self.job
        return {
            "schema": 1,
            "job": f"{job.suite}/{job.task}/{job.arm}",
            "split": split,
            "primary": self.prepared.meta.metrics[0],
            "trials": results,
            "chosen": chosen,
            "run": self._run_json(None, None),
        }

    def _identity(self, phase: str, seeds: Sequence[int] = ()) -> dict[str, str]:
        """What a checkpoint must be of, to be gone on from: all that decides the result."""
        return self.provenance.identity(
            self.encoder,
            phase,
            config_sha256=self.job.config_hash(),
            files=self.prepared.meta.files,
            seeds=",".join(map(str, seeds)),
            bank="" if self.bank is None else self.bank.digest,
        )


def _merge(parts: Sequence[Fitted]) -> Fitted:
    first = parts[0]
    if len(parts) == 1:
        return first
    return Fitted(
        parameters={
            name: torch.cat([part.parameters[name] for part in parts]) for name in first.parameters
        },
        losses=[losses for part in parts for losses in part.losses],
        rows=sum(part.rows for part in parts),
        tokens=sum(part.tokens for part in parts),
        seconds=sum(part.seconds for part in parts),
    )


def _bare_encoder(encoder: Encoder, tokens: TokenTable, rows: int) -> tuple[float, int]:
    """Seconds and padded tokens of the encoder's own forward and backward on typical batches."""
    order = np.argsort(tokens.lengths, kind="stable")
    seconds, count = 0.0, 0
    for warm, share in ((True, 0.5), (False, 0.25), (False, 0.5), (False, 0.75)):
        middle = int(share * len(order))
        batch = tokens.batch(order[max(0, middle - rows // 2) :][:rows])
        shift = torch.zeros((), dtype=encoder.dtype, device=encoder.device, requires_grad=True)
        deltas = [lambda hidden, shift=shift: shift] + [lambda hidden: 0.0] * (encoder.layers - 1)
        if encoder.device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        encoder(batch, deltas).sum().backward()  # type: ignore[arg-type, no-untyped-call]
        if encoder.device.type == "cuda":
            torch.cuda.synchronize()
        if not warm:
            seconds += time.perf_counter() - begun
            count += batch.ids.numel()
    return seconds, count


__all__ = ["Interrupted", "train_job"]
