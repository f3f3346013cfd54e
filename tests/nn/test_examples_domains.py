"""What the examples of conditional, instance, group and domain layers say, holds; each draws where it is told to.

The margins hold for other seeds than the examples' own.
"""

import pytest


def test_two_classes_share_all_weights_but_the_norms(example):
    found = example("nn_two_classes_shared_weights")
    conditional, plain, two = (found[name] for name in ("conditional", "plain", "two nets"))
    assert conditional["asked"] > 0.97
    assert two["asked"] > 0.97
    assert plain["asked"] < 0.6
    assert conditional["nats"] < plain["nats"] - 0.4
    assert conditional["nats"] < two["nats"] + 0.7
    assert conditional["parameters"] - plain["parameters"] == 2 * (64 + 32 + 16)
    assert two["parameters"] == 2 * plain["parameters"]


def test_style_transfer_moves_statistics_and_keeps_content(example):
    found = example("nn_style_transfer")
    assert found["apart"] < 1e-5
    assert found["correlation"] > 0.9999
    assert found["after"] < found["before"] / 5


def test_discriminator_with_batch_norm_cheats(example):
    found = example("nn_discriminator_that_cheats")
    cheat, honest = found["batch norm"], found["instance norm"]
    assert cheat["pure"] > 0.97
    assert cheat["mixed"] < 0.75
    assert honest["pure"] > 0.8
    assert abs(honest["mixed"] - honest["pure"]) < 0.04
    assert honest["mixed"] > cheat["mixed"] + 0.1


def test_new_domain_from_32_samples(example):
    found = example("nn_new_domain")
    assert found["old"] > 0.95
    assert found["new"] < 0.85
    assert found[None, 32] > found["new"] + 0.1
    assert found[None, 32] > 0.9
    assert found[8, 32] > found[None, 32] - 0.03
    assert found[8, 2] > found[None, 2] + 0.15
    pooled, ema, biased_4, biased_2 = found["variance"].values()
    assert pooled == pytest.approx(0.25, abs=0.03)
    assert biased_4 == pytest.approx(0.33, abs=0.03)
    assert biased_2 == pytest.approx(0.53, abs=0.03)
    assert pooled < ema - 0.04


def test_loud_head_drowns_the_others_in_layer_norm_only(example):
    found = example("nn_loud_head")
    assert found["layer norm, SGD"][1] > 0.9
    assert found["layer norm, SGD"][100] < 0.2
    assert found["layer norm, Adam"][100] < found["layer norm, Adam"][1] - 0.03
    for optimizer in ("SGD", "Adam"):
        accuracy = found[f"HeadNorm, {optimizer}"].values()
        assert min(accuracy) > 0.88
        assert max(accuracy) - min(accuracy) < 0.02


def test_sectors_hide_what_stocks_do(example):
    found = example("nn_sectors")
    assert abs(found["raw"]) < 0.1
    assert found["own"] > 0.18
    assert found["both"] > found["own"] + 0.03
