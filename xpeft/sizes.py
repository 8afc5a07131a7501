"""What a job will take, before it is started: time, memory, disk, by formula.

Time is counted in floating-point operations of the encoder's blocks. A token costs 2 for each
weight forward, and as much again backward where the weights are frozen (gradients pass through
them to the adapters and are not taken of them); training all weights costs half as much more.
Aggregation, heads and the optimizer come to some 15 per cent, as measured in `benchmarks/`.

Rows and tokens come from the specs of the data (`Size`). What cannot be known before the data are
there, such as the texts of a cohort of one's own, is estimated from the nearest thing that can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xpeft.cells import sources_of
from xpeft.config import Config
from xpeft.data.cohort_specs import CohortSize, get_cohort
from xpeft.data.specs import get_task
from xpeft.data.taskspec import Size
from xpeft.errors import EncoderError
from xpeft.job import ALONE, CohortJob, DonorJob, Job, PoolJob, TrainingSpec
from xpeft.peersizes import PROMPT_TOKENS
from xpeft.shapes import SHAPES, EncoderShape, encoder_shape

START = 20.0
"""Seconds from the start of a process to its first step: imports, weights, tokens."""

OVERHEAD = 1.15
"""What aggregation, heads and the optimizer add to the encoder's own passes."""

LIBRARIES_MB = 1200
"""Resident memory of a process with torch and transformers, before anything is loaded."""

UNKNOWN_SIZE = Size(train=10_000, validation=1_000, tokens=40.0)
UNKNOWN_COHORT = CohortSize(profiles=1_000, train=100, test=20, texts=50_000, tokens=40.0)
UNKNOWN_ENCODER = "bert-base-uncased"
MB = 2**20


@dataclass(frozen=True)
class Need:
    """What one job takes.

    Attributes:
        seconds: on one device, start-up included.
        memory_mb: resident memory of its process, at most.
        device_mb: memory of the GPU, at most; 0 on a CPU.
        disk_mb: of what it leaves.
    """

    seconds: float
    memory_mb: float
    disk_mb: float
    device_mb: float = 0.0


class Sizes:
    """Needs of the jobs of one config.

    Args:
        config: the resolved config.
        folds: of the cohorts' sheets.
        parts: that the targets of a fold are divided into.
    """

    def __init__(self, config: Config, folds: int = 2, parts: int = 1) -> None:
        self.config = config
        self.folds, self.parts = max(1, folds), max(1, parts)
        self.shape = shape_of(config["encoder"])
        speed = config["speed"]
        cuda = config["device"] == "cuda"
        rate = speed["gpu_tflops"] * 1e12 if cuda else speed["cpu_gflops"] * 1e9 * config["threads"]
        self._token_seconds: float = 2 * block_weights(self.shape) / rate  # forward

    def train(self, job: Job) -> Need:
        """Tuning and training of all seeds of a task, and their predictions."""
        size = self.task(job.suite, job.task)
        seeds, trials = len(job.seeds), 0
        rows = seeds * size.train * job.training.epochs
        if job.tuning is not None:
            trials = len(job.tuning.trials)
            seen = min(size.train, job.tuning.max_rows)
            epochs = job.tuning.epochs or job.training.epochs
            rows += trials * seen * (1 - job.tuning.holdout) * epochs
        scored = seeds * size.validation
        frozen = job.method.method == "head_only"
        if frozen:  # the encoder sees each text once
            rows, scored = 0, size.train + size.validation
        full = job.method.method == "full"
        tokens = size.tokens + (PROMPT_TOKENS if job.method.method == "prompt_tuning" else 0)
        seconds = self._seconds(rows, scored, tokens, full=full)
        models = 1 if job.method.method in ALONE else max(seeds, trials)
        memory = self._memory(job.training, models, job, full=full, frozen=frozen)
        return _need(seconds, memory, seeds * (size.validation * 3 + 20_000) / MB)

    def pool(self, job: PoolJob) -> Need:
        """A pool: every adapter sees half of the rows."""
        size = self.task(job.suite, job.task, job.max_train_rows)
        rows = job.adapters * size.train / 2 * job.training.epochs
        adapter = 4 * adapter_weights(self.shape, job.reduction)
        memory = self._memory(job.training, job.adapters, None)
        return _need(self._seconds(rows, 0, size.tokens), memory, job.adapters * adapter / MB)

    def trained_bank(self, task: str, n: int) -> Need:
        """A bank that is put together of pools."""
        adapter = 4 * adapter_weights(self.shape, self.config["bank"]["reduction"])
        pools = len(sources_of(self.config, task)) * self.config["pool"]["adapters"]
        disk = n * adapter / MB
        return Need(START, LIBRARIES_MB + 2 * (pools + n) * adapter / MB, disk)

    def donors(self, job: DonorJob) -> Need:
        """Base and warm bank of one fold."""
        size = self.cohort(job.cohort)
        profiles = size.profiles * (self.folds - 1) / self.folds
        rows = min(size.train, job.max_train_rows or size.train)
        trained = profiles * rows * job.base_training.epochs + job.n * rows * job.training.epochs
        adapter = 4 * adapter_weights(self.shape, job.reduction)
        seconds = self._seconds(trained, size.texts, size.tokens)
        memory = self._memory(job.training, job.n, None)
        return _need(seconds, memory, (job.n + 1) * adapter / MB)

    def tune(self, job: CohortJob) -> Need:
        """The trials of an arm on a cohort."""
        size = self.cohort(job.cohort)
        tuning = job.tuning
        if tuning is None:
            return Need(START, LIBRARIES_MB, 0)
        epochs = tuning.epochs or job.training.epochs
        cap, trials = min(size.train, job.max_train_rows or size.train), len(tuning.trials)
        one = job.scope == "cohort"  # one model, whose trials see all that it trains on
        seen = trials * (size.profiles * cap if one else tuning.max_rows)
        models = trials if one else seen / cap
        rows = seen * (1 - tuning.holdout) * epochs
        return self._cohort(job, rows, seen, models, size)

    def part(self, job: CohortJob) -> Need:
        """A part of the targets with all seeds."""
        size = self.cohort(job.cohort)
        seeds = len(job.seeds)
        cap = min(size.train, job.max_train_rows or size.train)
        if job.scope == "cohort":
            profiles, models = float(size.profiles), float(seeds)
        else:
            profiles = size.profiles / (self.folds * self.parts)
            models = profiles * seeds
        rows = seeds * profiles * cap * job.training.epochs
        return self._cohort(job, rows, seeds * profiles * size.test, models, size)

    def task(self, suite: str, task: str, limit: int | None = None) -> Size:
        """Rows and tokens of a task as this config takes it."""
        data = self.config["data"]
        if data["source"] == "embedded":
            made = data["embedded"]
            size = Size(made["train_rows"], made["validation_rows"], 14.0)
        else:
            size = get_task(suite, task).size or UNKNOWN_SIZE
        limits = data["task_max_train_rows"], data["max_train_rows"]
        most = limits[0].get(f"{suite}/{task}", limits[1])
        train = min(value for value in (size.train, most, limit) if value is not None)
        tokens = min(size.tokens, float(self.config["encoder"]["max_length"]))
        return Size(train, size.validation, tokens)

    def cohort(self, name: str) -> CohortSize:
        """Profiles, rows and tokens of a cohort as this config takes it."""
        if self.config["data"]["source"] == "embedded":
            authors = self.config["cohorts"]["authors"]
            return CohortSize(authors, train=40, test=20, texts=30 * authors, tokens=14.0)
        return get_cohort(name).size or UNKNOWN_COHORT

    def _cohort(
        self, job: CohortJob, rows: float, scored: float, models: float, size: CohortSize
    ) -> Need:
        frozen = job.method.method == "head_only"
        if frozen:
            rows, scored = 0, size.texts
        seconds = self._seconds(rows, scored, size.tokens)
        memory = self._memory(job.training, models, job, frozen=frozen)
        return _need(seconds, memory, scored * 3 / MB)

    def _seconds(self, rows: float, scored: float, tokens: float, *, full: bool = False) -> float:
        passes = rows * (3 if full else 2) * OVERHEAD + scored
        return START + passes * tokens * self._token_seconds

    def _memory(
        self,
        training: TrainingSpec,
        models: float,
        job: Job | CohortJob | None,
        *,
        full: bool = False,
        frozen: bool = False,
    ) -> tuple[float, float]:
        """Memory of process and GPU: encoder, bank, trained parameters, activations.

        Those of a peer or of `bitfit` are counted as an adapter's, which are more.
        """
        shape, reduction = self.shape, self.config["bank"]["reduction"]
        encoder = 4.0 * (shape.parameters or block_weights(shape))
        trained, bank = 4.0 * adapter_weights(shape, reduction), 0.0
        if job is not None and job.bank is not None:
            one = 4.0 * adapter_weights(shape, job.bank.reduction)
            bank = job.bank.n * one
            trained = one + 8.0 * shape.layers * job.bank.n
        elif full:
            trained = encoder
        elif frozen:
            trained = 4.0 * shape.width * 16
        state = 4 * trained * models  # weights, gradients, two moments
        at_once = max(training.rows_at_once, training.batch_size)
        length = self.config["encoder"]["max_length"]
        floats = 16 * shape.width + 4 * (shape.intermediate or 4 * shape.width)
        activations = 0.0 if frozen else 4.0 * at_once * length * shape.layers * floats
        made, used = (encoder + 2 * bank) / MB, (encoder + bank + state + activations) / MB
        if self.config["device"] == "cuda":
            return 2 * LIBRARIES_MB + made, used
        return LIBRARIES_MB + max(made, used), 0.0


def memory_request(need: Need, attempt: int = 1) -> int:
    """Megabytes to ask for: half as much again, in steps of 500, more with each attempt."""
    return attempt * math.ceil(1.5 * need.memory_mb / 500) * 500


def time_request(need: Need, attempt: int = 1) -> int:
    """Minutes to ask for: three times the estimate, at least 15, more with each attempt."""
    return attempt * max(15, math.ceil(3 * need.seconds / 60))


def _need(seconds: float, memory: tuple[float, float], disk_mb: float) -> Need:
    return Need(seconds, memory[0], disk_mb, memory[1])


def shape_of(encoder: dict[str, Any]) -> EncoderShape:
    """The shape of a config's encoder; that of BERT-base where nothing tells it."""
    try:
        return encoder_shape(encoder["path"] or encoder["name"])
    except EncoderError:
        return SHAPES[UNKNOWN_ENCODER]


def block_weights(shape: EncoderShape) -> int:
    """Weights of the L blocks: four products [d, d] of the attention, two [d, f]."""
    d, f = shape.width, shape.intermediate or 4 * shape.width
    return shape.layers * (4 * d * d + 2 * d * f)


def adapter_weights(shape: EncoderShape, reduction: int) -> int:
    """Numbers of one Pfeiffer adapter in all blocks, its biases included."""
    d, b = shape.width, shape.width // reduction
    return shape.layers * (2 * d * b + d + b)
