"""What the example of a corrector inside a model says, holds; it draws where it is told to.

The margins hold for other seeds than the example's own.
"""


def test_corrector_in_a_model(example):
    found = example("nn_corrector_in_a_model")
    raw, frozen, trained = "no correction", "corrected, layer frozen", "corrected, layer trained"
    assert found[raw, "all"] < found[raw, "usual"] - 0.06
    assert abs(found[frozen, "all"] - found[frozen, "usual"]) < 0.05
    assert found[frozen, "all"] > found[raw, "all"] + 0.05
    assert found[trained, "usual"] > found[frozen, "usual"] + 0.02
    assert found[trained, "usual"] > 0.92
    assert found[trained, "all"] > 0.88
    assert found["adapted", "new"] > 0.88
    assert max(found[raw, "new"], found["pooled", "new"]) < 0.65
