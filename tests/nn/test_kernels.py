"""The native kernels and the written-out formula give the same numbers; statistics lose no digits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from batchfix.nn import kernels
from batchfix.nn.kernels import Groups

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SHAPES = [(6, 3), (5, 3, 4), (4, 3, 3, 2), (3, 3, 2, 2, 2)]
on_every_device = pytest.mark.parametrize("device", DEVICES)
of_every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=[True, False], ids=["native", "written out"])
def native(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(kernels, "is_native", lambda x: False)
    return request.param


@of_every_shape
@on_every_device
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_statistics(shape, device, dtype, tolerance, native):
    x = (torch.randn(shape, device=device) * 3 + 1).to(dtype)
    mean, var = kernels.statistics(x)
    assert mean.dtype == var.dtype == kernels.accurate(dtype)
    axes = kernels.all_but_channels(x)
    assert_close(mean.to(F64), x.to(F64).mean(axes), rtol=tolerance, atol=tolerance)
    assert_close(var.to(F64), x.to(F64).var(axes, correction=0), rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_large_mean_takes_few_digits_from_the_variance(offset, grouped, native):
    x = torch.randn(8, 3, 40, dtype=F64)
    groups = Groups(torch.arange(8) % 2, 2) if grouped else None
    for function in (kernels.pooled_statistics, kernels.written_statistics):
        want, got = function(x, groups)[1], function(x + offset, groups)[1]
        assert_close(got, want, rtol=1e-15 * offset + 1e-13, atol=0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_pooled_statistics_are_the_written_ones(codes):
    torch.manual_seed(len(codes))
    x, groups = torch.randn(len(codes), 3, 5, dtype=F64), Groups(torch.tensor(codes), 4)
    for got, want in zip(kernels.pooled_statistics(x, groups), kernels.written_statistics(x, groups), strict=True):
        assert_close(got, want, rtol=1e-12, atol=1e-12)
    mean, var = kernels.pooled_statistics(x, groups)
    for k in range(4):
        here = x[groups.codes == k]
        assert_close(mean[k], here.mean((0, 2)) if len(here) else torch.zeros(3, dtype=F64), rtol=1e-12, atol=1e-12)
        if len(here):
            assert_close(var[k], here.var((0, 2), correction=0), rtol=1e-12, atol=1e-12)


@of_every_shape
@on_every_device
@pytest.mark.parametrize("grouped", [False, True])
def test_gradcheck_of_maps_of_their_own(shape, grouped, device, native):
    torch.manual_seed(0)
    n = shape[0]
    groups = Groups(torch.arange(n, device=device) % 2, 3) if grouped else None
    x = torch.randn(shape, dtype=F64, device=device, requires_grad=True)
    weight, bias = (torch.randn(n, 3, dtype=F64, device=device, requires_grad=True) for _ in range(2))
    function = lambda *inputs: kernels.normalize_each(*inputs, 0.1, groups)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, weight, bias))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias))


@of_every_shape
def test_a_first_gradient_alone_is_that_of_the_graph(shape):
    """The kernels of the plain backward pass, against the pass that can be differentiated again."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    weight, bias = (torch.randn(shape[0], 3, dtype=F64, requires_grad=True) for _ in range(2))
    for groups in (None, Groups(torch.arange(shape[0]) % 2, 2)):
        y = kernels.normalize_each(x, weight, bias, 0.1, groups)[0]
        dy = torch.randn_like(y)
        plain = torch.autograd.grad(y, (x, weight, bias), dy, retain_graph=True)
        again = torch.autograd.grad(y, (x, weight, bias), dy, create_graph=True)
        for a, b in zip(plain, again, strict=True):
            assert_close(a, b.detach(), rtol=1e-11, atol=1e-11)
        frozen = kernels.normalize_each(x.detach(), weight, bias, 0.1, groups)[0]
        for a, b in zip(torch.autograd.grad(frozen, (weight, bias), dy), plain[1:], strict=True):
            assert_close(a, b, rtol=1e-11, atol=1e-11)
