"""Volumes two at a time, as memory allows: two crops of one patient at every step, or two of any.

The volumes are made, 12 x 12 x 12 voxels: a ball or a box of tissue, faint or dense, with noise. If both crops of a
minibatch are one patient's they are of one kind. `BatchNorm3d` then takes that kind's own mean and scale out of it in
training, and the running ones at inference; `BatchRenorm3d` trains with the running ones, too.

Expect, as accuracy on new volumes in eval mode, mean of the last three of ten epochs (four kinds: 25 % is chance):

    two crops of        one patient   any patients
    BatchNorm3d                12 %           94 %
    BatchRenorm3d              62 %           89 %

Below chance is no accident: faint is taken for dense, and dense for faint. With two crops of any patients batch norm
has nothing to fear here, since two volumes give 432 to 3,456 values a channel. It is not how few they are that hurts,
but how alike.

    python examples/nn_volumes_two_at_a_time.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix.nn import BatchNorm3d, BatchRenorm3d

mpl.use("Agg")
import matplotlib.pyplot as plt

SIDE, EPOCHS, FAINT = 12, 10, 0.5
KINDS = ("faint ball", "faint box", "dense ball", "dense box")
NORMS = {
    "BatchNorm3d": BatchNorm3d,
    "BatchRenorm3d": lambda channels: BatchRenorm3d(channels, r_max=3.0, d_max=5.0),
}


def make_volumes(n):
    """Volumes (n, 1, 12, 12, 12) and their kinds (n,)."""
    kind = torch.randint(len(KINDS), (n,))
    radius, center = 3 + torch.rand(n), 3 * torch.rand(n, 3) - 1.5
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    apart = (torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")) - along(center)).abs()
    distance = torch.where(along(kind % 2 == 1), apart.amax(dim=1), apart.square().sum(dim=1).sqrt())
    tissue = torch.sigmoid(4 * (along(radius) - distance))
    density = torch.where(kind < 2, FAINT, 1.0)
    return (along(density) * (tissue + 0.2 * torch.randn_like(tissue)))[:, None], kind


def along(values):
    """One value a volume, laid along its voxels."""
    return values[..., None, None, None]


def net(norm):
    return nn.Sequential(
        *(nn.Conv3d(1, 8, 3, padding=1), norm(8), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(8, 16, 3, padding=1), norm(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, len(KINDS))),
    )


def of_any_patients(kinds):
    return list(torch.randperm(len(kinds)).split(2))


def of_one_patient(kinds):
    """Pairs of one kind, in random order."""
    pairs = []
    for kind in kinds.unique():
        rows = (kinds == kind).nonzero().squeeze(1)
        pairs += [pair for pair in rows[torch.randperm(len(rows))].split(2) if len(pair) == 2]
    return [pairs[k] for k in torch.randperm(len(pairs))]


PAIRS = {"one patient": of_one_patient, "any patients": of_any_patients}


def learning_curve(model, pairs_of, learn, test):
    """Accuracy on new volumes after each epoch, by a learning rate that falls to a twentieth."""
    volumes, kinds = learn
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=EPOCHS - 1)
    curve = []
    for _ in range(EPOCHS):
        model.train()
        for pair in pairs_of(kinds):
            optimizer.zero_grad()
            cross_entropy(model(volumes[pair]), kinds[pair]).backward()
            optimizer.step()
        falling.step()
        curve.append(accuracy(model.eval(), *test))
    return curve


@torch.no_grad()
def accuracy(model, volumes, kinds):
    return float((model(volumes).argmax(dim=1) == kinds).float().mean())


def run(seed=0):
    """Learning curves by pairs and norm; volumes to show, one of each kind."""
    torch.manual_seed(seed)
    learn, test = make_volumes(160), make_volumes(300)
    curves = {}
    for pairs, pairs_of in PAIRS.items():
        for norm, make in NORMS.items():
            torch.manual_seed(seed)
            curves[pairs, norm] = learning_curve(net(make), pairs_of, learn, test)
    volumes, kinds = test
    return curves, [volumes[kinds == kind][0, 0] for kind in range(len(KINDS))]


def draw(curves, shown, path):
    figure = plt.figure(figsize=(10, 5.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 2))
    for axis, kind, volume in zip(top.subplots(1, len(KINDS)), KINDS, shown, strict=True):
        image = axis.imshow(volume[SIDE // 2].numpy(), cmap="gray", vmin=-0.5, vmax=1.5)
        axis.set(title=kind, xticks=[], yticks=[])
    top.colorbar(image, ax=top.axes, label="density (arbitrary units)")
    for axis, pairs in zip(bottom.subplots(1, len(PAIRS), sharey=True), PAIRS, strict=True):
        for norm, colour in zip(NORMS, ("#D55E00", "#0072B2"), strict=True):
            shares = [100 * share for share in curves[pairs, norm]]
            axis.plot(range(1, EPOCHS + 1), shares, "o-", color=colour, label=norm)
        axis.axhline(25, color="0.6", linestyle=":", label="chance")
        axis.set(title=f"Two crops of {pairs}", xlabel="epoch", ylim=(0, 101), xticks=range(1, EPOCHS + 1))
        axis.spines[["top", "right"]].set_visible(False)
    bottom.axes[0].set_ylabel("accuracy on new volumes (%)")
    bottom.axes[1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    curves, shown = run()
    found = {both: sum(curve[-3:]) / 3 for both, curve in curves.items()}
    print(f"{'two crops of':<16}" + "".join(f"{pairs:>15}" for pairs in PAIRS))
    for norm in NORMS:
        print(f"{norm:<16}" + "".join(f"{100 * found[pairs, norm]:>13.0f} %" for pairs in PAIRS))
    draw(curves, shown, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_volumes_two_at_a_time.png")
