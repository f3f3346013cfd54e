"""Time and memory of ComBat on a sparse AnnData: in memory, backed by a file, and scanpy's.

    python tests/benchmarks/bench_anndata.py [--size 100000x2000] [--density 0.05] [--folder DIR] [--scanpy PYTHON]

It makes its own data: float32 logarithms of counts, of cells in 8 batches that differ in depth by gene, stored sparse
and dense. Each job runs in a process of its own, which opens the file and then measures one call: seconds, and by how
much the peak of its memory grows (Linux), as a multiple of the dense float32 result. scanpy's combat runs if it is
installed here, or for the interpreter that is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from measuring import growth
from scipy import sparse

BATCHES = 8


def cells(n: int, p: int, density: float) -> ad.AnnData:
    """Sparse cells by genes."""
    rng = np.random.default_rng(0)
    batch = rng.integers(0, BATCHES, n)
    depth = rng.uniform(0.5, 2.0, (BATCHES, p)).astype(np.float32)
    blocks = []
    for start in range(0, n, 4096):
        of = batch[start : start + 4096]
        there = rng.random((len(of), p), dtype=np.float32) < density
        counts = np.zeros(there.shape, dtype=np.float32)
        counts[there] = rng.standard_exponential(int(there.sum()), dtype=np.float32) * depth[of][there]
        blocks.append(sparse.csr_matrix(np.log1p(counts)))
    obs = pd.DataFrame({"batch": pd.Categorical([f"run{b}" for b in batch])}, index=[f"c{i}" for i in range(n)])
    return ad.AnnData(sparse.vstack(blocks, format="csr"), obs=obs)


def combat(adata: ad.AnnData, **how: Any) -> None:
    from batchfix import ComBat, pp

    pp.correct(adata, ComBat(), **how)


def scale_only(adata: ad.AnnData) -> None:
    from batchfix import BatchCorrector, pp

    pp.correct(adata, BatchCorrector(location=None))


def scanpy_combat(adata: ad.AnnData) -> None:
    import scanpy

    scanpy.pp.combat(adata, key="batch")


def by_column(adata: ad.AnnData) -> ad.AnnData:
    adata.X = adata.X.tocsc()
    return adata


Opener = Callable[[Path, Path], ad.AnnData]

JOBS: dict[str, tuple[Opener, Callable[[ad.AnnData], None]]] = {
    "sparse by rows": (lambda s, _: ad.read_h5ad(s), combat),
    "sparse by columns": (lambda s, _: by_column(ad.read_h5ad(s)), combat),
    "dense": (lambda _, d: ad.read_h5ad(d), combat),
    "sparse, scaled only": (lambda s, _: ad.read_h5ad(s), scale_only),
    "sparse, backed": (lambda s, _: ad.read_h5ad(s, backed="r+"), combat),
    "dense, backed": (lambda _, d: ad.read_h5ad(d, backed="r+"), combat),
    "sparse backed, scaled only": (lambda s, _: ad.read_h5ad(s, backed="r+"), scale_only),
    "scanpy, sparse": (lambda s, _: ad.read_h5ad(s), scanpy_combat),
}


def work(name: str, folder: Path) -> dict[str, float]:
    """What one process does."""
    warnings.simplefilter("ignore")
    opened, job = JOBS[name]
    few = cells(64, 8, 0.5)
    job(few)  # what is loaded or compiled on first use is not the job's
    adata = opened(folder / "sparse.h5ad", folder / "dense.h5ad")
    start = time.perf_counter()
    more, _ = growth(lambda: job(adata))
    return {"seconds": time.perf_counter() - start, "bytes": more}


def measure(name: str, folder: Path, python: str) -> dict[str, float]:
    """Run a job in a process of its own, on copies of the files where it changes them."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for file in folder.glob("*.h5ad"):
            if "backed" in name:  # it is written to
                (Path(place) / file.name).write_bytes(file.read_bytes())
            else:
                (Path(place) / file.name).symlink_to(file)
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [python, __file__, "--job", name, place],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
    return json.loads(done.stdout.splitlines()[-1])


def report(size: str, density: float, folder: Path, scanpy: str | None) -> None:
    n, p = map(int, size.split("x"))
    adata = cells(n, p, density)
    adata.write_h5ad(folder / "sparse.h5ad")
    adata.X = adata.X.toarray()
    adata.write_h5ad(folder / "dense.h5ad")
    del adata
    dense = n * p * 4
    print(f"{n} cells x {p} genes, {density:.0%} other than 0: {dense / 1e9:.2g} GB as dense float32")
    for name in JOBS:
        if name.startswith("scanpy") and scanpy is None:
            continue
        found = measure(name, folder, scanpy if name.startswith("scanpy") and scanpy else sys.executable)
        asked = "   asked 1.15" if name.startswith("sparse by") else ""
        print(f"    {name:28s} {found['seconds']:7.1f} s   memory {found['bytes'] / dense:6.2f} x{asked}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="10000x1000")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--scanpy", default=sys.executable if importlib.util.find_spec("scanpy") else None)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(work(given.job[0], Path(given.job[1]))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        report(given.size, given.density, Path(folder), given.scanpy)


if __name__ == "__main__":
    main()
