import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix.datasets import make_lab
from batchfix.exceptions import BatchfixError


@st.composite
def labs(draw):
    """Arguments of make_lab that it must accept."""
    n_batches = draw(st.integers(1, 6))
    n_singletons = draw(st.integers(0, n_batches - 1))
    least = 2 * n_batches - n_singletons
    return {
        "n_samples": draw(st.integers(least, least + 30)),
        "n_features": draw(st.integers(1, 12)),
        "n_batches": n_batches,
        "n_singletons": n_singletons,
        "batch_shift": draw(st.floats(0, 5)),
        "batch_scale": draw(st.floats(0, 2)),
        "effect_size": draw(st.floats(0, 5, allow_subnormal=False)),
        "effect_share": draw(st.floats(0, 1)),
        "confounding": draw(st.floats(0, 1)) if n_batches > 1 else 0.0,
        "missing": draw(st.floats(0, 0.9)),
        "random_state": draw(st.integers(0, 2**32)),
    }


class TestLab:
    @given(labs())
    @settings(max_examples=60, deadline=None)
    def test_data_is_the_truth_under_the_batch_effects(self, arguments):
        lab = make_lab(**arguments)
        case = (lab.group == "case").to_numpy(dtype=float)
        mean = lab.base.to_numpy() + np.outer(case, lab.effect)
        shift, scale = lab.shift.loc[lab.batch].to_numpy(), lab.scale.loc[lab.batch].to_numpy()
        seen = lab.data.notna().to_numpy()
        there = mean + shift + scale * (lab.truth.to_numpy() - mean)
        np.testing.assert_array_equal(lab.data.to_numpy()[seen], there[seen])
        # The way back divides by the scale: its rounding, eps |x|, grows by as much.
        back = mean + (lab.data.to_numpy() - mean - shift) / scale
        size = np.abs(mean) + np.abs(shift) + np.abs(lab.data.to_numpy())
        bound = 8 * np.finfo(float).eps * (size / np.minimum(scale, 1) + np.abs(lab.truth.to_numpy()))
        assert (np.abs(back - lab.truth.to_numpy()) <= bound)[seen].all()

    @given(labs())
    @settings(max_examples=60, deadline=None)
    def test_counts_are_what_was_asked(self, arguments):
        lab = make_lab(**arguments)
        n, p, missing = arguments["n_samples"], arguments["n_features"], arguments["missing"]
        assert lab.data.shape == lab.truth.shape == (n, p)
        assert int(lab.data.isna().to_numpy().sum()) == round(missing * n * p)
        assert not lab.truth.isna().to_numpy().any()
        sizes = lab.batch.value_counts()
        assert len(sizes) == arguments["n_batches"]
        assert (sizes == 1).sum() == arguments["n_singletons"]
        full = sizes[sizes > 1]
        assert full.max() - full.min() <= 1
        carriers = round(arguments["effect_share"] * p) if arguments["effect_size"] > 0 else 0
        assert (lab.effect != 0).sum() == carriers
        assert (lab.scale > 0).all(axis=None)

    @given(labs())
    @settings(max_examples=60, deadline=None)
    def test_share_of_cases_follows_confounding(self, arguments):
        lab = make_lab(**arguments)
        cases = (lab.group == "case").groupby(lab.batch).agg(["sum", "size"])
        sign = np.where(np.arange(len(cases)) % 2 == 0, 1, -1)
        wanted = cases["size"] * (1 + sign * arguments["confounding"]) / 2
        assert ((cases["sum"] - wanted).abs() < 1 + 1e-6).all()
        assert abs(cases["sum"].sum() - wanted.sum()) <= 0.5 + 1e-6

    @given(labs(), st.floats(0, 5), st.floats(0, 2))
    @settings(max_examples=30, deadline=None)
    def test_a_seed_fixes_the_truth_whatever_the_batch_effects(self, arguments, shift, scale):
        lab = make_lab(**arguments)
        other = make_lab(**{**arguments, "batch_shift": shift, "batch_scale": scale})
        pd.testing.assert_frame_equal(lab.truth, other.truth, check_exact=True)
        pd.testing.assert_series_equal(lab.group, other.group)
        again = make_lab(**arguments)
        pd.testing.assert_frame_equal(lab.data, again.data, check_exact=True)

    @pytest.mark.parametrize("n_batches", [2, 3, 7])
    def test_balanced_at_zero_and_wholly_confounded_at_one(self, n_batches):
        balanced = make_lab(4 * n_batches, 2, n_batches, random_state=0)
        assert (pd.crosstab(balanced.batch, balanced.group) == 2).all(axis=None)
        confounded = make_lab(4 * n_batches + 1, 2, n_batches, confounding=1, random_state=0)
        assert (confounded.group.groupby(confounded.batch).nunique() == 1).all()
        assert confounded.group.nunique() == 2

    @pytest.mark.parametrize("confounding", [0.0, 0.25, 0.5, 0.75, 1.0])
    def test_batch_explains_the_square_of_confounding(self, confounding):
        lab = make_lab(64, 1, 4, confounding=confounding, random_state=0)
        case = (lab.group == "case").astype(float)
        explained = case.groupby(lab.batch).transform("mean").var(ddof=0) / case.var(ddof=0)
        assert explained == pytest.approx(confounding**2, abs=1e-12)

    def test_no_batch_effect_leaves_the_truth(self):
        lab = make_lab(batch_shift=0, batch_scale=0, random_state=0)
        assert (lab.shift == 0).all(axis=None)
        assert (lab.scale == 1).all(axis=None)
        # mean + (truth - mean) rounds twice.
        gap = (lab.data - lab.truth).abs().to_numpy()
        assert gap.max() <= 2 * np.finfo(float).eps * lab.truth.abs().to_numpy().max()

    def test_the_draws_have_the_spreads_that_are_promised(self):
        lab = make_lab(400, 2000, 200, batch_shift=2.0, batch_scale=0.5, missing=0.1, random_state=0)
        noise = (lab.truth - lab.base)[(lab.group == "control").to_numpy()]
        shift = lab.shift / noise.std(ddof=1)
        # 200 batches: a standard deviation is known to about 5 %, and to 25 % with five errors' width.
        assert shift.to_numpy().std(ddof=1) == pytest.approx(2.0, rel=0.25)
        assert shift.mean(axis=1).std(ddof=1) == pytest.approx(2.0 / np.sqrt(2), rel=0.25)
        variance = lab.scale**2
        ratio = (variance.std(axis=1, ddof=1) / variance.mean(axis=1)).mean()
        assert ratio == pytest.approx(0.5, rel=0.05)
        assert np.log(variance.mean(axis=1)).std(ddof=1) == pytest.approx(0.5, rel=0.25)

    def test_singletons_are_the_last_batches_and_may_be_all(self):
        lab = make_lab(10, 2, 4, n_singletons=2, random_state=0)
        assert lab.batch.value_counts().sort_index().tolist() == [4, 4, 1, 1]
        assert (make_lab(3, 2, 3, n_singletons=3).batch.value_counts() == 1).all()

    def test_labels_sort_as_their_numbers_do(self):
        lab = make_lab(24, 10, 12, random_state=0)
        assert lab.shift.index.tolist() == sorted(lab.shift.index)
        assert lab.batch.index.equals(lab.data.index)
        assert lab.group.index.equals(lab.data.index)
        assert lab.truth.index.equals(lab.data.index)

    def test_float32_is_the_rounded_float64(self):
        single = make_lab(dtype=np.float32, missing=0.1, random_state=3)
        double = make_lab(missing=0.1, random_state=3)
        for name in ("data", "truth", "shift", "scale", "base", "effect"):
            values = getattr(single, name).to_numpy()
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, getattr(double, name).to_numpy().astype(np.float32))

    def test_a_generator_moves_on(self):
        rng = np.random.default_rng(0)
        first, second = make_lab(random_state=rng), make_lab(random_state=rng)
        assert not first.data.equals(second.data)
        assert first.data.equals(make_lab(random_state=np.random.default_rng(0)).data)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
            ({"n_batches": -1}, "n_batches must be at least 1, got -1"),
            ({"n_singletons": 4}, "n_singletons must be at most n_batches = 3, got 4"),
            ({"n_samples": 5}, "n_samples must be at least 6 to fill 3 batches"),
            ({"n_singletons": 3}, "n_samples must be exactly 3 to fill 0 batches"),
            ({"batch_shift": -1.0}, "batch_shift must be between 0 and 1e[+]06, got -1.0"),
            ({"batch_scale": np.inf}, "batch_scale must be between 0 and 10, got inf"),
            ({"effect_size": np.nan}, "effect_size must be between 0 and 1e[+]06, got nan"),
            ({"effect_share": 1.5}, "effect_share must be between 0 and 1, got 1.5"),
            ({"confounding": 2}, "confounding must be between 0 and 1, got 2"),
            ({"confounding": 0.5, "n_batches": 1}, "confounding must be 0 with a single batch, got 0.5"),
            ({"missing": 1.0}, "missing must be below 1, got 1.0"),
        ],
    )
    def test_values_out_of_range_are_refused(self, arguments, message):
        with pytest.raises(BatchfixError, match=message):
            make_lab(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_samples": 10.0}, "n_samples must be an integer, got 10.0"),
            ({"n_features": True}, "n_features must be an integer, got True"),
            ({"batch_shift": "1"}, "batch_shift must be a number, got '1'"),
            ({"missing": None}, "missing must be a number, got None"),
            ({"dtype": int}, "dtype must be float32 or float64, got <class 'int'>"),
            ({"dtype": "nonsense"}, "dtype must be float32 or float64, got 'nonsense'"),
            ({"random_state": "seed"}, "random_state must be None, .*, got 'seed'"),
            ({"random_state": -1}, "random_state must be None, .*, got -1"),
        ],
    )
    def test_values_of_another_kind_are_refused(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            make_lab(**arguments)
