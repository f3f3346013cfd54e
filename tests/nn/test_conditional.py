"""ConditionalBatchNorm, DomainBatchNorm and AdaptiveInstanceNorm: labels, mixtures, absent domains, styles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from batchfix import nn as bnn
from batchfix.core.affine import Frame
from batchfix.exceptions import BatchfixError

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
EVERY_SHAPE = [("1d", (8, 3)), ("1d", (8, 3, 4)), ("2d", (8, 3, 5, 2)), ("3d", (8, 3, 2, 2, 3))]
LABELS = torch.tensor([0, 3, 1, 1, 3, 0, 3, 3])
on_every_device = pytest.mark.parametrize("device", DEVICES)
of_every_shape = pytest.mark.parametrize(("dim", "shape"), EVERY_SHAPE, ids=[str(shape) for _, shape in EVERY_SHAPE])


def of(name, dim, *args, **kwargs):
    return getattr(bnn, f"{name}{dim}")(3, *args, **kwargs)


# ---- a label picks weight and bias


@of_every_shape
@on_every_device
@pytest.mark.parametrize("training", [True, False])
def test_one_label_for_all_is_batch_norm(dim, shape, training, device):
    layer, plain = of("ConditionalBatchNorm", dim, 2).to(device, F64), getattr(nn, f"BatchNorm{dim}")(3).to(device, F64)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    with torch.no_grad():
        layer.weight[1], layer.bias[1] = plain.weight, plain.bias
    for k in range(3):
        x = torch.randn(shape, device=device, dtype=F64) + k
        labels = torch.ones(shape[0], dtype=torch.long, device=device)
        assert_close(layer(x, labels), plain(x), rtol=1e-12, atol=1e-12)
    layer.train(training)
    plain.train(training)
    assert_close(layer(x, labels), plain(x), rtol=1e-12, atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert_close(getattr(layer, name), getattr(plain, name), rtol=1e-12, atol=1e-12)


@of_every_shape
@on_every_device
def test_a_mixture_of_one_is_its_label(dim, shape, device):
    layer = of("ConditionalBatchNorm", dim, 4).to(device, F64)
    nn.init.normal_(layer.weight)
    x, labels = torch.randn(shape, device=device, dtype=F64), LABELS.to(device)
    shares = torch.eye(4, dtype=F64, device=device)[labels].requires_grad_()
    assert_close(layer(x, shares), layer(x, labels), rtol=1e-12, atol=1e-12)
    assert_close(layer.eval()(x, shares), layer(x, labels), rtol=1e-12, atol=1e-12)
    layer(x, shares).square().sum().backward()
    assert shares.grad.abs().sum() > 0


@on_every_device
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_labels_of_any_whole_dtype(dtype, device):
    x = torch.randn(8, 3, 4, device=device)
    for name in ("ConditionalBatchNorm", "DomainBatchNorm"):
        layer = of(name, "1d", 4).to(device).eval()
        assert_close(layer(x, LABELS.to(device, dtype)), layer(x, LABELS.to(device)))


def test_only_the_labels_that_came_get_gradients():
    layer = of("ConditionalBatchNorm", "1d", 4)
    layer(torch.randn(8, 3, 4), LABELS).square().sum().backward()
    came = torch.tensor([True, True, False, True])
    assert torch.equal(layer.weight.grad.abs().sum(1) > 0, came)
    assert torch.equal(layer.bias.grad.abs().sum(1) > 0, came)


# ---- a domain picks the statistics


@of_every_shape
@on_every_device
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("share_affine", [True, False])
def test_mixed_minibatches_are_as_if_each_domain_had_batch_norm_of_its_own(dim, shape, momentum, share_affine, device):
    torch.manual_seed(0)
    layer = of("DomainBatchNorm", dim, 4, momentum=momentum, share_affine=share_affine).to(device, F64)
    nn.init.normal_(layer.weight)
    plain = [getattr(nn, f"BatchNorm{dim}")(3, momentum=momentum).to(device, F64) for _ in range(4)]
    with torch.no_grad():
        for k, one in enumerate(plain):
            one.weight.copy_(layer.weight if share_affine else layer.weight[k])
    for domains in (LABELS, LABELS.flip(0), torch.tensor([1, 1, 2, 2, 2, 1, 1, 1])):
        domains = domains.to(device)
        x = torch.randn(shape, device=device, dtype=F64) + 5 * domains.view(-1, *[1] * (len(shape) - 1))
        y = layer(x, domains)
        for k in domains.unique().tolist():
            assert_close(y[domains == k], plain[k](x[domains == k]), rtol=1e-11, atol=1e-11)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        want = torch.stack([getattr(one, name) for one in plain])
        assert_close(getattr(layer, name), want, rtol=1e-12, atol=1e-12)
    layer.eval()
    y = layer(x, domains)
    for k in domains.unique().tolist():
        assert_close(y[domains == k], plain[k].eval()(x[domains == k]), rtol=1e-11, atol=1e-11)


@on_every_device
def test_a_far_domain_takes_no_digits_from_a_near_one(device):
    layer = of("DomainBatchNorm", "1d", 2).to(device, F64)
    x = torch.randn(8, 3, 4, device=device, dtype=F64)
    domains = torch.arange(8, device=device) % 2
    y = layer(x, domains)
    moved = torch.where(domains.view(-1, 1, 1) == 1, x + 1e9, x)
    assert_close(layer(moved, domains)[domains == 0], y[domains == 0], rtol=0, atol=0)


@on_every_device
@pytest.mark.parametrize("training", [True, False])
def test_one_number_names_the_domain_of_all(training, device):
    x = torch.randn(8, 3, 4, device=device)
    a, b = (of("DomainBatchNorm", "1d", 3).to(device).train(training) for _ in range(2))
    assert_close(a(x, 2), b(x, torch.full((8,), 2, device=device)))
    assert_close(dict(a.state_dict()), dict(b.state_dict()))


@on_every_device
def test_a_domain_of_one_value_comes_out_as_the_bias_and_moves_its_mean_only(device):
    layer = of("DomainBatchNorm", "1d", 2).to(device)
    nn.init.normal_(layer.bias)
    x = torch.randn(4, 3, device=device, requires_grad=True)
    y = layer(x, torch.tensor([0, 0, 1, 0], device=device))
    y.square().sum().backward()
    assert_close(y[2], layer.bias)
    assert x.grad.isfinite().all()
    assert_close(layer.running_mean[1], 0.1 * x[2].detach())
    assert layer.running_var[1].eq(1).all()
    assert not layer.running_var[0].eq(1).any()


@on_every_device
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["ConditionalBatchNorm", "DomainBatchNorm"])
@pytest.mark.parametrize(("dim", "shape"), [("1d", (0, 3)), ("1d", (2, 3, 0)), ("2d", (0, 3, 4, 4))])
def test_an_empty_minibatch_passes_and_moves_nothing(name, dim, shape, training, device):
    layer = of(name, dim, 4).to(device).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.zeros(shape, device=device, requires_grad=True)
    y = layer(x, torch.zeros(shape[0], dtype=torch.long, device=device))
    assert y.shape == shape
    y.sum().backward()
    assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.sampled_from([(3,), (3, 2), (3, 2, 2)]))
@settings(max_examples=40)
def test_the_order_of_samples_is_of_no_consequence(domains, rest):
    torch.manual_seed(len(domains))
    n, dim = len(domains), {1: "1d", 2: "1d", 3: "2d"}[len(rest)]
    x, codes, order = torch.randn(n, *rest, dtype=F64), torch.tensor(domains), torch.randperm(n)
    for name in ("ConditionalBatchNorm", "DomainBatchNorm"):
        if name.startswith("Cond") and x.numel() == 3:
            continue  # one value a channel has no variance in either order
        a, b = of(name, dim, 5, dtype=F64), of(name, dim, 5, dtype=F64)
        assert_close(b(x[order], codes[order]), a(x, codes)[order], rtol=1e-9, atol=1e-9)
        assert_close(dict(a.state_dict()), dict(b.state_dict()), rtol=1e-12, atol=1e-12)


# ---- a style picks where to


@on_every_device
def test_the_output_has_the_statistics_of_the_style(device):
    content, style = torch.randn(4, 3, 9, 9, device=device, dtype=F64), torch.rand(4, 3, 5, 7, device=device, dtype=F64)
    y = bnn.AdaptiveInstanceNorm(eps=1e-300)(content, style)
    assert_close(y.mean((2, 3)), style.mean((2, 3)), rtol=1e-11, atol=1e-11)
    assert_close(y.std((2, 3), correction=0), style.std((2, 3), correction=0), rtol=1e-11, atol=1e-11)


@on_every_device
def test_statistics_themselves_may_be_the_style(device):
    torch.manual_seed(0)
    layer = bnn.AdaptiveInstanceNorm()
    content, style = (torch.randn(4, 3, 6, device=device, dtype=F64) for _ in range(2))
    mean, sd = style.mean(2), torch.sqrt(style.var(2, correction=0) + layer.eps)
    assert_close(layer(content, Frame(mean, sd)), layer(content, style), rtol=1e-12, atol=1e-12)
    one = Frame(mean[0], sd[0])
    assert_close(layer(content, one), layer(content, style[:1]), rtol=1e-12, atol=1e-12)
    assert_close(layer(content, Frame(mean[:1], sd[:1])), layer(content, one), rtol=0, atol=0)


@on_every_device
def test_gradients_reach_the_style(device):
    content, style = (torch.randn(2, 3, 5, device=device, dtype=F64).requires_grad_() for _ in range(2))
    layer = bnn.AdaptiveInstanceNorm()
    assert torch.autograd.gradcheck(layer, (content, style))
    mean, sd = style.detach().mean(2).requires_grad_(), style.detach().std(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: layer(content, Frame(m, s)), (mean, sd))


def test_an_empty_content_passes():
    assert bnn.AdaptiveInstanceNorm()(torch.zeros(0, 3, 4), torch.zeros(1, 3, 4)).shape == (0, 3, 4)


# ---- wrong use

X = torch.zeros(8, 3, 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bnn.ConditionalBatchNorm1d(3, 0), ("num_classes", "positive whole", "0")),
        (lambda: bnn.DomainBatchNorm1d(3, 2.5), ("num_domains", "2.5")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 3)(X, LABELS), ("labels", "from 0 to 2", "got 3", "make the layer")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, LABELS - 1), ("from 0 to 3", "got -1")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4).eval()(X, LABELS - 1), ("from 0 to 3", "got -1")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, LABELS[:5]), ("labels", "8 samples", "(8,)", "(5,)")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, LABELS[:, None]), ("(8,)", "(8, 1)")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, LABELS > 1), ("whole numbers", "torch.bool")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, torch.rand(8, 3)), ("mixture", "(8, 4)", "(8, 3)")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X.long(), LABELS), ("floating", "int64")),
        (lambda: bnn.DomainBatchNorm1d(3, 4)(X, LABELS[:5]), ("domains", "8 samples", "(8,)", "(5,)")),
        (lambda: bnn.DomainBatchNorm1d(3, 2)(X, LABELS), ("domains", "from 0 to 1", "got 3")),
        (lambda: bnn.DomainBatchNorm1d(3, 2)(X, 2), ("domains", "from 0 to 1", "got 2")),
        (lambda: bnn.DomainBatchNorm1d(3, 2)(X, LABELS.float()), ("domains", "whole numbers", "torch.float32")),
        (lambda: bnn.DomainBatchNorm2d(3, 2)(X, 0), ("(N, C, H, W)", "(8, 3, 4)")),
        (lambda: bnn.ConditionalBatchNorm1d(3, 4)(X, [0] * 8), ("labels", "torch.Tensor", "list", "as_tensor")),
        (lambda: bnn.DomainBatchNorm1d(3, 2)(X, 1.0), ("domains", "torch.Tensor", "float")),
        (lambda: bnn.DomainBatchNorm1d(3, 2)(X, True), ("domains", "torch.Tensor", "bool")),
        (lambda: bnn.DomainBatchNorm1d(3, 2).eval()(X.double(), 0), ("torch.float32", "torch.float64")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, X.long()), ("floating", "int64")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, None), ("style", "Frame", "NoneType")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, Frame(0.0, 1.0)), ("location", "torch.Tensor", "float")),
        (lambda: bnn.AdaptiveInstanceNorm(eps=0), ("eps", "positive", "0")),
        (lambda: bnn.AdaptiveInstanceNorm()(X[..., 0], X), ("content", "(N, C, *)", "(8, 3)")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, X[:, :2]), ("style", "C = 3", "(8, 2, 4)")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, X[:5]), ("style", "N = 8", "(5, 3, 4)")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, X[..., :0]), ("style", "(8, 3, 0)")),
        (lambda: bnn.AdaptiveInstanceNorm()(X.int(), X), ("floating", "int32")),
        (lambda: bnn.AdaptiveInstanceNorm()(X, Frame(torch.zeros(2), torch.ones(3))), ("location", "(3,)", "(2,)")),
    ],
)
def test_wrong_use_says_what_must_hold_what_came_and_what_to_do(make, words):
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_they_say_what_they_are():
    assert repr(bnn.ConditionalBatchNorm1d(3, 2)) == "ConditionalBatchNorm1d(3, num_classes=2, eps=1e-05, momentum=0.1)"
    assert "num_domains=2" in repr(bnn.DomainBatchNorm1d(3, 2))
    assert repr(bnn.AdaptiveInstanceNorm()) == "AdaptiveInstanceNorm(eps=1e-05)"


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4)], ids=str)
@pytest.mark.parametrize("name", ["ConditionalBatchNorm", "DomainBatchNorm"])
def test_labels_that_are_written_to_before_the_backward_pass_are_noticed(name, shape):
    """A buffer of labels that is filled again must not send gradients to other labels."""
    layer, labels = of(name, "1d", 4), LABELS.clone()
    y = layer(torch.randn(shape, requires_grad=True), labels)
    labels.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["ConditionalBatchNorm", "DomainBatchNorm"])
def test_after_an_empty_minibatch_all_that_learns_has_a_gradient(name):
    layer = of(name, "1d", 4)
    layer(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).sum().backward()
    assert all(p.grad.eq(0).all() for p in layer.parameters())


@pytest.mark.parametrize("share_affine", [True, False])
def test_reset_parameters_forgets_what_was_learned(share_affine):
    for layer in (of("ConditionalBatchNorm", "1d", 2), of("DomainBatchNorm", "1d", 2, share_affine=share_affine)):
        nn.init.constant_(layer.weight, 7)
        nn.init.constant_(layer.bias, 7)
        layer(torch.randn(8, 3), LABELS.clamp(max=1))
        layer.reset_parameters()
        assert layer.weight.eq(1).all()
        assert layer.bias.eq(0).all()
        assert layer.running_mean.eq(0).all()
        assert layer.num_batches_tracked.eq(0).all()


def test_many_rows_of_float32_do_not_move_the_mean():
    """Rows added one by one to a sum of 1e8 lose digits, which a second pass brings back."""
    torch.manual_seed(0)
    x, domains = torch.randn(200_000, 2) + 1e3, torch.arange(200_000) % 2
    layer = bnn.DomainBatchNorm1d(2, 2, momentum=1.0, affine=False)
    layer(x, domains)
    for k in range(2):
        here = x[domains == k].double()
        assert_close(layer.running_mean[k].double(), here.mean(0), rtol=1e-7, atol=0)
        # 100,000 roundings of 6e-8 in a running sum, in random directions: 2e-5; five times that, to be safe
        assert_close(layer.running_var[k].double(), here.var(0), rtol=1e-4, atol=0)
