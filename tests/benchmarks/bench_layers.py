"""Time of the layers against torch's own, forward and backward.

    python tests/benchmarks/bench_layers.py [--rounds 15] [--threads 1] [--device cpu]

A layer and its yardstick run in turn, round by round, in one process; what is printed is the median of the rounds'
ratios. Batch layers, and the batch renorm layers of torchrl, sb3-contrib and keras as far as they are installed, are
set beside nn.BatchNorm, InstanceRenorm beside torch's instance norm, AdaptiveInstanceNorm beside instance norm and one
pass of statistics over the style.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from batchfix import nn as bnn

SHAPES = {(64, 64, 56, 56): 1.15, (8, 256, 28, 28): 1.15, (4096, 256): 1.4, (256, 512): 1.6}
"""Shape: the ratio asked of BatchRenorm."""

CLASSES = 10


def peers(channels: int, ndim: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Other batch renorm layers, as far as they are installed."""
    found: dict[str, Any] = {}
    if importlib.util.find_spec("torchrl"):
        from torchrl.modules import BatchRenorm1d

        if ndim == 2:
            found["torchrl"] = BatchRenorm1d(channels, warmup_steps=1)
    if importlib.util.find_spec("sb3_contrib"):
        from sb3_contrib.common.torch_layers import BatchRenorm1d as Other

        if ndim == 2:
            found["sb3-contrib"] = Other(channels)
    if importlib.util.find_spec("keras"):
        import keras

        if keras.backend.backend() == "torch":
            layer = keras.layers.BatchNormalization(axis=1)  # keras has dropped renorm: its batch norm stands in
            found["keras (batch norm)"] = lambda x: layer(x, training=True)
    return found


def jobs(shape: tuple[int, ...], device: str) -> dict[str, tuple[Callable[[Tensor], Tensor], str, float]]:
    """Name: the layer as a function of x, its yardstick, and the ratio asked."""
    n, c, image = shape[0], shape[1], len(shape) == 4
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (n,), generator=generator).to(device)
    halves = (torch.arange(n) % 2).to(device)
    ndim = "2d" if image else "1d"

    def make(name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(bnn, f"{name}{ndim}")(c, *args, **kwargs).to(device)

    renorm, early = make("BatchRenorm", r_max=3.0, d_max=5.0), make("BatchRenorm")
    conditional, domain = make("ConditionalBatchNorm", CLASSES), make("DomainBatchNorm", 2)
    nan = float("nan")
    found: dict[str, tuple[Callable[[Tensor], Tensor], str, float]] = {
        "BatchRenorm": (renorm, "batch norm", SHAPES.get(shape, nan)),
        "BatchRenorm, r=1 d=0": (early, "batch norm", 1.05),
        "ConditionalBatchNorm": (lambda x: conditional(x, labels), "batch norm", 1.25 if image else nan),
        "DomainBatchNorm, mixed": (lambda x: domain(x, halves), "batch norm", nan),
    }
    if image:
        style = torch.randn(shape, generator=generator).to(device)
        adaptive = bnn.AdaptiveInstanceNorm()
        found["InstanceRenorm"] = (make("InstanceRenorm"), "instance norm", 1.4)
        found["AdaptiveInstanceNorm"] = (lambda x: adaptive(x, style), "instance norm and statistics", 1.15)
    return found | {name: (layer, "batch norm", nan) for name, layer in peers(c, len(shape)).items()}


def yardsticks(shape: tuple[int, ...], device: str) -> dict[str, Callable[[Tensor], Tensor]]:
    c = shape[1]
    if len(shape) == 2:
        return {"batch norm": nn.BatchNorm1d(c).to(device)}
    instance = nn.InstanceNorm2d(c, affine=True).to(device)
    style = torch.randn(shape).to(device)

    def with_statistics(x: Tensor) -> Tensor:
        torch.batch_norm_update_stats(style.view(1, -1, *shape[2:]), None, None, 0.1)
        return instance(x)

    return {
        "batch norm": nn.BatchNorm2d(c).to(device),
        "instance norm": instance,
        "instance norm and statistics": with_statistics,
    }


def seconds(layer: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor, repeats: int) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        x.grad = None
        layer(x).backward(dy)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_shape(shape: tuple[int, ...], rounds: int, device: str) -> None:
    x = torch.randn(shape, device=device, requires_grad=True)
    dy = torch.randn(shape, device=device)
    repeats = max(1, 10_000_000 // x.numel())
    base = yardsticks(shape, device)
    print(f"{shape}")
    for name, (layer, against, asked) in jobs(shape, device).items():
        ratios = []
        for count in range(rounds + 1):
            ratio = seconds(layer, x, dy, repeats)
            ratio /= seconds(base[against], x, dy, repeats)
            if count:  # the first round warms up
                ratios.append(ratio)
        wish = "" if asked != asked else f"asked {asked}"
        print(f"    {name:24s} {statistics.median(ratios):6.2f}   ({min(ratios):.2f} .. {max(ratios):.2f})  {wish}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for shape in SHAPES:
        time_shape(shape, arguments.rounds, arguments.device)


if __name__ == "__main__":
    main()
