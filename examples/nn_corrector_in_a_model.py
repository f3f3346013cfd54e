"""A corrector inside a model: the net takes raw rows and their lab, and the correction is its first layer.

Seven labs scan digits. Each has its own gain and offset for every pixel, and sees some digits more often than others.
`to_torch` makes a fitted `BatchCorrector` the first layer of a net, so that one file holds the whole model: raw pixels
and a lab's code in, a digit out.

Expect, as accuracy on new images (mean of 2 draws of labs):

                                   labs see their usual digits    all labs see all digits
    no correction                             93 %                         77 %
    corrected, layer frozen                   90 %                         92 %
    corrected, layer trained                  95 %                         94 %

Without a correction the net learns which digits a lab sees, and is lost when that changes. The frozen layer, fitted
without labels, cannot tell a lab's digits from its scanner, and takes out some of both. Trained with the net from the
fitted map on, it takes back what should have stayed.

A lab that the net has never seen needs no training: `adapt` learns its correction from 40 images without labels, and
`to_torch` of the adapted corrector takes the place of the frozen layer.

    new lab, no correction                    44 %
    new lab, mapped by the pooled moments     23 %
    new lab, adapted on 40 images             93 %

    python examples/nn_corrector_in_a_model.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix import BatchCorrector
from batchfix.adapters.torch import to_torch

mpl.use("Agg")
import matplotlib.pyplot as plt

LABS = np.array(["Aachen", "Bern", "Cork", "Delft", "Evora", "Fes", "Graz"])
NEW = "Hull"
SAMPLES = 40
DRAWS = 2


class Reader(nn.Module):
    """Raw pixels (N, 64) and the labs' codes (N,) -> logits (N, 10)."""

    def __init__(self, correct):
        super().__init__()
        self.correct = correct
        self.read = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels, codes):
        return self.read(pixels if self.correct is None else self.correct(pixels, codes))


def train(model, pixels, codes, digits, epochs=30):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(pixels[rows], codes[rows]), digits[rows]).backward()
            optimizer.step()
    return model


@torch.no_grad()
def accuracy(model, pixels, codes, digits):
    return float((model(pixels, codes).argmax(dim=1) == digits).float().mean())


def run(seed):
    """Accuracy by model, with the labs' usual digits, with all digits, and in a new lab."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    images, digits = load_digits(return_X_y=True)
    order = rng.permutation(len(images))
    images, digits = images[order] / 16, digits[order]
    learn, test = slice(900), slice(900, None)

    gain, offset = np.exp(rng.normal(0, 0.5, (len(LABS) + 1, 64))), rng.normal(size=(len(LABS) + 1, 64))

    def scan(images, lab):
        return images * gain[lab] + offset[lab] + 0.1 * rng.normal(size=images.shape)

    share = rng.dirichlet(np.full(10, 0.5), size=len(LABS)).T  # how often each lab sees each digit
    usual = np.array([rng.choice(len(LABS), p=share[d] / share[d].sum()) for d in digits])
    anywhere = rng.integers(len(LABS), size=len(digits))
    scans = scan(images, usual)

    corrector = BatchCorrector(target="standard", handle_unknown="pooled").fit(scans[learn], batch=LABS[usual[learn]])
    layers = {
        "no correction": None,
        "corrected, layer frozen": to_torch(corrector),
        "corrected, layer trained": to_torch(corrector, trainable=True),
    }

    def part_of(scans, codes, part):
        return torch.tensor(scans[part], dtype=torch.float32), torch.as_tensor(codes[part]), torch.tensor(digits[part])

    models = {name: train(Reader(layer), *part_of(scans, usual, learn)) for name, layer in layers.items()}
    found = {}
    for place, lab, seen in (("usual", usual, scans), ("all", anywhere, scan(images, anywhere))):
        found |= {(name, place): accuracy(model, *part_of(seen, lab, test)) for name, model in models.items()}

    # a new lab: its correction from some images without labels, the trained reader as it is
    seen = scan(images, np.full(len(images), len(LABS)))
    unknown = np.full(len(images), -1)
    frozen = models["corrected, layer frozen"]
    found["no correction", "new"] = accuracy(models["no correction"], *part_of(seen, unknown, test))
    found["pooled", "new"] = accuracy(frozen, *part_of(seen, unknown, test))
    frozen.correct = to_torch(corrector.adapt(seen[learn][:SAMPLES], batch=NEW))
    codes = frozen.correct.batch_codes(np.full(len(images), NEW))
    found["adapted", "new"] = accuracy(frozen, *part_of(seen, codes, test))
    return found


def draw(found, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=[2, 1])
    names = ("no correction", "corrected, layer frozen", "corrected, layer trained")
    for k, (place, label, color) in enumerate(
        (("usual", "labs see their usual digits", "#0072B2"), ("all", "all labs see all digits", "#E69F00"))
    ):
        bars = left.bar(np.arange(3) + 0.4 * k, [100 * found[n, place] for n in names], 0.38, color=color, label=label)
        left.bar_label(bars, fmt="%.0f", padding=2)
    left.set_xticks(np.arange(3) + 0.2, [name.replace(", ", ",\n") for name in names])
    left.set(ylabel="accuracy on new images (%)", ylim=(0, 118), yticks=range(0, 101, 20))
    left.legend(frameon=False, loc="upper left", ncols=2)
    new = {"no\ncorrection": "no correction", "pooled\nmoments": "pooled", f"adapted on\n{SAMPLES} images": "adapted"}
    bars = right.bar(list(new), [100 * found[n, "new"] for n in new.values()], color=["0.6", "0.6", "#009E73"])
    right.bar_label(bars, fmt="%.0f", padding=2)
    right.set(title="a lab that the net has never seen", ylim=(0, 118), yticks=range(0, 101, 20))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    draws = [run(seed) for seed in range(DRAWS)]
    found = {name: float(np.mean([one[name] for one in draws])) for name in draws[0]}
    print(f"{'':<40}{'usual digits':>14}{'all digits':>14}")
    for name in ("no correction", "corrected, layer frozen", "corrected, layer trained"):
        print(f"{name:<40}{100 * found[name, 'usual']:>12.0f} %{100 * found[name, 'all']:>12.0f} %")
    print(f"{'new lab, no correction':<40}{100 * found['no correction', 'new']:>12.0f} %")
    print(f"{'new lab, mapped by the pooled moments':<40}{100 * found['pooled', 'new']:>12.0f} %")
    print(f"{f'new lab, adapted on {SAMPLES} images':<40}{100 * found['adapted', 'new']:>12.0f} %")
    draw(found, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_corrector_in_a_model.png")
