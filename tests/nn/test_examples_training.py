"""What the examples of training with batch layers say, holds; each draws its picture where it is told.

The margins hold for other seeds than the examples' own.
"""

import math

import pytest


def test_small_minibatches(example):
    curves = example("nn_small_minibatches")
    final = {key: curve[-1] for key, curve in curves.items()}
    assert final["4 of one class", "BatchRenorm"] > final["4 of one class", "BatchNorm"] + 0.2
    assert final["4 of one class", "BatchNorm"] < 0.25
    assert final["4 of one class", "BatchNorm, convolutions only"] > 0.6
    assert final["4 of one class", "BatchRenorm, convolutions only"] > 0.5
    assert min(share for (minibatches, _), share in final.items() if minibatches == "4 at random") > 0.75
    on_the_way = {norm: sum(curves["2 at random", norm]) / 4 for norm in ("BatchNorm", "BatchRenorm")}
    assert on_the_way["BatchRenorm"] > on_the_way["BatchNorm"] + 0.05


def test_volumes_two_at_a_time(example):
    found = example("nn_volumes_two_at_a_time")
    assert found["one patient", "BatchRenorm3d"] > found["one patient", "BatchNorm3d"] + 0.2
    assert found["one patient", "BatchRenorm3d"] > 0.45
    assert min(found["any patients", norm] for norm in ("BatchNorm3d", "BatchRenorm3d")) > 0.75


def test_learning_rate(example):
    found = example("nn_learning_rate")
    high = {norm: row[2.0][-1] for norm, row in found["curves"].items()}
    assert high["no norm"] < 0.5
    assert high["BatchRenorm, open at once"] < 0.5
    assert high["BatchNorm"] > 0.9
    assert high["BatchRenorm"] > 0.9
    assert found["best"] > 0.9
    assert found["good rate"] < 2
    assert max(found["epochs"]["BatchNorm"], found["epochs"]["BatchRenorm"]) < found["epochs"]["no norm"] - 4


def test_minibatch_of_one(example):
    found = example("nn_minibatch_of_one")
    one = found["one value"]
    assert "more than 1 value per channel" in one["BatchNorm"]
    assert one["open"]["from inference"] < 1e-5
    assert one["open"]["from bias"] > 0.1
    assert one["closed"]["from bias"] < 1e-3
    assert one["open"]["gradient"] == one["closed"]["gradient"] == 0
    assert found["finite"]
    scratch, warm = ({name: curve[-1] for name, curve in found[start].items()} for start in ("scratch", "warm"))
    assert scratch["BatchNorm, convolutions only"] < 0.6
    assert scratch["BatchRenorm, convolutions only"] > scratch["BatchNorm, convolutions only"] + 0.15
    assert scratch["GroupNorm, convolutions only"] > scratch["BatchNorm, convolutions only"] + 0.1
    assert scratch["BatchRenorm, everywhere"] < warm["BatchRenorm, everywhere"] - 0.2
    assert warm["BatchRenorm, everywhere"] > found["warm"]["BatchRenorm, everywhere"][0] - 0.03
    assert warm["BatchRenorm, everywhere"] > 0.8


def test_train_inference_mismatch(example):
    measured, exact, gradients = example("nn_train_inference_mismatch")
    assert exact[2]["output"] == pytest.approx(2 - 2 / math.sqrt(math.pi), rel=1e-12)  # Gamma(1) / Gamma(1/2)
    assert list(measured) == [2, 4, 8, 16, 32, 64, 128, 256]
    for size, one in measured.items():
        for what in ("output", "variance"):
            assert one[what] == pytest.approx(exact[size][what], rel=0.1), (size, what)
        assert one["renormalized"] < 1e-12
        assert one["BatchRenorm"] == pytest.approx(exact[size]["BatchRenorm"], abs=0.01)
        # the square has no variance at B = 4
        assert one["batch norm"] == pytest.approx(exact[size]["batch norm"], abs=0.15 if size == 4 else 0.03)
    for pair in gradients.values():
        assert max(pair["BatchRenorm"]) < 0.8
        assert pair["BatchRenorm"][0] == pytest.approx(pair["BatchRenorm"][1], abs=0.2)
    assert gradients[4]["batch norm"][0] > 2
    assert 0.3 < gradients[256]["batch norm"][0] < 0.7


def test_overfitting(example):
    curves = example("nn_overfitting")
    right, wrong = curves.values()
    learned = {name: float(curve[-1, 0]) for name, curve in wrong.items()}
    new = {name: float(curve[-1, 1]) for name, curve in right.items()}
    assert min(float(curve[-1, 0]) for curve in right.values()) > 0.98
    assert new["BatchNorm, 64"] > new["no norm"] + 0.005
    assert new["BatchNorm, 64"] > new["BatchNorm, 4"]
    assert new["BatchRenorm, 4"] > new["BatchNorm, 4"] - 0.002
    assert learned["BatchNorm, 64"] > 0.98
    assert learned["no norm"] < 0.93
    assert learned["BatchNorm, 4"] < 0.97
    for name in ("BatchNorm, 64", "BatchNorm, 16", "BatchRenorm, 4"):
        assert wrong[name][:, 1].max() > wrong[name][-1, 1] + 0.03
