"""Frozen layers normalize by their running statistics and keep them, whatever happens to the model around them."""

import copy
import io
import pickle

import pytest

pytest.importorskip("torch", reason="the layers are torch's")

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from batchfix.exceptions import BatchfixError
from batchfix.nn import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    ConditionalBatchNorm2d,
    DomainBatchNorm2d,
    InstanceRenorm2d,
)
from batchfix.nn.freeze import Frozen, freeze, unfreeze

ONE, TWO, THREE = (6, 3), (6, 3, 4, 4), (6, 3, 2, 4, 4)
LAYERS = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), ONE),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), TWO),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3, momentum=None), THREE),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(3), TWO),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), TWO),
    "BatchRenorm1d": (lambda: BatchRenorm1d(3, r_max=3.0, d_max=5.0), ONE),
    "BatchRenorm2d": (lambda: BatchRenorm2d(3, r_max=3.0, d_max=5.0), TWO),
    "BatchRenorm3d": (lambda: BatchRenorm3d(3), THREE),
    "InstanceRenorm2d": (lambda: InstanceRenorm2d(3), TWO),
    "ConditionalBatchNorm2d": (lambda: ConditionalBatchNorm2d(3, 2), TWO),
    "DomainBatchNorm2d": (lambda: DomainBatchNorm2d(3, 2), TWO),
}
LABELLED = ("ConditionalBatchNorm2d", "DomainBatchNorm2d")
of_each_kind = pytest.mark.parametrize("kind", LAYERS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def a_layer(kind):
    """A layer with statistics of its own, and its input."""
    make, shape = LAYERS[kind]
    layer, x = make(), torch.randn(shape)
    for name, buffer in layer.named_buffers():
        if name != "num_batches_tracked":
            buffer.uniform_(0.5, 2.0)
    more = (torch.tensor([0, 1, 1, 0, 1, 0]),) if kind in LABELLED else ()
    return layer, (x, *more)


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def as_it_is(model):
    return model


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


@of_each_kind
@pytest.mark.parametrize("way", [as_it_is, copy.deepcopy, copy.copy, through_pickle, through_save])
def test_in_training_a_frozen_layer_is_what_it_is_in_eval(kind, way):
    layer, inputs = a_layer(kind)
    want, before = layer.eval()(*inputs), copy.deepcopy(layer)
    parent = way(freeze(nn.ModuleList([layer.train()])))
    frozen = parent.train()[0]
    assert not frozen.training
    for _ in range(2):
        torch.testing.assert_close(frozen(*inputs), want, rtol=0, atol=0)
    assert same_state(frozen, before)
    assert isinstance(frozen, Frozen)
    assert isinstance(frozen, type(before))
    assert repr(frozen).startswith(f"Frozen{kind}(3, ")
    thawed = unfreeze(parent)[0]
    assert type(thawed) is type(before)
    assert thawed.training
    assert vars(thawed).keys() == vars(before).keys()


@of_each_kind
def test_statistics_that_are_loaded_are_those_it_keeps_to(kind):
    (other, inputs), (layer, _) = a_layer(kind), a_layer(kind)
    want = other.eval()(*inputs)
    freeze(layer).load_state_dict(other.state_dict())
    torch.testing.assert_close(layer.train()(*inputs), want, rtol=0, atol=0)
    assert same_state(layer, other)


@of_each_kind
def test_weights_still_learn_unless_they_are_frozen_too(kind):
    layer, inputs = a_layer(kind)
    freeze(layer).train()(*inputs).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.bias.requires_grad_(False)  # frozen by the user
    freeze(layer, weights=True)
    assert not any(p.requires_grad for p in layer.parameters())
    unfreeze(layer)
    assert {name for name, p in layer.named_parameters() if not p.requires_grad} == {"bias"}


def test_a_learned_blend_is_frozen_with_the_weights():
    layer = freeze(InstanceRenorm2d(3, learn_blend=True), weights=True)
    assert not layer.blend.requires_grad
    assert unfreeze(layer).blend.requires_grad


def test_only_layers_that_keep_statistics_are_frozen():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False)
    )
    freeze(model, weights=True)
    assert [isinstance(layer, Frozen) for layer in model] == [False, True, False, False]
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False, True, True, True, True]


def test_thawed_layers_are_in_the_mode_last_asked_for():
    model = nn.Sequential(nn.BatchNorm1d(3)).eval()
    assert not unfreeze(freeze(model))[0].training
    assert unfreeze(freeze(model).train())[0].training
    freeze(freeze(model).eval())  # twice is once
    assert not unfreeze(model)[0].training


def test_a_shared_weight_learns_again():
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    second.weight = first.weight
    model = freeze(nn.Sequential(first, second), weights=True)
    assert not first.weight.requires_grad
    assert all(p.requires_grad for p in unfreeze(model).parameters())


def test_a_class_of_ones_own_is_frozen_as_it_is():
    class Doubled(nn.BatchNorm1d):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = Doubled(3), torch.randn(4, 3)
    layer(x)
    want = layer.eval()(x)
    frozen = freeze(nn.Sequential(layer)).train()
    assert torch.equal(copy.deepcopy(frozen)(x), want)
    assert isinstance(frozen[0], Doubled)


def test_reset_and_update_bn_leave_frozen_statistics_alone():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model(torch.randn(8, 3) + 5)
    freeze(model[0])
    before = copy.deepcopy(model)
    update_bn([torch.randn(8, 3) + 5], model)
    assert same_state(model[0], before[0])
    assert not same_state(model[1], before[1])
    model[0].reset_running_stats()
    assert same_state(model[0], before[0])


@pytest.mark.parametrize("kind", ["BatchNorm2d", "BatchRenorm2d", "InstanceRenorm2d"])
def test_a_compiled_model_follows(kind):
    layer, (x,) = a_layer(kind)
    model = nn.Sequential(layer).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(x)
    freeze(model).train()
    before = copy.deepcopy(layer)
    torch.testing.assert_close(compiled(x), model(x))
    assert same_state(layer, before)
    unfreeze(model).train()
    compiled(x)
    assert not same_state(layer, before)


def test_a_frozen_model_is_exported():
    model, x = freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.export.export(model.eval(), (x,)).module()(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_frozen_model_is_scripted():
    model, x = freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


@pytest.mark.parametrize(
    ("model", "act", "sentence"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), freeze, "found LayerNorm, Linear"),
        (
            lambda: nn.BatchNorm1d(3, track_running_stats=False),
            freeze,
            "found BatchNorm1d without running statistics",
        ),
        (lambda: nn.Sequential(nn.LazyBatchNorm1d()), freeze, "must know its channels; layer '0' is a LazyBatchNorm1d"),
        (lambda: "a model", freeze, "torch.nn.Module; got str"),
        (lambda: nn.BatchNorm1d(3), unfreeze, r"with frozen layers; found BatchNorm1d. Call freeze\(\)"),
        (lambda: 3, unfreeze, "torch.nn.Module; got int"),
    ],
)
def test_what_cannot_be_frozen_gets_a_sentence(model, act, sentence):
    with pytest.raises(BatchfixError, match=sentence):
        act(model())


def test_parametrized_layers_get_a_sentence_and_nothing_is_frozen():
    def parametrized(layer):
        torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())

    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    parametrized(model[1])
    with pytest.raises(BatchfixError, match="layer '1' must be free of parametrizations"):
        freeze(model)
    assert type(model[0]) is nn.BatchNorm1d
    model = freeze(nn.Sequential(nn.BatchNorm1d(3)))
    parametrized(model[0])
    with pytest.raises(BatchfixError, match="layer '0' must be free of parametrizations"):
        unfreeze(model)
