"""The door for AnnData: what is read, what is written, what is refused and left alone."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import set_config

from batchfix import BatchCorrector, ComBat, LinearCorrector, pp
from batchfix.datasets import load_bladder, make_lab
from batchfix.exceptions import (
    BatchfixError,
    ConfoundedDesignError,
    CopyWarning,
    MissingLabelError,
    UnknownBatchError,
)

anndata = pytest.importorskip("anndata")

ORACLES = Path(__file__).parent / "oracles"
CORRECTORS = [ComBat, LinearCorrector, BatchCorrector]


@pytest.fixture
def lab():
    return make_lab(40, 12, 3, random_state=0)


@pytest.fixture
def adata(lab):
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"batch": lab.batch, "group": lab.group, "age": rng.uniform(20, 80, 40)})
    adata = anndata.AnnData(lab.data.to_numpy(), obs=obs, var=pd.DataFrame(index=lab.data.columns))
    adata.layers["log"] = adata.X + 1.0
    adata.obsm["X_pca"] = rng.normal(size=(40, 4))
    adata.uns["note"] = "kept"
    adata.raw = adata.copy()
    return adata


def same(one, other):
    """Whether two AnnData hold the same, bit for bit, but for what was done to them."""
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.raw.X, other.raw.X)
    assert {**one.uns, "batchfix": None} == {**other.uns, "batchfix": None}
    for mapping in ("layers", "obsm"):
        mine, theirs = getattr(one, mapping), getattr(other, mapping)
        assert list(mine) == list(theirs)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])


class TestWhatIsDone:
    @pytest.mark.parametrize("kind", CORRECTORS)
    def test_it_is_fit_transform_on_the_arrays(self, adata, kind):
        X, obs = adata.X.copy(), adata.obs
        assert pp.correct(adata, kind(), keep=["group", "age"]) is None
        want = kind().fit_transform(X, batch=obs["batch"], keep=obs[["group", "age"]])
        np.testing.assert_array_equal(adata.X, want)

    def test_bladder_is_svas(self):
        table = load_bladder()
        adata = anndata.AnnData(table.data, obs=table.samples)
        pp.correct(adata, ComBat(), keep="cancer")
        # atol: what is asked of ComBat itself
        np.testing.assert_allclose(adata.X, np.load(ORACLES / "bladder.npz")["mod"], rtol=0, atol=1e-10)

    def test_one_kept_column_by_name_or_in_a_list(self, adata):
        one = pp.correct(adata, ComBat(), keep="group", copy=True)
        other = pp.correct(adata, ComBat(), keep=("group",), copy=True)
        np.testing.assert_array_equal(one.X, other.X)

    def test_nothing_kept_in_two_ways(self, adata):
        one, other = pp.correct(adata, ComBat(), copy=True), pp.correct(adata, ComBat(), keep=[], copy=True)
        np.testing.assert_array_equal(one.X, other.X)

    def test_key_of_several_columns(self, adata):
        adata.obs["lane"] = np.tile(["l1", "l2"], 20)
        want = LinearCorrector().fit_transform(adata.X, batch=adata.obs[["batch", "lane"]].to_numpy())
        pp.correct(adata, LinearCorrector(), key=["batch", "lane"])
        np.testing.assert_array_equal(adata.X, want)

    def test_several_columns_are_for_the_linear_corrector(self, adata):
        with pytest.raises(BatchfixError, match="LinearCorrector takes several"):
            pp.correct(adata, ComBat(), key=["batch", "group"])

    def test_the_corrector_is_fitted_and_can_be_used(self, adata):
        combat, X = ComBat(), adata.X.copy()
        pp.correct(adata, combat, keep="group")
        assert combat.batches_.tolist() == ["b1", "b2", "b3"]
        again = combat.transform(X, batch=adata.obs["batch"], keep=adata.obs["group"])
        np.testing.assert_array_equal(adata.X, again)

    def test_a_fitted_corrector_is_fitted_anew(self, adata):
        combat = ComBat().fit(np.random.default_rng(3).normal(size=(20, 7)), batch=np.repeat(["x", "y"], 10))
        pp.correct(adata, combat)
        assert combat.batches_.tolist() == ["b1", "b2", "b3"]

    def test_categories_that_no_row_has(self, adata):
        want = pp.correct(adata, ComBat(), keep="group", copy=True).X
        adata.obs["batch"] = pd.Categorical(adata.obs["batch"], categories=["b0", "b3", "b2", "b1", "b9"])
        adata.obs["group"] = pd.Categorical(adata.obs["group"], categories=["none", "control", "case"])
        pp.correct(adata, ComBat(), keep="group")
        np.testing.assert_array_equal(adata.X, want)

    def test_one_nan_stays_one_nan(self, adata):
        adata.X[3, 5] = np.nan
        pp.correct(adata, ComBat(), keep="group")
        assert np.argwhere(np.isnan(adata.X)).tolist() == [[3, 5]]

    @pytest.mark.parametrize("api", ["pandas", "polars"])
    def test_set_output_does_not_matter(self, adata, api):
        pytest.importorskip(api)
        adata.obsm["frame"] = pd.DataFrame(adata.obsm["X_pca"], index=adata.obs_names, columns=list("abcd"))
        want = pp.correct(adata, BatchCorrector(), copy=True).X
        frame = pp.correct(adata, BatchCorrector(), obsm="frame", copy=True).obsm["frame"]
        pp.correct(adata, BatchCorrector().set_output(transform=api))
        pp.correct(adata, BatchCorrector().set_output(transform=api), obsm="frame")
        assert type(adata.X) is np.ndarray
        np.testing.assert_array_equal(adata.X, want)
        pd.testing.assert_frame_equal(adata.obsm["frame"], frame)

    def test_routing_does_not_matter(self, adata):
        want = pp.correct(adata, ComBat(), keep="group", copy=True).X
        set_config(enable_metadata_routing=True)
        try:
            pp.correct(adata, ComBat(), keep="group")
        finally:
            set_config(enable_metadata_routing=False)
        np.testing.assert_array_equal(adata.X, want)


class TestWhereItGoes:
    """Every pair of what is read and where it is put; all the rest stays."""

    @pytest.mark.parametrize(
        ("where", "key_added", "to", "name"),
        [
            ({}, None, "X", None),
            ({"layer": "log"}, None, "layers", "log"),
            ({"obsm": "X_pca"}, None, "obsm", "X_pca"),
            ({}, "new", "layers", "new"),
            ({"layer": "log"}, "new", "layers", "new"),
            ({"obsm": "X_pca"}, "new", "obsm", "new"),
        ],
    )
    @pytest.mark.parametrize("copy", [False, True])
    def test_place(self, adata, where, key_added, to, name, copy):
        before = adata.copy()
        source = adata.X
        if where:
            source = adata.layers["log"] if "layer" in where else adata.obsm["X_pca"]
        want = BatchCorrector().fit_transform(source.copy(), batch=adata.obs["batch"])
        done = pp.correct(adata, BatchCorrector(), **where, key_added=key_added, copy=copy)
        assert (done is None) is not copy
        if copy:
            same(adata, before)
        else:
            done = adata
        if to == "X":
            np.testing.assert_array_equal(done.X, want)
            done.X = before.X
        else:
            np.testing.assert_array_equal(getattr(done, to)[name], want)
            if name == "new":
                del getattr(done, to)[name]
            else:
                getattr(done, to)[name] = getattr(before, to)[name]
        same(done, before)

    def test_a_frame_in_obsm_stays_a_frame(self, adata):
        frame = pd.DataFrame(adata.obsm["X_pca"], index=adata.obs_names, columns=list("abcd"))
        adata.obsm["frame"] = frame
        pp.correct(adata, BatchCorrector(), obsm="frame")
        want = BatchCorrector().fit_transform(frame, batch=adata.obs["batch"])
        pd.testing.assert_frame_equal(adata.obsm["frame"], want)

    @pytest.mark.filterwarnings("ignore:X should be on a scale:batchfix.exceptions.DataScaleWarning")  # whole numbers
    @pytest.mark.parametrize(
        ("given", "result"), [("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("i2", "f8"), ("u1", "f8"), ("f2", "f8")]
    )
    def test_dtype(self, adata, given, result):
        adata.X = np.round(10 * adata.obsm["X_pca"].repeat(3, axis=1) + 60).astype(given)
        pp.correct(adata, BatchCorrector())
        assert adata.X.dtype == result

    def test_x_that_other_names_share_is_replaced_not_written_into(self, adata):
        before = adata.X
        adata.layers["same"] = before
        kept = before.copy()
        pp.correct(adata, ComBat())
        np.testing.assert_array_equal(adata.layers["same"], kept)
        np.testing.assert_array_equal(before, kept)

    def test_a_corrector_told_not_to_copy_writes_into_x(self, adata):
        want, X = pp.correct(adata, ComBat(), copy=True).X, adata.X
        pp.correct(adata, ComBat(copy=False))
        assert adata.X is X
        np.testing.assert_array_equal(X, want)

    @pytest.mark.parametrize("how", [{"copy": True}, {"key_added": "new"}, {"layer": "log", "key_added": "new"}])
    def test_a_corrector_told_not_to_copy_spares_what_must_stay(self, adata, how):
        X, log = adata.X.copy(), adata.layers["log"].copy()
        pp.correct(adata, ComBat(copy=False), **how)
        np.testing.assert_array_equal(adata.X, X)
        np.testing.assert_array_equal(adata.layers["log"], log)

    def test_raw_that_shares_its_memory_stays(self, adata):
        adata.raw = adata
        X, raw = adata.X, adata.raw.X.copy()
        adata.layers["raw"] = adata.raw.X
        for how in ({}, {"layer": "raw"}):
            pp.correct(adata, ComBat(copy=False), **how)
            np.testing.assert_array_equal(adata.raw.X, raw)
            assert (adata.layers["raw"] is X) is (not how)
        adata.raw = None
        X = adata.X
        pp.correct(adata, ComBat(copy=False))
        assert adata.X is X

    def test_a_corrector_that_cannot_write_in_place_says_so(self, adata):
        adata.X = np.asfortranarray(adata.X)
        adata.X.flags.writeable = False
        want = pp.correct(adata, ComBat(), copy=True).X
        with pytest.warns(CopyWarning, match="read-only"):
            pp.correct(adata, ComBat(copy=False))
        np.testing.assert_array_equal(adata.X, want)


class TestViews:
    SUBSETS = (slice(0, 30), np.arange(30), np.arange(40) < 30, np.array([5, 3, 3, *range(8, 35)]))

    @pytest.mark.parametrize("rows", SUBSETS, ids=["slice", "positions", "mask", "repeated"])
    @pytest.mark.parametrize("where", [{}, {"layer": "log"}, {"obsm": "X_pca"}, {"key_added": "new"}])
    @pytest.mark.parametrize("own", [True, False], ids=["copies", "in place"])
    @pytest.mark.filterwarnings("ignore:Observation names are not unique")  # the repeated row's
    def test_a_view_becomes_its_own_and_its_parent_stays(self, adata, rows, where, own):
        before, view = adata.copy(), adata[rows]
        want = pp.correct(view.copy(), BatchCorrector(), **where, copy=True)
        assert view.is_view
        pp.correct(view, BatchCorrector(copy=own), **where)
        assert not view.is_view
        same(view, want)
        same(adata, before)

    def test_a_view_of_some_features(self, adata):
        before, view = adata.copy(), adata[:30, ["f03", "f01", "f07"]]
        want = ComBat().fit_transform(np.array(view.X), batch=view.obs["batch"])
        pp.correct(view, ComBat())
        np.testing.assert_array_equal(view.X, want)
        same(adata, before)

    def test_a_copy_of_a_view_leaves_the_view(self, adata):
        before, view = adata.copy(), adata[:30]
        done = pp.correct(view, ComBat(copy=False), copy=True)
        assert view.is_view
        assert not done.is_view
        same(adata, before)


class TestWhatIsRefused:
    def refuse(self, adata, error, match, corrector=None, **how):
        before = adata.copy()
        with pytest.raises(error, match=match) as caught:
            pp.correct(adata, ComBat() if corrector is None else corrector, **how)
        same(adata, before)
        return caught

    def test_the_nearest_column_is_named(self, adata):
        self.refuse(adata, BatchfixError, r"key: 'bacth' must be in adata.obs \(did you mean 'batch'\?\)", key="bacth")
        self.refuse(adata, BatchfixError, r"keep: 'Group' .* \(did you mean 'group'\?\)", keep=["age", "Group"])
        caught = self.refuse(adata, BatchfixError, r"which has 'batch', 'group', 'age'\.$", key="zzz")
        assert "mean" not in str(caught.value)

    def test_the_nearest_matrix_is_named(self, adata):
        self.refuse(adata, BatchfixError, r"'logs' must be in adata.layers \(did you mean 'log'\?\)", layer="logs")
        self.refuse(adata, BatchfixError, r"'pca' must be in adata.obsm \(did you mean 'X_pca'\?\)", obsm="pca")

    def test_obs_without_columns(self, adata):
        adata.obs = adata.obs[[]]
        self.refuse(adata, BatchfixError, "'batch' must be in adata.obs, which has nothing")

    def test_labels_that_are_missing(self, adata):
        for column, how in (("batch", {}), ("group", {"keep": "group"}), ("age", {"keep": ["age"]})):
            spoilt = adata.copy()
            spoilt.obs[column] = spoilt.obs[column].astype(object if column != "age" else float)
            spoilt.obs.iloc[[4, 6], spoilt.obs.columns.get_loc(column)] = np.nan
            match = rf"adata.obs\['{column}'\], got none for 2 of 40 \('{adata.obs_names[4]}' for one\)"
            self.refuse(spoilt, MissingLabelError, match, **how)

    def test_a_column_name_that_stands_twice(self, adata):
        adata.obs = pd.concat([adata.obs, adata.obs[["batch"]]], axis=1)
        with pytest.raises(BatchfixError, match=r"one column of adata\.obs, got 'batch', of which there are 2"):
            pp.correct(adata, ComBat())

    def test_values_where_names_are_wanted(self, adata):
        self.refuse(adata, TypeError, "keep must name columns of adata.obs, got pandas Series", keep=adata.obs["group"])
        self.refuse(adata, TypeError, "key must name columns of adata.obs, got numpy ndarray", key=np.zeros(40))
        self.refuse(adata, TypeError, "keep must name columns of adata.obs, got int", keep=3)
        self.refuse(adata, BatchfixError, r"key must name a column of adata.obs, got \[\]", key=[])
        self.refuse(adata, TypeError, "key_added must be a name, got 3", key_added=3)

    def test_names_of_matrices_and_files(self, adata):
        for how in ({"layer": ["log"]}, {"obsm": 3}):
            self.refuse(adata, TypeError, rf"{next(iter(how))} must be a name, got (\['log'\]|3)", **how)
        self.refuse(adata, TypeError, "filename must be the path of a new .h5ad file, got 3", filename=3)

    def test_two_matrices_at_once(self, adata):
        self.refuse(adata, BatchfixError, "layer='log' and obsm='X_pca'. Drop one", layer="log", obsm="X_pca")

    def test_no_matrix(self, adata):
        adata.X = None
        with pytest.raises(BatchfixError, match=r"adata.X must hold a matrix, got None"):
            pp.correct(adata, ComBat())

    def test_an_embedding_of_three_dimensions(self, adata):
        adata.obsm["cube"] = np.zeros((40, 2, 2))
        self.refuse(adata, BatchfixError, r"must have two dimensions, got shape \(40, 2, 2\)", obsm="cube")

    def test_correctors_with_keys(self, adata):
        for corrector, match in (
            (ComBat(batch_key="batch"), r"without batch_key, got batch_key='batch'. .*key="),
            (ComBat(batch_key=0), r"without batch_key, got batch_key=0"),
            (ComBat(keep_keys=["age"]), r"without keep_keys, got keep_keys=\['age'\]. .*keep="),
            (ComBat(keep_y=True), r"without keep_y, got keep_y=True. .*keep="),
            (LinearCorrector(nuisance_keys=["age"]), r"without nuisance_keys.* nuisance=adata.obs"),
        ):
            self.refuse(adata, BatchfixError, match, corrector)

    def test_what_is_no_corrector(self, adata):
        self.refuse(adata, TypeError, r"got the class ComBat. Write ComBat\(\)", ComBat)
        self.refuse(adata, TypeError, r"must be one of batchfix, such as ComBat\(\), got 'combat'", "combat")

    def test_what_is_no_anndata(self, lab):
        for wrong, name in ((lab.data, "pandas DataFrame"), (lab.data.to_numpy(), "numpy ndarray"), (None, "NoneType")):
            with pytest.raises(TypeError, match=rf"must be an AnnData, got {name}. .*corrector.fit_transform"):
                pp.correct(wrong, ComBat())

    def test_a_correction_that_fails_leaves_all_as_it_was(self, adata):
        adata.obs["site"] = np.where(adata.obs["batch"] == "b1", "north", "south")
        self.refuse(adata, ConfoundedDesignError, "north", keep="site")
        self.refuse(adata, UnknownBatchError, "'b7'", ComBat(reference_batch="b7", copy=False))
        adata.X[0, 0] = np.inf
        self.refuse(adata, BatchfixError, "inf", ComBat(copy=False))

    def test_masked(self, adata):
        adata.layers["holes"] = np.ma.masked_less(adata.X, 5.0)
        with pytest.raises(TypeError, match=r"numpy MaskedArray. .*filled\(np.nan\)"):
            pp.correct(adata, ComBat(), layer="holes")

    def test_something_else_under_our_name(self, adata):
        for taken in (3, {"X": "mine"}, {"X": {"mine": 1}}, {"X": {"run": "first"}}):
            adata.uns["batchfix"] = taken
            self.refuse(adata, BatchfixError, r"must hold records of earlier corrections, got (int|dict)\. .*uns.pop")
            assert adata.uns["batchfix"] == taken

    def test_nothing_to_correct(self, adata):
        for view in (adata[:0], adata[:, :0]):
            with pytest.raises(
                BatchfixError, match=r"adata\.X must have rows and columns, got shape \((0, 12|40, 0)\)"
            ):
                pp.correct(view.copy(), ComBat())

    def test_a_file_for_what_is_in_none(self, adata):
        self.refuse(adata, BatchfixError, "backed by a file, got 'new.h5ad' .*write_h5ad", filename="new.h5ad")


class TestWhatIsRecorded:
    def test_a_correction(self, adata):
        pp.correct(adata, ComBat(mean_only=True, reference_batch="b2"), keep=["group", "age"], key_added="new")
        assert list(adata.uns["batchfix"]) == ["new"]
        record = dict(adata.uns["batchfix"]["new"])
        told = record.pop("parameters")
        assert told["mean_only"] is True
        assert (told["reference_batch"], told["scale_guard"], told["tol"]) == ("b2", "None", 1e-4)
        assert set(told) == set(ComBat().get_params())
        assert record == {
            "corrector": "ComBat",
            "batchfix_version": version("batchfix"),
            "key": "batch",
            "keep": "group, age",
            "corrected": "adata.X",
            "result": "adata.layers['new']",
            "n_obs": 40,
            "n_vars": 12,
            "run": 1,
        }

    def test_runs_of_one_matrix_follow_each_other_and_what_is_replaced_is_forgotten(self, adata):
        pp.correct(adata, ComBat())
        pp.correct(adata, LinearCorrector())
        pp.correct(adata, ComBat(), key_added="new")
        pp.correct(adata, LinearCorrector(), layer="log", key_added="new")
        pp.correct(adata, BatchCorrector(), obsm="X_pca", key_added="new")
        found = {name: (each["corrector"], each["run"]) for name, each in adata.uns["batchfix"].items()}
        assert found == {
            "X": ("ComBat", 1),
            "X 2": ("LinearCorrector", 2),
            "new": ("LinearCorrector", 4),
            "new 2": ("BatchCorrector", 5),
        }
        assert adata.uns["batchfix"]["new 2"]["result"] == "adata.obsm['new']"

    def test_names_that_come_one_by_one(self, adata):
        pp.correct(adata, ComBat(), key=iter(["batch"]), keep=(name for name in ("group", "age")))
        record = adata.uns["batchfix"]["X"]
        assert (record["key"], record["keep"]) == ("batch", "group, age")
        pp.correct(adata, ComBat(), keep=iter([]))
        assert adata.uns["batchfix"]["X 2"]["keep"] == ""

    @pytest.mark.parametrize("kind", ["h5ad", "zarr"])
    @pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")  # anndata's default, until it changes
    def test_files_hold_it(self, adata, tmp_path, kind):
        pp.correct(adata, BatchCorrector(keep_numbers=["age"], location=None), keep="age")
        pp.correct(adata, LinearCorrector(reference_batch=np.str_("b1")), obsm="X_pca")
        place = tmp_path / f"lab.{kind}"
        getattr(adata, f"write_{kind}")(place)
        again = getattr(anndata, f"read_{kind}")(place)
        assert again.uns["batchfix"] == adata.uns["batchfix"]
        pp.correct(again, ComBat())
        assert again.uns["batchfix"]["X 2"]["run"] == 3

    def test_copies_and_errors_leave_what_was_there(self, adata):
        pp.correct(adata, ComBat())
        done = pp.correct(adata, ComBat(), copy=True)
        view = adata[:30]
        pp.correct(view, ComBat())
        with pytest.raises(BatchfixError):
            pp.correct(adata, ComBat(), key="age")
        assert list(adata.uns["batchfix"]) == ["X"]
        assert list(done.uns["batchfix"]) == list(view.uns["batchfix"]) == ["X", "X 2"]


class TestWithoutAnndata:
    def run(self, code):
        block = "import sys; sys.modules['anndata'] = None; "
        return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False)

    def test_the_module_imports(self):
        done = self.run("import batchfix.pp; print(batchfix.pp.correct.__name__)")
        assert (done.stdout.strip(), done.returncode) == ("correct", 0)

    def test_the_function_says_what_to_install(self):
        done = self.run("from batchfix import ComBat, pp; pp.correct(None, ComBat())")
        assert "batchfix.pp needs anndata: pip install 'batchfix[anndata]'" in done.stderr.splitlines()[-1]
