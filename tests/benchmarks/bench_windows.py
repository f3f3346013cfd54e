"""Time and memory of the causal pass against a copy of the matrix into a fresh array.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_windows.py [--size 2500x3000] [--rounds 7] [--peers] [--only ...]

Float64 with 5 % NaN. The copy (`X.copy()`, one thread) and the passes run in turn, round by round, in one process; what
is printed is the median of the rounds' ratios. Memory is the growth of the peak resident size beside the output in a
process of its own, in units of the output (Linux).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

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

Job = Callable[[], object]


def make(size: str) -> np.ndarray:
    """Normal values with 5 % missing, float64, dates x stocks."""
    n, p = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    X[rng.random((n, p)) < 0.05] = np.nan
    return X


def pass_of(X: np.ndarray, window: Window) -> Job:
    """The pass from nothing, into fresh memory."""
    return lambda: standardize(X, window, window.start(X.shape[1]), np.empty_like(X))


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


def seconds(run: Job) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_all(size: str, rounds: int, with_peers: bool, only: list[str]) -> None:
    X = make(size)
    todo = jobs(X) | (peers(X) if with_peers else {})
    print(f"{size}, ratios to a copy into a fresh array")
    for name, run in todo.items():
        if only and name not in only:
            continue
        ratios, floors = [], []
        for count in range(rounds + 1):
            floor = seconds(X.copy)
            ratio = seconds(run) / floor
            if count:  # the first round warms up
                floors.append(floor)
                ratios.append(ratio)
        goal = f"; asked {GOALS[name]}" if name in GOALS else ""
        print(
            f"    {name:28s} {statistics.median(ratios):7.2f}   ({min(ratios):.2f} .. {max(ratios):.2f})"
            f"   copy {statistics.median(floors) * 1e3:.1f} ms{goal}"
        )


def resident(field: str) -> float:
    """Bytes resident in this process: VmRSS now, VmHWM at the peak (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) * 1024


def memory_here(size: str, name: str) -> None:
    """Print the growth of the peak in this process, in outputs."""
    X, window = make(size), WINDOWS[name]
    small = X[:300, :8].copy()
    standardize(small, window, window.start(8), small)  # what is loaded on first use is not the pass's
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    before = resident("VmRSS")
    out = np.empty_like(X)
    standardize(X, window, window.start(X.shape[1]), out)
    print((resident("VmHWM") - before) / out.nbytes - 1)


def memory(size: str, only: list[str]) -> None:
    print(f"{size}, growth of the peak, in outputs; asked {MEMORY_GOAL} beside the output")
    for name in [name for name in WINDOWS if not only or name in only]:
        command = [sys.executable, __file__, "--size", size, "--memory-of", name]
        share = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"    {name:28s} {share:6.3f}")


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
    memory(arguments.size, arguments.only)


if __name__ == "__main__":
    main()
