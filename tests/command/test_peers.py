"""Sectors, rows and histories through the command: the correctors' numbers, and refusals before the work."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchfix.cli import main
from batchfix.correctors import CausalCorrector, GroupCorrector, InstanceCorrector
from batchfix.datasets import make_markets

METHODS = {
    "sector-mean": {"scale": None},
    "sector-zscore": {},
    "sector-rank": {"method": "rank"},
}


@pytest.fixture
def market(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns in r.csv, groups in g.csv, the long panel in p.csv, all in the current directory."""
    monkeypatch.chdir(tmp_path)
    made = make_markets(30, 20, 4, 6, random_state=0)
    made.returns.to_csv("r.csv")
    pd.DataFrame({"sector": made.sector, "industry": made.industry}).to_csv("g.csv")
    made.panel().reset_index().to_csv("p.csv", index=False)
    return made


def correct(options: str) -> int:
    return main(["correct", *shlex.split(options)])


def read(path: str = "out.csv") -> pd.DataFrame:
    return pd.read_csv(path, index_col=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_wide_table(market: Any, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    market.sector.to_csv("s.csv")
    assert correct(f"r.csv -o out.csv --method {method} --groups s.csv") == 0
    wanted = GroupCorrector(market.sector, **METHODS[method]).fit_transform(market.returns)
    np.testing.assert_allclose(read().to_numpy(), wanted.to_numpy(), rtol=1e-12, atol=1e-15)
    assert list(read().columns) == list(wanted.columns)
    out = capsys.readouterr().out
    assert "30 rows x 20 columns" in out
    assert "4 groups: 'sector1'" in out


def test_a_hierarchy_of_groups_and_their_statistics(market: Any) -> None:
    assert correct("r.csv -o out.csv --method sector-zscore --groups g.csv --group-stats") == 0
    levels = pd.DataFrame({"sector": market.sector, "industry": market.industry})
    wanted = GroupCorrector(levels, return_group_stats=True).fit_transform(market.returns)
    assert list(read().columns) == list(wanted.columns)
    np.testing.assert_allclose(read().to_numpy(float), wanted.to_numpy(), rtol=1e-12, atol=1e-15)


def test_a_long_table(market: Any) -> None:
    assert correct("p.csv -o out.csv --method sector-zscore --within date --by sector --ignore symbol,industry") == 0
    panel = market.panel().reset_index()
    factors = ["date", "sector", "return", "beta", "size"]
    wanted = GroupCorrector(within="date", by="sector").fit_transform(panel[factors])
    found = pd.read_csv("out.csv")
    assert list(found.columns) == list(panel.columns)
    assert found["symbol"].tolist() == panel["symbol"].tolist()
    np.testing.assert_allclose(found[wanted.columns].to_numpy(), wanted.to_numpy(), rtol=1e-12, atol=1e-15)


def test_rows_and_histories(market: Any) -> None:
    assert correct("r.csv -o out.csv --method row-zscore") == 0
    np.testing.assert_allclose(read().to_numpy(), InstanceCorrector().fit_transform(market.returns), rtol=1e-12)
    assert correct("r.csv -o out.csv --method history-zscore") == 0
    np.testing.assert_allclose(
        read().to_numpy(), CausalCorrector().fit_transform(market.returns).to_numpy(), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("r.csv --method sector-zscore --groups g.csv --batch s01", ("--batch speaks of batches", "leave it out")),
        ("r.csv --method combat --groups g.csv --batch s01", ("--groups needs a method sector-...",)),
        ("r.csv --method row-zscore --group-stats", ("--group-stats needs a method sector-...",)),
        ("r.csv --method sector-zscore --by sector", ("--by", "--within")),
        ("p.csv --method sector-zscore --within date --groups g.csv", ("one of the two",)),
        ("p.csv --method sector-zscore --within day --by sector", ("has no 'day'",)),
        ("p.csv --method sector-zscore --within date --by sektor", ("has no 'sektor'", "sector")),
        ("p.csv --method sector-zscore --within date --by sector", ("--ignore", "'symbol'")),
        ("r.csv --method sector-zscore --groups few.csv", ("lacks 's03'",)),
        ("r.csv --method sector-zscore --groups none.csv", ("does not exist",)),
        ("r.csv --method history-zscore --groups g.csv", ("--groups needs",)),
        ("g.csv --method history-zscore --ignore sector,industry", ("must have columns of measurements",)),
        ("back.csv --method history-zscore", ("Times must rise", "2001")),
        ("named.csv --method history-zscore", ("needs dates",)),
        ("r.csv --method combat", ("--batch",)),
    ],
)
def test_what_will_not_do(
    market: Any, capsys: pytest.CaptureFixture[str], options: str, words: tuple[str, ...]
) -> None:
    market.sector.drop("s03").to_csv("few.csv")
    market.returns[::-1].to_csv("back.csv")
    market.returns.set_axis([f"row{i}" for i in range(30)]).to_csv("named.csv")
    assert correct(f"{options} -o out.csv") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("batchfix: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    with pytest.raises(FileNotFoundError):
        read()


def test_groups_must_be_named(market: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for method in METHODS:
        assert correct(f"r.csv -o out.csv --method {method}") == 2
        said = capsys.readouterr().err
        assert "needs --groups" in said
        assert "row-..." in said


def test_rows_of_a_long_table_are_there_once(market: Any, capsys: pytest.CaptureFixture[str]) -> None:
    table = market.panel().reset_index()[["symbol", "date", "sector", "return"]]
    pd.concat([table, table.iloc[[5]]]).to_csv("twice.csv", index=False)
    assert correct("twice.csv -o out.csv --method sector-zscore --within date --by sector") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("is there twice", "1 row too many", "--symbol"))
    table.insert(0, "row", range(len(table)))
    options = "-o out.csv --method sector-zscore --within date --by sector --symbol symbol"
    pd.concat([table, table.iloc[[5]].assign(row=-1)]).to_csv("twice.csv", index=False)
    assert correct(f"twice.csv {options}") == 2
    assert "one row a symbol" in capsys.readouterr().err
    table.to_csv("once.csv", index=False)
    assert correct(f"once.csv {options} --save-model m.batchfix") == 0
    wanted = GroupCorrector(within="date", by="sector", symbol="symbol").fit_transform(table.drop(columns="row"))
    np.testing.assert_allclose(pd.read_csv("out.csv")["return"], wanted["return"], rtol=1e-12, atol=1e-15)
    assert main(["apply", "once.csv", "--model", "m.batchfix", "-o", "again.csv"]) == 0
    assert Path("again.csv").read_text() == Path("out.csv").read_text()


def test_the_first_column_is_named_among_the_nearest(market: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct("p.csv -o out.csv --method sector-zscore --within datee --by sector") == 2
    assert "did you mean 'date'" in capsys.readouterr().err


def test_times_may_change_their_distance_from_greenwich(market: Any) -> None:
    index = pd.date_range("2024-03-06 16:00", periods=6, tz="America/New_York", freq="B")
    table = pd.DataFrame({"x": [1.0, 2, 4, 8, 16, 32]}, index=index)
    table.to_csv("zoned.csv")
    assert correct("zoned.csv -o out.csv --method history-zscore") == 0
    np.testing.assert_allclose(read().to_numpy(), CausalCorrector().fit_transform(table).to_numpy(), rtol=1e-12)
