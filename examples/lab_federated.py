"""Three hospitals correct as one by files of sums: no row travels, and none can be read off what does.

Each hospital adds its own rows up and writes the sums to a file. A batch of three samples is refused: with the sums of
so few, their rows would nearly be sent. It stays at home, and the hospital adapts to it afterwards.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np

import batchfix
from batchfix import ComBat
from batchfix.datasets import make_lab

lab = make_lab(n_samples=120, n_features=50, n_batches=6, confounding=0.3, random_state=0)
batch = lab.batch.copy()
batch.iloc[np.flatnonzero(batch == "b6")[:-3]] = "b5"  # the last run was cut short after three samples
hospitals = {"north": ["b1", "b2"], "south": ["b3", "b4"], "west": ["b5", "b6"]}
rows = {name: batch.isin(runs) for name, runs in hospitals.items()}
mail = Path(tempfile.mkdtemp())

# In each hospital, from its own rows; none needs to be able to correct alone:
for name, own in rows.items():
    site = ComBat().partial_fit(lab.data[own], batch=batch[own], keep=lab.group[own])
    try:
        batchfix.save_moments(site, mail / f"{name}.moments")
    except batchfix.exceptions.BatchfixError as refusal:
        print(f"{name}: {refusal}\n")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            batchfix.save_moments(site, mail / f"{name}.moments", small="drop")
        print(f"{name}: {said[0].message}\n")

# Anywhere, from the three files, in any order:
all_three = batchfix.load_moments(*mail.glob("*.moments"))

# What nobody could have computed, as nobody had all rows:
sent = batch != "b6"
pooled = ComBat().fit_transform(lab.data[sent], batch=batch[sent], keep=lab.group[sent])

gaps = []
for own in rows.values():
    mine = own & sent
    at_home = all_three.transform(lab.data[mine], batch=batch[mine], keep=lab.group[mine])
    gaps.append(np.abs(at_home - pooled[mine[sent]]).max(axis=None))
assert max(gaps) < 1e-10

# In the west, the three samples that were never sent, against what all three hospitals know:
with warnings.catch_warnings():
    warnings.simplefilter("ignore", batchfix.exceptions.AdaptationWarning)  # few rows: known, and shrunk accordingly
    at_west = all_three.adapt(lab.data[~sent], batch=batch[~sent], keep=lab.group[~sent])
late = at_west.transform(lab.data[~sent], batch=batch[~sent], keep=lab.group[~sent])
before, after = (np.abs(each - lab.truth[~sent]).mean(axis=None) for each in (lab.data[~sent], late))
assert after < before

size = sum(file.stat().st_size for file in mail.iterdir()) / 1000
print(f"Largest difference to the pooled ComBat: {max(gaps):.1g}, from three files of {size:.0f} kB in all.")
print(f"The three samples that stayed at home, mean distance to the truth: {before:.2f} before, {after:.2f} after.")
