"""The functions under the layers: moments add, the bridge joins, gradients hold with r and d constant."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from batchfix.core.affine import Affine
from batchfix.exceptions import BatchfixError
from batchfix.nn import functional

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SHAPES = [(6, 3), (5, 3, 4), (4, 3, 3, 2), (3, 3, 2, 2, 2)]
on_every_device = pytest.mark.parametrize("device", DEVICES)
of_every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def random(*shape, device="cpu"):
    return torch.randn(shape, dtype=F64, device=device)


def spread(*shape, device="cpu"):
    return (torch.rand(shape, dtype=F64, device=device) + 0.5).requires_grad_()


@of_every_shape
@on_every_device
def test_gradcheck_of_both_orders_with_r_and_d_constant(shape, device):
    torch.manual_seed(0)
    r, d = spread(3, device=device).detach(), random(3, device=device)
    inputs = random(*shape, device=device).requires_grad_(), spread(3, device=device), spread(3, device=device)
    function = lambda x, weight, bias: functional.renormalize(x, r, d, weight, bias)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    for some in ((inputs[0], None, None), (inputs[0], inputs[1], None), (inputs[0], None, inputs[2])):
        given = tuple(v for v in some if v is not None)

        def partial(*values, some=some):
            rest = iter(values)
            return function(*(None if v is None else next(rest) for v in some))

        assert torch.autograd.gradcheck(partial, given)
        assert torch.autograd.gradgradcheck(partial, given)


@of_every_shape
def test_gradients_of_some_of_the_inputs_only(shape):
    """What is not asked for is not computed, and what is asked for is the same."""
    torch.manual_seed(0)
    x, weight, bias, dy = random(*shape), random(3), random(3), random(*shape)
    r, d = spread(3).detach(), random(3)
    every = [v.clone().requires_grad_() for v in (x, weight, bias)]
    want = torch.autograd.grad(functional.renormalize(every[0], r, d, *every[1:]), every, dy)
    for k in range(3):
        leaves = [v.clone() for v in (x, weight, bias)]
        leaves[k].requires_grad_()
        (got,) = torch.autograd.grad(functional.renormalize(leaves[0], r, d, *leaves[1:]), [leaves[k]], dy)
        assert_close(got, want[k], rtol=1e-12, atol=1e-12)


@on_every_device
def test_gradcheck_of_adaptive_instance_norm(device):
    torch.manual_seed(0)
    inputs = random(2, 3, 5, device=device).requires_grad_(), random(2, 3, 4, device=device).requires_grad_()
    assert torch.autograd.gradcheck(functional.adaptive_instance_norm, inputs)
    assert torch.autograd.gradgradcheck(functional.adaptive_instance_norm, inputs)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([(3,), (3, 4), (3, 2, 3)]))
def test_moments_of_minibatches_add_up(sizes, rest):
    torch.manual_seed(sum(sizes))
    parts = [random(n, *rest) * n + 1e3 for n in sizes]
    total = functional.moments(parts[0])
    for part in parts[1:]:
        total = total + functional.moments(part)
    whole = functional.moments(torch.cat(parts))
    for name in ("n", "mean", "m2"):
        assert_close(getattr(total, name), getattr(whole, name), rtol=1e-9, atol=1e-9)


@on_every_device
def test_moments_under_a_mask_are_those_of_what_is_left(device):
    x, mask = random(5, 3, 7, device=device), torch.rand(5, 7, device=device) > 0.4
    want = functional.moments(x.movedim(1, -1)[mask])
    got = functional.moments(torch.where(mask[:, None], x, float("nan")), mask)
    for name in ("n", "mean", "m2"):
        assert_close(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12)


def test_moments_of_half_precision_are_float32():
    assert functional.moments(torch.ones(3, 2, dtype=torch.bfloat16)).mean.dtype == torch.float32


@given(st.integers(0, 2**32 - 1))
def test_the_bridge_joins_any_two_normalizations(seed):
    torch.manual_seed(seed)
    x, here, there = random(6, 3), random(9, 3) * 3 + 1, random(4, 3) * 0.2 - 5
    source, target = functional.moments(here), functional.moments(there)
    frames = [functional.frame(m, 1e-5) for m in (source, target)]
    z, want = (Affine.standardize(frame).apply(x) for frame in frames)
    across = functional.bridge(source, target)
    assert_close(across.apply(z), want, rtol=1e-9, atol=1e-9)
    assert_close(across.inverse().apply(want), z, rtol=1e-9, atol=1e-9)
    back = functional.bridge(target, source)
    assert_close((back @ across).apply(z), z, rtol=1e-9, atol=1e-9)


def test_the_bridge_from_instances_to_their_batch():
    x = random(4, 3, 9)
    samples = [functional.moments(one[None]) for one in x]
    batch = functional.moments(x)
    z = torch.nn.functional.instance_norm(x)
    for k, sample in enumerate(samples):
        across = functional.bridge(sample, batch)
        want = torch.nn.functional.batch_norm(x, None, None, training=True)[k]
        assert_close(across.r[:, None] * z[k] + across.d[:, None], want, rtol=1e-9, atol=1e-9)


def test_statistics_carry_gradients_where_asked():
    x = random(5, 3).requires_grad_()
    functional.frame(functional.moments(x)).scale.sum().backward()
    assert x.grad.abs().sum() > 0


def test_batch_renorm_is_batch_norm_by_default():
    x, mean, var = random(5, 3), torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
    want = torch.nn.functional.batch_norm(x, mean.clone(), var.clone(), training=True)
    assert_close(functional.batch_renorm(x, mean, var, training=True), want, rtol=0, atol=0)


ONE, THREE = torch.zeros(1, dtype=F64), torch.ones(3, dtype=F64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: functional.batch_renorm(x, ONE, THREE, training=True, r_max=3.0), ("running_mean", "(3,)", "(1,)")),
        (lambda x: functional.batch_renorm(x, THREE, ONE), ("running_var", "(3,)", "(1,)")),
        (lambda x: functional.batch_renorm(x, THREE, THREE, ONE), ("weight", "(3,)", "(1,)")),
        (lambda x: functional.renormalize(x, ONE, THREE), ("r must", "(3,)", "(1,)")),
        (lambda x: functional.renormalize(x, THREE, THREE[0]), ("d must", "(3,)", "()")),
        (lambda x: functional.renormalize(x.long(), THREE, THREE), ("x must be floating", "int64")),
        (lambda x: functional.renormalize(x[0], THREE, THREE), ("(N, C, *)", "(3,)")),
        (lambda x: functional.instance_renorm(x, THREE, THREE), ("(N, C, L, *)", "(5, 3)")),
        (lambda x: functional.moments(x.tolist()), ("x must be a torch.Tensor", "list")),
        (lambda x: functional.moments(x, np.ones(5, dtype=bool)), ("mask must be a torch.Tensor", "ndarray")),
    ],
)
def test_what_does_not_fit_is_refused_before_a_kernel_reads_past_it(call, words):
    """The native kernels check no lengths: one statistic for three channels would be read, and written, beyond."""
    with pytest.raises(BatchfixError) as caught:
        call(random(5, 3))
    for word in words:
        assert word in str(caught.value)


def test_an_empty_minibatch_is_renormalized_to_nothing():
    x = torch.zeros(0, 3, dtype=F64, requires_grad=True)
    functional.renormalize(x, THREE, THREE).sum().backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("limits", [{"r_max": 0.5}, {"d_max": -1.0}])
def test_limits_that_allow_less_than_nothing_are_refused(limits):
    x, mean, var = random(5, 3), torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
    with pytest.raises(BatchfixError, match=next(iter(limits))):
        functional.batch_renorm(x, mean, var, training=True, **limits)
    assert mean.eq(0).all(), "nothing may have moved"
