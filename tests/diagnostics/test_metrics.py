"""The metrics as users call them: containers, alignment, published numbers, and sentences where none can be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist, pdist, squareform

from batchfix.core.log_ratios import clr
from batchfix.datasets import make_lab
from batchfix.diagnostics.anova import permanova
from batchfix.diagnostics.distances import measure
from batchfix.diagnostics.effects import feature_effects
from batchfix.diagnostics.mixing import Neighbourhood, lisi, silhouette
from batchfix.diagnostics.samples import read_samples
from batchfix.diagnostics.spread import dispersion
from batchfix.diagnostics.variance import variance_explained
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    BatchfixWarning,
    ConfoundedDesignError,
    EstimabilityWarning,
    MissingLabelError,
    SingletonBatchWarning,
    TooFewSamplesError,
)

ORACLES = Path(__file__).parent.parent / "oracles"

METRICS = {
    "permanova": lambda X, labels: permanova(X, labels, permutations=9, random_state=0),
    "variance_explained": variance_explained,
    "dispersion": dispersion,
    "silhouette": silhouette,
    "lisi": lambda X, labels: lisi(X, labels, perplexity=4),
    "feature_effects": feature_effects,
}
each = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def number(found) -> float:
    """One number that depends on every label and value."""
    for name in ("F", "mean"):
        value = getattr(found, name, None)
        if value is not None:
            return float(np.sum(value))
    return float(found.table["F"].sum())


@pytest.fixture(scope="module")
def oracle():
    return np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())


@pytest.fixture
def table():
    lab = make_lab(40, 6, random_state=0)
    return lab.data, lab.batch, lab.group


# ---- numbers


@pytest.mark.parametrize(("name", "key"), [("before", "X"), ("after", "X_after")])
def test_the_oracles(oracle, name, key):
    arrays, numbers = oracle
    X, batch, group, want = arrays[key], arrays["batch"], arrays["group"], numbers[name]
    # vegan's own zero, of a table that batch was taken out of, is 3e-16
    for label, factor, given in (("batch", batch, group), ("group", group, batch)):
        alone = permanova(X, factor, permutations=0)
        assert_allclose(alone.F, want[f"skbio_permanova_F_{label}"], rtol=1e-10)
        beyond = permanova(X, factor, given=given, permutations=0)
        assert_allclose(beyond.F, want[f"vegan_margin_F_{label}"], rtol=1e-10, atol=1e-10)
        assert_allclose(beyond.R2, want[f"vegan_margin_R2_{label}"], atol=1e-10)
        assert np.isnan(alone.p_value)
    shares = variance_explained(X, batch, keep=pd.DataFrame({"group": group}))
    assert_allclose(shares.table["R2_adjusted"].to_numpy(), np.array(want["vegan_varpart"])[[0, 1, 2, 3]], atol=1e-10)
    assert_allclose(shares.residual, want["vegan_residual_R2"], rtol=1e-10)
    assert_allclose(dispersion(X, batch).F, want["vegan_betadisper_centroid_F"], rtol=1e-10)
    assert_allclose(dispersion(X, batch).features["F"].median(), want["scipy_levene_median_batch"], rtol=1e-10)
    assert_allclose(dispersion(X, batch, center="median").F, want["vegan_betadisper_median_F"], rtol=2e-4)
    assert_allclose(silhouette(X, batch).mean, want["sklearn_silhouette_batch"], atol=1e-10)
    assert_allclose(lisi(X, batch).mean, want["harmonypy_lisi_batch_mean"], rtol=1e-10)
    graph = lisi(X, group, perplexity=10, n_neighbors=30)
    assert_allclose(graph.median, want["scib_clisi_k31"], rtol=1e-4)
    assert_allclose(feature_effects(X, batch).F.median(), want["scipy_anova_F_median_batch"], rtol=1e-10)


@pytest.mark.parametrize("distance", ["euclidean", "precomputed"])
def test_p_under_given_permutations(oracle, distance):
    arrays, numbers = oracle
    X = arrays["X"] if distance == "euclidean" else cdist(arrays["X"], arrays["X"])
    found = permanova(X, arrays["batch"], distance=distance, permutations=arrays["perms"])
    assert_allclose(found.permuted_F, arrays["Fperm"], rtol=1e-10)
    assert found.p_value == numbers["perm199"]["p"]
    assert_allclose([found.F, found.R2], [numbers["perm199"]["F"], numbers["perm199"]["R2"]], rtol=1e-10)


def test_many_metrics_are_one_number(table):
    X, batch, _ = table
    found = permanova(X, batch, permutations=0)
    eta2 = feature_effects(X, batch).eta2
    assert_allclose(np.average(eta2, weights=X.var()), found.R2, rtol=1e-10)
    assert_allclose(variance_explained(X, batch).R2["batch"], found.R2, rtol=1e-12)
    centred = X.to_numpy() - X.to_numpy().mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    per_component = feature_effects(left * sizes, batch).eta2
    assert_allclose(np.average(per_component, weights=sizes**2), found.R2, rtol=1e-10)  # PCR on all components
    means = X.groupby(batch.to_numpy()).transform("mean").to_numpy()
    between, within = np.square(means - X.to_numpy().mean(axis=0)).sum(), np.square(X.to_numpy() - means).sum()
    assert_allclose(np.sqrt(between / within), np.sqrt(found.R2 / (1 - found.R2)), rtol=1e-10)  # DSC


def test_aitchison_is_euclidean_on_clr_and_bray_curtis_is_scipys():
    rng = np.random.default_rng(0)
    X, batch = rng.gamma(2.0, size=(30, 5)) + 0.01, np.arange(30) % 3
    kwargs = {"permutations": 49, "random_state": 1}
    one, two = permanova(X, batch, distance="aitchison", **kwargs), permanova(clr(X), batch, **kwargs)
    assert_array_equal(one.permuted_F, two.permuted_F)
    D = squareform(pdist(X, "braycurtis"))
    one = permanova(X, batch, distance="braycurtis", **kwargs)
    two = permanova(D, batch, distance="precomputed", **kwargs)
    assert_allclose(one.permuted_F, two.permuted_F, rtol=1e-12)
    for center in ("centroid", "median"):
        assert_allclose(
            dispersion(X, batch, center, "braycurtis").distances, dispersion(D, batch, center, "precomputed").distances
        )
        assert_allclose(
            dispersion(X, batch, center, "aitchison").distances, dispersion(clr(X), batch, center).distances
        )
    assert dispersion(D, batch, distance="precomputed").features is None
    assert_array_equal(D, squareform(pdist(X, "braycurtis")))  # not written over


def test_more_features_than_samples(table):
    rng = np.random.default_rng(1)
    X, batch, given = rng.normal(size=(25, 300)), np.arange(25) % 3, rng.normal(size=25)
    kwargs = {"given": given, "permutations": 29, "random_state": 2}
    wide = permanova(X, batch, **kwargs)
    by_distance = permanova(cdist(X, X), batch, distance="precomputed", **kwargs)
    assert_allclose([wide.F, *wide.permuted_F], [by_distance.F, *by_distance.permuted_F], rtol=1e-8)


@pytest.mark.parametrize("distance", ["euclidean", "aitchison", "braycurtis"])
@pytest.mark.parametrize("p", [6, 60])
def test_what_is_measured_once_serves_several_numbers(distance, p):
    lab = make_lab(40, p, random_state=0)
    X = np.exp(lab.data)
    shared = measure(X, distance, "A PERMANOVA", shared=True)
    for _ in range(2):  # nothing is written over
        for factor, given in ((lab.batch, None), (lab.batch, lab.group), (lab.group, lab.batch)):
            alone, other = (
                permanova(each, factor, given=given, distance=distance, permutations=99, random_state=0)
                for each in (X, shared)
            )
            assert (alone.F, alone.R2, alone.p_value) == pytest.approx((other.F, other.R2, other.p_value), rel=1e-12)
            assert_allclose(alone.permuted_F, other.permuted_F, rtol=1e-9)
        for center in ("centroid", "median"):
            alone, other = (dispersion(each, lab.batch, center, distance) for each in (X, shared))
            assert_allclose(alone.distances, other.distances, rtol=1e-12)


def test_a_neighbourhood_serves_several_labels(table):
    X, batch, group = table
    around = Neighbourhood.of(read_samples(X), perplexity=5)
    for labels in (batch, group):
        wanted, found = lisi(X, labels, perplexity=5), around.lisi(labels)
        pd.testing.assert_series_equal(found.per_sample, wanted.per_sample)
        assert (found.mean, found.chance, found.n_neighbors) == (wanted.mean, wanted.chance, wanted.n_neighbors)


def test_permutations_are_repeatable_and_find_what_is_there(table):
    X, batch, group = table
    one, two = (permanova(X, batch, given=group, random_state=3) for _ in range(2))
    assert_array_equal(one.permuted_F, two.permuted_F)
    assert one.p_value == 0.001
    shuffled = np.random.default_rng(0).permutation(batch.to_numpy())
    assert permanova(X, shuffled, random_state=3).p_value > 0.01
    assert len(permanova(X, batch, random_state=np.random.RandomState(0), progress=True).permuted_F) == 999


def test_labels_a_whole_layout_apart_leave_nothing_over():
    X = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [5.0, 7.0], [5.0, 7.0], [5.0, 7.0]])
    found = permanova(X, list("aaabbb"), permutations=99, random_state=0)
    assert np.isposinf(found.F)
    assert found.R2 == 1.0
    # 2 of the 20 splits are this one: about 10 of 99
    assert 0.02 < found.p_value < 0.25


def test_shares_add_up_and_confounding_is_shared(table):
    X, batch, _ = table
    age = np.where(batch == batch.iloc[0], 60.0, 40.0) + np.random.default_rng(0).normal(size=40)
    found = variance_explained(X, batch, keep={"age": age})
    assert_allclose(found.table[["R2", "R2_adjusted"]].sum(), 1, rtol=1e-12)
    assert_allclose(found.features.sum(axis=1), 1, rtol=1e-12)
    assert found.shared > 0.02
    assert_allclose(np.average(found.features["batch"], weights=X.var()), found.R2["batch"], rtol=1e-9)
    with pytest.warns(EstimabilityWarning, match="'site' must vary beside the others"):
        nested = variance_explained(X, batch, keep={"site": (batch == batch.iloc[0]).to_numpy()})
    assert nested.R2["site"] == 0


def test_several_batch_factors_are_each_a_factor(table):
    X, batch, group = table
    both = pd.DataFrame({"plate": batch, "run": np.arange(40) % 2})
    assert variance_explained(X, both, keep=group.rename("group")).factors == ("plate", "run", "group")


def test_batches_of_one_or_two_have_no_spread_to_compare():
    rng = np.random.default_rng(0)
    X, batch = rng.normal(size=(23, 5)), np.array(["a"] * 10 + ["b"] * 10 + ["two"] * 2 + ["one"])
    with pytest.warns(SingletonBatchWarning, match=r"fewer in \{'one', 'two'\}: left out"):
        found = dispersion(X, batch)
    without = dispersion(X[:20], batch[:20])
    assert (found.F, found.df, found.residual_df) == (without.F, 1, 18)
    pd.testing.assert_frame_equal(found.features, without.features)
    assert_allclose(found.distances[20], found.distances[21])
    assert found.batches["tested"].tolist() == [True, True, False, False]
    with pytest.raises(TooFewSamplesError, match="got 22 samples in 11 batches"):
        dispersion(X[:22], np.arange(22) // 2)


def test_bias_of_small_batches_is_multiplied_out():
    rng = np.random.default_rng(0)
    batch = np.repeat(["small", "large"], [3 * 60, 60])
    batch[:180] = np.char.add("s", (np.arange(180) // 3).astype(str))
    found, adjusted = (dispersion(rng.normal(size=(240, 50)), batch, bias_adjust=a) for a in (False, True))
    # all have one spread: sqrt(2 / 3) of it is seen in threes
    assert found.p_value < 1e-6
    assert adjusted.p_value > 0.01


def test_chance_is_what_lisi_has_without_structure(table):
    rng = np.random.default_rng(0)
    found = lisi(rng.normal(size=(300, 3)), np.arange(300) % 3, perplexity=20)
    assert abs(found.scaled - 1) < 0.1
    X, batch, _ = table
    assert lisi(X, batch, perplexity=5).scaled < 0.5


def test_effects_come_with_rates_and_names(table):
    X, batch, group = table
    X = X.copy()
    X.iloc[:5, 0] = np.nan
    X["flat"] = 0.3
    found = feature_effects(X, batch, keep=group)
    assert list(found.table.index) == list(X.columns)
    assert np.isnan(found.table.loc["flat", "q_value"])
    first = feature_effects(X.iloc[5:, [0]], batch[5:], keep=group[5:])
    assert_allclose(found.F.iloc[0], first.F.iloc[0], rtol=1e-12)
    assert (found.q_value.dropna() >= found.p_value.dropna()).all()
    assert found.top(1)["eta2"].item() == found.eta2.max()


# ---- containers


@each
def test_labels_are_aligned_by_index(metric, table):
    X, batch, _ = table
    want = number(metric(X, batch))
    order = np.random.default_rng(0).permutation(40)
    assert_allclose(number(metric(X, batch.iloc[order])), want, rtol=1e-10)
    for labels in (batch.to_numpy(), batch.tolist(), batch.astype("category"), batch.to_frame()):
        assert_allclose(number(metric(X, labels)), want, rtol=1e-10)
    assert_allclose(number(metric(X.to_numpy(), batch.to_numpy())), want, rtol=1e-10)
    with pytest.raises(AlignmentError, match="index"):
        metric(X, batch.set_axis(np.arange(40) + 1000))


@each
def test_rows_and_names_of_labels_do_not_matter(metric, table):
    X, batch, _ = table
    order = np.random.default_rng(1).permutation(40)
    renamed = batch.iloc[order].map({"b1": 7, "b2": 3, "b3": 5})
    assert_allclose(number(metric(X.iloc[order], renamed)), number(metric(X, batch)), rtol=1e-9)


@each
def test_float32_is_read_as_it_is(metric, table):
    X, batch, _ = table
    assert_allclose(number(metric(X.astype(np.float32), batch)), number(metric(X, batch)), rtol=1e-4)


@each
def test_the_table_is_not_changed_and_the_result_speaks(metric, table):
    X, batch, _ = table
    before = X.copy()
    text = str(metric(X, batch))
    pd.testing.assert_frame_equal(X, before)
    assert text.endswith((".", "apart."))
    assert "nan" not in text


def test_polars_tables_are_read(table):
    polars = pytest.importorskip("polars")
    X, batch, _ = table
    found = feature_effects(polars.from_pandas(X), polars.Series("batch", batch.tolist()))
    assert_allclose(found.F, feature_effects(X, batch).F)
    assert list(found.table.index) == list(X.columns)


# ---- where no number is had


@each
def test_labels_that_cannot_do(metric, table):
    X, batch, _ = table
    with pytest.raises(BatchfixError, match=r"two levels at least.*got 'one'"):
        metric(X, ["one"] * 40)
    with pytest.raises(AlignmentError, match="one entry a row"):
        metric(X, batch.to_numpy()[:-1])
    with pytest.raises(BatchfixError, match="one label for each of the 40 rows of X, got None"):
        metric(X, None)
    with pytest.raises(BatchfixError, match="one label for each of the 40 rows of X, got 'batch'"):
        metric(X, "batch")
    with pytest.raises(MissingLabelError, match="must have a label"):
        metric(X, batch.where(batch != "b1"))
    with pytest.raises(BatchfixError, match="strings or integers"):
        metric(X, np.linspace(0, 1, 40))


@pytest.mark.parametrize("name", [name for name in METRICS if name != "lisi"])
def test_all_labels_differ(name, table):
    with pytest.raises(TooFewSamplesError, match=r"40 .*(no two rows share one|every label is unique)"):
        METRICS[name](table[0], np.arange(40))


def test_lisi_of_labels_that_all_differ_is_had(table):
    found = lisi(table[0], np.arange(40), perplexity=5)
    assert_allclose(found.mean, found.chance)


@each
def test_tables_that_cannot_do(metric, table):
    X, batch, _ = table
    infinite = X.to_numpy().copy()
    infinite[3, 2] = -np.inf
    with pytest.raises(BatchfixError, match="infinity, first in row 3, column 2"):
        metric(infinite, batch.to_numpy())
    for bad in (X.to_numpy()[:, 0], X.to_numpy()[:, :0], X.to_numpy()[None]):
        with pytest.raises(BatchfixError, match="samples in rows and features in columns"):
            metric(bad, batch.to_numpy())
    with pytest.raises(BatchfixError, match="text, categories or dates in 'run'"):
        metric(X.assign(run="a"), batch)
    with pytest.raises(BatchfixError, match="complex"):
        metric(X.to_numpy() * 1j, batch.to_numpy())


@pytest.mark.parametrize("name", [name for name in METRICS if name != "feature_effects"])
def test_missing_values_and_constant_tables(name, table):
    X, batch, _ = table
    with pytest.raises(BatchfixError, match="needs every value of every sample, got X with 1 missing"):
        METRICS[name](X.mask(X.iloc[0, 0] == X), batch)
    with pytest.raises(BatchfixError, match=r"constant|no spread"):
        METRICS[name](X * 0 + 0.3, batch)


def test_a_constant_table_has_features_without_effects(table):
    X, batch, _ = table
    assert feature_effects(X * 0 + 0.3, batch).table[["eta2", "F", "p_value", "q_value"]].isna().all(axis=None)


def test_designs_that_cannot_do(table):
    X, batch, _ = table
    coarse = batch == "b1"
    for call in (
        lambda: permanova(X, coarse, given=batch),
        lambda: feature_effects(X, coarse, keep=batch),
    ):
        with pytest.raises(ConfoundedDesignError, match="must not follow from what is"):
            call()
    wide = np.random.default_rng(0).normal(size=(40, 38))
    with pytest.raises(TooFewSamplesError, match="beside 38 degrees of freedom"):
        permanova(X, batch, given=wide)
    with pytest.raises(TooFewSamplesError, match="more samples than things to estimate"):
        variance_explained(X, batch, keep=wide)
    with pytest.raises(BatchfixError, match=r"keep must be a table or a column .* got 'group'"):
        variance_explained(X, batch, keep="group")
    with pytest.raises(AmbiguousKeepError, match="a factor or a number"):
        feature_effects(X, batch, keep=pd.DataFrame({"age": np.arange(40)}, index=X.index))
    with pytest.raises(BatchfixError, match="names of their own, got 'batch'"):
        variance_explained(X, batch, keep=pd.DataFrame({"batch": coarse}))


def test_arguments_that_cannot_do(table):
    X, batch, _ = table
    D = cdist(X, X)
    for call, match in [
        (lambda: permanova(X, batch, distance="cosine"), "distance must be one of .*'cosine'"),
        (lambda: permanova(X, batch, permutations=-1), "whole number of at least 0, got -1"),
        (lambda: permanova(X, batch, permutations=2.5), "whole number"),
        (lambda: permanova(X, batch, permutations=np.zeros((3, 7), dtype=int)), r"array \(m, 40\)"),
        (lambda: permanova(X, batch, permutations=np.ones((3, 40), dtype=int)), "0 .. 39 once each"),
        (lambda: permanova(X, batch, random_state="seed"), "random_state must be"),
        (lambda: permanova(X, batch, distance="precomputed"), r"square matrix, got shape \(40, 6\)"),
        (lambda: permanova(D + np.triu(D), batch, distance="precomputed"), "symmetric"),
        (lambda: permanova(D + 1, batch, distance="precomputed"), "0 from each sample to itself"),
        (lambda: permanova(-D, batch, distance="precomputed"), "not negative"),
        (lambda: permanova(X - 100, batch, distance="aitchison"), "negative|above 0"),
        (lambda: permanova(X - 100, batch, distance="braycurtis"), "negative"),
        (lambda: dispersion(X, batch, center="mode"), "'centroid' or 'median', got 'mode'"),
        (lambda: silhouette(X, batch, metric="cosine"), "'euclidean' or 'sqeuclidean', got 'cosine'"),
        (lambda: lisi(X, batch, perplexity=1), "above 1"),
        (lambda: lisi(X, batch, perplexity=45), "more neighbours than the perplexity, got 39 and 45"),
        (lambda: lisi(X, batch, n_neighbors=40), "at most the 39 other samples"),
    ]:
        with pytest.raises(BatchfixError, match=match):
            call()
    named = pd.DataFrame(D, index=X.index, columns=X.index[::-1])
    with pytest.raises(AlignmentError, match="same samples in one order"):
        permanova(named, batch, distance="precomputed")


def test_distances_that_are_not_euclidean_are_named():
    star = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0.0]])
    D = np.full((7, 7), 2.0)
    D[:4, :4], D[4:, 4:] = star, np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0.0]])
    with pytest.warns(BatchfixWarning, match="squares above 0, but those of 1 samples are below"):
        dispersion(D, list("aaaabbb"), distance="precomputed")


def test_a_large_matrix_is_announced(monkeypatch, caplog):
    from batchfix.diagnostics import distances

    X, batch = np.random.default_rng(0).gamma(2.0, size=(30, 4)), np.arange(30) % 2
    with caplog.at_level("INFO", logger=distances.__name__):
        permanova(X, batch, distance="braycurtis", permutations=0)
    assert "30 x 30 numbers" in caplog.text
    monkeypatch.setattr(distances, "LARGE", 100)
    with pytest.warns(BatchfixWarning, match="30 x 30 numbers"):
        permanova(X, batch, distance="braycurtis", permutations=0)
