"""Files of other kinds: parquet wherever a csv goes, AnnData in and out of `correct`, and tables block by block."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from batchfix.cli import main
from batchfix.command import anndata_files, large
from batchfix.command import correct as correct_command
from batchfix.correctors import BatchCorrector, ComBat, LinearCorrector

anndata, h5py = pytest.importorskip("anndata"), pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

FEATURES = [f"f{i}" for i in range(6)]
OPTIONS = "--batch run --keep group,age --ignore stage"
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12}  # sums of blocks and of the whole round differently
STREAMED = [
    *("combat", "combat-nonparametric", "combat-mean-only", "linear", "location", "location-scale"),
    *("location-scale-shrunk", "standardize"),
]


def lab() -> pd.DataFrame:
    """40 samples of three runs, numbers and text mixed."""
    rng = np.random.default_rng(11)
    n = 40
    run = np.resize(np.array(["01", "02", "10"], dtype=object), n)
    group = np.repeat(np.array(["case", "control"], dtype=object), n // 2)
    X = rng.normal(size=(n, len(FEATURES))) * (1 + (run == "02"))[:, None] + 3.0 * (run == "10")[:, None]
    frame = pd.DataFrame(X, columns=FEATURES, index=pd.Index([f"{i:03d}" for i in range(n)], name="sample"))
    frame.iloc[3, 2] = np.nan
    frame.insert(0, "run", run)
    frame.insert(3, "group", group)
    frame["age"] = rng.uniform(30, 80, n).round(1)
    frame["stage"] = rng.integers(1, 4, n)
    return frame


def command(what: str, options: str) -> int:
    return main([what, *shlex.split(options)])


def correct(options: str) -> int:
    return command("correct", options)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The lab's table as in.csv, in.parquet and in.h5ad of the current directory."""
    monkeypatch.chdir(tmp_path)
    frame = lab()
    frame.to_csv("in.csv")
    frame.to_parquet("in.parquet")
    write_h5ad(frame)
    return frame


def write_h5ad(frame: pd.DataFrame, **changed: Any) -> None:
    obs = frame[["run", "group", "age", "stage"]].astype({"run": "category"})
    adata = anndata.AnnData(np.nan_to_num(frame[FEATURES].to_numpy()), obs=obs, var=pd.DataFrame(index=FEATURES))
    adata.layers["log"] = np.log1p(np.abs(adata.X)).astype(np.float32)
    adata.raw = adata.copy()
    adata.uns["colours"] = {"run": np.array(["red", "blue"])}
    adata.obsm["X_pca"] = adata.X[:, :2].copy()
    for name, value in changed.items():
        setattr(adata, name, value)
    adata.write_h5ad("in.h5ad")


def read_csv(path: str) -> pd.DataFrame:
    return pd.read_csv(path, index_col=0, dtype={"sample": str, "run": str}, float_precision="round_trip")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], None]:
    """Run a command; it must exit with 2, one line on stderr, nothing written."""

    def run(line: str, message: str) -> None:
        before = sorted(path.name for path in Path().iterdir())
        capsys.readouterr()
        assert main(shlex.split(line)) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:10]) == ("", 1, "batchfix: ")
        assert message in err
        assert sorted(path.name for path in Path().iterdir()) == before

    return run


# ------------------------------------------------------------------- parquet


def test_parquet_in_and_out_is_as_csv(table: pd.DataFrame) -> None:
    assert correct(f"in.csv -o out.csv {OPTIONS}") == 0
    want = read_csv("out.csv")
    for ending, given in (("csv", "parquet"), ("parquet", "csv"), ("parquet", "parquet")):
        assert correct(f"in.{given} -o {given}.{ending} {OPTIONS}") == 0
    assert Path("parquet.csv").read_text() == Path("out.csv").read_text()
    same = pd.read_parquet("parquet.parquet")
    pd.testing.assert_frame_equal(same, want.astype({"stage": table["stage"].dtype}), check_exact=True)
    text = pd.read_parquet("csv.parquet")
    pd.testing.assert_frame_equal(text[FEATURES], want[FEATURES], check_exact=True)
    assert text["age"].tolist() == [str(age) for age in table["age"]]  # in a text file all labels are text


def test_ids_in_the_first_column_stay_there(table: pd.DataFrame) -> None:
    table.reset_index().to_parquet("flat.parquet", index=False)
    assert correct(f"flat.parquet -o out.parquet {OPTIONS}") == 0
    out = pd.read_parquet("out.parquet")
    assert list(out.columns) == ["sample", *table.columns]
    assert isinstance(out.index, pd.RangeIndex)


def test_float32_stays_if_all_numbers_are(table: pd.DataFrame) -> None:
    table.astype(dict.fromkeys(FEATURES, np.float32)).to_parquet("in.parquet")
    for options in ("", "--stream"):
        assert correct(f"in.parquet -o out.parquet {OPTIONS} {options}") == 0
        out = pd.read_parquet("out.parquet")
        assert set(out[FEATURES].dtypes) == {np.dtype(np.float32)}
    want = ComBat().fit_transform(table[FEATURES], batch=table["run"], keep=table[["group", "age"]])
    np.testing.assert_allclose(out[FEATURES], want, rtol=0, atol=1e-5)  # float32's rounding
    assert correct(f"in.parquet -o mixed.parquet --batch run --ignore group,stage,{FEATURES[0]}") == 0
    assert pd.read_parquet("mixed.parquet")[FEATURES[1]].dtype == np.float64  # age is one of the numbers


def test_samples_in_columns(table: pd.DataFrame) -> None:
    table[FEATURES].T.to_parquet("x.parquet")
    table[["run", "group"]].iloc[::-1].to_parquet("m.parquet")
    assert correct("x.parquet -o out.parquet --metadata m.parquet --batch run --method linear") == 0
    want = LinearCorrector().fit_transform(table[FEATURES], batch=table["run"])
    pd.testing.assert_frame_equal(pd.read_parquet("out.parquet").T, want, check_names=False, check_exact=True)


def test_the_other_commands_read_parquet(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct(f"in.parquet -o out.parquet {OPTIONS} --save-model m") == 0
    assert command("apply", "in.parquet --model m -o again.parquet") == 0
    assert Path("again.parquet").read_bytes() == Path("out.parquet").read_bytes()
    said = {}
    capsys.readouterr()
    for kind in ("csv", "parquet"):
        for what in ("diagnose", "compare"):
            options = f"in.{kind} --fast --json {OPTIONS}" + " --methods linear" * (what == "compare")
            assert command(what, options) == 0
            said[what, kind] = json.loads(capsys.readouterr().out.replace("in.parquet", "in.csv"))
        assert command("check", f"in.{kind} --batch run --keep group --json") == 0
        said["check", kind] = json.loads(capsys.readouterr().out)
    for what in ("diagnose", "compare", "check"):
        assert said[what, "csv"] == said[what, "parquet"]


def test_parquet_files_that_will_not_do(
    table: pd.DataFrame, refused: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bad.parquet").write_bytes(b"no such thing")
    refused("correct bad.parquet -o o.csv --batch run", "cannot be read as a parquet file")
    refused("correct none.parquet -o o.csv --batch run", "does not exist")
    refused("correct in.parquet -o o.csv --batch run", "--ignore group")
    refused("correct in.parquet -o o.csv --batch runn", "did you mean 'run'")
    table.set_index("run", append=True).to_parquet("two.parquet")
    refused("correct two.parquet -o o.csv --batch run", "an index of 2 (sample, run)")
    table.set_axis(["s"] * len(table)).to_parquet("twice.parquet")
    refused(f"correct twice.parquet -o o.csv {OPTIONS}", "must be unique; repeated: 's'")
    table.assign(f1=np.inf).to_parquet("endless.parquet")
    refused(f"correct endless.parquet -o o.csv {OPTIONS}", "row '000', column 'f1' holds 'inf'")
    refused(f"correct endless.parquet -o o.csv {OPTIONS} --stream", "row '000', column 'f1' holds 'inf'")
    table.iloc[:0].to_parquet("empty.parquet")
    refused(f"correct empty.parquet -o o.csv {OPTIONS}", "must hold rows")
    monkeypatch.setattr("batchfix.adapters.tables.parquet.find_spec", lambda _: None)
    refused(f"correct in.csv -o o.parquet {OPTIONS}", "pip install 'batchfix[files]'")


# ------------------------------------------------------------------- blocks


@pytest.mark.parametrize("method", STREAMED)
def test_blocks_give_what_the_whole_gives(table: pd.DataFrame, method: str) -> None:
    options = OPTIONS + f" --method {method}"
    for kind in ("csv", "parquet"):
        assert correct(f"in.{kind} -o whole.{kind} {options}") == 0
        for asked in ("--stream", "--block-rows 7", "--block-rows 1"):
            assert correct(f"in.{kind} -o blocks.{kind} {options} {asked}") == 0
            read = read_csv if kind == "csv" else pd.read_parquet
            whole, blocks = read(f"whole.{kind}"), read(f"blocks.{kind}")
            np.testing.assert_allclose(blocks[FEATURES], whole[FEATURES], **CLOSE)
            rest = [name for name in table.columns if name not in FEATURES]
            pd.testing.assert_frame_equal(blocks[rest], whole[rest], check_exact=True)
            assert list(blocks.columns) == list(whole.columns)
    assert Path("whole.csv").read_text().count("\n") == Path("blocks.csv").read_text().count("\n")


def test_every_method_streams_or_says_why_not() -> None:
    assert [name for name in large.METHODS if large.adds_up(name)] == STREAMED


def test_blocks_with_metadata_nuisance_and_a_model(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    table[FEATURES].to_csv("x.csv")
    table[["run", "group", "age"]].iloc[::-1].to_csv("m.csv")
    options = "--metadata m.csv --batch run --keep group --nuisance age --method linear"
    assert correct(f"x.csv -o whole.csv {options}") == 0
    said = capsys.readouterr().out
    assert correct(f"x.csv -o blocks.csv {options} --block-rows 9 --save-model m") == 0
    assert capsys.readouterr().out == said.replace("whole", "blocks") + "wrote m\n"
    np.testing.assert_allclose(read_csv("blocks.csv"), read_csv("whole.csv"), **CLOSE)
    assert command("apply", "x.csv --metadata m.csv --model m -o again.csv") == 0
    np.testing.assert_allclose(read_csv("again.csv"), read_csv("whole.csv"), **CLOSE)


def test_large_tables_stream_by_themselves(
    table: pd.DataFrame,
    refused: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = table[FEATURES].size * 8
    walked: list[str] = []
    blockwise = large.correct_in_blocks

    def watched(*args: Any, **options: Any) -> bool:
        walked.append("blocks")
        return blockwise(*args, **options)

    monkeypatch.setattr(correct_command, "correct_in_blocks", watched)
    for free, streamed in ((100 * size, False), (size, True)):
        monkeypatch.setattr(large, "free_memory", lambda free=free: free)
        assert correct(f"in.csv -o out.csv {OPTIONS}") == 0
        assert bool(walked) == streamed
    refused(f"correct in.csv -o new.csv {OPTIONS} --report r.html", "is too large to load")
    refused("correct in.csv -o new.csv --batch run --ignore group,stage --method robust-location", "needs the whole")
    monkeypatch.setattr(large, "free_memory", lambda: 5 * size)
    capsys.readouterr()
    assert correct("in.csv -o out.csv --batch run --ignore group,stage --method robust-location") == 0
    assert "this may be slow or fail" in capsys.readouterr().err


def test_what_cannot_go_by_blocks(table: pd.DataFrame, refused: Callable[[str, str], None]) -> None:
    refused(f"correct in.csv -o o.csv {OPTIONS} --stream --report r.html", "give a sample of the rows")
    refused("correct in.csv -o o.csv --batch run --method clr-combat --stream", "needs the whole table at once")
    refused("correct in.csv -o o.csv --method row-zscore --block-rows 3", "--block-rows adds up")
    refused(f"correct in.csv -o o.csv {OPTIONS} --block-rows 0", "must be a whole number above 0")
    table[FEATURES].T.to_csv("x.csv")
    table[["run"]].to_csv("m.csv")
    refused("correct x.csv -o o.csv --metadata m.csv --batch run --stream", "samples are columns")
    refused("correct in.csv -o o.csv --batch run --ignore stage --stream", "--ignore group")


def test_a_failure_between_blocks_leaves_the_old_output(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.csv").write_text("old")
    before = sorted(path.name for path in Path().iterdir())

    def broken(*_: Any, **__: Any) -> Any:
        yield pd.DataFrame(np.zeros((7, len(FEATURES))), columns=FEATURES)
        raise KeyboardInterrupt

    monkeypatch.setattr(large, "transform_blocks", broken)
    assert correct(f"in.csv -o out.csv {OPTIONS} --stream") == 130
    assert correct(f"in.csv -o out.parquet {OPTIONS} --stream") == 130
    assert Path("out.csv").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == before


# ------------------------------------------------------------------- AnnData


@pytest.mark.parametrize("asked", ["", "--block-rows 9"])
@pytest.mark.parametrize("layer", [None, "log"])
def test_an_anndata_goes_back_as_it_came(table: pd.DataFrame, layer: str | None, asked: str) -> None:
    option = "" if layer is None else f"--layer {layer}"
    assert correct(f"in.h5ad -o out.h5ad --batch run --keep group,age {option} {asked}") == 0
    before, after = anndata.read_h5ad("in.h5ad"), anndata.read_h5ad("out.h5ad")
    place = before.X if layer is None else before.layers[layer]
    want = ComBat().fit_transform(
        place, batch=table["run"].to_numpy(), keep=table[["group", "age"]].reset_index(drop=True)
    )
    got = after.X if layer is None else after.layers[layer]
    assert got.dtype == place.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 if layer is None else 1e-5)  # rounding of the dtype
    records = after.uns.pop("batchfix")
    record = records["X" if layer is None else layer]
    assert (record["corrector"], record["key"], record["keep"]) == ("ComBat", "run", "group, age")
    if layer is None:
        after.X = before.X
    else:
        after.layers[layer] = before.layers[layer]
    pd.testing.assert_frame_equal(after.obs, before.obs)
    pd.testing.assert_frame_equal(after.var, before.var)
    np.testing.assert_array_equal(after.raw.X, before.raw.X)
    np.testing.assert_array_equal(after.obsm["X_pca"], before.obsm["X_pca"])
    np.testing.assert_array_equal(after.uns["colours"]["run"], before.uns["colours"]["run"])
    assert set(after.layers) == set(before.layers)
    assert Path("in.h5ad").stat().st_size > 0


@pytest.mark.parametrize("asked", ["", "--stream"])
def test_sparse_counts_become_dense_aloud(table: pd.DataFrame, asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.abs(np.nan_to_num(table[FEATURES].to_numpy())).round().astype(np.int64)
    write_h5ad(table, X=sparse.csr_matrix(counts))
    assert correct(f"in.h5ad -o out.h5ad --batch run --method location {asked}") == 0
    assert "'X' of 'in.h5ad' is sparse, and corrected it is dense: 0.0 MB of float32" in capsys.readouterr().err
    got = anndata.read_h5ad("out.h5ad").X
    want = BatchCorrector(scale=None).fit_transform(counts.astype(float), batch=table["run"].to_numpy())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)  # float32's rounding


def test_a_sparse_matrix_by_columns_needs_memory(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.abs(np.nan_to_num(table[FEATURES].to_numpy())).round()
    write_h5ad(table, X=sparse.csc_matrix(counts))
    assert correct("in.h5ad -o out.h5ad --batch run --method location") == 0
    want = BatchCorrector(scale=None).fit_transform(counts, batch=table["run"].to_numpy())
    np.testing.assert_allclose(anndata.read_h5ad("out.h5ad").X, want, **CLOSE)
    line = "correct in.h5ad -o o.h5ad --batch run --method location --stream"
    before = sorted(path.name for path in Path().iterdir())
    assert main(shlex.split(line)) == 2
    assert "stored by columns (csc)" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.parametrize("asked", ["", "--block-rows 5"])
def test_nuisance_of_an_anndata(table: pd.DataFrame, asked: str) -> None:
    assert correct(f"in.h5ad -o out.h5ad --batch run --keep group --nuisance age --method linear {asked}") == 0
    out = anndata.read_h5ad("out.h5ad")
    want = LinearCorrector().fit_transform(
        np.nan_to_num(table[FEATURES].to_numpy()),
        batch=table["run"].to_numpy(),
        keep=table[["group"]].reset_index(drop=True),
        nuisance=table[["age"]].reset_index(drop=True),
    )
    np.testing.assert_allclose(out.X, want, **CLOSE)
    assert out.uns["batchfix"]["X"]["nuisance"] == "age"


def test_twice_corrected_has_two_records_and_a_model_of_it_applies(table: pd.DataFrame) -> None:
    assert correct("in.h5ad -o one.h5ad --batch run --method location --save-model m") == 0
    assert correct("one.h5ad -o two.h5ad --batch group --method location --stream") == 0
    assert set(anndata.read_h5ad("two.h5ad").uns["batchfix"]) == {"X", "X 2"}
    table.fillna(0.0).to_csv("in.csv")
    assert command("apply", "in.csv --model m -o out.csv --ignore group,age,stage") == 0
    np.testing.assert_allclose(read_csv("out.csv")[FEATURES], anndata.read_h5ad("one.h5ad").X, **CLOSE)


def test_what_an_anndata_cannot_be_asked(
    table: pd.DataFrame, refused: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused("correct in.h5ad -o o.h5ad --batch run --metadata in.csv", "--metadata is for tables in text or parquet")
    refused("correct in.h5ad -o o.h5ad --batch runn", "has no 'runn' (did you mean 'run'?)")
    refused("correct in.h5ad -o o.h5ad --batch run --layer lgo", "is none (did you mean 'log'?)")
    refused("correct in.h5ad -o o.csv --batch run", "the output is 'o.csv'")
    refused("correct in.h5ad -o o.h5ad", "--batch")
    refused("correct in.h5ad -o in.h5ad --batch run", "which would be lost")
    refused("correct in.h5ad -o o.h5ad --batch run --method clr-combat", "choose one of combat")
    refused("correct none.h5ad -o o.h5ad --batch run", "does not exist")
    refused("correct in.csv -o o.csv --batch run --layer log", "--layer names a matrix of an .h5ad file")
    Path("bad.h5ad").write_bytes(b"no such thing")
    refused("correct bad.h5ad -o o.h5ad --batch run", "cannot be read")
    lost = table.copy()
    lost.loc["007", "group"] = None
    write_h5ad(lost)
    refused("correct in.h5ad -o o.h5ad --batch run --keep group", "1 of 40 have none: '007'")
    monkeypatch.setattr(anndata_files, "find_spec", lambda _: None)
    refused("correct in.h5ad -o o.h5ad --batch run", "pip install 'batchfix[anndata]'")


@pytest.mark.parametrize("asked", ["", "--stream"])
def test_a_matrix_that_cannot_be_corrected(
    table: pd.DataFrame, refused: Callable[[str, str], None], asked: str
) -> None:
    line = f"correct in.h5ad -o o.h5ad --batch run {asked}"
    X = np.nan_to_num(table[FEATURES].to_numpy())
    write_h5ad(table, X=sparse.csr_matrix(X), layers={"log": X, "complex": X + 1j})
    for name in ("log/data", "''", "/log", "X"):
        refused(f"{line} --layer {name}", "must name a layer of 'in.h5ad', and")
    refused(f"{line} --layer complex", "must hold real numbers, got complex128")
    refused(f"{line} --layer complex --method linear --nuisance age", "must hold real numbers, got complex128")
    for shape in ((40,), (39, 6), (40, 5), (6, 40), (40, 6, 1)):
        with h5py.File("in.h5ad", "r+") as file:
            del file["X"]
            file["X"] = np.zeros(shape)
        refused(
            line, f"'X' of 'in.h5ad' must have 40 rows, as obs has, and 6 columns, as var has, and its shape is {shape}"
        )
    with h5py.File("in.h5ad", "r+") as file:
        del file["X"]
        file.create_group("X")
    refused(line, "and its shape is ()")
    for adata in (anndata.AnnData(obs=table[["run"]]), anndata.AnnData(X[:0], obs=table[["run"]][:0])):
        adata.X = np.zeros(adata.shape)
        adata.write_h5ad("in.h5ad")
        refused(line, f"must have rows and columns, and its shape is {adata.shape}")


@pytest.mark.parametrize("asked", ["", "--stream", "--nuisance age", "--nuisance age --stream"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
def test_a_damaged_sparse_matrix(
    table: pd.DataFrame, capsys: pytest.CaptureFixture[str], asked: str, kind: Any
) -> None:
    write_h5ad(table, X=kind(np.nan_to_num(table[FEATURES].to_numpy())))
    with h5py.File("in.h5ad", "r+") as file:
        file["X/indices"][5] = 99
    assert correct(f"in.h5ad -o o.h5ad --batch run --method linear {asked}") == 2
    said = (
        "stored by columns" if kind is sparse.csc_matrix and "--stream" in asked else "must hold numbers inside of it"
    )
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("o.h5ad").exists()


@pytest.mark.parametrize("asked", ["", "--stream"])
def test_sparse_integers_that_float32_does_not_hold(table: pd.DataFrame, asked: str) -> None:
    counts = 20_000_000 + 8 * np.nan_to_num(table[FEATURES].to_numpy()).round().astype(np.int64)
    counts[0] *= -1  # or it would look like raw counts
    write_h5ad(table, X=sparse.csr_matrix(counts))
    want = BatchCorrector(scale=None).fit_transform(counts.astype(float), batch=table["run"].to_numpy())
    for more in ("", "--method linear --nuisance age"):
        assert correct(f"in.h5ad -o out.h5ad --batch run --method location {asked} {more}") == 0
        assert anndata.read_h5ad("out.h5ad").X.dtype == np.float64
        if not more:
            np.testing.assert_allclose(anndata.read_h5ad("out.h5ad").X, want, rtol=1e-10)
        Path("out.h5ad").unlink()


@pytest.mark.parametrize("asked", ["", "--stream"])
def test_a_full_disk_leaves_the_old_anndata(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    Path("out.h5ad").write_text("old")
    before = sorted(path.name for path in Path().iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("batchfix.atomic.os.fsync", full)
    assert correct(f"in.h5ad -o out.h5ad --batch run {asked}") == 2
    assert Path("out.h5ad").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == before
