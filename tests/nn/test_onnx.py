"""In eval every layer becomes a graph of standard ONNX operators, and renormalization the graph of batch norm."""

import pytest

pytest.importorskip("torch", reason="the layers are torch's")
pytest.importorskip("onnx", reason="torch's exporter writes its graphs with onnx")
pytest.importorskip("onnxscript", reason="torch's exporter is written in onnxscript")
pytest.importorskip("onnxruntime", reason="onnxruntime runs what was exported")

import onnx
import onnxruntime
import torch
from torch import nn

from batchfix.nn import (
    AdaptiveInstanceNorm,
    BatchRenorm1d,
    BatchRenorm2d,
    ConditionalBatchNorm2d,
    DomainBatchNorm2d,
    FeatureGroupNorm,
    HeadNorm,
    InstanceRenorm2d,
    freeze,
)

# a layer, the shape of one sample, and what the layer takes besides
LAYERS = {
    "BatchRenorm1d": (lambda: BatchRenorm1d(3, r_max=3.0, d_max=5.0), (3,), None),
    "BatchRenorm2d": (lambda: BatchRenorm2d(3, affine=False), (3, 4, 5), None),
    "InstanceRenorm2d": (lambda: InstanceRenorm2d(3, learn_blend=True), (3, 4, 5), None),
    "ConditionalBatchNorm2d": (lambda: ConditionalBatchNorm2d(3, 2), (3, 4, 5), "labels"),
    "DomainBatchNorm2d": (lambda: DomainBatchNorm2d(3, 2), (3, 4, 5), "labels"),
    "AdaptiveInstanceNorm": (AdaptiveInstanceNorm, (3, 4, 5), "style"),
    "FeatureGroupNorm": (lambda: FeatureGroupNorm("abaab", return_group_means=True), (5,), None),
    "HeadNorm": (lambda: HeadNorm(2), (4, 6), None),
}

# the exporter's own talk: of its deprecations, and of a domain that is not installed
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def exported(model, given):
    """The exported model, with a batch axis of any size."""
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in given)
    program = torch.onnx.export(model, given, dynamo=True, verbose=False, dynamic_shapes=dynamic)
    onnx.checker.check_model(program.model_proto)
    return program.model_proto


def kinds(proto):
    """Domain and type of each node, in order."""
    assert not proto.functions
    return [(node.domain, node.op_type) for node in proto.graph.node]


def run(proto, given):
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    values = {slot.name: v.numpy() for slot, v in zip(session.get_inputs(), given, strict=True)}
    return torch.from_numpy(session.run(None, values)[0])


def inputs(name, n):
    _, shape, more = LAYERS[name]
    x = 2 * torch.randn(n, *shape) + 1
    rest = {None: (), "labels": (torch.arange(n) % 2,), "style": (3 * torch.randn(n, *shape) - 1,)}[more]
    return (x, *rest)


@pytest.mark.parametrize("name", LAYERS)
def test_in_eval_each_layer_runs_elsewhere_on_standard_operators(name):
    layer = LAYERS[name][0]()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.2, 0.9)
    for _ in range(3):
        layer(*inputs(name, 6))
    layer.eval()
    proto = exported(layer, inputs(name, 6))
    assert {domain for domain, _ in kinds(proto)} == {""}
    for n in (6, 3, 1):
        given = inputs(name, n)
        torch.testing.assert_close(run(proto, given), layer(*given), rtol=1e-5, atol=1e-5)
    if name.startswith("BatchRenorm"):
        assert kinds(proto) == [("", "BatchNormalization")]


def network(norm):
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Conv2d(4, 2, 3, bias=False), norm(2))


def test_convolutions_swallow_batch_renorm_as_they_swallow_batch_norm():
    x = 2 * torch.randn(4, 3, 9, 9) + 1
    model, twin = network(nn.BatchNorm2d), network(lambda c: BatchRenorm2d(c, r_max=3.0, d_max=5.0))
    for _ in range(3):
        model(2 * torch.randn_like(x) + 1)
    twin.load_state_dict(model.state_dict())
    ours, theirs = exported(twin.eval(), (x,)), exported(model.eval(), (x,))
    assert kinds(ours) == kinds(theirs) == [("", "Conv"), ("", "Relu"), ("", "Conv")]
    weights = [
        {w.name: onnx.numpy_helper.to_array(w).tolist() for w in proto.graph.initializer} for proto in (ours, theirs)
    ]
    assert weights[0] == weights[1]
    torch.testing.assert_close(run(ours, (x,)), twin(x), rtol=1e-5, atol=1e-5)


def test_frozen_layers_are_exported_as_in_eval():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), BatchRenorm2d(4)), torch.randn(4, 3, 9, 9)
    model(x)
    assert kinds(exported(freeze(model).eval(), (x,))) == [("", "Conv")]
