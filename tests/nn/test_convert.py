"""Converted layers are of another kind, with the same tensors: everything that a model learned stays."""

import copy
import warnings

import pytest

pytest.importorskip("torch", reason="the layers are torch's")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchfix import nn as bnn
from batchfix.exceptions import BatchfixError, BatchfixWarning, DroppedStatisticsWarning
from batchfix.nn import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    ConditionalBatchNorm2d,
    DomainBatchNorm2d,
    InstanceRenorm1d,
    InstanceRenorm2d,
    InstanceRenorm3d,
)
from batchfix.nn.convert import convert
from batchfix.nn.freeze import Frozen, freeze, unfreeze

KINDS = {
    "batch_renorm": (BatchRenorm1d, BatchRenorm2d, BatchRenorm3d),
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "instance_renorm": (InstanceRenorm1d, InstanceRenorm2d, InstanceRenorm3d),
}
SHAPES = {1: (4, 6, 7), 2: (4, 6, 5, 3), 3: (4, 6, 2, 3, 4)}
from_and_to = pytest.mark.parametrize(("source", "to"), [(a, b) for a in KINDS for b in KINDS if a != b])
in_all_dims = pytest.mark.parametrize("dims", [1, 2, 3])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def trained(layer, dims=2):
    """A layer that has seen and learned something."""
    nn.init.normal_(layer.weight)
    layer.bias.data.normal_()
    layer(torch.randn(SHAPES[dims]).to(layer.weight.dtype) * 2 + 1)
    return layer


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def a_net():
    """Norms side by side, nested, and one that occurs twice."""
    shared = nn.BatchNorm2d(4)
    inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, momentum=None, affine=False))
    return nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.ReLU(), inner, nn.Sequential(shared, nn.LayerNorm(3)))


# ---- what is kept


@from_and_to
@in_all_dims
def test_everything_that_both_kinds_know_is_kept(source, to, dims):
    old = trained(KINDS[source][dims - 1](6, eps=0.02, momentum=None, dtype=torch.float64), dims).eval()
    old.bias.requires_grad_(False)
    before = copy.deepcopy(old)
    new = convert(old, to)
    assert type(new) is KINDS[to][dims - 1]
    assert same_state(new, before)
    assert all(new.get_parameter(name) is p for name, p in old.named_parameters())
    assert (new.eps, new.momentum, new.training, new.affine) == (0.02, None, False, True)
    assert not new.bias.requires_grad
    if "instance_renorm" not in (source, to):
        x = torch.randn(SHAPES[dims]).double()
        assert torch.equal(new(x), before(x))


@pytest.mark.parametrize("to", ["batch_renorm", "instance_renorm"])
def test_there_and_back_the_state_is_the_same(to):
    net = a_net()
    net(torch.randn(8, 3, 5, 5))
    before, text = copy.deepcopy(net), repr(net)
    assert convert(convert(net, to), "batch_norm") is net
    assert same_state(net, before)
    assert repr(net) == text


def test_without_corrections_renorm_trains_as_batch_norm_does():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    x, labels = torch.randn(8, 3, 5, 5).double(), torch.arange(8) % 3
    plain(x)
    other = copy.deepcopy(plain)
    optimizers = [torch.optim.Adam(net.parameters()) for net in (plain, other)]
    convert(other, "batch_renorm", r_max=1, d_max=0)  # after the optimizer was made
    for _ in range(5):
        for net, optimizer in zip((plain, other), optimizers, strict=True):
            optimizer.zero_grad()
            cross_entropy(net(x), labels).backward()
            optimizer.step()
    assert same_state(plain, other)
    assert torch.equal(plain(x), other(x))
    assert torch.equal(plain.eval()(x), other.eval()(x))


def test_all_layers_are_replaced_in_place_and_a_shared_one_stays_shared():
    net = a_net().eval()
    net[1].train()  # mixed modes
    others = [net[0], net[2], net[3], net[3][0], net[4], net[4][1]]
    assert convert(net, "batch_renorm", r_max=2.0) is net
    assert [net[0], net[2], net[3], net[3][0], net[4], net[4][1]] == others
    assert type(net[1]) is type(net[3][1]) is BatchRenorm2d
    assert net[4][0] is net[1]
    assert [module.training for module in (net, net[1], net[3][1])] == [False, True, False]
    assert net[3][1].weight is None
    assert net[3][1].momentum is None
    assert net[1].r_max(10**6) == 2.0


def test_a_weight_may_come_without_a_bias():
    layer = nn.BatchNorm2d(6)
    layer.bias = None
    new, x = convert(layer, "batch_renorm", r_max=1, d_max=0), torch.randn(SHAPES[2])
    assert new.bias is None
    assert torch.equal(new(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_device_and_dtype_are_those_of_the_old_layer(dtype):
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.InstanceNorm1d(6)).to(dtype).to("meta")
    with pytest.warns(BatchfixWarning, match="start at mean 0 and variance 1 in layer '2'"):
        convert(net, "batch_renorm")
    for tensor in (*net.parameters(), *net.buffers()):
        assert tensor.device.type == "meta"
        assert tensor.dtype in (dtype, torch.long)
    mixed = nn.BatchNorm1d(6).half()
    mixed.running_mean = mixed.running_mean.float()
    assert convert(mixed, "batch_renorm").running_mean.dtype == torch.float32


@pytest.mark.parametrize("to", KINDS)
def test_layers_of_the_kind_already_are_left_alone_or_get_the_options(to):
    layer = trained(KINDS[to][1](6, eps=0.01))
    net = nn.Sequential(layer)
    assert convert(net, to)[0] is layer
    convert(net, to, momentum=0.7)
    assert net[0] is not layer
    assert (net[0].eps, net[0].momentum) == (0.01, 0.7)
    assert same_state(net[0], layer)


def test_options_that_nobody_asks_to_change_stay():
    layer = convert(convert(nn.BatchNorm2d(6), "batch_renorm", r_max=2.0, d_max=1.0), "batch_renorm", d_max=4.0)
    assert (layer.r_max(0), layer.d_max(0)) == (2.0, 4.0)
    blended = InstanceRenorm2d(6, blend=0.3, learn_blend=True)
    again = convert(blended, "instance_renorm", eps=0.1)
    assert again.blend is blended.blend
    assert convert(nn.BatchNorm2d(6), "instance_renorm", blend=0.3).blend == 0.3


# ---- statistics that have no place, or are not there


@in_all_dims
def test_group_norm_keeps_weights_and_drops_statistics_with_a_warning(dims):
    old = trained(KINDS["batch_norm"][dims - 1](6, eps=0.1), dims)
    with pytest.warns(DroppedStatisticsWarning, match="no place in group_norm is dropped, .* of the model"):
        new = convert(old, "group_norm", num_groups=3)
    assert type(new) is nn.GroupNorm
    assert new.weight is old.weight
    assert new.bias is old.bias
    x = torch.randn(SHAPES[dims])
    torch.testing.assert_close(new(x), nn.functional.group_norm(x, 3, old.weight, old.bias, 0.1))


def test_one_warning_names_all_layers():
    with pytest.warns(DroppedStatisticsWarning) as caught:
        convert(a_net(), "group_norm", num_groups=2)
    (warning,) = caught
    assert "of layer '1', layer '3.1'." in str(warning.message)
    assert warning.filename == __file__


def test_layers_that_track_nothing_track_nothing_as_batch_norm_and_start_afresh_as_renorm():
    layer = nn.BatchNorm2d(6, track_running_stats=False)
    assert convert(layer, "batch_norm") is layer
    assert convert(layer, "batch_norm", eps=0.1).running_mean is None
    with pytest.warns(BatchfixWarning, match=r"start at mean 0 and variance 1 in the model. Train, or call adapt\("):
        new = convert(layer, "batch_renorm")
    assert new.weight is layer.weight
    assert new.running_var.tolist() == [1.0] * 6
    assert convert(layer, "group_norm", num_groups=2).weight is layer.weight  # nothing to drop, no warning


@pytest.mark.filterwarnings("ignore:Running statistics:batchfix.exceptions.BatchfixWarning")
def test_instance_norm_is_instance_renorm_without_blend():
    old = trained(nn.InstanceNorm2d(6, affine=True, eps=0.01, dtype=torch.float64))
    new, x = convert(old, "instance_renorm", blend=0.0), torch.randn(SHAPES[2]).double()
    torch.testing.assert_close(new(x), old(x), rtol=1e-12, atol=1e-12)
    tracking = trained(nn.InstanceNorm2d(6, affine=True, track_running_stats=True))
    with pytest.warns(DroppedStatisticsWarning, match="of the model"):
        new = convert(tracking, "batch_norm")
    assert type(new) is nn.BatchNorm2d
    assert new.running_var.tolist() == [1.0] * 6  # the variance within instances is not that of batches


@pytest.mark.filterwarnings("ignore:Running statistics:batchfix.exceptions.BatchfixWarning")
def test_dims_are_asked_of_layers_that_do_not_say_theirs():
    net = nn.Sequential(nn.SyncBatchNorm(6), nn.GroupNorm(3, 6), nn.BatchNorm3d(6))
    with pytest.raises(BatchfixError, match=r"dims must be given .* layer '0' is a SyncBatchNorm. Pass dims=2"):
        convert(net, "batch_renorm")
    assert type(net[2]) is nn.BatchNorm3d
    before = copy.deepcopy(net[0])
    convert(net, "batch_renorm", dims=2)
    assert [type(layer) for layer in net] == [BatchRenorm2d, BatchRenorm2d, BatchRenorm3d]
    assert same_state(net[0], before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedStatisticsWarning)
        convert(nn.SyncBatchNorm(6), "group_norm", num_groups=2)  # takes any


def test_a_learned_blend_that_is_lost_is_told():
    layer = freeze(InstanceRenorm2d(6, learn_blend=True), weights=True)
    with pytest.warns(DroppedStatisticsWarning, match="a learned blend, of the model"):
        new = convert(layer, "batch_norm")
    assert unfreeze(new).weight.requires_grad
    with pytest.warns(DroppedStatisticsWarning, match="a learned blend, of the model"):
        other = convert(InstanceRenorm2d(6, learn_blend=True), "instance_renorm", blend=0.2)
    torch.testing.assert_close(other.blend.data, torch.full((6,), 0.2))


def test_a_warning_that_is_an_error_leaves_the_model_as_it_was():
    net = a_net()
    before = list(net.modules())
    with pytest.raises(DroppedStatisticsWarning):
        convert(net, "group_norm", num_groups=2)  # warnings are errors here
    assert list(net.modules()) == before


# ---- frozen layers, and layers with labels


def test_frozen_stays_frozen():
    net = nn.Sequential(trained(nn.BatchNorm2d(6)))
    x = torch.randn(SHAPES[2])
    freeze(net, weights=True).train()
    want, before = net(x), copy.deepcopy(net)
    convert(net, "batch_renorm", r_max=3.0)
    assert isinstance(net[0], Frozen)
    assert isinstance(net[0], BatchRenorm2d)
    torch.testing.assert_close(net.train()(x), want)
    assert same_state(net, before)
    thawed = unfreeze(net)[0]
    assert type(thawed) is BatchRenorm2d
    assert thawed.training
    assert thawed.weight.requires_grad


def test_frozen_statistics_are_not_dropped():
    net = nn.Sequential(freeze(nn.BatchNorm2d(6)))
    with pytest.raises(BatchfixError, match="To become GroupNorm, layer '0' must not be frozen"):
        convert(net, "group_norm", num_groups=2)
    assert isinstance(net[0], Frozen)


def test_layers_that_take_labels_are_left_alone():
    labelled = [ConditionalBatchNorm2d(6, 2), DomainBatchNorm2d(6, 2)]
    net = convert(nn.ModuleList([*labelled, nn.BatchNorm2d(6)]), "batch_renorm")
    assert list(net[:2]) == labelled
    assert type(net[2]) is BatchRenorm2d


# ---- what is refused


class Own(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def hooked():
    layer = nn.BatchNorm2d(6)
    layer.register_forward_hook(lambda *_: None)
    return layer


def parametrized():
    layer = nn.BatchNorm2d(6)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    return layer


def patched():
    layer = nn.BatchNorm2d(6)
    layer.forward = lambda x: x
    return layer


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (hooked, "layer '1' must be free of hooks .* it carries _forward_hooks. Remove them"),
        (patched, "layer '1' must be free of hooks .* a forward of its own"),
        (parametrized, "layer '1' must be free of parametrizations"),
        (lambda: Own(6), "layer '1' must be of a class of torch's or ours; got Own"),
        (nn.LazyBatchNorm2d, "layer '1' is a LazyBatchNorm2d, which learns them from its first minibatch"),
        (lambda: nn.BatchNorm2d(6, eps=0), "BatchRenorm2d in the place of layer '1': eps must be a positive number"),
    ],
)
def test_a_layer_that_would_lose_something_gets_a_sentence_and_nothing_is_replaced(layer, sentence):
    net = nn.Sequential(nn.BatchNorm2d(6), layer())
    before = list(net)
    with pytest.raises(BatchfixError, match=sentence):
        convert(net, "batch_renorm")
    assert list(net) == before


def test_num_groups_must_divide_the_channels_of_every_layer():
    net = nn.Sequential(nn.BatchNorm2d(6), nn.Sequential(nn.BatchNorm2d(8)))
    with pytest.raises(BatchfixError, match=r"must divide .* got 3, and layer '1.0' has 8\."):
        convert(net, "group_norm", num_groups=3)
    assert type(net[0]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("model", "to", "options", "sentence"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "batch_norm", {}, "found LayerNorm, Linear"),
        (lambda: ConditionalBatchNorm2d(6, 2), "batch_norm", {}, "found ConditionalBatchNorm2d. Layers that take lab"),
        (lambda: [nn.BatchNorm2d(6)], "batch_norm", {}, "must be a torch.nn.Module; got list"),
        (nn.BatchNorm2d, "layer_norm", {}, "to must be one of 'batch_renorm', .*; got 'layer_norm'"),
        (nn.BatchNorm2d, "batch_renorm", {"rmax": 3}, "Options of batch_renorm are .*, r_max, d_max; got rmax"),
        (nn.BatchNorm2d, "batch_renorm", {"num_groups": 3}, "got num_groups"),
        (nn.BatchNorm2d, "batch_norm", {"affine": False}, "got affine. All else is taken from the old layers"),
        (nn.BatchNorm2d, "batch_renorm", {"r_max": 0.5}, "in the place of the model: r_max must be at least 1"),
        (nn.BatchNorm2d, "batch_norm", {"eps": 0}, "eps must be a positive number"),
        (nn.BatchNorm2d, "batch_norm", {"momentum": 2}, "momentum must be a number from 0 to 1"),
        (nn.BatchNorm2d, "group_norm", {}, "num_groups must be a positive whole number.* got None"),
        (nn.BatchNorm2d, "group_norm", {"num_groups": 0}, "num_groups must be a positive whole number.* got 0"),
        (nn.BatchNorm2d, "batch_renorm", {"dims": 4}, "dims must be 1, 2 or 3.* got 4"),
    ],
)
def test_wrong_use_gets_a_sentence(model, to, options, sentence):
    made = model(6) if isinstance(model, type) else model()
    with pytest.raises(BatchfixError, match=sentence):
        convert(made, to, **options)


def test_synchronised_layers_go_back_to_layers_of_one_process():
    layer = bnn.BatchRenorm2d(3, r_max=2.0, d_max=1.0, eps=0.1)
    model = bnn.convert_sync_batchrenorm(nn.Sequential(nn.Conv2d(2, 3, 1), layer))
    weight, mean = layer.weight, layer.running_mean
    back = bnn.convert(model, "batch_renorm")[1]
    assert type(back) is bnn.BatchRenorm2d
    assert back.weight is weight
    assert back.running_mean is mean
    assert (back.r_max, back.d_max, back.eps) == (layer.r_max, layer.d_max, 0.1)
