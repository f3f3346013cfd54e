"""The command `batchfix`: tables in, corrected tables out.

Exit codes: 0 done; 2 the input or the way it was asked (one sentence on stderr);
1 a fault of ours (with the traceback to report); 3 as grave a verdict as --fail-on names; 130 Ctrl-C; 143 told to end
(SIGTERM; 129 SIGHUP); 141 the reader of our output went away.

With --json, stdout holds one JSON document: what was found or done, or {"error": ...} beside codes 1 and 2.

A subcommand is a function in `batchfix.command` that adds its parser to the others
and sets `run`, a function of the parsed arguments; `build_parser` lists them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    from importlib.metadata import version

    from .command.apply import add_apply
    from .command.check import add_check
    from .command.compare import add_compare
    from .command.correct import add_correct
    from .command.demo import add_demo
    from .command.diagnose import add_diagnose
    from .command.terminal import Parser

    parser = Parser(
        prog="batchfix",
        description="Take the differences between batches out of a table, and keep what you asked to keep.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batchfix {version('batchfix')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (add_demo, add_check, add_correct, add_apply, add_diagnose, add_compare):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); the exit code."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("batchfix: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        _drop_output()
        print(f"batchfix: the system refused: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


def _drop_output() -> None:
    """Send what stdout still holds nowhere, so that Python's own last flush stays quiet."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    from .command.terminal import Stopped, one_line, one_line_warnings, stop_signals  # here, so that Ctrl-C is clean
    from .exceptions import BatchfixError

    try:
        with stop_signals(), one_line_warnings():
            args = build_parser().parse_args(argv)
            args.run(args)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except Stopped as stop:
        print(f"batchfix: stopped by {stop}", file=sys.stderr)
        return 128 + stop.number
    except BatchfixError as error:
        print(f"batchfix: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError:
        raise
    except Exception:  # noqa: BLE001  (the last stop: whatever it is, it is ours)
        import traceback

        traceback.print_exc()
        print("batchfix: this is a fault of batchfix; please report it with the lines above", file=sys.stderr)
        return 1
    return 0
