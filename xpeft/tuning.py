"""Trials of a tuning: what each trains with, and which one is chosen."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from xpeft.errors import ConfigError
from xpeft.io import read_json
from xpeft.job import TrainingSpec, TuningSpec


def with_settings(training: TrainingSpec, settings: Mapping[str, float]) -> TrainingSpec:
    """A training spec with some of its fields set otherwise.

    Raises:
        ConfigError: a setting is no field of it.
    """
    known = {field.name for field in dataclasses.fields(TrainingSpec)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(
            f"tuning trial: found the setting {unknown[0]!r}, expected some of "
            f"{', '.join(sorted(known))}"
        )
    return dataclasses.replace(training, **settings)  # type: ignore[arg-type]


def trial_specs(training: TrainingSpec, tuning: TuningSpec) -> list[TrainingSpec]:
    """What each trial trains with: its settings, and the tuning's epochs where it has some."""
    epochs = {} if tuning.epochs is None else {"epochs": tuning.epochs}
    return [with_settings(training, {**trial, **epochs}) for trial in tuning.trials]


def choose(results: Sequence[Mapping[str, Any]], where: str) -> int:
    """The number of the trial with the lowest held-out loss; the first one among equals.

    Args:
        results: a `loss` each; None for a trial that diverged, which is never chosen.
        where: what an error calls the job.

    Raises:
        ConfigError: all trials diverged.
    """
    finished = [i for i, result in enumerate(results) if result["loss"] is not None]
    if not finished:
        raise ConfigError(
            f"{where}: all {len(results)} trials diverged; lower the learning rates in the trials"
        )
    return min(finished, key=lambda i: (results[i]["loss"], i))


def read_chosen(
    path: str | os.PathLike[str], written: str
) -> tuple[dict[str, Any], dict[str, float] | None]:
    """What a tuning file says of its run, and the settings it chose; None without trials.

    Args:
        path: the file.
        written: by what, for the error.

    Raises:
        ConfigError: it is no tuning file.
        XpeftError: it is missing or not JSON.
    """
    value = read_json(path)
    try:
        chosen = value["chosen"]
        settings = None if chosen is None else dict(value["trials"][chosen]["settings"])
        return dict(value["run"]), settings
    except (KeyError, IndexError, TypeError, ValueError):
        raise ConfigError(f"{path}: found no tuning of a job, expected a file {written}") from None
