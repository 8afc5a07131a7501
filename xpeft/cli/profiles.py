"""`xpeft profiles`: make a store, fill it, look into it, check it, take profiles out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpeft.cli.parts import Args, Verbs, add_file, add_group, add_verb
from xpeft.errors import StoreError

if TYPE_CHECKING:
    from xpeft.bank import Bank
    from xpeft.profiles import HeadKind, Profiles
    from xpeft.store import ProfileStore

BATCH = 20_000  # profiles in memory at once


def add(verbs: Verbs) -> None:
    """Add the verb and those below it."""
    group = add_group(verbs, "profiles", "Keep profiles in a store: one file for any number.")
    verb = add_verb(
        group,
        "create",
        "Make an empty store for an encoder, a bank and a method.",
        _create,
        "xpeft profiles create authors.xps --format format.json\n"
        "xpeft profiles create authors.xps --like other.xps\n"
        "xpeft profiles create authors.xps --job job.json --labels no,yes --head private",
    )
    _store(verb, "file to make; it must not exist")
    source = verb.add_mutually_exclusive_group(required=True)
    for flag, metavar, text in (
        ("--format", "FILE", "JSON of a ProfileFormat (xpeft.profiles)"),
        ("--like", "STORE", "store whose format and shared head are taken"),
        ("--job", "FILE", "job file, whose encoder, bank and method are taken"),
    ):
        source.add_argument(flag, type=Path, metavar=metavar, help=text)
    verb.add_argument("--labels", help="with --job: class names in code order, with commas")
    verb.add_argument(
        "--head",
        choices=("private", "binary", "shared", "shared+bias", "none"),
        help="with --job: whose the head is (default: the job's, shared if that is seeded)",
    )
    verb.add_argument(
        "--codec",
        choices=("bits", "enumerative", "soft32", "soft16"),
        help="with --job: how masks are kept (default: bits if hard, soft32 if soft)",
    )
    add_file(
        verb, "--shared-head", "safetensors with weight [C, d] and bias [C], for a shared head"
    )

    verb = add_verb(
        group,
        "add",
        "Add profiles of a safetensors file or of another store: all of them or none.",
        _put,
        "xpeft profiles add authors.xps --from trained.safetensors\n"
        "xpeft profiles add authors.xps --from other.xps --replace",
    )
    _store(verb)
    add_file(
        verb,
        "--from",
        "safetensors file with one tensor a field (ids, down, up, gain, norm_weight, norm_bias, "
        "head_weight, head_bias), or a store of the same header",
        dest="source",
        required=True,
    )
    add_file(verb, "--names", "lines of id, tab, name, for profiles that are added")
    verb.add_argument("--replace", action="store_true", help="replace profiles that are there")

    verb = add_verb(
        group,
        "get",
        "Show a profile as JSON: the adapters that it selects, its bytes, its norm and gain.",
        _get,
        "xpeft profiles get authors.xps 00c0ffee00c0ffee",
    )
    _store(verb)
    verb.add_argument("id", help="16 hex digits, as list shows them")

    verb = add_verb(
        group,
        "list",
        "List the ids, one a line.",
        _list,
        "xpeft profiles list authors.xps\nxpeft profiles list authors.xps --header",
    )
    _store(verb)
    verb.add_argument("--names", action="store_true", help="show names beside ids")
    verb.add_argument(
        "--header", action="store_true", help="show what all profiles share, as JSON, and no ids"
    )

    verb = add_verb(
        group,
        "verify",
        "Read a whole store and check every page, checksum and code.",
        _verify,
        "xpeft profiles verify authors.xps --bank banks/random100",
    )
    _store(verb)
    add_file(verb, "--bank", "folder of the bank that the store must be for", metavar="DIR")
    verb.add_argument(
        "--recover",
        action="store_true",
        help="first take back what a writer that was ended in the middle had begun",
    )

    verb = add_verb(
        group,
        "export",
        "Write profiles to a safetensors file, or one as a folder that AdapterHub loads.",
        _export,
        "xpeft profiles export authors.xps --out authors.safetensors\n"
        "xpeft profiles export authors.xps --id 00c0ffee00c0ffee --adapterhub "
        "--model-name bert-base-uncased --out adapters/author",
    )
    _store(verb)
    verb.add_argument(
        "--id", action="append", metavar="ID", help="a profile; may be given several times"
    )
    add_file(verb, "--out", "file to write; a folder with --adapterhub", required=True)
    verb.add_argument(
        "--adapterhub",
        action="store_true",
        help="write the one profile's aggregate as an adapter; norm `none` only",
    )
    add_file(
        verb,
        "--bank",
        "with --adapterhub: folder of the store's bank (a random one needs none)",
        metavar="DIR",
    )
    verb.add_argument("--name", help="with --adapterhub: the adapter's name (default: the id)")
    verb.add_argument("--model-name", help="with --adapterhub: encoder that it belongs to")
    verb.add_argument(
        "--model-type", default="bert", help="with --adapterhub: its family (default: %(default)s)"
    )

    verb = add_verb(
        group,
        "compact",
        "Give back the room that removed profiles took.",
        _compact,
        "xpeft profiles compact authors.xps",
    )
    _store(verb)


def _store(verb: argparse.ArgumentParser, text: str = "file of the store") -> None:
    verb.add_argument("store", type=Path, metavar="STORE", help=text)


def _open(path: Path, **options: Any) -> ProfileStore:
    from xpeft.store import ProfileStore

    return ProfileStore.open(path, **options)


def _create(args: Args) -> None:
    from xpeft.io import read_json
    from xpeft.profiles import ProfileFormat
    from xpeft.store import ProfileStore

    if args.job is None and (args.labels or args.head or args.codec):
        raise StoreError("--labels, --head, --codec: found without --job, expected them with it")
    head = None
    if args.format is not None:
        form = ProfileFormat.from_dict(read_json(args.format))
    elif args.like is not None:
        with _open(args.like) as other:
            form, head = other.format, other.shared_head
    else:
        form, head = _of_job(args)
    if args.shared_head is not None:
        head = _shared_head(args.shared_head)
    with ProfileStore.create(args.store, form, head):
        print(f"{args.store}: {form.payload_bytes} bytes a profile, {_text(form)}")


def _of_job(args: Args) -> tuple[Any, Any]:
    """The format of a job's profiles, and the shared head where the job draws it from a seed."""
    from xpeft.encoder import load_encoder
    from xpeft.heads import seeded_head
    from xpeft.job import Job
    from xpeft.methods import make_bank
    from xpeft.profiles import ProfileFormat

    job = Job.read(args.job)
    if job.bank is None:
        raise StoreError(f"{args.job}: found no bank, expected a job of the method x_peft")
    labels = args.labels.split(",") if args.labels else ()
    head: HeadKind = "shared" if job.head == "seeded" else job.head
    if job.head == "seeded" and not labels:
        raise StoreError("--labels: found none, expected the classes of the job's seeded head")
    encoder = load_encoder(job.encoder)
    form = ProfileFormat.of(
        encoder,
        make_bank(encoder, job.bank),
        job.method,
        labels,
        codec=args.codec,
        head=args.head or head,
    )
    if job.head != "seeded" or form.head not in ("shared", "shared+bias"):
        return form, None
    drawn = seeded_head(len(labels), encoder)
    return form, tuple(drawn[f"head.{name}"][0].float().numpy() for name in ("weight", "bias"))


def _shared_head(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return tensors["weight"], tensors["bias"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(
            f"{path}: expected a safetensors file with weight and bias, found: {error}"
        ) from None


def _put(args: Args) -> None:
    names = _read_names(args.names) if args.names else {}
    with _open(args.store, read_only=False) as store:
        before, total = len(store), 0

        def batches() -> Iterator[tuple[Profiles, Sequence[str | None] | None]]:
            nonlocal total
            for profiles in _source(store, args.source):
                total += len(profiles)
                given = [names.pop(identity, None) for identity in profiles.ids.tolist()]
                yield profiles, given if args.names else None
            if names:
                raise StoreError(
                    f"{args.names}: found a name for {_id(next(iter(names)))}, which is not among "
                    "the profiles that are added"
                )

        store.put_batches(batches(), replace=args.replace)
        added = len(store) - before
        print(f"{args.store}: {added} added, {total - added} replaced, {len(store)} profiles")


def _source(store: ProfileStore, path: Path) -> Iterator[Profiles]:
    """Profiles of a file or another store, batch by batch, after comparing formats."""
    from xpeft.profilefile import read_profiles

    if not path.is_file():
        raise StoreError(f"{path}: no such file, expected profiles as safetensors or a store")
    with path.open("rb") as file:
        is_store = file.read(16) == b"SQLite format 3\0"
    if not is_store:
        profiles, form = read_profiles(path)
        if form is not None and form != store.format:
            raise StoreError(
                f"{path}: found profiles of another format, expected that of {store.path}; "
                f"they differ in {_difference(form, store.format)}"
            )
        for start in range(0, len(profiles), BATCH):
            yield profiles.take(slice(start, start + BATCH))
        return
    if path.samefile(store.path):
        raise StoreError(f"{path}: found the store itself, expected another one")
    with _open(path) as other:
        if other.digest != store.digest:
            what = _difference(other.format, store.format) or "the shared head"
            raise StoreError(
                f"{path}: found a store of another header, expected that of {store.path}; they "
                f"differ in {what}"
            )
        ids = other.ids()
        for start in range(0, len(ids), BATCH):
            yield other.get_many(ids[start : start + BATCH])


def _read_names(path: Path) -> dict[int, str]:
    from xpeft.ids import parse_id

    names: dict[int, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as lines of id, tab, name: {error}") from None
    for number, line in enumerate(lines, start=1):
        identity, tab, name = line.partition("\t")
        try:
            if not tab or not name:
                raise StoreError("expected an id, a tab and a name")
            key = parse_id(identity)
        except StoreError as error:
            raise StoreError(f"{path}: line {number}: {error}") from None
        if key in names:
            raise StoreError(f"{path}: line {number}: found {identity} again, expected it once")
        names[key] = name
    return names


def _get(args: Args) -> None:
    from xpeft.ids import parse_id
    from xpeft.profiles import TENSORS

    with _open(args.store) as store:
        profile = store.get(parse_id(args.id))
        shown: dict[str, Any] = {"id": args.id, "bytes": store.format.payload_bytes}
    for side in ("down", "up"):
        if (mask := getattr(profile, side)) is not None:
            hard = mask.dtype == bool
            shown[side] = [
                [*map(int, row.nonzero()[0])] if hard else row.tolist() for row in mask[0]
            ]
    for name in TENSORS:
        if (value := getattr(profile, name)) is not None:
            shown[name] = value[0].tolist()
    print(json.dumps(shown))


def _list(args: Args) -> None:
    with _open(args.store) as store:
        if args.header:
            header = {"profiles": len(store), "payload_bytes": store.format.payload_bytes}
            print(json.dumps({**header, "format": store.format.to_dict()}, indent=1))
            return
        for identity in store.ids().tolist():
            name = store.name_of(identity) if args.names else None
            print(_id(identity) if name is None else f"{_id(identity)}\t{name}")


def _verify(args: Args) -> None:
    import time

    digest = None
    if args.bank is not None:
        from xpeft.bank import load_bank

        digest = load_bank(args.bank).digest
    shown = time.monotonic()

    def progress(read: int, count: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{read:,} of {count:,} profiles", file=sys.stderr)

    with _open(args.store, bank_sha256=digest, read_only=not args.recover) as store:
        report = store.verify(progress)
    for problem in report.problems:
        print(problem)
    if not report.ok:
        raise StoreError(
            f"{args.store}: found {len(report.problems)} problems, listed above; restore the store "
            "from a copy, or add the sound profiles to a new one"
        )
    print(
        f"{args.store}: ok, {report.profiles:,} profiles, {report.names:,} names, "
        f"{report.file_bytes:,} bytes"
    )


def _export(args: Args) -> None:
    from xpeft.ids import parse_id
    from xpeft.profilefile import write_profiles

    ids = None if args.id is None else list(dict.fromkeys(map(parse_id, args.id)))
    with _open(args.store) as store:
        if args.adapterhub:
            if ids is None or len(ids) != 1 or args.model_name is None:
                raise StoreError("--adapterhub: expected one --id and the --model-name with it")
            _export_adapter(store, ids[0], args)
            return
        profiles = store.get_many(store.ids() if ids is None else ids)
        write_profiles(args.out, profiles, store.format)
    print(f"{args.out}: {len(profiles)} profiles")


def _export_adapter(store: ProfileStore, identity: int, args: Args) -> None:
    from xpeft.adapterhub import export_adapter
    from xpeft.methods import BankMasks

    bank = _bank(store, args.bank)
    method = BankMasks(_Shape(store), bank, store.format.spec)  # type: ignore[arg-type]
    masks = {
        name: value
        for name, value in store.get(identity).to_parameters().items()
        if not name.startswith("head.")
    }
    export_adapter(
        method.export(masks, 0),
        args.out,
        name=args.name or _id(identity),
        model_name=args.model_name,
        model_type=args.model_type,
        hidden_size=store.format.width,
    )
    print(f"{args.out}: profile {_id(identity)} of {store.path}, without its head")


def _bank(store: ProfileStore, folder: Path | None) -> Bank:
    """The store's bank: of a folder, or made again from the header where it is a random one."""
    from xpeft.bank import load_bank, random_bank

    form = store.format
    if folder is not None:
        bank = load_bank(folder)
    elif form.bank["kind"] == "random":
        recipe = form.bank["recipe"]
        options = {key: recipe[key] for key in ("seed", "init", "down_std", "up_std")}
        bank = random_bank(form.layers, form.n, form.width, form.bottleneck, **options)
    else:
        raise StoreError(
            f"--bank: found nothing, expected the folder of the store's {form.bank['kind']} bank"
        )
    store.require(bank_sha256=bank.digest)
    return bank


class _Shape:
    """What `BankMasks` asks of an encoder, from a store's header: no weights are needed."""

    def __init__(self, store: ProfileStore) -> None:
        import torch

        self.name = store.format.encoder["name"]
        self.layers, self.width = store.format.layers, store.format.width
        self.dtype, self.device = torch.float32, torch.device("cpu")


def _compact(args: Args) -> None:
    with _open(args.store, read_only=False) as store:
        before, after = store.compact()
    print(f"{args.store}: {before:,} bytes before, {after:,} after")


def _id(identity: int) -> str:
    from xpeft.ids import id_text

    return id_text(identity)


def _difference(one: Any, other: Any) -> str:
    """Names of the fields in which two formats differ."""
    left, right = one.to_dict(), other.to_dict()
    return ", ".join(name for name in left if left[name] != right[name])


def _text(form: Any) -> str:
    return (
        f"{form.codec}, L={form.layers} N={form.n} d={form.width} b={form.bottleneck}, "
        f"head {form.head}, bank {form.bank['sha256']}"
    )
