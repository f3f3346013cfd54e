"""Does batch norm keep a net from overfitting? With right labels, a little; and not by the noise of its statistics.

The noise of small minibatches is said to regularize. To see the noise of the statistics alone, every net here learns
192 digits by steps of 64, and only the number of images that share statistics differs (64, 16 or 4).

Expect, as accuracies after 20 epochs, means of three draws of the digits to learn:

                                  right labels           a fifth of the labels wrong
                         learned    new    gap   learned    new    gap         best new
    no norm                100 %   91 %    8.9      82 %   82 %    0.5    84 %, epoch 9
    BatchNorm, 64          100 %   94 %    6.0     100 %   75 %   25.1    85 %, epoch 5
    BatchNorm, 16          100 %   93 %    6.6     100 %   73 %   26.9    86 %, epoch 5
    BatchNorm, 4           100 %   92 %    7.9      90 %   82 %    7.9    87 %, epoch 8
    BatchRenorm, 4         100 %   94 %    6.4     100 %   75 %   24.6    84 %, epoch 5

Right labels: every net learns all of them, and batch norm reads three points more of the new digits. The fewer images
share statistics, the less of that is left; batch renormalization of four keeps most of it. The noise does not help.

Wrong labels: every net is at its best early, and then learns wrong labels by heart. Batch norm gets there first: it
speeds up learning, of what is right and of what is wrong. Here the noise of four images slows it down, and helps as
stopping early would, which helps more.

    python examples/nn_overfitting.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm1d, BatchRenorm1d

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN, STEP, EPOCHS, DRAWS = 192, 64, 20, 3
WRONG = 0.2


def batch_norm(channels, share):
    return BatchNorm1d(channels, momentum=share / SHOWN)  # the running statistics remember about an epoch


def batch_renorm(channels, share):
    return BatchRenorm1d(channels, momentum=share / SHOWN, r_max=3.0, d_max=5.0)


# The norm, and how many images share statistics.
SETUPS = {
    "no norm": (lambda channels, share: nn.Identity(), 64),
    "BatchNorm, 64": (batch_norm, 64),
    "BatchNorm, 16": (batch_norm, 16),
    "BatchNorm, 4": (batch_norm, 4),
    "BatchRenorm, 4": (batch_renorm, 4),
}


def net(norm, share):
    return nn.Sequential(
        *(nn.Linear(64, 128), norm(128, share), nn.ReLU()),
        *(nn.Linear(128, 128), norm(128, share), nn.ReLU()),
        nn.Linear(128, 10),
    )


def learning_curves(model, share, learn, test):
    """Accuracy on the labels learned and on new images, after each epoch (EPOCHS, 2)."""
    images, labels = learn
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    curves = []
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(labels)).split(STEP):
            optimizer.zero_grad()
            for part in rows.split(share):  # each part has statistics of its own, the step is of all
                loss = cross_entropy(model(images[part]), labels[part], reduction="sum") / len(rows)
                loss.backward()
            optimizer.step()
        model.eval()
        curves.append((accuracy(model, *learn), accuracy(model, *test)))
    return torch.tensor(curves)


@torch.no_grad()
def accuracy(model, images, labels):
    return float((model(images).argmax(dim=1) == labels).float().mean())


def with_wrong(labels, share):
    """Labels of which a share is replaced by another class."""
    wrong = torch.rand(len(labels)) < share
    return torch.where(wrong, (labels + torch.randint(1, 10, labels.shape)) % 10, labels)


def run(seed=0):
    """Learning curves (EPOCHS, 2), mean of the draws, by share of wrong labels, then by setup."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    curves = {}
    for wrong in (0.0, WRONG):
        found = {name: [] for name in SETUPS}
        for k in range(DRAWS):
            torch.manual_seed(100 * seed + k)
            order = torch.randperm(len(labels))
            learn, test = order[:SHOWN], order[SHOWN:]
            given = with_wrong(labels[learn], wrong)
            for name, (norm, share) in SETUPS.items():
                torch.manual_seed(100 * seed + k)
                model = net(norm, share)
                found[name].append(learning_curves(model, share, (images[learn], given), (images[test], labels[test])))
        curves[wrong] = {name: torch.stack(draws).mean(dim=0) for name, draws in found.items()}
    return curves


def draw(curves, path):
    colours = dict(zip(SETUPS, ("0.4", "#D55E00", "#E69F00", "#CC79A7", "#0072B2"), strict=True))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    panels = (
        (0.0, 1, "Right labels", "accuracy on new digits (%)", (80, 96)),
        (WRONG, 0, "A fifth of the labels wrong", "given labels learned (%)", (40, 101)),
        (WRONG, 1, "A fifth of the labels wrong", "accuracy on new digits (%)", (70, 90)),
    )
    for axis, (wrong, column, title, what, limits) in zip(axes, panels, strict=True):
        for name, curve in curves[wrong].items():
            axis.plot(range(1, EPOCHS + 1), 100 * curve[:, column], color=colours[name], label=name)
        axis.set(title=title, xlabel="epoch", ylabel=what, ylim=limits)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(100 * (1 - WRONG), color="0.6", linestyle=":", label="share of right labels")
    handles, names = axes[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    curves = run()
    print(f"{'':<18}{'right labels':>24}{'a fifth of the labels wrong':>38}")
    print(f"{'':<18}" + f"{'learned':>10}{'new':>7}{'gap':>7}" * 2 + f"{'best new':>17}")
    for name in SETUPS:
        line = f"{name:<18}"
        for wrong in curves:
            learned, new = (100 * share for share in curves[wrong][name][-1].tolist())
            line += f"{learned:>8.0f} %{new:>5.0f} %{learned - new:>7.1f}"
        best, epoch = curves[WRONG][name][:, 1].max(dim=0)
        print(line + f"{100 * best:>6.0f} %, epoch {epoch + 1}")
    draw(curves, path)
    print(f"drew {path}")
    return curves


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_overfitting.png")
