"""Log-ratios against scikit-bio's numbers, and the properties that define them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.aitchison import distance_matrix, inner
from batchfix.core.balances import ilr, ilr_inv, running_sums
from batchfix.core.log_ratios import alr, alr_inv, clr, clr_inv, rclr, rclr_inv
from batchfix.core.partition import BinaryPartition
from batchfix.core.simplex import closure, depths, whole_counts
from batchfix.exceptions import BatchfixError

ORACLE = np.load(Path(__file__).parent.parent / "oracles" / "composition.npz")
PARTITION = BinaryPartition.from_signs(ORACLE["sbp"])

EXACT = {"rtol": 1e-12, "atol": 1e-12}
"""Logarithms here are at most 200 in size: a sum of a dozen is exact to a dozen times 200 eps, 5e-13."""


@st.composite
def compositions(draw, min_parts=2, max_parts=12):
    """Positive tables with logarithms up to 1, 10 or 100 in size, (n, D)."""
    shape = draw(st.integers(1, 5)), draw(st.integers(min_parts, max_parts))
    span = draw(st.sampled_from([1.0, 10.0, 100.0]))
    return np.exp(np.random.default_rng(draw(st.integers(0, 2**32 - 1))).uniform(-span, span, shape))


def random_signs(parts, rng):
    """The sign matrix of a random sequential binary partition, its splits in random order."""
    rows, groups = [], [rng.permutation(parts)]
    while groups:
        group = groups.pop()
        if len(group) > 1:
            cut = rng.integers(1, len(group))
            row = np.zeros(parts, dtype=int)
            row[group[:cut]], row[group[cut:]] = 1, -1
            rows.append(row)
            groups += [group[:cut], group[cut:]]
    return np.array(rows)[rng.permutation(parts - 1)]


# ---- scikit-bio 0.7.4


@pytest.mark.parametrize("table", ["mr", "pc05"])
def test_oracle(table):
    X = ORACLE["multi_replace_default" if table == "mr" else "pc05"]
    pairs = {"clr": (clr, clr_inv), "ilr": (ilr, ilr_inv)}
    for r in (0, 6, 11):
        pairs[f"alr{r}"] = (lambda x, r=r: alr(x, r), lambda z, r=r: alr_inv(z, r))
    if table == "pc05":
        pairs["ilr_sbp"] = (lambda x: ilr(x, PARTITION), lambda z: ilr_inv(z, PARTITION))
    for name, (forward, back) in pairs.items():
        want = ORACLE[f"{table}_{name}"]
        assert_allclose(forward(X), want, err_msg=name, **EXACT)
        assert_allclose(back(want), ORACLE[f"{table}_{name}_inv"], err_msg=name, **EXACT)


def test_oracle_rclr():
    assert_allclose(rclr(ORACLE["counts"]), ORACLE["rclr"], **EXACT)
    assert_allclose(rclr_inv(ORACLE["rclr"]), ORACLE["rclr_inv"], **EXACT)


def test_oracle_basis():
    assert_allclose(PARTITION.basis(), ORACLE["sbp_basis"], **EXACT)
    assert_array_equal(PARTITION.signs(), ORACLE["sbp"])


# ---- properties


@given(compositions())
def test_there_and_back(X):
    X = closure(X)
    for back in (clr_inv(clr(X)), alr_inv(alr(X)), ilr_inv(ilr(X)), rclr_inv(rclr(X))):
        assert_allclose(back, X, rtol=1e-11, atol=1e-300)  # e^z magnifies 2e-13 in z; 5 digits for sums of many parts


@given(compositions(), st.integers(0, 2**32 - 1))
def test_any_reference_and_any_partition_there_and_back(X, seed):
    rng, parts = np.random.default_rng(seed), X.shape[1]
    r, partition = int(rng.integers(-parts, parts)), BinaryPartition.from_signs(random_signs(parts, rng))
    assert_allclose(alr_inv(alr(X, r), r), closure(X), rtol=1e-11)
    assert_allclose(ilr_inv(ilr(X, partition), partition), closure(X), rtol=1e-11)


@given(compositions(), st.floats(-200, 200))
def test_the_scale_of_a_row_does_not_matter(X, exponent):
    scale = np.exp(exponent * np.arange(len(X)) / len(X))[:, None]
    for transform in (clr, alr, ilr, rclr):
        assert_allclose(transform(X * scale), transform(X), **EXACT)


@given(compositions(), st.integers(0, 2**32 - 1))
def test_the_order_of_parts_does_not_matter(X, seed):
    rng, parts = np.random.default_rng(seed), X.shape[1]
    order, signs = rng.permutation(parts), random_signs(parts, rng)
    for transform in (clr, rclr):
        assert_allclose(transform(X[:, order]), transform(X)[:, order], **EXACT)
    permuted = BinaryPartition.from_signs(signs[:, order])
    assert_allclose(ilr(X[:, order], permuted), ilr(X, BinaryPartition.from_signs(signs)), **EXACT)


@given(compositions(min_parts=4), st.integers(0, 2**32 - 1))
def test_a_subcomposition_has_the_same_log_ratios(X, seed):
    rng = np.random.default_rng(seed)
    parts = np.sort(rng.permutation(X.shape[1])[: X.shape[1] - 2])
    part = closure(X[:, parts])
    assert_allclose(alr(part, 0), alr(X, parts[0])[:, parts[1:] - 1], **EXACT)
    differences = clr(X)[:, parts]
    assert_allclose(clr(part), differences - differences.mean(axis=1, keepdims=True), **EXACT)
    first = closure(X[:, :3])
    assert_allclose(ilr(first), ilr(X)[:, :2], **EXACT)  # the default balances of the first parts


@given(compositions(), st.integers(0, 2**32 - 1))
def test_ilr_is_an_isometry(X, seed):
    signs = random_signs(X.shape[1], np.random.default_rng(seed))
    for partition in (None, BinaryPartition.from_signs(signs)):
        Z = ilr(X, partition)
        assert_allclose(Z @ Z.T, clr(X) @ clr(X).T, rtol=1e-11, atol=1e-9)
        assert_allclose(np.einsum("ij,ij->i", Z, Z), inner(X, X), rtol=1e-11)
        apart = np.sqrt(((Z[:, None] - Z[None]) ** 2).sum(axis=2))
        assert_allclose(apart, distance_matrix(X), rtol=1e-11, atol=1e-11)


@given(compositions(max_parts=40), st.integers(0, 2**32 - 1))
def test_ilr_is_its_dense_basis(X, seed):
    parts = X.shape[1]
    signs = random_signs(parts, np.random.default_rng(seed))
    for partition in (BinaryPartition.default(parts), BinaryPartition.from_signs(signs)):
        V = partition.basis()
        assert_allclose(V @ V.T, np.eye(parts - 1), atol=1e-13)
        assert_allclose(V.sum(axis=1), 0, atol=1e-13)
        assert_allclose(ilr(X, partition), clr(X) @ V.T, rtol=1e-11, atol=1e-11)
    assert_allclose(ilr(X), ilr(X, BinaryPartition.default(parts)), **EXACT)


@pytest.mark.parametrize("deep", [False, True])
def test_thousands_of_parts_keep_their_digits(deep):
    rng = np.random.default_rng(0)
    X = rng.lognormal(sigma=3, size=(3, 2000))
    signs = BinaryPartition.default(2000).signs()[::-1] if deep else random_signs(2000, rng)
    partition = BinaryPartition.from_signs(signs)
    assert_allclose(ilr(X, partition), clr(X) @ partition.basis().T, atol=1e-11)
    assert_allclose(ilr(X), clr(X) @ BinaryPartition.default(2000).basis().T, atol=1e-12)
    assert_allclose(ilr_inv(ilr(X, partition), partition), closure(X), rtol=1e-10)
    assert_allclose(ilr_inv(ilr(X)), closure(X), rtol=1e-11)


@given(compositions(), st.integers(1, 10**9))
def test_back_to_counts_at_the_original_depth(X, depth):
    counts = whole_counts(X, depth) + 1
    for back in (
        clr_inv(clr(counts), total=depths(counts)),
        alr_inv(alr(counts, 1), 1, total=depths(counts)),
        ilr_inv(ilr(counts), total=depths(counts)),
    ):
        assert_array_equal(whole_counts(back, depths(counts)), counts)


# ---- numbers at the edge


def test_subnormal_parts_have_exact_logarithms():
    tiny = np.nextafter(0, 1)
    assert_allclose(alr(np.array([tiny, 1.0]))[0], -1074 * np.log(2), rtol=1e-15)
    X32 = np.array([np.nextafter(np.float32(0), np.float32(1)), np.float32(1)])
    assert_allclose(alr(X32)[0], -149 * np.log(2), rtol=1e-7)
    assert_allclose(clr(np.array([1e308, 1e308, 1e308])), 0, atol=1e-12)


def test_float32_is_rounded_once():
    X = np.random.default_rng(0).lognormal(sigma=2, size=(20, 300)).astype(np.float32)
    for transform in (clr, alr, ilr, rclr):
        assert_array_equal(transform(X), transform(X.astype(np.float64)).astype(np.float32))


def test_log_ratios_far_apart_underflow_to_zero_and_never_overflow():
    assert_array_equal(clr_inv(np.array([0.0, 1e6, -1e300])), [0, 1, 0])
    assert_array_equal(alr_inv(np.array([1e6])), [1, 0])
    assert_array_equal(ilr_inv(np.array([1e6])), [1, 0])


def test_rclr_is_the_clr_of_what_was_seen():
    X = np.array([[2.0, 0.0, 8.0, 1.0], [5.0, 5.0, 0.0, np.nan]])
    got = rclr(X)
    assert_array_equal(np.isnan(got), (X == 0) | np.isnan(X))
    assert_allclose(got[0, [0, 2, 3]], clr(X[0, [0, 2, 3]]), **EXACT)
    assert_array_equal(rclr_inv(np.full((1, 3), np.nan)), np.full((1, 3), np.nan))


# ---- NaN where it has no place, and wrong arguments


def test_alr_keeps_nan_unless_it_is_the_reference():
    X = np.array([[1.0, np.nan, 4.0], [2.0, 1.0, 1.0]])
    assert_array_equal(np.isnan(alr(X)), [[False, True], [False, False]])
    assert_allclose(alr_inv(alr(X)), closure(X), **EXACT)
    with pytest.raises(
        BatchfixError, match=r"reference must be observed .* got 1 row\(s\) where it is NaN, the first row 0"
    ):
        alr(X, reference=1)


def test_a_row_in_part_nan_has_no_ilr():
    X = np.array([[1.0, 3.0, 4.0], [2.0, np.nan, 1.0]])
    for function in (ilr, ilr_inv):
        with pytest.raises(BatchfixError, match=r"got 1 row\(s\) with some NaN, the first row 1"):
            function(X)


@pytest.mark.parametrize("reference", [3, -4, 10])
def test_a_reference_that_is_absent_is_refused(reference):
    with pytest.raises(BatchfixError, match="one of the 3 parts"):
        alr(np.ones((2, 3)), reference)
    with pytest.raises(BatchfixError, match="one of the 3 parts"):
        alr_inv(np.ones((2, 2)), reference)


def test_a_partition_of_other_parts_is_refused():
    with pytest.raises(BatchfixError, match="of the 5 parts given; got one of 12"):
        ilr(np.ones((2, 5)), PARTITION)
    with pytest.raises(BatchfixError, match="of the 5 parts given; got one of 12"):
        ilr_inv(np.ones((2, 4)), PARTITION)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ([[1, -1, 0]], "D - 1 splits"),
        ([1, -1], "D - 1 splits"),
        ([[1, 1, 2], [1, -1, 0]], "are 1, -1 and 0; got 2"),
        ([[1, 1, 1], [1, -1, 0]], "row 0 has none on one"),
        ([[1, -1, 0], [1, -1, 0]], "rows 0 and 1"),
        ([[1, -1, 0], [0, 1, -1]], "got none for parts 0, 1, 2"),
        ([[1, 1, -1, -1], [1, -1, 0, 0], [1, 0, -1, 0]], "got none for parts 2, 3"),
        (np.empty((0, 1)), "two parts or more"),
    ],
)
def test_what_is_no_partition_is_refused(signs, words):
    with pytest.raises(BatchfixError, match=words):
        BinaryPartition.from_signs(signs)


def test_totals_must_fit_the_rows():
    for total in ([1.0, 2.0, 3.0], -1.0, [1.0, 0.0], np.inf):
        with pytest.raises(BatchfixError, match="otal"):
            clr_inv(np.zeros((2, 3)), total=total)


@pytest.mark.parametrize("parts", [1, 15, 128, 129, 150, 1000])
def test_running_sums_are_cumulative_sums(parts):
    x = np.random.default_rng(0).integers(-1000, 1000, (7, parts + 1)).astype(float)
    before, out = x.copy(), np.empty((7, parts + 1))
    running_sums(x[:, :-1], out=out[:, 1:])
    assert_array_equal(out[:, 1:], np.cumsum(x[:, :-1], axis=1))
    assert_array_equal(x, before)
