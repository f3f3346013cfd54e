"""CPU time and memory of PERMANOVA with 999 permutations, against scikit-bio's where it is installed.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_permanova.py [--size 5000x50] [--rounds 5] [--peer]

CPU time is that of the whole process, all threads together. Both run in turn, round by round; what is printed is the
median. The peer is given its distances ready-made and does fewer permutations, at whose rate 999 are reckoned. Memory
is the growth of the peak resident size in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from measuring import growth

from batchfix.diagnostics.anova import permanova

PERMUTATIONS = 999
PEER_PERMUTATIONS = 99
GOAL_RATIO = 50
GOAL_BYTES = 0.5e9


def make(size: str, levels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A table of noise and its labels."""
    n, p = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, p)), rng.integers(0, levels, size=n)


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def jobs(size: str) -> dict[str, Callable[[], object]]:
    """Ours: PERMUTATIONS of them in each call."""
    X, batch = make(size)
    given = np.random.default_rng(1).integers(0, 2, size=len(X)).astype(str)
    return {
        "one factor": lambda: permanova(X, batch, random_state=0),
        "one factor beside another": lambda: permanova(X, batch, given=given, random_state=0),
    }


def peer(size: str) -> Callable[[], float]:
    """scikit-bio's, its distances ready: CPU seconds that PERMUTATIONS take at the rate of a few of them."""
    from scipy.spatial.distance import pdist, squareform
    from skbio import DistanceMatrix
    from skbio.stats.distance import permanova as theirs

    X, batch = make(size)
    distances = DistanceMatrix(squareform(pdist(X)))
    grouping = batch.astype(str).tolist()

    def run() -> float:
        none = cpu_seconds(lambda: theirs(distances, grouping, permutations=0))
        some = cpu_seconds(lambda: theirs(distances, grouping, permutations=PEER_PERMUTATIONS))
        return none + (some - none) * PERMUTATIONS / PEER_PERMUTATIONS

    return run


def time_all(size: str, rounds: int, with_peer: bool) -> None:
    """Median CPU seconds of each, and of the rounds' ratios to the peer."""
    todo: dict[str, Callable[[], float]] = {
        name: lambda job=job: cpu_seconds(job)  # type: ignore[misc] # mypy cannot infer a default of a lambda
        for name, job in jobs(size).items()
    }
    if with_peer and importlib.util.find_spec("skbio"):
        todo["scikit-bio, one factor"] = peer(size)
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for count in range(rounds + 1):
        for name, run in todo.items():
            took = run()
            if count:  # the first round warms up
                seconds[name].append(took)
    print(f"{size}, {PERMUTATIONS} permutations, CPU seconds")
    for name, each in seconds.items():
        print(f"    {name:28s} {statistics.median(each):8.3f}   ({min(each):.3f} .. {max(each):.3f})")
    theirs = seconds.get("scikit-bio, one factor")
    if theirs:
        ratio = statistics.median(b / a for a, b in zip(seconds["one factor"], theirs, strict=True))
        print(f"    scikit-bio takes {ratio:.0f} times ours; asked {GOAL_RATIO}")


def memory_here(size: str) -> None:
    """Print the growth of the peak in this process, and the seconds taken."""
    X, batch = make(size)
    permanova(X[:100], batch[:100], permutations=9)  # what is loaded on first use is not the function's
    print(*growth(lambda: cpu_seconds(lambda: permanova(X, batch, random_state=0))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="5000x50")
    parser.add_argument("--large", default="50000x50", help="size whose memory is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help="time scikit-bio too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory_here(arguments.memory_of)
        return
    time_all(arguments.size, arguments.rounds, arguments.peer)
    command = [sys.executable, __file__, "--memory-of", arguments.large]
    grown, took = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    print(f"{arguments.large}: peak grew by {grown / 1e9:.2f} GB, asked {GOAL_BYTES / 1e9}; {took:.1f} CPU seconds")


if __name__ == "__main__":
    main()
