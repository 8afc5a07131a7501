"""`xpeft profiles`: from the command line, a store is made, filled, checked and emptied."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from profilefactory import make_format, make_head, make_profiles, same

from xpeft.cli import main
from xpeft.ids import id_text
from xpeft.io import read_json, write_json
from xpeft.profilefile import read_profiles, write_profiles
from xpeft.profiles import ProfileFormat
from xpeft.store import ProfileStore


def run(*argv: object) -> int:
    return main(["profiles", *map(str, argv)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a format, a store of eight profiles, and a file of four more."""
    monkeypatch.chdir(tmp_path)
    form = make_format()
    write_json("format.json", form.to_dict())
    assert run("create", "a.xps", "--format", "format.json") == 0
    profiles = make_profiles(form, 12)
    write_profiles("first.safetensors", profiles.take(slice(0, 8)), form)
    write_profiles("more.safetensors", profiles.take(slice(8, 12)), form)
    assert run("add", "a.xps", "--from", "first.safetensors") == 0
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line that a call which cannot work ends with."""
    capsys.readouterr()
    assert run(*argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("xpeft: error: ") and err.count("\n") == 1
    return err


def test_from_a_format_to_a_store_and_out_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    profiles = make_profiles(make_format(), 12)
    assert run("add", "a.xps", "--from", "more.safetensors") == 0
    assert capsys.readouterr().out == "a.xps: 4 added, 0 replaced, 12 profiles\n"
    assert run("list", "a.xps") == 0
    assert capsys.readouterr().out.split() == [id_text(i) for i in sorted(profiles.ids.tolist())]
    assert run("list", "a.xps", "--header") == 0
    shown = json.loads(capsys.readouterr().out)
    assert ProfileFormat.from_dict(shown["format"]) == make_format() and shown["profiles"] == 12
    assert run("verify", "a.xps") == 0
    assert capsys.readouterr().out.startswith("a.xps: ok, 12 profiles, 0 names, ")
    assert run("verify", "a.xps", "--recover") == 0
    assert run("export", "a.xps", "--out", "all.safetensors") == 0
    found, form = read_profiles("all.safetensors")
    assert same(found, profiles.take(np.argsort(profiles.ids))) and form == make_format()
    chosen = [id_text(int(i)) for i in profiles.ids[[5, 2]]]
    assert run("export", "a.xps", "--id", chosen[0], "--id", chosen[1], "--out", "two.st") == 0
    assert same(read_profiles("two.st")[0], profiles.take([5, 2]))
    assert run("compact", "a.xps") == 0
    assert "bytes before" in capsys.readouterr().out


def test_get_shows_a_profile(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    profiles = make_profiles(make_format(), 12)
    assert profiles.down is not None and profiles.head_bias is not None
    name = id_text(int(profiles.ids[3]))
    assert run("get", "a.xps", name) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["id"] == name and shown["bytes"] == make_format().payload_bytes
    assert shown["down"] == [np.flatnonzero(row).tolist() for row in profiles.down[3]]
    assert shown["head_bias"] == profiles.head_bias[3].tolist()


def test_names_go_in_and_show_only_when_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    ids = [id_text(int(i)) for i in make_profiles(make_format(), 12).ids]
    Path("names.tsv").write_text(f"{ids[8]}\tJane Doe\n{ids[10]}\tZoë\n")
    assert run("add", "a.xps", "--from", "more.safetensors", "--names", "names.tsv") == 0
    assert run("list", "a.xps") == run("get", "a.xps", ids[8]) == run("verify", "a.xps") == 0
    assert "Jane" not in capsys.readouterr().out
    assert run("list", "a.xps", "--names") == 0
    out = capsys.readouterr().out
    assert f"{ids[8]}\tJane Doe\n" in out and f"{ids[9]}\n" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0} no tab\n", "line 1: expected an id, a tab and a name"),
        ("{0}\ta\n{0}\tb\n", "line 2: found {0} again"),
        ("xyz\ta\n", "line 1: profile id: found 'xyz'"),
        ("00000000000000ff\ta\n", "found a name for 00000000000000ff, which is not among"),
    ],
)
def test_names_that_do_not_fit(
    folder: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = id_text(int(make_profiles(make_format(), 12).ids[8]))
    Path("names.tsv").write_text(text.format(first))
    err = fails(capsys, "add", "a.xps", "--from", "more.safetensors", "--names", "names.tsv")
    assert message.format(first) in err
    with ProfileStore.open("a.xps") as store:
        assert len(store) == 8  # nothing was added


def test_adding_replaces_only_when_asked_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is there already" in fails(capsys, "add", "a.xps", "--from", "first.safetensors")
    assert run("add", "a.xps", "--from", "first.safetensors", "--replace") == 0
    assert capsys.readouterr().out == "a.xps: 0 added, 8 replaced, 8 profiles\n"


def test_one_store_into_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "b.xps", "--like", "a.xps") == 0
    assert run("add", "b.xps", "--from", "a.xps") == 0
    with ProfileStore.open("a.xps") as one, ProfileStore.open("b.xps") as other:
        assert one.digest == other.digest
        assert same(one.get_many(one.ids()), other.get_many(one.ids()))
    assert "found the store itself" in fails(capsys, "add", "a.xps", "--from", "a.xps")


def test_profiles_of_another_bank_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json("other.json", make_format(bank="seed 1").to_dict())
    assert run("create", "b.xps", "--format", "other.json") == 0
    err = fails(capsys, "add", "b.xps", "--from", "a.xps")
    assert "a store of another header" in err and "differ in bank" in err
    err = fails(capsys, "add", "b.xps", "--from", "more.safetensors")
    assert "profiles of another format" in err and "differ in bank" in err


def test_a_shared_head_comes_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import save_file

    form = make_format(head="shared")
    weight, bias = make_head(form)
    save_file({"weight": weight, "bias": bias}, "head.safetensors")
    write_json("shared.json", form.to_dict())
    create = ("create", "s.xps", "--format", "shared.json")
    assert "shared head: found none" in fails(capsys, *create)
    assert "expected a safetensors file" in fails(capsys, *create, "--shared-head", "format.json")
    assert run(*create, "--shared-head", "head.safetensors") == 0
    with ProfileStore.open("s.xps") as store:
        assert store.shared_head is not None and np.array_equal(store.shared_head[0], weight)
    assert run("create", "t.xps", "--like", "s.xps") == 0
    with ProfileStore.open("s.xps") as one, ProfileStore.open("t.xps") as other:
        assert one.digest == other.digest


def test_verify_lists_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = Path("a.xps").read_bytes()
    profiles = make_profiles(make_format(), 12)
    row = make_format().encode(profiles)[5].tobytes()
    Path("a.xps").write_bytes(content.replace(row, row[:50] + bytes([row[50] ^ 4]) + row[51:]))
    capsys.readouterr()
    assert run("verify", "a.xps") == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"profile {id_text(int(profiles.ids[5]))}: found a checksum")
    assert err.startswith("xpeft: error: a.xps: found 1 problems, listed above")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("verify", "none.xps"), "none.xps: no such file; make a store"),
        (("verify", "format.json"), "format.json: found something else than an SQLite file"),
        (("create", "a.xps", "--format", "format.json"), "a.xps: exists already"),
        (("create", "b.xps", "--format", "a.xps"), "a.xps: expected JSON"),
        (
            ("create", "b.xps", "--format", "format.json", "--labels", "a,b"),
            "--labels, --head, --codec: found without --job",
        ),
        (
            ("add", "a.xps", "--from", "more.safetensors", "--names", "more.safetensors"),
            "more.safetensors: cannot be read as lines",
        ),
        (("add", "a.xps", "--from", "none"), "none: no such file"),
        (("add", "a.xps", "--from", "format.json"), "cannot be read as profiles"),
        (("get", "a.xps", "12"), "found '12', expected 16 hex digits"),
        (("get", "a.xps", "00000000000000ff"), "found no profile 00000000000000ff"),
        (("export", "a.xps", "--adapterhub", "--out", "x"), "expected one --id"),
    ],
)
def test_errors(
    folder: Path, argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert message in fails(capsys, *argv)
    assert sorted(path.name for path in folder.iterdir()) == before


# -------------------------------------------------------- with an encoder, a bank, a method

JOB = {
    "tier": "test",
    "suite": "embedded",
    "task": "sentiment",
    "arm": "hard",
    "seeds": [0],
    "encoder": {"name": "tiny", "source": "local", "path": "encoder", "dtype": "float32"},
    "method": {"mask": "hard", "k": 2, "norm": "none", "learned_gain": True},
    "training": {},
    "bank": {"n": 6, "reduction": 4, "down_std": 0.3, "up_std": 0.3, "seed": 5},
}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store made for a job, with two profiles."""
    from localencoder import save_encoder

    monkeypatch.chdir(tmp_path)
    save_encoder(tmp_path / "encoder")
    write_json("job.json", JOB)
    assert run("create", "a.xps", "--job", "job.json", "--labels", "no,yes") == 0
    with ProfileStore.open("a.xps", read_only=False) as store:
        store.put_many(make_profiles(store.format, 2))
    return tmp_path


def test_a_store_for_a_job_is_bound_to_its_encoder_and_bank(trained: Path) -> None:
    from xpeft.encoder import load_encoder
    from xpeft.job import Job
    from xpeft.methods import make_bank

    job = Job.read("job.json")
    encoder = load_encoder(job.encoder)
    bank = make_bank(encoder, job.bank)  # type: ignore[arg-type]
    with ProfileStore.open(
        "a.xps", encoder_sha256=encoder.digest, bank_sha256=bank.digest
    ) as store:
        form = store.format
    assert form == ProfileFormat.of(encoder, bank, job.method, ["no", "yes"])


def test_a_store_for_a_job_with_a_seeded_head_holds_that_head(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xpeft.encoder import load_encoder
    from xpeft.heads import seeded_head
    from xpeft.job import Job

    write_json("seeded.json", JOB | {"head": "seeded"})
    assert "--labels: found none" in fails(capsys, "create", "b.xps", "--job", "seeded.json")
    assert run("create", "b.xps", "--job", "seeded.json", "--labels", "no,yes") == 0
    drawn = seeded_head(2, load_encoder(Job.read("seeded.json").encoder))
    with ProfileStore.open("b.xps") as store:
        assert store.format.head == "shared"
        with ProfileStore.open("a.xps") as private:
            head = 4 * 2 * (private.format.width + 1)
            assert store.format.payload_bytes == private.format.payload_bytes - head
        assert store.shared_head is not None
        weight, bias = store.shared_head
    assert (weight == drawn["head.weight"][0].float().numpy()).all() and not bias.any()


def test_verify_compares_the_bank(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xpeft.bank import random_bank, save_bank

    save_bank(random_bank(2, 6, 16, 4, seed=5, down_std=0.3, up_std=0.3), "right")
    save_bank(random_bank(2, 6, 16, 4, seed=6, down_std=0.3, up_std=0.3), "wrong")
    assert run("verify", "a.xps", "--bank", "right") == 0
    assert "bank: found digest" in fails(capsys, "verify", "a.xps", "--bank", "wrong")


def test_a_profile_is_exported_as_an_adapter(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from xpeft.adapterhub import import_adapter
    from xpeft.bank import random_bank
    from xpeft.masks import aggregate_scale

    with ProfileStore.open("a.xps") as store:
        identity = int(store.ids()[0])
        profile = store.get(identity)
    name = id_text(identity)
    export = ("export", "a.xps", "--id", name, "--adapterhub", "--out", "adapter")
    assert "--model-name" in fails(capsys, *export)
    assert run(*export, "--model-name", "tiny") == 0
    assert read_json("adapter/adapter_config.json")["name"] == name
    bank = random_bank(2, 6, 16, 4, seed=5, down_std=0.3, up_std=0.3)
    assert profile.down is not None and profile.up is not None and profile.gain is not None
    found = import_adapter("adapter")
    scale, gain = aggregate_scale(2, "sqrt"), torch.from_numpy(profile.gain[0])
    for side, mask, weights in ((0, profile.down, bank.down), (1, profile.up, bank.up)):
        chosen = torch.from_numpy(mask[0]).to(torch.float32)
        expected = torch.einsum("ln,lnde->lde", chosen, weights) * scale * gain[:, side, None, None]
        torch.testing.assert_close((found.down, found.up)[side], expected)
