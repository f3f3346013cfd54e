"""Write one sheet of digits with the pen and on the paper of another, by moving each image's statistics.

Digits come in five looks: ink and paper of some colour, faint or strong. `AdaptiveInstanceNorm` moves each colour
channel of a content image into the frame (mean and standard deviation) of a style image, which shows another digit.
Since these sheets are made, the right answer is known: the content's own digit, drawn in the style's look.

Expect:

    largest difference to the style's means and standard deviations   2e-07
    least correlation of result and content, over images and channels 1.0000
    root mean square error to the right answer: before 0.305, after 0.029 (of a full scale of 1)

What is left is not the layer's: one digit has more ink than another, and its statistics say so. The map has a positive
slope, so dark ink stays dark: chalk on a blackboard is a style for other chalk, not for pencil.

    python examples/nn_style_transfer.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cosine_similarity, interpolate

from batchfix.nn import AdaptiveInstanceNorm

mpl.use("Agg")
import matplotlib.pyplot as plt

# ink and paper, in red, green and blue from 0 to 1
LOOKS = {
    "ink on cream": ((0.10, 0.15, 0.45), (0.98, 0.94, 0.82)),
    "pencil": ((0.45, 0.45, 0.47), (0.93, 0.93, 0.93)),
    "blueprint": ((0.02, 0.12, 0.35), (0.35, 0.62, 0.90)),
    "rust": ((0.42, 0.10, 0.02), (0.95, 0.66, 0.38)),
    "leaf": ((0.05, 0.20, 0.08), (0.72, 0.88, 0.45)),
}


def write(digits, look):
    """Images (N, 3, 32, 32) of digits (N, 8, 8) in a look."""
    ink, paper = (torch.tensor(colour)[:, None, None] for colour in LOOKS[look])
    strokes = interpolate(digits[:, None], size=32, mode="bicubic", antialias=True).clamp(0, 1)
    return paper + strokes * (ink - paper)


def run(seed=0):
    """Move every look to every other; return the figures, and one example of each look as a style."""
    generator = torch.Generator().manual_seed(seed)
    digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)
    digits = digits[torch.randperm(len(digits), generator=generator)]
    contents, styles = digits[:100], digits[100:200]
    norm = AdaptiveInstanceNorm(eps=1e-8)  # well below the variance of a faint image, near 1e-3

    apart, correlation, before, after, examples = [], [], [], [], []
    for source in LOOKS:
        content = write(contents, source)
        for target in LOOKS:
            if source == target:
                continue
            style, truth = write(styles, target), write(contents, target)
            result = norm(content, style)
            gaps = (of(result, dim=(2, 3)) - of(style, dim=(2, 3)) for of in (torch.mean, torch.std))
            apart.extend(gap.abs().max() for gap in gaps)
            stacked = torch.stack([result, content]).flatten(3)
            centred = stacked - stacked.mean(dim=-1, keepdim=True)
            correlation.append(cosine_similarity(*centred, dim=-1).min())
            before.append((content - truth).square().mean())
            after.append((result - truth).square().mean())
            k = len(examples)
            if source == "ink on cream":
                examples.append((content[k], style[k], result[k], truth[k], target))
    found = {
        "apart": float(max(apart)),
        "correlation": float(min(correlation)),
        "before": float(torch.stack(before).mean().sqrt()),
        "after": float(torch.stack(after).mean().sqrt()),
    }
    return found, examples


def draw(examples, path):
    figure, axes = plt.subplots(4, len(examples), figsize=(1.6 * len(examples) + 1.6, 6.6), layout="constrained")
    for column, (*images, look) in zip(axes.T, examples, strict=True):
        column[0].set_title(look)
        for axis, image in zip(column, images, strict=True):
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
    names = ("content", "style", "result:\ncontent with\nthe style's\nstatistics", "content drawn\nin that look")
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found, examples = run()
    print(f"largest difference to the style's means and standard deviations   {found['apart']:.0e}")
    print(f"least correlation of result and content, over images and channels {found['correlation']:.4f}")
    print(
        f"root mean square error to the right answer: before {found['before']:.3f}, after {found['after']:.3f} "
        "(of a full scale of 1)"
    )
    draw(examples, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_style_transfer.png")
