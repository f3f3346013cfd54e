"""A learning rate at which a small LeNet learns nothing without norms, and reads digits in a few epochs with them.

Batch norm's output does not change when the weights before it are scaled: a step too long makes the weights longer, and
the next step is shorter beside them. Here all is plain stochastic gradient descent without momentum, in minibatches of
64. Batch renormalization starts as batch norm, and opens its limits slowly from step 30 on.

Expect, as accuracy on new digits after 20 epochs:

    learning rate                      0.2     0.5     2.0
    no norm                           94 %    95 %     9 %
    BatchNorm                         99 %    99 %    99 %
    BatchRenorm                       99 %    99 %    99 %
    BatchRenorm, open at once         99 %    99 %     9 %

The plain net's best is 96.4 %, at a learning rate of 0.5 in epoch 19. At 2.0, BatchNorm is there in epoch 6 and
BatchRenorm in epoch 5.

The last row is a warning. With limits wide open from the first step, batch renormalization is as fragile as no norm:
what a long step does to a channel's mean comes through as d, and the gradient, to which d is constant, cannot see it.
At a high learning rate, open slowly.

    python examples/nn_learning_rate.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm1d, BatchNorm2d, BatchRenorm1d, BatchRenorm2d, Schedule

mpl.use("Agg")
import matplotlib.pyplot as plt

RATES = (0.2, 0.5, 2.0)
EPOCHS = 20
SLOWLY = {"r_max": Schedule((30, 1.0), (1030, 3.0)), "d_max": Schedule((30, 0.0), (1030, 5.0))}
AT_ONCE = {"r_max": 3.0, "d_max": 5.0}

# Each makes the norm behind a layer of so many channels, of images (4 axes) or of vectors (2).
NORMS = {
    "no norm": lambda channels, ndim: nn.Identity(),
    "BatchNorm": lambda channels, ndim: (BatchNorm2d if ndim == 4 else BatchNorm1d)(channels),
    "BatchRenorm": lambda channels, ndim: (BatchRenorm2d if ndim == 4 else BatchRenorm1d)(channels, **SLOWLY),
    "BatchRenorm, open at once": lambda channels, ndim: (BatchRenorm2d if ndim == 4 else BatchRenorm1d)(
        channels, **AT_ONCE
    ),
}


def lenet(norm):
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), norm(8, 4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), norm(16, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 64), norm(64, 2), nn.ReLU()),
        nn.Linear(64, 10),
    )


def learning_curve(net, rate, learn, test):
    """Accuracy on new images after each epoch."""
    images, labels = learn
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    curve = []
    for _ in range(EPOCHS):
        net.train()
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
        curve.append(accuracy(net.eval(), *test))
    return curve


@torch.no_grad()
def accuracy(net, images, labels):
    return float((net(images).argmax(dim=1) == labels).float().mean())


def epochs_to(curve, level):
    """The first epoch that reaches a level, from 1; infinity if none does."""
    return next((epoch for epoch, share in enumerate(curve, 1) if share >= level), float("inf"))


def run(seed=0):
    """Learning curves by norm, then by learning rate; the plain net's best rate and accuracy; epochs to reach it."""
    torch.manual_seed(seed)
    digits = load_digits()
    order = torch.randperm(len(digits.images))
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[order, None]
    labels = torch.tensor(digits.target)[order]
    learn, test = (images[:1000], labels[:1000]), (images[1000:], labels[1000:])

    curves = {norm: {} for norm in NORMS}
    for norm, make in NORMS.items():
        for rate in RATES:
            torch.manual_seed(seed)
            curves[norm][rate] = learning_curve(lenet(make), rate, learn, test)
    plain = curves["no norm"]
    good = max(RATES, key=lambda rate: max(plain[rate]))
    best = max(plain[good])
    epochs = {
        "no norm": epochs_to(plain[good], best),
        **{norm: epochs_to(curves[norm][RATES[-1]], best) for norm in ("BatchNorm", "BatchRenorm")},
    }
    return {"curves": curves, "good rate": good, "best": best, "epochs": epochs}


def draw(found, path):
    curves, good = found["curves"], found["good rate"]
    looks = (
        {"color": "0.5", "marker": "o"},
        {"color": "#D55E00", "marker": "s", "linewidth": 5, "alpha": 0.5},
        {"color": "#0072B2", "marker": "o"},
        {"color": "#0072B2", "marker": "x", "linestyle": "--"},
    )
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    epochs = range(1, EPOCHS + 1)
    for (norm, row), look in zip(curves.items(), looks, strict=True):
        axes[0].semilogx(RATES, [100 * row[rate][-1] for rate in RATES], **look, label=norm)
        axes[1].plot(epochs, [100 * share for share in row[RATES[-1]]], **look, markersize=4)
    plain = [100 * share for share in curves["no norm"][good]]
    axes[1].plot(epochs, plain, "^:", color="black", markersize=4, label=f"no norm, learning rate {good}")
    axes[0].set(title=f"After {EPOCHS} epochs", xlabel="learning rate", ylim=(0, 102))
    axes[0].set_ylabel("accuracy on new digits (%)")
    axes[0].set_xticks(RATES, [str(rate) for rate in RATES])
    axes[0].minorticks_off()
    axes[1].set(title=f"Learning rate {RATES[-1]}", xlabel="epoch")
    axes[1].set_xticks([1, *range(5, EPOCHS + 1, 5)])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found = run()
    print(f"{'learning rate':<30}" + "".join(f"{rate:>8}" for rate in RATES))
    for norm, row in found["curves"].items():
        print(f"{norm:<30}" + "".join(f"{100 * row[rate][-1]:>6.0f} %" for rate in RATES))
    print(f"the plain net's best: {100 * found['best']:.1f} %, at a learning rate of {found['good rate']}")
    for norm, epochs in found["epochs"].items():
        print(f"first there in epoch {epochs:>2}: {norm}" + (f" at {RATES[-1]}" if norm != "no norm" else ""))
    draw(found, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_learning_rate.png")
