"""The command line: one verb for each step from a config to the report.

A verb parses its arguments and calls one function of the library. Heavy imports stand inside the
verbs, so that `xpeft --help` is instant and training needs nothing of the report.

Exit status: 0 done; 1 `verify` found a difference; 2 an error that the user can act on, told on
one line; 130 interrupted; 143 ended by SIGTERM. A traceback is a bug.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from xpeft.cli import bank, cohort, config, data, jobs, profiles, report, train
from xpeft.cli.parts import ERROR, INTERRUPTED, TERMINATED, say
from xpeft.errors import XpeftError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        args = parser().parse_args(argv)
        return args.run(args) or 0
    except XpeftError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "xpeft").startswith("xpeft"):
            raise
        return _fail(f"this needs the package {error.name}: pip install 'xpeft[suite]'")
    except BrokenPipeError:  # `xpeft ledger | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"out of memory{f': {error}' if str(error) else ''}")
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except _Terminated:
        say("ended by SIGTERM")
        return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    """SIGTERM came: unwinds the stack, so that half-written files are removed."""


def _terminate(number: int, frame: Any) -> None:
    raise _Terminated


def _fail(message: str) -> int:
    say(f"error: {' '.join(message.split())}")
    return ERROR


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="xpeft",
        description="Profiles as masks over a frozen bank of adapters (X-PEFT).",
        epilog="xpeft VERB --help shows an example of each verb. To run a whole tier: make report",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="version and git state, then exit")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in (jobs, data, bank, train, cohort, profiles, report, config):
        module.add(verbs)
    return top


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from xpeft.version import version_text

        print(version_text())
        parser.exit()
