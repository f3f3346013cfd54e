"""With `recomputation`, checkpointing changes neither gradients nor statistics."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from batchfix.exceptions import BatchfixWarning
from batchfix.nn import BatchRenorm2d, InstanceRenorm2d, Schedule, recomputation

OPENING = {"r_max": Schedule((1, 1.0), (6, 3.0)), "d_max": Schedule((1, 0.0), (6, 5.0))}
NORMS = {
    "BatchNorm2d": nn.BatchNorm2d,
    "open": lambda c: BatchRenorm2d(c, r_max=3.0, d_max=5.0),
    "opening": lambda c: BatchRenorm2d(c, **OPENING),
    "InstanceRenorm2d": InstanceRenorm2d,
}


@pytest.mark.parametrize("norm", NORMS)
def test_checkpointed_training_is_training(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), NORMS[norm](4), nn.ReLU(), nn.Conv2d(4, 4, 3), NORMS[norm](4)).double()
    twin = copy.deepcopy(model)
    for _ in range(4):
        x = torch.randn(4, 3, 9, 9, dtype=torch.float64) + 1
        y = model(x)
        z = checkpoint(twin, x, use_reentrant=False, context_fn=lambda: recomputation(twin))
        torch.testing.assert_close(z, y, rtol=0, atol=0)
        for _ in range(2):
            y.pow(3).sum().backward(retain_graph=True)
            z.pow(3).sum().backward(retain_graph=True)
        for a, b in zip(twin.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)
        for a, b in zip(twin.buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def a_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), BatchRenorm2d(4, r_max=3.0, d_max=5.0), nn.Tanh()).double()


def checkpointed(model, x, **more):
    return checkpoint(model, x, use_reentrant=False, **more)


def test_two_calls_before_the_backward_pass():
    model, twin = a_model(), a_model()
    minibatches = torch.randn(3, 4, 3, 9, 9, dtype=torch.float64) + 1
    sum(model(x).pow(3).sum() for x in minibatches).backward()
    sum(checkpointed(twin, x, context_fn=lambda: recomputation(twin)).pow(3).sum() for x in minibatches).backward()
    for a, b in zip(twin.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_recomputing_without_it_warns_and_names_it():
    model = a_model()
    y = checkpointed(model, torch.randn(4, 3, 9, 9, dtype=torch.float64))
    with pytest.warns(BatchfixWarning, match="running statistics as they were.*recomputation"):
        y.sum().backward()
