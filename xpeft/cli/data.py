"""The verb `data`."""

from __future__ import annotations

from pathlib import Path

from xpeft.cli.parts import Args, Verbs, add_file, add_verb
from xpeft.errors import ConfigError


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verb = add_verb(
        verbs,
        "data",
        "Check the rows of a task or cohort and write its prepared folder.",
        _data,
        "xpeft data --task glue/sst2 --source local --path data --max-train-rows 10000 "
        "--out results/small/data/glue/sst2\n"
        "xpeft data --task embedded/sentiment --source embedded --out /tmp/sentiment\n"
        "xpeft data --task profiles/md_agreement --source local --path data --out /tmp/md",
    )
    verb.add_argument("--task", required=True, metavar="SUITE/TASK", help="as in glue/sst2")
    verb.add_argument(
        "--source", required=True, choices=("embedded", "local", "hub"), help="where the rows are"
    )
    add_file(verb, "--path", "data folder of the source local", metavar="DIR")
    verb.add_argument("--max-train-rows", type=int, metavar="N", help="keep at most N of them")
    verb.add_argument("--train-rows", type=int, metavar="N", help="embedded: training rows")
    verb.add_argument("--validation-rows", type=int, metavar="N", help="embedded: validation rows")
    verb.add_argument(
        "--authors", type=int, metavar="N", help="embedded_authors: authors; the rows are of each"
    )
    verb.add_argument("--noise", type=float, metavar="X", help="embedded: share of flipped labels")
    verb.add_argument("--seed", type=int, metavar="N", help="embedded: seed of the sentences")
    verb.add_argument("--folds", type=int, metavar="N", help="profiles: folds of the sheet")
    add_file(verb, "--sheet", "profiles: a sheet to take instead of making one")
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _data(args: Args) -> None:
    if args.task.startswith("profiles/"):
        _data_cohort(args)
        return
    from xpeft.data.prepare import prepare
    from xpeft.data.prepared import load_prepared
    from xpeft.data.sources import EmbeddedSource, Source, make_source
    from xpeft.data.specs import get_task

    suite, _, task = args.task.partition("/")
    names = ("train_rows", "validation_rows", "noise", "seed")
    _refuse(args, ("authors", "folds", "sheet"), "only suite profiles has it")
    options = {name: value for name in names if (value := getattr(args, name)) is not None}
    source: Source = make_source(args.source, args.path)
    if options:
        if args.source != "embedded":
            flag = next(iter(options)).replace("_", "-")
            raise ConfigError(f"--{flag}: only the source embedded has it, found {args.source}")
        source = EmbeddedSource(**options)
    out = prepare(get_task(suite, task), source, args.out, max_train_rows=args.max_train_rows)
    meta = load_prepared(out).meta
    print(
        f"{args.task}: {meta.rows['train']} of {meta.rows_available['train']} training rows, "
        f"{meta.rows['validation']} validation rows, from {meta.source}"
    )


def _data_cohort(args: Args) -> None:
    from xpeft.data.cohort import load_cohort
    from xpeft.data.cohort_prepare import prepare_cohort
    from xpeft.data.cohort_specs import get_cohort
    from xpeft.data.embedded_authors import EmbeddedAuthors

    spec = get_cohort(args.task.partition("/")[2])
    _refuse(args, ("max_train_rows",), "suite profiles does not have it")
    source: Path | EmbeddedAuthors
    fields = {"authors": "authors", "train_rows": "train_rows", "validation_rows": "test_rows"}
    fields |= {"noise": "noise", "seed": "seed"}
    if args.source == "embedded":
        _refuse(args, ("path",), "source embedded does not have it")
        given = {name: getattr(args, flag) for flag, name in fields.items()}
        source = EmbeddedAuthors(
            **{name: value for name, value in given.items() if value is not None}
        )
    else:
        _refuse(args, tuple(fields), "only source embedded has it")
        if args.source == "hub":
            raise ConfigError("--source: found hub, expected local or embedded for suite profiles")
        if args.path is None:
            raise ConfigError("--path: found nothing, expected the data folder")
        source = args.path
    cohort = load_cohort(prepare_cohort(spec, source, args.out, sheet=args.sheet, folds=args.folds))
    meta = cohort.meta
    targets = sum(len(cohort.targets(fold)) for fold in cohort.folds)
    print(
        f"{args.task}: {meta.profiles} profiles, {targets} of them targets in {len(cohort.folds)} "
        f"folds, {meta.rows['train']} training rows, {meta.rows['test']} test rows, "
        f"from {meta.source}"
    )
    for reason, number in meta.left_out.items():
        print(f"left out: {number} x {reason}")


def _refuse(args: Args, names: tuple[str, ...], why: str) -> None:
    """Raise a ConfigError if an option is given that means nothing here."""
    for name in names:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: {why}; drop it")
