"""What the verbs share: exit statuses, and how a verb is added to the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xpeft.errors import XpeftError

Args = argparse.Namespace
Run = Callable[[Args], int | None]
Verbs = Any  # argparse's type for a group of subparsers is private

INTERRUPTED, TERMINATED, ERROR, DIFFERS = 130, 143, 2, 1
"""Exit statuses; see `xpeft.cli`."""


def say(message: str) -> None:
    """Tell the user something, on one line of stderr."""
    print(f"xpeft: {message}", file=sys.stderr)


def check_folder(flag: str, folder: Path, holds: str) -> None:
    """Refuse a folder that is not there: a slip in its name would look like one that is empty.

    Raises:
        XpeftError: there is no such folder.
    """
    if not folder.is_dir():
        raise XpeftError(f"{flag}: found no folder {folder}, expected that of {holds}")


def add_verb(verbs: Verbs, name: str, text: str, run: Run, example: str) -> argparse.ArgumentParser:
    """A verb with its one-line text and an example for `--help`."""
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    added: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def add_group(verbs: Verbs, name: str, text: str) -> Verbs:
    """A verb that has verbs of its own."""
    added = verbs.add_parser(name, help=text, description=text)
    return added.add_subparsers(title="verbs", metavar="VERB", required=True)


def add_file(add: argparse.ArgumentParser, flag: str, text: str, **options: Any) -> None:
    """An argument that is a path."""
    add.add_argument(flag, type=Path, metavar=options.pop("metavar", "FILE"), help=text, **options)
