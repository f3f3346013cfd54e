"""What the guard leaves unscaled is located in full."""

import numpy as np

from batchfix import ComBat


def test_features_that_are_only_located_count_all_their_rows():
    """Shrunk as if a batch held one row, half of a shift like the others' would stay."""
    rng = np.random.default_rng(0)
    batch = np.repeat(["a", "b"], 60)
    X = rng.normal(size=(120, 50)) + np.where(batch == "b", 3.0, 0.0)[:, None] * rng.normal(1, 0.5, 50)
    present = np.ones(X.shape, dtype=bool)
    present[batch == "a", :10] = False
    model = ComBat(scale_guard=0.2).fit(X, batch=batch, scale_where=present)
    fixed = model.transform(X, batch=batch)
    left = np.abs(fixed[batch == "b"].mean(axis=0) - fixed[batch == "a"].mean(axis=0))
    before = np.abs(X[batch == "b"].mean(axis=0) - X[batch == "a"].mean(axis=0))
    assert (model.affine_.scale[:, :10] == 1).all()
    assert (model.affine_.scale[:, 10:] != 1).all()
    assert left[:10].mean() < 0.05 * before[:10].mean()
    assert left[:10].mean() < 2 * left[10:].mean() + 0.02
