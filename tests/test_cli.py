"""The command: right numbers, clear refusals, nothing half-written."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchfix.adapters.tables import read_table
from batchfix.cli import main
from batchfix.command import correct as correct_command
from batchfix.command import terminal
from batchfix.command.methods import METHODS
from batchfix.correctors import BatchCorrector, ComBat, LinearCorrector
from batchfix.datasets import load_bladder
from batchfix.exceptions import BatchfixWarning

ROOT = Path(__file__).parents[1]
FEATURES = [f"f{i}" for i in range(8)]


def lab() -> pd.DataFrame:
    """36 samples in three runs: labels, then features. Ids and runs have leading zeros."""
    rng = np.random.default_rng(7)
    n = 36
    run = np.repeat(["01", "02", "10"], n // 3)
    group = np.tile(["case", "control"], n // 2)
    X = rng.normal(size=(n, len(FEATURES))) * np.repeat([1.0, 2.0, 0.5], n // 3)[:, None]
    X += np.repeat([0.0, 3.0, -2.0], n // 3)[:, None] + (group == "case")[:, None]
    frame = pd.DataFrame(X, columns=FEATURES, index=pd.Index([f"{i:03d}" for i in range(n)], name="sample"))
    frame.insert(0, "run", run)
    frame.insert(3, "group", group)  # among the features
    frame["age"] = rng.uniform(30, 80, size=n).round(1)
    frame["stage"] = rng.integers(1, 4, size=n).astype(str)
    return frame


def save(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",")
    return path


def load(path: Path) -> pd.DataFrame:
    sep = "\t" if ".tsv" in path.name else ","
    frame = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)
    return frame.set_index(frame.columns[0])  # index_col=0 would make numbers of the ids


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The lab's table, as in.csv of the current directory."""
    monkeypatch.chdir(tmp_path)
    frame = lab()
    save(frame, tmp_path / "in.csv")
    return frame


@pytest.fixture
def halves(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The features in x.csv, the labels in m.csv in another order."""
    labels = table[["run", "group", "age", "stage"]]
    save(table[FEATURES], Path("x.csv"))
    save(labels.iloc[::-1], Path("m.csv"))
    return table[FEATURES], labels


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def correct(options: str) -> int:
    return main(["correct", *shlex.split(options)])


Refused = Callable[[str, str], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `correct` with options; it must exit with 2, one line on stderr, nothing written."""

    def run(options: str, message: str) -> str:
        before = files()
        assert correct(options) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("batchfix: ")
        assert err.count("\n") == 1
        assert message in err
        assert files() == before
        return err

    return run


def expected(frame: pd.DataFrame, corrector: Any, keep: list[str] | None = None, **options: Any) -> np.ndarray:
    kept = frame[keep] if keep else None
    values: np.ndarray = corrector.fit_transform(frame[FEATURES], batch=frame["run"], keep=kept, **options).to_numpy()
    return values


def agrees(path: str, values: np.ndarray) -> None:
    np.testing.assert_allclose(load(Path(path))[FEATURES].astype(float).to_numpy(), values, rtol=0, atol=1e-12)


# ------------------------------------------------------------------- results


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.gz"])
def test_labels_inside_the_table(table: pd.DataFrame, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(table, Path(f"lab.{suffix}"))
    assert correct(f"lab.{suffix} -o out.{suffix} --batch run --keep group,age --ignore stage") == 0
    agrees(f"out.{suffix}", expected(table, ComBat(), ["group", "age"]))
    out = load(Path(f"out.{suffix}"))
    assert list(out.columns) == list(table.columns)
    assert list(out.index) == list(table.index)
    assert out.index.name == "sample"
    for name in ("run", "group", "stage"):
        assert list(out[name]) == list(table[name])
    assert list(out["age"]) == [str(age) for age in table["age"]]

    printed, err = capsys.readouterr()
    assert err == ""
    assert "36 samples x 8 features corrected by combat\n" in printed
    assert "run: 3 batches: '01' (12), '02' (12), '10' (12)\n" in printed
    assert "kept: group (factor, 2 levels)\nkept: age (number)\n" in printed
    assert "carried unchanged: run, group, age, stage\n" in printed
    assert printed.endswith(f"wrote out.{suffix}\n")


METHOD_CASES = {
    "combat": ComBat(),
    "combat-nonparametric": ComBat(parametric=False),
    "combat-mean-only": ComBat(mean_only=True),
    "linear": LinearCorrector(),
    "location": BatchCorrector(scale=None),
    "location-scale": BatchCorrector(),
    "location-scale-shrunk": BatchCorrector(shrinkage="eb"),
    "robust-location": BatchCorrector(location="median", scale=None),
    "robust-location-scale": BatchCorrector(location="median", scale="mad"),
    "standardize": BatchCorrector(target="standard"),
}


def test_every_method_is_tested() -> None:
    assert list(METHOD_CASES) == [
        name for name, method in METHODS.items() if method.composition is None and method.peers is None
    ]


@pytest.mark.parametrize("method", METHOD_CASES)
def test_every_method_is_the_corrector_it_names(table: pd.DataFrame, method: str) -> None:
    assert correct(f"in.csv -o out.csv --batch run --ignore group,age,stage --method {method}") == 0
    agrees("out.csv", expected(table, METHOD_CASES[method]))


def test_a_reference_batch_stays(table: pd.DataFrame) -> None:
    assert correct("in.csv -o out.csv --batch run --keep group --ignore age,stage --reference 02") == 0
    agrees("out.csv", expected(table, ComBat(reference_batch="02"), ["group"]))
    out = read_table("out.csv", text=["run", "group", "age", "stage"])
    same = np.array(out.text["run"]) == "02"
    np.testing.assert_array_equal(out.numbers[same], table.loc[same, FEATURES].to_numpy())


def test_scale_guard_reaches_combat(table: pd.DataFrame) -> None:
    table.iloc[:11, table.columns.get_loc("f0")] = 0.0  # in run 01, present in 1 of 12
    save(table, Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage --scale-guard 0.2") == 0
    agrees("out.csv", expected(table, ComBat(scale_guard=0.2)))
    assert not np.allclose(expected(table, ComBat(scale_guard=0.2)), expected(table, ComBat()))


def test_nuisance_and_several_batch_columns(table: pd.DataFrame) -> None:
    options = "--batch run,stage --keep group --nuisance age --method linear"
    assert correct(f"in.csv -o out.csv {options}") == 0
    values = LinearCorrector().fit_transform(
        table[FEATURES], batch=table[["run", "stage"]], keep=table[["group"]], nuisance=table[["age"]]
    )
    agrees("out.csv", values.to_numpy())


def test_a_reference_for_each_batch_column(table: pd.DataFrame) -> None:
    assert correct("in.csv -o out.csv --batch run,stage --ignore group,age --method linear --reference 02,3") == 0
    corrector = LinearCorrector(reference_batch=("02", "3"))
    agrees("out.csv", corrector.fit_transform(table[FEATURES], batch=table[["run", "stage"]]).to_numpy())


def test_factor_or_number_as_told(table: pd.DataFrame) -> None:
    assert correct("in.csv -o out.csv --batch run --keep-factor stage --ignore group,age") == 0
    agrees("out.csv", expected(table, ComBat(), ["stage"]))
    assert correct("in.csv -o out.csv --batch run --keep-number stage --ignore group,age") == 0
    agrees("out.csv", expected(table.astype({"stage": float}), ComBat(), ["stage"]))
    # naming it twice says no more than once
    assert correct("in.csv -o out.csv --batch run --keep group,stage --keep-factor stage --ignore age") == 0
    agrees("out.csv", expected(table, ComBat(), ["group", "stage"]))


def test_zero_and_one_need_no_telling(table: pd.DataFrame) -> None:
    table["group"] = (table["group"] == "case").astype(int)
    save(table, Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --keep group --ignore age,stage") == 0
    agrees("out.csv", expected(lab(), ComBat(), ["group"]))


def test_metadata_in_another_order(halves: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame) -> None:
    assert correct("x.csv -o out.csv --metadata m.csv --batch run --keep group") == 0
    agrees("out.csv", expected(table, ComBat(), ["group"]))
    assert list(load(Path("out.csv")).index) == list(table.index)
    assert list(load(Path("out.csv")).columns) == FEATURES


@pytest.mark.parametrize("told", ["", "--samples columns"])
def test_samples_in_columns(halves: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame, told: str) -> None:
    wide = table[FEATURES].T.rename_axis("gene")
    wide.insert(1, "symbol", [f"S{i}" for i in range(len(wide))])
    save(wide, Path("wide.tsv"))
    assert correct(f"wide.tsv -o out.tsv --metadata m.csv --batch run --keep group --ignore symbol {told}") == 0
    out = load(Path("out.tsv"))
    assert (list(out.index), list(out.columns), out.index.name) == (FEATURES, list(wide.columns), "gene")
    assert list(out.pop("symbol")) == list(wide["symbol"])
    np.testing.assert_allclose(out.astype(float).T.to_numpy(), expected(table, ComBat(), ["group"]), rtol=0, atol=1e-12)


def test_ids_on_both_axes_need_telling(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ids = [f"s{i}" for i in range(12)]
    square = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 12)), index=ids, columns=ids)
    square.iloc[:6] += 5
    save(square, Path("x.csv"))
    save(pd.DataFrame({"run": ["a"] * 6 + ["b"] * 6}, index=ids), Path("m.csv"))
    refused("x.csv -o out.csv --metadata m.csv --batch run", "say --samples rows or --samples columns")
    for side, frame in (("rows", square), ("columns", square.T)):
        assert correct(f"x.csv -o {side}.csv --metadata m.csv --batch run --samples {side} --method location") == 0
        values = BatchCorrector(scale=None).fit_transform(frame, batch=["a"] * 6 + ["b"] * 6)
        got = load(Path(f"{side}.csv")).astype(float)
        np.testing.assert_allclose(got if side == "rows" else got.T, values, rtol=0, atol=1e-12)


def test_missing_cells_stay_missing(table: pd.DataFrame) -> None:
    table.iloc[3, table.columns.get_loc("f2")] = np.nan
    table.to_csv("in.csv", na_rep="NA")
    assert correct("in.csv -o out.csv --batch run --keep group --ignore age,stage") == 0
    out = load(Path("out.csv"))[FEATURES]
    assert (out == "").sum().sum() == 1
    assert out.loc["003", "f2"] == ""
    np.testing.assert_allclose(
        out.replace("", np.nan).astype(float), expected(table, ComBat(), ["group"]), rtol=0, atol=1e-12
    )


def test_names_that_hold_a_comma(table: pd.DataFrame) -> None:
    frame = table.rename(columns={"group": "group, fine", "stage": "a,b"})
    save(frame, Path("in.csv"))
    ignore = shlex.quote('"a,b",age')
    assert correct(f"in.csv -o out.csv --batch run --keep 'group, fine' --ignore {ignore}") == 0
    agrees("out.csv", expected(table, ComBat(), ["group"]))


# ------------------------------------------------------------------ refusals


def test_unknown_names_point_to_the_nearest(table: pd.DataFrame, refused: Refused) -> None:
    refused("in.csv -o out.csv --batch Run", "has no 'Run' (did you mean 'run'?)")
    refused("in.csv -o out.csv --batch run --keep gruop", "has no 'gruop' (did you mean 'group'?)")
    refused("in.csv -o out.csv --batch run --ignore agee", "has no 'agee' (did you mean 'age'?)")
    refused("in.csv -o out.csv --batch zzz", "has no 'zzz'; its columns are 'run', 'f0'")
    refused("in.csv -o out.csv --batch sample", "'sample' is the first column of 'in.csv', which holds them")
    refused("in.csv -o out.csv --batch ''", "--batch must name a column, and is empty")
    refused(
        "in.csv -o out.csv --batch run --ignore group,age,stage --reference 2",
        "'2' is none of '01', '02', '10' (did you mean '02'?)",
    )


def test_names_are_sought_in_the_metadata(halves: object, refused: Refused) -> None:
    refused("x.csv -o out.csv --metadata m.csv --batch f1", "'m.csv' must have the columns you name, and has no 'f1'")


def test_columns_of_text_must_be_named(table: pd.DataFrame, refused: Refused) -> None:
    message = refused("in.csv -o out.csv --batch run", "'group' holds text (row '000': 'case')")
    assert "add --ignore group\n" in message
    table["site no"] = "x"
    save(table, Path("in.csv"))
    message = refused("in.csv -o out.csv --batch run", "'group', 'site no' hold text")
    assert "add --ignore 'group,site no'\n" in message


def test_a_cell_that_is_no_number(table: pd.DataFrame, refused: Refused) -> None:
    frame = table.astype({"f1": str})
    frame.loc["004", "f1"] = "<LOD"
    save(frame, Path("in.csv"))
    refused(
        "in.csv -o out.csv --batch run --ignore group,age,stage",
        "'in.csv' must be a finite number or empty, and row '004', column 'f1' holds '<LOD'",
    )


@pytest.mark.parametrize("role", ["keep", "nuisance"])
@pytest.mark.parametrize("style", ["1", "1.0"])
def test_whole_numbers_are_never_guessed(table: pd.DataFrame, refused: Refused, role: str, style: str) -> None:
    if style == "1.0":
        save(table.astype({"stage": float}), Path("in.csv"))
    refused(
        f"in.csv -o out.csv --batch run --{role} stage --ignore group,age --method linear",
        f"--{role} column 'stage' holds whole numbers (1, 2, 3), which may be levels or amounts; "
        f"say --{role}-factor stage or --{role}-number stage",
    )


def test_whole_numbers_with_a_gap_name_the_sample(table: pd.DataFrame, refused: Refused) -> None:
    frame = table.astype({"stage": float})
    frame.loc[["005", "017"], "stage"] = np.nan
    save(frame, Path("in.csv"))
    for option in ("--keep", "--keep-factor", "--keep-number"):
        refused(
            f"in.csv -o out.csv --batch run {option} stage --ignore group,age",
            "column 'stage', and 2 of 36 have none: '005', '017'",
        )


def test_a_kept_column_of_both_kinds_is_not_guessed(table: pd.DataFrame, refused: Refused) -> None:
    frame = table.astype({"age": str})
    frame.loc["002", "age"] = "unknown"
    save(frame, Path("in.csv"))
    options = "in.csv -o out.csv --batch run --ignore group,stage"
    refused(f"{options} --keep age", "all numbers or all text, and some cells are numbers but sample '002' has")
    refused(f"{options} --keep-number age", "must hold finite numbers, and sample '002' has 'unknown'")


@pytest.mark.parametrize("gap", ["", "NA"])
def test_missing_labels_name_the_samples(table: pd.DataFrame, refused: Refused, gap: str) -> None:
    for name, options in (("run", "--ignore group"), ("group", "--keep group")):
        frame = table.copy()
        frame.loc[["001", "030"], name] = gap
        save(frame, Path("in.csv"))
        refused(
            f"in.csv -o out.csv --batch run {options} --ignore age,stage",
            f"{name!r}, and 2 of 36 have none: '001', '030'",
        )


def test_ids_on_one_side_only_are_counted(halves: tuple[pd.DataFrame, pd.DataFrame], refused: Refused) -> None:
    _, labels = halves
    save(labels.drop(index=["000", "001"]).rename(index={"035": "35"}), Path("m.csv"))
    refused(
        "x.csv -o out.csv --metadata m.csv --batch run",
        "3 are not in 'm.csv' ('000', '001', '035') and 1 are not in 'x.csv' ('35')",
    )
    save(labels.rename(index=lambda name: f"x{name}"), Path("m.csv"))
    refused("x.csv -o out.csv --metadata m.csv --batch run", "none is a row ('000', '001', '002' and 33 more) or a")
    refused("x.csv -o out.csv --metadata m.csv --batch run --samples rows", "36 are not in 'm.csv'")


def test_options_that_would_be_passed_over(table: pd.DataFrame, refused: Refused) -> None:
    base = "in.csv -o out.csv --batch run --ignore group"
    refused(f"{base} --samples columns", "samples in columns need --metadata")
    refused(f"{base} --nuisance age", "--nuisance needs --method linear, and the method is combat")
    refused(f"{base} --nuisance-number stage", "--nuisance needs --method linear")
    refused(f"{base} --scale-guard 0.2 --method linear", "--scale-guard needs a method that scales (combat, ")
    refused("in.csv -o out.csv --batch run,stage", "several batch columns ('run', 'stage') need --method linear")
    refused("in.csv -o out.csv --batch run --keep group --method robust-location", "--keep needs a method that works")
    refused(
        f"{base},age --batch stage --method linear --reference 02",
        "--reference must name one batch for each of 'run', 'stage', separated by commas, and is '02'",
    )
    refused(
        f"{base},age --batch stage --method linear --reference 02,x", "in column 'stage', and 'x' is none of '1', '2'"
    )
    refused(f"{base} --keep run", "'run' is named by both --batch and --keep")
    refused(f"{base} --keep group", "'group' is named by both --ignore and --keep")
    refused(f"{base} --keep-factor age --keep-number age", "by both --keep-factor and --keep-number")
    refused(f"{base},age,stage,{','.join(FEATURES)}", "all of its columns are named as labels or ignored")


def test_files_that_will_not_do(table: pd.DataFrame, refused: Refused) -> None:
    Path("d.csv").mkdir()
    refused("none.csv -o out.csv --batch run", "'none.csv' does not exist")
    refused("d.csv -o out.csv --batch run", "'d.csv' must be a file, and is a directory")
    refused("in.csv -o d.csv --batch run", "'d.csv' is a directory")
    refused("in.csv -o none/out.csv --batch run", "directory must exist")
    refused("in.csv -o out.xlsx --batch run", "must end in .csv, .tsv")
    refused("in.csv -o out.csv --batch run --metadata none.csv", "'none.csv' does not exist")
    with Path("in.csv").open("a") as lines:
        lines.write("999,01\n")
    refused("in.csv -o out.csv --batch run --ignore group,age,stage", "line 38 (row '999') has 2")


def test_a_design_that_cannot_be_solved(table: pd.DataFrame, refused: Refused) -> None:
    table["group"] = np.where(table["run"] == "01", "case", "control")
    save(table, Path("in.csv"))
    refused("in.csv -o out.csv --batch run --keep group --ignore age,stage", "group")


def test_a_batch_for_every_sample(table: pd.DataFrame, refused: Refused) -> None:
    save(table.assign(run=[f"r{i}" for i in range(len(table))]), Path("in.csv"))
    refused(
        "in.csv -o out.csv --batch run --ignore group,age,stage", "in column 'run' every sample is a batch of its own"
    )


def test_argparse_refusals(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        ("in.csv --batch run", "the following arguments are required: -o/--output"),
        ("in.csv -o out.csv", "the following arguments are required: --batch"),
        ("in.csv -o out.csv --batch run --method cobmat", "invalid choice: 'cobmat'"),
        ("in.csv -o out.csv --batch run --scale-guard 20", "must be a share between 0 and 1, and is '20'"),
        ("in.csv -o out.csv --batch run --scale-guard x", "must be a share between 0 and 1, and is 'x'"),
        ("in.csv -o out.csv --batch run --ref 01", "unrecognized arguments: --ref 01"),
    ):
        assert correct(options) == 2
        assert message in capsys.readouterr().err
    assert main([]) == 2
    assert main(["corect"]) == 2


# --------------------------------------------- what is corrected, and what is not


def test_a_name_in_both_files_is_refused(
    halves: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame, refused: Refused
) -> None:
    save(table[[*FEATURES, "age", "stage"]], Path("x.csv"))
    message = refused(
        "x.csv -o out.csv --metadata m.csv --batch run --keep group", "'age', 'stage' are in both 'x.csv' and 'm.csv'"
    )
    assert "add --ignore age,stage to carry them along unchanged" in message
    save(table[[*FEATURES, "age"]].T.rename_axis("gene"), Path("wide.csv"))
    refused(
        "wide.csv -o out.csv --metadata m.csv --batch run", "'age' is in both 'wide.csv' and 'm.csv'; delete those rows"
    )

    assert correct("x.csv -o out.csv --metadata m.csv --batch run --keep group --ignore age,stage") == 0
    agrees("out.csv", expected(table, ComBat(), ["group"]))
    assert list(load(Path("out.csv"))["stage"]) == list(table["stage"])


def test_columns_that_look_like_labels_are_named(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    table["sex"] = np.tile([1, 2, 2, 1], 9)
    save(table, Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --ignore group") == 0
    out, err = capsys.readouterr()
    assert "warning: 'age', 'stage', 'sex' are corrected as measurements are" in err
    assert "add --ignore age,stage,sex\n" in err
    assert "features: 'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7' and 3 more\n" in out

    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage,sex") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("way", ["same", "path", "symlink", "hardlink"])
@pytest.mark.parametrize("read", ["in.csv", "m.csv"])
def test_what_is_read_is_not_written_over(
    halves: object, table: pd.DataFrame, refused: Refused, way: str, read: str
) -> None:
    save(table[FEATURES], Path("in.csv"))
    output = {"same": read, "path": f"{Path.cwd()}/./{read}"}.get(way, "link.csv")
    if way == "symlink":
        Path(output).symlink_to(read)
    if way == "hardlink":
        Path(output).hardlink_to(read)
    before = Path(read).read_bytes()
    message = refused(f"in.csv -o {output} --metadata m.csv --batch run", "the output must be a file of its own")
    assert ("the metadata" if read == "m.csv" else "the table to correct") in message
    assert Path(read).read_bytes() == before


def test_another_file_may_be_written_over(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.csv").write_text("old")
    assert correct("in.csv -o out.csv --batch run --keep group --ignore age,stage") == 0
    assert "wrote out.csv, replacing the file that was there\n" in capsys.readouterr().out


def test_blanks_and_fractions_of_whole_numbers_make_no_batches(
    table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = table.assign(run=table["run"].map({"01": "r1", "02": "2", "10": "10"}))
    save(clean, Path("in.csv"))
    options = "--batch run --keep group --ignore age,stage --reference"
    assert correct(f"in.csv -o clean.csv {options} 2") == 0
    spelt = list(clean["run"])
    spelt[0], spelt[1], spelt[13], spelt[30] = "r1 ", "\u00a0r1", "2.0", " 10. "
    save(clean.assign(run=spelt), Path("in.csv"))
    assert correct(f"in.csv -o out.csv {options} 2.0") == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert printed.count("run: 3 batches: '10' (12), '2' (12), 'r1' (12)\n") == 2
    assert list(load(Path("out.csv"))["run"]) == spelt
    pd.testing.assert_frame_equal(load(Path("out.csv"))[FEATURES], load(Path("clean.csv"))[FEATURES])


def test_labels_that_are_nearly_the_same_are_named(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    table["run"] = np.repeat(["Site A", "site a", "01", "1"], 9)
    save(table, Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == 0
    err = capsys.readouterr().err
    assert "--batch column 'run' has 'Site A' and 'site a', which differ in spelling only" in err
    assert "--batch column 'run' has '01' and '1', which differ in spelling only" in err


def test_a_word_that_is_read_as_missing_is_shown(table: pd.DataFrame, refused: Refused) -> None:
    table["drug"] = ["A", "None", "B"] * 12
    save(table, Path("in.csv"))
    for option in ("--keep", "--keep-factor"):
        message = refused(
            f"in.csv -o out.csv --batch run {option} drug --ignore group,age,stage", "12 of 36 have none: '001'"
        )
        assert "(they hold 'None', which is read as missing)" in message
        assert "or write 'None' in other words if it is a level" in message


def test_a_table_without_ids(table: pd.DataFrame, refused: Refused) -> None:
    table[["f0", "run", "f1", "f2", "f3"]].to_csv("in.csv", index=False)
    message = refused(
        "in.csv -o out.csv --batch run", "must hold the ids of the samples, and 'f0' holds decimal numbers"
    )
    assert "put a column of ids first" in message


@pytest.mark.parametrize("ids", [[f"{i}.0" for i in range(36)], [f"m{i}.5" for i in range(36)], range(36)])
def test_ids_may_be_whole_numbers_or_words(table: pd.DataFrame, ids: list[object]) -> None:
    save(table.set_axis(ids, axis=0), Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == 0
    assert list(load(Path("out.csv")).index) == [str(each) for each in ids]


def test_features_may_be_named_by_decimals(halves: object, table: pd.DataFrame) -> None:
    masses = [f"{100.5 + i}" for i in range(len(FEATURES))]
    save(table[FEATURES].set_axis(masses, axis=1).T.rename_axis("mz"), Path("wide.csv"))
    assert correct("wide.csv -o out.csv --metadata m.csv --batch run --keep group") == 0
    out = load(Path("out.csv")).astype(float).T.to_numpy()
    np.testing.assert_allclose(out, expected(table, ComBat(), ["group"]), rtol=0, atol=1e-12)


# ---------------------------------------------------------- the command's own words


def test_no_word_of_the_python_interface(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    options = "-o out.csv --batch run --ignore group,age,stage"
    said = []

    def say(frame: pd.DataFrame, more: str = "") -> str:
        save(frame, Path("in.csv"))
        correct(f"in.csv {options} {more}")
        said.append(capsys.readouterr().err)
        return said[-1]

    assert say(table.assign(run="one")).count("warning: ") == 1
    lone = table.assign(run=["a", "b", *["c"] * 34])
    for method, what in (("combat", "every batch"), ("location-scale", "such a batch")):
        err = say(lone, f"--method {method}")
        assert err.count("warning: ") == 1
        assert f"2 of 3 batches in column 'run' have one sample ('a', 'b'), which has no spread: {what} is" in err
    assert say(lone, "--method linear") == ""
    many = table.assign(run=["z", "z", *[f"r{i}" for i in range(34)]])
    assert "check that this is the column of the batches" in say(many)
    counts = table.copy()
    counts[FEATURES] = np.random.default_rng(0).poisson(50, (36, 8))
    assert "the table should be on a scale" in say(counts).lower()
    one = table[["run", "group", "age", "stage", "f0"]]
    for method in ("combat", "location-scale-shrunk"):
        assert "choose --method location-scale, which takes each feature by itself" in say(one, f"--method {method}")
    assert "must be a share above 0" in say(table, "--scale-guard 0")
    assert "--method standardize brings every batch" in say(table, "--method standardize --reference 01")
    for err in said:
        for word in ("adapt()", "BatchCorrector", "ComBat", "batch=", "max_iter", "scale_guard", " X "):
            assert word not in err


def test_mistakes_in_options_are_one_line(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        ("in.csv -o out.csv --batch run --method combta", "'combta' (did you mean 'combat'?); the methods are combat,"),
        ("in.csv -o out.csv", "required: --batch (--method combat corrects between batches)"),
    ):
        assert correct(options) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("batchfix: ")
        assert err.count("\n") == 1
        assert message in err
    assert main(["corect"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ------------------------------------------------- streams, failures, the process


def test_warnings_are_one_line_each(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    frame = table.assign(run="one")
    save(frame, Path("in.csv"))
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: ")
    assert "column 'run' holds one batch only ('one')" in err
    assert err.count("\n") == err.count("warning: ")
    assert ".py" not in err


def test_equal_warnings_are_shown_once(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def doubtful(*_: object, **__: object) -> None:
        for _ in range(3):
            warnings.warn("much\n  doubt", BatchfixWarning, stacklevel=1)

    monkeypatch.setattr(correct_command, "write_table", doubtful)
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == 0
    assert capsys.readouterr().err == "warning: much doubt\n"


@pytest.mark.parametrize(("failure", "code"), [(RuntimeError("broken"), 1), (KeyboardInterrupt(), 130)])
def test_a_failure_while_writing_leaves_the_old_output(
    table: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    code: int,
) -> None:
    class Writer:
        def __init__(self, out: io.TextIOBase, **_: object) -> None:
            self.out = out

        def writerow(self, cells: list[object]) -> None:
            self.out.write(",".join(map(str, cells)))
            if "004" in cells:
                raise failure

    monkeypatch.setattr(csv, "writer", Writer)
    Path("out.csv").write_text("old")
    before = files()
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == code
    assert Path("out.csv").read_text() == "old"
    assert files() == before
    out, err = capsys.readouterr()
    assert out == ""
    if code == 1:
        assert "Traceback" in err
        assert err.endswith("batchfix: this is a fault of batchfix; please report it with the lines above\n")
    else:
        assert err == "batchfix: interrupted\n"


def test_a_bar_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    bar = terminal.tqdm
    monkeypatch.setattr(terminal, "tqdm", lambda **options: bar(**{**options, "delay": 0, "mininterval": 0}))
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.progress_bar("reading") as progress:
            progress(0.25)
            progress(0.5)
        assert ("reading  50%" in stream.getvalue()) is shown


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    assert main(["demo"]) == 0
    assert time.perf_counter() - start < 30
    printed, err = capsys.readouterr()
    assert err == ""
    assert "57 samples x 302 probes in 5 batches" in printed
    assert "wrote bladder_corrected.csv (samples in rows" in printed
    bladder = load_bladder()
    values = ComBat().fit_transform(bladder.data, batch=bladder.samples["batch"], keep=bladder.samples[["cancer"]])
    table = read_table("bladder_corrected.csv")
    np.testing.assert_array_equal(table.numbers, values.to_numpy())
    assert (table.ids, table.columns) == (list(bladder.data.index), list(bladder.data.columns))

    shares = [line.split()[-2:] for line in printed.splitlines() if "explains" in line]
    (batch_before, batch_after), (cancer_before, cancer_after) = [
        [float(s.rstrip("%")) for s in pair] for pair in shares
    ]
    assert batch_after < 0.3 * batch_before
    assert cancer_after > cancer_before

    assert main(["demo", "-o", "mine.tsv.gz"]) == 0
    with gzip.open("mine.tsv.gz", "rt") as lines:
        assert lines.readline().startswith("sample\t")
    assert main(["demo"]) == 0
    assert "wrote bladder_corrected.csv, replacing the file that was there" in capsys.readouterr().out
    assert main(["demo", "-o", "none/x.csv"]) == 2


def process(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-m", "batchfix", *arguments],
        cwd=cwd,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **options},
    )


def test_the_process_itself(table: pd.DataFrame, tmp_path: Path) -> None:
    asked = process("--version", cwd=tmp_path)
    wrong = process("correct", "in.csv", "-o", "out.csv", "--batch", "rnu", cwd=tmp_path)
    out, err = asked.communicate()
    assert (asked.returncode, err) == (0, "")
    assert out.startswith("batchfix ")
    out, err = wrong.communicate()
    assert (wrong.returncode, out) == (2, "")
    assert err.startswith("batchfix: 'in.csv' must have the columns you name, and has no 'rnu' (did you mean 'run'?)")

    with Path("/dev/full").open("w") as full:
        nowhere = process("demo", cwd=tmp_path, stdout=full)
    _, err = nowhere.communicate()
    assert (nowhere.returncode, err) == (2, "batchfix: the system refused: No space left on device\n")

    right = process("correct", "in.csv", "-o", "out.csv", "--batch", "run", "--ignore", "group,age,stage", cwd=tmp_path)
    out, err = right.communicate()
    assert (right.returncode, err) == (0, "")
    agrees("out.csv", expected(table, ComBat()))


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    demo = process("demo", cwd=tmp_path)
    assert demo.stdout is not None
    demo.stdout.close()  # before a line was printed
    assert demo.stderr is not None
    with demo.stderr:
        assert demo.stderr.read() == ""
    assert demo.wait() == 141
    assert (tmp_path / "bladder_corrected.csv").exists()


def test_ctrl_c(tmp_path: Path) -> None:
    # the table never ends, so that the signal comes while it is read
    os.mkfifo(tmp_path / "endless.csv")
    running = process("correct", "endless.csv", "-o", "out.csv", "--batch", "run", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while True:
        try:
            writer = os.open(tmp_path / "endless.csv", os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody reads it yet
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    os.close(writer)
    assert (running.returncode, out, err) == (130, "", "batchfix: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["endless.csv"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_told_to_end_while_writing(table: pd.DataFrame, tmp_path: Path, name: str) -> None:
    code = """
import os, signal, sys, time
from batchfix.adapters.tables import writing
class Writer:
    def __init__(self, out, **options): pass
    def writerow(self, cells):
        os.kill(os.getpid(), signal.NAME)
        time.sleep(60)
writing.csv.writer = Writer
from batchfix.cli import main
sys.exit(main(["correct", "in.csv", "-o", "out.csv", "--batch", "run", "--ignore", "group,age,stage"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("NAME", name)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (128 + getattr(signal, name), "")
    assert done.stderr == f"batchfix: stopped by {name}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_signals_are_as_they_were_afterwards(table: pd.DataFrame) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert correct("in.csv -o out.csv --batch run --ignore group,age,stage") == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_while_the_command_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "batchfix.command":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from batchfix.cli import main
sys.exit(main(["demo"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "batchfix: interrupted\n")
