"""FeatureGroupNorm and HeadNorm: groups of unequal size, their order, their means, loud heads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from batchfix import nn as bnn
from batchfix.exceptions import BatchfixError

F64 = torch.float64
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
on_every_device = pytest.mark.parametrize("device", DEVICES)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.booleans())
def test_each_group_is_layer_norm_of_its_features(labels, means):
    torch.manual_seed(len(labels))
    layer = bnn.FeatureGroupNorm(labels, return_group_means=means, dtype=F64)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(5, 2, len(labels), dtype=F64)
    y = layer(x)
    assert layer.labels == sorted(set(labels))
    assert y.shape == (5, 2, layer.out_features)
    for k, label in enumerate(layer.labels):
        where = torch.tensor([i for i, one in enumerate(labels) if one == label])
        want = nn.functional.layer_norm(x[..., where], (len(where),), layer.weight[where], layer.bias[where], layer.eps)
        assert_close(y[..., where], want, rtol=1e-12, atol=1e-12)
        if means:
            assert_close(y[..., len(labels) + k], x[..., where].mean(-1), rtol=1e-12, atol=1e-12)


@on_every_device
def test_groups_of_equal_neighbours_are_group_norm(device):
    x = torch.randn(6, 8, device=device, dtype=F64)
    layer = bnn.FeatureGroupNorm([0, 0, 1, 1, 2, 2, 3, 3]).to(device, F64)
    assert_close(layer(x), nn.GroupNorm(4, 8).to(device, F64)(x), rtol=1e-12, atol=1e-12)
    assert_close(bnn.HeadNorm(4).to(device, F64)(x), layer(x), rtol=1e-12, atol=1e-12)


@given(st.permutations(range(7)))
def test_the_order_of_features_is_of_no_consequence(order):
    labels = list("abacabb")
    torch.manual_seed(0)
    x = torch.randn(3, 7, dtype=F64)
    a = bnn.FeatureGroupNorm(labels, dtype=F64)(x)
    b = bnn.FeatureGroupNorm([labels[i] for i in order], dtype=F64)(x[:, order])
    assert_close(b, a[:, order], rtol=1e-12, atol=1e-12)


@on_every_device
def test_a_group_of_one_comes_out_as_its_bias_and_its_value_as_the_mean(device):
    layer = bnn.FeatureGroupNorm(["a", "b", "b"], return_group_means=True).to(device)
    nn.init.normal_(layer.bias)
    x = torch.randn(4, 3, device=device, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert_close(y[:, 0], layer.bias[0].expand(4))
    assert_close(y[:, 3], x[:, 0])
    assert x.grad.isfinite().all()


@on_every_device
def test_labels_may_be_numbers_arrays_and_tensors(device):
    x = torch.randn(4, 3, device=device)
    want = bnn.FeatureGroupNorm([7, 3, 7]).to(device)(x)
    for groups in (torch.tensor([7, 3, 7]), torch.tensor([7, 3, 7]).numpy(), (7, 3, 7), [7.0, 3.0, 7.0]):
        assert_close(bnn.FeatureGroupNorm(groups).to(device)(x), want)


@on_every_device
def test_one_loud_head_leaves_the_others_alone(device):
    torch.manual_seed(0)
    x = torch.randn(5, 6, 16, device=device)
    loud = x.clone()
    loud[..., :4] *= 1e4
    layer = bnn.HeadNorm(4).to(device)
    assert_close(layer(loud)[..., 4:], layer(x)[..., 4:], rtol=0, atol=0)
    # eps = 1e-5 beside a variance of .1 or more (four values a head) is 1e-4 of it, half of that in the scale
    assert_close(layer(loud), layer(x), rtol=1e-4, atol=1e-4)
    drowned = nn.LayerNorm(16).to(device)(loud)[..., 4:]
    assert drowned.std(-1).max() < 0.01


@on_every_device
@pytest.mark.parametrize("make", [lambda: bnn.FeatureGroupNorm(list("abab")), lambda: bnn.HeadNorm(2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(make, dtype, device):
    layer = make().to(device)
    x = (torch.randn(3, 4, device=device) + 20).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert_close(y.float(), layer(x.float()), rtol=torch.finfo(dtype).eps / 2, atol=1e-5)  # rounded once
    with torch.autocast(device, dtype):
        assert layer(x.float()).isfinite().all()


@on_every_device
@pytest.mark.parametrize("make", [lambda: bnn.FeatureGroupNorm(list("abb")), lambda: bnn.HeadNorm(1)])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_an_empty_minibatch_passes(make, shape, device):
    x = torch.zeros(shape, device=device, requires_grad=True)
    y = make().to(device)(x)
    assert y.shape == shape
    y.sum().backward()


def test_state_and_device():
    layer = bnn.FeatureGroupNorm(list("baba"))
    assert list(layer.state_dict()) == ["weight", "bias", "order", "back"]
    assert bnn.FeatureGroupNorm(list("ba"), affine=False).weight is None
    assert bnn.HeadNorm(2, affine=False).bias is None
    assert bnn.HeadNorm(2, dtype=F64).weight.dtype == F64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bnn.FeatureGroupNorm([]), ("one label for each feature", "[]")),
        (lambda: bnn.FeatureGroupNorm([1.0, float("nan")]), ("none of them missing", "nan")),
        (lambda: bnn.FeatureGroupNorm(["a", 1]), ("sort", "'a'")),
        (lambda: bnn.FeatureGroupNorm([[1], [2]]), ("hash", "[[1], [2]]")),
        (lambda: bnn.FeatureGroupNorm(3), ("sequence", "one label for each feature", "got 3")),
        (lambda: bnn.FeatureGroupNorm(torch.zeros(2, 2)), ("sequence", "one label", "tensor")),
        (lambda: bnn.FeatureGroupNorm(["a"], eps=0.0), ("eps", "positive", "0.0")),
        (lambda: bnn.FeatureGroupNorm(list("abb"))(torch.zeros(2, 4)), ("3 features", "(2, 4)")),
        (lambda: bnn.FeatureGroupNorm(list("abb"))(torch.zeros(())), ("3 features", "()")),
        (lambda: bnn.FeatureGroupNorm(list("abb"))(torch.zeros(2, 3, dtype=torch.long)), ("floating", "int64")),
        (lambda: bnn.HeadNorm(0), ("num_heads", "positive whole", "0")),
        (lambda: bnn.HeadNorm(2, eps=-1), ("eps", "-1")),
        (lambda: bnn.HeadNorm(3)(torch.zeros(2, 8)), ("3 heads", "(2, 8)", "side by side")),
        (lambda: bnn.HeadNorm(3)(torch.zeros(2, 3)), ("two or more features", "(2, 3)")),
        (lambda: bnn.HeadNorm(3)(torch.zeros(2, 6).int()), ("floating", "int32")),
    ],
)
def test_wrong_use_says_what_must_hold_what_came_and_what_to_do(make, words):
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
