"""Roles: what was said of a column holds, and nothing asks again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix.cli import main
from batchfix.correctors import LinearCorrector

N = 24


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A table whose doses are levels, three numbers with decimals."""
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(np.random.default_rng(3).normal(size=(N, 3)), columns=["f0", "f1", "f2"])
    frame.insert(0, "run", np.tile(["x", "y"], N // 2))
    frame.insert(1, "dose", np.repeat([0.5, 1.25, 3.75], N // 3))
    frame.index = pd.Index([f"s{k}" for k in range(N)], name="id")
    frame.to_csv("t.csv")
    return frame


@pytest.mark.parametrize("asked", [[], ["--block-rows", "5"]])
@pytest.mark.parametrize("role", ["keep", "nuisance"])
def test_a_factor_of_numbers_is_not_asked_about(
    table: pd.DataFrame, capsys: pytest.CaptureFixture[str], role: str, asked: list[str]
) -> None:
    options = ["--batch", "run", f"--{role}-factor", "dose", "--method", "linear", *asked]
    assert main(["correct", "t.csv", "-o", "o.csv", *options, "--save-model", "m"]) == 0
    out, err = capsys.readouterr()
    assert (f"{'kept' if role == 'keep' else role}: dose (factor, 3 levels)" in out, err) == (True, "")
    values, levels = table[["f0", "f1", "f2"]], {role: table[["dose"]].astype(str).astype("category")}
    want = LinearCorrector().fit_transform(values, batch=table["run"], **levels)
    found = pd.read_csv("o.csv", index_col=0)[list(values)]
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)  # sums of blocks and of the whole round differently
    assert main(["apply", "t.csv", "--model", "m", "-o", "again.csv"]) == 0
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(pd.read_csv("again.csv", index_col=0)[list(values)], found, rtol=0, atol=1e-12)


def test_a_factor_of_numbers_is_judged_as_one(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("diagnose", "check"):
        options = ["t.csv", "--batch", "run", "--keep-factor", "dose"]
        assert main([command, *options, *(["--fast"] if command == "diagnose" else [])]) == 0
        assert "holds numbers as text" not in capsys.readouterr().err
