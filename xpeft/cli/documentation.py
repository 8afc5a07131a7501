"""The documentation of the command line, written from its parser."""

from __future__ import annotations

import argparse


def cli_documentation(parser: argparse.ArgumentParser) -> str:
    """docs/cli.md, from the parser of all verbs."""
    lines = [
        "# Command line",
        "",
        "<!-- Written by `xpeft config docs` from xpeft/cli. -->",
        "",
        "Every step of the workflow is a verb, and runs without Snakemake too. Exit status: 0",
        "done; 1 `verify` found a difference; 2 an error that you can act on, told on one line;",
        "130 interrupted; 143 ended by SIGTERM.",
        "",
    ]
    for name, verb in _subparsers(parser):
        for full, leaf in _subparsers(verb, f"{name} ") or [(name, verb)]:
            lines += [f"## `xpeft {full}`", "", str(leaf.description), ""]
            example = str(leaf.epilog).removeprefix("example:\n").splitlines()
            lines += ["```sh", *(line.removeprefix("  ") for line in example), "```", ""]
            lines += ["| argument | meaning |", "| --- | --- |"]
            for action in leaf._actions:
                if not isinstance(action, argparse._HelpAction):
                    lines.append(f"| `{_usage(action)}` | {_help(action)} |")
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _subparsers(
    verb: argparse.ArgumentParser, prefix: str = ""
) -> list[tuple[str, argparse.ArgumentParser]]:
    for action in verb._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [(f"{prefix}{name}", below) for name, below in action.choices.items()]
    return []


def _usage(action: argparse.Action) -> str:
    metavar = action.metavar or "\\|".join(action.choices or ()) or action.dest.upper()
    if not action.option_strings:
        return f"{metavar}{'...' if action.nargs == '+' else ''}"
    return (
        action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {metavar}"
    )


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default}
    return f"{text} (required)".strip() if action.required and action.option_strings else text
