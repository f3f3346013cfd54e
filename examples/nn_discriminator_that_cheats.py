"""A discriminator with batch norm judges the company an image keeps; with instance norm, the image.

In adversarial training a discriminator sees real and fake images in minibatches of their own. With batch norm its
verdict on an image depends on the other images there, and 32 fakes give each other away where one alone might pass: it
learns to tell minibatches apart. Instance norm takes the statistics of each image alone, so there is nothing to copy
from. Here real images are digits, and a fake is a digit with a fifth of another one mixed in.

Both are trained on pure minibatches of 32. Expect, as the share of correct verdicts on new images:

    discriminator      pure minibatches   half real, half fake   running statistics
    batch norm                    100 %                   63 %                 50 %
    instance norm                  86 %                   85 %                 85 %

Batch norm's perfect score was never about images: in the picture, the same real image passes among real ones and fails
among fakes. In eval mode it uses running statistics, cannot compare any more, and has not learned what else to look at.

    python examples/nn_discriminator_that_cheats.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

from batchfix.nn import BatchNorm2d, InstanceNorm2d

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZE = 32  # of a minibatch
NORMS = {"batch norm": BatchNorm2d, "instance norm": lambda channels: InstanceNorm2d(channels, affine=True)}


def pick(images, n=SIZE):
    return images[torch.randint(len(images), (n,))]


def forge(images, n):
    return 0.8 * pick(images, n) + 0.2 * pick(images, n)


def train(norm, real, fake, steps=400):
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), norm(16), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), norm(32), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(32, 32, 3, padding=1), norm(32), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 1)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for _ in range(steps):
        loss = softplus(-net(pick(real))).mean() + softplus(net(pick(fake))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@torch.no_grad()
def judge(net, real, fake, fakes, minibatches=60):
    """Shares of the real and of the fake images that pass for real, in minibatches with `fakes` fakes."""
    verdicts = torch.stack(
        [net(torch.cat([pick(real, SIZE - fakes), pick(fake, fakes)])) > 0 for _ in range(minibatches)]
    )
    real_verdicts, fake_verdicts = verdicts[:, : -fakes or None], verdicts[:, SIZE - fakes :]
    return float(real_verdicts.float().mean()), float(fake_verdicts.float().mean())


def run(seed=0):
    """Train both, and return their figures and their verdicts by the number of fakes in a minibatch."""
    torch.manual_seed(seed)
    digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    real, real_new = digits[torch.randperm(len(digits))].split([1000, len(digits) - 1000])
    fake, fake_new = forge(real, 4000), forge(real_new, 2000)

    found, curves = {}, {}
    for name, norm in NORMS.items():
        net = train(norm, real, fake)
        curves[name] = {fakes: judge(net, real_new, fake_new, fakes) for fakes in range(0, SIZE + 1, 4)}
        only_real, half, only_fake = (curves[name][fakes] for fakes in (0, SIZE // 2, SIZE))
        alone = judge(net.eval(), real_new, fake_new, SIZE // 2)
        found[name] = {
            "pure": (only_real[0] + 1 - only_fake[1]) / 2,
            "mixed": (half[0] + 1 - half[1]) / 2,
            "running": (alone[0] + 1 - alone[1]) / 2,
        }
    return found, curves


def draw(curves, path):
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for colour, (name, curve) in zip(("#D55E00", "#0072B2"), curves.items(), strict=True):
        fakes = 100 * torch.tensor(list(curve)) / SIZE
        of_real, of_fake = 100 * torch.tensor(list(curve.values())).T
        axis.plot(fakes, of_real, "o-", color=colour, label=f"{name}: real images")
        axis.plot(fakes, of_fake, "x--", color=colour, label=f"{name}: fakes")
    axis.set(xlabel="fakes in the minibatch (%)", ylabel="judged real (%)", ylim=(-3, 103))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found, curves = run()
    print("discriminator      pure minibatches   half real, half fake   running statistics")
    for name, row in found.items():
        print(f"{name:<15}{100 * row['pure']:>18.0f} %{100 * row['mixed']:>21.0f} %{100 * row['running']:>19.0f} %")
    draw(curves, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_discriminator_that_cheats.png")
