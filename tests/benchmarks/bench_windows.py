"""Time and memory of the causal pass against a copy of the matrix into a fresh array.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_windows.py [--size 2500x3000] [--rounds 7] [--peers] [--only ...]

Float64 with 5 % NaN. The copy (`X.copy()`, one thread) and the passes run in turn, round by round, in one process; what
is printed is the median of the rounds' ratios. Memory is the growth of the peak resident size beside the output in a
process of its own, in units of the output (Linux).
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from measuring import Job, against_copy, alone, growth

from batchfix import CausalCorrector
from batchfix.core.causal import standardize
from batchfix.core.windows import Bridge, Window

GOALS = {"expanding": 11.0}
"""Times of a copy, at most, at 2500x3000 with two threads."""

MEMORY_GOAL = 1.2

WINDOWS = {
    "expanding": Window(),
    "expanding mean": Window(scale=None),
    "rolling 20": Window(length=20),
    "rolling 250": Window(length=250),
    "ewm 60": Window(halflife=60.0),
    "clip 20": Window(bridge=Bridge(), short=Window(length=20)),
}


def make(size: str) -> np.ndarray:
    """Normal values with 5 % missing, float64, dates x stocks."""
    n, p = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    X[rng.random((n, p)) < 0.05] = np.nan
    return X


def pass_of(X: np.ndarray, window: Window) -> Job:
    """The pass from nothing, into fresh memory."""

    def run() -> np.ndarray:
        out = np.empty_like(X)
        standardize(X, window, window.start(X.shape[1]), out)
        return out

    return run


def jobs(X: np.ndarray) -> dict[str, Job]:
    """The passes of the core, and two through the face: wide and long."""
    todo = {name: pass_of(X, window) for name, window in WINDOWS.items()}
    todo["expanding, float32"] = pass_of(X.astype(np.float32), Window())
    todo["expanding, column by column"] = pass_of(np.asfortranarray(X), Window())
    todo["CausalCorrector"] = lambda: CausalCorrector().fit_transform(X)
    n, p = X.shape
    long = pd.DataFrame({"date": np.repeat(np.arange(n), p), "symbol": np.tile(np.arange(p), n), "x": X.ravel()})
    todo["CausalCorrector, long"] = lambda: CausalCorrector(time="date", by="symbol").fit_transform(long)
    return todo


def peers(X: np.ndarray) -> dict[str, Job]:
    """The same numbers from pandas."""
    table = pd.DataFrame(X)

    def z(past: object) -> pd.DataFrame:
        return (table - past.mean()) / past.std()

    return {
        "pandas expanding": lambda: z(table.shift(1).expanding(2)),
        "pandas rolling 250": lambda: z(table.shift(1).rolling(250, min_periods=2)),
        "pandas ewm 60": lambda: z(table.shift(1).ewm(halflife=60.0, min_periods=2)),
    }


def time_all(size: str, rounds: int, with_peers: bool, only: list[str]) -> None:
    X = make(size)
    todo = jobs(X) | (peers(X) if with_peers else {})
    print(f"{size}, ratios to a copy into a fresh array")
    against_copy({name: run for name, run in todo.items() if not only or name in only}, X, rounds, GOALS)


def memory_here(size: str, name: str) -> None:
    """Print the growth of the peak in this process beside the output, in outputs."""
    X, window = make(size), WINDOWS[name]
    small = X[:300, :8].copy()
    standardize(small, window, window.start(8), small)  # what is loaded on first use is not the pass's
    grown, _ = growth(pass_of(X, window))
    print(grown / X.nbytes - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2500x3000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[], help="names of the passes to time")
    parser.add_argument("--peers", action="store_true", help="time pandas too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory_here(arguments.size, arguments.memory_of)
        return
    time_all(arguments.size, arguments.rounds, arguments.peers, arguments.only)
    print(f"{arguments.size}, growth of the peak, in outputs; asked {MEMORY_GOAL} beside the output")
    names = [name for name in WINDOWS if not arguments.only or name in arguments.only]
    alone(__file__, names, "--size", arguments.size)


if __name__ == "__main__":
    main()
