"""What a minibatch of B samples gets wrong: batch norm's outputs, variances and gradients beside the population's.

Batch norm trains on z = (x - mean_B) / sd_B and infers with (x - mean) / sd. For normal x, one value a sample and
channel, and a gradient g of pure noise from above, theory is exact:

    outputs     E[(z_train - z_test)^2] = 2 - 2 sqrt(2 / B) Gamma(B / 2) / Gamma((B - 1) / 2), about 3 / (2 B)
    variances   E[(S^2 / sigma^2 - 1)^2] = 2 / (B - 1)
    gradients   E|dx|^2 / E|dx_fixed|^2 = (B - 2) / (B - 3) of batch norm, (B - 2) / B of batch renormalization

with dx_fixed the gradient when statistics are held fixed. The layers agree (BatchRenorm unclipped: its outputs have no
mismatch; gradients as root mean squares). Expect

       B   outputs   exact  BatchRenorm   variances   exact   gradients   exact  BatchRenorm   exact
       2     0.871   0.872        9e-16       1.994   2.000       0.000   0.000        0.000   0.000
       4     0.406   0.404        9e-16       0.665   0.667       1.396   1.414        0.708   0.707
       8     0.195   0.195        9e-16       0.287   0.286       1.096   1.095        0.866   0.866
      16     0.096   0.095        9e-16       0.134   0.133       1.038   1.038        0.936   0.935
      32     0.047   0.047        9e-16       0.065   0.065       1.017   1.017        0.968   0.968
      64     0.023   0.024        9e-16       0.031   0.032       1.008   1.008        0.984   0.984
     128     0.012   0.012        9e-16       0.016   0.016       1.003   1.004        0.992   0.992
     256     0.006   0.006        9e-16       0.008   0.008       1.003   1.002        0.996   0.996

At B = 2 no gradient passes either layer: two values become -1 and 1, whatever they were.

In a net the gradient from above is no noise, and the difference stays as B grows. A net trained on digits, its running
statistics those of all of them; the gradient of its weights, relative to that under fixed statistics (medians of 30
minibatches):

       B   batch norm: length  cosine   BatchRenorm: length  cosine
       4                 8.68    0.08                  0.29    0.32
       8                 1.44    0.22                  0.44    0.48
      16                 1.49    0.33                  0.48    0.48
      32                 0.83    0.40                  0.52    0.54
      64                 0.67    0.43                  0.53    0.52
     128                 0.53    0.43                  0.48    0.47
     256                 0.50    0.48                  0.48    0.49

Fixed statistics make the gradient twice as long, even at B = 256. Length and cosine are alike because what is missing
is at right angles to what is left: shifts and scales of whole channels, which batch statistics undo. Batch norm's own
gradient is blown up in small minibatches by those with a small sd_B; batch renormalization's is not.

    python examples/nn_train_inference_mismatch.py [picture.png]
"""

import sys
import tempfile
from math import exp, lgamma, sqrt
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from batchfix.nn import BatchNorm1d, BatchRenorm1d

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
COLOURS = {"batch norm": "#D55E00", "BatchRenorm": "#0072B2"}
UNCLIPPED = {"r_max": 1e12, "d_max": 1e12}


def theory(size):
    return {
        "output": 2 - 2 * sqrt(2 / size) * exp(lgamma(size / 2) - lgamma((size - 1) / 2)),
        "variance": 2 / (size - 1),
        "batch norm": sqrt((size - 2) / (size - 3)) if size > 3 else 0.0,
        "BatchRenorm": sqrt((size - 2) / size),
    }


def simulate(size, values=2**20):
    """The same quantities, measured with the layers on normal values."""
    channels = values // size
    x = torch.randn(size, channels, dtype=torch.float64, requires_grad=True)
    above = torch.randn(size, channels, dtype=torch.float64)
    layers = {
        "population": BatchNorm1d(channels, eps=1e-30).double().eval(),  # mean 0 and variance 1, as x has
        "batch norm": BatchNorm1d(channels, eps=1e-30, momentum=1.0).double(),  # its running_var becomes S^2
        "BatchRenorm": BatchRenorm1d(channels, eps=1e-30, momentum=0.0, **UNCLIPPED).double(),
    }
    z = {name: layer(x) for name, layer in layers.items()}
    length = {name: torch.autograd.grad(z[name], x, above)[0].norm() for name in z}
    with torch.no_grad():
        return {
            "output": float((z["batch norm"] - z["population"]).square().mean()),
            "renormalized": float((z["BatchRenorm"] - z["population"]).abs().max()),
            "variance": float((layers["batch norm"].running_var - 1).square().mean()),
            **{name: float(length[name] / length["population"]) for name in ("batch norm", "BatchRenorm")},
        }


def net(norm, **options):
    return nn.Sequential(
        *(nn.Linear(64, 64), norm(64, **options), nn.ReLU()),
        *(nn.Linear(64, 64), norm(64, **options), nn.ReLU()),
        nn.Linear(64, 10),
    )


def trained(images, labels, epochs=5):
    """A net with batch norm, its running statistics those of all images."""
    model = net(BatchNorm1d)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    for momentum in (1.0, 0.0):  # take those of one last minibatch of all images, and keep them
        model[1].momentum = model[4].momentum = momentum
        model(images)
    return model


def compare_gradients(seed, draws=30):
    """Median length and cosine of the weights' gradients, relative to those under fixed statistics."""
    torch.manual_seed(seed)
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    models = {"batch norm": trained(images, labels), "BatchRenorm": net(BatchRenorm1d, momentum=0.0, **UNCLIPPED)}
    models["BatchRenorm"].load_state_dict(models["batch norm"].state_dict())

    def gradient(model, rows):
        loss = cross_entropy(model(images[rows]), labels[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [model[0].weight, model[3].weight])])

    found = {}
    for size in SIZES[1:]:
        pairs = {name: [] for name in models}
        for _ in range(draws):
            rows = torch.randperm(len(labels))[:size]
            fixed = gradient(models["batch norm"].eval(), rows)
            for name, model in models.items():
                through = gradient(model.train(), rows)
                pairs[name].append(
                    (float(through.norm() / fixed.norm()), float(cosine_similarity(through, fixed, dim=0)))
                )
        found[size] = {name: torch.tensor(pair).median(dim=0).values.tolist() for name, pair in pairs.items()}
    return found


def run(seed=0):
    """Measured and exact quantities by size of the minibatch; (length, cosine) of a net's gradients."""
    torch.manual_seed(seed)
    measured = {size: simulate(size) for size in SIZES}
    return measured, {size: theory(size) for size in SIZES}, compare_gradients(seed)


def draw(measured, exact, gradients, path):
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    errors = {
        "output": ("outputs, (z_train - z_test)$^2$", "o", COLOURS["batch norm"]),
        "variance": ("variances, (S$^2$/σ$^2$ - 1)$^2$", "s", "#009E73"),
    }
    for key, (name, marker, colour) in errors.items():
        axes[0].loglog(SIZES, [exact[size][key] for size in SIZES], color=colour)
        axes[0].loglog(SIZES, [measured[size][key] for size in SIZES], marker, color=colour, label=name)
    axes[0].loglog(SIZES, [3 / (2 * size) for size in SIZES], ":", color="0.5", label="3 / (2B)")
    axes[0].set(
        title="Errors of batch norm\n(BatchRenorm's outputs: 0)", ylabel="mean squared error (population variance 1)"
    )
    for name, colour in COLOURS.items():
        sizes = [size for size in SIZES if size > 3 or name == "BatchRenorm"]
        axes[1].semilogx(sizes, [exact[size][name] for size in sizes], color=colour)
        axes[1].semilogx(SIZES, [measured[size][name] for size in SIZES], "o", color=colour, label=name)
        for k, (line, what) in enumerate((("o-", "length"), ("x--", "cosine"))):
            shares = [pair[name][k] for pair in gradients.values()]
            axes[2].loglog(list(gradients), shares, line, color=colour, label=f"{name}, {what}")
    axes[1].set(title="Gradients, noise from above\n(dots measured, lines exact)", ylim=(-0.02, 1.5))
    axes[1].set_ylabel("length, relative to fixed statistics")
    axes[2].set(title="Gradients of the weights\nin a net trained on digits", ylabel="relative to fixed statistics")
    axes[2].set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    for axis, corner in zip(axes, ("lower left", "lower right", "upper right"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.set_xlabel("minibatch size B (samples)")
        axis.legend(frameon=False, loc=corner)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1:]:
        axis.axhline(1, color="0.6", linestyle=":")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    measured, exact, gradients = run()
    print("   B   outputs   exact  BatchRenorm   variances   exact   gradients   exact  BatchRenorm   exact")
    for size in SIZES:
        one, right = measured[size], exact[size]
        print(
            f"{size:>4}{one['output']:>10.3f}{right['output']:>8.3f}{one['renormalized']:>13.0e}"
            f"{one['variance']:>12.3f}{right['variance']:>8.3f}{one['batch norm']:>12.3f}{right['batch norm']:>8.3f}"
            f"{one['BatchRenorm']:>13.3f}{right['BatchRenorm']:>8.3f}"
        )
    print("\n   B   batch norm: length  cosine   BatchRenorm: length  cosine")
    for size, pair in gradients.items():
        (length, cosine), (renormalized, angle) = pair["batch norm"], pair["BatchRenorm"]
        print(f"{size:>4}{length:>21.2f}{cosine:>8.2f}{renormalized:>22.2f}{angle:>8.2f}")
    draw(measured, exact, gradients, path)
    print(f"drew {path}")
    return measured, exact, gradients


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_train_inference_mismatch.png")
