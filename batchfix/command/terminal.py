"""The terminal: one line for each mistake and warning, a progress bar, and a clean end when told to stop."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from tqdm import tqdm

from ..exceptions import (
    BatchfixWarning,
    ConvergenceWarning,
    NothingToCorrectWarning,
    PseudocountWarning,
    SingletonBatchWarning,
)

Progress = Callable[[float], object]

# Warnings of the correctors whose advice is that of the Python interface, and what the command says in their place;
# None: it has said so already, of all batches.
IN_OUR_WORDS: dict[type[Warning], str | None] = {
    NothingToCorrectWarning: None,
    SingletonBatchWarning: None,
    ConvergenceWarning: "the estimates of some batches did not settle: look for features with extreme values, or "
    "choose --method location-scale",
    PseudocountWarning: "a pseudocount makes a batch effect where batches differ in depth; choose --zeros half-minimum "
    "unless all samples are equally deep",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave with code 2."""
        self.exit(2, f"batchfix: {one_line(message)}; see {self.prog} --help\n")


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
    return re.sub(r"(?<![\w'])X(?![\w'])", "the table", " ".join(str(message).split()))
