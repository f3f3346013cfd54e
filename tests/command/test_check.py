"""`batchfix check`: the forecast of the same labels, as words, as JSON and as an exit code."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix.cli import main
from batchfix.diagnostics.design import design_forecast


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """60 samples of three runs, in samples.csv of the current directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "run": np.repeat(["01", "02", "10"], 20),
            "group": rng.choice(["case", "control"], 60),
            "coded": rng.integers(0, 2, 60),
            "stage": rng.integers(1, 4, 60),
            "age": rng.uniform(30, 80, 60).round(1),
            "site": np.repeat(["x", "y", "x", "y"], 15),
        },
        index=pd.Index([f"s{i:02d}" for i in range(60)], name="sample"),
    )
    frame["lost"] = np.where(frame["run"] == "01", "yes", "no")
    frame["near"] = np.where((frame["run"] == "01") ^ (rng.random(60) < 0.1), "yes", "no")
    frame.to_csv("samples.csv")
    return frame


def check(*options: str) -> int:
    return main(["check", "samples.csv", "--batch", "run", *options])


def test_the_page_is_the_forecast(samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--keep", "group,age") == 0
    out, err = capsys.readouterr()
    assert out == f"{design_forecast(samples['run'], samples[['group', 'age']])}\n"
    assert err == ""


def test_json_is_the_forecast(samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--keep", "group", "--keep-number", "stage", "--nuisance", "age", "--nuisance-factor", "coded"]
    assert check(*options, "--json") == 0
    keep = samples[["group"]].assign(stage=samples["stage"].astype(float))
    nuisance = samples[["age"]].assign(coded=samples["coded"].astype(str))
    assert json.loads(capsys.readouterr().out) == design_forecast(samples["run"], keep, nuisance).to_dict()


def test_several_batch_columns(samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "samples.csv", "--batch", "run,site", "--keep", "group", "--json"]) == 0
    want = design_forecast(samples[["run", "site"]], samples[["group"]]).to_dict()
    assert json.loads(capsys.readouterr().out) == want


def test_codes_are_levels_as_told_and_two_of_them_untold(
    samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--keep", "coded", "--keep-factor", "stage") == 0
    out, err = capsys.readouterr()
    assert "coded: 0 - 1" in out
    assert "stage: '1' - '2'" in out
    assert err == ""
    assert check("--keep-number", "coded") == 0
    assert "coded: slope" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keep", "verdict", "codes"),
    [("group", "fine", (0, 0, 0)), ("near", "warn", (0, 3, 0)), ("lost", "stop", (0, 3, 3))],
)
def test_the_exit_code_is_the_verdict_if_asked(
    samples: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    keep: str,
    verdict: str,
    codes: tuple[int, int, int],
) -> None:
    for options, code in zip(([], ["--fail-on", "warn"], ["--fail-on", "stop"]), codes, strict=True):
        assert check("--keep", keep, *options) == code
        out, err = capsys.readouterr()
        assert f"{verdict}: " in out
        assert err == ""


def test_a_design_that_cannot_be_corrected_is_said_as_correct_says_it(
    samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--keep", "lost", "--json") == 0
    message = json.loads(capsys.readouterr().out)["findings"][0]["message"]
    samples.assign(f=np.random.default_rng(1).normal(size=60))[["run", "lost", "f"]].to_csv("in.csv")
    assert main(["correct", "in.csv", "-o", "out.csv", "--batch", "run", "--keep", "lost", "--method", "linear"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--keep must name what is to survive a correction"),
        (["--keep", "gruop"], "has no 'gruop' (did you mean 'group'?)"),
        (["--keep", "run"], "'run' is named by both --batch and --keep"),
        (["--keep", "stage"], "say --keep-factor stage or --keep-number stage"),
        (["--keep-factor", "age"], "Samples must share levels"),
        (["--keep", "group", "--fail-on", "fine"], "argument --fail-on: invalid choice: 'fine'"),
        (["--keep", "same"], "must differ between samples to be compared, got 'one' in every row of 'same'"),
    ],
)
def test_mistakes_are_one_line(
    samples: pd.DataFrame, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    samples.assign(same="one", age=np.arange(60) + 0.5).to_csv("samples.csv")
    assert check(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("batchfix: ")
    assert err.count("\n") == 1
    assert message in err


def test_one_batch_or_a_batch_for_every_sample(samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for run, message in (("one", "got only 'one'"), (samples.index, "got 60 batches of one row each")):
        samples.assign(run=run).to_csv("samples.csv")
        assert check("--keep", "group") == 2
        assert message in capsys.readouterr().err


def test_a_missing_label_names_the_sample(samples: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    samples.loc["s07", "group"] = ""
    samples.to_csv("samples.csv")
    assert check("--keep", "group") == 2
    assert "'group', and 1 of 60 have none: 's07'" in capsys.readouterr().err
