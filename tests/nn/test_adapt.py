"""Adapted statistics are those of all samples at once, however they come; everything else stays as it was."""

import copy
import io
import sys
from collections import namedtuple
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the layers are torch's")

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from batchfix.exceptions import AdaptationWarning, BatchfixError
from batchfix.nn import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    ConditionalBatchNorm1d,
    ConditionalBatchNorm2d,
    DomainBatchNorm1d,
    DomainBatchNorm2d,
    InstanceRenorm1d,
    InstanceRenorm3d,
)
from batchfix.nn.adapt import adapt
from batchfix.nn.freeze import freeze

ONE, LINE, IMAGE, VOLUME = (), (5,), (3, 2), (2, 1, 3)
LAYERS = {
    "BatchNorm1d": (nn.BatchNorm1d, ONE),
    "BatchNorm1d of lines": (nn.BatchNorm1d, LINE),
    "BatchNorm2d": (nn.BatchNorm2d, IMAGE),
    "BatchNorm3d": (nn.BatchNorm3d, VOLUME),
    "SyncBatchNorm": (nn.SyncBatchNorm, IMAGE),
    "BatchRenorm1d": (lambda c: BatchRenorm1d(c, r_max=3.0, d_max=5.0), ONE),
    "BatchRenorm2d": (BatchRenorm2d, IMAGE),
    "BatchRenorm3d": (BatchRenorm3d, VOLUME),
    "InstanceRenorm1d": (InstanceRenorm1d, LINE),
    "InstanceRenorm3d": (InstanceRenorm3d, VOLUME),
}
of_each_kind = pytest.mark.parametrize("kind", LAYERS)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pooled(x):
    """Mean and variance of each channel, as torch takes them of all values at once."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes, correction=1)


def close(layer, want, tolerance=1e-12):
    for got, value in zip((layer.running_mean, layer.running_var), want, strict=True):
        torch.testing.assert_close(got, value.to(got.dtype), rtol=tolerance, atol=tolerance)


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def a_net(norm=nn.BatchNorm1d):
    """Two norms, one behind the other, in float64, with dropout between, and statistics of another domain."""
    net = nn.Sequential(nn.Linear(3, 4), norm(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 3), norm(3)).double()
    for layer in (net[1], net[5]):
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    return net


# ---- the statistics


@of_each_kind
@given(seed=seeds, cuts=st.lists(st.integers(0, 20), max_size=5), offset=st.sampled_from([0.0, 1000.0]))
@settings(max_examples=15, deadline=None)
def test_pooled_statistics_are_those_of_all_samples_at_once(kind, seed, cuts, offset):
    make, shape = LAYERS[kind]
    random = torch.Generator().manual_seed(seed % 2**31)
    x = offset + torch.randn(20, 3, *shape, generator=random, dtype=torch.float64) * torch.tensor(
        [1.0, 5.0, 0.1]
    ).reshape(3, *[1] * len(shape))
    layer = make(3).double()
    edges = sorted({0, 20, *cuts})
    minibatches = [x[a:b] for a, b in pairwise(edges)] + [x[:0]]
    adapt(layer, minibatches, progress=False)
    close(layer, pooled(x))


def test_deeper_layers_see_minibatches_that_are_normalized_by_themselves():
    net, minibatches = a_net(), [torch.randn(n, 3).double() * 3 + 2 for n in (4, 7, 2)]
    reached, weight, bias = [], net[1].weight, net[1].bias
    for x in minibatches:
        h = net[0](x)
        z = (h - h.mean(0)) / torch.sqrt(h.var(0, correction=0) + 1e-5)
        reached.append(net[4](torch.relu(weight * z + bias)))
    adapt(net, minibatches, progress=False)
    close(net[1], pooled(net[0](torch.cat(minibatches))))
    close(net[5], pooled(torch.cat(reached)))


@pytest.mark.parametrize("norm", [lambda c: BatchRenorm1d(c, r_max=3.0, d_max=5.0), nn.SyncBatchNorm])
def test_renorm_and_sync_adapt_as_batch_norm_does(norm):
    plain, other = a_net(), a_net(norm)
    other.load_state_dict(plain.state_dict())
    minibatches = [torch.randn(n, 3).double() for n in (4, 1, 6)]
    for net in (plain, other):
        adapt(net, minibatches, progress=False)
    for i in (1, 5):
        close(other[i], (plain[i].running_mean, plain[i].running_var))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_narrower_values_are_pooled_in_float64(dtype, offset):
    x = (offset + torch.randn(4096, 2)).to(dtype)
    layer = nn.BatchNorm1d(2, dtype=dtype)
    adapt(layer, x.split(8), progress=False)
    close(layer, pooled(x.double()), tolerance=0)  # rounded once, when they are stored


def test_large_minibatches_are_taken_in_pieces(monkeypatch):
    monkeypatch.setattr(sys.modules[adapt.__module__], "PIECE", 8)
    x = torch.randn(7, 3, 2, 2).double()
    close(adapt(nn.BatchNorm2d(3).double(), [x], progress=False), pooled(x))


def test_pooling_beats_moving_averages_and_means_of_biased_variances():
    # 32 samples of 20,000 channels of true variance 1, four at a time: theory says sqrt(2 / 31) = 0.254 pooled
    samples = torch.randn(32, 20_000)

    def error(var):
        return float((var - 1).square().mean().sqrt())

    layer = adapt(nn.BatchNorm1d(20_000), samples.split(4), progress=False)
    moved = nn.BatchNorm1d(20_000)
    moved.running_var.fill_(1.75)  # another domain's
    for minibatch in samples.split(4):
        moved(minibatch)
    biased = {n: error(samples.unflatten(0, (-1, n)).var(1, correction=0).mean(0)) for n in (2, 4)}
    assert error(layer.running_var) == pytest.approx(0.254, abs=0.005)
    assert biased[4] == pytest.approx(0.33, abs=0.01)
    assert biased[2] == pytest.approx(0.53, abs=0.01)
    assert error(moved.running_var) == pytest.approx(0.36, abs=0.01)


@pytest.mark.parametrize("prior", [0, 3.5, 16])
def test_prior_counts_as_so_many_samples(prior):
    layer, x = nn.BatchNorm2d(3).double(), torch.randn(8, 3, 4, 5).double() * 2 + 1
    old = layer.running_mean.uniform_(-2, 2).clone(), layer.running_var.uniform_(1, 5).clone()
    adapt(layer, x.split(3), prior=prior, progress=False)
    w = 8 / (8 + prior)  # images, not pixels
    close(layer, [(1 - w) * a + w * b for a, b in zip(old, pooled(x), strict=True)])


def test_a_layer_used_twice_pools_both_and_counts_samples_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3).double()

        def forward(self, x):
            return self.norm(self.norm(x) * 4 + 1)

    net, x = Twice(), torch.randn(6, 3).double()
    z = (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)
    both = torch.cat([x, 4 * z + 1])
    close(adapt(copy.deepcopy(net), [x], progress=False).norm, pooled(both))
    mean, var = pooled(both)
    close(adapt(net, [x], prior=6, progress=False).norm, (mean / 2, (var + 1) / 2))


def test_padding_is_left_out():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = BatchRenorm1d(3).double()

        def forward(self, x, mask):
            return self.norm(x, mask=mask)

    x, mask = torch.randn(6, 3, 5).double(), torch.rand(6, 5) > 0.4
    x[~mask[:, None].expand_as(x)] = float("nan")
    values = x.movedim(1, -1)[mask]
    for net, call in ((Masked(), lambda net, batch: net(*batch)), (BatchRenorm1d(3).double(), lambda net, b: net(*b))):
        batches = [(x[:2], mask[:2]), (x[2:], mask[2:])]
        adapt(net, batches, forward=lambda batch, net=net, call=call: call(net, batch), progress=False)
        close(getattr(net, "norm", net), pooled(values))


# ---- labels and domains


def test_conditional_layers_pool_over_labels():
    net, x, labels = ConditionalBatchNorm1d(3, 2).double(), torch.randn(9, 3).double(), torch.arange(9) % 2
    data = zip(x.split(4), labels.split(4), strict=True)
    adapt(net, data, forward=lambda batch: net(batch[0], labels=batch[1]), progress=False)
    close(net, pooled(x))
    net = ConditionalBatchNorm2d(3, 2).double()
    images = torch.randn(4, 3, 2, 2).double()
    adapt(net, [images], forward=lambda batch: net(labels=torch.ones(4, 2).double() / 2, x=batch), progress=False)
    close(net, pooled(images))


@pytest.mark.parametrize("prior", [None, 4])
def test_only_the_domains_that_come_are_changed(prior):
    net, x = DomainBatchNorm2d(3, 4).double(), torch.randn(12, 3, 2, 2).double()
    domains = torch.tensor([0, 2, 2, 0, 2, 2, 2, 0, 2, 2, 3, 2])  # no 1, one 3
    x += domains[:, None, None, None] * 10
    net.running_mean.uniform_(-1, 1)
    before = copy.deepcopy(net)
    data = [*zip(x.split(5), domains.split(5), strict=True)]
    adapt(net, data, prior=prior, forward=lambda batch: net(*batch), progress=False)
    for domain in range(4):
        mean, var = before.running_mean[domain], before.running_var[domain]
        n = int((domains == domain).sum())
        if n:
            w = 1 if prior is None else n / (n + prior)
            here = pooled(x[domains == domain])
            mean, var = ((1 - w) * a + w * b for a, b in zip((mean, var), here, strict=True))
        torch.testing.assert_close(net.running_mean[domain], mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net.running_var[domain], var, rtol=1e-12, atol=1e-12)
    assert torch.equal(net.num_batches_tracked, before.num_batches_tracked)


def test_one_number_names_the_domain_of_all():
    net, x = DomainBatchNorm1d(3, 2).double(), torch.randn(6, 3).double()
    adapt(net, [x], forward=lambda batch: net(batch, domains=1), progress=False)
    close(net, (torch.stack([torch.zeros(3).double(), x.mean(0)]), torch.stack([torch.ones(3).double(), x.var(0)])))


def test_a_domain_out_of_range_gets_a_sentence_and_changes_nothing():
    net, x = DomainBatchNorm1d(3, 2), torch.randn(6, 3)
    before = copy.deepcopy(net)
    with pytest.raises(BatchfixError, match="domains must lie from 0 to 1"):
        adapt(net, [x], forward=lambda batch: net(batch, torch.full((6,), 2)), progress=False)
    assert same_state(net, before)


# ---- one value a channel


def test_minibatches_of_one_are_normalized_by_what_came_before_and_pooled():
    net, x = a_net(), torch.randn(5, 3).double()
    kept = net[1].running_mean, net[1].running_var
    h, reached = net[0](x), []
    for i in range(5):
        mean, var = kept if i == 0 else (h[: i + 1].mean(0), h[: i + 1].var(0, correction=0))
        reached.append(net[4](torch.relu((h[i] - mean) / torch.sqrt(var + 1e-5))).detach())
    adapt(net, x.split(1), progress=False)
    close(net[1], pooled(h))
    close(net[5], pooled(torch.stack(reached)))


def test_one_value_in_all_moves_the_mean_and_not_the_variance():
    net, x = nn.Sequential(nn.BatchNorm1d(3)), torch.randn(1, 3)
    net[0].running_var.fill_(2.0)
    with pytest.warns(AdaptationWarning, match="One value a channel has no variance: layer '0' moved the running mean"):
        adapt(net, [x], progress=False)
    assert torch.equal(net[0].running_mean, x[0])
    assert torch.equal(net[0].running_var, torch.full((3,), 2.0))


def test_a_channel_without_spread_has_variance_0():
    layer = adapt(nn.BatchNorm1d(2), [torch.ones(4, 2)], progress=False)
    close(layer, (torch.ones(2), torch.zeros(2)))


# ---- all else is as it was


def snapshot(model):
    """All of a model that adapting must not touch."""
    return {
        "modes": [module.training for module in model.modules()],
        "parameters": [(p, p.clone(), p.requires_grad, p.grad) for p in model.parameters()],
        "settings": [{k: v for k, v in vars(m).items() if k[0] != "_" and k != "training"} for m in model.modules()],
        "hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        "counts": [b.clone() for name, b in model.named_buffers() if name.endswith("tracked")],
        "random": torch.get_rng_state(),
    }


def unchanged(before, after):
    pairs = zip(before["parameters"], after["parameters"], strict=True)
    assert all(a[0] is b[0] and torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in pairs)
    assert all(torch.equal(a, b) for a, b in zip(before["counts"], after["counts"], strict=True))
    assert torch.equal(before["random"], after["random"])
    assert all(before[name] == after[name] for name in ("modes", "settings", "hooks"))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, BatchRenorm1d])
def test_everything_but_the_statistics_is_as_it_was(norm):
    net, x = a_net(norm), torch.randn(8, 3).double()
    net(x)
    net[1].eval()  # mixed modes
    net[4].weight.requires_grad_(False)
    before, buffers = snapshot(net), dict(net.named_buffers())
    assert adapt(net, [x], progress=False) is net
    unchanged(before, snapshot(net))
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())
    assert torch.is_grad_enabled()


def failing(kind, x):
    yield x
    if kind == "nan":
        yield torch.where(torch.arange(3) == 1, float("nan"), x)
    if kind == "width":
        yield x[:, :2]
    if kind == "interrupt":
        raise KeyboardInterrupt("stop")
    if kind == "data":
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("kind", "error", "sentence"),
    [
        ("nan", BatchfixError, "minibatch 2 brought nan or inf to layer '1'"),
        ("width", RuntimeError, "cannot be multiplied"),
        ("interrupt", KeyboardInterrupt, "stop"),
        ("data", OSError, "the disk is gone"),
    ],
)
def test_after_an_exception_the_statistics_too_are_as_they_were(kind, error, sentence):
    net, x = a_net(), torch.randn(8, 3).double()
    before, state = snapshot(net), copy.deepcopy(net)
    with pytest.raises(error, match=sentence):
        adapt(net, failing(kind, x), progress=False)
    unchanged(before, snapshot(net))
    assert same_state(net, state)


def test_frozen_layers_stay_as_they_are_and_normalize_as_they_do():
    net, x = a_net(), torch.randn(8, 3).double()
    freeze(net[1])
    before = copy.deepcopy(net).eval()
    adapt(net, [x], progress=False)
    assert same_state(net[1], before[1])
    close(net[5], pooled(before[:5](x)))


def test_layers_that_no_sample_reaches_stay_as_they_are():
    net, x = a_net(), torch.randn(8, 3).double()
    before = copy.deepcopy(net)
    adapt(net, [x], forward=net[:2], progress=False)
    close(net[1], pooled(net[0](x)))
    assert same_state(net[5], before[5])


def test_statistics_of_nan_are_replaced():
    layer, x = nn.BatchNorm1d(3).double(), torch.randn(8, 3).double()
    layer.running_mean.fill_(float("nan"))
    layer.running_var.fill_(float("nan"))
    close(adapt(copy.deepcopy(layer), [x], progress=False), pooled(x))
    with pytest.raises(BatchfixError, match=r"those of the model would be nan or inf in torch\.float64"):
        adapt(layer, [x], prior=4, progress=False)


def test_statistics_must_fit_half_precision():
    layer = nn.BatchNorm1d(2).half()
    with pytest.raises(BatchfixError, match=r"would be nan or inf in torch\.float16"):
        adapt(layer, [torch.randn(8, 2).half() * 1000], progress=False)
    assert layer.running_var.tolist() == [1.0, 1.0]


def test_in_inference_mode_too():
    net, x = a_net(), torch.randn(8, 3).double()
    with torch.inference_mode():
        made_there = nn.BatchNorm1d(3).double()
        adapt(net, [x], progress=False)
    close(net[1], pooled(net[0](x)))
    close(adapt(made_there, [x], progress=False), pooled(x))


# ---- what data may be, and how the model is called

Sample = namedtuple("Sample", "x label")


@pytest.mark.parametrize(
    "form",
    [
        lambda x: [x],
        lambda x: x.split(3),
        lambda x: (part for part in x.split(3)),
        lambda x: DataLoader(TensorDataset(x, torch.arange(8)), batch_size=3),
        lambda x: DataLoader(Stream(x), batch_size=3),
        lambda x: Stream(x.split(3)),
        lambda x: [(x, torch.arange(8))],
        lambda x: [[x, "labels"]],
        lambda x: [Sample(x, None)],
        lambda x: [{"x": x, "label": 0}],
    ],
    ids=["list", "split", "generator", "loader", "loader of a stream", "stream", "tuples", "lists", "named", "dicts"],
)
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_data_may_be_any_iterable(form, wrap):
    net, x = nn.Sequential(nn.BatchNorm1d(3).double()), torch.randn(8, 3).double()
    adapt(wrap(net), form(x), progress=False)
    close(net[0], pooled(x))


class Stream(IterableDataset):
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def test_forward_gets_the_whole_minibatch():
    net, x = nn.Sequential(nn.BatchNorm1d(3).double()), torch.randn(8, 3).double()
    sample = Sample({"values": [x]}, "a label")
    adapt(net, [sample], forward=lambda batch: net(batch.x["values"][0]), progress=False)
    close(net[0], pooled(x))


def test_a_class_of_ones_own_is_adapted():
    class Own(nn.modules.batchnorm._BatchNorm):
        def forward(self, *inputs):
            return nn.functional.batch_norm(*inputs, self.running_mean, self.running_var)

    x = torch.randn(8, 3)
    close(adapt(Own(3), [x], progress=False), pooled(x), tolerance=1e-6)


def test_a_compiled_model_is_adapted():
    net, x = a_net(), torch.randn(8, 3).double()
    compiled = torch.compile(net, backend="aot_eager").eval()
    with torch.no_grad():
        compiled(x)  # what is compiled here would not see a hook
        adapt(compiled, [x], progress=False)
        close(net[1], pooled(net[0](x)))
        torch.testing.assert_close(compiled(x), net(x))


def test_the_bar_shows_in_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    net, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    shown = []
    for progress, stream in ((True, Terminal()), (False, Terminal()), (True, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        adapt(net, x.split(2), progress=progress)
        shown.append("adapt" in stream.getvalue())
    assert shown == [True, False, False]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "found LayerNorm, Linear"),
        (
            lambda: nn.BatchNorm1d(3, track_running_stats=False),
            "found BatchNorm1d without running statistics",
        ),
        (lambda: freeze(nn.BatchNorm1d(3)), "found FrozenBatchNorm1d. Unfreeze it"),
        (lambda: nn.InstanceNorm1d(3, track_running_stats=True), "statistics of minibatches .* found InstanceNorm1d"),
        (nn.LazyBatchNorm1d, "must know its channels; the model is a LazyBatchNorm1d"),
        (lambda: "a model", "must be a torch.nn.Module; got str"),
    ],
)
def test_a_model_that_cannot_be_adapted_gets_a_sentence(model, sentence):
    with pytest.raises(BatchfixError, match=sentence):
        adapt(model(), [torch.randn(8, 3)], progress=False)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], r"none came. It may be empty"),
        (iter([]), "an iterator that is used up"),
        ([torch.ones(0, 3)], "data must bring samples"),
        (torch.ones(4, 3), r"got a tensor of shape \(4, 3\). Write \[x\]"),
        ({"x": torch.ones(4, 3)}, "must be an iterable of minibatches.* got dict"),
        ("data.csv", "must be an iterable of minibatches.* got str"),
        (3, "must be an iterable of minibatches.* got int"),
        (TensorDataset(torch.ones(4, 3)), r"TensorDataset, a Dataset.* DataLoader\(data"),
        (["a"], "A minibatch must be a tensor.* got str. Say how the model is called: forward="),
        ([("a", 1)], "got tuple with str first"),
        ([()], "got tuple with NoneType first"),
        ([{}], "got dict with NoneType first"),
        ([torch.full((4, 3), float("inf"))], "minibatch 1 brought nan or inf to layer '0'"),
    ],
)
def test_data_that_will_not_do_gets_a_sentence(data, sentence):
    net = nn.Sequential(nn.BatchNorm1d(3))
    before = copy.deepcopy(net)
    with pytest.raises(BatchfixError, match=sentence):
        adapt(net, data, progress=False)
    assert same_state(net, before)


@pytest.mark.parametrize("prior", [-1, float("nan"), float("inf"), True, "many"])
def test_a_prior_is_a_number_of_samples(prior):
    with pytest.raises(BatchfixError, match=f"prior must be a number of samples.* got {prior!r}"):
        adapt(nn.BatchNorm1d(3), [torch.ones(4, 3)], prior=prior, progress=False)


def test_a_wrong_call_is_told_about_forward():
    with pytest.raises(TypeError, match="domains") as caught:
        adapt(DomainBatchNorm1d(3, 2), [torch.ones(4, 3)], progress=False)
    assert "forward=" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "x", [torch.ones(4, 2), torch.ones(4, 3, dtype=torch.long), torch.ones(4, 3, 1, 1), torch.ones(3)]
)
def test_a_wrong_input_is_the_layer_s_to_refuse(x):
    ours, torchs = BatchRenorm1d(3), nn.BatchNorm1d(3)
    for layer in (ours, torchs):
        with pytest.raises(Exception) as want:  # noqa: PT011  # whatever the layer says
            layer.eval()(x)
        with pytest.raises(type(want.value)) as got:
            adapt(layer, [x], progress=False)
        assert str(got.value) == str(want.value)


def test_replicas_get_a_sentence():
    net = nn.Sequential(nn.BatchNorm1d(3))
    with pytest.raises(BatchfixError, match="layer '0' must be called itself; a replica of it was"):
        adapt(net, [torch.randn(4, 3)], forward=copy.copy(net[0]), progress=False)


def test_rows_of_padding_are_no_samples():
    """Evidence is counted in rows that hold a value."""
    layer = BatchRenorm1d(1)

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = layer

        def forward(self, x):
            return self.norm(x, ~x.isnan().any(dim=1))

    x = torch.tensor([[[1.0, 3.0]], [[float("nan")] * 2], [[float("nan")] * 2], [[float("nan")] * 2]])
    adapt(Padded(), [x], prior=1.0)
    assert layer.running_mean.item() == pytest.approx(0.5 * 2.0)
