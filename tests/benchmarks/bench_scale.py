"""Time and memory of ComBat on a table on disk, against reading it and writing it again.

    python tests/benchmarks/bench_scale.py [--sizes 50000x1000x20 ...] [--folder DIR] [--form npy|h5|zarr] [--dask]

It makes its own data: float32 rows in mixed batches, each batch with means and spreads of its own, written a piece at a
time. One process then fits and applies ComBat, from file to file; another copies the file, row block by row block.
Fitting reads the file once, applying once more. Memory is the growth of the peak resident size from after the imports
(Linux). For tables that fit, the parameters are compared with those of a fit in memory. 8 GB is 2000000x1000x20.

With --dask a cluster of two processes, each allowed 1 GB, does the same to the .npy file in chunks of 32 MB, and its
parameters are compared with those of the one process. Memory is then the peak size of the larger worker, libraries and
all, and that of the process that writes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from batchfix import ComBat
from batchfix.adapters.blocks import fit_blocks, transform_blocks
from batchfix.adapters.sinks.opening import open_sink
from batchfix.adapters.sources.opening import as_source

CHUNK_BYTES = 1 << 25
"""Bytes of a chunk of dask's."""

IN_MEMORY = 1 << 30
"""A table of more bytes is not fitted in memory beside."""


def labels(n: int, n_batches: int) -> np.ndarray:
    """Batch of each row."""
    return np.random.default_rng(1).integers(0, n_batches, n)


def make(path: Path, n: int, p: int, n_batches: int) -> None:
    """Write a table, a piece at a time."""
    rng, batch = np.random.default_rng(0), labels(n, n_batches)
    shift = rng.standard_normal((n_batches, p), dtype=np.float32)
    spread = rng.uniform(0.5, 2.0, (n_batches, p)).astype(np.float32)
    with open_sink(path, n) as sink:
        for start in range(0, n, 4096):
            of = batch[start : start + 4096]
            sink.write(start, rng.standard_normal((len(of), p), dtype=np.float32) * spread[of] + shift[of])


def resident(field: str) -> float:
    """Megabytes resident in this process: VmRSS now, VmHWM at the peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) / 1000


def plain(source: Path, out: Path) -> None:
    """Read and write, and nothing else."""
    with source.open("rb") as read, out.open("wb") as write:
        while piece := read.read(1 << 25):
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())


def work(job: str, source: Path, out: Path, n_batches: int) -> dict[str, Any]:
    """What one process does: seconds, megabytes, and a fitted corrector's parameters beside `out`."""
    if job == "dask":
        return on_a_cluster(source, out, n_batches)
    n = as_source(source).n_rows or 0
    batch = labels(n, n_batches)
    few = np.random.default_rng(0).standard_normal((4 * n_batches, 4))
    ComBat().fit_transform(few, batch=np.arange(len(few)) % n_batches)  # what is loaded on first use is not the job's
    before, start = resident("VmRSS"), time.perf_counter()
    found: dict[str, Any] = {}
    if job == "plain":
        plain(source, out)
    else:
        corrector = fit_blocks(ComBat(), source, batch=batch)
        found["fit_seconds"] = time.perf_counter() - start
        transform_blocks(corrector, source, batch=batch, out=out)
        np.savez(out.parent / "parameters.npz", combat=parameters(corrector))
    found |= {"seconds": time.perf_counter() - start, "megabytes": resident("VmHWM") - before}
    if job != "plain" and source.suffix == ".npy" and source.stat().st_size <= IN_MEMORY:
        whole = ComBat().fit(np.load(source), batch=batch)
        found["off"] = float(np.abs(parameters(whole) - parameters(corrector)).max())
    return found


def parameters(corrector: ComBat) -> np.ndarray:
    """The fitted map of every batch and feature."""
    affine = corrector.affine_
    return np.stack([affine.center, affine.scale, affine.shift])


def rows_of(source: Path, start: int, stop: int) -> np.ndarray:
    """Some rows of a .npy file, read where they are wanted."""
    return np.array(np.load(source, mmap_mode="r")[start:stop])


def on_a_cluster(source: Path, out: Path, n_batches: int) -> dict[str, Any]:
    """The same by dask, on two workers of 1 GB."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster

    n, p = np.load(source, mmap_mode="r").shape
    batch = labels(n, n_batches)
    step = max(1, CHUNK_BYTES // (4 * p))
    read = dask.delayed(rows_of, pure=True)
    spans = [(a, min(a + step, n)) for a in range(0, n, step)]
    X = da.concatenate([da.from_delayed(read(source, a, b), shape=(b - a, p), dtype=np.float32) for a, b in spans])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        start = time.perf_counter()
        corrector = fit_blocks(ComBat(), X, batch=batch)
        found: dict[str, Any] = {"fit_seconds": time.perf_counter() - start}
        found["fit_megabytes"] = max(client.run(resident, "VmHWM").values())
        transform_blocks(corrector, X, batch=batch, out=out)
        found["seconds"] = time.perf_counter() - start
        found["megabytes"] = max(client.run(resident, "VmHWM").values())
        found["writer_megabytes"] = resident("VmHWM")
    with np.load(out.parent / "parameters.npz") as file:
        found["off"] = float(np.abs(parameters(corrector) - file["combat"]).max())
    return found


def measure(size: str, folder: Path, form: str = "npy", *, by_dask: bool = False) -> dict[str, Any]:
    """Make a table of rows x features x batches, and run the jobs in processes of their own."""
    n, p, n_batches = map(int, size.split("x"))
    source = folder / f"table.{form}"
    make(source, n, p, n_batches)
    found: dict[str, Any] = {"size": size, "gigabytes": n * p * 4 / 1e9}
    for job in ("plain", "combat", "dask") if by_dask else ("plain", "combat"):
        out = folder / f"{job}.{form}"
        if job == "plain" and source.is_dir():
            continue
        command = [sys.executable, __file__, "--job", job, str(source), str(out), str(n_batches)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[job] = json.loads(answer.splitlines()[-1])
        if job == "plain":
            out.unlink()
    return found


def report(found: dict[str, Any]) -> None:
    plain, combat = found.get("plain"), found["combat"]
    print(f"{found['size']}: {found['gigabytes']:.2f} GB of float32")
    print(f"    ComBat   {combat['seconds']:8.1f} s ({combat['fit_seconds']:.1f} of them to fit)", end="")
    print(f"   memory {combat['megabytes']:6.0f} MB more (asked 600)")
    if plain is not None:
        ratio = combat["seconds"] / plain["seconds"]
        print(f"    copying  {plain['seconds']:8.1f} s   ratio {ratio:.2f}   memory {plain['megabytes']:.0f} MB more")
    if "off" in combat:
        print(f"    parameters differ from those of a fit in memory by {combat['off']:.1e} at most (asked 1e-6)")
    if "dask" in found:
        dask = found["dask"]
        print(f"    dask     {dask['seconds']:8.1f} s ({dask['fit_seconds']:.1f} of them to fit)", end="")
        print(f"   a worker {dask['megabytes']:.0f} MB ({dask['fit_megabytes']:.0f} to fit; asked 1000)", end="")
        print(f"   the writer {dask['writer_megabytes']:.0f} MB")
        print(f"    parameters differ from those of one process by {dask['off']:.1e} at most (asked 1e-6)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", "--size", nargs="+", default=["50000x1000x20"])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--form", choices=("npy", "h5", "zarr"), default="npy")
    parser.add_argument("--dask", action="store_true", help="also on two workers of dask's (npy only)")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        job, source, out, n_batches = given.job
        print(json.dumps(work(job, Path(source), Path(out), int(n_batches))))
        return
    if given.dask and given.form != "npy":
        parser.error("--dask reads .npy files: leave --form out")
    for size in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            report(measure(size, Path(folder), given.form, by_dask=given.dask))


if __name__ == "__main__":
    main()
