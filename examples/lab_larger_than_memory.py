"""A table larger than memory: fitted and corrected from file to file, a few rows at a time.

A batch's effect is known from counts, means and sums of squares, and these add up over blocks of rows. So the table is
read twice, once to fit and once to correct, and never lies in memory. Here it is small, and Python counts the bytes.
"""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from batchfix import ComBat, fit_blocks, transform_blocks

folder = tempfile.TemporaryDirectory()
table, corrected = Path(folder.name) / "table.npy", Path(folder.name) / "corrected.npy"

# A run of an instrument after the other, each with offsets of its own, written as they come:
rng = np.random.default_rng(0)
run = np.repeat(np.arange(20), 1000)
rows = np.lib.format.open_memmap(table, "w+", np.float32, (len(run), 500))
for k in range(20):
    rows[run == k] = rng.normal(loc=rng.normal(size=500), size=(1000, 500))

tracemalloc.start()
corrector = fit_blocks(ComBat(), table, batch=run, block_rows=1000)
transform_blocks(corrector, table, batch=run, block_rows=1000, out=corrected)
peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()

# What memory that holds the whole table would have given:
whole = ComBat().fit_transform(np.load(table), batch=run)
gap = np.abs(np.load(corrected) - whole).max()

assert peak < rows.nbytes / 2
assert gap < 1e-5  # of float32
folder.cleanup()
print(f"{rows.nbytes / 1e6:.0f} MB of rows corrected in {peak / 1e6:.0f} MB; difference to all at once: {gap:.1g}")
