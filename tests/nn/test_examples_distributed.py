"""What the example of two processes says, holds; it draws its picture where it is told.

The margins hold for other seeds than the example's own.
"""

import pytest


def test_two_processes(example):
    torch = pytest.importorskip("torch", reason="the layers are torch's")
    if not torch.distributed.is_available():
        pytest.skip("this torch knows no processes")
    found = example("nn_two_processes")
    one, synchronised, renorm, batch_norm = found.values()
    assert synchronised[0]["difference"] < 1e-10
    assert synchronised[-1]["difference"] < 1e-6
    assert [look["accuracy"] for look in synchronised] == pytest.approx([look["accuracy"] for look in one], abs=0.005)
    assert synchronised[-1]["accuracy"] > 0.8
    for apart in (renorm, batch_norm):
        assert apart[-1]["difference"] > 0.1
        assert apart[-1]["accuracy"] < one[-1]["accuracy"] - 0.1
