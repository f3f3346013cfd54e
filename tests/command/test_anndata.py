"""AnnData files in the commands that apply, judge and foretell: as tables of the same numbers."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from batchfix import ComBat, LinearCorrector, LogRatio, save_model
from batchfix.cli import main
from batchfix.datasets import make_lab

anndata = pytest.importorskip("anndata")

LAB = make_lab(60, 7, 3, random_state=0)
GENES = [f"g{k}" for k in range(7)]
OBS = pd.DataFrame({"run": LAB.batch.to_numpy(), "group": LAB.group.to_numpy()}, index=[f"s{k}" for k in range(60)])
VALUES = LAB.data.to_numpy()
TABLE = pd.DataFrame(VALUES, OBS.index, GENES)


def adata_of(X: object = VALUES, rows: slice = slice(None), genes: list[int] | None = None) -> object:
    made = anndata.AnnData(X, obs=OBS.copy(), var=pd.DataFrame(index=GENES), layers={"twice": 2 * VALUES})
    made.uns["note"] = "kept"
    return made[rows, genes if genes is not None else slice(None)].copy()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """in.h5ad, and in.csv with the same."""
    monkeypatch.chdir(tmp_path)
    adata_of().write_h5ad("in.h5ad")
    TABLE.join(OBS).to_csv("in.csv")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    def run(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def fitted(**options: object) -> ComBat:
    model = ComBat(**options).fit(TABLE, batch=OBS["run"], keep=OBS[["group"]])
    save_model(model, "m", notes={"batch": ["run"]})
    return model


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize("rows", [60, 7])
def test_apply_gives_what_the_model_gives(said, monkeypatch, kind, rows) -> None:
    monkeypatch.setattr("batchfix.adapters.sources.source.Source.block_bytes", 8 * 7 * rows)
    model, order = fitted(), [3, 0, 1, 6, 5, 2, 4]
    adata_of(kind(VALUES), genes=order).write_h5ad("new.h5ad")
    code, out, err = said("apply new.h5ad --model m -o out.h5ad")
    assert code == 0, err
    assert "60 samples x 7 features corrected by ComBat of m" in out
    found = anndata.read_h5ad("out.h5ad")
    want = model.transform(TABLE, batch=OBS["run"], keep=OBS[["group"]])
    np.testing.assert_allclose(found.X, want[[GENES[k] for k in order]], rtol=1e-12)
    assert (found.uns["note"], list(found.var_names)) == ("kept", [GENES[k] for k in order])
    np.testing.assert_array_equal(found.layers["twice"], 2 * VALUES[:, order])
    assert found.uns["batchfix"]["X"]["corrector"] == "ComBat"
    pd.testing.assert_frame_equal(found.obs.astype(str), OBS)


def test_apply_learns_new_batches_from_all_their_samples(said, monkeypatch) -> None:
    monkeypatch.setattr("batchfix.adapters.sources.source.Source.block_bytes", 8 * 7 * 5)
    old = OBS["run"] != OBS["run"].iloc[-1]
    model = ComBat().fit(TABLE[old], batch=OBS["run"][old])
    save_model(model, "m", notes={"batch": ["run"]})
    assert said("apply in.h5ad --model m -o out.h5ad")[0] == 2
    code, out, err = said("apply in.h5ad --model m -o out.h5ad --unknown adapt --layer twice")
    assert code == 0, err
    assert "new batches: learned from their samples" in out
    want = model.set_params(handle_unknown="adapt").transform(2 * TABLE, batch=OBS["run"])
    found = anndata.read_h5ad("out.h5ad")
    np.testing.assert_allclose(found.layers["twice"], want, rtol=1e-12)
    np.testing.assert_array_equal(found.X, VALUES)


def test_apply_keeps_float32(said) -> None:
    fitted()
    adata_of(VALUES.astype(np.float32)).write_h5ad("new.h5ad")
    assert said("apply new.h5ad --model m -o out.h5ad")[0] == 0
    assert anndata.read_h5ad("out.h5ad").X.dtype == np.float32


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("apply in.h5ad --model m -o out.csv", "an .h5ad file is corrected to an .h5ad file"),
        ("apply in.csv --model m -o out.h5ad", "an .h5ad file is corrected to an .h5ad file"),
        ("apply in.h5ad --model m -o out.h5ad --ignore g0", "--ignore is for tables in text or parquet files"),
        ("apply in.csv --model m -o out.csv --layer twice", "--layer names a matrix of an .h5ad file"),
        ("apply in.h5ad --model m -o out.h5ad --layer twise", "is none (did you mean 'twice'?)"),
        ("apply few.h5ad --model m -o out.h5ad", "must have every feature of the model as a variable, and lacks 'g6'"),
        ("apply same.h5ad --model m -o out.h5ad", "the names in var of 'same.h5ad' must differ"),
        ("apply in.h5ad --model ratios -o out.h5ad", "a LogRatio is applied to tables in text or parquet files"),
        ("apply in.h5ad --model m -o in.h5ad", "which would be lost"),
        ("diagnose in.h5ad --batch run --metadata in.csv", "--metadata is for tables in text or parquet files"),
        ("diagnose in.csv --batch run --ignore group --layer twice", "--layer names a matrix of an .h5ad file"),
        ("diagnose same.h5ad --batch run", "the features of 'same.h5ad' must have different names, and 'g0' stand"),
        ("diagnose in.h5ad --batch runn", "has no 'runn' (did you mean 'run'?)"),
        ("check in.h5ad --batch runn --keep group", "has no 'runn' (did you mean 'run'?)"),
        ("check none.h5ad --batch run --keep group", "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(said, line: str, why: str) -> None:
    fitted()
    save_model(LogRatio(zeros="multiplicative").fit(np.exp(VALUES)), "ratios")
    adata_of(genes=[0, 1, 2, 3, 4, 5]).write_h5ad("few.h5ad")
    same = adata_of()
    same.var_names = ["g0", *GENES[:-1]]
    same.write_h5ad("same.h5ad")
    before = Path("in.h5ad").read_bytes()
    code, _, err = said(line)
    assert (code, why in err) == (2, True), err
    assert not Path("out.h5ad").exists()
    assert Path("in.h5ad").read_bytes() == before


def test_diagnose_and_compare_judge_as_a_table_of_the_same_numbers(said) -> None:
    line = "--batch run --keep group --method combat --fast --json"
    found = [said(f"diagnose {name} {line}") for name in ("in.h5ad", "in.csv")]
    assert found[0][0] == found[1][0] == 0, found[0][2]
    one, other = (json.loads(out) for _, out, _ in found)
    assert one == other
    code, out, err = said("compare in.h5ad --batch run --keep group --methods combat,location --fast")
    assert code == 0, err
    assert "60 samples x 7 features of in.h5ad" in out


def test_diagnose_judges_what_another_file_holds(said) -> None:
    made = adata_of()
    made.X = fitted().transform(TABLE, batch=OBS["run"], keep=OBS[["group"]])
    made[::-1].copy().write_h5ad("after.h5ad")
    code, out, err = said("diagnose in.h5ad --batch run --keep group --after after.h5ad --fast --json")
    assert code == 0, err
    share = json.loads(out)["evaluation"]["batch_variance"]
    assert share["after"]["R2"] < 0.1 < share["before"]["R2"]


def test_check_reads_the_samples(said) -> None:
    found = [said(f"check {name} --batch run --keep group --json") for name in ("in.h5ad", "in.csv")]
    assert found[0] == found[1]
    assert found[0][0] == 0


def damaged(what: str) -> None:
    with h5py.File("bad.h5ad", "r+") as file:
        group = file["X"]
        starts, indices, data = (group[name][:] for name in ("indptr", "indices", "data"))
        if what == "an index beyond":
            indices[4] = 100_000
        elif what == "an index below":
            indices[4] = -5
        elif what == "starts that go beyond":
            starts[-1] += 1000
        elif what == "starts that do not start":
            starts[0] = 5
        elif what == "starts that fall":
            starts[3] = -4
        elif what == "too few starts":
            starts = starts[:-2]
        else:
            data = data[:5]
        for name, values in (("indptr", starts), ("indices", indices), ("data", data)):
            del group[name]
            group[name] = values


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix], ids=["csr", "csc"])
@pytest.mark.parametrize(
    "what",
    [
        *("an index beyond", "an index below", "starts that go beyond", "starts that do not start", "starts that fall"),
        *("too few starts", "too few numbers"),
    ],
)
def test_a_damaged_sparse_matrix_is_refused(said, kind, what: str) -> None:
    fitted()
    adata_of(kind(VALUES)).write_h5ad("bad.h5ad")
    damaged(what)
    for line in (
        "apply bad.h5ad --model m -o out.h5ad",
        "correct bad.h5ad -o out.h5ad --batch run",
        "correct bad.h5ad -o out.h5ad --batch run --stream",
        "diagnose bad.h5ad --batch run --fast",
    ):
        if kind is sparse.csc_matrix and "--stream" in line:
            continue  # refused before
        code, _, err = said(line)
        assert (code, "must hold numbers inside of it" in err) == (2, True), err
        assert not Path("out.h5ad").exists()


def test_a_corrected_table_may_carry_what_describes_its_samples(said) -> None:
    assert said("correct in.csv -o after.csv --batch run --keep group")[0] == 0
    code, _, err = said("diagnose in.h5ad --batch run --keep group --after after.csv --fast --json")
    assert code == 0, err
    after = pd.read_csv("after.csv", index_col=0)
    after.assign(age=np.arange(60.0)).to_csv("more.csv")
    code, _, err = said("diagnose in.h5ad --batch run --keep group --after more.csv --fast")
    assert (code, "holds 1 more" in err) == (2, True), err


def test_apply_notes_what_it_took_for_nuisance(said) -> None:
    model = LinearCorrector().fit(TABLE, batch=OBS["run"], nuisance=OBS[["group"]])
    save_model(model, "m", notes={"batch": ["run"]})
    assert said("apply in.h5ad --model m -o out.h5ad")[0] == 0
    assert anndata.read_h5ad("out.h5ad").uns["batchfix"]["X"]["nuisance"] == "group"


def test_text_is_no_matrix(said) -> None:
    with h5py.File("in.h5ad", "r+") as file:
        del file["X"]
        file["X"] = np.full((60, 7), b"a")
    code, _, err = said("diagnose in.h5ad --batch run")
    assert (code, "must hold numbers, got |S1" in err) == (2, True), err
