"""Rows with maps of their own: in pieces of any size the numbers of the written-out formula."""

import pytest
import torch
from torch.testing import assert_close

from batchfix.nn import kernels, rows
from batchfix.nn.kernels import Groups
from batchfix.nn.rows import normalize_rows

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.fixture(params=[1, 7, 2**17], ids="pieces of {}".format)
def in_pieces(request, monkeypatch):
    monkeypatch.setattr(rows, "PIECE", request.param)


def table(device, n=11, c=3, k=4):
    torch.manual_seed(0)
    labels = Groups(torch.randint(k - 1, (n,), device=device), k)  # one label has no row
    x = torch.randn(n, c, dtype=F64, device=device) + 5
    weight, bias = (torch.randn(k, c, dtype=F64, device=device) for _ in range(2))
    return [v.requires_grad_() for v in (x, weight, bias)], labels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("apart", [True, False])
def test_pieces_are_the_formula(apart, device, in_pieces, monkeypatch):
    inputs, labels = table(device)
    got = normalize_rows(*inputs, labels, 0.1, apart)
    dy = torch.randn_like(got[0])
    gradients = torch.autograd.grad(got[0], inputs, dy)
    monkeypatch.setattr(rows, "is_native", lambda x: False)
    want = normalize_rows(*inputs, labels, 0.1, apart)
    for a, b in zip((*got, *gradients), (*want, *torch.autograd.grad(want[0], inputs, dy)), strict=True):
        assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("apart", [True, False])
def test_gradcheck(apart, device, in_pieces):
    inputs, labels = table(device)
    function = lambda *given: normalize_rows(*given, labels, 0.1, apart)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("apart", [True, False])
def test_only_what_needs_a_gradient_gets_one(apart):
    (x, weight, bias), labels = table("cpu")
    y = normalize_rows(x.detach(), weight, bias.detach(), labels, 0.1, apart)[0]
    y.sum().backward()
    assert x.grad is None
    assert bias.grad is None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("apart", [True, False])
def test_half_precision_is_worked_on_in_float32(apart, in_pieces):
    (x, weight, bias), labels = table("cpu")
    half = x.detach().bfloat16().requires_grad_()
    weight, bias = weight.detach().float().requires_grad_(), bias.detach().float().requires_grad_()
    y, mean, var = normalize_rows(half, weight, bias, labels, 0.1, apart)
    assert (y.dtype, mean.dtype, var.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    exact = [v.detach().double().requires_grad_() for v in (half, weight, bias)]
    want = normalize_rows(*exact, labels, 0.1, apart)[0]
    dy = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad(y, (half, weight, bias), dy), torch.autograd.grad(want, exact, dy.double()), strict=True
    ):
        # one rounding to half precision; what is float32 is a float32 sum
        assert_close(a.double(), b, rtol=2**-8 if a.dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    assert_close(y.double(), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("apart", [True, False])
def test_a_large_mean_takes_few_digits(apart):
    (x, weight, bias), labels = table("cpu")
    near, far = (normalize_rows(v, weight, bias, labels, 1e-5, apart)[0] for v in (x, x + 1e6))
    assert_close(far, near, rtol=1e-8, atol=1e-8)
    assert kernels.is_native(x)
