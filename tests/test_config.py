"""Configs: the schema, its defaults, its messages, its documentation."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from xpeft.cells import job_index, make_jobs, more_seeds
from xpeft.config import (
    documentation,
    load_config,
    merge,
    read_yaml,
    resolve,
    resolve_config,
    schema,
)
from xpeft.errors import ConfigError
from xpeft.job import BankSpec, EncoderSpec, Method, MethodSpec, TrainingSpec, TuningSpec

ROOT = Path(__file__).parents[1]

BASE: dict[str, Any] = {
    "tier": "test",
    "tasks": ["embedded/sentiment"],
    "arms": {"head_only": {"method": "head_only"}},
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """BASE with a value at a dotted path."""
    config = copy.deepcopy(BASE)
    place = config
    *above, last = path.split("/")
    for key in above:
        place = place.setdefault(key, {})
    place[last] = value
    return config


def keys(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """All keys of the schema: dotted name, whether required, node."""
    node = resolve(node)
    for name, item in node.get("properties", {}).items():
        yield f"{prefix}{name}", name in node.get("required", []), resolve(item)
        yield from keys(item, f"{prefix}{name}.")
    for below in ("additionalProperties", "items"):
        if isinstance(node.get(below), dict):
            yield from keys(node[below], f"{prefix}<{below}>.")


# ------------------------------------------------------------------------------ the schema


def test_every_key_has_a_description_and_a_default() -> None:
    found = list(keys(schema()))
    assert len(found) > 80
    for name, required, node in found:
        assert node.get("description", "").endswith("."), name
        assert required != ("default" in node), f"{name}: a default or required, not both"


def test_no_mapping_takes_unknown_keys() -> None:
    for name, _, node in [("", True, schema()), *keys(schema())]:
        if "object" in str(node.get("type")):
            assert "additionalProperties" in node, name
            assert node["additionalProperties"] is not True, name


@pytest.mark.parametrize(
    ("section", "spec", "others"),
    [
        ("encoder", EncoderSpec, set()),
        ("bank", BankSpec, set()),
        ("settings", MethodSpec, {"method", "mask", "k"}),
        ("training", TrainingSpec, set()),
        ("tuning", TuningSpec, {"trials"}),
    ],
)
def test_schema_and_job_agree(section: str, spec: Any, others: set[str]) -> None:
    """Keys and defaults of the config are those of the job; `others` stand in the arm."""
    fields = {field.name: field.default for field in dataclasses.fields(spec)}
    node = resolve(schema()["properties"][section])
    defaults = {name: resolve(item)["default"] for name, item in node["properties"].items()}
    assert defaults == {name: value for name, value in fields.items() if name not in others}


def test_settings_say_where_they_come_from() -> None:
    neutral = {"path", "checkpoint_seconds"}
    for section in ("bank", "settings", "training"):
        for name, item in resolve(schema()["properties"][section])["properties"].items():
            if name not in neutral:
                assert item.get("x-origin") in ("paper", "derived", "ours"), f"{section}.{name}"


def test_the_package_holds_the_schema() -> None:
    shown = ROOT / "workflow/schemas/config.schema.json"
    assert (ROOT / "xpeft/config.schema.json").read_bytes() == shown.read_bytes()


def test_documentation_is_current() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == documentation(), (
        "run: xpeft config docs --out docs"
    )


def test_documentation_names_every_key() -> None:
    text = documentation()
    for name, _, _ in keys(schema()):
        assert f"| `{name.rpartition('.')[2]}` |" in text, name


# ---------------------------------------------------------------------------- the configs


@pytest.mark.parametrize(
    ("name", "jobs", "cells"),
    [("quick", 5, 15), ("small", 165, 615), ("paper", 496, 2480), ("people", 0, 0)],
)
def test_the_projects_configs(name: str, jobs: int, cells: int) -> None:
    path = ROOT / f"config/{name}.yaml"
    config = load_config(path)
    assert config["tier"] == name
    found = make_jobs(config)
    index = job_index(found, more_seeds(config))
    assert (len(found), sum(map(len, index.values()))) == (jobs, cells)
    assert more_seeds(config | {"seeds": [3, 0, 4]}) == {}  # of `small`
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ") and ("make" in first or "snakemake" in first)


def test_paper_is_the_full_grid() -> None:
    jobs = make_jobs(load_config(ROOT / "config/paper.yaml"))
    assert {job.encoder.revision for job in jobs} == {"86b5e0934494bd15c9632b12f734a8a67f723594"}
    assert len({(job.suite, job.task) for job in jobs}) == 17
    hard = {(job.bank.n, job.method.k) for job in jobs if job.bank is not None and job.method.k}
    assert hard == {
        (25, 12),
        (100, 10),
        (100, 18),
        (100, 25),
        (100, 50),
        (150, 75),
        (200, 100),
        (400, 200),
        (800, 400),
    }
    assert {job.seeds for job in jobs} == {(0, 1, 2, 3, 4)}
    assert {job.method.method for job in jobs} == set(get_args(Method))
    assert {len(job.tuning.trials) for job in jobs if job.tuning} == {4}  # equal budgets


# ------------------------------------------------------------------------------- defaults


def test_defaults_are_filled_in_but_not_into_overrides() -> None:
    given = {**BASE, "task_training": {"embedded/sentiment": {"epochs": 1}}, "tuning": {}}
    given["arms"] = {"a": {"method": "head_only", "trials": [{"lr": 1.0}]}}
    before = copy.deepcopy(given)
    config = resolve_config(given)
    assert given == before
    assert config["encoder"]["name"] == "all-MiniLM-L6-v2"
    assert config["data"]["embedded"]["noise"] == 0.05
    assert config["tuning"]["max_rows"] == 2000
    assert config["task_training"] == {"embedded/sentiment": {"epochs": 1}}
    assert config["arms"]["a"]["training"] == {}
    assert config["arms"]["a"]["trials"] == [{"lr": 1.0}]
    assert config["arms"]["a"]["mask"] is None


def test_defaults_are_not_shared() -> None:
    first = resolve_config(BASE)
    first["seeds"].append(99)
    first["arms"]["head_only"]["trials"].append({"lr": 1.0})
    first["data"]["embedded"]["noise"] = 0.4
    second = resolve_config(BASE)
    assert second["seeds"] == [0, 1, 2]
    assert second["arms"]["head_only"]["trials"] == []
    assert second["data"]["embedded"]["noise"] == 0.05


def test_resolving_twice_changes_nothing() -> None:
    once = resolve_config(load_config(ROOT / "config/paper.yaml"))
    assert resolve_config(once) == once


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("tier: t\ntasks: [embedded/sentiment]\narms: {a: {method: full}}\n")
    config = load_config(path, {"training": {"epochs": 7}, "arms": {"b": {"method": "head_only"}}})
    assert config["training"]["epochs"] == 7
    assert list(config["arms"]) == ["a", "b"]
    assert merge({"x": {"y": 1, "z": 2}}, {"x": {"y": 3}}) == {"x": {"y": 3, "z": 2}}


def test_text_is_read_as_the_number_that_is_expected() -> None:
    """As in `lr: 1e-3` of a file, and in all of Snakemake's `--config 'training={epochs: 3}'`."""
    given = copy.deepcopy(BASE)
    given |= {"training": {"lr": "1e-3", "batch_size": "8", "epochs": "3"}, "seeds": ["4"]}
    given |= {"settings": {"learned_gain": "true"}, "tuning": "null", "results": "7"}
    given["arms"]["head_only"] |= {"k": "null", "trials": [{"lr": "2"}]}
    config = resolve_config(given)
    training = config["training"]
    assert (training["lr"], training["batch_size"], training["epochs"]) == (0.001, 8, 3)
    assert (config["seeds"], config["tuning"], config["results"]) == ([4], None, "7")
    assert config["settings"]["learned_gain"] is True
    assert config["arms"]["head_only"]["trials"] == [{"lr": 2}]


def test_the_environment_names_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    local = with_value("data/source", "local")
    local["data"]["path"] = "data"
    monkeypatch.delenv("XPEFT_DATA", raising=False)
    assert resolve_config(local)["data"]["path"] == "data"
    monkeypatch.setenv("XPEFT_DATA", "/elsewhere")
    assert resolve_config(local)["data"]["path"] == "/elsewhere"
    assert resolve_config(BASE)["data"]["path"] is None  # the embedded source has no folder


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainig", {}, "trainig: unknown key; did you mean training? known: arms, bank,"),
        (
            "arms/head_only/center",
            True,
            "arms.head_only.center: unknown key; did you mean settings.c",
        ),
        ("epochs", 3, "epochs: unknown key; did you mean "),
        ("training/lr", "fast", "training.lr: found 'fast', expected a number"),
        ("training/lr", "nan", "training.lr: found 'nan', expected a number"),
        ("training/lr", float("inf"), "training.lr: found 'inf', expected a number"),
        ("training/lr", 0, "training.lr: found 0, expected more than 0"),
        ("training/epoch", 1, "training.epoch: unknown key; did you mean epochs?"),
        ("training/batch_size", 1.5, "training.batch_size: found 1.5, expected a whole number"),
        ("training/warmup", 1.5, "training.warmup: found 1.5, expected at most 1"),
        ("seeds", [], "seeds: found [], expected at least 1 entry"),
        ("seeds", [1, 1], "seeds: found [1, 1], expected no entry twice"),
        ("seeds", [-1], "seeds[0]: found -1, expected at least 0"),
        ("seeds", 3, "seeds: found 3, expected a list"),
        ("device", "gpu", "device: found 'gpu', expected one of 'auto', 'cpu', 'cuda'"),
        ("tier", "a/b", "tier: found 'a/b', expected letters, digits, `_` and `-`"),
        ("tier", "", "tier: found '', expected letters, digits"),
        ("results", "", "results: found '', expected text that is not empty"),
        ("tasks", ["sst2"], "tasks[0]: found 'sst2', expected <suite>/<task>, as in glue/sst2"),
        ("data/embedded/noise", 0.5, "data.embedded.noise: found 0.5, expected less than 0.5"),
        ("data/task_max_train_rows", {"a/b": 0}, "data.task_max_train_rows.a/b: found 0, expected"),
        ("settings/learned_gain", "yes", "settings.learned_gain: found 'yes', expected true or"),
        ("tuning", False, "tuning: found false, expected a mapping or null"),
        ("tuning/rows", 3, "tuning.rows: unknown key; did you mean max_rows? known: epochs, h"),
        (
            "arms/head_only",
            {"mask": "soft"},
            "arms.head_only.method: found nothing, expected: `head",
        ),
        ("arms/a b", {"method": "full"}, "arms: found 'a b', expected an arm's name of letters"),
        ("arms/a", {"method": "dora"}, "arms.a.method: found 'dora', expected one of 'head_only',"),
        (
            "arms/a",
            {"method": "full", "trials": [{"epochs": 3}]},
            "arms.a.trials[0]: found 'epochs', expected one of 'lr', 'head_lr',",
        ),
        (
            "arms/a",
            {"method": "full", "trials": [{"lr": 1}, {"lr": 1}]},
            'arms.a.trials: found [{"lr": 1}, {"lr": 1}], expected no entry twice',
        ),
    ],
)
def test_an_error_is_one_line_that_names_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(with_value(path, value), where="c.yaml")
    assert str(caught.value).startswith(f"c.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_key() -> None:
    config = {key: value for key, value in BASE.items() if key != "tier"}
    with pytest.raises(ConfigError, match=r"^config: tier: found nothing, expected: [A-Z]"):
        resolve_config(config)


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}
    path.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n  y: 4\n")
    with pytest.raises(ConfigError, match="line 5: the key 'y' stands twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"tier: a\ntier: b\n", "line 2: the key 'tier' stands twice; remove one"),
        (b"arms:\n  a: {lr: 1}\n  a: {lr: 2}\n", "line 3: the key 'a' stands twice"),
        (b"tier: [a\nb: 1\n", "line 2: expected YAML: "),
        (b"- tier\n", "found a list, expected a mapping with the key tier"),
        (b"", "found nothing, expected a mapping"),
        (b"tier: \xff\n", "expected UTF-8: "),
        (b"tier: !!python/object/apply:os.getcwd []\n", "line 1: expected YAML: "),
    ],
)
def test_bad_yaml(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
