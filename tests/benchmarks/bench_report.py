"""CPU and wall seconds of an evaluation, number by number, whole and fast; and of the report on it.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_report.py [--size 2000x5000] [--rounds 3] [--report]

A table of five batches and two groups is corrected by ComBat. CPU time is that of the whole process, all threads
together. What is printed is the median over the rounds; whole and fast run in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from batchfix import ComBat
from batchfix.datasets import LabTable, make_lab
from batchfix.diagnostics.evaluation import NUMBERS, evaluate
from batchfix.diagnostics.measurements import Measurements

BATCHES = 5
GOAL = 60.0
"""Wall seconds of a whole report of 2,000 x 5,000 on two quiet cores."""

Seconds = tuple[float, float]


def make(size: str) -> LabTable:
    """A table with batch effects."""
    n, p = map(int, size.split("x"))
    return make_lab(n, p, BATCHES, random_state=0)


def seconds(run: Callable[[], object]) -> Seconds:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return time.process_time() - cpu, time.perf_counter() - wall


class Parts:
    """Measurements that note how long each of the eight numbers takes."""

    def __init__(self) -> None:
        self.took: dict[str, Seconds] = {}
        for name in NUMBERS:
            setattr(Measurements, name, self._timed(name, getattr(Measurements, name)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            found = []
            self.took[name] = seconds(lambda: found.append(method(*arguments)))
            return found[0]

        return timed


def evaluate_all(lab: LabTable, rounds: int) -> None:
    parts = Parts()
    taken: dict[bool, list[dict[str, Seconds]]] = {True: [], False: []}
    for _ in range(rounds):
        for fast, each in taken.items():
            total = seconds(
                lambda fast=fast: evaluate(  # type: ignore[misc] # mypy cannot infer a default of a lambda
                    lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=fast
                )
            )
            each.append({**parts.took, "all": total})
    print(f"{'':24s}{'whole, CPU':>12s}{'wall':>8s}{'fast, CPU':>12s}{'wall':>8s}")
    for name in (*NUMBERS, "all"):
        whole, fast = (_median([each[name] for each in taken[how]]) for how in (False, True))
        print(f"    {name:20s}{whole[0]:12.2f}{whole[1]:8.2f}{fast[0]:12.2f}{fast[1]:8.2f}")


def _median(found: list[Seconds]) -> Seconds:
    cpu, wall = zip(*found, strict=True)
    return statistics.median(cpu), statistics.median(wall)


def report(lab: LabTable) -> None:
    """The report with its pictures, as one file."""
    from batchfix.diagnostics import Report

    def run() -> None:
        Report(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group).to_html()

    cpu, wall = seconds(run)
    print(f"whole report: {cpu:.1f} CPU seconds, {wall:.1f} by the clock; asked {GOAL:.0f} on two quiet cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2000x5000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="time the report too, with its pictures")
    arguments = parser.parse_args()
    lab = make(arguments.size)
    evaluate_all(lab, arguments.rounds)
    if arguments.report:
        report(lab)


if __name__ == "__main__":
    main()
