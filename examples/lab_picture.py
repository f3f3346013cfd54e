"""Draw the README's picture: the bladder table before and after ComBat, on its first two principal components.

Colour is the batch, the marker what the tissue is. Before, samples lie by batch; after, by tissue.

    python examples/lab_picture.py [file.png]
"""

import sys

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from batchfix import ComBat
from batchfix.datasets import load_bladder

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"]
MARKERS = {"Cancer": "o", "Biopsy": "^", "Normal": "s"}


def draw(path: str) -> None:
    bladder = load_bladder()
    batch, cancer = bladder.samples["batch"], bladder.samples["cancer"]
    corrected = ComBat().fit_transform(bladder.data, batch=batch, keep=cancer)

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for axis, table, title in zip(axes, (bladder.data, corrected), ("Before", "After ComBat"), strict=True):
        pca = PCA(2).fit(table.to_numpy())
        points = pca.transform(table.to_numpy())
        for colour, label in zip(COLOURS, np.unique(batch), strict=True):
            for kind, marker in MARKERS.items():
                here = ((batch == label) & (cancer == kind)).to_numpy()
                axis.scatter(*points[here].T, c=colour, marker=marker, s=42, alpha=0.85, linewidths=0)
        first, second = (f"PC{k} ({100 * share:.0f} %)" for k, share in enumerate(pca.explained_variance_ratio_, 1))
        axis.set(title=title, xlabel=first, ylabel=second, xticks=[], yticks=[])
        axis.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=c, label=f"batch {b}")
        for c, b in zip(COLOURS, np.unique(batch), strict=True)
    ]
    handles += [Line2D([], [], marker=m, linestyle="", color="0.45", label=kind.lower()) for kind, m in MARKERS.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"drew {path}")


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "lab_picture.png")
