"""The terminal: one line for each mistake and warning, a progress bar, and a clean end when told to stop."""

from __future__ import annotations

import argparse
import functools
import json
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

from ..exceptions import (
    BatchfixWarning,
    ConvergenceWarning,
    DenseWarning,
    NothingToCorrectWarning,
    PseudocountWarning,
    SingletonBatchWarning,
)
from .wording import all_in_words, in_words

Progress = Callable[[float], object]

# Warnings of the correctors whose advice is that of the Python interface, and what the command says in their place;
# None: it has said so already, of all batches.
IN_OUR_WORDS: dict[type[Warning], str | None] = {
    NothingToCorrectWarning: None,
    DenseWarning: None,
    SingletonBatchWarning: None,
    ConvergenceWarning: "the estimates of some batches did not settle: look for features with extreme values, or "
    "choose --method location-scale",
    PseudocountWarning: "a pseudocount makes a batch effect where batches differ in depth; choose --zeros half-minimum "
    "unless all samples are equally deep",
}


Run = Callable[[argparse.Namespace], object]


class Parser(argparse.ArgumentParser):
    """An argument parser that says a mistake in one line, and as JSON where that was asked for."""

    _as_json = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what a subcommand does not know is a mistake of that subcommand."""
        given: Sequence[str] = sys.argv[1:] if args is None else list(args)
        self._as_json = "--json" in given
        known, unknown = super().parse_known_args(given, namespace)
        if unknown and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave with code 2."""
        if self._as_json:
            print_json({"error": one_line(message)})
        self.exit(2, f"batchfix: {one_line(message)}; see {self.prog} --help\n")


def add_json_option(parser: argparse.ArgumentParser, run: Run) -> None:
    """Register --json, and what to run; a mistake is then a JSON document too."""
    parser.add_argument(
        "--json",
        action="store_true",
        help='print one JSON document and nothing else on stdout: everything, or {"error": ...} for a mistake',
    )
    parser.set_defaults(run=_json_of_mistakes(run))


def _json_of_mistakes(run: Run) -> Run:
    @functools.wraps(run)
    def said(args: argparse.Namespace) -> None:
        try:
            run(args)
        except BrokenPipeError:
            raise
        except Exception as error:  # of whatever kind: a program is told, and it goes on its way
            if args.json:
                print_json({"error": one_line(error)})
            raise

    return said


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON document, in the command's words."""
    print(json.dumps(all_in_words(value), indent=2, ensure_ascii=False))


class Stopped(BaseException):
    """The process was told to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGHUP, so that what is half-written is removed; those ignored stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)  # the end is not to be interrupted
        raise Stopped(number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [each for each in wanted if signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on stderr, in a terminal only, for work of a second or more."""
    shape = "{desc} {percentage:3.0f}% |{bar}| {remaining} left"
    with tqdm(total=1.0, desc=what, file=sys.stderr, disable=None, leave=False, delay=1.0, bar_format=shape) as bar:
        yield lambda done: bar.update(done - bar.n)


def warn(message: str) -> None:
    """Warn in the command's own words."""
    warnings.warn(message, BatchfixWarning, stacklevel=2)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show each warning once, as one line on stderr."""
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = IN_OUR_WORDS.get(category, one_line(message))
        if text is not None and text not in shown:
            shown.add(text)
            print(f"warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", BatchfixWarning)
        warnings.showwarning = show
        yield


def one_line(message: object) -> str:
    r"""A message on one line, about the table where the Python interface says X.

    Examples
    --------
    >>> one_line("X must be finite,\nrow 'X' is not.")
    "the table must be finite, row 'X' is not."
    """
    return in_words(re.sub(r"(?<![\w'.])X(?![\w'])", "the table", " ".join(str(message).split())))
