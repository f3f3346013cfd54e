import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import ComBat
from batchfix.datasets import make_microbes
from batchfix.exceptions import BatchfixError

NO_BATCH = {"batch_bias": 0.0, "missed": 0.0, "depth_shift": 0.0}
# No zeros, and shares known to about a thousandth.
DEEP = {"depth": 10**8, "missed": 0.0, "spread": 0.5, "variation": 0.5}


def clr(values):
    logs = np.log(np.asarray(values, dtype=float))
    return logs - logs.mean(axis=1, keepdims=True)


def closed(values):
    return values / values.sum(axis=1, keepdims=True)


def expected_shares(table):
    """What the class documents: truth, times the batch's efficiency, closed."""
    efficiency = np.exp(table.bias) * np.where(table.present, 1.0, 1e-3)
    return closed(table.truth.to_numpy() * efficiency.loc[table.batch].to_numpy())


def half_minimum(counts):
    """Proportions, zeros at half the smallest of the table."""
    shares = closed(counts.to_numpy(dtype=float))
    return np.where(shares > 0, shares, shares[shares > 0].min() / 2)


def explained(values, labels):
    """Share of the total variance that labels explain: PERMANOVA's R2 on Euclidean distance."""
    centred = pd.DataFrame(values - values.mean(axis=0))
    between = centred.groupby(labels.to_numpy()).transform("mean").to_numpy()
    return (between**2).sum() / (centred.to_numpy() ** 2).sum()


def auc_of_unseen_batches(values, batch, group):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = LeaveOneGroupOut()
    return cross_val_score(model, values, group == "case", groups=batch, cv=folds, scoring="roc_auc").mean()


def zeros(table):
    return float((table.counts == 0).to_numpy().mean())


@st.composite
def arguments(draw):
    """Arguments of make_microbes that it must accept."""
    n_batches = draw(st.integers(1, 5))
    return {
        "n_samples": draw(st.integers(2 * n_batches, 2 * n_batches + 20)),
        "n_taxa": draw(st.integers(2, 12)),
        "n_batches": n_batches,
        "batch_bias": draw(st.floats(0, 10)),
        "missed": draw(st.floats(0, 1)),
        "depth": draw(st.integers(1, 10**8)),
        "depth_shift": draw(st.floats(0, 2)),
        "depth_variation": draw(st.floats(0, 2)),
        "effect_size": draw(st.floats(0, 10, allow_subnormal=False)),
        "effect_share": draw(st.floats(0, 1)),
        "confounding": draw(st.floats(0, 1)) if n_batches > 1 else 0.0,
        "spread": draw(st.floats(0, 10)),
        "variation": draw(st.floats(0, 10)),
        "random_state": draw(st.integers(0, 2**32)),
    }


class TestShapes:
    @given(arguments())
    @settings(max_examples=60)
    def test_everything_fits_together(self, given_arguments):
        table = make_microbes(**given_arguments)
        n, p, b = (given_arguments[name] for name in ("n_samples", "n_taxa", "n_batches"))
        assert table.counts.shape == table.truth.shape == (n, p)
        assert table.bias.shape == table.present.shape == (b, p)
        assert (table.counts.dtypes == np.int64).all()
        assert (table.present.dtypes == np.bool_).all()
        for labels in (table.batch, table.group, table.depth, table.truth):
            pd.testing.assert_index_equal(labels.index, table.counts.index)
        for taxa in (table.truth.columns, table.bias.columns, table.present.columns, table.base.index):
            pd.testing.assert_index_equal(taxa, table.counts.columns)
        sizes = table.batch.value_counts()
        assert len(sizes) == b
        assert sizes.max() - sizes.min() <= 1

    @given(arguments())
    @settings(max_examples=60)
    def test_counts_add_up_to_the_depth_and_the_truth_to_one(self, given_arguments):
        table = make_microbes(**given_arguments)
        counts, truth = table.counts.to_numpy(), table.truth.to_numpy()
        assert (counts >= 0).all()
        assert (counts.sum(axis=1) == table.depth).all()
        assert (table.depth >= 1).all()
        assert (truth > 0).all()
        np.testing.assert_allclose(truth.sum(axis=1), 1, rtol=1e-14)
        np.testing.assert_allclose(table.bias.mean(axis=1), 0, atol=1e-14 * (1 + 10 * given_arguments["batch_bias"]))
        assert abs(table.base.mean()) <= 1e-13

    @given(arguments())
    @settings(max_examples=60)
    def test_shares_are_what_was_asked(self, given_arguments):
        table = make_microbes(**given_arguments)
        p, size = given_arguments["n_taxa"], given_arguments["effect_size"]
        assert ((~table.present).sum(axis=1) == round(given_arguments["missed"] * p)).all()
        carriers = round(given_arguments["effect_share"] * p) if size > 0 else 0
        assert (table.effect != 0).sum() == carriers
        assert set(table.effect.abs()) <= {0.0, size}
        assert (table.effect > 0).sum() - (table.effect < 0).sum() == carriers % 2

    def test_names_sort_as_their_numbers_do(self):
        table = make_microbes(24, 10, 12, random_state=0)
        assert table.counts.columns.tolist() == sorted(table.counts.columns)
        assert table.counts.columns[0] == "taxon01"
        assert table.counts.index.tolist() == sorted(table.counts.index)
        assert table.bias.index.tolist() == sorted(table.bias.index)


class TestTruth:
    def test_without_batch_effects_the_shares_are_the_truth(self):
        table = make_microbes(20, 30, 2, **{**DEEP, "batch_bias": 0.0}, random_state=0)
        assert (table.bias == 0).all(axis=None)
        assert table.present.all(axis=None)
        shares = closed(table.counts.to_numpy())
        # A share q of N reads is known to sqrt(q / N); five of that.
        truth = table.truth.to_numpy()
        error = 5 * np.sqrt(truth / table.depth.to_numpy()[:, None])
        assert (np.abs(shares - truth) < error).all()

    def test_log_ratios_have_the_expectations_that_are_promised(self):
        n_samples = 2000
        table = make_microbes(n_samples, 40, 2, effect_size=1.5, variation=1.0, random_state=0)
        case = (table.group == "case").to_numpy()
        logs = clr(table.truth)
        error = 5 * np.sqrt(2 / n_samples)
        np.testing.assert_allclose(logs[~case].mean(axis=0), table.base, atol=error)
        difference = logs[case].mean(axis=0) - logs[~case].mean(axis=0)
        np.testing.assert_allclose(difference, table.effect - table.effect.mean(), atol=1.5 * error)
        # Between two taxa, the effects themselves, whatever the others do.
        up, down = table.effect.idxmax(), table.effect.idxmin()
        ratio = np.log(table.truth[up] / table.truth[down])
        assert ratio[case].mean() - ratio[~case].mean() == pytest.approx(3.0, abs=2 * error)

    def test_the_draws_have_the_spreads_that_are_promised(self):
        table = make_microbes(
            300, 3000, 3, batch_bias=0.7, spread=2.5, variation=1.5, effect_size=0, depth=1, random_state=0
        )
        assert table.base.std() == pytest.approx(2.5, rel=0.05)
        np.testing.assert_allclose(table.bias.std(axis=1), 0.7, rtol=0.05)
        noise = clr(table.truth) - table.base.to_numpy()
        assert noise.std() == pytest.approx(1.5, rel=0.01)
        batches = np.corrcoef(table.bias)
        assert np.abs(batches[np.triu_indices(3, 1)]).max() < 0.1

    @given(arguments(), st.floats(0, 10), st.floats(0, 1), st.integers(1, 10**8), st.floats(0, 2))
    @settings(max_examples=30)
    def test_a_seed_fixes_the_truth_whatever_the_batch_effects(self, given_arguments, bias, missed, depth, shift):
        table = make_microbes(**given_arguments)
        changed = {"batch_bias": bias, "missed": missed, "depth": depth, "depth_shift": shift}
        other = make_microbes(**{**given_arguments, **changed})
        pd.testing.assert_frame_equal(table.truth, other.truth, check_exact=True)
        pd.testing.assert_series_equal(table.group, other.group)
        pd.testing.assert_series_equal(table.batch, other.batch)
        again = make_microbes(**given_arguments)
        pd.testing.assert_frame_equal(table.counts, again.counts)
        pd.testing.assert_frame_equal(table.bias, again.bias, check_exact=True)
        pd.testing.assert_frame_equal(table.present, again.present)

    def test_another_seed_makes_another_table_and_a_generator_moves_on(self):
        rng = np.random.default_rng(0)
        first, second = make_microbes(random_state=rng), make_microbes(random_state=rng)
        assert not first.counts.equals(second.counts)
        assert first.counts.equals(make_microbes(random_state=0).counts)
        assert not first.counts.equals(make_microbes(random_state=1).counts)


class TestBias:
    def test_expected_log_ratios_are_those_of_the_truth_plus_the_bias(self):
        table = make_microbes(40, 50, 4, missed=0.0, random_state=0)
        gap = clr(expected_shares(table)) - clr(table.truth)
        np.testing.assert_allclose(gap, table.bias.loc[table.batch], atol=1e-12)

    def test_at_great_depth_the_bias_comes_back_from_the_counts(self):
        table = make_microbes(40, 50, 4, **DEEP, batch_bias=1.0, random_state=0)
        assert zeros(table) == 0
        gap = pd.DataFrame(clr(table.counts) - clr(table.truth))
        found = gap.groupby(table.batch.to_numpy()).mean().to_numpy()
        # The rarest share here expects some 1e4 reads in a sample: its log is known to 0.01, a mean of ten to 0.003.
        np.testing.assert_allclose(found, table.bias, atol=0.01)
        within = gap.groupby(table.batch.to_numpy()).std().to_numpy()
        assert within.max() < 0.05

    def test_centring_each_batch_takes_the_bias_out(self):
        """A bias per taxon is an offset in log-ratios: what location-only correction removes."""
        table = make_microbes(400, 30, 2, **DEEP, batch_bias=2.0, random_state=0)
        logs = clr(table.counts)
        assert explained(logs, table.batch) > 0.8
        labels = table.batch.to_numpy()
        centred = logs - pd.DataFrame(logs).groupby(labels).transform("mean").to_numpy()
        true = clr(table.truth)
        true = true - pd.DataFrame(true).groupby(labels).transform("mean").to_numpy()
        np.testing.assert_allclose(centred, true, atol=0.1)

    def test_a_missed_taxon_keeps_a_thousandth_of_its_ratios(self):
        table = make_microbes(30, 40, 3, **{**DEEP, "missed": 0.25, "batch_bias": 0.0}, random_state=0)
        gap = clr(expected_shares(table)) - clr(table.truth)
        present = table.present.loc[table.batch].to_numpy()
        for row, there in zip(gap, present, strict=True):
            assert np.ptp(row[there]) < 1e-12
            np.testing.assert_allclose(row[~there] - row[there][0], np.log(1e-3), rtol=1e-12)
        # 5 sqrt(q / N), as above, and a read.
        q, depth = expected_shares(table), table.depth.to_numpy()[:, None]
        assert (np.abs(table.counts / depth - q) < 5 * np.sqrt(q / depth) + 1 / depth).all(axis=None)

    def test_missed_taxa_are_nearly_absent_from_their_batch(self):
        table = make_microbes(200, 100, 4, missed=0.2, random_state=0)
        prevalence = (table.counts > 0).groupby(table.batch).mean()
        common = prevalence.max() > 0.5
        present = table.present.loc[:, common].to_numpy()
        missed, found = (prevalence.loc[:, common].to_numpy()[mask] for mask in (~present, present))
        assert np.median(missed) < 0.05
        assert np.median(found) > 0.5

    def test_batches_miss_taxa_independently_and_more_of_them_nested(self):
        few, many = (make_microbes(n_batches=6, missed=share, random_state=0).present for share in (0.1, 0.3))
        assert not (many & ~few).any(axis=None)
        assert len({tuple(row) for row in few.to_numpy()}) == 6


class TestDepth:
    def test_it_has_the_median_and_the_spreads_that_are_promised(self):
        table = make_microbes(8000, 2, 400, depth=50_000, depth_shift=0.8, depth_variation=0.2, random_state=0)
        logs = np.log(table.depth)
        by_batch = logs.groupby(table.batch)
        # 400 batches: five errors of a mean of 0.8 are 0.2, of a standard deviation 18 %.
        assert by_batch.mean().mean() == pytest.approx(np.log(50_000), abs=0.2)
        assert by_batch.mean().std() == pytest.approx(0.8, rel=0.18)
        assert by_batch.std().mean() == pytest.approx(0.2, rel=0.05)

    def test_no_shift_and_no_variation_give_every_sample_the_same(self):
        table = make_microbes(depth=777, depth_shift=0, depth_variation=0, random_state=0)
        assert (table.depth == 777).all()

    def test_a_depth_of_one_is_one_read_each(self):
        table = make_microbes(depth=1, depth_shift=2, depth_variation=2, random_state=0)
        assert (table.depth >= 1).all()
        single = make_microbes(depth=1, depth_shift=0, depth_variation=0, random_state=0)
        assert (single.counts.max(axis=1) == 1).all()

    def test_depth_says_nothing_of_the_sample(self):
        """Thinned to a hundredth, the same shares are to be expected: the counts' are unbiased."""
        deep, thin = (make_microbes(300, 20, 1, **NO_BATCH, depth=d, random_state=0) for d in (100_000, 1_000))
        pd.testing.assert_frame_equal(deep.truth, thin.truth, check_exact=True)
        gap = closed(thin.counts.to_numpy()) - thin.truth.to_numpy()
        q, depth = thin.truth.to_numpy(), thin.depth.to_numpy()[:, None]
        error = np.sqrt((q * (1 - q) / depth).sum(axis=0)) / len(q)
        assert (np.abs(gap.mean(axis=0)) < 4 * error).all()


class TestRealism:
    def test_the_defaults_resemble_measured_studies(self):
        """Near the five studies of colorectal cancer: zeros .56, batch .083, biology .010, of common taxa."""
        figures = []
        for seed in range(8):
            table = make_microbes(random_state=seed)
            common = table.counts.loc[:, (table.counts > 0).mean() >= 0.1]
            logs = clr(half_minimum(common))
            zero = (common == 0).to_numpy().mean()
            figures.append((zeros(table), zero, explained(logs, table.batch), explained(logs, table.group)))
        every, zero, batch, group = np.mean(figures, axis=0)
        assert 0.5 < every < 0.75
        assert 0.4 < zero < 0.65
        assert 0.06 < batch < 0.18
        assert 0.008 < group < 0.025

    def test_zeros_fall_with_depth_and_rise_with_spread(self):
        shares = [zeros(make_microbes(depth=d, random_state=0)) for d in (1_000, 10_000, 100_000, 1_000_000)]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] - shares[-1] > 0.4
        shares = [zeros(make_microbes(spread=s, random_state=0)) for s in (0, 2, 4, 8)]
        assert shares == sorted(shares)


class TestTraps:
    """What goes wrong on measured studies goes wrong here too."""

    def test_a_pseudocount_makes_a_batch_effect_of_depth_alone(self):
        """Batches eight times apart in depth, and in nothing else."""
        table = make_microbes(300, 200, 2, batch_bias=0, missed=0, depth_shift=1.15, random_state=0)
        common = (table.counts > 0).mean() >= 0.1
        counts, truth = table.counts.loc[:, common], table.truth.loc[:, common]
        assert explained(clr(truth), table.batch) < 0.005
        assert explained(clr(half_minimum(counts)), table.batch) < 0.01
        assert explained(clr(counts + 0.5), table.batch) > 0.04
        assert explained(clr(counts + 1), table.batch) > 0.04

    def test_combat_told_the_groups_turns_effects_round_and_the_guard_stops_it(self):
        """The whole table corrected with every label, as papers do; then the same with labels permuted within batch."""
        figures = []
        for seed in range(3):
            table = make_microbes(300, 200, 4, missed=0.3, effect_size=0.5, random_state=seed)
            common = table.counts.loc[:, (table.counts > 0).mean() >= 0.1]
            logs, present = clr(half_minimum(common)), (common > 0).to_numpy()
            batch, group = table.batch.to_numpy(), table.group
            permuted = group.groupby(batch).transform(np.random.default_rng(seed).permutation)
            row = [auc_of_unseen_batches(logs, batch, group)]
            for labels in (group, permuted):
                told = {"batch": batch, "keep": labels.to_numpy()}
                plain = ComBat().fit(logs, **told).transform(logs, **told)
                guarded = ComBat(scale_guard=0.2).fit(logs, **told, scale_where=present).transform(logs, **told)
                row += [auc_of_unseen_batches(values, batch, labels) for values in (plain, guarded)]
            figures.append(row)
        raw, plain, guarded, null_plain, null_guarded = np.mean(figures, axis=0)
        assert plain < raw - 0.1
        assert guarded > raw - 0.02
        assert null_plain < 0.4
        assert null_guarded == pytest.approx(0.5, abs=0.05)


class TestConfounding:
    @pytest.mark.parametrize("confounding", [0.0, 0.25, 0.5, 0.75, 1.0])
    def test_batch_explains_its_square(self, confounding):
        table = make_microbes(64, 2, 4, confounding=confounding, random_state=0)
        case = (table.group == "case").astype(float)
        share = case.groupby(table.batch).transform("mean").var(ddof=0) / case.var(ddof=0)
        assert share == pytest.approx(confounding**2, abs=1e-12)

    def test_balanced_at_zero_and_apart_at_one(self):
        balanced = make_microbes(16, 2, 4, random_state=0)
        assert (pd.crosstab(balanced.batch, balanced.group) == 2).all(axis=None)
        apart = make_microbes(17, 2, 4, confounding=1, random_state=0)
        assert (apart.group.groupby(apart.batch).nunique() == 1).all()
        assert apart.group.nunique() == 2

    def test_rows_come_in_random_order(self):
        table = make_microbes(200, 2, 2, random_state=0)
        assert 50 < (table.batch != table.batch.shift()).sum() < 150


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
            ({"n_taxa": 1}, "n_taxa must be at least 2, got 1"),
            ({"n_batches": 0}, "n_batches must be at least 1, got 0"),
            ({"n_samples": 5}, r"n_samples must be at least 8 to fill 4 batches of two or more, got 5\. Change n_sam"),
            ({"depth": 0}, "depth must be at least 1, got 0"),
            ({"depth": 10**9}, "depth must be at most 100000000, got 1000000000"),
            ({"batch_bias": -1.0}, "batch_bias must be between 0 and 10, got -1.0"),
            ({"missed": 1.5}, "missed must be between 0 and 1, got 1.5"),
            ({"depth_shift": np.inf}, "depth_shift must be between 0 and 2, got inf"),
            ({"depth_variation": 3}, "depth_variation must be between 0 and 2, got 3"),
            ({"effect_size": np.nan}, "effect_size must be between 0 and 10, got nan"),
            ({"effect_share": -0.1}, "effect_share must be between 0 and 1, got -0.1"),
            ({"confounding": 2}, "confounding must be between 0 and 1, got 2"),
            ({"confounding": 0.5, "n_batches": 1}, "confounding must be 0 with a single batch, got 0.5"),
            ({"spread": 11}, "spread must be between 0 and 10, got 11"),
            ({"variation": 11}, "variation must be between 0 and 10, got 11"),
        ],
    )
    def test_values_out_of_range_are_refused(self, arguments, message):
        with pytest.raises(BatchfixError, match=message):
            make_microbes(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_samples": 10.0}, "n_samples must be an integer, got 10.0"),
            ({"n_taxa": "20"}, "n_taxa must be an integer, got '20'"),
            ({"depth": 1e4}, "depth must be an integer, got 10000.0"),
            ({"depth": [1000, 2000]}, r"depth must be an integer, got \[1000, 2000\]"),
            ({"batch_bias": True}, "batch_bias must be a number, got True"),
            ({"missed": None}, "missed must be a number, got None"),
            ({"random_state": "seed"}, "random_state must be None, .*, got 'seed'"),
        ],
    )
    def test_values_of_another_kind_are_refused(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            make_microbes(**arguments)

    def test_the_ends_of_every_range_are_accepted(self):
        table = make_microbes(
            40, 300, 4, batch_bias=10.0, depth=10**8, depth_shift=2.0, depth_variation=2.0, effect_size=10.0,
            effect_share=1.0, missed=1.0, spread=10.0, variation=10.0, random_state=0,
        )  # fmt: skip
        assert (table.truth > 0).all(axis=None)
        assert (table.counts.sum(axis=1) == table.depth).all()
        still = make_microbes(
            8, 2, 4, batch_bias=0, depth=1, depth_shift=0, depth_variation=0, effect_size=0, effect_share=0,
            missed=0, spread=0, variation=0,
        )  # fmt: skip
        assert (still.truth == 0.5).all(axis=None)

    def test_a_single_batch_has_a_bias_too(self):
        table = make_microbes(10, 5, 1, random_state=0)
        assert table.bias.shape == (1, 5)
