"""Large tables: block by block the command says what it says of a whole table, and warns of the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix.cli import main

N = 60
HEAD = "id,run,f1,f2\n"
CELLS = {
    "decimal commas": ['a,x,"1,5",2', 'b,y,"3,5",4', 'c,x,"1,0",5', 'd,y,"2,5",1'],
    "commas late": ["a,x,1,2", "b,y,3,4", "c,x,1,word", 'd,y,"2,5",1'],
    "infinite": ["a,x,1.5,2", "b,y,3,4", "c,x,inf,5", "d,y,2,1"],
    "one word": ["a,x,,2", "b,y,word,4", "c,x,3,5", "d,y,2,1"],
    "text": ["a,x,,2", "b,y,word,4", "c,x,,5", "d,y,text,1"],
    "text late": ["a,x,word,", "b,y,word,", "c,x,word,text", "d,y,word,text"],
    "text and a word": ["a,x,1,2", "b,y,word,4", "c,x,3,text", "d,y,2,1"],
}
SAID = {
    "decimal commas": "row 'a', column 'f1' holds '1,5', which looks like one with a decimal comma",
    "commas late": "row 'd', column 'f1' holds '2,5', which looks like one with a decimal comma",
    "infinite": "row 'c', column 'f1' holds 'inf'. Correct it",
    "one word": "row 'b', column 'f1' holds 'word'. Correct it",
    "text": "'f1' holds text (row 'b': 'word'). To carry it along unchanged, add --ignore f1",
    "text late": "No column would be left to correct",
    "text and a word": "row 'b', column 'f1' holds 'word' (2 columns have such cells)",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], code: int, *options: str) -> str:
    """What a correction of a table says on stderr."""
    assert main(["correct", *options, "--batch", "run"]) == code
    return capsys.readouterr().err


@pytest.mark.parametrize("what", CELLS)
def test_cells_that_are_no_numbers_are_refused_as_at_once(capsys: pytest.CaptureFixture[str], what: str) -> None:
    Path("t.csv").write_text(HEAD + "".join(f"{line}\n" for line in CELLS[what]))
    whole = said(capsys, 2, "t.csv", "-o", "o.csv")
    assert SAID[what] in whole
    for rows in ("1", "2", "9"):
        assert said(capsys, 2, "t.csv", "-o", "o.csv", "--block-rows", rows) == whole


@pytest.mark.parametrize("what", ["decimal commas", "infinite", "text"])
def test_cells_of_parquet_are_refused_as_at_once(capsys: pytest.CaptureFixture[str], what: str) -> None:
    pytest.importorskip("pyarrow")
    Path("t.csv").write_text(HEAD + "".join(f"{line}\n" for line in CELLS[what]))
    pd.read_csv("t.csv", index_col=0).to_parquet("t.parquet")
    whole = said(capsys, 2, "t.parquet", "-o", "o.csv")
    assert SAID[what] in whole
    for rows in ("1", "2", "9"):
        assert said(capsys, 2, "t.parquet", "-o", "o.csv", "--block-rows", rows) == whole


def test_columns_that_look_like_labels_are_sought_in_all_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    half = N // 2
    frame = pd.DataFrame(rng.normal(size=(N, 6)), columns=[f"f{k}" for k in range(6)])
    frame["broken"] = np.r_[np.tile([1.0, 2.0], half // 2), np.tile([1.25, 2.5], half // 2)]  # no codes, later
    frame["late"] = np.r_[np.ones(half), np.tile([1.0, 2.0, 3.0], half // 3)]  # codes, later
    frame.insert(0, "run", np.tile(["x", "y"], half))
    frame.rename_axis("id").to_csv("t.csv")
    whole = said(capsys, 0, "t.csv", "-o", "o.csv")
    assert "'late' is corrected as measurements are" in whole
    assert "broken" not in whole
    for rows in ("7", str(half), "1000"):
        assert said(capsys, 0, "t.csv", "-o", "o.csv", "--block-rows", rows) == whole


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("rows", ["1" + "0" * 20, "9" * 5000, "0" * 30 + "9"], ids=["large", "absurd", "zeros"])
def test_a_block_of_more_rows_than_there_are_is_the_table(kind: str, rows: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"f1": np.arange(8.0) ** 2, "f2": np.arange(8.0) % 3}, index=[f"s{k}" for k in range(8)])
    frame.insert(0, "run", ["x", "y"] * 4)
    frame.rename_axis("id").to_csv("t.csv")
    if kind == "parquet":
        frame.rename_axis("id").to_parquet("t.parquet")
    options = ["--batch", "run", "--method", "location"]
    assert main(["correct", f"t.{kind}", "-o", "whole.csv", *options]) == 0
    assert main(["correct", f"t.{kind}", "-o", "blocks.csv", *options, "--block-rows", rows]) == 0
    found, want = (pd.read_csv(name, index_col=0).drop(columns="run") for name in ("blocks.csv", "whole.csv"))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)  # sums of a block and of the whole round differently
