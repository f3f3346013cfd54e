"""Files of moments: sites together are the fit on all rows, and a file is refused before it tells of a row."""

from __future__ import annotations

import json
import warnings
import zipfile
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from batchfix.adapters.federation import DisclosureError, load_moments, save_moments
from batchfix.adapters.federation.disclosure import find
from batchfix.adapters.federation.moments_file import KIND
from batchfix.adapters.storage import load_model, save_model
from batchfix.adapters.storage.archive import ArchiveError, read_archive, write_archive
from batchfix.core.zeros import HalfMinimum
from batchfix.correctors import (
    BatchCorrector,
    CausalCorrector,
    ComBat,
    CompositionalCorrector,
    GroupCorrector,
    LinearCorrector,
    LogRatio,
    RenormCorrector,
)
from batchfix.exceptions import BatchfixError, MergeError, MissingFeatureWarning, UnknownBatchError

NAMES = list("uvwxyz")


def table(seed: int, n: int, missing: float = 0.0, names: list[str] = NAMES) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, size=(n, len(names)))
    x[rng.random(x.shape) < missing] = np.nan
    return pd.DataFrame(x, columns=names)


def labels(seed: int, n: int, groups: tuple[str, ...] = ("case", "control")) -> pd.DataFrame:
    rng = np.random.default_rng(seed + 1000)
    return pd.DataFrame({"group": rng.permutation(np.resize(groups, n)), "age": rng.normal(50, 9, size=n)})


def site(seed: int, batch: Any, n: int = 24, corrector: Any = None, **changes: Any) -> Any:
    """A site's corrector after its own rows."""
    keep = labels(seed, n)
    return (ComBat() if corrector is None else corrector).partial_fit(
        changes.pop("X", table(seed, n)), batch=np.resize(batch, n), keep=changes.pop("keep", keep), **changes
    )


def sent(corrector: Any, path: Path, **how: Any) -> Any:
    save_moments(corrector, path, **how)
    return load_moments(path)


# ---- exact


CORRECTORS = {
    "combat": lambda: ComBat(tol=1e-12, max_iter=100_000),  # its usual tol would show rounding as another round
    "batch": BatchCorrector,
    "standard": lambda: BatchCorrector(target="standard", shrinkage="eb"),
    "linear": LinearCorrector,
}


@st.composite
def consortia(draw: Any) -> tuple[str, list[tuple[pd.DataFrame, np.ndarray, pd.DataFrame, pd.DataFrame | None]]]:
    """A kind of corrector, and tables of sites with batches, levels and holes of their own."""
    kind = draw(st.sampled_from(sorted(CORRECTORS)))
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    nuisance = kind == "linear" and draw(st.booleans())
    found = []
    for seed in draw(st.lists(st.integers(0, 10_000), min_size=2, max_size=4, unique=True)):
        n = draw(st.integers(6, 20))
        batch = np.resize(draw(st.lists(st.sampled_from(["p", "q", "r", "s"]), min_size=1, max_size=2)), n)
        keep = labels(seed, n, tuple(draw(st.lists(st.sampled_from("ABC"), min_size=1, max_size=3))))
        X = table(seed, n, draw(st.sampled_from([0.0, 0.0, 0.2]))).astype(dtype)
        more = pd.DataFrame({"operator": np.resize(["o1", "o2"], n)[::-1]}) if nuisance else None
        found.append((X, batch, keep, more))
    return kind, found


@given(consortia(), st.randoms(use_true_random=False))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sites_together_are_the_fit_on_all_rows(tmp_path, consortium, random):
    kind, sites = consortium
    paths = []
    for k, (X, batch, keep, more) in enumerate(sites):
        extra = {} if more is None else {"nuisance": more}
        one = CORRECTORS[kind]().partial_fit(X, batch=batch, keep=keep, **extra)
        paths.append(tmp_path / f"{k}.moments")
        save_moments(one, paths[-1], min_cell=1)
    random.shuffle(paths)
    X, keep = (pd.concat([s[at] for s in sites], ignore_index=True) for at in (0, 2))
    batch = np.concatenate([s[1] for s in sites])
    extra = {} if sites[0][3] is None else {"nuisance": pd.concat([s[3] for s in sites], ignore_index=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of holes and of thin designs, on either side
        try:  # in chunks as the sites, as what is fitted to rows at once may look at them twice
            pooled = CORRECTORS[kind]()
            for X_k, batch_k, keep_k, more_k in sites:
                pooled.partial_fit(X_k, batch=batch_k, keep=keep_k, **({} if more_k is None else {"nuisance": more_k}))
            maps = pooled.affine_
        except BatchfixError:
            assume(False)
        merged = load_moments(*paths)
        at_once = CORRECTORS[kind]().fit(X, batch=batch, keep=keep, **extra)
        assert merged.statistics_.eps == at_once.statistics_.eps
        got, want = merged.statistics_.moments, at_once.statistics_.moments
        # sums in another order: some units in the last place of float64, of values below 100
        for name in ("rows", "row_z_mean", "row_zz", "zx"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-9)
        for name in ("n", "mean", "m2"):
            np.testing.assert_allclose(getattr(got.x, name), getattr(want.x, name), rtol=1e-10, atol=1e-11)
        own = {} if kind != "linear" else extra
        np.testing.assert_allclose(
            merged.transform(X.astype(float), batch=batch, keep=keep, **own),
            pooled.transform(X.astype(float), batch=batch, keep=keep, **own),
            rtol=1e-10,
            atol=1e-10 * max(1.0, float(np.abs(maps.scale).max())),
        )


def test_a_plain_pair_of_sites_is_the_pooled_fit_itself(tmp_path):
    save_moments(site(1, ["p", "q"], 80), tmp_path / "a")
    save_moments(site(2, ["r"], 40), tmp_path / "b")
    X = pd.concat([table(1, 80), table(2, 40)], ignore_index=True)
    keep = pd.concat([labels(1, 80), labels(2, 40)], ignore_index=True)
    batch = np.concatenate([np.resize(["p", "q"], 80), np.resize(["r"], 40)])
    pooled = ComBat().fit_transform(X, batch=batch, keep=keep)
    for paths in ([tmp_path / "a", tmp_path / "b"], [tmp_path / "b", tmp_path / "a"]):
        merged = load_moments(*paths)
        pd.testing.assert_frame_equal(merged.transform(X, batch=batch, keep=keep), pooled, rtol=1e-10, atol=1e-10)
        assert merged.batches_.tolist() == ["p", "q", "r"]
    one_by_one = reduce(ComBat.merge, (load_moments(path) for path in paths))
    np.testing.assert_array_equal(one_by_one.affine_.shift, merged.affine_.shift)


def test_one_file_gives_back_the_site(tmp_path):
    fitted = site(1, ["p", "q"], 60)
    back = sent(fitted, tmp_path / "a")
    X, how = table(1, 60), {"batch": np.resize(["p", "q"], 60), "keep": labels(1, 60)}
    pd.testing.assert_frame_equal(back.transform(X, **how), fitted.transform(X, **how), rtol=1e-13)
    more = {"X": table(5, 30), "keep": labels(5, 30), "batch": "s"}
    np.testing.assert_allclose(back.partial_fit(**more).affine_.scale, fitted.partial_fit(**more).affine_.scale)


def test_a_site_need_not_be_able_to_solve_alone(tmp_path):
    n = 20
    batch = np.repeat(["p", "q"], n // 2)
    confounded = ComBat().partial_fit(table(1, n), batch=batch, keep=pd.DataFrame({"group": batch}))
    save_moments(confounded, tmp_path / "a")
    assert confounded._solution is None
    save_moments(ComBat().partial_fit(table(2, n), batch="r", keep=pd.DataFrame({"group": batch})), tmp_path / "b")
    assert load_moments(tmp_path / "b")._solution is None
    third = ComBat().partial_fit(table(3, n), batch=batch, keep=pd.DataFrame({"group": batch[::-1]}))
    save_moments(third, tmp_path / "c")
    merged = load_moments(*(tmp_path / name for name in "abc"))
    assert merged.solution_.fit.rank == 1


def test_equal_moments_give_equal_bytes_whether_solved_or_not(tmp_path):
    fitted = site(1, ["p", "q"], 60)
    save_moments(fitted, tmp_path / "a")
    assert fitted.affine_ is not None
    save_moments(fitted.set_output(transform="pandas"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("batch", [1, np.datetime64("2026-01-02"), True, "é"])
def test_labels_of_every_kind(tmp_path, batch):
    back = sent(BatchCorrector(scale=None).partial_fit(table(1, 8), batch=np.repeat([batch], 8)), tmp_path / "a")
    assert back.batches_.tolist() == np.repeat([batch], 1).tolist()


def test_keys_and_positions(tmp_path):
    a, b = (table(k, 30).assign(run=run, age=labels(k, 30)["age"]) for k, run in ((1, "p"), (2, "q")))
    for k, each in enumerate((a, b)):
        save_moments(LinearCorrector(batch_key="run", keep_keys=["age"]).partial_fit(each), tmp_path / f"{k}")
    both = pd.concat([a, b], ignore_index=True)
    pooled = LinearCorrector(batch_key="run", keep_keys=["age"]).fit_transform(both)
    pd.testing.assert_frame_equal(load_moments(tmp_path / "0", tmp_path / "1").transform(both), pooled, rtol=1e-10)


def test_without_labels_all_rows_are_one_batch(tmp_path):
    for k in (1, 2):
        with pytest.warns(UserWarning, match="without batch labels"):
            one = BatchCorrector(target="standard").partial_fit(table(k, 20))
        save_moments(one, tmp_path / f"{k}")
    both = load_moments(tmp_path / "1", tmp_path / "2")
    assert both.statistics_.moments.rows.tolist() == [40]


@pytest.mark.parametrize(
    "make",
    [
        lambda: CompositionalCorrector(zeros=HalfMinimum(1e-3)),
        lambda: CompositionalCorrector(ComBat(), transform="ilr", zeros="multiplicative"),
        lambda: CompositionalCorrector(output="abundance"),
    ],
)
def test_compositions(tmp_path, make):
    rng = np.random.default_rng(0)
    counts = rng.poisson(6, size=(120, 5))
    batch = np.repeat(["p", "q", "r"], 40)
    for k, rows in enumerate((batch == "p", batch != "p")):
        save_moments(make().partial_fit(counts[rows], batch=batch[rows]), tmp_path / f"{k}")
    merged = load_moments(tmp_path / "1", tmp_path / "0")
    np.testing.assert_allclose(
        merged.transform(counts, batch=batch),
        make().fit(counts, batch=batch).transform(counts, batch=batch),
        rtol=1e-10,
    )


def test_presence_and_commonest_values(tmp_path):
    X = table(1, 80)
    X[X < 2] = 2.0  # a detection limit
    batch = np.repeat(["p", "q"], 40)
    pooled = ComBat(scale_guard=0.3).fit(X, batch=batch)
    for k, name in enumerate("pq"):
        rows = batch == name
        part = ComBat(scale_guard=0.3).partial_fit(X[rows], batch=name)
        with pytest.raises(DisclosureError, match=r"may be a single value, and scale_guard=0\.3"):
            save_moments(part, tmp_path / "no")
        save_moments(part, tmp_path / f"{k}", min_cell=1)
        save_moments(
            ComBat(scale_guard=0.3).partial_fit(X[rows], batch=name, scale_where=X[rows] > 2), tmp_path / f"{k}w"
        )
    assert not (tmp_path / "no").exists()
    for end in ("", "w"):
        merged = load_moments(tmp_path / f"0{end}", tmp_path / f"1{end}")
        np.testing.assert_allclose(merged.affine_.scale, pooled.affine_.scale, rtol=1e-10)


# ---- what is not sent


def test_any_sum_over_few_rows_is_refused(tmp_path):
    """Independently: no difference of sums over levels, of those that are sent, is one over 1 to 4 rows.

    Neither over rows where a feature is observed, nor over those where it is not.
    """
    rng = np.random.default_rng(3)
    outcomes = []
    for _ in range(400):
        n = int(rng.integers(12, 70))
        a, b = rng.integers(0, rng.integers(1, 4), n), rng.integers(0, rng.integers(1, 4), n)
        if rng.random() < 0.5:
            b = np.where(rng.random(n) < 0.9, a, b)
        seen = rng.random(n) >= rng.choice([0, 0, 0.3, 0.5])
        X = table(0, n).mask(np.outer(~seen, np.arange(6) == 3))
        keep = pd.DataFrame({"a": a.astype(str), "b": b.astype(str)})
        try:
            save_moments(LinearCorrector().partial_fit(X, batch="p", keep=keep), tmp_path / "x")
        except DisclosureError:
            outcomes.append("refused")
            continue
        outcomes.append("sent" if seen.all() else "sent with holes")
        for f, g in product(product([0, 1], repeat=3), repeat=2):
            differs = np.array(f)[a] != np.array(g)[b]
            for behind in (differs.sum(), differs[seen].sum(), differs[~seen].sum()):
                assert behind == 0 or behind >= 5
    assert min(outcomes.count(each) for each in ("refused", "sent", "sent with holes")) > 20


def test_five_are_enough_and_four_are_not(tmp_path):
    for n, few in ((4, True), (5, False)):
        rows = np.arange(2 * n + 10)
        X = table(1, len(rows)).assign(v=np.where(rows < n, 0.0, table(1, len(rows))["v"]))
        two = {"g": np.where(rows < n, "ill", "well")}
        for corrector in (
            ComBat().partial_fit(X[:n], batch="p"),
            ComBat().partial_fit(X, batch="p", keep=pd.DataFrame(two)),
            ComBat().partial_fit(X, batch="p", keep=pd.DataFrame({"dose": 0.5 * (rows < n)})),
            ComBat().partial_fit(X.mask(np.outer(rows >= n, np.arange(6) == 2)), batch="p"),
            ComBat().partial_fit(
                X.mask(np.outer(rows < n, np.arange(6) == 2)), batch="p", keep=pd.DataFrame({"age": rows**0.5})
            ),
        ):
            if few:
                with pytest.raises(DisclosureError, match=r"\b4 (rows?|values?|missing)"):
                    save_moments(corrector, tmp_path / "a")
                save_moments(corrector, tmp_path / "a", min_cell=4)
            else:
                save_moments(corrector, tmp_path / "a")


ROWS = np.arange(30)
HOLED = table(4, 30).mask(np.outer(ROWS < 27, np.arange(6) == 2))  # three values of w
GAPPED = table(4, 30).mask(np.outer(ROWS < 2, np.arange(6) == 2))  # two gaps in w
SPARSE = table(4, 30).assign(v=np.where(ROWS == 7, 3.25, 0.0))
AGE = labels(4, 30)["age"]
SEX = np.where(ROWS % 2, "f", "m")
DOSE = np.where(np.isin(ROWS, [1, 2, 4, 6, 8, 10]), 20 + ROWS**0.5, 0.0)  # one odd row of six
LEVELS_OF_DOSE = np.where(ROWS == 3, 2.0, ROWS % 2)
FEW = table(4, 30).assign(v=np.where(ROWS == 7, 7.7, np.where(ROWS == 9, 3.1, 0.0)))
RARE = table(4, 30).assign(v=np.where(SEX == "m", 5 + ROWS**0.5, np.where(ROWS == 1, 7.7, 0.0)))
CASES = {
    "a small batch": ({}, {"batch": np.where(ROWS < 3, "q", "p")}, "got batch 'q': 3 rows. Merge small batches"),
    "a small level": ({}, {"keep": {"g": np.where(ROWS < 4, "ill", "well")}}, "batch 'p', g='ill': 4 rows"),
    "two levels": (
        {},
        {"keep": {"g": np.where((ROWS < 1) | (ROWS > 15), "ill", "well"), "s": np.where(ROWS < 15, "f", "m")}},
        "batch 'p', g='ill' and s='f': 1 row; batch 'p', g='well' and s='m': 1 row",
    ),
    "a number that is a level": ({}, {"keep": {"dose": 2.5 * (ROWS < 2)}}, "batch 'p', dose other than 0: 2 rows"),
    "a number of 1 and 2": ({}, {"keep": {"sex": 1.0 + (ROWS > 1)}}, "batch 'p', sex=1: 2 rows"),
    "a number of -1 and 1": ({}, {"keep": {"arm": 1.0 - 2 * (ROWS < 2)}}, "batch 'p', arm other than 1: 2 rows"),
    "a level by y": ({"keep_y": True}, {"y": np.where(ROWS < 2, "ill", "well")}, "batch 'p', y='ill': 2 rows"),
    "few rows, many numbers": (
        {},
        {"X": table(4, 7), "batch": "p", "keep": labels(4, 7)[["age"]].assign(a=np.sqrt(ROWS[:7]), b=ROWS[:7] ** 1.5)},
        "batch 'p': 4 rows more than design columns",
    ),
    "few values": ({}, {"X": HOLED}, "'w' in batch 'p': 3 values"),
    "few values of a level": (
        {},
        {"X": GAPPED.mask(np.outer((SEX == "f") & (ROWS > 8), np.arange(6) == 2)), "keep": {"sex": SEX}},
        "'w' in batch 'p', sex='f': 3 values",
    ),
    "gaps beside what is kept": ({}, {"X": GAPPED, "keep": labels(4, 30)[["age"]]}, "'w' in batch 'p': 2 missing"),
    "gaps by a number that is a level": (
        {},
        {
            "X": table(4, 30).mask(np.outer(ROWS < 6, np.arange(6) == 2)),
            "keep": {"sex": 1.0 * (ROWS % 3 == 0), "age": AGE},
        },
        "got 'w' in batch 'p', sex=0: 4 missing",
    ),
    "one value that is not 0": ({}, {"X": SPARSE}, "'v' in batch 'p', other than 0: 1 value"),
    "few values that are not 0": ({}, {"X": FEW}, "'v' in batch 'p', other than 0: 1 value"),
    "one value of a level that is not 0": (
        {},
        {"X": RARE, "keep": {"sex": SEX}},
        "'v' in batch 'p', sex='f', other than 0: 1 value",
    ),
    "the only dose of a level": (
        {},
        {"keep": {"sex": SEX, "dose": DOSE}},
        "batch 'p', sex='f' and dose other than 0: 1 row",
    ),
    "the only row of two doses": (
        {},
        {"keep": {"one": DOSE, "two": np.where(ROWS % 2, DOSE + (ROWS > 8) * AGE, 0.0)}},
        "batch 'p', one other than 0 and two other than 0: 1 row",
    ),
    "two doses": ({}, {"keep": {"dose": np.where(ROWS < 2, AGE, 0.0)}}, "batch 'p', dose other than 0: 1 row"),
    "two levels told as numbers": (
        {},
        {"keep": {"f": 1.0 * (SEX == "f"), "treated": 1.0 * (DOSE > 0)}},
        "batch 'p', f other than 0 and treated other than 0: 1 row",
    ),
    "two levels told as -1 and 1": (
        {},
        {"keep": {"sex": 1.0 - 2 * (SEX == "f"), "arm": 1.0 - 2 * (DOSE > 0)}},
        "batch 'p', sex other than 1 and arm other than 1: 1 row",
    ),
    "a level, and one told as a number": (
        {},
        {"keep": {"sex": SEX, "untreated": 1.0 * (DOSE == 0)}},
        "batch 'p', sex='f' and untreated=0: 1 row",
    ),
    "a feature beside a dose": (
        {},
        {"X": table(4, 30).assign(v=np.where((ROWS == 1) | (ROWS > 16), AGE, 0.0)), "keep": {"dose": DOSE}},
        "'v' in batch 'p', dose other than 0, other than 0: 1 value",
    ),
    "a dose and its square": (
        {},
        {"keep": {"dose": LEVELS_OF_DOSE, "square": LEVELS_OF_DOSE**2}},
        "batch 'p', dose other than square: 1 row",
    ),
    "a dose and who had one": (
        {},
        {"keep": {"carrier": np.where(LEVELS_OF_DOSE > 0, "yes", "no"), "dose": LEVELS_OF_DOSE}},
        "batch 'p', carrier='yes' other than dose: 1 row",
    ),
    "a number and itself, edited once": (
        {},
        {"keep": {"age": AGE, "then": AGE + 3 * (ROWS == 7)}},
        "batch 'p', age other than then: 1 row",
    ),
    "a feature that is a kept number but once": (
        {},
        {"X": table(4, 30).assign(v=AGE + 3 * (ROWS == 7)), "keep": {"age": AGE}},
        "'v' in batch 'p', other than age: 1 value",
    ),
    "gaps of two doses": (
        {},
        {
            "X": table(4, 30).mask(np.outer(np.isin(ROWS, [8, 10]) | (ROWS > 16), np.arange(6) == 2)),
            "keep": {"dose": DOSE},
        },
        "'w' in batch 'p', dose other than 0: 2 missing",
    ),
    "a level beside numbers": (
        {},
        {"keep": {"g": np.where(ROWS < 5, "ill", "well"), "age": AGE}},
        "batch 'p', g='ill': 4 rows more than kept numbers",
    ),
    "few present": (
        {"scale_guard": 0.1},
        {"scale_where": table(4, 30) > np.sort(table(4, 30)["u"])[27], "keep": None},
        "present: ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cells_of_few_rows_are_refused(tmp_path, name):
    parameters, rows, said = CASES[name]
    rows = {"X": table(4, 30), "batch": np.repeat("p", 30)} | rows
    if isinstance(rows.get("keep"), dict):
        rows["keep"] = pd.DataFrame(rows["keep"])
    corrector = ComBat(**parameters).partial_fit(**rows)
    with pytest.raises(DisclosureError, match=r"must be (over )?5 (rows )?or more") as refusal:
        save_moments(corrector, tmp_path / "a")
    assert said in str(refusal.value)
    assert not (tmp_path / "a").exists()
    save_moments(corrector, tmp_path / "a", min_cell=1)
    assert load_moments(tmp_path / "a").statistics_.moments.rows.sum() == len(rows["X"])


@given(st.integers(0, 10_000), st.sampled_from([(0, 1), (1, 2), (-1, 1), (0, 2.5), (1, 0)]), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_number_of_two_values_is_a_factor(tmp_path, seed, values, both):
    """Refused where the same told as text is, and that where any two columns share 1 to 4 rows.

    Other codes than 0 and 1 may by chance have the sums of another number, and be refused too.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(14, 60))
    a, b = rng.integers(0, 2, (2, n))
    b = np.where(rng.random(n) < rng.choice([0.5, 0.9]), a, b)
    assume(0 < a.sum() < n and 0 < b.sum() < n)
    X = table(seed, n) + 90  # so that no feature is near 0
    number = np.where(b == 1, values[1], values[0]).astype(float)
    refused = []
    for keep in (
        {"a": np.where(a, "x", "y"), "b": np.where(b, "x", "y")},
        {"a": a * 1.0 if both else np.where(a, "x", "y"), "b": number},
    ):
        corrector = LinearCorrector().partial_fit(X, batch="p", keep=pd.DataFrame(keep))
        refused.append(bool(find(corrector.statistics_, 5, 5).few))
    few = any(0 < np.sum((a == i) & (b == j)) < 5 for i in (0, 1) for j in (0, 1))
    few |= min(np.sum(a == 0), np.sum(a == 1), np.sum(b == 0), np.sum(b == 1)) < 5
    assert refused[0] == few
    assert refused[1] >= few
    if values in [(0, 1), (1, 0)]:
        assert refused[1] == few


def test_zeros_that_are_values_like_others_may_be_sent(tmp_path):
    rng = np.random.default_rng(0)
    how = {"batch": np.resize(["p", "q"], 80), "keep": labels(1, 80)}
    z_scores = rng.normal(size=(80, 40))
    save_moments(ComBat().partial_fit(z_scores, **how), tmp_path / "a")
    counts = np.where(rng.random((80, 90)) < 0.07, rng.gamma(9, size=(80, 90)), 0.0)
    corrector = ComBat().partial_fit(np.c_[z_scores[:, :3], counts], **how)  # a few with both signs excuse no counts
    with pytest.raises(DisclosureError, match=r"other than 0: .*is estimated from the sums; .* set min_nonzero=1"):
        save_moments(corrector, tmp_path / "a")
    rare = np.zeros((80, 20))
    for k in range(20):
        rare[rng.choice(80, 2, replace=False), k] = rng.integers([1, 61], [50, 110])
    corrector = ComBat().partial_fit(np.c_[z_scores[:, :6], rare], **how)
    with pytest.raises(DisclosureError, match="other than 0: 1 value"):
        save_moments(corrector, tmp_path / "a")


def test_ordinary_numbers_are_seldom_taken_for_few_rows():
    """Whole numbers may have the sums of a factor by chance, once in some dozens of batches; not once a feature."""
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = 300
        X = rng.normal(7, 1, (n, 200))
        X[rng.random(X.shape) < 0.2] = np.nan
        scores = rng.normal(size=(n, 3))
        for keep in (
            {"stage": rng.integers(1, 5, n) * 1.0, "year": rng.integers(2001, 2021, n) * 1.0},
            dict(zip(["pc1", "pc2", "pc3"], (scores - scores.mean(axis=0)).T, strict=True)),
        ):
            site = LinearCorrector().fit(X, batch=np.resize(["p", "q"], n), keep=pd.DataFrame(keep))
            found = find(site.statistics_, 5, 5)
            refused += bool(found.few or found.gaps)
    assert refused <= 4


def test_features_of_few_values_other_than_0_can_stay_at_home(tmp_path):
    corrector = ComBat().partial_fit(RARE, batch="p", keep=pd.DataFrame({"sex": SEX}))
    with pytest.warns(MissingFeatureWarning, match="'v' in batch 'p', sex='f', other than 0: 1 value"):
        back = sent(corrector, tmp_path / "a", small="drop")
    assert back.statistics_.moments.x.n[0].tolist() == [30, 0, 30, 30, 30, 30]
    assert sent(corrector, tmp_path / "a", min_nonzero=1).statistics_.moments.x.n[0].tolist() == [30] * 6
    with zipfile.ZipFile(tmp_path / "a") as members:
        assert json.loads(members.read("manifest.json"))["min_nonzero"] == 1


def test_no_dose_at_all_and_five_are_let_through(tmp_path):
    """0 rows tell of nobody; 5 doses of a level are a sum over 5."""
    for doses in (ROWS % 2 == 0, ROWS < 11):
        keep = pd.DataFrame({"sex": SEX, "dose": np.where(doses, 20 + ROWS**0.5, 0.0)})
        save_moments(ComBat().partial_fit(table(4, 30), batch="p", keep=keep), tmp_path / "a")


def test_gaps_without_anything_kept_are_no_secret(tmp_path):
    save_moments(ComBat().partial_fit(GAPPED, batch="p"), tmp_path / "a")
    one_age = pd.DataFrame({"age": np.repeat(50.0, 30)})
    save_moments(ComBat().partial_fit(GAPPED, batch="p", keep=one_age), tmp_path / "a")


def test_gaps_may_be_sent_when_asked(tmp_path):
    corrector = ComBat().partial_fit(GAPPED, batch="p", keep=labels(4, 30)[["age"]])
    with pytest.raises(
        DisclosureError,
        match=r"^Rows in which .* follows by subtraction; got 'w' in batch 'p': 2 missing. Set min_missing=1",
    ):
        save_moments(corrector, tmp_path / "a", small="drop")
    save_moments(corrector, tmp_path / "a", min_missing=1)
    holed = ComBat().partial_fit(HOLED, batch="p", keep=labels(4, 30)[["age"]])
    with pytest.raises(DisclosureError, match="3 values"):
        save_moments(holed, tmp_path / "a", min_missing=1)


def test_what_is_read_off_a_cell_that_is_sent_when_asked(tmp_path):
    """Why cells are refused: from a file with min_cell=1, a patient's value and another's age, to the digit."""
    keep = pd.DataFrame({"group": np.where(ROWS == 5, "rare", "usual"), "age": labels(4, 30)["age"]})
    X = table(4, 30).mask(np.outer(ROWS == 9, np.arange(6) == 3))
    moments = sent(ComBat().partial_fit(X, batch="p", keep=keep), tmp_path / "a", min_cell=1).statistics_.moments
    n_rare = moments.rows[0] * moments.row_z_mean[0, 0]
    value = moments.x.mean[0, 0] + moments.zx[0, 0, 0] / n_rare
    assert value == pytest.approx(X.iloc[5, 0], rel=1e-12)
    age = moments.rows[0] * moments.row_z_mean[0, 2] - moments.x.n[0, 3] * moments.z_mean[0, 2, 3]
    assert age == pytest.approx(keep["age"][9], rel=1e-10)


def test_messages_count_and_name_a_few(tmp_path):
    X = HOLED.assign(x=HOLED["w"])
    batch = np.repeat(list("pabcdefg"), [16, *[2] * 7])
    with pytest.raises(DisclosureError, match="batch 'e': 2 rows; and 2 more"):
        save_moments(ComBat().partial_fit(X, batch=batch), tmp_path / "a")
    with pytest.raises(DisclosureError, match=r"2 features \('w' for one\) in batch 'p': 3 values"):
        save_moments(ComBat().partial_fit(X, batch="p"), tmp_path / "a")
    with pytest.raises(DisclosureError, match="number 2 in batch 'p': 3 values"):
        save_moments(ComBat().partial_fit(HOLED.to_numpy(), batch="p"), tmp_path / "a")


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_dropped_is_as_if_it_had_not_been_there(tmp_path, seed, kept):
    rng = np.random.default_rng(seed)
    n = 80
    X = table(seed, n).mask(rng.random((n, 6)) < np.array([0, 0, 0.3, 0.5, 0.8, 0.95]))
    batch = np.sort(np.resize(["p", "q", "r", "r", "r"], n)).astype("<U9")
    batch[:3] = "tiny"
    keep = pd.DataFrame({"group": np.resize(["A", "B"], n), "age": rng.normal(50, 9, n)})
    keep.loc[0, "group"] = "only in tiny"
    how = {"keep": keep} if kept else {}
    corrector = LinearCorrector().partial_fit(X, batch=batch, **how)
    findings = find(corrector.statistics_, 5, 1)
    assert findings.batches.tolist() == [False, False, False, True]
    with pytest.warns(MissingFeatureWarning, match="Left out of .* as it is of too few rows: batch 'tiny'"):
        back = sent(corrector, tmp_path / "a", small="drop", min_missing=1)
    for k, name in enumerate("pqr"):
        X = X.mask(np.outer(batch == name, findings.cells[k]))
    rest = batch != "tiny"
    how = {"keep": keep[rest]} if kept else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = LinearCorrector().fit(X[rest], batch=batch[rest], **how)
        np.testing.assert_allclose(back.affine_.center, without.affine_.center, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(back.affine_.shift, without.affine_.shift, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(back.coef_, without.coef_, rtol=1e-8, atol=1e-10)
        np.testing.assert_array_equal(back.statistics_.moments.x.n, without.statistics_.moments.x.n)
        assert [c.width for c in back.statistics_.columns] == [c.width for c in without.statistics_.columns]
        assert b"only in tiny" not in (tmp_path / "a").read_bytes()
        with pytest.raises(UnknownBatchError):
            back.transform(X[:2], batch="tiny")
    save_moments(back, tmp_path / "again", min_missing=1)  # what is left is enough


def test_something_must_be_left(tmp_path):
    with pytest.raises(DisclosureError, match="all batches are too small"):
        save_moments(ComBat().partial_fit(table(1, 4), batch="p"), tmp_path / "a", small="drop")


def test_only_what_is_named_is_written(tmp_path):
    corrector = site(1, ["p", "q"], 60)
    corrector.rows_seen_ = table(1, 60)
    assert not hasattr(sent(corrector, tmp_path / "a"), "rows_seen_")


def test_no_value_of_a_row_is_in_the_file(tmp_path):
    X = table(1, 40, missing=0.2)
    save_moments(ComBat().partial_fit(X, batch="p"), tmp_path / "a")
    _, arrays = read_archive(tmp_path / "a", KIND, 1)
    written = np.concatenate([a.ravel() for a in arrays if a.dtype.kind == "f"])
    assert not np.isin(X.to_numpy().ravel(), written).any()


# ---- the file


def test_the_file_is_as_it_is_described(tmp_path):
    X, keep, batch = table(1, 60, missing=0.3), labels(1, 60), np.resize(["p", "q"], 60)
    save_moments(ComBat().partial_fit(X, batch=batch, keep=keep), tmp_path / "a", min_missing=1, min_cell=2)
    with zipfile.ZipFile(tmp_path / "a") as members:
        manifest = json.loads(members.read("manifest.json"))
    read = {name: np.load(tmp_path / "a", allow_pickle=False)[f"a{k}"] for name, k in manifest["moments"].items()}
    assert manifest["class"] == "ComBat"
    assert (manifest["batches"], manifest["features"]) == (["'p'", "'q'"], NAMES)
    assert manifest["design_columns"] == {"group": ["'case'", "'control'"], "age": "number"}
    assert (manifest["min_cell"], manifest["min_missing"]) == (2, 1)
    rows = batch == "q"
    seen = rows & X["v"].notna().to_numpy()
    z = np.column_stack([keep["group"] == "case", keep["group"] == "control", keep["age"]]).astype(float)
    x, off, whole = X["v"][seen], z[seen] - z[seen].mean(0), z[rows] - z[rows].mean(0)
    upper = np.triu_indices(3)
    for name, got, want in (
        ("rows", read["rows"][1], rows.sum()),
        ("row_z_mean", read["row_z_mean"][1], z[rows].mean(0)),
        ("row_zz", read["row_zz"][1], (whole.T @ whole)[upper]),
        ("n", read["n"][1, 1], seen.sum()),
        ("mean", read["mean"][1, 1], x.mean()),
        ("m2", read["m2"][1, 1], ((x - x.mean()) ** 2).sum()),
        ("z_mean", read["z_mean"][1, :, 1], z[seen].mean(0)),
        ("zz", read["zz"][1, :, 1], (off.T @ off)[upper]),
        ("zx", read["zx"][1, :, 1], off.T @ x),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10, err_msg=name)


def test_complete_tables_make_small_files(tmp_path):
    p = 2000
    X = np.random.default_rng(0).normal(size=(60, p))
    save_moments(ComBat().partial_fit(X, batch=np.resize(["p", "q"], 60), keep=labels(1, 60)), tmp_path / "a")
    # mean, m2 and three zx of each feature and batch, and the little that is not by feature
    assert (tmp_path / "a").stat().st_size < 1.2 * 8 * 5 * 2 * p + 20 * p


def test_damaged_and_other_files(tmp_path):
    save_moments(site(1, ["p"]), tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match="cut short"):
        load_moments(tmp_path / "cut")
    (tmp_path / "bit").write_bytes(data[:999] + bytes([data[999] ^ 1]) + data[1000:])
    with pytest.raises(ArchiveError, match="damaged"):
        load_moments(tmp_path / "bit")
    with pytest.raises(ArchiveError, match="does not exist"):
        load_moments(tmp_path / "a", tmp_path / "nowhere")
    with pytest.raises(ArchiveError, match="must be a batchfix model, and is a 'batchfix moments'"):
        load_model(tmp_path / "a")
    save_model(ComBat().fit(table(1, 20), batch=np.resize(["p", "q"], 20)), tmp_path / "model")
    with pytest.raises(ArchiveError, match="must be a batchfix moments, and is a 'batchfix model'"):
        load_moments(tmp_path / "model")


def rewritten(path: Path, version: int = 1, arrays: dict[str, Any] | None = None, **manifest: Any) -> Path:
    """The same file with other content, whole in the eyes of the archive."""
    head, old = read_archive(path, KIND, 1)
    for name, value in (arrays or {}).items():
        old[head["moments"][name]] = value
    kept = {k: v for k, v in head.items() if k not in ("kind", "format_version", "arrays")}
    write_archive(path.with_name("made"), KIND, version, kept | manifest, old)
    return path.with_name("made")


def test_a_later_format_is_refused(tmp_path):
    save_moments(site(1, ["p"]), tmp_path / "a")
    with pytest.raises(ArchiveError, match=r"format version 2 .* reads up to 1"):
        load_moments(rewritten(tmp_path / "a", version=2))


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": {"mean": np.full((1, 6), np.nan)}},
        {"arrays": {"mean": np.zeros((1, 5))}},
        {"arrays": {"mean": np.float64(1.0)}},
        {"arrays": {"m2": np.full((1, 6), -1.0)}},
        {"arrays": {"n": np.full((1, 6), 99)}},
        {"arrays": {"n": np.full((1, 6), -1)}},
        {"arrays": {"rows": np.array([24.0])}},
        {"arrays": {"zx": np.zeros((1, 2, 6))}},
        {"moments": {"rows": 0}},
        {"moments": "rows"},
        {"class": "BatchCorrector"},
        {"class": "Path"},
        {"labels": {"$": "dict", "items": []}},
        {"corrector": {"$": "object", "class": "RenormCorrector", "fields": {}}},
        {"corrector": 3},
    ],
    ids=str,
)
def test_files_that_were_made_up_are_refused(tmp_path, change):
    save_moments(site(1, ["p"]), tmp_path / "a")
    with pytest.raises(ArchiveError, match="must hold moments as batchfix saves them"):
        load_moments(rewritten(tmp_path / "a", **change))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: site(2, ["q"], corrector=ComBat(mean_only=True)), "equal parameters, got mean_only=False and True"),
        (lambda: site(2, ["q"], corrector=BatchCorrector()), "Only two of a kind merge, got ComBat and BatchCorrector"),
        (lambda: site(2, ["q"], X=table(2, 24)[NAMES[::-1]]), "same features in the same order"),
        (lambda: site(2, ["q"], X=table(2, 24, names=[*NAMES[:5], "a"])), "same features in the same order"),
        (lambda: site(2, ["q"], X=table(2, 24)[NAMES[:5]]), "got 6 and 5 of them"),
        (lambda: site(2, ["q"], keep=None), r"keep and remove the same columns, got \['group', 'age'\] and \[\]"),
        (lambda: site(2, [7]), "of one kind throughout"),
    ],
)
def test_sites_that_do_not_fit_together(tmp_path, other, said):
    save_moments(site(1, ["p"]), tmp_path / "a")
    save_moments(other(), tmp_path / "b")
    with pytest.raises(MergeError, match=f"b' cannot be added to .*a'. .*{said}"):
        load_moments(tmp_path / "a", tmp_path / "b")


def test_a_site_with_names_and_one_without(tmp_path):
    named, plain = site(1, ["p"]), site(2, ["q"], X=table(2, 24).to_numpy())
    save_moments(named, tmp_path / "a")
    save_moments(plain, tmp_path / "b")
    for paths, said in ((("a", "b"), "this one and none in the other"), (("b", "a"), "the other one and none in this")):
        with pytest.raises(MergeError, match=f"cannot be added .*names of columns in {said} one. Fit both with"):
            load_moments(*(tmp_path / each for each in paths))
    with pytest.raises(MergeError, match="same features in the same order, got names of columns in this one"):
        named.merge(plain)


def test_a_list_of_paths_is_no_path(tmp_path):
    with pytest.raises(ArchiveError, match=r"one by one, got .*\. Write load_moments\(\*paths\)"):
        load_moments([tmp_path / "a", tmp_path / "b"])


def test_a_file_counts_once(tmp_path):
    save_moments(site(1, ["p"]), tmp_path / "a")
    (tmp_path / "copy").write_bytes((tmp_path / "a").read_bytes())
    with pytest.raises(MergeError, match=r"copy' holds the same rows of batch 'p' as .*a'"):
        load_moments(tmp_path / "a", tmp_path / "copy")


def test_rows_count_once_however_they_were_saved(tmp_path):
    X, batch = table(3, 30), np.repeat(["p", "q"], 15)
    save_moments(ComBat().fit(X, batch=batch), tmp_path / "a")
    save_moments(ComBat().fit(X, batch=batch), tmp_path / "other least", min_cell=4)
    order = np.random.default_rng(0).permutation(30)
    save_moments(ComBat().fit(X.iloc[order], batch=batch[order]), tmp_path / "other order")
    save_moments(ComBat().partial_fit(X[15:], batch=batch[15:]), tmp_path / "one batch of two")
    for name in ("other least", "other order", "one batch of two"):
        with pytest.raises(MergeError, match=f"{name}' holds the same rows of batch '[pq]' as .*a'"):
            load_moments(tmp_path / "a", tmp_path / name)
    save_moments(ComBat().fit(X + 1e-6, batch=batch), tmp_path / "like")
    assert load_moments(tmp_path / "a", tmp_path / "like").batch_counts_ == {"p": 30, "q": 30}


def test_one_path_counts_once_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "a"
    save_moments(site(1, ["p"]), path)
    for other in (path, Path(path), "./a", str(tmp_path / "a")):
        with pytest.raises(MergeError, match=r"holds the same rows of batch 'p' as 'a'\. Leave one out"):
            load_moments(path, other)
    save_moments(site(2, ["q"]), "b")
    with pytest.raises(MergeError, match="'b' holds the same rows of batch 'q' as 'b'"):
        load_moments(path, "b", "b")


# ---- what cannot be exchanged


def test_correctors_without_moments_by_batch(tmp_path):
    X = table(1, 30)
    for corrector in (
        RenormCorrector(momentum="moments", start="first").fit(X, batch=np.resize(["p", "q"], 30)),
        GroupCorrector(list("aabbcc")).fit(X),
        CausalCorrector().fit(X),
        LogRatio().fit(X.abs()),
    ):
        with pytest.raises(
            ArchiveError, match=f"got batchfix.*{type(corrector).__name__}. Others either learn nothing"
        ):
            save_moments(corrector, tmp_path / "a")


def test_statistics_that_do_not_add(tmp_path):
    X, batch = table(1, 30), np.resize(["p", "q"], 30)
    with pytest.raises(MergeError, match=r"must add up.* a median or a MAD"):
        save_moments(BatchCorrector(location="median").fit(X, batch=batch), tmp_path / "a")
    counts = np.random.default_rng(0).integers(0, 9, size=(30, 6)) + 1
    with pytest.raises(MergeError, match=r"must add up.* what zeros become"):
        save_moments(CompositionalCorrector().fit(counts, batch=batch), tmp_path / "a")
    adapted = BatchCorrector().fit(X, batch=batch).adapt(X[:12], batch="r")
    with pytest.raises(MergeError, match=r"extended with \{'r'\}"):
        save_moments(adapted, tmp_path / "a")
    with pytest.raises(NotFittedError):
        save_moments(ComBat(), tmp_path / "a")


@pytest.mark.parametrize(
    "how",
    [{"min_cell": 0}, {"min_cell": 2.5}, {"min_cell": True}, {"min_missing": 0}, {"min_nonzero": 0}, {"small": "keep"}],
    ids=str,
)
def test_arguments(tmp_path, how):
    with pytest.raises(BatchfixError, match=f"{next(iter(how))} must be"):
        save_moments(site(1, ["p"]), tmp_path / "a", **how)


IMPOSSIBLE = {
    "n": (0, 0, "a mean of no values|means of design columns over no rows"),
    "m2": (0, -1e-3, "m2 is below 0"),
    "mean": (1, 0.5, "a mean of no values"),
    "rest": (0, 1e9, "rest beyond m2"),
    "zx": (0, 1e9, "zx beyond zz and m2"),
    "zz": (0, -1.0, "squares of design columns below 0"),
    "row_zz": (0, -1.0, "squares of design columns below 0"),
    "z_mean": (0, 0.9, "shares of the levels of 'group' do not add up to 1"),
    "row_z_mean": (0, 1.5, "shares of the levels of 'group' do not add up to 1"),
}


def moments_of(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file by their names."""
    head, arrays = read_archive(path, KIND, 1)
    return {name: arrays[at] for name, at in head["moments"].items()}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_moments_that_no_rows_have(tmp_path, name):
    X = table(1, 24, missing=0.3).assign(v=np.nan)
    X.loc[1:, "w"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingFeatureWarning)
        save_moments(site(1, ["p"], X=X), tmp_path / "a", min_cell=1, min_missing=1, min_nonzero=1)
    load_moments(rewritten(tmp_path / "a"))
    feature, value, said = IMPOSSIBLE[name]
    changed = moments_of(tmp_path / "a")[name]
    if name == "row_z_mean":
        changed[0, 0] = value
    else:
        changed[(0, *[0] * (changed.ndim - 2), feature if changed.ndim > 2 or name != "row_zz" else 0)] = value
    with pytest.raises(ArchiveError, match=f"must hold moments as batchfix saves them.*({said})"):
        load_moments(rewritten(tmp_path / "a", arrays={name: changed}))


def test_squares_of_one_value_and_missing_values_without_moments_of_their_own(tmp_path):
    X = table(1, 24)
    X.loc[1:, "w"] = np.nan
    save_moments(site(1, ["p"], X=X), tmp_path / "a", min_cell=1, min_missing=1, min_nonzero=1)
    found = moments_of(tmp_path / "a")
    found["m2"][0, NAMES.index("w")] = 1e-3
    with pytest.raises(ArchiveError, match="squares of fewer than two values"):
        load_moments(rewritten(tmp_path / "a", arrays={"m2": found["m2"]}))
    thin = {name: found[name][..., :1] for name in ("z_mean", "zz")}
    with pytest.raises(ArchiveError, match="values are missing, and z_mean is that of all rows"):
        load_moments(rewritten(tmp_path / "a", arrays=thin))


def test_more_values_present_than_observed(tmp_path):
    there = np.ones((24, 6), dtype=bool)
    one = ComBat(scale_guard=0.3).partial_fit(table(1, 24), batch="p", scale_where=there)
    save_moments(one, tmp_path / "a")
    load_moments(tmp_path / "a")
    with pytest.raises(ArchiveError, match="more values present than observed"):
        load_moments(rewritten(tmp_path / "a", arrays={"present": np.full((1, 6), 25)}))


@pytest.mark.parametrize("wrong", [None, 3, b"a"], ids=str)
def test_moments_go_to_a_path(wrong):
    with pytest.raises(ArchiveError, match="place of a batchfix moments must be a path, got"):
        save_moments(site(1, ["p"]), wrong)


@pytest.mark.filterwarnings("ignore::batchfix.exceptions.DataScaleWarning")  # of rows that are all but constant
@given(
    seed=st.integers(0, 10_000),
    place=st.sampled_from([0.0, 1e6]),
    spread=st.sampled_from([1e-120, 1e-3, 1.0, 1e120]),
    cuts=st.lists(st.integers(1, 19), max_size=3, unique=True),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_rounding_leaves_is_possible(tmp_path, seed, place, spread, cuts):
    rng = np.random.default_rng(seed)
    X = table(seed, 20, missing=rng.choice([0.0, 0.3, 0.8])).to_numpy() * spread + place
    X[:, 0] = place
    keep = pd.DataFrame({"group": rng.choice(list("ABC"), 20), "year": 2026 + rng.normal(0, 1e-3, 20)})
    X[:, 1] = keep["year"]
    batch, one = rng.choice(["p", "q"], 20), LinearCorrector()
    for at in np.split(np.arange(20), sorted(cuts)):
        one.partial_fit(X[at], batch=batch[at], keep=keep.iloc[at].reset_index(drop=True))
    save_moments(one, tmp_path / "a", min_cell=1, min_missing=1, min_nonzero=1)
    load_moments(tmp_path / "a")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["u", "w", "v", *"xyz"], r"another order: column 1 is 'v' in this one and 'w' in the other one\. Fit both"),
        (["u", "V", *"wxyz"], r"6 and 6 of them: 'v' in this one only, 'V' in the other one only\. Fit both to tables"),
        (list("uvwxy"), r"6 and 5 of them: 'z' in this one only\. Fit both"),
        (list("uvwxyzab"), r"6 and 8 of them: 'a', 'b' in the other one only\. Fit both"),
    ],
    ids=str,
)
def test_which_features_differ(tmp_path, names, said):
    save_moments(site(1, ["p"]), tmp_path / "a")
    other = site(2, ["q"], X=table(2, 24, names=names))
    save_moments(other, tmp_path / "b")
    with pytest.raises(MergeError, match=f"b' cannot be added to .*a'. .*features in the same order, got {said}"):
        load_moments(tmp_path / "a", tmp_path / "b")
    plain = [BatchCorrector().fit(table(1, 24).to_numpy()[:, :p], batch=np.resize(["p", "q"], 24)) for p in (6, 5)]
    with pytest.raises(MergeError, match=r"got 6 and 5 of them\. Fit both to tables of the same columns"):
        plain[0].merge(plain[1])
