"""torch's compilers and transforms see in a layer what eager training sees: outputs, gradients, state, schedule."""

import copy
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the layers are torch's")

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap

from batchfix.exceptions import BatchfixError
from batchfix.nn import (
    AdaptiveInstanceNorm,
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    ConditionalBatchNorm1d,
    ConditionalBatchNorm2d,
    ConditionalBatchNorm3d,
    DomainBatchNorm1d,
    DomainBatchNorm2d,
    DomainBatchNorm3d,
    FeatureGroupNorm,
    HeadNorm,
    InstanceRenorm1d,
    InstanceRenorm2d,
    InstanceRenorm3d,
    Schedule,
)

# limits that move at each of the first steps
OPENING = {"r_max": Schedule((1, 1.0), (6, 3.0)), "d_max": Schedule((1, 0.0), (6, 5.0))}
OPEN = {"r_max": 3.0, "d_max": 5.0}

# a layer, and the shape of one sample
LAYERS = {
    "BatchRenorm1d": (lambda: BatchRenorm1d(3, **OPENING), (3,)),
    "BatchRenorm1d, cumulative": (lambda: BatchRenorm1d(3, momentum=None, **OPENING), (3, 7)),
    "BatchRenorm2d": (lambda: BatchRenorm2d(3, **OPENING), (3, 4, 5)),
    "BatchRenorm2d, plain": (lambda: BatchRenorm2d(3, affine=False, **OPEN), (3, 4, 5)),
    "BatchRenorm3d": (lambda: BatchRenorm3d(3, **OPENING), (3, 2, 4, 5)),
    "InstanceRenorm1d": (lambda: InstanceRenorm1d(3), (3, 7)),
    "InstanceRenorm2d": (lambda: InstanceRenorm2d(3, learn_blend=True), (3, 4, 5)),
    "InstanceRenorm3d": (lambda: InstanceRenorm3d(3, momentum=None), (3, 2, 4, 5)),
    "ConditionalBatchNorm1d": (lambda: ConditionalBatchNorm1d(3, 2), (3,)),
    "ConditionalBatchNorm2d": (lambda: ConditionalBatchNorm2d(3, 2, momentum=None), (3, 4, 5)),
    "ConditionalBatchNorm3d": (lambda: ConditionalBatchNorm3d(3, 2), (3, 2, 4, 5)),
    "DomainBatchNorm1d": (lambda: DomainBatchNorm1d(3, 2), (3,)),
    "DomainBatchNorm2d": (lambda: DomainBatchNorm2d(3, 2, momentum=None, share_affine=False), (3, 4, 5)),
    "DomainBatchNorm3d": (lambda: DomainBatchNorm3d(3, 2, affine=False), (3, 2, 4, 5)),
    "AdaptiveInstanceNorm": (AdaptiveInstanceNorm, (3, 4, 5)),
    "FeatureGroupNorm": (lambda: FeatureGroupNorm("abaab", return_group_means=True), (7, 5)),
    "HeadNorm": (lambda: HeadNorm(2), (4, 6)),
}
WITH_STATE = [name for name in LAYERS if name not in ("AdaptiveInstanceNorm", "FeatureGroupNorm", "HeadNorm")]
SOME = ["BatchRenorm1d", *(name for name in LAYERS if name.endswith(("2d", "Norm")))]
# torch speaks of its own workings: of what it uses itself, and of a loop inside vmap
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]
each_layer = pytest.mark.parametrize("name", LAYERS)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
# inductor's decompositions, and its choice of what the backward pass computes again, without its code generator
BACKEND = "aot_eager_decomp_partition"
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def a_layer(name, training=True):
    """A layer in float64 that has weights of its own and has seen two minibatches."""
    layer = LAYERS[name][0]().double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.rand_like(p) / 2)
    for _ in range(2):
        layer(*inputs(name, 6))
    return layer.train(training)


def inputs(name, n):
    """A minibatch, not of mean 0, and what else the layer takes."""
    x = 2 * torch.randn(n, *LAYERS[name][1], dtype=torch.float64) + 1
    if name.startswith(("Conditional", "Domain")):
        return x, torch.arange(n) % 2
    if name.startswith("Adaptive"):
        return x, 3 * torch.randn_like(x)
    return (x,)


def observed(call, layer, given):
    """Output, gradients and buffers after one call."""
    given = [v.clone().requires_grad_() if v.is_floating_point() else v for v in given]
    y = call(*given)
    dy = torch.cos(torch.arange(float(y.numel()))).reshape(y.shape).to(y.dtype)
    wanted = [v for v in given if v.requires_grad] + list(layer.parameters())
    return [y, *torch.autograd.grad(y, wanted, dy), *(buffer.clone() for buffer in layer.buffers())]


def same(found, wanted, **tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or EXACT))


# ---- torch.compile


def trains_alike(layer, call, twin, sizes, name):
    for n in sizes:
        given = inputs(name, n)
        same(observed(call, twin, given), observed(layer, layer, given))


@each_layer
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_for_one_shape_it_trains_and_infers_as_eager(name):
    layer = LAYERS[name][0]().double()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, dynamic=False, backend=BACKEND)
    with torch._dynamo.config.patch(error_on_recompile=True):  # though the limits move at each step
        trains_alike(layer, compiled, twin, [6] * 7, name)
    layer.eval()
    twin.eval()
    for _ in range(2):
        given = inputs(name, 6)
        torch.testing.assert_close(compiled(*given), layer(*given), **EXACT)
    layer.train()
    twin.train()
    with torch._dynamo.config.patch(error_on_recompile=True):
        trains_alike(layer, compiled, twin, [6], name)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_once_it_takes_minibatches_of_any_size(name):
    layer = LAYERS[name][0]().double()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend=BACKEND)

    def of_any_size(*given):
        for v in given:
            torch._dynamo.mark_dynamic(v, 0)
        return compiled(*given)

    with torch._dynamo.config.patch(error_on_recompile=True):
        trains_alike(layer, of_any_size, twin, [8, 9, 16, 11, 10, 8], name)


@pytest.mark.usefixtures("fresh_compiler")
def test_padding_and_mixed_labels_compile_too():
    layer, x = BatchRenorm1d(3, **OPEN).double(), 2 * torch.randn(4, 3, 7, dtype=torch.float64) + 1
    mask = torch.arange(7) < torch.tensor([7, 3, 1, 5])[:, None]
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend=BACKEND)
    for _ in range(3):
        same(observed(compiled, twin, (x, mask)), observed(layer, layer, (x, mask)))
    layer, shares = a_layer("ConditionalBatchNorm2d"), torch.rand(4, 2, dtype=torch.float64)
    twin, x = copy.deepcopy(layer), torch.randn(4, 3, 4, 5, dtype=torch.float64)
    compiled = torch.compile(twin, fullgraph=True, backend=BACKEND)
    for _ in range(2):
        same(observed(compiled, twin, (x, shares)), observed(layer, layer, (x, shares)))
    layer = a_layer("DomainBatchNorm2d")
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend=BACKEND)
    same([compiled(x, 1), *twin.buffers()], [layer(x, 1), *layer.buffers()])


@pytest.mark.usefixtures("fresh_compiler")
def test_a_checkpoint_moves_the_schedule_of_a_compiled_layer():
    layer = BatchRenorm2d(3, r_max=Schedule((100, 1.0), (200, 3.0)), d_max=Schedule((100, 0.0), (200, 5.0))).double()
    twin, x = copy.deepcopy(layer), 2 * torch.randn(6, 3, 4, 5, dtype=torch.float64) + 1
    compiled = torch.compile(twin, fullgraph=True, backend=BACKEND)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in (0, 150, 50, 500):
            for one in (layer, twin):
                one.load_state_dict({**one.state_dict(), "num_batches_tracked": torch.tensor(step)})
            same(observed(compiled, twin, (x,)), observed(layer, layer, (x,)))


@pytest.mark.usefixtures("fresh_compiler")
def test_inductor_trains_as_eager(tmp_path, monkeypatch):
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("inductor writes C++, and here is no compiler for it")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    layer = BatchRenorm2d(3, **OPENING).double()
    twin = copy.deepcopy(layer)
    with torch._inductor.config.patch(compile_threads=1):
        compiled = torch.compile(twin, fullgraph=True, dynamic=False)
        for _ in range(4):
            given = inputs("BatchRenorm2d", 6)
            same(observed(compiled, twin, given), observed(layer, layer, given), rtol=1e-10, atol=1e-11)


# ---- torch.export


@each_layer
@in_both_modes
def test_exported_with_a_batch_of_any_size_it_is_what_it_was(name, training):
    layer, given = a_layer(name, training), inputs(name, 6)
    twin = copy.deepcopy(layer)
    program = torch.export.export(twin, given, dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in given))
    exported = program.module()
    for n in (6, 9, 2):
        given = inputs(name, n)
        same(observed(exported, exported, given), observed(layer, layer, given))
    assert sorted(exported.state_dict()) == sorted(layer.state_dict())


def test_in_eval_batch_renorm_is_exported_as_batch_norm():
    x = torch.randn(4, 3, 5, 5)
    graphs = [torch.export.export(layer.eval(), (x,)).graph for layer in (nn.BatchNorm2d(3), BatchRenorm2d(3))]
    operators = [[node.target for node in graph.nodes if node.op == "call_function"] for graph in graphs]
    assert operators[1] == operators[0] == [torch.ops.aten.batch_norm.default]


# ---- torch.func


@each_layer
@in_both_modes
def test_a_functional_call_moves_the_state_that_it_is_given(name, training):
    layer, given = a_layer(name, training), inputs(name, 6)
    twin, before = copy.deepcopy(layer), copy.deepcopy(layer.state_dict())
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    for _ in range(3):
        same([functional_call(layer, state, given)], [twin(*given)])
    same(state.values(), twin.state_dict().values())
    same(layer.state_dict().values(), before.values(), rtol=0, atol=0)
    same([layer(*given)], [a_copy_of(layer, before)(*given)])  # and the layer goes on from its own


def a_copy_of(layer, state):
    made = copy.deepcopy(layer)
    made.load_state_dict(state)
    return made


@each_layer
@in_both_modes
def test_grad_takes_the_gradients_of_autograd(name, training):
    layer, given = a_layer(name, training), inputs(name, 6)
    twin = copy.deepcopy(layer)
    x, *rest = given
    dy = torch.cos(torch.arange(float(layer.eval()(*given).numel()))).double()
    layer.train(training)

    def loss(x, parameters, buffers):
        buffers = {key: value.clone() for key, value in buffers.items()}  # a transform changes only what it made
        y = functional_call(layer, {**parameters, **buffers}, (x, *rest))
        return (y.flatten() * dy).sum(), buffers

    parameters = {key: p.detach() for key, p in layer.named_parameters()}
    (dx, d_parameters), moved = grad(loss, argnums=(0, 1), has_aux=True)(x, parameters, dict(layer.named_buffers()))
    y, want_dx, *want = observed(twin, twin, given)
    want = want[len(rest) :] if name.startswith("Adaptive") else want
    same([dx, *d_parameters.values(), *moved.values()], [want_dx, *want])
    assert y.shape


@each_layer
@in_both_modes
def test_forward_mode_and_jacobians_agree_with_reverse_mode(name, training):
    layer, (x, *rest) = a_layer(name, training), inputs(name, 2)

    def call(x):  # leaves the layer's own buffers alone
        return functional_call(layer, {key: b.clone() for key, b in layer.named_buffers()}, (x, *rest))

    jacobian = torch.autograd.functional.jacobian(call, x)
    torch.testing.assert_close(jacrev(call)(x), jacobian, **EXACT)
    tangent = torch.randn_like(x)
    along = (jacobian * tangent).sum(dim=list(range(-x.ndim, 0)))
    torch.testing.assert_close(jvp(call, (x,), (tangent,))[1], along, rtol=1e-10, atol=1e-10)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(call(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(found, along, rtol=1e-10, atol=1e-10)


@each_layer
def test_vmap_over_inputs_is_a_loop_in_eval(name):
    layer, (x, *rest) = a_layer(name, training=False), inputs(name, 6)
    many = torch.stack([x, 2 * x + 1, x.flip(0)])
    y = vmap(lambda x: layer(x, *rest))(many)
    torch.testing.assert_close(y, torch.stack([layer(x, *rest) for x in many]), **EXACT)


@each_layer
@in_both_modes
def test_an_ensemble_under_vmap_trains_as_its_members(name, training):
    members = [a_layer(name, training) for _ in range(3)]
    (x, *rest), template = inputs(name, 6), copy.deepcopy(members[0])
    many = torch.stack([x, 2 * x + 1, x.flip(0)])
    parameters, buffers = stack_module_state(members)

    def call(parameters, buffers, x):
        return functional_call(template, (parameters, buffers), (x, *rest))

    for _ in range(2):
        y = vmap(call)(parameters, buffers, many)
        same([y], [torch.stack([member(x, *rest) for member, x in zip(members, many, strict=True)])])
    same(buffers.values(), stack_module_state(members)[1].values())


@pytest.mark.parametrize("name", ["BatchNorm2d", *WITH_STATE])
def test_a_transform_in_training_refuses_to_move_captured_statistics(name):
    if name == "BatchNorm2d":
        layer, (x, *rest) = nn.BatchNorm2d(3).double(), inputs("BatchRenorm2d", 6)
    else:
        layer, (x, *rest) = a_layer(name), inputs(name, 6)
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    many = torch.stack([x, x + 1])
    with pytest.raises(RuntimeError):
        vmap(lambda x: layer(x, *rest))(many)
    with pytest.raises(RuntimeError, match="captured Tensor"):
        grad(lambda x: layer(x, *rest).sum())(x)
    same([layer.running_mean, layer.running_var], [mean, var], rtol=0, atol=0)


# ---- torch.jit and torch.fx


@each_layer
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced_in_eval_it_takes_minibatches_of_any_size(name):
    layer = a_layer(name, training=False)
    traced = torch.jit.trace(layer, inputs(name, 6))
    for n in (6, 9):
        given = inputs(name, n)
        torch.testing.assert_close(traced(*given), layer(*given), **EXACT)


@pytest.mark.parametrize("name", WITH_STATE)
def test_scripting_is_refused_with_a_way_out(name):
    with pytest.raises(BatchfixError, match=r"torch\.export"):
        torch.jit.script(nn.Sequential(a_layer(name, training=False)))


# ---- without torch

WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Absent())
import batchfix
assert "torch" not in sys.modules
import batchfix.nn
"""


def test_without_torch_the_import_names_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ImportError: batchfix.nn needs torch: pip install 'batchfix[torch]'")
