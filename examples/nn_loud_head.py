"""One attention head is a hundred times as loud as the others, and has nothing to say.

A small attention net reads digits, the eight rows of an image being its tokens. Three heads attend to them. One more
attends to a ninth token, which is noise, and its output is multiplied by a loudness. Layer norm over all heads divides
by the loudest, and leaves the others a whisper; `HeadNorm` normalizes each head by itself, and the loudness is gone.

Expect, as accuracy on new digits after fifteen epochs:

    loudness              1    10   100
    layer norm, SGD    96 %  12 %  10 %
    layer norm, Adam   95 %  90 %  82 %
    HeadNorm, SGD      96 %  96 %  96 %
    HeadNorm, Adam     94 %  94 %  94 %

The gradients of the quiet heads shrink as their output does, and SGD does not move them in that time. Adam rescales
each weight's gradient, and so wins back a part of what layer norm loses.

    python examples/nn_loud_head.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from batchfix.nn import HeadNorm, LayerNorm

mpl.use("Agg")
import matplotlib.pyplot as plt

HEADS, WIDTH, ROWS = 4, 8, 8
LOUDNESS = (1, 10, 100)
NORMS = {"layer norm": lambda: LayerNorm(HEADS * WIDTH), "HeadNorm": lambda: HeadNorm(HEADS)}
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.03, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
}


class Reader(nn.Module):
    """From images (N, 8, 8) to logits (N, 10), through attention whose first head listens to noise, loudly."""

    def __init__(self, norm, loudness):
        super().__init__()
        dim = HEADS * WIDTH
        self.embed, self.position = nn.Linear(ROWS, dim), nn.Parameter(torch.randn(ROWS + 1, dim))
        self.query_key_value, self.norm, self.read = nn.Linear(dim, 3 * dim), norm, nn.Linear(dim, 10)
        self.volume = torch.tensor([loudness, *[1.0] * (HEADS - 1)])[:, None, None]
        self.sees = torch.ones(HEADS, 1, ROWS + 1, dtype=torch.bool)
        self.sees[0, :, :ROWS] = False
        self.sees[1:, :, ROWS] = False

    def forward(self, images):
        noise = torch.rand(len(images), 1, ROWS)
        tokens = self.embed(torch.cat([images, noise], dim=1)) + self.position
        parts = (
            part.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2) for part in self.query_key_value(tokens).chunk(3, -1)
        )
        heads = scaled_dot_product_attention(*parts, attn_mask=self.sees) * self.volume
        spoken = self.norm(heads.transpose(1, 2).flatten(2))  # (N, 9, heads * width), one head beside the other
        return self.read(spoken[:, :ROWS].mean(dim=1))


def train(net, optimizer, images, labels, epochs=15):
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()


def run(seed=0):
    """Accuracy by norm and optimizer, then by loudness."""
    torch.manual_seed(seed)
    digits = load_digits()
    order = torch.randperm(len(digits.images))
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order]
    learn, test = slice(1200), slice(1200, None)

    accuracy = {}
    for norm, make_norm in NORMS.items():
        for optimizer, make_optimizer in OPTIMIZERS.items():
            row = accuracy[f"{norm}, {optimizer}"] = {}
            for loudness in LOUDNESS:
                torch.manual_seed(seed)
                net = Reader(make_norm(), float(loudness))
                train(net, make_optimizer(net.parameters()), images[learn], labels[learn])
                with torch.no_grad():
                    right = net(images[test]).argmax(dim=1) == labels[test]
                row[loudness] = float(right.float().mean())
    return accuracy


def draw(accuracy, path):
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for (name, row), line in zip(accuracy.items(), ("o-", "x--", "o-", "x--"), strict=True):
        colour = "#D55E00" if name.startswith("layer") else "#0072B2"
        axis.semilogx(row.keys(), [100 * share for share in row.values()], line, color=colour, label=name)
    axis.axhline(10, color="0.6", linestyle=":", label="chance")
    axis.set(
        xlabel="loudness of the noisy head (times the others')", ylabel="accuracy on new digits (%)", ylim=(0, 101)
    )
    axis.set_xticks(LOUDNESS, [str(k) for k in LOUDNESS])
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    accuracy = run()
    print(f"{'loudness':<17}" + "".join(f"{k:>6}" for k in LOUDNESS))
    for name, row in accuracy.items():
        print(f"{name:<17}" + "".join(f"{100 * share:>4.0f} %" for share in row.values()))
    draw(accuracy, path)
    print(f"drew {path}")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_loud_head.png")
