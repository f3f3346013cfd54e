"""One image at a time: what a minibatch of one does to batch norm, and to batch renormalization.

First a vector (1, C), one value a channel. Batch norm raises. Batch renormalization gives bias + weight d with
d = clip((x - mean) / sd, -d_max, d_max): its output at inference where d is not clipped, and the bias, whatever x is,
for d_max = 0. No gradient passes to x: with r and d constant, a value less its own mean is 0 whatever it is.

Then training, one image a step, to read a digit and whether its photograph is dim or bright (20 classes). Batch norm of
one image is instance norm, which erases dim and bright. Expect, as accuracy on new images in eval mode:

    from scratch, epoch                    1      2      3
    BatchNorm, convolutions only        25 %   34 %   46 %
    BatchRenorm, convolutions only      40 %   79 %   80 %
    BatchRenorm, everywhere             15 %   35 %   41 %
    GroupNorm, convolutions only        31 %   77 %   76 %

    after a warm start, epoch              0      1      2
    BatchNorm, convolutions only        68 %   78 %   81 %
    BatchRenorm, convolutions only      58 %   85 %   83 %
    BatchRenorm, everywhere             83 %   90 %   89 %

So renormalize where one image has many values, in the convolutions. Behind a fully connected layer nothing before the
norm would learn. After a warm start (four epochs of minibatches of 16) it may stand there, too, and what comes after it
goes on learning. Group norm needs no minibatch, and from scratch does as well.

    python examples/nn_minibatch_of_one.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm1d, BatchNorm2d, BatchRenorm1d, BatchRenorm2d, GroupNorm

mpl.use("Agg")
import matplotlib.pyplot as plt

DIM = 0.4
SCRATCH, WARM, AFTER = 3, 4, 2  # epochs
LIMITS = {"r_max": 3.0, "d_max": 5.0}

# What stands behind a convolution and behind the fully connected layer, by the number of channels.
NORMS = {
    "BatchNorm, convolutions only": (BatchNorm2d, lambda channels: nn.Identity()),
    "BatchRenorm, convolutions only": (lambda c: BatchRenorm2d(c, **LIMITS), lambda c: nn.Identity()),
    "BatchRenorm, everywhere": (lambda c: BatchRenorm2d(c, **LIMITS), lambda c: BatchRenorm1d(c, **LIMITS)),
    "GroupNorm, convolutions only": (lambda c: GroupNorm(2, c), lambda c: nn.Identity()),
}


def lenet(after_convolution, after_linear):
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), after_convolution(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), after_convolution(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 64), after_linear(64), nn.ReLU()),
        nn.Linear(64, 20),
    )


def one_value(channels=4):
    """What each layer does with one value a channel."""
    x = (3 + torch.randn(1, channels)).requires_grad_()
    found = {}
    try:
        BatchNorm1d(channels)(x)
    except ValueError as error:
        found["BatchNorm"] = str(error)
    for name, limits in {"open": {"r_max": 1e6, "d_max": 1e6}, "closed": {"r_max": 1.0, "d_max": 0.0}}.items():
        layer = BatchRenorm1d(channels, **limits)
        inferred = layer.eval()(x)
        trained = layer.train()(x)
        trained.sum().backward()
        apart = {"from inference": trained - inferred, "from bias": trained - layer.bias, "gradient": x.grad}
        found[name] = {what: float(value.detach().abs().max()) for what, value in apart.items()}
    return found


def train(net, images, labels, size, rate, momentum):
    """One epoch."""
    for layer in net.train().modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for rows in torch.randperm(len(labels)).split(size):
        optimizer.zero_grad()
        cross_entropy(net(images[rows]), labels[rows]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(net, images, labels):
    return float((net.eval()(images).argmax(dim=1) == labels).float().mean())


def photographs():
    """Digits (N, 1, 8, 8), half of them dim, and their classes: 2 digit + bright."""
    digits = load_digits()
    order = torch.randperm(len(digits.images))
    bright = torch.randint(2, (len(order),))
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[order, None]
    exposure = torch.where(bright == 1, 1.0, DIM)
    return images * exposure[:, None, None, None], 2 * torch.tensor(digits.target)[order] + bright


def run(seed=0):
    """What layers do with one value; accuracies by norm, from scratch and after a warm start; whether all is finite."""
    torch.manual_seed(seed)
    found = {"one value": one_value(), "scratch": {}, "warm": {}, "finite": True}
    images, labels = photographs()
    learn, test = (images[:600], labels[:600]), (images[600:], labels[600:])
    for start in ("scratch", "warm"):
        for name, norms in NORMS.items():
            if start == "warm" and name.startswith("GroupNorm"):
                continue  # needs no warm start
            torch.manual_seed(seed)
            net = lenet(*norms)
            curve = []
            if start == "warm":
                for _ in range(WARM):
                    train(net, *learn, size=16, rate=0.05, momentum=0.1)
                curve.append(accuracy(net, *test))
            for _ in range(AFTER if start == "warm" else SCRATCH):
                train(net, *learn, size=1, rate=0.01, momentum=0.01)
                curve.append(accuracy(net, *test))
            found[start][name] = curve
            found["finite"] &= all(bool(value.isfinite().all()) for value in net.state_dict().values())
    return found


def draw(found, path):
    colours = dict(zip(NORMS, ("#D55E00", "#0072B2", "#0072B2", "0.5"), strict=True))
    lines = dict(zip(NORMS, ("o-", "o-", "x--", "o-"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    panels = {"scratch": (1, "From scratch"), "warm": (0, f"After {WARM} epochs of minibatches of 16")}
    for axis, (start, (first, title)) in zip(axes, panels.items(), strict=True):
        for name, curve in found[start].items():
            epochs = range(first, first + len(curve))
            axis.plot(epochs, [100 * share for share in curve], lines[name], color=colours[name], label=name)
        axis.axhline(50, color="0.6", linestyle=":", label="every digit right, exposure guessed")
        axis.set(title=title, xlabel="epochs of one image a step", ylim=(0, 101), xticks=epochs)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy on new images (%)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found = run()
    one = found["one value"]
    print(f"BatchNorm1d of (1, 4): {one['BatchNorm']}")
    print("BatchRenorm1d of (1, 4), largest difference")
    print(f"    to its output at inference, open limits {one['open']['from inference']:>10.4f}")
    print(f"    to its bias, r_max = 1 and d_max = 0    {one['closed']['from bias']:>10.4f}")
    print(f"    of the gradient of x to 0, either       {one['open']['gradient']:>10.4f}")
    for start, name in (("scratch", "from scratch, epoch"), ("warm", "after a warm start, epoch")):
        first = 1 if start == "scratch" else 0
        curves = found[start]
        epochs = range(first, first + len(next(iter(curves.values()))))
        print(f"\n{name:<33}" + "".join(f"{epoch:>7}" for epoch in epochs))
        for norm, curve in curves.items():
            print(f"{norm:<33}" + "".join(f"{100 * share:>5.0f} %" for share in curve))
    print("every weight and statistic is finite" if found["finite"] else "some weight or statistic is not finite")
    draw(found, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_minibatch_of_one.png")
