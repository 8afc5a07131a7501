"""The verb `config` and those below it: validate, show, docs."""

from __future__ import annotations

from pathlib import Path

from xpeft.cli.parts import Args, Verbs, add_file, add_group, add_verb


def add(verbs: Verbs) -> None:
    """Add the verb and those below it."""
    group = add_group(verbs, "config", "Check a config, show it in full, document its keys.")
    verb = add_verb(
        group,
        "validate",
        "Check configs against the schema and against themselves.",
        _config_validate,
        "xpeft config validate config/*.yaml",
    )
    verb.add_argument("configs", type=Path, nargs="+", metavar="FILE", help="configs, YAML files")
    verb = add_verb(
        group,
        "show",
        "Print a config with all its defaults, as JSON.",
        _config_show,
        "xpeft config show config/quick.yaml",
    )
    verb.add_argument("config", type=Path, metavar="FILE", help="config, a YAML file")
    verb = add_verb(
        group,
        "docs",
        "Write configuration.md and cli.md, the generated part of the documentation.",
        _config_docs,
        "xpeft config docs --out docs",
    )
    add_file(verb, "--out", "folder to write to", metavar="DIR", required=True)


def _config_validate(args: Args) -> None:
    from xpeft.config import read_yaml
    from xpeft.workflow import Plan

    for path in args.configs:
        seeds = Plan.make(read_yaml(path), str(path)).seeds
        print(f"{path}: ok, {len(seeds)} jobs, {sum(map(len, seeds.values()))} cells")


def _config_show(args: Args) -> None:
    import json

    from xpeft.config import load_config

    print(json.dumps(load_config(args.config), indent=1))


def _config_docs(args: Args) -> None:
    from xpeft.cli import parser
    from xpeft.cli.documentation import cli_documentation
    from xpeft.config import documentation
    from xpeft.io import write_text

    write_text(args.out / "configuration.md", documentation())
    write_text(args.out / "cli.md", cli_documentation(parser()))
