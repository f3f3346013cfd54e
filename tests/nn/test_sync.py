"""Two processes that share the rows of a minibatch train as one that holds them all."""

import copy
import importlib.util
import itertools
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the layers are torch's")

import torch
from torch import distributed, nn

from batchfix.core.moments import Moments
from batchfix.exceptions import BatchfixError
from batchfix.nn import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, freeze, unfreeze
from batchfix.nn.exchange import together
from batchfix.nn.freeze import Frozen
from batchfix.nn.sync import SyncBatchRenorm1d, SyncBatchRenorm2d, SyncBatchRenorm3d, convert_sync_batchrenorm

WORKER = Path(__file__).with_name("sync_worker.py")
PAIRS = {BatchRenorm1d: SyncBatchRenorm1d, BatchRenorm2d: SyncBatchRenorm2d, BatchRenorm3d: SyncBatchRenorm3d}


def from_path(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = from_path(WORKER)


def two_processes(device, folder):
    """What each of them found."""
    if not distributed.is_available():
        pytest.skip("this torch knows no processes")
    paths = [str(WORKER.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(WORKER), str(rank), "2", device, str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """They are started once."""
    return two_processes("cpu", tmp_path_factory.mktemp("two_processes"))


# ---- two processes are as one


def joined(parts):
    """What the two found, as one process would say it."""
    whole = {name: torch.cat([part[name] for part in parts], dim=1) for name in ("y", "dx")}
    whole |= {name: parts[0][name] + parts[1][name] for name in ("weight", "bias")}
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(parts[0][name], parts[1][name]), name
        whole[name] = parts[0][name]
    return whole


TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-4, torch.bfloat16: 2e-2}


def check_case(case, parts):
    expected = worker.train(case.layer(worker.ALONE), case)
    got, close = joined([part["cases"][str(case)] for part in parts]), TOLERANCE[case.dtype]
    assert list(got) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=close, atol=close, msg=lambda m, name=name: f"{case}, {name}: {m}"
        )


@pytest.mark.parametrize("case", worker.CASES, ids=str)
def test_the_rows_may_lie_in_one_process_or_in_two(found, case):
    check_case(case, found)


@pytest.mark.parametrize("case", [case for case in worker.CASES if case.split == "0+0"], ids=str)
def test_a_minibatch_without_rows_anywhere_moves_nothing(found, case):
    before, after = case.layer(worker.ALONE), found[0]["cases"][str(case)]
    assert all(torch.equal(after[name], value) for name, value in before.named_buffers())


@pytest.mark.parametrize("case", [case for case in worker.CASES if case.split == "1+0"], ids=str)
def test_one_value_a_channel_moves_the_mean_only(found, case):
    before, after = case.layer(worker.ALONE), found[1]["cases"][str(case)]
    assert torch.equal(after["running_var"], before.running_var)
    assert not torch.equal(after["running_mean"], before.running_mean)
    assert after["num_batches_tracked"] == worker.STEPS


def test_the_cases_reach_both_limits():
    """Else the cases that are clipped would be those that are open."""
    cases = [worker.Case("6+2", 4, limits) for limits in worker.LIMITS]
    outputs = [worker.train(case.layer(worker.ALONE), case)["y"] for case in cases]
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in itertools.combinations(outputs, 2))


def test_one_message_each_way_and_none_without_need(found):
    for part in found:
        for heard in part["messages"].values():
            assert heard == {
                "forward": ["all_gather"],
                "backward": ["all_reduce"],
                "x needs no gradient": ["all_gather"],
                "eval": [],
                "frozen": [],
            }


@pytest.mark.parametrize("way", ["net", "compiled"])
def test_a_net_trains_as_in_one_process(found, way):
    """With DistributedDataParallel, rows spread unevenly, and a process without any."""
    check_net(way, found)


def check_net(way, parts):
    expected = worker.train_net(worker.a_net("batch_renorm"))
    unlike = worker.train_net(worker.a_net("batch_norm"))
    for part in parts:
        assert list(part[way]) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(part[way][name], value, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(unlike["0.weight"], expected["0.weight"], atol=1e-6)


def test_a_group_of_its_own(found):
    for part in found:
        own = part["own group"]
        assert own["equal"], "a group of one process is BatchRenorm"
        assert own["copied"], "deepcopy keeps the group"
        assert own["changed"], "converted again, it is of all processes, and pickles"
        assert "must not hold a process group of its own" in own["pickled"]
        assert "that this process belongs to, or None for all processes; got -100. Make one" in own["foreign"]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("twice", "BatchfixError: Through SyncBatchRenorm gradients are taken once; a second derivative was asked for"),
        ("transformed", "BatchfixError: SyncBatchRenorm must be called outside of torch.func transforms"),
        ("elsewhere", "BatchfixError: x must be on a device that the process group serves, of '.*'; got meta. Move"),
        ("channels", "BatchfixError: .* was made for 4 channels at axis 1; got 3"),
        ("mask", "BatchfixError: mask must be bool of shape"),
        ("whole graph", "Unsupported: .*SyncBatchRenorm"),
    ],
)
def test_wrong_use_among_processes_gets_a_sentence(found, what, says):
    for part in found:
        assert re.match(says, part["wrong"][what], re.DOTALL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is there; on the CPU the same is tested")
def test_all_of_it_on_gpus(tmp_path):
    """By nccl where there is one for each process, else by gloo."""
    parts = two_processes("cuda", tmp_path)
    for case in worker.CASES:
        check_case(case, parts)
    check_net("net", parts)
    test_one_message_each_way_and_none_without_need(parts)


# ---- one process


@pytest.mark.parametrize("padding", [0.0, 0.4])
@pytest.mark.parametrize("ndim", worker.SPACE)
def test_without_other_processes_it_is_batch_renorm(ndim, padding):
    case = worker.Case("6+2", ndim, "opening", padding=padding)
    one, other = (worker.train(case.layer(kinds), case) for kinds in (worker.TOGETHER, worker.ALONE))
    assert list(one) == list(other)
    assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.fixture
def a_group_of_one(tmp_path):
    if not distributed.is_available():
        pytest.skip("this torch knows no processes")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("a_group_of_one")
def test_in_a_group_of_one_it_is_batch_renorm():
    test_without_other_processes_it_is_batch_renorm(4, padding=0.4)


@pytest.mark.usefixtures("a_group_of_one")
@pytest.mark.parametrize("case", [case for case in worker.CASES if case.split == "6+2"], ids=str)
def test_messages_to_oneself_change_nothing(case, monkeypatch):
    """The way through messages, with nobody else to hear them: in the process that pytest sees."""
    monkeypatch.setattr("batchfix.nn.sync.is_several", lambda members: True)
    one, other = (worker.train(case.layer(kinds), case) for kinds in (worker.TOGETHER, worker.ALONE))
    for name, value in other.items():
        close = TOLERANCE[case.dtype]
        torch.testing.assert_close(one[name], value, rtol=close, atol=close)


def test_state_goes_to_batch_norm_and_back():
    layer, plain = SyncBatchRenorm2d(3), nn.BatchNorm2d(3)
    nn.init.normal_(layer.weight)
    layer(torch.randn(4, 3, 2, 2))
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(layer.eval()(x), plain.eval()(x))
    layer.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("several", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("center", [0.0, 1e8])
def test_moments_of_processes_add_up(several, center):
    parts = torch.randn(several, 4, 3, dtype=torch.float64) + center
    rows = [part[: k % 5] for k, part in enumerate(parts, start=several)]  # some have none
    moments = [Moments.of(part) for part in rows]
    n, mean, m2 = (torch.stack([getattr(one, name) for one in moments]) for name in ("n", "mean", "m2"))
    found, whole = together(Moments(n[:, :1], mean, m2)), Moments.of(torch.cat(rows))
    assert torch.equal(found.n, whole.n[:1])
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(found.m2, whole.m2, rtol=1e-7 if center else 1e-13, atol=1e-13)


# ---- conversion


def a_net():
    """Layers side by side, nested, and one that occurs twice."""
    shared = BatchRenorm2d(4, r_max=2.0, d_max=1.0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 1), BatchRenorm2d(4, eps=0.1, momentum=None, affine=False))
    return nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.ReLU(), inner, nn.Sequential(shared, nn.BatchNorm2d(4)))


def test_converted_layers_are_the_same_objects_with_all_that_they_hold():
    net = a_net()
    net(torch.randn(5, 3, 4, 4))
    net[3].eval()
    net[1].weight.requires_grad_(False)
    called = []
    net[1].register_forward_hook(lambda *_: called.append(True))
    layers, state, held = list(net.modules()), copy.deepcopy(net.state_dict()), [dict(vars(m)) for m in net.modules()]
    assert convert_sync_batchrenorm(net) is net
    assert all(a is b for a, b in zip(net.modules(), layers, strict=True))
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    kept = [{k: v for k, v in vars(m).items() if k != "_members"} for m in net.modules()]
    assert all(a.keys() == b.keys() and all(a[k] is b[k] for k in a) for a, b in zip(kept, held, strict=True))
    assert type(net[1]) is type(net[3][1]) is SyncBatchRenorm2d
    assert type(net[4][1]) is nn.BatchNorm2d
    net(torch.randn(5, 3, 4, 4))
    assert called


@pytest.mark.parametrize("kind", PAIRS)
def test_each_layer_becomes_the_one_of_its_dimensions(kind):
    layer = kind(3, r_max=2.0)
    assert convert_sync_batchrenorm(layer) is layer
    assert type(layer) is PAIRS[kind]
    assert isinstance(layer, kind)
    assert layer.process_group is None
    assert (
        repr(layer) == f"Sync{kind.__name__}(3, eps=1e-05, momentum=0.1, affine=True, {repr(layer).split('True, ')[1]}"
    )
    assert type(pickle.loads(pickle.dumps(layer))) is type(convert_sync_batchrenorm(layer)) is PAIRS[kind]


def test_frozen_layers_stay_frozen():
    layer = freeze(BatchRenorm2d(3)).train()
    convert_sync_batchrenorm(layer)
    assert isinstance(layer, Frozen)
    assert isinstance(layer, SyncBatchRenorm2d)
    assert not layer.training
    assert isinstance(pickle.loads(pickle.dumps(layer)), Frozen)
    assert type(unfreeze(layer)) is SyncBatchRenorm2d
    assert layer.training


def test_torchs_own_conversion_makes_plain_layers():
    """The docstring warns of it; should torch change that, the warning can go."""
    net = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(SyncBatchRenorm2d(3)))
    assert type(net[0]) is nn.SyncBatchNorm


class Own(BatchRenorm2d):
    pass


def patched():
    layer = BatchRenorm2d(3)
    layer.forward = lambda x: x
    return layer


def parametrized():
    layer = BatchRenorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    return layer


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (
            patched,
            "To be synchronised, layer '1' must have no forward of its own, which would not be synchronised. Remove",
        ),
        (parametrized, "To be synchronised, layer '1' must be free of parametrizations"),
        (lambda: Own(3), "To be synchronised, layer '1' must be a BatchRenorm layer of ours; got Own. Replace"),
    ],
)
def test_a_layer_that_would_lose_something_gets_a_sentence_and_nothing_is_converted(layer, says):
    net = nn.Sequential(BatchRenorm2d(3), layer())
    with pytest.raises(BatchfixError, match=says):
        convert_sync_batchrenorm(net)
    assert type(net[0]) is BatchRenorm2d


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda: convert_sync_batchrenorm(nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2))),
            r'must have a BatchRenorm layer; found BatchNorm2d, Linear. Call convert\(model, to="batch_renorm"\) first',
        ),
        (lambda: convert_sync_batchrenorm([]), "model must be a torch.nn.Module; got list"),
        (lambda: convert_sync_batchrenorm(BatchRenorm2d(3), "gloo"), "process_group must be .* got 'gloo'. Make one"),
        (lambda: SyncBatchRenorm2d(3, process_group=0), "process_group must be .* got 0"),
        (lambda: SyncBatchRenorm2d(3, r_max=0.5), "r_max must be at least 1"),
        (lambda: SyncBatchRenorm2d(3)(torch.ones(2, 3)), r"SyncBatchRenorm2d takes \(N, C, H, W\); got shape \(2, 3\)"),
    ],
)
def test_wrong_use_gets_a_sentence(act, says):
    with pytest.raises(BatchfixError, match=says):
        act()
