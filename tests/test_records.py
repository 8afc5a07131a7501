"""Records: what is written is read back, and what is wrong is refused by file and field."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from factory import make_cohort_record, make_people, make_record, make_tier

from xpeft.errors import RecordError
from xpeft.records import (
    read_record,
    read_records,
    record_path,
    result_bytes,
    validate,
    write_record,
)


def changed(field: str, value: Any) -> dict[str, Any]:
    """A valid record with one dotted field set, or deleted if the value is `...`."""
    record = copy.deepcopy(make_record())
    *path, last = field.split(".")
    place = record
    for key in path:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return record


@pytest.mark.parametrize("task", ["glue/sst2", "glue/stsb", "glue/wnli"])
@pytest.mark.parametrize("arm", ["head_only", "x_peft-hard-n100-k50"])
def test_a_written_record_reads_back(tmp_path: Path, task: str, arm: str) -> None:
    record = make_record(task, arm)
    write_record(tmp_path / "seed0.json", record)
    assert read_record(tmp_path / "seed0.json") == record


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema", 2, "schema: found 2, expected 1"),
        ("cell", [], r"cell: found \[\], expected an object"),
        ("cell.seed", ..., "cell.seed: missing"),
        ("cell.seed", "0", "cell.seed: found '0', expected a whole number"),
        ("cell.seed", True, "cell.seed: found True, expected a whole number"),
        ("cell.seed", -1, "cell.seed: found -1, expected 0 or more"),
        ("cell.task", "../x", r"cell.task: found '../x', expected letters"),
        ("cell.n", 1.5, "cell.n: found 1.5, expected a whole number"),
        ("result.score", float("nan"), "result.score: found nan, expected a finite number"),
        ("result.score", 0.1, "result.score: found 0.1, expected 0.8"),
        ("result.scores", {}, "result.scores.accuracy: missing"),
        (
            "result.majority.accuracy",
            0.4,
            "result.majority.accuracy: found 0.4, expected the score",
        ),
        ("result.majority", {"f1": 0.1}, "result.majority.accuracy: missing"),
        ("result.predictions", [0, 1], "result.predictions: found '2 values', expected one for"),
        ("result.confusion", [[872]], "result.confusion: found '872 rows predicted as class 0'"),
        ("result.confusion", [[1, 2]], "result.confusion: expected as many columns as rows"),
        ("result.constant", True, "result.constant: found True"),
        ("result.loss", {"step": [1], "loss": []}, "result.loss: found lists of different"),
        ("result.loss.loss", ["x"], r"result.loss.loss\[0\]: found 'x', expected a finite"),
        ("result.bytes.total", 1, "result.bytes.total: found 1, expected 3236, the sum"),
        ("result.parameters.total", 1, "result.parameters.total: found 1, expected 1970"),
        ("run.versions", {"torch": 2}, "run.versions.torch: found 2, expected a text"),
        ("run.encoder.sha256", ..., "run.encoder.sha256: missing"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    tmp_path: Path, field: str, value: Any, message: str
) -> None:
    path = tmp_path / "seed0.json"
    with pytest.raises(RecordError, match=message) as error:
        write_record(path, changed(field, value))
    assert str(error.value).startswith(f"{path}: ")
    assert not path.exists()


@pytest.mark.parametrize("task", ["glue/sst2", "glue/mrpc", "glue/cola"])
def test_a_score_changed_everywhere_it_is_said_is_not_that_of_the_confusion(task: str) -> None:
    record = make_record(task)
    name = record["result"]["primary"]
    record["result"]["score"] = record["result"]["scores"][name] = 0.9
    with pytest.raises(RecordError, match=rf"x: result.scores.{name}: found 0.9, expected 0\.\d+"):
        validate(record, "x")


def test_a_score_of_profiles_is_the_mean_of_their_accuracies() -> None:
    record = make_cohort_record(make_people("huffpost"))
    validate(record, "x")
    result = record["result"]
    result["score"] = result["scores"]["profile_accuracy"] = 0.9
    with pytest.raises(RecordError, match=r"profile_accuracy: found 0.9, expected 0\.\d+, from"):
        validate(record, "x")


def test_fields_that_may_be_absent_or_new() -> None:
    validate(changed("run.encoder_share", ...), "x")
    validate(changed("run.bank_sha256", None), "x")
    validate(changed("run.cuda", {"any": [1]}), "x")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"schema": 1}'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seed0.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"seed0\.json: "):
        read_record(tmp_path / "seed0.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_record(tmp_path / "seed0.json")


def test_result_bytes_ignore_the_run_and_the_order_of_keys() -> None:
    record, again = make_record(), make_record()
    again["run"]["wall_seconds"] = 99.0
    again["result"] = dict(reversed(again["result"].items()))
    assert result_bytes(validate(record, "a")) == result_bytes(validate(again, "b"))
    again["result"]["state_sha256"] = "1" * 64
    assert result_bytes(validate(record, "a")) != result_bytes(validate(again, "b"))


def test_a_folder_of_records(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2", "glue/rte"), seeds=2)
    records = read_records(tmp_path / "records")
    assert len(records) == 2 * 4 * 2
    assert list(records) == sorted(records)
    assert all(record_path(record["cell"]) == path for path, record in records.items())
    assert read_records(tmp_path / "absent") == {}


def test_a_record_in_the_wrong_place(tmp_path: Path) -> None:
    write_record(tmp_path / "glue" / "sst2" / "other" / "seed0.json", make_record())
    with pytest.raises(RecordError, match="found the cell of glue/sst2/x_peft-hard-n100-k50/seed0"):
        read_records(tmp_path)


def test_tiers_are_not_mixed(tmp_path: Path) -> None:
    for tier, arm in (("small", "head_only"), ("quick", "single_adapter")):
        record = make_record(arm=arm, tier=tier)
        write_record(tmp_path / record_path(record["cell"]), record)
    with pytest.raises(RecordError, match=r"found tier small .* expected one tier a folder"):
        read_records(tmp_path)


def test_reading_records_needs_no_package() -> None:
    code = "import sys, xpeft.records; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True
    )
    assert not {"torch", "numpy", "pandas", "yaml", "jsonschema"} & set(json.loads(run.stdout))
