"""The record: the one JSON file that a finished cell leaves, and all that later steps read.

    cell     which point of the grid it is (task x method x bank x mask x seed)
    result   scores, predictions, bytes: the same to the byte for the same config, seed and number
             of threads on the same processor model and versions
    run      time, memory, device, versions, git, hashes of data and encoder: what may differ

The classes below are the schema: they document the fields, type-check the code that uses them,
and `validate` walks them at run time. Beyond types it checks that a record agrees with itself
(totals are sums, the confusion matrix counts the rows and gives the scores), so that a damaged or
hand-edited record is found before a number of it is shown. Importable without anything but the
standard library; the check of scores needs numpy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    NotRequired,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from xpeft.errors import RecordError, XpeftError
from xpeft.io import canonical_json, read_json, write_json

STEP_FILE = "step.json"
"""Beside the records of a tier: what `benchmarks/step.py` measured."""

SCHEMA = 1
"""Version of the record schema. Raised when a field changes its meaning or goes away."""

PARTS = ("masks", "norm", "head", "adapter", "gain", "encoder")
"""What a profile may store; `parameters` and `bytes` count each, and their total."""

_TOLERANCE = 1e-9
"""Relative and absolute; of scores that are computed again, by other sums in another order."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*")


class Cell(TypedDict):
    """The identity of a record. `mask`, `bank`, `n`, `k` are null where the method has none."""

    tier: str
    suite: str
    task: str
    arm: str  # unique within tier and task
    method: str
    mask: str | None
    bank: str | None
    n: int | None
    k: int | None
    variant: str  # "" in the main grid, else the name of an ablation's change
    seed: int


class Rows(TypedDict):
    """Rows trained on and scored on."""

    train: int
    validation: int


class Loss(TypedDict):
    """The learning curve: mean training loss of a window that ends with `step`."""

    step: list[int]
    loss: list[float]


class Parts(TypedDict):
    """A count for each of PARTS, and their sum."""

    masks: int
    norm: int
    head: int
    adapter: int
    gain: int
    encoder: int
    total: int


class Profiles(TypedDict):
    """A cohort's targets, one entry each: who is who only by a hashed id."""

    id: list[str]  # 16 hexadecimal digits
    train: list[int]  # rows trained on
    test: list[int]  # rows scored on
    correct: list[int]  # of them, right
    usual: list[int]  # of them, right by always saying the profile's most frequent training label
    top: list[str]  # that label
    top_share: list[float]  # its share of the training rows
    masks: NotRequired[list[str]]  # bit sets of hard masks as hexadecimal digits, one seed only


class Questions(TypedDict):
    """Of a task whose rows are answers of questions: the primary score, question by question.

    The score is sum(above) / sum(below), see `xpeft.questions`; so questions can be drawn again.
    """

    above: list[float]
    below: list[float]


class Result(TypedDict):
    """What the cell measured."""

    primary: str  # name of the primary metric
    score: float  # of the primary metric, on the validation rows
    scores: dict[str, float]
    rows: Rows
    best: float | None  # best possible primary score where it is known
    majority: dict[str, float]  # scores of the best that looks at no text: see docs/tasks.md
    constant: bool  # whether all predictions are one class, one value, or one place of a choice
    confusion: list[list[int]] | None  # [true][predicted]; null for regression
    predictions: list[float]  # class codes (of a choice, 1 is taken), or values to 6 digits
    loss: Loss
    steps: int
    parameters: Parts  # trained and stored for the profile
    bytes: Parts  # stored for the profile
    settings: dict[str, Any]  # epochs and rates, with what tuning chose
    state_sha256: str  # of the trained tensors
    profiles: NotRequired[Profiles]  # of a cohort
    questions: NotRequired[Questions]  # of a task whose rows are answers


class Identity(TypedDict):
    """A name and the sha256 of what it named."""

    name: str
    sha256: str


class Run(TypedDict):
    """How the cell was run. A trainer may add fields; the report shows those named here."""

    wall_seconds: float  # of the process that wrote the record: all seeds of the job, and tuning
    rows_per_second: float
    encoder_share: NotRequired[float | None]
    peak_memory_bytes: NotRequired[int | None]
    device: str
    processor: str
    threads: int
    dtype: str
    versions: dict[str, str]
    git: str
    config_sha256: str
    data_sha256: dict[str, str]  # of the source splits, and of the prepared files
    encoder: Identity
    bank_sha256: str | None
    finished: str


class Record(TypedDict):
    """A whole record."""

    schema: int
    cell: Cell
    result: Result
    run: Run


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read and check one record.

    Raises:
        RecordError: the file is missing, is not JSON, or a field is missing or wrong.
    """
    try:
        value = read_json(path)
    except XpeftError as error:
        raise RecordError(f"{error}; delete it, and its cell is trained again") from None
    return validate(value, str(path))


def write_record(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Check a record and write it atomically, so that no invalid record is ever left behind.

    Raises:
        RecordError: a field is missing or wrong; nothing is written.
    """
    validate(record, str(path))
    write_json(path, record)


def read_records(
    folder: str | os.PathLike[str], damaged: dict[str, str] | None = None
) -> dict[str, Record]:
    """All records below a folder, by path relative to it, in order of that path.

    A file `<suite>/<task>/<arm>/seed<k>.json` must hold the cell that its path names. A folder
    that does not exist holds no records.

    Args:
        folder: of the records.
        damaged: takes what is wrong with each file that is no valid record, by its path relative
            to the folder; None raises the first of these errors.

    Raises:
        RecordError: a record is invalid, lies in the wrong place, or belongs to another tier.
    """
    root = Path(folder)
    records: dict[str, Record] = {}
    tiers: dict[str, str] = {}
    for path in sorted(root.glob("*/*/*/seed*.json")):
        relative = path.relative_to(root).as_posix()
        try:
            record = read_record(path)
        except RecordError as error:
            if damaged is None:
                raise
            damaged[relative] = str(error)
            continue
        expected = record_path(record["cell"])
        if relative != expected:
            raise RecordError(f"{path}: found the cell of {expected}; move the file there")
        tiers.setdefault(record["cell"]["tier"], relative)
        records[relative] = record
    if len(tiers) > 1:
        (first, one), (second, other) = list(tiers.items())[:2]
        raise RecordError(
            f"{root}: found tier {first} in {one} and tier {second} in {other}; "
            "expected one tier a folder"
        )
    return records


def read_index(path: str | os.PathLike[str]) -> dict[str, list[int]]:
    """The seeds of each job, from the index of a grid that `xpeft cells --index` wrote.

    Raises:
        RecordError: the file is something else.
        XpeftError: it is missing or not JSON.
    """
    value = read_json(path)
    lists = value.values() if isinstance(value, dict) else [None]
    if not all(isinstance(seeds, list) and all(type(s) is int for s in seeds) for seeds in lists):
        raise RecordError(f"{path}: found something else, expected the seeds of each job")
    return cast("dict[str, list[int]]", value)


def cell_paths(index: Mapping[str, list[int]]) -> list[str]:
    """The paths below the records folder that an index of the grid names (`xpeft cells`)."""
    return [f"{job}/seed{seed}.json" for job, seeds in index.items() for seed in seeds]


def record_path(cell: Cell) -> str:
    """Where a cell's record lies below the records folder, with `/` on every system."""
    return f"{cell['suite']}/{cell['task']}/{cell['arm']}/seed{cell['seed']}.json"


def result_bytes(record: Record) -> bytes:
    """The `result` part in canonical form: equal runs give equal bytes."""
    return canonical_json(record["result"]).encode("utf-8")


def validate(value: Any, where: str) -> Record:
    """Check plain JSON against the schema and against itself.

    Args:
        value: what was read.
        where: file name, for messages.

    Raises:
        RecordError: with the file, the field, what was found and what was expected.
    """
    found = value.get("schema") if isinstance(value, Mapping) else None
    if found != SCHEMA:
        raise RecordError(
            f"{where}: schema: found {found!r}, expected {SCHEMA}; "
            "this xpeft does not read records of that version"
        )
    check_fields(Record, value, where)
    record = cast(Record, value)
    _check_cell(record["cell"], where)
    _check_result(record["result"], where)
    return record


def check_fields(schema: Any, value: Any, where: str, field: str = "") -> None:
    """Check that a value has the type that `schema` says; unknown fields are let through.

    Args:
        schema: a TypedDict class or the type of one field.
        value: plain JSON.
        where: file name, for messages.
        field: dotted name of the value within the file, for messages.

    Raises:
        RecordError: with the file, the field, what was found and what was expected.
    """
    if is_typeddict(schema):
        if not isinstance(value, Mapping):
            raise _wrong(where, field, value, "an object")
        for key, hint in get_type_hints(schema, include_extras=True).items():
            optional = get_origin(hint) is NotRequired
            if key in value:
                inner = get_args(hint)[0] if optional else hint
                check_fields(inner, value[key], where, f"{field}.{key}" if field else key)
            elif not optional:
                name = f"{field}.{key}" if field else key
                raise RecordError(f"{where}: {name}: missing")
        return
    origin, args = get_origin(schema), get_args(schema)
    if origin in (UnionType, Union):
        if value is None and NoneType in args:
            return
        (schema,) = [item for item in args if item is not NoneType]
        check_fields(schema, value, where, field)
    elif origin is list:
        if not isinstance(value, list):
            raise _wrong(where, field, value, "a list")
        for index, item in enumerate(value):
            check_fields(args[0], item, where, f"{field}[{index}]")
    elif origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, field, value, "an object")
        for key, item in value.items():
            check_fields(args[1], item, where, f"{field}.{key}")
    elif schema is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise _wrong(where, field, value, "a finite number")
    elif schema is not Any and (type(value) is not schema):
        names = {str: "a text", int: "a whole number", bool: "true or false"}
        raise _wrong(where, field, value, names[schema])


def _check_cell(cell: Cell, where: str) -> None:
    for key in ("tier", "suite", "task", "arm"):
        text: str = cell[key]
        if not _NAME.fullmatch(text):
            raise _wrong(where, f"cell.{key}", text, "letters, digits and ._+=- (a folder name)")
    if cell["seed"] < 0:
        raise _wrong(where, "cell.seed", cell["seed"], "0 or more")


def _check_result(result: Result, where: str) -> None:
    rows = result["rows"]["validation"]
    if len(result["predictions"]) != rows:
        raise _wrong(
            where,
            "result.predictions",
            f"{len(result['predictions'])} values",
            f"one for each of the {rows} validation rows",
        )
    for name, scores in (("scores", result["scores"]), ("majority", result["majority"])):
        if result["primary"] not in scores:
            raise RecordError(f"{where}: result.{name}.{result['primary']}: missing")
    if result["score"] != result["scores"][result["primary"]]:
        raise _wrong(
            where,
            "result.score",
            result["score"],
            f"{result['scores'][result['primary']]!r}, that of the primary metric in result.scores",
        )
    confusion = result["confusion"]
    if confusion is not None:
        _check_confusion(confusion, result, where)
        _check_scores(confusion, result, where)
        one_class = len(set(result["predictions"])) == 1
        if "questions" not in result and result["constant"] != one_class:
            raise _wrong(where, "result.constant", result["constant"], "what predictions say")
    if "profiles" in result:
        _check_profiles(result["profiles"], result, where)
    if "questions" in result:
        _check_questions(result["questions"], result, where)
    if len(result["loss"]["step"]) != len(result["loss"]["loss"]):
        raise RecordError(f"{where}: result.loss: found lists of different lengths, expected equal")
    for name, counts in (("parameters", result["parameters"]), ("bytes", result["bytes"])):
        total = sum(counts[part] for part in PARTS)  # type: ignore[literal-required]
        if counts["total"] != total:
            raise _wrong(where, f"result.{name}.total", counts["total"], f"{total}, the sum")


def _check_profiles(profiles: Profiles, result: Result, where: str) -> None:
    count = len(profiles["id"])
    for name in ("train", "test", "correct", "usual", "top", "top_share", "masks"):
        if name == "masks" and name not in profiles:
            continue
        found: list[Any] = profiles[name]
        if len(found) != count:
            raise _wrong(
                where, f"result.profiles.{name}", f"{len(found)} values", f"{count}, one a profile"
            )
    if len(set(profiles["id"])) != count:
        raise RecordError(f"{where}: result.profiles.id: found an id twice, expected each once")
    if sum(profiles["test"]) != result["rows"]["validation"]:
        raise _wrong(
            where, "result.profiles.test", f"{sum(profiles['test'])} rows", "all validation rows"
        )
    shares = [c / t for c, t in zip(profiles["correct"], profiles["test"], strict=True) if t]
    found_mean = result["scores"].get("profile_accuracy")
    if found_mean is not None and shares:
        mean = math.fsum(shares) / len(shares)
        if not _close(found_mean, mean):
            raise _wrong(
                where, "result.scores.profile_accuracy", found_mean, f"{mean!r}, from the profiles"
            )


def _check_questions(questions: Questions, result: Result, where: str) -> None:
    above, below = questions["above"], questions["below"]
    if not 0 < len(above) == len(below) <= result["rows"]["validation"]:
        raise _wrong(
            where,
            "result.questions",
            f"{len(above)} and {len(below)} values",
            "two lists of one value a question",
        )
    score = math.fsum(above) / (math.fsum(below) or 1.0)
    if not math.isclose(score, result["score"], abs_tol=1e-9):
        raise _wrong(where, "result.questions", score, f"sums that give {result['score']}")


def _check_confusion(confusion: list[list[int]], result: Result, where: str) -> None:
    classes = len(confusion)
    if any(len(row) != classes for row in confusion):
        raise RecordError(f"{where}: result.confusion: expected as many columns as rows")
    for code in range(classes):
        column = sum(row[code] for row in confusion)
        predicted = result["predictions"].count(code)
        if column != predicted:
            raise _wrong(
                where,
                "result.confusion",
                f"{column} rows predicted as class {code}",
                f"{predicted}, as in result.predictions",
            )
    counted = sum(map(sum, confusion))
    if counted != result["rows"]["validation"]:
        raise _wrong(where, "result.confusion", f"{counted} rows", "all validation rows")


def _check_scores(confusion: list[list[int]], result: Result, where: str) -> None:
    """Scores and majority are what the confusion matrix gives, as far as it gives them."""
    from xpeft.stats import from_confusion

    own = from_confusion(confusion)
    for name, found in result["scores"].items():
        if name in own and not _close(found, own[name]):
            raise _wrong(
                where,
                f"result.scores.{name}",
                found,
                f"{own[name]!r}, from the confusion matrix",
            )
    if "profiles" in result or "questions" in result:
        return  # the usual label is not the same for all profiles; a choice is one of its rows
    classes = range(len(confusion))
    always = [
        from_confusion([[sum(row) if code == one else 0 for code in classes] for row in confusion])
        for one in classes
    ]
    for name, found in result["majority"].items():
        if name in own and not any(_close(found, scores[name]) for scores in always):
            raise _wrong(
                where, f"result.majority.{name}", found, "the score of always saying one class"
            )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _wrong(where: str, field: str, found: Any, expected: str) -> RecordError:
    return RecordError(f"{where}: {field or 'record'}: found {found!r}, expected {expected}")
