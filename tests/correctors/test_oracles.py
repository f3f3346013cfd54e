"""Correctors against R: sva 3.46 and limma 3.54, on every variant stored in tests/oracles."""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from batchfix import ComBat, LinearCorrector
from batchfix.exceptions import ConstantFeatureWarning, SingletonBatchWarning

ORACLES = Path(__file__).parents[1] / "oracles"
TABLES = ("bladder", "unbalanced", "missing", "singleton")

# What the tables are about: constant features, and a batch of one sample.
pytestmark = [
    pytest.mark.filterwarnings("ignore::batchfix.exceptions.ConstantFeatureWarning"),
    pytest.mark.filterwarnings("ignore::batchfix.exceptions.SingletonBatchWarning"),
]


@cache
def table(name: str) -> dict[str, np.ndarray]:
    with np.load(ORACLES / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def variants() -> list[tuple[str, str]]:
    return [(name, str(call).split("\t")[0]) for name in TABLES for call in table(name)["_calls"]]


VARIANTS = variants()
SOME = [(n, v) for n, v in VARIANTS if v in ("mod", "modage_ref", "nonparam", "limma_2b_cov_design") or n == "bladder"]


@dataclass
class Case:
    """One R call: the corrector that does it, its table, its labels, and R's answer."""

    corrector: Any
    X: np.ndarray
    labels: dict[str, Any]
    answer: np.ndarray
    tolerance: float

    @classmethod
    def of(cls, name: str, variant: str) -> "Case":
        data = table(name)
        batch = data["pheno_batch"]
        cond = pd.DataFrame({"cond": data["pheno_cond"]})
        age = pd.DataFrame({"age": data["pheno_age"]}) if "pheno_age" in data else None
        labels: dict[str, Any] = {"batch": batch}
        if variant.startswith("limma"):
            corrector: Any = LinearCorrector()
            if "2b" in variant:
                labels["batch"] = np.column_stack([batch, data["pheno_batch2"]])
            if variant == "limma_cov":
                del labels["batch"]
            if "cov" in variant:
                labels["nuisance"] = age
            if "design" in variant:
                labels["keep"] = cond
        else:
            corrector = ComBat(
                parametric="nonparam" not in variant,
                mean_only="meanonly" in variant,
                reference_batch=np.unique(batch)[1] if variant.endswith("ref") else None,
            )
            if "modage" in variant:
                labels["keep"] = pd.concat([cond, age], axis=1)
            elif "mod" in variant:
                labels["keep"] = cond
        return cls(corrector, data["X"], labels, data[variant], 1e-8 if "nonparam" in variant else 1e-10)

    def rows(self, order: np.ndarray) -> dict[str, Any]:
        return {k: v.iloc[order] if isinstance(v, pd.DataFrame) else v[order] for k, v in self.labels.items()}


def assert_close(got: Any, want: np.ndarray, tolerance: float) -> None:
    got, seen = np.asarray(got), ~np.isnan(want)  # R's NA is a signalling NaN: not one to subtract
    assert_array_equal(np.isnan(got), ~seen)
    assert np.abs(got[seen] - want[seen]).max() <= tolerance


def test_every_variant_is_here():
    assert len(VARIANTS) == 12 + 3 * 18
    for name in TABLES:
        data = table(name)
        rest = {k for k in data if not k.startswith(("pheno", "_")) and k not in ("X", "features")}
        assert rest == {v for n, v in VARIANTS if n == name}


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_numbers_are_those_of_r(name, variant):
    case = Case.of(name, variant)
    out = case.corrector.fit_transform(case.X, **case.labels)
    assert_close(out, case.answer, case.tolerance)
    assert_close(case.corrector.transform(case.X, **case.labels), case.answer, case.tolerance)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_inverse_transform_restores(name, variant):
    case = Case.of(name, variant)
    out = case.corrector.fit_transform(case.X, **case.labels)
    assert_close(case.corrector.inverse_transform(out, **case.labels), case.X, 1e-12)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_float32_gives_the_same_within_its_accuracy(name, variant):
    case = Case.of(name, variant)
    X = case.X.astype(np.float32)
    out = case.corrector.fit_transform(X, **case.labels)
    assert out.dtype == np.float32
    with_doubles = case.corrector.fit_transform(X.astype(np.float64), **case.labels)
    assert_close(out, with_doubles, 8e-6)  # a value of 15 has steps of 1e-6
    # a value that was rounded moves by so much, and what is estimated from it likewise
    assert_close(out, case.answer, 2e-4)


@pytest.mark.parametrize(("name", "variant"), SOME)
def test_order_of_rows_does_not_matter(name, variant):
    case = Case.of(name, variant)
    order = np.random.default_rng(0).permutation(len(case.X))
    out = case.corrector.fit_transform(case.X[order], **case.rows(order))
    assert_close(out, case.answer[order], case.tolerance)


@pytest.mark.parametrize(("name", "variant"), [(n, v) for n, v in SOME if v != "limma_cov"])
@pytest.mark.parametrize("rename", ["reversed", "integers", "objects"])
def test_names_of_batches_do_not_matter(name, variant, rename):
    case = Case.of(name, variant)
    old = np.asarray(case.labels["batch"])
    known = np.unique(old)
    if rename == "reversed":
        new = {b: f"z{len(known) - i}" for i, b in enumerate(known)}
    elif rename == "integers":
        new = {b: 10 * i - 7 for i, b in enumerate(known)}
    else:
        new = {b: str(b) for b in known}
    renamed = np.vectorize(new.get, otypes=[object])(old)
    if rename == "integers":
        renamed = renamed.astype(int)
    case.labels["batch"] = renamed
    params = case.corrector.get_params()
    if params["reference_batch"] is not None:
        case.corrector.set_params(reference_batch=new[params["reference_batch"]])
    assert_close(case.corrector.fit_transform(case.X, **case.labels), case.answer, case.tolerance)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "rows backwards": lambda X: np.ascontiguousarray(X[::-1])[::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "list": lambda X: X.tolist(),
}


@pytest.mark.parametrize(("name", "variant"), SOME)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_does_not_matter(name, variant, layout):
    case = Case.of(name, variant)
    X = LAYOUTS[layout](case.X)
    assert_close(case.corrector.fit_transform(X, **case.labels), case.answer, case.tolerance)


@pytest.mark.parametrize(("name", "variant"), SOME)
def test_a_dataframe_comes_back_as_one(name, variant):
    case = Case.of(name, variant)
    ids = [f"sample {i}" for i in range(len(case.X))]
    frame = pd.DataFrame(case.X, index=ids, columns=[f"gene {j}" for j in range(case.X.shape[1])])
    # labels that carry ids are found by them, whatever their order
    order = np.random.default_rng(1).permutation(len(ids))
    labels = {k: pd.DataFrame(v).set_axis(ids, axis=0).iloc[order] for k, v in case.labels.items()}
    out = case.corrector.fit_transform(frame, **labels)
    assert isinstance(out, pd.DataFrame)
    assert out.index.equals(frame.index)
    assert out.columns.equals(frame.columns)
    assert_close(out, case.answer, case.tolerance)


def test_a_mixed_table_has_the_label_columns_inside():
    case = Case.of("unbalanced", "modage")
    frame = pd.DataFrame(case.X, columns=[f"gene {j}" for j in range(case.X.shape[1])])
    frame.insert(0, "age", case.labels["keep"]["age"])
    frame.insert(7, "run", case.labels["batch"])
    frame["cond"] = case.labels["keep"]["cond"].astype("category")
    out = ComBat(batch_key="run", keep_keys=["cond", "age"]).fit_transform(frame)
    assert list(out.columns) == [f"gene {j}" for j in range(case.X.shape[1])]
    assert_close(out, case.answer, case.tolerance)


def test_what_sva_says_of_these_tables_is_said_here():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        constant, alone = Case.of("unbalanced", "param"), Case.of("singleton", "param")
        with pytest.warns(ConstantFeatureWarning, match="constant within a batch"):
            constant.corrector.fit(constant.X, **constant.labels)
        with pytest.warns(SingletonBatchWarning, match="one row"):
            alone.corrector.fit(alone.X, **alone.labels)


def test_constant_features_stay_bit_for_bit():
    case = Case.of("unbalanced", "mod")
    out = case.corrector.fit_transform(case.X, **case.labels)
    batch = case.labels["batch"]
    still = [j for j in range(case.X.shape[1]) if any(np.ptp(case.X[batch == b, j]) == 0 for b in np.unique(batch))]
    assert still
    assert_array_equal(out[:, still], case.X[:, still])


@pytest.mark.parametrize("power", [-100, -30, 30, 100])
@pytest.mark.parametrize("variant", ["mod", "limma_design", "nonparam_ref"])
def test_units_do_not_matter(power, variant):
    case = Case.of("bladder", variant)
    out = case.corrector.fit_transform(np.ldexp(case.X, power), **case.labels)
    assert_allclose(np.ldexp(out, -power), case.answer, rtol=0, atol=case.tolerance)
