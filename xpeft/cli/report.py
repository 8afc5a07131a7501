"""The verbs from records to what people read: `ledger` to `report`, and `verify`."""

from __future__ import annotations

import math
from pathlib import Path

from xpeft.cli.parts import DIFFERS, Args, Run, Verbs, add_file, add_verb, check_folder
from xpeft.errors import ConfigError


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    for one in (
        _add_ledger,
        _add_examples,
        _add_summary,
        _add_claims,
        _add_figures,
        _add_tables,
        _add_papers,
        _add_report,
        _add_verify,
    ):
        one(verbs)


def _add_ledger(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "ledger",
        "Count the bytes of a profile, by formula and from files.",
        _ledger,
        "xpeft ledger --encoder bert-base-uncased --adapters 100\n"
        "xpeft ledger --encoder path/to/config.json --adapters 400 --k 200 --json",
    )
    verb.add_argument(
        "--encoder", required=True, help="name of an encoder, or its config.json; no weights"
    )
    verb.add_argument("--adapters", type=int, default=100, metavar="N", help="(default: 100)")
    verb.add_argument("--k", type=int, help="selected by a hard mask (default: half of N)")
    verb.add_argument("--classes", type=int, default=15, help="of a head (default: 15)")
    verb.add_argument("--reduction", type=int, default=16, help="d / b (default: 16)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_file(verb, "--out", "write the JSON to a file, and print only what --json asks for")


def _add_examples(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "examples",
        "Compare methods example by example: bootstrap over validation rows, McNemar's test.",
        _examples,
        "T=results/small; xpeft examples --records $T/records --data $T/data "
        "--out $T/examples.json",
    )
    add_file(verb, "--records", "folder of the records", metavar="DIR", required=True)
    add_file(
        verb,
        "--data",
        "folder of prepared folders <suite>/<task>, from xpeft data; tasks that it lacks are named",
        metavar="DIR",
        required=True,
    )
    add_file(verb, "--cells", "index of the grid: other records are left out")
    add_file(verb, "--out", "file to write", required=True)


def _add_summary(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "summary",
        "Merge the records of a tier into one file, with statistics.",
        _summary,
        "xpeft summary --records results/small/records --out results/small/summary.json",
    )
    add_file(verb, "--records", "folder of the records", metavar="DIR", required=True)
    add_file(
        verb, "--tuning", "folder of the tuning files (default: beside --records)", metavar="DIR"
    )
    add_file(verb, "--cells", "index of the grid: its records must be there, others are left out")
    add_file(verb, "--examples", "from xpeft examples: comparisons example by example")
    verb.add_argument(
        "--planned-hours", type=float, metavar="H", help="what xpeft plan estimated, to compare"
    )
    add_file(
        verb,
        "--partial",
        "folder of logs: cells without a record are listed, with what their log says",
        metavar="DIR",
    )
    add_file(verb, "--out", "file to write", required=True)


def _add_claims(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "claims",
        "Judge the claims against the records of a tier.",
        _claims,
        "xpeft claims --summary results/small/summary.json --ledger results/small/ledger.json "
        "--out results/small/claims.json",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--ledger", "from xpeft ledger; may be given several times", action="append")
    add_file(verb, "--claims", "claims as YAML (default: those of the package)")
    add_file(verb, "--out", "file to write", required=True)
    add_file(
        verb,
        "--markdown",
        "also write the verdicts as Markdown, with links to the folder records beside the summary",
    )


def _add_figures(verbs: Verbs) -> None:
    text = "Draw the figures of a tier as SVG, PDF and PNG."
    _drawn(verbs, "figures", text, _figures, "figures/small")


def _add_tables(verbs: Verbs) -> None:
    text = "Write the tables of a tier as CSV, Markdown and LaTeX."
    _drawn(verbs, "tables", text, _tables, "report/tables/small")


def _add_papers(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "papers",
        "Write ARTIFACT.md and LICENSES.md: what is expected of each tier, claim and experiment.",
        _papers,
        "T=results/small; xpeft papers --summary $T/summary.json --claims $T/claims.json "
        "--config config/quick.yaml --config config/small.yaml --out .",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--claims", "from xpeft claims", required=True)
    add_file(verb, "--config", "a tier; may be given several times", action="append", required=True)
    add_file(verb, "--out", "folder to write to", metavar="DIR", required=True)


def _add_report(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "report",
        "Write the report of one or more tiers as one self-contained HTML file.",
        _report,
        "xpeft report --tier results/quick --tier results/small --out report/index.html",
    )
    add_file(
        verb,
        "--tier",
        "folder with summary.json, ledger.json and claims.json; may be given several times",
        metavar="DIR",
        action="append",
        required=True,
    )
    add_file(
        verb, "--figures", "folder of the tiers' figures", metavar="DIR", default=Path("figures")
    )
    add_file(
        verb,
        "--tables",
        "folder of the tiers' tables",
        metavar="DIR",
        default=Path("report/tables"),
    )
    add_file(verb, "--out", "file to write", required=True)


def _add_verify(verbs: Verbs) -> None:
    verb = add_verb(
        verbs,
        "verify",
        "Check committed records, and all that follows from them, against what is expected.",
        _verify,
        "xpeft verify config/small.yaml --data data --project .\n"
        "xpeft verify config/small.yaml --update",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config of the tier, a YAML file")
    add_file(
        verb,
        "--folder",
        "folder of the tier (default: what the config says, as in results/small)",
        metavar="DIR",
    )
    add_file(
        verb, "--data", "data folder, hashed where it is there (default: the config's)",
        metavar="DIR",
    )  # fmt: skip
    add_file(
        verb,
        "--project",
        "folder of CLAIMS.md, ARTIFACT.md, LICENSES.md and config/: these are compared too",
        metavar="DIR",
    )
    verb.add_argument(
        "--update",
        action="store_true",
        help="write expected.json from the records as they are, instead of checking",
    )


def _ledger(args: Args) -> None:
    import json

    from xpeft.io import write_json
    from xpeft.ledger import ledger
    from xpeft.ledger_table import format_table
    from xpeft.shapes import encoder_shape

    account = ledger(
        encoder_shape(args.encoder),
        adapters=args.adapters,
        k=args.k,
        classes=args.classes,
        reduction=args.reduction,
    )
    if args.out is not None:
        write_json(args.out, account)
    if args.json:
        print(json.dumps(account, indent=1, sort_keys=True))
    elif args.out is None:
        print(format_table(account), end="")
    else:
        print(f"{args.out}: ledger of {args.encoder}, N = {args.adapters}")


def _examples(args: Args) -> None:
    from xpeft.examples import write_examples

    check_folder("--records", args.records, "the records")
    check_folder("--data", args.data, "prepared data")
    found = write_examples(args.records, args.data, args.out, args.cells)
    pairs = sum(len(task["pairs"]) for task in found["tasks"])
    print(f"{args.out}: {pairs} comparisons on {len(found['tasks'])} tasks")
    for task in found["absent"]:
        print(f"{task}: left out, no prepared data in {args.data}")


def _summary(args: Args) -> None:
    from xpeft.report.summary import write_summary

    if args.partial is None:
        check_folder("--records", args.records, "the records")
    if args.tuning is not None:
        check_folder("--tuning", args.tuning, "the tuning files")
    hours = args.planned_hours
    if hours is not None and not 0 <= hours < math.inf:
        raise ConfigError(f"--planned-hours: found {hours}, expected a number of hours, 0 or more")
    write_summary(
        args.records,
        args.out,
        args.tuning,
        args.cells,
        examples=args.examples,
        logs_dir=args.partial,
        planned_hours=hours,
    )


def _claims(args: Args) -> None:
    from xpeft.claims import CLAIMS_FILE, write_claims

    if args.markdown and Path(args.markdown).is_dir():  # known before anything is written
        raise ConfigError(f"--markdown: found a folder, {args.markdown}, expected a file to write")
    claims = write_claims(args.summary, args.out, args.ledger or (), args.claims or CLAIMS_FILE)
    if args.markdown:
        from xpeft.report.claims_page import write_claims_page

        write_claims_page(claims, args.markdown, Path(args.summary).parent / "records")


def _drawn(verbs: Verbs, name: str, text: str, run: Run, out: str) -> None:
    """A verb that draws something from the summary, ledger and claims of a tier."""
    verb = add_verb(
        verbs,
        name,
        text,
        run,
        f"T=results/small; xpeft {name} --summary $T/summary.json --ledger $T/ledger.json "
        f"--claims $T/claims.json --out {out}",
    )
    add_file(verb, "--summary", "from xpeft summary", required=True)
    add_file(verb, "--ledger", "from xpeft ledger", required=True)
    add_file(verb, "--claims", "from xpeft claims", required=True)
    add_file(verb, "--out", "folder to write", metavar="DIR", required=True)


def _figures(args: Args) -> None:
    from xpeft.report.figures import write_figures

    write_figures(args.summary, args.ledger, args.claims, args.out)


def _tables(args: Args) -> None:
    from xpeft.report.tables import write_tables

    write_tables(args.summary, args.ledger, args.claims, args.out)


def _papers(args: Args) -> None:
    from xpeft.report.papers import write_papers

    write_papers(args.summary, args.claims, args.config, args.out)


def _report(args: Args) -> None:
    from xpeft.report.html import write_report

    for tier in args.tier:
        check_folder("--tier", tier, "a tier's results")
    write_report(args.tier, args.out, figures=args.figures, tables=args.tables)
    print(f"the report: {args.out}")


def _verify(args: Args) -> int:
    from xpeft.config import read_yaml
    from xpeft.verify.checks import verify
    from xpeft.verify.expected import update_expected
    from xpeft.workflow import Plan

    plan = Plan.make(read_yaml(args.config), str(args.config))
    folder = args.folder or Path(plan.root)
    if args.update:
        print(update_expected(folder, plan.config["ledger"]))
        return 0
    data = args.data or Path(plan.config["data"]["path"] or "data")
    findings = verify(plan, folder, data, args.project)
    print(findings.text())
    return DIFFERS if findings.differs else 0
