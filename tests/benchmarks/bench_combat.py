"""Time and memory of ComBat against the least that any correction must do.

    python tests/benchmarks/bench_combat.py [--sizes 20000x2000x10 ...] [--peers] [--rounds 5]

The floor copies the matrix into an array that was touched before, and reads it once more. Floor and corrections run in
turn, round by round, in one process; what is printed is the median of the rounds' ratios. Memory is the growth of the
peak resident size in a process of its own, in units of the output (Linux).
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from measuring import growth, seconds

from batchfix import ComBat

SIZES = {"20000x2000x10": (3.0, 2.0), "100000x2000x20": (2.5, 1.5), "500x20000x4": (5.5, 3.0)}
"""rows x features x batches: the ratio asked for, and the goal."""


def make(size: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Data, batch labels and two kept columns, rows of the batches mixed."""
    n, p, n_batches = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    batch = rng.integers(0, n_batches, n)
    X = rng.standard_normal((n, p))
    X += rng.standard_normal((n_batches, p))[batch]
    keep = pd.DataFrame({"group": np.where(rng.random(n) < 0.4, "case", "control"), "age": rng.normal(50, 9, n)})
    return X, batch, keep


def floor(X: np.ndarray, into: np.ndarray) -> None:
    """Copy once, read once."""
    np.copyto(into, X)
    X.sum()


def peers() -> dict[str, Callable[[np.ndarray, np.ndarray], object]]:
    """Other ComBats, as far as they are installed."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {}
    if importlib.util.find_spec("pycombat"):
        from pycombat import Combat

        found["pycombat"] = lambda X, batch: Combat().fit_transform(Y=X, b=batch)
    if importlib.util.find_spec("combatlearn"):
        from combatlearn import ComBat as Learn

        found["combatlearn"] = lambda X, batch: Learn(batch=pd.Series(batch), method="johnson").fit_transform(
            pd.DataFrame(X)
        )
    return found


def time_size(size: str, rounds: int, with_peers: bool) -> None:
    X, batch, keep = make(size)
    into, work = np.zeros_like(X), X.copy()
    jobs: dict[str, Callable[[], object]] = {
        "ComBat": lambda: ComBat().fit(X, batch=batch).transform(X, batch=batch),
        "ComBat, copy=False": lambda: ComBat(copy=False).fit(work, batch=batch).transform(work, batch=batch),
        "ComBat, two kept": lambda: ComBat().fit(X, batch=batch, keep=keep).transform(X, batch=batch, keep=keep),
        "ComBat, float32": lambda: ComBat().fit(X32, batch=batch).transform(X32, batch=batch),
    }
    if with_peers:
        jobs |= {name: (lambda run=run: run(X, batch)) for name, run in peers().items()}
    X32 = X.astype(np.float32)
    ratios: dict[str, list[float]] = {name: [] for name in jobs}
    floors = []
    for count in range(rounds + 1):
        for name, job in jobs.items():
            np.copyto(work, X)
            base = seconds(lambda: floor(X, into))
            ratio = seconds(job) / base
            if count:  # the first round warms up: a machine's first touch of memory is not the correction's
                floors.append(base)
                ratios[name].append(ratio)
    ask, goal = SIZES.get(size, (float("nan"), float("nan")))
    print(f"{size}: floor {statistics.median(floors) * 1e3:.0f} ms; asked {ask}, goal {goal}")
    for name, values in ratios.items():
        print(f"    {name:20s} {statistics.median(values):7.2f}   ({min(values):.2f} .. {max(values):.2f})")


def memory_here(size: str, kind: str) -> None:
    """Print the growth of the peak in this process, in outputs."""
    X, batch, keep = make(size)
    ComBat().fit_transform(X[:100], batch=batch[:100])  # what is loaded on first use is not the correction's
    kept = {"keep": keep} if kind == "kept" else {}
    model = ComBat(copy=kind != "in place")
    grown, _ = growth(lambda: model.fit(X, batch=batch, **kept).transform(X, batch=batch, **kept))
    print(grown / X.nbytes)


def memory(size: str) -> None:
    for kind in ("plain", "kept", "in place"):
        command = [sys.executable, __file__, "--memory-of", size, kind]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        n, p, _ = map(int, size.split("x"))
        share = float(out)
        print(f"    memory, {kind:10s} {share:6.3f} outputs ({share * n * p * 8 / 1e6:.0f} MB)")


def nonparametric() -> None:
    """57 x 22,283, the whole bladder chip's size."""
    rng = np.random.default_rng(0)
    X, batch = rng.standard_normal((57, 22283)), np.repeat(np.arange(5), [11, 18, 4, 5, 19])
    ComBat(parametric=False).fit_transform(X[:, :50], batch=batch)
    more, took = growth(lambda: seconds(lambda: ComBat(parametric=False).fit_transform(X, batch=batch)))
    print(f"non-parametric 57 x 22283: {took:.1f} s (asked 30), {more / 1e6:.0f} MB more (asked 200)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="time installed peers too")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--nonparametric", action="store_true", help="only the non-parametric run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.memory_of:
        memory_here(*arguments.memory_of)
        return
    nonparametric()
    if arguments.nonparametric:
        return
    for size in arguments.sizes:
        time_size(size, arguments.rounds, arguments.peers)
        memory(size)


if __name__ == "__main__":
    main()
