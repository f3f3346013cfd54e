"""Minibatches of four images of one class: batch norm trains on them, and cannot read digits afterwards.

In a minibatch of one class the mean that batch norm takes out is that class's own; at inference the running mean of all
classes is taken out, and the net sees what it never saw in training. Batch renormalization trains in the running
frame. Random minibatches of 4 and of 2 stand beside: there only the noise of so few images is left.

Expect, as accuracy on new digits in eval mode, after 500 steps at one learning rate:

    minibatches                       4 of one class      4 at random      2 at random
    BatchNorm                                    5 %             91 %             49 %
    BatchRenorm                                 68 %             93 %             60 %
    BatchNorm, convolutions only                82 %             91 %             86 %
    BatchRenorm, convolutions only              73 %             91 %             71 %

The last two rows have no norm behind the fully connected layer, which is the weak spot: it gives one value an image,
where a convolution gives 64 or 16. Batch norm and renormalization alike take the minibatch's mean out of the gradient.
Where four images of one class give one value each, that mean is most of it; and where two give one value each, no
gradient passes at all (see nn_train_inference_mismatch.py). So with minibatches this small, norm the convolutions; and
where a norm must stand behind a fully connected layer, renormalize. (BatchRenorm in the convolutions starts slower than
BatchNorm, as its running statistics start at 0 and 1 and take a hundred steps to settle.)

    python examples/nn_small_minibatches.py [picture.png]
"""

import sys
import tempfile
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm1d, BatchNorm2d, BatchRenorm1d, BatchRenorm2d

mpl.use("Agg")
import matplotlib.pyplot as plt

LOOKS, STEPS = 4, 125  # the accuracy is looked at four times, every 125 steps
LIMITS = {"r_max": 3.0, "d_max": 5.0}  # open from the first step: the training is short
MOMENTUM = 0.01  # the running statistics remember about a hundred minibatches


def batch_norm(channels, ndim):
    return (BatchNorm2d if ndim == 4 else BatchNorm1d)(channels, momentum=MOMENTUM)


def batch_renorm(channels, ndim):
    return (BatchRenorm2d if ndim == 4 else BatchRenorm1d)(channels, momentum=MOMENTUM, **LIMITS)


def in_convolutions_only(norm):
    return lambda channels, ndim: norm(channels, ndim) if ndim == 4 else nn.Identity()


NORMS = {
    "BatchNorm": batch_norm,
    "BatchRenorm": batch_renorm,
    "BatchNorm, convolutions only": in_convolutions_only(batch_norm),
    "BatchRenorm, convolutions only": in_convolutions_only(batch_renorm),
}


def lenet(norm):
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), norm(8, 4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), norm(16, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 64), norm(64, 2), nn.ReLU()),
        nn.Linear(64, 10),
    )


def at_random(labels, size):
    """Minibatches of any classes, without end."""
    while True:
        yield from torch.randperm(len(labels)).split(size)


def of_one_class(labels, size):
    """Minibatches of one class each, in random order, without end."""
    while True:
        rows = torch.randperm(len(labels))
        parts = [part for k in labels.unique() for part in rows[labels[rows] == k].split(size)]
        for k in torch.randperm(len(parts)):
            if len(parts[k]) == size:
                yield parts[k]


MINIBATCHES = {"4 of one class": (of_one_class, 4), "4 at random": (at_random, 4), "2 at random": (at_random, 2)}


def learning_curve(net, minibatches, learn, test):
    """Accuracy on new images, every STEPS steps."""
    images, labels = learn
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    curve = []
    for _ in range(LOOKS):
        net.train()
        for rows in islice(minibatches, STEPS):
            optimizer.zero_grad()
            cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
        curve.append(accuracy(net.eval(), *test))
    return curve


@torch.no_grad()
def accuracy(net, images, labels):
    return float((net(images).argmax(dim=1) == labels).float().mean())


def run(seed=0):
    """Learning curves by minibatches and norm."""
    torch.manual_seed(seed)
    digits = load_digits()
    order = torch.randperm(len(digits.images))
    images, labels = (
        torch.tensor(digits.images / 16, dtype=torch.float32)[order, None],
        torch.tensor(digits.target)[order],
    )
    learn, test = (images[:700], labels[:700]), (images[700:], labels[700:])

    curves = {}
    for name, (minibatches, size) in MINIBATCHES.items():
        for norm, make in NORMS.items():
            torch.manual_seed(seed)
            curves[name, norm] = learning_curve(lenet(make), minibatches(learn[1], size), learn, test)
    return curves


def draw(curves, path):
    figure, axes = plt.subplots(1, len(MINIBATCHES), figsize=(10, 3.9), layout="constrained", sharey=True)
    steps = range(STEPS, LOOKS * STEPS + 1, STEPS)
    looks = dict(
        zip(NORMS, (("#D55E00", "o-"), ("#0072B2", "o-"), ("#D55E00", "x--"), ("#0072B2", "x--")), strict=True)
    )
    for axis, name in zip(axes, MINIBATCHES, strict=True):
        for norm, (colour, line) in looks.items():
            axis.plot(steps, [100 * share for share in curves[name, norm]], line, color=colour, label=norm)
        axis.axhline(10, color="0.6", linestyle=":", label="chance")
        axis.set(title=f"Minibatches: {name}", xlabel="steps", ylim=(0, 101), xticks=steps)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy on new digits (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    curves = run()
    print(f"{'minibatches':<31}" + "".join(f"{name:>17}" for name in MINIBATCHES))
    for norm in NORMS:
        print(f"{norm:<31}" + "".join(f"{100 * curves[name, norm][-1]:>15.0f} %" for name in MINIBATCHES))
    draw(curves, path)
    print(f"drew {path}")
    return curves


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_small_minibatches.png")
