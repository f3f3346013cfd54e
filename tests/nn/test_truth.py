"""Every layer against its formula in plain autograd, r and d detached: output, gradients of both orders, buffers."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

import batchfix
from batchfix import nn as bnn
from batchfix.core.affine import Affine, Frame
from batchfix.core.moments import Moments

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SHAPES = [(7, 3), (7, 3, 4), (5, 3, 4, 3), (3, 3, 4, 3, 2)]
LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 2])
R_MAX, D_MAX = 1.2, 0.4


def axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def lay(v: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C) along x (N, C, *)."""
    v = v if v.ndim == 2 else v[None]
    return v.reshape(*v.shape, *[1] * (x.ndim - 2))


def standard(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return (x - lay(mean, x)) / torch.sqrt(lay(var, x) + eps)


def of_batch(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(axes(x)), x.var(axes(x), correction=0)


def of_instance(x: Tensor) -> tuple[Tensor, Tensor]:
    space = list(range(2, x.ndim))
    return x.mean(space), x.var(space, correction=0)


def bridge(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """r and d, constants to the gradient."""
    (m, v), (mean, var) = source, target
    sd = torch.sqrt(var + eps)
    return (torch.sqrt(v + eps) / sd).detach(), ((m - mean) / sd).detach()


# ---- the formulas; `old` are the running statistics before the step


def batch_renorm(layer: Any, x: Tensor, old: tuple[Tensor, Tensor]) -> Tensor:
    if not layer.training:
        return standard(x, *old, layer.eps) * lay(layer.weight, x) + lay(layer.bias, x)
    r, d = bridge(of_batch(x), old, layer.eps)
    r, d = r.clamp(1 / R_MAX, R_MAX), d.clamp(-D_MAX, D_MAX)
    z = standard(x, *of_batch(x), layer.eps)
    return (z * lay(r, x) + lay(d, x)) * lay(layer.weight, x) + lay(layer.bias, x)


def instance_renorm(layer: Any, x: Tensor, old: tuple[Tensor, Tensor]) -> Tensor:
    r, d = bridge(of_instance(x), of_batch(x) if layer.training else old, layer.eps)
    z = standard(x, *of_instance(x), layer.eps)
    t = torch.as_tensor(layer.blend, dtype=x.dtype)
    t = lay(t, x) if t.ndim else t
    y = (1 + t * (lay(r, x) - 1)) * z + t * lay(d, x)
    return y * lay(layer.weight, x) + lay(layer.bias, x)


def conditional(layer: Any, x: Tensor, old: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    z = standard(x, *(of_batch(x) if layer.training else old), layer.eps)
    shares = labels if labels.is_floating_point() else torch.eye(layer.num_classes, dtype=F64).to(x)[labels]
    return z * lay(shares @ layer.weight, x) + lay(shares @ layer.bias, x)


def domain(layer: Any, x: Tensor, old: tuple[Tensor, Tensor], domains: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for k in domains.unique().tolist():
        here = domains == k
        mean, var = of_batch(x[here]) if layer.training else (old[0][k], old[1][k])
        weight, bias = (v if layer.share_affine else v[k] for v in (layer.weight, layer.bias))
        y[here] = standard(x[here], mean, var, layer.eps) * lay(weight, x) + lay(bias, x)
    return y


def adaptive(layer: Any, x: Tensor, old: Any, style: Tensor) -> Tensor:
    mean, var = of_instance(style)
    return standard(x, *of_instance(x), layer.eps) * torch.sqrt(lay(var, x) + layer.eps) + lay(mean, x)


def feature_groups(layer: Any, x: Tensor, old: Any) -> Tensor:
    """Groups "b", "a", "b" of the last axis."""
    b = x[..., [0, 2]]
    z = torch.stack([b[..., 0] - b.mean(-1), torch.zeros_like(b[..., 0]), b[..., 1] - b.mean(-1)], -1)
    z = z / torch.sqrt(b.var(-1, correction=0, keepdim=True) + layer.eps)
    return torch.cat([z * layer.weight + layer.bias, x[..., 1:2], b.mean(-1, keepdim=True)], -1)


def heads(layer: Any, x: Tensor, old: Any) -> Tensor:
    """Two heads of two features."""
    h = x.unflatten(-1, (2, 2))
    z = (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + layer.eps)
    return (z * layer.weight[:, None] + layer.bias[:, None]).flatten(-2)


@dataclass
class Case:
    """A layer, what it is called with, and its formula."""

    name: str
    layer: Any
    inputs: tuple[Tensor, ...]
    formula: Any

    def on(self, device: str) -> "Case":
        return Case(self.name, self.layer.to(device), tuple(v.to(device) for v in self.inputs), self.formula)


def randomized(layer: Any) -> Any:
    """In float64, with parameters and running statistics that are not where they start."""
    layer = layer.to(F64)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(0.3, 0.9)  # a learned blend stays inside its range
    for key, buffer in layer.named_buffers():
        if key == "running_mean":
            buffer.normal_()
        if key == "running_var":
            buffer.uniform_(0.5, 2.0)
    return layer


def case(name: str, make: Any, shape: tuple[int, ...], formula: Any, *more: Tensor) -> Any:
    """A parameter of a test, that builds its case anew."""

    def build() -> Case:
        torch.manual_seed(len(shape))
        spread = torch.linspace(0.5, 2, shape[1], dtype=F64).view(-1, *[1] * (len(shape) - 2))
        return Case(name, randomized(make()), (torch.randn(shape, dtype=F64) * spread + 0.5, *more), formula)

    return pytest.param(build, id=f"{name}-{len(shape)}D")


def batch_layers(shape: tuple[int, ...]) -> list[Any]:
    """Cases of the layers with running statistics."""
    n, d = shape[0], max(1, len(shape) - 2)
    labels, mixed = LABELS[:n], torch.softmax(torch.arange(3.0 * n, dtype=F64).reshape(n, 3).sin(), 1)

    def make(name: str, *args: Any, **kwargs: Any) -> Any:
        return lambda: getattr(bnn, f"{name}{d}d")(3, *args, **kwargs)

    found = [
        case("BatchRenorm", make("BatchRenorm", r_max=R_MAX, d_max=D_MAX), shape, batch_renorm),
        case("ConditionalBatchNorm", make("ConditionalBatchNorm", 3), shape, conditional, labels),
        case("ConditionalBatchNorm-mixed", make("ConditionalBatchNorm", 3), shape, conditional, mixed),
        case("DomainBatchNorm", make("DomainBatchNorm", 3), shape, domain, labels),
        case("DomainBatchNorm-own", make("DomainBatchNorm", 4, share_affine=False), shape, domain, labels),
    ]
    if len(shape) > 2:
        style = torch.sin(torch.arange(15.0 * n, dtype=F64)).reshape(n, 3, 5) + 2
        found += [
            case("InstanceRenorm", make("InstanceRenorm", blend=0.3), shape, instance_renorm),
            case("InstanceRenorm-learned", make("InstanceRenorm", learn_blend=True), shape, instance_renorm),
            case("AdaptiveInstanceNorm", bnn.AdaptiveInstanceNorm, shape, adaptive, style),
        ]
    return found


def group_layers(lead: tuple[int, ...]) -> list[Any]:
    """Cases of the layers that normalize the last axis."""
    sectors = partial(bnn.FeatureGroupNorm, ["b", "a", "b"], return_group_means=True)
    return [
        case("FeatureGroupNorm", sectors, (*lead, 3), feature_groups),
        case("HeadNorm", partial(bnn.HeadNorm, 2), (*lead, 4), heads),
    ]


def cases() -> list[Any]:
    found = [one for shape in SHAPES for one in batch_layers(shape)]
    return found + [one for lead in [(5,), (2, 3), (2, 2, 2), (2, 2, 2, 2)] for one in group_layers(lead)]


def buffers_of(layer: Any) -> Any:
    return (layer.running_mean.clone(), layer.running_var.clone()) if hasattr(layer, "running_mean") else None


def close(got: Any, want: Any, tol: float) -> None:
    assert_allclose(got.detach().cpu().numpy(), want.detach().cpu().numpy(), rtol=0, atol=tol)


every_case = pytest.mark.parametrize("build", cases())
on_every_device = pytest.mark.parametrize("device", DEVICES)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])


@every_case
@on_every_device
@in_both_modes
def test_output_and_gradients_of_both_orders(build, device, training):
    case = build().on(device)
    layer = case.layer.train(training)
    leaves = [v.detach().requires_grad_() if v.is_floating_point() else v for v in case.inputs]
    old = buffers_of(layer)
    want = case.formula(layer, leaves[0], old, *leaves[1:])
    got = layer(*leaves)
    close(got, want, 1e-12)

    dy = torch.randn_like(got).requires_grad_()
    wanted = [v for v in (*leaves, *layer.parameters()) if v.requires_grad]
    first = torch.autograd.grad(got, wanted, dy, create_graph=True)
    expected = torch.autograd.grad(want, wanted, dy, create_graph=True)
    for g, e in zip(first, expected, strict=True):
        close(g, e, 1e-10)
    for g, e in zip(torch.autograd.grad(layer.train(training)(*leaves), wanted, dy), expected, strict=True):
        # the plain backward pass, without a graph of its own, with the running statistics moved on
        if case.name != "BatchRenorm" or not training:
            close(g, e, 1e-10)

    directions = [torch.randn_like(g) for g in first]
    of = [v for v in (*wanted, dy) if v.requires_grad]
    second = torch.autograd.grad(first, of, directions, allow_unused=True)
    expected = torch.autograd.grad(expected, of, directions, allow_unused=True)
    for g, e in zip(second, expected, strict=True):
        close(torch.zeros(()) if g is None else g, torch.zeros(()) if e is None else e.expand_as(e), 1e-10)


@on_every_device
def test_the_plain_backward_pass_of_batch_renorm(device):
    for build in (p.values[0] for p in cases() if p.id.startswith("BatchRenorm")):
        case = build().on(device)
        x = case.inputs[0].requires_grad_()
        wanted = (x, *case.layer.parameters())
        want = batch_renorm(case.layer, x, buffers_of(case.layer))
        got = case.layer(x)
        dy = torch.randn_like(got)
        for g, e in zip(torch.autograd.grad(got, wanted, dy), torch.autograd.grad(want, wanted, dy), strict=True):
            close(g, e, 1e-10)


@every_case
@on_every_device
def test_running_statistics_move_by_the_merged_moments_of_the_core(build, device):
    case = build().on(device)
    layer, x = case.layer, case.inputs[0]
    if not hasattr(layer, "running_mean"):
        case.layer(*case.inputs)
        assert not [name for name, _ in layer.named_buffers() if "running" in name]
        return
    old = [b.cpu().numpy() for b in buffers_of(layer)]
    layer(*case.inputs)
    by_domain = case.name.startswith("Domain")
    domains = case.inputs[1].cpu().numpy() if by_domain else np.zeros(len(x), dtype=int)
    for k in np.unique(domains):
        rows = np.moveaxis(x.cpu().numpy()[domains == k], 1, -1).reshape(-1, x.shape[1])
        moments = Moments.of(rows)
        where = k if by_domain else ...
        mean, var = 0.9 * old[0] + 0.1 * moments.mean, 0.9 * old[1] + 0.1 * moments.variance(correction=1)
        close(layer.running_mean[where], torch.from_numpy(mean[where]), 1e-12)
        close(layer.running_var[where], torch.from_numpy(var[where]), 1e-12)
    for k in set(range(len(layer.running_mean) if by_domain else 0)) - set(domains.tolist()):
        close(layer.running_mean[k], torch.from_numpy(old[0][k]), 0)
        close(layer.running_var[k], torch.from_numpy(old[1][k]), 0)


# ---- the same numbers from the core and from the estimators

TINY = 1e-300
"""An eps that adds nothing."""


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three batches, each at a place and a scale of its own."""
    rng = np.random.default_rng(seed)
    batches = rng.permutation(np.repeat([0, 1, 2], [5, 8, 4]))
    X = rng.normal(rng.normal(size=(3, 4))[batches] * 3, 1 + batches[:, None])
    return X, batches


def test_batch_renorm_is_the_bridge_of_the_core():
    X, _ = table()
    source, target = Moments.of(X), Moments.of(X[:7] * 2 + 1)
    frames = [Frame(m.mean, np.sqrt(m.variance(correction=0))) for m in (source, target)]
    across = Affine.bridge(*frames).clip(R_MAX, D_MAX) @ Affine.standardize(frames[0])
    layer = bnn.BatchRenorm1d(4, eps=TINY, affine=False, r_max=R_MAX, d_max=D_MAX, dtype=F64)
    layer.running_mean.copy_(torch.from_numpy(target.mean))
    layer.running_var.copy_(torch.from_numpy(target.variance(correction=0)))
    assert_allclose(layer(torch.from_numpy(X)).numpy(), across.apply(X), rtol=0, atol=1e-12)


def test_domain_batch_norm_is_the_batch_corrector_to_the_standard_frame():
    X, batches = table()
    corrector = batchfix.BatchCorrector(target="standard").fit(X, batch=batches)
    want = corrector.transform(X, batch=batches)
    layer = bnn.DomainBatchNorm1d(4, 3, eps=TINY, affine=False, momentum=None, dtype=F64)
    x, domains = torch.from_numpy(X), torch.from_numpy(batches)
    n = np.bincount(batches)[batches][:, None]
    # a layer in training divides by n
    assert_allclose(layer(x, domains).numpy() * np.sqrt((n - 1) / n), want, rtol=0, atol=1e-12)
    assert_allclose(layer.running_mean.numpy(), corrector.location_, rtol=0, atol=1e-12)
    assert_allclose(layer.running_var.numpy(), corrector.scale_**2, rtol=1e-12)
    assert_allclose(layer.eval()(x, domains).numpy(), want, rtol=0, atol=1e-12)


def test_conditional_batch_norm_takes_a_table_back_to_its_batches():
    """The inverse of what the corrector does is to give each batch its own location and scale."""
    X, batches = table()
    corrector = batchfix.BatchCorrector(target="standard").fit(X, batch=batches)
    Z = corrector.transform(X, batch=batches)
    layer = bnn.ConditionalBatchNorm1d(4, 3, eps=TINY, dtype=F64).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(corrector.scale_))
        layer.bias.copy_(torch.from_numpy(corrector.location_))
    got = layer(torch.from_numpy(Z), torch.from_numpy(batches)).detach().numpy()
    assert_allclose(got, corrector.inverse_transform(Z, batch=batches), rtol=0, atol=1e-12)


def test_adaptive_instance_norm_is_a_move_between_frames_of_the_core():
    rng = np.random.default_rng(0)
    content, style = rng.normal(size=(2, 3, 8)), rng.normal(2, 3, size=(2, 3, 5))
    frames = [Frame(v.mean(-1, keepdims=True), v.std(-1, keepdims=True)) for v in (content, style)]
    got = bnn.AdaptiveInstanceNorm(eps=TINY)(torch.from_numpy(content), torch.from_numpy(style)).numpy()
    assert_allclose(got, Affine.move(*frames).apply(content), rtol=0, atol=1e-12)


# ---- what batch normalization is for


@pytest.mark.parametrize("factor", [1e-3, 0.5, 7.0, 1e4])
@pytest.mark.parametrize("name", ["BatchRenorm1d", "InstanceRenorm1d"])
def test_scaling_the_weights_before_changes_nothing(name, factor):
    """Once the running statistics have followed; eps is all that is left."""
    torch.manual_seed(0)
    limits = {"r_max": R_MAX, "d_max": D_MAX} if name == "BatchRenorm1d" else {}
    outputs = []
    for scale in (1.0, factor):
        torch.manual_seed(1)
        before = torch.nn.Conv1d(2, 3, 2).to(F64)
        with torch.no_grad():
            for p in before.parameters():
                p.mul_(scale)
        layer = getattr(bnn, name)(3, eps=TINY, momentum=None, dtype=F64, **limits)
        for _ in range(3):  # the first minibatch replaces where the running statistics started
            y = layer(before(torch.randn(6, 2, 5, dtype=F64)))
        outputs.append(y)
    close(outputs[1], outputs[0], 1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", ["ConditionalBatchNorm", "DomainBatchNorm"])
def test_scaling_the_weights_before_changes_nothing_of_what_a_label_picks(name, dim):
    layer = getattr(bnn, f"{name}{dim}d")(3, 3, eps=TINY, dtype=F64)
    x = torch.randn(6, 3, *[2] * dim, dtype=F64)
    close(layer(13.0 * x, LABELS[:6]), layer(x, LABELS[:6]), 1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm"])
def test_training_output_is_eval_output_under_the_same_running_statistics(name, shape):
    if name == "InstanceRenorm" and len(shape) == 2:
        shape = (*shape, 4)
    far = {"r_max": 1e6, "d_max": 1e6} if name == "BatchRenorm" else {"blend": 1.0}
    for dtype, tolerance in ((F64, 1e-6), (torch.float32, 1e-5)):
        layer = getattr(bnn, f"{name}{max(1, len(shape) - 2)}d")(3, momentum=0.0, dtype=dtype, **far)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2.0)
        x = torch.randn(shape, dtype=dtype) * 2 + 1
        if name == "InstanceRenorm":  # in training its batch is the minibatch: make it the population
            layer.running_mean, layer.running_var = of_batch(x)
        trained = layer(x)
        close(trained, layer.eval()(x), tolerance)
