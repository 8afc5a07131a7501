"""The command line: every verb, its help, its exit status, its one-line errors."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from factory import make_tier
from localencoder import save_encoder

from xpeft.cli import main, parser
from xpeft.cli import report as report_verbs
from xpeft.cli.documentation import cli_documentation
from xpeft.io import read_json, write_json
from xpeft.ledger_table import format_table

ROOT = Path(__file__).parents[1]
NOT_FOR_TRAINING = (
    "datasets evaluate jsonschema matplotlib pandas seaborn sentence_transformers snakemake".split()
)
VERBS = "plan stage cells data bank train cohort profiles ledger examples summary".split()
VERBS += ["claims", "figures", "tables", "papers", "report", "verify", "config"]

CONFIG = """
tier: test
encoder: {name: tiny, source: local, path: %s, dtype: float32}
data: {embedded: {train_rows: 40, validation_rows: 20}}
tasks: [embedded/sentiment]
seeds: [0, 1]
device: cpu
training: {epochs: 1, batch_size: 8}
tuning: {epochs: 1, max_rows: 20}
arms:
  head_only: {method: head_only, trials: [{head_lr: 0.01}, {head_lr: 0.1}]}
  hard: {method: x_peft, mask: hard, k: 2, bank: {n: 4, reduction: 4}, trials: [{lr: 1}, {lr: 2}]}
"""


def run(*argv: object) -> int:
    return main([str(word) for word in argv])


def leaves(verb: argparse.ArgumentParser, prefix: str = "") -> Iterator[str]:
    below = [
        (name, item)
        for action in verb._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, item in action.choices.items()
    ]
    if not below:
        yield prefix.strip()
    for name, item in below:
        yield from leaves(item, f"{prefix} {name}")


LEAVES = list(leaves(parser()))


# ----------------------------------------------------------------------------------- help


def test_the_verbs() -> None:
    assert list(dict.fromkeys(leaf.split()[0] for leaf in LEAVES)) == VERBS


@pytest.mark.parametrize("leaf", LEAVES)
def test_help_shows_an_example(leaf: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run(*leaf.split(), "--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    example = text.partition("example:\n")[2]
    assert f"xpeft {leaf}" in example
    assert "  --help" in text or "-h, --help" in text


@pytest.mark.parametrize("leaf", LEAVES)
def test_examples_are_valid_commands(leaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of every example are those that the verb takes."""
    text = cli_documentation(parser()).partition(f"## `xpeft {leaf}`\n")[2].partition("```\n\n")[0]
    commands = [
        line.partition(f"xpeft {leaf}")[2] for line in text.splitlines() if f"xpeft {leaf}" in line
    ]
    assert commands
    for command in commands:
        parser().parse_args([*leaf.split(), *command.split()])


def test_documentation_is_current() -> None:
    assert (ROOT / "docs/cli.md").read_text() == cli_documentation(parser()), (
        "run: xpeft config docs --out docs"
    )


def test_docs_are_written(tmp_path: Path) -> None:
    assert run("config", "docs", "--out", tmp_path) == 0
    for name in ("cli.md", "configuration.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run("--version")
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith("xpeft 0.")


def test_a_verb_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run()
    assert done.value.code == 2
    assert "VERB" in capsys.readouterr().err


def test_help_is_instant() -> None:
    """No verb's libraries are imported to show the help, or to resolve a config."""
    code = (
        "import sys; from xpeft.cli import main\n"
        "main(['cells', '--config', 'config/quick.yaml'])\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'matplotlib', 'snakemake'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cells", "--config", "none.yaml"], "none.yaml: no such config file"),
        (["cells", "--job", "{}"], "--out: found nothing, expected the file to write"),
        (["cells", "--job", "{", "--out", "x"], "--job: expected JSON: "),
        (["cells", "--job", "{}", "--out", "x"], "job: "),
        (
            ["data", "--task", "glue/nope", "--source", "embedded", "--out", "x"],
            "task glue/nope: unknown task 'nope'",
        ),
        (["data", "--task", "sst2", "--source", "embedded", "--out", "x"], "task sst2/: unknown"),
        (
            ["data", "--task", "glue/rte", "--source", "hub", "--noise", "0.1", "--out", "x"],
            "--noise: only the source embedded has it, found hub",
        ),
        (["bank", "verify", "none"], "none/manifest.json: no such file"),
        (
            ["bank", "random", "--encoder", "all-MiniLM-L6-v2", "--reduction", "7", "--out", "x"],
            "--reduction: found 7, expected a divisor of the width 384",
        ),
        (
            "train --job none.json --data x --out x --tuning x --work x".split(),
            "none.json: no such file",
        ),
        (["ledger", "--encoder", "nope"], "encoder 'nope': no such config file and no known name"),
        (["claims", "--summary", "none.json", "--out", "x"], "none.json: no such file"),
        (
            ["claims", "--summary", "none.json", "--out", "x", "--markdown", "."],
            "--markdown: found a folder, ., expected a file to write",
        ),
        (["cells", "--job", "3", "--out", "x"], "job: found 3, expected an object"),
        (
            ["bank", "random", "--encoder", "all-MiniLM-L6-v2", "--up-std", "inf", "--out", "x"],
            "random bank: found down_std=0.02, up_std=inf, seed=0, expected deviations above 0",
        ),
        (
            ["bank", "random", "--encoder", "all-MiniLM-L6-v2", "--seed", "-1", "--out", "x"],
            "random bank: found down_std=0.02, up_std=0.02, seed=-1, expected deviations above 0",
        ),
        (
            ["summary", "--records", "none", "--out", "x"],
            "--records: found no folder none, expected that of the records",
        ),
        (
            ["summary", "--records", ".", "--tuning", "none", "--out", "x"],
            "--tuning: found no folder none, expected that of the tuning files",
        ),
        (
            ["summary", "--records", ".", "--planned-hours", "nan", "--out", "x"],
            "--planned-hours: found nan, expected a number of hours",
        ),
        (
            ["examples", "--records", "none", "--data", ".", "--out", "x"],
            "--records: found no folder none, expected that of the records",
        ),
        (
            ["examples", "--records", ".", "--data", "none", "--out", "x"],
            "--data: found no folder none, expected that of prepared data",
        ),
        (
            ["report", "--tier", "none", "--out", "x"],
            "--tier: found no folder none, expected that of a tier's results",
        ),
        (["profiles", "list", "."], ".: found a folder, expected the file of a store"),
        (["config", "validate", "none.yaml"], "none.yaml: no such config file"),
    ],
)
def test_an_error_is_one_line_and_exit_2(
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"xpeft: error: {message}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_file_of_another_verb_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tier(tmp_path / "tier")
    summary, other = tmp_path / "summary.json", tmp_path / "other.json"
    assert run("summary", "--records", tmp_path / "tier/records", "--out", summary) == 0
    write_json(other, {"schema": 1, "tier": "else"})
    write_json(tmp_path / "claims.json", {"tier": "else", "verdicts": [], "changes": []})
    to = ("--out", tmp_path / "made")
    records = ("summary", "--records", tmp_path / "tier/records", *to)
    claims = ("--claims", other)
    cases = [
        (("claims", "--summary", summary, "--ledger", other, *to), "a file of xpeft ledger"),
        (("figures", "--summary", summary, "--ledger", other, *claims, *to), "of xpeft ledger"),
        (("tables", "--summary", summary, "--ledger", other, *claims, *to), "of xpeft ledger"),
        ((*records, "--examples", other), "a file of xpeft examples"),
        ((*records, "--cells", other), "expected the seeds of each job"),
        (
            ("papers", "--summary", summary, "--claims", tmp_path / "claims.json", *to,
             "--config", ROOT / "config/quick.yaml"),
            "found claims of the tier else with a summary of ",
        ),
    ]  # fmt: skip
    for argv, message in cases:
        capsys.readouterr()
        assert run(*argv) == 2, argv
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
        assert not (tmp_path / "made").exists()


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def large(args: argparse.Namespace) -> None:
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(report_verbs, "_ledger", large)
    assert run("ledger", "--encoder", "bert-base-uncased") == 2
    assert capsys.readouterr().err == "xpeft: error: out of memory: Unable to allocate 3 TiB\n"


def test_validate_checks_cohorts_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "config/quick.yaml").read_text()
    assert run("config", "validate", ROOT / "config/quick.yaml") == 0
    assert "ok, 8 jobs, 18 cells" in capsys.readouterr().out
    for old, new, message in (
        ("profiles/embedded_authors", "profiles/nosuch", "nosuch"),
        ("authors: 24", "authors: 25", "cohorts.authors: found 25, expected an even number"),
    ):
        assert old in text
        (tmp_path / "c.yaml").write_text(text.replace(old, new))
        assert run("config", "validate", tmp_path / "c.yaml") == 2
        assert message in capsys.readouterr().err


def test_no_permission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run("cells", "--config", ROOT / "config/quick.yaml", "--out", tmp_path / "file") == 2
    err = capsys.readouterr().err
    assert err.startswith("xpeft: error: ") and err.count("\n") == 1


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert run("cells", "--config", ROOT / "config/quick.yaml") == 2
    assert capsys.readouterr().err == (
        "xpeft: error: this needs the package yaml: pip install 'xpeft[suite]'\n"
    )


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(report_verbs, "_ledger", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("ledger", "--encoder", "bert-base-uncased")


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report_verbs, "_ledger", interrupted)
    assert run("ledger", "--encoder", "bert-base-uncased") == 130
    assert capsys.readouterr().err == "xpeft: interrupted\n"


def test_sigterm_leaves_no_half_file(tmp_path: Path) -> None:
    """A verb that is ended in the middle of a write removes its temporary file."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "import xpeft.io, xpeft.cli\n"
        "def slow(path, job):\n"
        "    with xpeft.io.atomic_path(path) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "import xpeft.cells; xpeft.cells.write_job = slow\n"
        "sys.exit(xpeft.cli.main(sys.argv[1:]))"
    )
    argv = ["cells", "--config", "config/quick.yaml", "--out", str(tmp_path / "jobs")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 143
    assert err == "xpeft: ended by SIGTERM\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_closed_pipe_is_no_error() -> None:
    command = f"'{sys.executable}' -m xpeft config show config/paper.yaml | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


# ---------------------------------------------------------------------------- verb by verb


def test_cells_lists_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cells", "--config", ROOT / "config/quick.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "embedded/sentiment/head_only  seeds 0 1 2"
    assert lines[-1] == "8 jobs, 18 cells"


def test_cells_writes_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("cells", "--config", ROOT / "config/quick.yaml", "--out", tmp_path)
    assert run(*argv) == 0
    path = tmp_path / "embedded/sentiment/head_only.json"
    kept = path.stat().st_mtime_ns
    (tmp_path / "embedded/sentiment/full.json").unlink()
    capsys.readouterr()
    assert run(*argv) == 0
    assert capsys.readouterr().out == f"8 jobs, 18 cells; 1 files written to {tmp_path}\n"
    assert path.stat().st_mtime_ns == kept
    text = path.read_text()
    one = tmp_path / "one.json"
    assert run("cells", "--job", text, "--out", one) == 0
    assert one.read_text() == text
    assert run("cells", "--index", '{"a/b/c": [0]}', "--out", one) == 0
    assert read_json(one) == {"a/b/c": [0]}


def test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d"
    argv = ["data", "--task", "embedded/sentiment", "--source", "embedded", "--out", out]
    argv += ["--train-rows", "40", "--validation-rows", "10", "--noise", "0.1", "--seed", "3"]
    assert run(*argv, "--max-train-rows", "30") == 0
    assert capsys.readouterr().out == (
        "embedded/sentiment: 30 of 40 training rows, 10 validation rows, "
        "from embedded generator, noise 0.1, seed 3\n"
    )
    assert read_json(out / "meta.json")["rows"] == {"train": 30, "validation": 10}


def test_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bank"
    argv = ("bank", "random", "--encoder", "all-MiniLM-L6-v2", "--n", "2", "--seed", "5")
    assert run(*argv, "--out", out) == 0
    line = capsys.readouterr().out
    assert "random bank, L=6 N=2 d=384 b=24, sha256 " in line
    assert run("bank", "verify", out) == 0
    assert capsys.readouterr().out.endswith(line.rpartition(" ")[2])
    assert run("bank", "info", out) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["seed"] == 5
    exported, imported = tmp_path / "adapter", tmp_path / "imported"
    argv = ("bank", "export", out, "--name", "a", "--model-name", "m", "--out", exported)
    assert run(*argv, "--adapter", "2") == 2
    assert "--adapter: found 2, expected 0 to 1" in capsys.readouterr().err
    assert run(*argv, "--adapter", "1") == 0
    assert run("bank", "import", exported, "--out", imported) == 0
    assert "imported bank, L=6 N=1 d=384 b=24" in capsys.readouterr().out
    assert run("bank", "verify", imported) == 0


def test_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("ledger", "--encoder", "bert-base-uncased", "--adapters", "100")
    assert run(*argv, "--json") == 0
    account = json.loads(capsys.readouterr().out)
    assert account["adapter"]["bytes"] == 3578112
    assert account["masks"]["hard_bits"]["bytes"] == 312
    assert run(*argv, "--out", tmp_path / "deep" / "ledger.json") == 0
    assert read_json(tmp_path / "deep" / "ledger.json") == account
    capsys.readouterr()
    assert run(*argv) == 0
    assert capsys.readouterr().out == format_table(account)


def test_config_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "validate", *sorted(ROOT.glob("config/*.yaml"))) == 0
    assert capsys.readouterr().out.count(": ok, ") == 4
    assert run("config", "show", ROOT / "config/small.yaml") == 0
    assert json.loads(capsys.readouterr().out)["training"]["warmup"] == 0.06
    bad = tmp_path / "bad.yaml"
    bad.write_text("tier: t\ntasks: [glue/none]\narms: {a: {method: full}}\ndata: {source: hub}\n")
    assert run("config", "validate", bad) == 2
    assert "bad.yaml: tasks[0]: task glue/none" in capsys.readouterr().err


# --------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of a tiny config, made by the verbs alone."""
    root = tmp_path_factory.mktemp("trained")
    save_encoder(root / "encoder")
    (root / "c.yaml").write_text(CONFIG % (root / "encoder"))
    assert run("cells", "--config", root / "c.yaml", "--out", root / "jobs") == 0
    argv = ["--task", "embedded/sentiment", "--source", "embedded", "--out", root / "data"]
    assert run("data", *argv, "--train-rows", 40, "--validation-rows", 20) == 0
    for arm in ("head_only", "hard"):
        train(root, arm)
    return root


def train(root: Path, arm: str) -> subprocess.CompletedProcess[str]:
    """Train an arm in a process of its own, which has only what training may need."""
    code = (
        "import sys; from xpeft.cli import main\n"
        f"sys.modules.update(dict.fromkeys({NOT_FOR_TRAINING}))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    job = f"embedded/sentiment/{arm}"
    argv: list[object] = ["train", "--job", root / f"jobs/{job}.json", "--data", root / "data"]
    argv += ["--out", root / f"records/{job}", "--tuning", root / f"tuning/{job}.json"]
    argv += ["--work", root / f"work/{job}", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def test_train_leaves_records_and_tuning(trained: Path) -> None:
    for arm in ("head_only", "hard"):
        job = f"embedded/sentiment/{arm}"
        for seed in (0, 1):
            record = read_json(trained / f"records/{job}/seed{seed}.json")
            assert record["cell"]["arm"] == arm and record["cell"]["seed"] == seed
            assert record["run"]["device"] == "cpu" and record["run"]["threads"] == 1
        tuning = read_json(trained / f"tuning/{job}.json")
        assert len(tuning["trials"]) == 2 and tuning["job"] == job
        assert not (trained / f"work/{job}").exists()


def test_training_again_gives_the_same_result(trained: Path) -> None:
    path = trained / "records/embedded/sentiment/hard/seed1.json"
    before = read_json(path)["result"]
    path.unlink()
    train(trained, "hard")
    assert read_json(path)["result"] == before


def test_summary_takes_the_cells_of_the_grid(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, out = tmp_path / "cells.json", tmp_path / "summary.json"
    argv = ("summary", "--records", trained / "records", "--out", out)
    assert run(*argv) == 0
    assert len(read_json(out)["records"]) == 4
    assert run("cells", "--index", '{"embedded/sentiment/hard": [1]}', "--out", index) == 0
    assert run(*argv, "--cells", index) == 0
    assert list(read_json(out)["records"]) == ["embedded/sentiment/hard/seed1.json"]
    assert run("cells", "--index", '{"embedded/sentiment/hard": [7]}', "--out", index) == 0
    assert run(*argv, "--cells", index) == 2
    assert "seed7.json" in capsys.readouterr().err


def test_the_library_example_of_the_readme(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    for old, new in (
        ("results/quick/jobs/embedded/sentiment/x_peft-soft-n100.json", "jobs/{}.json"),
        ("results/quick/data/embedded/sentiment", "data"),
    ):
        assert old in code
        code = code.replace(old, str(trained / new.format("embedded/sentiment/hard")))
    code = code.replace("/tmp/longer", str(tmp_path / "longer"))
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.strip()) == 64  # the bank's digest
    settings = read_json(tmp_path / "longer/records/seed1.json")["result"]["settings"]
    assert settings["epochs"] == 5


def test_sigterm_while_training(trained: Path, tmp_path: Path) -> None:
    """The verb ends with 143; the next one with the same work folder goes on and finishes."""
    job = read_json(trained / "jobs/embedded/sentiment/hard.json")
    job["training"] |= {"epochs": 100000, "checkpoint_seconds": 3600}
    job["tuning"] = None
    (tmp_path / "job.json").write_text(json.dumps(job))
    argv: list[object] = ["train", "--job", tmp_path / "job.json", "--data", trained / "data"]
    argv += ["--out", tmp_path / "records", "--tuning", tmp_path / "tuning.json"]
    argv += ["--work", tmp_path / "work", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xpeft", *map(str, argv)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training:"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.splitlines()[-1].startswith("xpeft: ended by SIGTERM; the same command goes on")
    assert list((tmp_path / "work").glob("*.safetensors"))
    assert not (tmp_path / "records").exists()
