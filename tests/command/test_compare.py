"""`batchfix compare`: each method's column is what Python finds of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from batchfix import BatchCorrector, ComBat
from batchfix.cli import main
from batchfix.command.wording import all_in_words
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
        assert alike(said[name], all_in_words(json.loads(json.dumps(want.to_dict()))))


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


def test_methods_that_cannot_correct_say_why(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is refused leaves dashes and its reason; the others have their numbers."""
    runs["group"] = runs["run"]
    runs.to_csv("runs.csv")
    assert compare("--methods", "combat,linear") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines if line.startswith("verdict ")} == {"stop"}
    for name in ("combat", "linear"):
        refusal = f"{name} could not correct the table. Batch and 'group' cannot be"
        assert any(line.startswith(refusal) for line in lines)
    runs["group"] = ["case", "control"] * 30
    runs.loc["s00", "f1"] = -1.0
    runs.to_csv("runs.csv")
    assert compare("--methods", "clr-location,location") == 0
    out = capsys.readouterr().out
    assert "clr-location could not correct the table. " in out
    (held,) = (line for line in out.splitlines() if line.startswith("Batch, share of variance: adjusted R2 held out"))
    cells = held.split("held out")[1].split("  ")
    assert [each.strip() for each in cells if each.strip()][:2] == ["-", "-"]  # as measured, and clr-location
    assert held.rstrip().endswith("(noise)")


def test_the_exit_code_is_that_of_the_best(runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter(["stop", "warn"] * 3)
    monkeypatch.setattr(Findings, "verdict", property(lambda _: next(verdicts)))
    methods = ("--methods", "combat,location", "--json")
    monkeypatch.setattr(Findings, "to_dict", lambda _: {})
    assert compare(*methods) == 0
    assert compare(*methods, "--fail-on", "stop") == 0
    assert compare(*methods, "--fail-on", "warn") == 3


def test_what_may_be_a_label_is_named(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    runs["age"] = range(60)
    runs.to_csv("runs.csv")
    assert compare("--methods", "location") == 0
    out, err = capsys.readouterr()
    assert out.startswith("60 samples x 9 features of runs.csv, batches by run\n")
    assert err.startswith("warning: 'age' is measured as measurements are, and by name or values may be labels")


def test_a_mistake_is_json_too(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (("--keep", "gruop"), ("--methods", "combta"), ("--nosuch",)):
        assert compare("--json", *options) == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"batchfix: {json.loads(out)['error']}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "combta"), "invalid choice: 'combta' (did you mean 'combat'?)"),
        (("--methods", " , "), "must name a method"),
        (("--methods", "combat,robust-location"), "--keep needs a method that works with means"),
        (("--methods", "history-zscore"), "invalid choice: 'history-zscore', which does not correct between"),
        (("--nosuch",), "unrecognized arguments: --nosuch; see batchfix compare --help"),
    ],
)
def test_mistakes_are_a_sentence(
    runs: pd.DataFrame, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert compare(*options) == 2
    assert said in capsys.readouterr().err
