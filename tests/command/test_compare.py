"""`batchfix compare`: each method's column is what Python finds of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from batchfix import BatchCorrector, ComBat
from batchfix.cli import main
from batchfix.datasets import make_lab
from batchfix.diagnostics.report.findings import Findings


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """60 samples of three runs, in runs.csv of the current directory."""
    monkeypatch.chdir(tmp_path)
    lab = make_lab(60, 8, 3, batch_shift=2.0, random_state=0)
    table = lab.data.set_axis([f"s{i:02d}" for i in range(60)], axis=0).rename_axis("sample")
    table.insert(0, "run", lab.batch.to_numpy())
    table.insert(1, "group", lab.group.to_numpy())
    table.to_csv("runs.csv")
    return table


def alike(said: object, want: object) -> bool:
    """The same JSON, but for rounding: tables from a file lie otherwise in memory, and sums take another order."""
    if isinstance(said, dict) and isinstance(want, dict):
        return said.keys() == want.keys() and all(alike(said[key], want[key]) for key in said)
    if isinstance(said, list) and isinstance(want, list):
        return len(said) == len(want) and all(map(alike, said, want))
    return said == (pytest.approx(want, rel=1e-9, abs=1e-12) if isinstance(want, float) else want)


def compare(*options: str) -> int:
    return main(["compare", "runs.csv", "--batch", "run", "--keep", "group", "--fast", *options])


def test_each_method_is_what_python_finds(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--methods", "combat, location,combat", "--json") == 0
    said = json.loads(capsys.readouterr().out)["methods"]
    assert list(said) == ["combat", "location"]
    for name, corrector in (("combat", ComBat()), ("location", BatchCorrector(scale=None))):
        keep = runs[["group"]].astype("category")
        want = Findings.of(runs.iloc[:, 2:], corrector=corrector, batch=runs["run"], keep=keep, fast=True)
        assert alike(said[name], json.loads(json.dumps(want.to_dict())))


def test_columns_side_by_side(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare() == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    (head,) = (line for line in lines if line.startswith("number "))
    assert head.split()[1:] == ["as", "measured", "combat", "linear", "location", "right", "would", "be"]
    assert sum(line.startswith("Batch, predicted: AUC linear") for line in lines) == 1
    (verdict,) = (line for line in lines if line.startswith("verdict "))
    assert len(verdict.split()) == 4
    assert set(verdict.split()[1:]) <= {"fine", "warn", "stop"}
    assert [line.split(":")[0] for line in lines[-3:]] == ["combat", "linear", "location"]
    assert err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "combta"), "invalid choice: 'combta'"),
        (("--methods", " , "), "must name a method"),
        (("--methods", "combat,robust-location"), "--keep needs a method that works with means"),
        (("--methods", "history-zscore"), "invalid choice: 'history-zscore'"),
    ],
)
def test_mistakes_are_a_sentence(
    runs: pd.DataFrame, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert compare(*options) == 2
    assert said in capsys.readouterr().err
