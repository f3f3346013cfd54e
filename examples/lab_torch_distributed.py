"""Two processes of a training job fit one corrector: each to its own rows, and then they exchange statistics.

torch.distributed carries the sums; every process merges them all, in one order, and has the corrector of all rows. No
row leaves its process. Under torchrun, leave out what starts the second process, and the store.

    python examples/lab_torch_distributed.py
"""

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from functools import reduce
from pathlib import Path

import numpy as np
import torch.distributed as dist

from batchfix import ComBat
from batchfix.datasets import make_lab

SECOND = "--second"  # how this file is called again
WORLD = 2


def rows_of(rank):
    """Every other row: all batches are in both processes."""
    lab = make_lab(n_samples=200, n_features=40, n_batches=3, confounding=0.3, missing=0.02, random_state=0)
    return lab.data[rank::WORLD], {"batch": lab.batch[rank::WORLD], "keep": lab.group[rank::WORLD]}


def fit_together(rank, folder):
    """The corrector of all rows, from those of this process and what the others send."""
    store = dist.FileStore(os.fspath(Path(folder) / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    try:
        data, labels = rows_of(rank)
        mine = ComBat().partial_fit(data, **labels)
        everyone = [None] * WORLD
        dist.all_gather_object(everyone, mine)
        return reduce(ComBat.merge, everyone)
    finally:
        dist.destroy_process_group()


def main():
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        second = subprocess.Popen([sys.executable, __file__, SECOND, folder], env=environment)
        try:
            together = fit_together(0, folder)
            if second.wait(timeout=60):
                raise RuntimeError(f"The second process ended with code {second.returncode}.")
        finally:
            second.kill()
            second.wait()

    # What nobody had to bring together:
    lab = make_lab(n_samples=200, n_features=40, n_batches=3, confounding=0.3, missing=0.02, random_state=0)
    whole = ComBat().fit(lab.data, batch=lab.batch, keep=lab.group)
    names = ("center", "scale", "shift")
    gap = max(np.abs(getattr(together.affine_, name) - getattr(whole.affine_, name)).max() for name in names)
    assert together.batch_counts_ == whole.batch_counts_
    assert gap < 1e-10
    print(
        f"{WORLD} processes, {sum(together.batch_counts_.values())} rows; largest difference of a parameter: {gap:.1g}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [SECOND]:
        fit_together(1, sys.argv[2])
    else:
        main()
