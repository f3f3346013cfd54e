"""What the benchmarks share: sides that run in turn, and memory measured in a process of its own (Linux)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

Job = Callable[[], object]


def seconds(run: Job) -> float:
    """Time that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def against_copy(
    jobs: Mapping[str, Job], X: np.ndarray, rounds: int, goals: Mapping[str, float], prepare: Job | None = None
) -> None:
    """Print the median ratio of each job's time to that of `X.copy()`, run right before it, round by round.

    `prepare` runs before each job, untimed.
    """
    ratios: dict[str, list[float]] = {name: [] for name in jobs}
    floors = []
    for count in range(rounds + 1):
        for name, job in jobs.items():
            if prepare is not None:
                prepare()
            floor = seconds(X.copy)
            taken = seconds(job)
            if count:  # the first round warms up
                floors.append(floor)
                ratios[name].append(taken / floor)
    for name, found in ratios.items():
        goal = f"; asked {goals[name]}" if name in goals else ""
        print(f"    {name:28s} {statistics.median(found):7.2f}   ({min(found):.2f} .. {max(found):.2f}){goal}")
    print(f"    copy {statistics.median(floors) * 1e3:.1f} ms")


def resident(field: str) -> float:
    """Bytes resident in this process: VmRSS now, VmHWM at the peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) * 1024


def growth(run: Callable[[], object]) -> tuple[float, object]:
    """Bytes by which the peak grows in a call, and what it returns."""
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    before = resident("VmRSS")
    out = run()
    return resident("VmHWM") - before, out


def alone(file: str, names: Iterable[str], *options: str) -> None:
    """Print the figure that `file --memory-of NAME` prints, of each name in a process of its own."""
    for name in names:
        command = [sys.executable, file, *options, "--memory-of", name]
        share = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"    {name:28s} {share:6.3f}")
