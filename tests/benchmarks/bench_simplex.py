"""Time and memory of closures and log-ratios against a copy of the matrix into a fresh array.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_simplex.py [--size 10000x5000] [--rounds 7] [--peers]

The copy (`X.copy()`, one thread) and the functions run in turn, round by round, in one process; what is printed is the
median of the rounds' ratios. Memory is the growth of the peak resident size in a process of its own, in units of the
output (Linux).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np
from measuring import against_copy, alone, growth

from batchfix.core.balances import ilr, ilr_inv
from batchfix.core.log_ratios import alr, clr, clr_inv, rclr
from batchfix.core.partition import BinaryPartition
from batchfix.core.simplex import closure, whole_counts
from batchfix.core.zeros import HalfMinimum, MultiplicativeReplacement

GOALS = {"clr": 1.5, "ilr": 6.0}
"""Times of a copy, at most, at 10000x5000 with two threads."""

MEMORY = ["clr", "clr, in place", "clr, float32", "ilr", "ilr_inv", "half minimum"]

Job = Callable[[np.ndarray], np.ndarray]


def make(size: str) -> np.ndarray:
    """Positive amounts, float64, rows x parts."""
    n, parts = map(int, size.split("x"))
    return np.random.default_rng(0).gamma(0.5, size=(n, parts)) + 1e-9


def balanced(parts: int) -> BinaryPartition:
    """Halves, and halves of halves."""
    signs, groups = [], [(0, parts)]
    while groups:
        a, b = groups.pop()
        if b - a > 1:
            middle = (a + b) // 2
            row = np.zeros(parts, dtype=np.int8)
            row[a:middle], row[middle:b] = 1, -1
            signs.append(row)
            groups += [(a, middle), (middle, b)]
    return BinaryPartition.from_signs(np.array(signs))


def jobs(X: np.ndarray) -> dict[str, tuple[Job, np.ndarray]]:
    """Each function and what it is given."""
    partition = balanced(X.shape[1])
    half, multiplicative = HalfMinimum(1e-9), MultiplicativeReplacement(1e-9)
    X32 = X.astype(np.float32)
    return {
        "closure": (closure, X),
        "clr": (clr, X),
        "clr, in place": (lambda x: clr(x, out=x), X.copy()),
        "clr, float32": (clr, X32),
        "clr, column by column": (clr, np.asfortranarray(X)),
        "clr_inv": (clr_inv, clr(X)),
        "rclr": (rclr, X),
        "alr": (alr, X),
        "ilr": (ilr, X),
        "ilr_inv": (ilr_inv, ilr(X)),
        "ilr, a partition": (lambda x: ilr(x, partition), X),
        "ilr_inv, a partition": (lambda z: ilr_inv(z, partition), ilr(X)),
        "half minimum": (half.fill, X),
        "multiplicative": (multiplicative.fill, X),
        "whole counts": (lambda x: whole_counts(x, 100_000), X),
    }


def peers(X: np.ndarray) -> dict[str, tuple[Job, np.ndarray]]:
    """scikit-bio's, where it is installed."""
    if not importlib.util.find_spec("skbio"):
        return {}
    from skbio.stats import composition

    return {"scikit-bio clr": (composition.clr, X), "scikit-bio ilr": (composition.ilr, X)}


def time_all(size: str, rounds: int, with_peers: bool, only: list[str]) -> None:
    X = make(size)
    todo = jobs(X) | (peers(X) if with_peers else {})
    work = X.copy()
    runs = {
        name: partial(function, work if "in place" in name else given)
        for name, (function, given) in todo.items()
        if not only or name in only
    }
    print(f"{size}, ratios to a copy into a fresh array")
    against_copy(runs, X, rounds, GOALS, prepare=partial(np.copyto, work, X))


def memory_here(size: str, name: str) -> None:
    """Print the growth of the peak in this process, in outputs."""
    X = make(size)
    function, given = jobs(X)[name]
    function(given[:100].copy())  # what is loaded on first use is not the function's
    grown, out = growth(partial(function, given))
    print(grown / out.nbytes)  # type: ignore[attr-defined]  # an array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="10000x5000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[], help="names of the functions to time")
    parser.add_argument("--peers", action="store_true", help="time installed peers too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory_here(arguments.size, arguments.memory_of)
        return
    time_all(arguments.size, arguments.rounds, arguments.peers, arguments.only)
    print(f"{arguments.size}, growth of the peak, in outputs; asked 1.1")
    alone(__file__, arguments.only or MEMORY, "--size", arguments.size)


if __name__ == "__main__":
    main()
