"""BatchRenorm and InstanceRenorm: schedule, momentum, state, padding, and minibatches at the edge."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from batchfix import nn as bnn
from batchfix.exceptions import BatchfixError
from batchfix.nn import functional
from batchfix.nn.schedule import D_MAX, R_MAX

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SHAPES = {"1d": [(6, 3), (6, 3, 4)], "2d": [(4, 3, 5, 2)], "3d": [(2, 3, 4, 2, 3)]}
EVERY_SHAPE = [(dim, shape) for dim, shapes in SHAPES.items() for shape in shapes]
on_every_device = pytest.mark.parametrize("device", DEVICES)
of_every_shape = pytest.mark.parametrize(("dim", "shape"), EVERY_SHAPE, ids=[str(shape) for _, shape in EVERY_SHAPE])


def renorm(dim="1d", channels=3, **kwargs):
    return getattr(bnn, f"BatchRenorm{dim}")(channels, **{"r_max": 3.0, "d_max": 5.0} | kwargs)


# ---- the schedule


@on_every_device
def test_while_the_limits_are_closed_it_is_batch_norm_to_the_last_bit(device):
    layer, plain = bnn.BatchRenorm2d(3).to(device), nn.BatchNorm2d(3).to(device)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5, device=device)
        assert_close(layer(x), plain(x), rtol=0, atol=0)
    assert_close(dict(layer.state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


@on_every_device
def test_the_limits_follow_the_step_in_the_state(device):
    layer = bnn.BatchRenorm1d(3).to(device, F64)
    layer.running_mean.fill_(50.0)  # far, so that every limit binds
    layer.running_var.fill_(1e-6)
    x = torch.randn(8, 3, device=device, dtype=F64)
    z = functional.renormalize(x, torch.ones(3, device=device, dtype=F64), torch.zeros(3, device=device, dtype=F64))
    for step in (0, 5_000, 5_001, 12_345, 25_000, 39_999, 40_000, 10**6):
        layer.num_batches_tracked.fill_(step)
        layer.running_mean.fill_(50.0)
        layer.running_var.fill_(1e-6)
        assert_close(layer(x), R_MAX(step) * z - D_MAX(step), rtol=1e-9, atol=1e-9)
        assert int(layer.num_batches_tracked) == step + 1


@on_every_device
def test_a_step_that_somebody_else_writes_is_seen(device):
    layer = renorm(r_max=bnn.Schedule((0, 1.0), (10, 3.0)), d_max=0.0).to(device)
    x = torch.randn(8, 3, device=device)
    for write in (
        lambda: layer.load_state_dict(layer.state_dict() | {"num_batches_tracked": torch.tensor(10)}),
        lambda: layer.load_state_dict(layer.state_dict() | {"num_batches_tracked": torch.tensor(0)}, assign=True),
        lambda: layer.num_batches_tracked.fill_(10),
        lambda: setattr(layer, "num_batches_tracked", torch.tensor(0, device=device)),
        layer.reset_running_stats,
    ):
        write()
        layer.to(device)
        before = int(layer.num_batches_tracked)
        assert layer.step() == before
        layer(x)
        assert layer.step() == int(layer.num_batches_tracked) == before + 1


@given(st.integers(0, 60_000))
def test_the_papers_limits(step):
    t = min(max((step - 5_000) / 35_000, 0), 1)
    assert R_MAX(step) == pytest.approx(1 + 2 * t)
    assert D_MAX(step) == pytest.approx(5 * min(max((step - 5_000) / 20_000, 0), 1))


def test_nothing_advances_in_eval():
    layer = renorm().eval()
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer(torch.randn(6, 3))
    assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


# ---- running statistics


@of_every_shape
@on_every_device
def test_without_momentum_all_minibatches_count_alike(dim, shape, device):
    layer = renorm(dim, momentum=None).to(device, F64)
    batches = [torch.randn(shape, device=device, dtype=F64) * (k + 1) + k for k in range(4)]
    for x in batches:
        layer(x)
    axes = [0, *range(2, len(shape))]
    assert_close(layer.running_mean, torch.stack([x.mean(axes) for x in batches]).mean(0))
    assert_close(layer.running_var, torch.stack([x.var(axes) for x in batches]).mean(0))


@of_every_shape
@on_every_device
def test_running_statistics_are_those_of_batch_norm(dim, shape, device):
    layer = renorm(dim).to(device)
    plain = getattr(nn, f"BatchNorm{dim}")(3).to(device)
    for k in range(3):
        x = torch.randn(shape, device=device) + k
        layer(x)
        plain(x)
    assert_close(dict(layer.state_dict()), dict(plain.state_dict()))


@on_every_device
def test_a_large_mean_cancels_nothing(device):
    """The sketch E[x^2] - E[x]^2 has no digit left here."""
    x = torch.randn(64, 3, 8, device=device, dtype=torch.float32) + 1e4
    layer = renorm(momentum=1.0).to(device)
    layer(x)
    exact = x.double()
    # a mean of 1e4 is off by 6e-4 at most, which adds its square, 4e-7; sums of 512 terms add 1e-6
    assert_close(layer.running_var.double(), exact.var((0, 2)), rtol=1e-5, atol=0)
    assert_close(layer.running_mean.double(), exact.mean((0, 2)), rtol=1e-6, atol=0)


@of_every_shape
@on_every_device
def test_a_batch_norm_checkpoint_loads_and_goes_back(dim, shape, device):
    plain = getattr(nn, f"BatchNorm{dim}")(3).to(device)
    for _ in range(3):
        plain(torch.randn(shape, device=device) * 2 + 1)
    nn.init.normal_(plain.weight)
    layer = renorm(dim).to(device)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(shape, device=device)
    assert_close(layer.eval()(x), plain.eval()(x), rtol=0, atol=0)
    layer.train()(x)
    plain.load_state_dict(layer.state_dict())
    assert_close(plain(x), layer.eval()(x), rtol=0, atol=0)


# ---- the edges


@on_every_device
@pytest.mark.parametrize(
    ("dim", "shape"), [("1d", (1, 3)), ("1d", (1, 3, 1)), ("2d", (1, 3, 1, 1)), ("3d", (1, 3, 1, 1, 1))]
)
@pytest.mark.parametrize("closed", [True, False])
def test_one_value_a_channel_moves_the_mean_only(dim, shape, closed, device):
    limits = {"r_max": 1.0, "d_max": 0.0} if closed else {"r_max": 1e9, "d_max": 1e9}
    layer = renorm(dim, **limits).to(device)
    layer.running_mean.fill_(1.0)
    layer.running_var.fill_(4.0)
    x = torch.full(shape, 3.0, device=device, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    # normalized by its own mean, a value is 0; the bridge takes it to (3 - 1) / 2
    assert_close(y, torch.full_like(y, 0.0 if closed else 1.0), rtol=1e-5, atol=1e-5)
    assert_close(layer.running_mean, torch.full((3,), 1.2, device=device))
    assert_close(layer.running_var, torch.full((3,), 4.0, device=device))
    assert x.grad.eq(0).all()
    assert layer.weight.grad.isfinite().all()
    assert layer.bias.grad.eq(1).all()


@on_every_device
@pytest.mark.parametrize(
    ("dim", "shape"), [("1d", (0, 3)), ("1d", (2, 3, 0)), ("2d", (0, 3, 4, 4)), ("3d", (0, 3, 4, 4, 4))]
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm"])
def test_an_empty_minibatch_passes_and_moves_nothing(name, dim, shape, training, device):
    if name == "InstanceRenorm" and len(shape) == 2:
        shape = (*shape, 4)
    layer = getattr(bnn, f"{name}{dim}")(3).to(device).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.zeros(shape, device=device, requires_grad=True)
    y = layer(x)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape
    assert layer.weight.grad.eq(0).all()
    assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


@on_every_device
@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm"])
def test_a_constant_channel_is_finite(name, device):
    layer = getattr(bnn, f"{name}1d")(3, **({"r_max": 3.0, "d_max": 5.0} if name == "BatchRenorm" else {})).to(device)
    x = torch.full((6, 3, 4), 7.0, device=device, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@on_every_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm", "ConditionalBatchNorm", "DomainBatchNorm"])
def test_half_precision_has_float32_statistics(name, dtype, device):
    torch.manual_seed(0)
    more = {"BatchRenorm": {"r_max": 3.0, "d_max": 5.0}, "InstanceRenorm": {}}.get(name, {name: 2})
    args = (2,) if name in more else ()
    kwargs = {} if name in more else more
    layer = getattr(bnn, f"{name}2d")(3, *args, **kwargs).to(device)
    exact = getattr(bnn, f"{name}2d")(3, *args, **kwargs).to(device, F64)
    labels = (torch.tensor([0, 1, 1, 0, 1, 1], device=device),) if args else ()
    x = (torch.randn(6, 3, 5, 4, device=device) + 30).to(dtype)  # far from 0: half precision keeps few digits
    dy = torch.randn(6, 3, 5, 4, device=device).to(dtype)
    a, b = x.clone().requires_grad_(), x.to(F64).requires_grad_()
    y, want = layer(a, *labels), exact(b, *labels)
    assert y.dtype == dtype
    # results are rounded once to half precision; sums are float32, of values about 30 away from 0
    rounded = {"rtol": torch.finfo(dtype).eps / 2, "atol": 2e-5}
    assert_close(y.to(F64), want, **rounded)
    y.backward(dy)
    want.backward(dy.to(F64))
    assert a.grad.dtype == dtype
    assert_close(a.grad.to(F64), b.grad, **rounded)
    for p, q in zip(layer.parameters(), exact.parameters(), strict=True):
        assert p.grad.dtype == torch.float32
        assert_close(p.grad.to(F64), q.grad, rtol=1e-5, atol=1e-4)
    assert layer.running_var.dtype == torch.float32
    assert_close(layer.running_mean.to(F64), exact.running_mean, rtol=1e-5, atol=1e-5)
    assert_close(layer.running_var.to(F64), exact.running_var, rtol=1e-5, atol=0)


@on_every_device
@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm", "ConditionalBatchNorm", "DomainBatchNorm"])
@pytest.mark.parametrize(("dim", "shape", "form"), [("2d", (4, 3, 5, 6), "2d"), ("3d", (2, 3, 4, 5, 6), "3d")])
def test_channels_last_gives_the_same_numbers(name, dim, shape, form, device):
    torch.manual_seed(0)
    args = (2,) if name in ("ConditionalBatchNorm", "DomainBatchNorm") else ()
    labels = (torch.arange(shape[0], device=device) % 2,) if args else ()
    layers = [getattr(bnn, f"{name}{dim}")(3, *args).to(device, F64) for _ in range(2)]
    if name == "BatchRenorm":
        layers = [renorm(dim).to(device, F64) for _ in range(2)]
    x = torch.randn(shape, device=device, dtype=F64)
    last = torch.channels_last if form == "2d" else torch.channels_last_3d
    inputs = [x.clone().requires_grad_(), x.clone().contiguous(memory_format=last).requires_grad_()]
    outputs = [layer(v, *labels) for layer, v in zip(layers, inputs, strict=True)]
    dy = torch.randn_like(outputs[0])
    for y in outputs:
        y.backward(dy)
    assert_close(outputs[1].contiguous(), outputs[0], rtol=1e-11, atol=1e-11)
    assert_close(inputs[1].grad.contiguous(), inputs[0].grad, rtol=1e-11, atol=1e-11)
    assert_close(dict(layers[1].state_dict()), dict(layers[0].state_dict()), rtol=1e-11, atol=1e-11)
    if name == "BatchRenorm":
        assert outputs[1].is_contiguous(memory_format=last)


@on_every_device
def test_inputs_that_are_not_contiguous(device):
    whole = torch.randn(6, 5, 8, device=device, dtype=F64)
    for view in (whole[:, ::2], whole.transpose(1, 2)[:, :3], whole[::2, :3, ::3], whole[:1, :3].expand(4, 3, 8)):
        a, b = renorm().to(device, F64), renorm().to(device, F64)
        assert_close(a(view), b(view.contiguous()), rtol=1e-12, atol=1e-12)


# ---- padding


def padded(shape, device, dtype=F64):
    torch.manual_seed(0)
    x = torch.randn(shape, device=device, dtype=dtype)
    mask = torch.rand(shape[0], *shape[2:], device=device) > 0.4
    mask[0] = True
    return x, mask


@of_every_shape
@on_every_device
@pytest.mark.parametrize("training", [True, False])
def test_padding_is_as_if_it_were_not_there(dim, shape, training, device):
    """Values under the mask, laid out as rows of their own, give the same numbers."""
    x, mask = padded(shape, device)
    layer, rows = renorm(dim).to(device, F64).train(training), renorm().to(device, F64).train(training)
    for one in (layer, rows):
        one.running_mean.fill_(0.3)
        one.running_var.fill_(2.0)
    wild = torch.where(mask.unsqueeze(1), x, float("nan")).requires_grad_()
    flat = x.movedim(1, -1)[mask].clone().requires_grad_()
    y, want = layer(wild, mask), rows(flat)
    assert_close(y.movedim(1, -1)[mask], want, rtol=1e-12, atol=1e-12)
    assert y.movedim(1, -1)[~mask].eq(0).all()
    dy = torch.randn_like(want)
    want.backward(dy)
    full = torch.full_like(y, 3.0)  # what flows back into padding goes nowhere
    full.movedim(1, -1)[mask] = dy
    y.backward(full)
    assert_close(wild.grad.movedim(1, -1)[mask], flat.grad, rtol=1e-10, atol=1e-10)
    assert wild.grad.movedim(1, -1)[~mask].eq(0).all()
    assert_close(layer.weight.grad, rows.weight.grad)
    assert_close(layer.bias.grad, rows.bias.grad)
    assert_close(dict(layer.state_dict()), dict(rows.state_dict()), rtol=1e-12, atol=1e-12)


@on_every_device
def test_a_mask_of_ones_is_no_mask(device):
    x = torch.randn(4, 3, 5, device=device)
    a, b = renorm().to(device), renorm().to(device)
    assert_close(a(x, torch.ones(4, 5, dtype=torch.bool, device=device)), b(x))


@on_every_device
@pytest.mark.parametrize("left", [0, 1])
def test_all_but_nothing_or_one_value_is_padding(left, device):
    layer = renorm().to(device)
    mask = torch.zeros(4, 5, dtype=torch.bool, device=device)
    mask.view(-1)[:left] = True
    x = torch.full((4, 3, 5), 3.0, device=device, requires_grad=True)
    y = layer(x, mask)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.eq(0).all()
    assert_close(layer.running_mean, torch.full((3,), 0.3 * left, device=device))
    assert_close(layer.running_var, torch.ones(3, device=device))


@on_every_device
def test_a_minibatch_of_padding_counts_for_nothing(device):
    layer, twin = (renorm(momentum=None).to(device) for _ in range(2))
    x = torch.randn(4, 3, 5, device=device)
    layer(x, torch.zeros(4, 5, dtype=torch.bool, device=device))
    assert int(layer.num_batches_tracked) == 0
    assert_close(layer(x), twin(x))
    assert_close(dict(layer.state_dict()), dict(twin.state_dict()))


@on_every_device
def test_a_mask_that_does_not_fit_moves_nothing(device):
    layer = renorm().to(device)
    with pytest.raises(BatchfixError):
        layer(torch.randn(4, 3, 5, device=device), torch.ones(4, 4, dtype=torch.bool, device=device))
    assert int(layer.num_batches_tracked) == 0


# ---- instance renormalization


@on_every_device
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dim", "shape"), [(d, s) for d, s in EVERY_SHAPE if len(s) > 2], ids=str)
def test_a_blend_of_0_is_instance_norm_and_of_1_is_batch_norm(dim, shape, training, device):
    x = torch.randn(shape, device=device, dtype=F64) * 2 + 1
    state = torch.randn(3, device=device, dtype=F64), torch.rand(3, device=device, dtype=F64) + 0.5
    results = {}
    for blend in (0.0, 0.25, 1.0):
        layer = getattr(bnn, f"InstanceRenorm{dim}")(3, blend=blend).to(device, F64).train(training)
        layer.running_mean.copy_(state[0])
        layer.running_var.copy_(state[1])
        results[blend] = layer(x)
    plain = getattr(nn, f"BatchNorm{dim}")(3).to(device, F64).train(training)
    plain.running_mean.copy_(state[0])
    plain.running_var.copy_(state[1])
    instance = getattr(nn, f"InstanceNorm{dim}")(3).to(device, F64)
    assert_close(results[0.0], instance(x), rtol=1e-12, atol=1e-12)
    assert_close(results[1.0], plain(x), rtol=1e-12, atol=1e-12)
    # linear in (r, d): linear in the blend
    assert_close(results[0.25], 0.75 * results[0.0] + 0.25 * results[1.0], rtol=1e-12, atol=1e-12)
    if training:
        assert_close(layer.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
        assert_close(layer.running_var, plain.running_var, rtol=1e-12, atol=1e-12)


def test_a_learned_blend_learns_within_its_range_and_comes_back_from_its_edge():
    torch.manual_seed(0)
    layer = bnn.InstanceRenorm1d(2, blend=1.0, learn_blend=True)
    x = torch.randn(8, 2, 16) * torch.rand(8, 2, 1) + torch.randn(8, 2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for target, end in ((nn.BatchNorm1d(2), 1.0), (nn.InstanceNorm1d(2), 0.0)):
        for _ in range(200):
            optimizer.zero_grad()
            loss = (layer(x) - target(x)).square().mean()
            loss.backward()
            optimizer.step()
        assert loss < 1e-2
        assert_close(layer.blend.detach().clamp(0, 1), torch.full((2,), end), rtol=0, atol=0.1)


def test_an_empty_minibatch_gives_a_learned_blend_a_gradient():
    layer = bnn.InstanceRenorm1d(2, learn_blend=True)
    layer(torch.zeros(0, 2, 4)).sum().backward()
    assert layer.blend.grad.eq(0).all()


def test_reset_parameters_starts_the_blend_anew():
    layer = bnn.InstanceRenorm1d(2, blend=0.25, learn_blend=True)
    nn.init.constant_(layer.blend, 0.9)
    layer.reset_parameters()
    assert layer.blend.eq(0.25).all()


def test_numbers_of_numpy_are_numbers():
    layer = bnn.BatchRenorm1d(np.int64(3), eps=np.float32(1e-3), r_max=np.float32(2.0), momentum=np.float64(0.2))
    assert layer(torch.randn(4, 3)).shape == (4, 3)


# ---- wrong use


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bnn.BatchRenorm1d(0), ("num_features", "positive whole", "0")),
        (lambda: bnn.BatchRenorm1d(2.0), ("num_features", "2.0")),
        (lambda: bnn.BatchRenorm1d(True), ("num_features", "True")),
        (lambda: bnn.BatchRenorm1d(3, eps=0.0), ("eps", "positive", "0.0")),
        (lambda: bnn.BatchRenorm1d(3, eps=-1e-5), ("eps", "-1e-05")),
        (lambda: bnn.BatchRenorm1d(3, eps=float("nan")), ("eps", "nan")),
        (lambda: bnn.BatchRenorm1d(3, eps="small"), ("eps", "'small'")),
        (lambda: bnn.BatchRenorm1d(3, momentum=1.5), ("momentum", "0 to 1", "1.5")),
        (lambda: bnn.BatchRenorm1d(3, momentum="slow"), ("momentum", "'slow'")),
        (lambda: bnn.BatchRenorm1d(3, r_max=0.5), ("r_max", "at least 1", "0.5")),
        (lambda: bnn.BatchRenorm1d(3, r_max=bnn.Schedule((0, 0.9), (5, 3.0))), ("r_max", "at least 1", "0.9")),
        (lambda: bnn.BatchRenorm1d(3, r_max=float("inf")), ("r_max", "finite", "inf")),
        (lambda: bnn.BatchRenorm1d(3, r_max=None), ("r_max", "None")),
        (lambda: bnn.BatchRenorm1d(3, d_max=-1.0), ("d_max", "at least 0", "-1")),
        (lambda: bnn.InstanceRenorm1d(3, blend=1.2), ("blend", "0 to 1", "1.2")),
        (lambda: bnn.InstanceRenorm1d(3, blend="half"), ("blend", "'half'")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 5)), ("3 channels", "5", "(4, 5)", "num_features=5")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3, 2, 2)), ("(N, C)", "(N, C, L)", "(4, 3, 2, 2)", "2d")),
        (lambda: bnn.BatchRenorm2d(3)(torch.zeros(4, 3)), ("(N, C, H, W)", "(4, 3)")),
        (lambda: bnn.BatchRenorm3d(3)(torch.zeros(4, 3, 2, 2)), ("(N, C, D, H, W)", "(4, 3, 2, 2)")),
        (lambda: bnn.InstanceRenorm1d(3)(torch.zeros(4, 3)), ("(N, C, L)", "(4, 3)")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(3)), ("(N, C)", "(3,)")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3, dtype=torch.long)), ("floating", "torch.int64", ".float()")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3, dtype=torch.complex64)), ("floating", "complex64")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3, dtype=F64)), ("torch.float32", "torch.float64", ".to(dtype)")),
        (lambda: bnn.BatchRenorm1d(3, dtype=F64)(torch.zeros(4, 3).half()), ("torch.float64", "torch.float16")),
        (lambda: bnn.BatchRenorm1d(3).bfloat16()(torch.zeros(4, 3).half()), ("torch.bfloat16", "torch.float16")),
        (lambda: bnn.BatchRenorm1d(3)([1.0]), ("x", "torch.Tensor", "list")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3), [True] * 4), ("mask", "torch.Tensor", "list")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3), torch.ones(4)), ("mask", "bool", "torch.float32")),
        (lambda: bnn.BatchRenorm1d(3)(torch.zeros(4, 3), torch.ones(4, 3, dtype=bool)), ("mask", "(4,)", "(4, 3)")),
        (lambda: bnn.BatchRenorm1d(3).eval()(torch.zeros(4, 3), torch.ones(3, dtype=bool)), ("mask", "(4,)", "(3,)")),
    ],
)
def test_wrong_use_says_what_must_hold_what_came_and_what_to_do(make, words):
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_it_says_what_it_is():
    assert repr(bnn.BatchRenorm1d(3)) == (
        "BatchRenorm1d(3, eps=1e-05, momentum=0.1, affine=True, r_max=Schedule((5000, 1), (40000, 3)), "
        "d_max=Schedule((5000, 0), (25000, 5)))"
    )
    assert "blend=0.5, learn_blend=True" in repr(bnn.InstanceRenorm2d(3, learn_blend=True))


def test_a_layer_without_weight_and_bias():
    layer = renorm(affine=False)
    assert list(layer.parameters()) == []
    x = torch.randn(6, 3, requires_grad=True)
    twin = renorm()
    assert_close(layer(x), twin(x))


def test_limits_may_be_set_later_and_are_checked_then():
    layer = bnn.BatchRenorm1d(3)
    layer.r_max, layer.d_max = 2.0, bnn.Schedule((0, 0.0), (10, 1.0))
    assert (layer.r_max(0), layer.d_max(5)) == (2.0, 0.5)
    with pytest.raises(BatchfixError, match=r"r_max must be at least 1.*got 0\.5"):
        layer.r_max = 0.5
    assert layer.r_max(0) == 2.0


@pytest.mark.parametrize("name", ["BatchRenorm", "InstanceRenorm", "ConditionalBatchNorm", "DomainBatchNorm"])
@pytest.mark.parametrize(("dim", "shape"), [("1d", (4, 3)), ("1d", (4, 3, 5)), ("2d", (4, 3, 5, 2))])
@pytest.mark.parametrize("training", [True, False])
def test_what_comes_after_may_work_in_place(name, dim, shape, training):
    if name == "InstanceRenorm" and len(shape) == 2:
        shape = (*shape, 4)
    args = (2,) if name in ("ConditionalBatchNorm", "DomainBatchNorm") else ()
    labels = (torch.arange(4) % 2,) if args else ()
    layer = getattr(bnn, f"{name}{dim}")(3, *args).train(training)
    twin = getattr(bnn, f"{name}{dim}")(3, *args).train(training)
    x = torch.randn(shape)
    nn.ReLU(inplace=True)(layer(x, *labels)).square().sum().backward()
    nn.ReLU()(twin(x, *labels)).square().sum().backward()
    assert_close(layer.weight.grad, twin.weight.grad)
