"""A table in chunks, corrected as one: dask measures each chunk where it lies, and only sums travel.

Here the chunks lie in this process's threads. Under a `distributed.Client` the same two calls run on its workers, on
this machine or on many, and no worker ever holds more than a few chunks.
"""

import dask.array as da
import numpy as np

from batchfix import ComBat, fit_blocks, transform_blocks
from batchfix.datasets import make_lab

lab = make_lab(n_samples=400, n_features=60, n_batches=4, confounding=0.4, random_state=0)
table = da.from_array(lab.data.to_numpy(), chunks=(90, 60))  # as da.from_zarr("table.zarr") would be
labels = {"batch": lab.batch.to_numpy(), "keep": lab.group.to_numpy()}

combat = fit_blocks(ComBat(), table, **labels)
corrected = transform_blocks(combat, table, **labels)  # nothing is corrected yet
assert corrected.chunks == table.chunks

spread = corrected.std(axis=0).compute()  # and now it is, chunk by chunk

# What one process with room for the whole table finds:
alone = ComBat().fit_transform(lab.data.to_numpy(), **labels)
gap = np.abs(corrected.compute() - alone).max()
assert gap < 1e-10
assert np.allclose(spread, alone.std(axis=0))
print(f"{table.npartitions} chunks of {table.chunksize[0]} rows; largest difference to the ComBat of all: {gap:.1g}")
