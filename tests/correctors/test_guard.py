"""What the guard leaves unscaled is located in full."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from batchfix import BatchCorrector, ComBat
from batchfix.exceptions import AdaptationWarning, BatchfixError


def table(seed=0):
    """Two batches; the first ten features are seen in few rows of the first one."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(["a", "b"], 60)
    X = (
        rng.normal(size=(120, 50)) * np.where(batch == "b", 2.0, 1.0)[:, None]
        + np.where(batch == "b", 3.0, 0.0)[:, None]
    )
    present = np.ones(X.shape, dtype=bool)
    present[5:60, :10] = False
    return X, batch, present


@pytest.mark.parametrize("shrinkage", [None, "eb"])
def test_batch_corrector_locates_what_it_may_not_scale(shrinkage):
    X, batch, present = table()
    model = BatchCorrector(scale_guard=0.2, shrinkage=shrinkage).fit(X, batch=batch, scale_where=present)
    fixed = model.transform(X, batch=batch)
    free = BatchCorrector(shrinkage=shrinkage).fit(X, batch=batch)
    assert (model.affine_.scale[:, :10] == 1).all()
    assert_allclose(fixed[batch == "a", :10].mean(axis=0), fixed[batch == "b", :10].mean(axis=0), rtol=0, atol=1e-12)
    if shrinkage is None:
        assert_array_equal(fixed[:, 10:], free.transform(X, batch=batch)[:, 10:])


def test_presence_adds_up():
    X, batch, present = table()
    whole = BatchCorrector(scale_guard=0.2).fit(X, batch=batch, scale_where=present)
    parts = BatchCorrector(scale_guard=0.2)
    for rows in np.array_split(np.random.default_rng(1).permutation(120), 4):
        parts.partial_fit(X[rows], batch=batch[rows], scale_where=present[rows])
    assert_allclose(parts.transform(X, batch=batch), whole.transform(X, batch=batch), rtol=1e-12, atol=1e-12)


def test_without_being_told_ties_at_one_value_are_absent():
    X, batch, present = table()
    X = np.where(present, X, -1.0)
    told = BatchCorrector(scale_guard=0.2).fit(X, batch=batch, scale_where=present)
    found = BatchCorrector(scale_guard=0.2).fit(X, batch=batch)
    assert_array_equal(found.affine_.scale, told.affine_.scale)


def test_a_new_batch_is_guarded_too():
    X, _, present = table()
    model = BatchCorrector(scale_guard=0.2).fit(X[60:], batch=np.repeat(["b", "c"], 30), scale_where=present[60:])
    new = model.adapt(X[:60], batch="a", scale_where=present[:60])
    assert (new.affine_.scale[2, :10] == 1).all()
    assert (new.affine_.scale[2, 10:] != 1).all()


def test_presence_without_a_guard_is_refused():
    X, batch, present = table()
    with pytest.raises(BatchfixError, match="scale_guard=None"):
        BatchCorrector().fit(X, batch=batch, scale_where=present)


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


@pytest.mark.parametrize("make", [ComBat, BatchCorrector])
def test_a_new_batch_without_word_of_its_cells_is_not_scaled(make):
    """Also where fit was told of cells that were all present, which looks like a word on features."""
    X, _, present = table()
    model = make(scale_guard=0.2).fit(X[60:], batch=np.repeat(["b", "c"], 30), scale_where=present[60:])
    assert present[60:].all()
    with pytest.warns(AdaptationWarning, match="scale_where"):
        new = model.adapt(X[:60], batch="a")
    assert (new.affine_.scale[2] == 1).all()
