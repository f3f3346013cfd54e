"""Moments add up: chunks and merged parts give what one fit on all rows gives."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import (
    AmbiguousKeepError,
    BatchfixError,
    ConfoundedDesignError,
    MergeError,
    NothingToCorrectWarning,
)

# Parts of a table have constant features, batches of one and gaps more often than tables do.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::batchfix.exceptions.{name}")
    for name in ("ConstantFeatureWarning", "SingletonBatchWarning", "MissingFeatureWarning", "EstimabilityWarning")
]

CORRECTORS = {
    "combat": ComBat(),
    "combat, not parametric": ComBat(parametric=False),
    "combat, mean only": ComBat(mean_only=True),
    "combat, reference": ComBat(reference_batch="b"),
    "combat, about the pivot": ComBat(keep_at_transform=False),
    "combat, guarded": ComBat(scale_guard=0.2),
    "batch": BatchCorrector(),
    "batch, standard": BatchCorrector(target="standard"),
    "batch, shrunk": BatchCorrector(shrinkage="eb"),
    "batch, location": BatchCorrector(scale=None),
    "linear": LinearCorrector(),
    "linear, reference": LinearCorrector(reference_batch="b"),
}
THREE = {name: CORRECTORS[name] for name in ("combat", "batch", "linear")}
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Table:
    """Rows and what is said about them; `part` takes some of the rows."""

    X: np.ndarray
    labels: dict[str, Any]

    @classmethod
    def of(cls, seed: int, *, n: int = 40, p: int = 6, keep: tuple[str, ...] = (), missing: float = 0.0) -> "Table":
        rng = np.random.default_rng(seed)
        batch = np.array(["a", "b", "c"])[np.r_[np.repeat([0, 1, 2], 4), rng.integers(0, 3, n - 12)]]
        group = np.array(["u", "v"])[np.r_[np.tile([0, 1], 6), rng.integers(0, 2, n - 12)]]
        age = rng.normal(50.0, 9.0, n)
        X = rng.normal(size=(n, p)) * (1 + 0.5 * (batch == "b"))[:, None] + 2.0 * (batch == "c")[:, None]
        X += (group == "v")[:, None] * rng.normal(size=p) + 0.05 * age[:, None]
        X[12:][rng.random((n - 12, p)) < missing] = np.nan
        labels: dict[str, Any] = {"batch": batch}
        if keep:
            labels["keep"] = pd.DataFrame({"group": group, "age": age})[list(keep)]
        order = rng.permutation(n)
        return cls(X, labels).part(order)

    def part(self, rows: Any) -> "Table":
        labels = {
            k: v.iloc[rows].reset_index(drop=True) if isinstance(v, pd.DataFrame) else v[rows]
            for k, v in self.labels.items()
        }
        return Table(self.X[rows], labels)

    def __len__(self) -> int:
        return len(self.X)

    def fit(self, corrector: Any) -> Any:
        return clone(corrector).fit(self.X, **self.labels)

    def partly(self, corrector: Any) -> Any:
        return clone(corrector).partial_fit(self.X, **self.labels)


def assert_same(got: Any, want: Any, table: Table, tolerance: float = 1e-10) -> None:
    assert_array_equal(got.batches_, want.batches_)
    assert got.batch_counts_ == want.batch_counts_
    assert_allclose(
        got.transform(table.X, **table.labels), want.transform(table.X, **table.labels), rtol=0, atol=tolerance
    )
    for name in ("center", "scale", "shift"):
        assert_allclose(getattr(got.affine_, name), getattr(want.affine_, name), rtol=tolerance, atol=tolerance)


def in_chunks(table: Table, corrector: Any, edges: list[int]) -> Any:
    corrector = clone(corrector)
    for a, b in pairwise(edges):
        part = table.part(slice(a, b))
        corrector.partial_fit(part.X, **part.labels)
    return corrector


@pytest.mark.parametrize("name", CORRECTORS)
@given(
    seed=seeds,
    cuts=st.sets(st.integers(1, 39), max_size=6),
    keep=st.sampled_from([(), ("group",), ("group", "age")]),
    missing=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=12, deadline=None)
def test_any_chunks_are_the_whole(name, seed, cuts, keep, missing):
    table = Table.of(seed, keep=keep, missing=missing)
    whole = table.fit(CORRECTORS[name])
    assert_same(in_chunks(table, CORRECTORS[name], [0, *sorted(cuts), 40]), whole, table)


@pytest.mark.parametrize("name", CORRECTORS)
@given(
    seed=seeds,
    n_parts=st.integers(2, 4),
    keep=st.sampled_from([(), ("age",), ("group", "age")]),
    missing=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=12, deadline=None)
def test_any_split_by_rows_merges_to_the_whole(name, seed, n_parts, keep, missing):
    table = Table.of(seed, keep=keep, missing=missing)
    whole = table.fit(CORRECTORS[name])
    owner = np.random.default_rng(seed).integers(0, n_parts, len(table))  # batches spread over the parts
    sites = [table.part(owner == k).partly(CORRECTORS[name]) for k in range(n_parts) if (owner == k).any()]
    forward, backward = sites[0], sites[-1]
    for site in sites[1:]:
        forward = forward.merge(site)
    for site in sites[-2::-1]:
        backward = backward.merge(site)
    assert_same(forward, whole, table)
    assert_same(backward, whole, table)


@pytest.mark.parametrize("name", CORRECTORS)
def test_a_row_at_a_time(name):
    table = Table.of(0, keep=("group", "age"), missing=0.1)
    one_by_one = in_chunks(table, CORRECTORS[name], list(range(41)))
    assert_same(one_by_one, table.fit(CORRECTORS[name]), table)


@pytest.mark.parametrize("name", CORRECTORS)
@pytest.mark.parametrize("by", ["batch", "group"])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_a_chunk_may_bring_a_new_batch_or_a_new_level(name, by, missing):
    table = Table.of(1, keep=("group", "age"), missing=missing)
    labels = table.labels["batch"] if by == "batch" else table.labels["keep"]["group"].to_numpy()
    order = np.argsort(labels, kind="stable")[::-1]  # the last label comes first
    table = table.part(order)
    edges = [0, *(np.flatnonzero(np.diff(pd.factorize(labels[order])[0])) + 1), 40]
    assert_same(in_chunks(table, CORRECTORS[name], edges), table.fit(CORRECTORS[name]), table)


@pytest.mark.parametrize("name", THREE)
def test_a_chunk_may_be_the_first_with_a_gap(name):
    table = Table.of(2, keep=("group",))
    table.X[25:, 1] = np.where(np.arange(15) % 3 == 0, np.nan, table.X[25:, 1])
    assert_same(in_chunks(table, CORRECTORS[name], [0, 10, 25, 33, 40]), table.fit(CORRECTORS[name]), table)
    table = table.part(slice(None, None, -1))  # and the last
    assert_same(in_chunks(table, CORRECTORS[name], [0, 10, 25, 33, 40]), table.fit(CORRECTORS[name]), table)


@pytest.mark.parametrize("name", CORRECTORS)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_an_offset_of_1e8_costs_what_its_rounding_costs(name, missing):
    table = Table.of(3, keep=("group", "age"), missing=missing)
    near = table.fit(CORRECTORS[name])
    far = Table(table.X + 1e8, table.labels)
    whole = far.fit(CORRECTORS[name])
    assert_same(in_chunks(far, CORRECTORS[name], [0, 1, 17, 29, 40]), whole, far, 1e-6)  # 1e8 has steps of 1.5e-8
    shift = 0.0 if CORRECTORS[name].get_params().get("target") == "standard" else 1e8
    out = whole.transform(far.X, **far.labels) - shift
    assert_allclose(out, near.transform(table.X, **table.labels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", THREE)
def test_an_integer_column_of_two_values_may_stay_a_factor(name):
    table = Table.of(4)
    table.labels["keep"] = pd.DataFrame({"case": np.arange(40) % 2})
    assert_same(in_chunks(table, CORRECTORS[name], [0, 1, 2, 20, 40]), table.fit(CORRECTORS[name]), table)
    later = pd.DataFrame({"case": np.arange(40) % 3})
    half = table.part(slice(0, 20)).partly(CORRECTORS[name])
    with pytest.raises(AmbiguousKeepError, match="'case'"):
        half.partial_fit(table.X, batch=table.labels["batch"], keep=later)


# ---- the linear model's own


@pytest.mark.parametrize("missing", [0.0, 0.1])
@given(seed=seeds, cuts=st.sets(st.integers(1, 39), max_size=4))
@settings(max_examples=15, deadline=None)
def test_several_batch_factors_and_nuisance_add_up(missing, seed, cuts):
    table = Table.of(seed, keep=("group",), missing=missing)
    rng = np.random.default_rng(seed)
    table.labels["batch"] = np.column_stack([table.labels["batch"], rng.choice(["x", "y"], 40)])
    table.labels["nuisance"] = pd.DataFrame({"rin": rng.normal(7, 1, 40), "tube": rng.choice(["s", "t"], 40)})
    try:
        whole = table.fit(LinearCorrector())
    except ConfoundedDesignError:
        return
    assert_same(in_chunks(table, LinearCorrector(), [0, *sorted(cuts), 40]), whole, table)
    even, odd = (table.part(slice(k, None, 2)).partly(LinearCorrector()) for k in (0, 1))
    assert_same(even.merge(odd), whole, table)


# ---- the scale guard's


def zeros(seed: int) -> Table:
    table = Table.of(seed)
    rng = np.random.default_rng(seed)
    absent = rng.random(table.X.shape) < np.linspace(0.0, 0.9, table.X.shape[1])
    table.X = np.where(absent, 0.0, table.X - 3.0)  # both signs: not to be taken for intensities
    return table


@pytest.mark.parametrize("kind", ["cells", "features"])
@given(seed=seeds, cuts=st.sets(st.integers(1, 39), max_size=5))
@settings(max_examples=12, deadline=None)
def test_declared_presence_adds_up(kind, seed, cuts):
    table = zeros(seed)
    table.labels["scale_where"] = table.X != 0
    guarded = ComBat(scale_guard=0.3)
    if kind == "features":
        features = np.array([True, False, True, True, False, True])

        def learn(corrector, rows):
            return corrector.partial_fit(table.X[rows], batch=table.labels["batch"][rows], scale_where=features)

        whole = guarded.fit(table.X, batch=table.labels["batch"], scale_where=features)
    else:

        def learn(corrector, rows):
            part = table.part(rows)
            return corrector.partial_fit(part.X, **part.labels)

        whole = guarded.fit(table.X, **table.labels)
    plain = Table(table.X, {"batch": table.labels["batch"]})
    edges = [0, *sorted(cuts), 40]
    chunks, merged = ComBat(scale_guard=0.3), None
    for a, b in pairwise(edges):
        learn(chunks, slice(a, b))
        site = learn(ComBat(scale_guard=0.3), slice(a, b))
        merged = site if merged is None else merged.merge(site)
    assert_same(chunks, whole, plain)
    assert_same(merged, whole, plain)
    assert_array_equal(chunks.solution_.details["scaled"], whole.solution_.details["scaled"])


@given(seed=seeds, cuts=st.sets(st.integers(1, 39), max_size=3))
@settings(max_examples=25, deadline=None)
def test_presence_read_off_the_ties_adds_up_or_says_that_it_cannot(seed, cuts):
    table = zeros(seed)
    whole = table.fit(ComBat(scale_guard=0.3))
    chunks = in_chunks(table, ComBat(scale_guard=0.3), [0, *sorted(cuts), 40])
    try:
        assert_same(chunks, whole, table)
    except BatchfixError as error:
        assert "scale_where" in str(error)  # noqa: PT017 -- either outcome is right, and a wrong number neither


def test_presence_is_declared_for_all_rows_or_none():
    table = zeros(0)
    declared = ComBat(scale_guard=0.3).partial_fit(table.X, **table.labels, scale_where=table.X != 0)
    with pytest.raises(MergeError, match="for all rows or for none"):
        declared.partial_fit(table.X, **table.labels)


# ---- what a merge is, and is not


@pytest.mark.parametrize("name", THREE)
def test_merge_leaves_both_sides_alone(name):
    table = Table.of(5, keep=("group",))
    first, second = (table.part(s).fit(CORRECTORS[name]) for s in (slice(0, 20), slice(20, 40)))
    before = [m.transform(table.X, **table.labels) for m in (first, second)]
    merged = first.merge(second)
    merged.partial_fit(table.X, **table.labels)
    for m, out in zip((first, second), before, strict=True):
        assert_array_equal(m.transform(table.X, **table.labels), out)


@pytest.mark.parametrize("name", THREE)
def test_partial_fit_goes_on_after_fit_and_merge(name):
    table = Table.of(6, keep=("group",), missing=0.1)
    thirds = [table.part(slice(a, b)) for a, b in ((0, 14), (14, 26), (26, 40))]
    merged = thirds[0].fit(CORRECTORS[name]).merge(thirds[1].partly(CORRECTORS[name]))
    merged.partial_fit(thirds[2].X, **thirds[2].labels)
    assert_same(merged, table.fit(CORRECTORS[name]), table)
    assert_same(merged.fit(table.X, **table.labels), table.fit(CORRECTORS[name]), table)  # fit starts anew


@pytest.mark.parametrize("name", THREE)
def test_estimates_follow_the_rows(name):
    table = Table.of(7)
    corrector = table.part(slice(0, 20)).partly(CORRECTORS[name])
    first = corrector.transform(table.X, **table.labels)
    corrector.partial_fit(table.X[20:], batch=table.labels["batch"][20:])
    assert np.abs(corrector.transform(table.X, **table.labels) - first).max() > 1e-3


@pytest.mark.parametrize("robust", [{"location": "median"}, {"scale": "mad"}, {"location": "median", "scale": "mad"}])
def test_a_median_does_not_add_up_and_says_so(robust):
    table, corrector = Table.of(8), BatchCorrector(**robust)
    with pytest.raises(MergeError, match="median or a MAD, which do not"):
        table.partly(corrector)
    first, second = (table.part(s).fit(corrector) for s in (slice(0, 20), slice(20, 40)))
    with pytest.raises(MergeError, match="median or a MAD, which do not"):
        first.merge(second)
    assert not hasattr(corrector, "partial_fit")  # what scikit-learn asks
    assert hasattr(BatchCorrector(), "partial_fit")


@pytest.mark.parametrize("name", THREE)
def test_only_like_and_like_merge(name):
    table = Table.of(9)
    mine = table.fit(CORRECTORS[name])
    with pytest.raises(MergeError, match="two of a kind"):
        mine.merge(table.fit(BatchCorrector() if name != "batch" else ComBat()))
    with pytest.warns(NothingToCorrectWarning, match="without batch labels"):
        unlabelled = clone(mine).fit(table.X)
    with pytest.raises(MergeError, match="keep_y=False and True"):
        mine.merge(clone(CORRECTORS[name]).set_params(keep_y=True).fit(table.X, np.arange(40) % 2, **table.labels))
    with pytest.raises(MergeError, match="6 and 5"):
        mine.merge(Table(table.X[:, 1:], table.labels).fit(CORRECTORS[name]))
    with pytest.raises(MergeError, match="some with and some without"):
        mine.merge(unlabelled)
    columns = list("efghij")
    frame = clone(CORRECTORS[name]).fit(pd.DataFrame(table.X, columns=columns), **table.labels)
    with pytest.raises(MergeError, match="another order: column 0"):
        frame.merge(clone(CORRECTORS[name]).fit(pd.DataFrame(table.X, columns=columns[::-1]), **table.labels))
    with pytest.raises(MergeError, match="of one kind"):
        mine.merge(clone(CORRECTORS[name]).fit(table.X, batch=np.arange(40) % 2))
    with pytest.raises(MergeError, match="same columns"):
        mine.merge(clone(CORRECTORS[name]).fit(table.X, **table.labels, keep={"age": np.linspace(0, 1, 40)}))


@pytest.mark.parametrize("name", THREE)
def test_the_order_of_kept_columns_does_not_matter(name):
    table = Table.of(10, keep=("group", "age"))
    keep = table.labels["keep"]
    first = clone(CORRECTORS[name]).partial_fit(table.X[:20], batch=table.labels["batch"][:20], keep=keep[:20])
    other = {"batch": table.labels["batch"][20:], "keep": keep[["age", "group"]][20:].reset_index(drop=True)}
    second = clone(CORRECTORS[name]).partial_fit(table.X[20:], **other)
    assert_same(first.merge(second), table.fit(CORRECTORS[name]), table)
    assert_same(first.partial_fit(table.X[20:], **other), table.fit(CORRECTORS[name]), table)


@pytest.mark.parametrize("name", THREE)
def test_a_confounded_chunk_waits_for_the_others(name):
    table = Table.of(11, keep=("group",))
    group, batch = table.labels["keep"]["group"].to_numpy(), table.labels["batch"]
    first = ((batch == "a") & (group == "u")) | ((batch != "a") & (group == "v"))
    parts = [table.part(first), table.part(~first)]
    sites = [part.partly(CORRECTORS[name]) for part in parts]
    for part, site in zip(parts, sites, strict=True):
        with pytest.raises(ConfoundedDesignError, match="'group'"):
            site.transform(part.X, **part.labels)
    assert_same(sites[0].merge(sites[1]), table.fit(CORRECTORS[name]), table)


def test_float32_chunks_are_added_in_float64():
    table = Table.of(12, missing=0.1)
    table.X = (table.X + 100).astype(np.float32)
    for corrector in THREE.values():
        chunks = in_chunks(table, corrector, [0, 5, 21, 40])
        whole = table.fit(corrector)
        assert_allclose(chunks.affine_.scale, whole.affine_.scale, rtol=1e-10)
        assert_array_equal(chunks.moments_.x.n, whole.moments_.x.n)
        assert_allclose(chunks.moments_.x.mean, whole.moments_.x.mean, rtol=1e-14)
        assert chunks.transform(table.X, **table.labels).dtype == np.float32


@pytest.mark.parametrize("name", THREE)
def test_kept_y_adds_up(name):
    table = Table.of(13, missing=0.1)
    y = np.where(np.arange(40) % 3 == 0, "case", "control")
    corrector = clone(CORRECTORS[name]).set_params(keep_y=True)
    whole = clone(corrector).fit(table.X, y, **table.labels)
    chunks = clone(corrector)
    for a, b in ((0, 1), (1, 20), (20, 40)):
        chunks.partial_fit(table.X[a:b], y[a:b], batch=table.labels["batch"][a:b])
    assert_same(chunks, whole, table)


def test_two_sites_share_moments_and_never_rows():
    table = Table.of(14, keep=("group", "age"))
    at_a = np.isin(table.labels["batch"], ["a", "b"])
    site_a, site_b = (table.part(rows).partly(ComBat()) for rows in (at_a, ~at_a))
    assert_same(site_a.merge(site_b), table.fit(ComBat()), table)


def test_parameters_that_are_lists_are_equal_by_what_they_hold():
    table = pd.DataFrame({"x": [1.0, 2, 3, 5], "age": [30.0, 40, 50, 20], "sex": list("fmfm")})
    for one, two in ((["age", "sex"], pd.Index(["age", "sex"])), (("age", "sex"), np.array(["age", "sex"]))):
        fitted = [
            LinearCorrector(keep_keys=keys, keep_at_transform=False).partial_fit(table, batch=label)
            for keys, label in ((one, "a"), (two, "b"))
        ]
        assert fitted[0].merge(fitted[1]).batches_.tolist() == ["a", "b"]
    with pytest.raises(MergeError, match="equal parameters"):
        LinearCorrector(keep_keys=["age", "sex"]).partial_fit(table, batch="a").merge(
            LinearCorrector(keep_keys=["sex", "age"]).partial_fit(table, batch="b")
        )


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_squares_that_only_overflow_or_vanish_together_are_refused_as_in_one_piece(size):
    X = np.random.default_rng(0).normal(size=(8, 3))
    X[:, 1] = np.repeat([0.0, size], 4)
    batch = ["a", "b"] * 4
    with pytest.raises(BatchfixError, match="squares of X must fit float64"):
        BatchCorrector().fit(X, batch=batch)
    first = BatchCorrector().partial_fit(X[:4], batch=batch[:4])
    with pytest.raises(BatchfixError, match="squares of X must fit float64"):
        first.partial_fit(X[4:], batch=batch[4:])
    with pytest.raises(BatchfixError, match="squares of X must fit float64"):
        first.merge(BatchCorrector().partial_fit(X[4:], batch=batch[4:]))
    assert first.statistics_.moments.rows.sum() == 4
