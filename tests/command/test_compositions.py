"""Counts and shares through the command: the corrector's numbers, its words, and refusals before the work."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchfix.cli import main
from batchfix.command.methods import METHODS
from batchfix.core.simplex import closure
from batchfix.correctors import BatchCorrector, ComBat, CompositionalCorrector
from batchfix.datasets import make_microbes

INNER = {"location": BatchCorrector(scale=None), "location-scale": BatchCorrector(), "combat": ComBat()}
OF_RATIOS = [name for name, method in METHODS.items() if method.composition == "ratios"]
OF_ABUNDANCES = [name for name, method in METHODS.items() if method.composition == "abundances"]
OUTPUTS = {"log-ratios": "log_ratio", "proportions": "composition", "counts": "counts"}

pytestmark = pytest.mark.filterwarnings("ignore::batchfix.exceptions.BatchfixWarning")


@pytest.fixture
def counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Counts of 60 samples, as in.csv of the current directory, with their study in column "study"."""
    monkeypatch.chdir(tmp_path)
    made = make_microbes(60, 12, 3, random_state=1)
    made.counts.assign(study=made.batch, health=made.group).to_csv("in.csv")
    return made.counts.assign(study=made.batch, health=made.group)


def correct(options: str) -> int:
    return main(["correct", *shlex.split(options)])


def taxa(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["study", "health"])


def read(path: str = "out.csv") -> pd.DataFrame:
    return pd.read_csv(path, index_col=0)


@pytest.mark.parametrize("method", OF_RATIOS)
@pytest.mark.parametrize("write", [None, *OUTPUTS])
def test_a_method_of_ratios_is_the_corrector_it_names(counts: pd.DataFrame, method: str, write: str | None) -> None:
    more = "" if write is None else f"--write {write}"
    assert correct(f"in.csv -o out.csv --batch study --keep health --method {method} {more}") == 0
    kind, name = method.split("-", 1)
    model = CompositionalCorrector(INNER[name], transform=kind, output=OUTPUTS[write or "log-ratios"])
    wanted = model.fit_transform(taxa(counts), batch=counts["study"], keep=counts[["health"]])
    found = read()
    assert list(found.columns[found.columns.isin(["study", "health"])]) == ["study", "health"]
    found = taxa(found)
    assert list(found.columns) == list(wanted.columns)
    assert list(found.index) == list(wanted.index)
    np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=1e-12, atol=1e-12)
    if write == "counts":
        assert {kind.kind for kind in found.dtypes} == {"i"}
        assert found.sum(axis=1).tolist() == taxa(counts).sum(axis=1).tolist()


@pytest.mark.parametrize("method", OF_ABUNDANCES)
def test_zeros_are_kept(counts: pd.DataFrame, method: str) -> None:
    assert correct(f"in.csv -o out.csv --batch study --ignore health --method {method}") == 0
    model = CompositionalCorrector(INNER[method.removeprefix("abundance-")], output="abundance")
    found = taxa(read())
    wanted = model.fit_transform(taxa(counts), batch=counts["study"])
    np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=1e-12)
    assert ((found == 0) == (taxa(counts) == 0)).all(axis=None)


def test_it_says_what_it_took_the_table_for_and_what_it_did(
    counts: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "in.csv -o out.csv --batch study --ignore health --method clr-location"
    assert correct(f"{options} --write counts") == 0
    out = capsys.readouterr().out
    assert "taken for counts\n" in out
    zeros = int((taxa(counts) == 0).to_numpy().sum())
    assert f"of {zeros} zeros filled" in out
    assert "depth given back" in out
    shares = taxa(counts).div(taxa(counts).sum(axis=1), axis=0) * 100
    shares.assign(study=counts["study"], health=counts["health"]).to_csv("in.csv")
    assert correct(options) == 0
    assert "taken for percentages\n" in capsys.readouterr().out


def test_samples_in_columns(counts: pd.DataFrame) -> None:
    taxa(counts).T.to_csv("x.csv")
    counts[["study"]].to_csv("m.csv")
    assert correct("x.csv -o out.csv --metadata m.csv --batch study --method ilr-location") == 0
    wanted = CompositionalCorrector(transform="ilr").fit_transform(taxa(counts), batch=counts["study"])
    found = read()
    assert list(found.index) == list(wanted.columns)
    assert list(found.columns) == list(wanted.index)
    np.testing.assert_allclose(found.to_numpy().T, wanted.to_numpy(), rtol=1e-12, atol=1e-12)


def test_options_reach_the_corrector(counts: pd.DataFrame) -> None:
    study = counts["study"].iloc[0]
    options = f"--method clr-combat --zeros multiplicative --scale-guard 0.5 --reference '{study}'"
    assert correct(f"in.csv -o out.csv --batch study --ignore health {options}") == 0
    model = CompositionalCorrector(ComBat(scale_guard=0.5, reference_batch=study), zeros="multiplicative")
    wanted = model.fit_transform(taxa(counts), batch=counts["study"])
    np.testing.assert_allclose(taxa(read()).to_numpy(), wanted.to_numpy(), rtol=1e-12, atol=1e-12)


def test_a_pseudocount_warns_in_the_commands_words(counts: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct("in.csv -o out.csv --batch study --ignore health --method clr-location --zeros pseudocount") == 0
    err = capsys.readouterr().err
    assert "choose --zeros half-minimum" in err
    assert "zeros=" not in err


def spoilt(cell: object, table: pd.DataFrame) -> pd.DataFrame:
    table = table.astype({table.columns[2]: object})
    table.iloc[4, 2] = cell
    return table


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (lambda t: spoilt(-1.0, t), "", ("negative", "counts, proportions or percentages")),
        (lambda t: spoilt("", t), "", ("needs an amount of every part", "write 0")),
        (lambda t: spoilt("many", t), "", ("'many'",)),
        (lambda t: t.assign(**dict.fromkeys(taxa(t).columns, 0)), "", ("all is 0",)),
        (lambda t: t.assign(**dict(taxa(t) + 0.5)), "--write counts", ("--write proportions",)),
        (lambda t: t.assign(one=1)[["one", "study", "health"]], "", ("two parts or more",)),
        (lambda t: t, "--method combat --write counts", ("--write needs a method of log-ratios (clr-location",)),
        (lambda t: t, "--method abundance-location --zeros pseudocount", ("--zeros needs a method of log-ratios",)),
        (lambda t: t, "--scale-guard 0.2", ("--scale-guard needs a method that scales",)),
        (lambda t: t, "--write shares", ("invalid choice: 'shares'",)),
    ],
)
def test_what_will_not_do(
    counts: pd.DataFrame, capsys: pytest.CaptureFixture[str], change: Any, more: str, words: tuple[str, ...]
) -> None:
    change(counts).to_csv("in.csv")
    method = "" if "--method" in more else "--method clr-location"
    assert correct(f"in.csv -o out.csv --batch study --ignore health {method} {more}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("batchfix: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    with pytest.raises(FileNotFoundError):
        read()


def test_shares_are_as_good_as_counts(counts: pd.DataFrame) -> None:
    correct("in.csv -o a.csv --batch study --ignore health --method clr-location-scale")
    shares = pd.DataFrame(closure(taxa(counts).to_numpy(float)), counts.index, taxa(counts).columns)
    shares.assign(study=counts["study"], health=counts["health"]).to_csv("in.csv")
    correct("in.csv -o b.csv --batch study --ignore health --method clr-location-scale")
    np.testing.assert_allclose(taxa(read("a.csv")), taxa(read("b.csv")), rtol=0, atol=1e-9)
