"""Time of ranks within groups, and of neutralization, against what one would write by hand.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_ranks.py [--size 2500x3000] [--groups 11] [--rounds 5] [--peers]

Sides run in turn, round by round, in one process; what is printed is the median of the rounds' ratios. Ranks stand
against bottleneck's `nanrankdata` called group by group (where it is installed), which still has to be scaled and put
back; neutralization against `np.linalg.lstsq` with dummies, date by date. --peers adds pandas' group ranks (slow).
Memory is the growth of the peak resident size in a process of its own, in units of the output (Linux).
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics

import numpy as np
from measuring import Job, alone, growth, seconds

from batchfix.core.neutralize import neutralize
from batchfix.core.ranks import grouped_gauss_rank, grouped_rank

MISSING = 0.05


def make(size: str, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values with NaN, the group of each column, that of each cell where few change, and two exposures."""
    n, p = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    X[rng.random(X.shape) < MISSING] = np.nan
    codes = rng.integers(0, groups, p)
    changing = np.tile(codes, (n, 1))
    for row in range(0, n, 50):
        changing[row:, rng.integers(p)] = rng.integers(groups)
    return X, codes, changing, rng.normal(size=(n, p, 2))


def by_bottleneck(X: np.ndarray, codes: np.ndarray, groups: int) -> np.ndarray:
    import bottleneck

    out = np.empty_like(X)
    for g in range(groups):
        columns = np.flatnonzero(codes == g)
        out[:, columns] = bottleneck.nanrankdata(X[:, columns], axis=1)
    return out


def by_pandas(X: np.ndarray, codes: np.ndarray) -> object:
    import pandas as pd

    return pd.DataFrame(X.T).groupby(codes).rank(pct=True)


def by_lstsq(X: np.ndarray, codes: np.ndarray, groups: int, exposures: np.ndarray) -> np.ndarray:
    out = np.full_like(X, np.nan)
    dummies = np.eye(groups)[codes]
    for x, z, result in zip(X, exposures, out, strict=True):
        seen = ~np.isnan(x)
        design = np.column_stack([dummies[seen], z[seen]])
        result[seen] = x[seen] - design @ np.linalg.lstsq(design, x[seen], rcond=None)[0]
    return out


def compare(title: str, floor: Job, jobs: dict[str, Job], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in ("floor", *jobs)}
    for count in range(rounds + 1):
        for name, job in {"floor": floor, **jobs}.items():
            took = seconds(job)
            if count:  # the first round warms up
                times[name].append(took)
    print(f"  {title}: {statistics.median(times['floor']):.3f} s")
    for name in jobs:
        ratios = [a / b for a, b in zip(times[name], times["floor"], strict=True)]
        print(
            f"    {name:32s} {statistics.median(ratios):6.3f}   ({min(ratios):.3f} .. {max(ratios):.3f})"
            f"   {statistics.median(times[name]):.3f} s"
        )


def jobs(size: str, groups: int) -> dict[str, Job]:
    X, codes, changing, exposures = make(size, groups)
    single, coarse = X.astype(np.float32), np.round(X, 1)
    return {
        "rank": lambda: grouped_rank(X, codes, groups),
        "rank, groups change": lambda: grouped_rank(X, changing, groups),
        "rank, float32": lambda: grouped_rank(single, codes, groups),
        "rank, many ties": lambda: grouped_rank(coarse, codes, groups),
        "normal scores": lambda: grouped_gauss_rank(X, codes, groups),
        "one exposure": lambda: neutralize(X, codes, groups, exposures[:, :, :1]),
        "two exposures": lambda: neutralize(X, codes, groups, exposures),
        "two exposures of columns": lambda: neutralize(X, codes, groups, exposures[0]),
        "two exposures, groups change": lambda: neutralize(X, changing, groups, exposures),
    }


def time_all(size: str, groups: int, rounds: int, with_peers: bool) -> None:
    X, codes, _, exposures = make(size, groups)
    ours = jobs(size, groups)
    print(f"{size}, {groups} groups, {MISSING:.0%} missing; ratios")
    if importlib.util.find_spec("bottleneck"):
        ranks = {name: job for name, job in ours.items() if "exposure" not in name}
        if with_peers:
            ranks["pandas"] = lambda: by_pandas(X, codes)
        compare("bottleneck, group by group", lambda: by_bottleneck(X, codes, groups), ranks, rounds)
    else:
        print("  bottleneck is not installed: no ratios of ranks")
    neutral = {name: job for name, job in ours.items() if "exposure" in name}
    compare("lstsq, date by date", lambda: by_lstsq(X, codes, groups, exposures), neutral, rounds)
    print("  growth of the peak, in outputs; asked 1.2")
    alone(__file__, ours, "--size", size, "--groups", str(groups))


def memory_here(size: str, groups: int, name: str) -> None:
    """Print the growth of the peak in this process, in outputs."""
    jobs("64x64", groups)[name]()  # what is loaded on first use is not the function's
    job = jobs(size, groups)[name]
    grown, out = growth(job)
    largest = max(out, key=lambda a: a.nbytes) if isinstance(out, tuple) else out
    print(grown / largest.nbytes)  # type: ignore[attr-defined]  # arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2500x3000")
    parser.add_argument("--groups", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="time pandas too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory_here(arguments.size, arguments.groups, arguments.memory_of)
        return
    time_all(arguments.size, arguments.groups, arguments.rounds, arguments.peers)


if __name__ == "__main__":
    main()
