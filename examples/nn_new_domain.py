"""A new scanner: 32 images without labels are enough to read it.

A net with batch norm reads digits from one scanner. Another scanner is fainter, brighter at the bottom of its scale and
noisier (0.3 + 0.7 x + noise of 0.1), and the net's running statistics are wrong. `adapt` re-estimates them on a few
images without labels: one pass, moments added up, weights untouched.

Expect, as accuracy on new images (mean of 20 draws of the images to adapt on):

    old scanner                                 98 %
    new scanner, as it is                       75 %
    adapted on 2 images                         34 %
    adapted on 2 images, prior=8                79 %
    adapted on 32 images                        95 %
    adapted on 32 images, prior=8               94 %

`prior=8` counts the old statistics as eight samples: two images say little, and the old scanner is better than a bad
guess. Why moments are pooled: 32 samples come as minibatches, and the error of the first norm's variances (relative,
root mean square) depends on how these are put together:

    pooled, as in adapt                         0.24
    EMA of minibatches of 4, momentum 0.1       0.34
    mean of biased variances, minibatches of 4  0.32
    mean of biased variances, minibatches of 2  0.53

Pooled, the minibatches' size does not matter. (Theory, for normal values: sqrt(2 / 31) = 0.25 pooled, and 0.33 and 0.53
for the means of biased variances. The EMA starts from the old scanner's variances, and has not yet left them.)

    python examples/nn_new_domain.py [picture.png]
"""

import copy
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm1d, adapt

mpl.use("Agg")
import matplotlib.pyplot as plt

COUNTS = (2, 4, 8, 16, 32, 64, 128)
PRIOR = 8
DRAWS = 20


def scan(images):
    """The same images (N, 64) from the new scanner."""
    return 0.3 + 0.7 * images + 0.1 * torch.randn_like(images)


def train(images, labels, epochs=15):
    net = nn.Sequential(
        *(nn.Linear(64, 128), BatchNorm1d(128), nn.ReLU()),
        *(nn.Linear(128, 64), BatchNorm1d(64), nn.ReLU()),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    return net.eval()


@torch.no_grad()
def accuracy(net, images, labels):
    return float((net(images).argmax(dim=1) == labels).float().mean())


def draw_sample(images, n):
    return images[torch.randperm(len(images))[:n]]


def adapted(net, samples, prior=None):
    """A copy of the net, adapted on samples that come four at a time."""
    return adapt(copy.deepcopy(net), samples.split(4), prior=prior, progress=False)


@torch.no_grad()
def variance_errors(net, images, draws=100):
    """Relative root mean square error of the first norm's variances from 32 samples, by how they are put together."""
    values, norm = net[0](images), net[1]
    errors = {}
    for _ in range(draws):
        samples = draw_sample(values, 32)
        moved = copy.deepcopy(norm).train()
        for minibatch in samples.split(4):
            moved(minibatch)
        estimates = {
            "pooled, as in adapt": adapted(nn.Sequential(norm), samples)[0].running_var,
            "EMA of minibatches of 4, momentum 0.1": moved.running_var,
        }
        for size in (4, 2):
            estimates[f"mean of biased variances, minibatches of {size}"] = (
                samples.unflatten(0, (-1, size)).var(dim=1, correction=0).mean(dim=0)
            )
        for name, estimate in estimates.items():
            errors.setdefault(name, []).append(estimate / values.var(dim=0) - 1)
    return {name: float(torch.stack(all_draws).square().mean().sqrt()) for name, all_draws in errors.items()}


def run(seed=0):
    """Accuracies before and after, by the number of samples and without or with a prior; errors of variances."""
    torch.manual_seed(seed)
    digits = load_digits()
    order = torch.randperm(len(digits.data))
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order]
    new, learn, test = scan(images), slice(1200), slice(1200, None)

    net = train(images[learn], labels[learn])
    found = {
        "old": accuracy(net, images[test], labels[test]),
        "new": accuracy(net, new[test], labels[test]),
        "variance": variance_errors(net, new[learn]),
    }
    for prior in (None, PRIOR):
        for n in COUNTS:
            nets = (adapted(net, draw_sample(new[learn], n), prior) for _ in range(DRAWS))
            found[prior, n] = sum(accuracy(one, new[test], labels[test]) for one in nets) / DRAWS
    return found


def draw(found, path):
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for prior, line, name in ((None, "o-", "adapted"), (PRIOR, "s--", f"adapted, prior={PRIOR}")):
        axes[0].semilogx(COUNTS, [100 * found[prior, n] for n in COUNTS], line, color="#0072B2", label=name, base=2)
    axes[0].axhline(100 * found["old"], color="#009E73", linestyle=":", label="old scanner")
    axes[0].axhline(100 * found["new"], color="#D55E00", linestyle=":", label="new scanner, not adapted")
    axes[0].set(xlabel="samples of the new scanner", ylabel="accuracy on new images (%)", ylim=(0, 101))
    axes[0].set_xticks(COUNTS, [str(n) for n in COUNTS])
    axes[0].legend(frameon=False, loc="lower right")
    names = [name.replace(", ", ",\n") for name in found["variance"]]
    bars = axes[1].barh(names, found["variance"].values(), color=["#0072B2", "0.6", "0.6", "0.6"])
    axes[1].bar_label(bars, fmt="%.2f", padding=3)
    axes[1].invert_yaxis()
    axes[1].set(xlabel="relative RMS error of a variance from 32 samples", xlim=(0, 0.65))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found = run()
    rows = {"old scanner": found["old"], "new scanner, as it is": found["new"]}
    for n in (2, 32):
        rows[f"adapted on {n} images"] = found[None, n]
        rows[f"adapted on {n} images, prior={PRIOR}"] = found[PRIOR, n]
    for name, share in rows.items():
        print(f"{name:<43}{100 * share:>3.0f} %")
    for name, error in found["variance"].items():
        print(f"{name:<43}{error:>5.2f}")
    draw(found, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_new_domain.png")
