"""Two processes train one net, each on images of its own: two of the digits 0 to 4 here, two of 5 to 9 there.

DistributedDataParallel averages their gradients, and leaves the norms alone: each process normalizes by its own two
images, and the running statistics are those of the first process, which never sees a 5. Synchronised, the layers
exchange the moments of what they hold, in one message each way, and the two train as one process with all four images
does, but for rounding.

Expect, as accuracy on new digits in eval mode after 160 steps, and the largest difference of any weight or running
statistic to those of the one process (rounding grows from step to step, in one process as in two):

                                                accuracy     difference
    one process with 4 images, BatchRenorm          89 %
    two with 2 each, SyncBatchRenorm                89 %          4e-10
    two with 2 each, BatchRenorm                    66 %              3
    two with 2 each, BatchNorm                      43 %             12

    python examples/nn_two_processes.py [picture.png]
"""

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from batchfix.nn import BatchNorm1d, BatchNorm2d, BatchRenorm1d, BatchRenorm2d, convert_sync_batchrenorm

LOOKS, STEPS, EACH = 8, 20, 2  # the net is looked at 8 times, every 20 steps of 2 images in each process
LIMITS = {"r_max": 3.0, "d_max": 5.0}  # open from the first step: the training is short
SECOND = "--second"  # how this file is called again
NORMS = {
    "BatchRenorm": (lambda c: BatchRenorm2d(c, **LIMITS), lambda c: BatchRenorm1d(c, **LIMITS)),
    "BatchNorm": (BatchNorm2d, BatchNorm1d),
}
NORMS["SyncBatchRenorm"] = NORMS["BatchRenorm"]  # and then converted


def lenet(norm, seed=0):
    torch.manual_seed(seed)
    after_convolution, after_linear = NORMS[norm]
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), after_convolution(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), after_convolution(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 32), after_linear(32), nn.ReLU()),
        nn.Linear(32, 10),
    ).double()  # so that what is equal can be seen to be
    return convert_sync_batchrenorm(net) if norm == "SyncBatchRenorm" else net


def digits():
    """Images and labels to learn from, and new ones."""
    found, order = load_digits(), torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    images, labels = torch.tensor(found.images / 16)[order, None], torch.tensor(found.target)[order]
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def minibatches(labels, rank=None):
    """Rows of each step: of 0 to 4 for the first process, of 5 to 9 for the second, of both for one alone."""
    generator = torch.Generator().manual_seed(1)
    low, high = (labels < 5).nonzero()[:, 0], (labels >= 5).nonzero()[:, 0]
    for _ in range(LOOKS * STEPS):
        two = [part[torch.randint(len(part), (EACH,), generator=generator)] for part in (low, high)]
        yield torch.cat(two) if rank is None else two[rank]


def train(net, rank=None):
    """Accuracy on new images, and the state, at each look."""
    (images, labels), test = digits()
    model = net if rank is None else DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    looks = []
    for step, rows in enumerate(minibatches(labels, rank), start=1):
        optimizer.zero_grad()
        cross_entropy(model.train()(images[rows]), labels[rows]).backward()
        optimizer.step()
        if step % STEPS == 0:
            state = {name: value.clone() for name, value in net.state_dict().items()}
            looks.append({"accuracy": accuracy(net.eval(), *test), "state": state})
    return looks


@torch.no_grad()
def accuracy(net, images, labels):
    return float((net(images).argmax(dim=1) == labels).double().mean())


def train_together(rank, folder):
    """What one of the two processes finds, by norm."""
    store = dist.FileStore(os.fspath(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        return {norm: train(lenet(norm), rank) for norm in NORMS}
    finally:
        dist.destroy_process_group()


def run():
    """What was found at each look, by how it was trained."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        second = subprocess.Popen([sys.executable, __file__, SECOND, folder], env=environment)
        try:
            alone = train(lenet("BatchRenorm"))
            apart = train_together(0, folder)
            if second.wait(timeout=60):
                raise RuntimeError(f"The second process ended with code {second.returncode}.")
        finally:
            second.kill()
            second.wait()
    found = {"one process with 4 images, BatchRenorm": alone}
    found |= {f"two with 2 each, {norm}": apart[norm] for norm in ("SyncBatchRenorm", "BatchRenorm", "BatchNorm")}
    for looks in found.values():
        for look, one in zip(looks, alone, strict=True):
            look["difference"] = max(
                float((value - one["state"][name]).abs().max()) for name, value in look["state"].items()
            )
    return found


def draw(found, path):
    import matplotlib as mpl  # here, since the second process does not draw

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    steps = range(STEPS, LOOKS * STEPS + 1, STEPS)
    looks = dict(zip(found, (("0.5", "-"), ("#0072B2", "o"), ("#0072B2", "x--"), ("#D55E00", "x--")), strict=True))
    for name, curve in found.items():
        colour, line = looks[name]
        left.plot(steps, [100 * look["accuracy"] for look in curve], line, color=colour, label=name)
        if name.startswith("two"):
            right.semilogy(steps, [look["difference"] for look in curve], line, color=colour)
    left.set(title="Accuracy on new digits (%)", xlabel="steps", ylim=(0, 101))
    right.set(title="Largest difference to one process", xlabel="steps")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found = run()
    print(f"{'':<43}{'accuracy':>13}{'difference':>15}")
    for name, looks in found.items():
        last = looks[-1]
        difference = f"{last['difference']:>15.2g}" if name.startswith("two") else ""
        print(f"{name:<43}{100 * last['accuracy']:>11.0f} %{difference}")
    draw(found, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == [SECOND]:
        train_together(1, sys.argv[2])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_two_processes.png")
