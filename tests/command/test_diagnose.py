"""`batchfix diagnose`, and --report of others: what Python finds, as words, as JSON, as a page, as an exit code."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from batchfix import ComBat
from batchfix.cli import main
from batchfix.command.wording import all_in_words
from batchfix.datasets import make_lab
from batchfix.diagnostics.report.findings import Findings


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """60 samples of three runs, in runs.csv of the current directory, and its measurements alone in other layouts."""
    monkeypatch.chdir(tmp_path)
    lab = make_lab(60, 8, 3, batch_shift=2.0, random_state=0)
    table = lab.data.set_axis([f"s{i:02d}" for i in range(60)], axis=0).rename_axis("sample")
    table.to_csv("numbers.csv")
    table.T.rename_axis("feature").to_csv("turned.csv")
    samples = pd.DataFrame({"run": lab.batch.to_numpy(), "group": lab.group.to_numpy()}, index=table.index)
    samples["coded"] = (samples["group"] == samples["group"].iloc[0]).astype(int)
    samples.to_csv("samples.csv")
    pd.concat([samples, table], axis=1).to_csv("runs.csv")
    return pd.concat([samples, table], axis=1)


def diagnose(*options: str, table: str = "runs.csv") -> int:
    return main(["diagnose", table, "--batch", "run", "--fast", *options])


def alike(said: object, want: object) -> bool:
    """The same JSON, but for rounding: tables from a file lie otherwise in memory, and sums take another order."""
    if isinstance(said, dict) and isinstance(want, dict):
        return said.keys() == want.keys() and all(alike(said[key], want[key]) for key in said)
    if isinstance(said, list) and isinstance(want, list):
        return len(said) == len(want) and all(map(alike, said, want))
    return said == (pytest.approx(want, rel=1e-9, abs=1e-12) if isinstance(want, float) else want)


OWN = ("--keep", "group", "--ignore", "coded")


def found(runs: pd.DataFrame, **options: object) -> Findings:
    keep = runs[["group"]].astype("category")
    return Findings.of(runs.iloc[:, 3:], batch=runs["run"], keep=keep, fast=True, **options)


def test_json_is_what_python_finds(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose(*OWN, "--json") == 0
    said, err = capsys.readouterr()
    want = all_in_words(json.loads(json.dumps(found(runs).to_dict(), allow_nan=False)))
    assert alike(json.loads(said), want)
    assert want["verdict"] == "warn"
    assert err == ""
    for table in ("numbers.csv", "turned.csv"):
        metadata = ("--metadata", "samples.csv", "--keep", "group")
        assert diagnose(*metadata, "--json", table=table) == 0
        assert alike(json.loads(capsys.readouterr().out), want)


def test_a_method_is_tried(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose(*OWN, "--method", "combat", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert alike(said, all_in_words(json.loads(json.dumps(found(runs, corrector=ComBat()).to_dict()))))
    assert said["facts"]["corrected"] == "ComBat"


def test_two_codes_are_levels(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose("--keep", "coded", "--ignore", "group", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["evaluation"]["mixing"]["clisi"]) == ["coded"]


def test_a_corrected_table(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["correct", "runs.csv", "-o", "fixed.csv", "--batch", "run", *OWN]) == 0
    shuffled = pd.read_csv("fixed.csv", index_col=0).iloc[::-1, ::-1]
    shuffled.to_csv("shuffled.csv")
    said = []
    for path in ("fixed.csv", "shuffled.csv"):
        capsys.readouterr()
        assert diagnose(*OWN, "--after", path, "--json") == 0
        said.append(json.loads(capsys.readouterr().out))
    assert alike(*said)
    assert "corrector" in said[0]["evaluation"]["predictability"]["after"]["reason"]
    assert said[0]["verdicts"]["predictability"] is None
    shuffled.iloc[1:].to_csv("short.csv")
    assert diagnose(*OWN, "--after", "short.csv") == 2
    assert "must hold the samples of the table before, and 1 are not in it ('s59')" in capsys.readouterr().err
    shuffled.drop(columns=shuffled.columns[0]).to_csv("narrow.csv")
    assert diagnose(*OWN, "--after", "narrow.csv") == 2
    assert "must hold the features of the table before, and lacks 1 of them" in capsys.readouterr().err


def test_words_and_exit_codes(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose(*OWN, "--fail-on", "stop") == 0
    words = capsys.readouterr().out
    assert words.startswith("warn: There is a batch effect.\n- Location: batch explains ")
    lines = words.splitlines()
    (head,) = (k for k, line in enumerate(lines) if line.startswith("number "))
    assert all(len(line) <= 110 for line in lines)
    assert len(lines) - head >= 9
    assert lines[head - 2] == "60 samples x 8 features of runs.csv, batches by run"
    assert diagnose(*OWN, "--fail-on", "warn") == 3


def test_the_report(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose(*OWN, "--report", "out.html") == 0
    assert capsys.readouterr().out.endswith("\nwrote out.html\n")
    page = Path("out.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Batch effects in runs.csv" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--placebo",), "--placebo needs the correction, to run it again; give --method"),
        (("--placebo", "--method", "combat", "--ignore", "group,coded"), "--placebo needs something to deal anew"),
        ((*OWN, "--report", "runs.csv"), "the report must have a file of its own"),
        ((*OWN, "--report", "none/out.html"), "directory must exist"),
        ((*OWN, "--method", "robust-location"), "--keep needs a method that works with means"),
        ((*OWN, "--method", "sector-mean"), "invalid choice: 'sector-mean'"),
        ((*OWN, "--batch", "coded"), "--batch must name one column here"),
        ((*OWN, "--keep", "gruop"), "did you mean 'group'"),
        ((), "add --ignore group"),
    ],
)
def test_mistakes_are_a_sentence(
    runs: pd.DataFrame, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    if options[-1:] == ("coded",) and "--batch" in options:
        options = ("--keep", "group", "--batch", "coded")
    assert diagnose(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_correct_writes_a_report(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("-o", "fixed.csv", "--batch", "run")
    assert main(["correct", "runs.csv", *options, *OWN, "--report", "out.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[-3], lines[-1]] == ["wrote fixed.csv", "wrote out.html"]
    assert lines[-2].split(":")[0] in ("fine", "warn", "stop")
    assert "runs.csv, corrected by combat" in Path("out.html").read_text(encoding="utf-8")
    numbers = main(["correct", "runs.csv", *options, *OWN, "--report", "fixed.csv"])
    assert numbers == 2
    assert "the report must have a file of its own" in capsys.readouterr().err
    sector = ("-o", "z.csv", "--method", "row-zscore", "--ignore", "run,group,coded", "--report", "o.html")
    assert main(["correct", "runs.csv", *sector]) == 2
    assert "--report tells what a correction did to batches" in capsys.readouterr().err
    assert not Path("z.csv").exists()


def test_a_correction_of_one_batch_has_a_report_that_says_so(
    runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    runs["run"] = "b1"
    runs.to_csv("runs.csv")
    options = ("-o", "fixed.csv", "--batch", "run", *OWN, "--report", "out.html")
    assert main(["correct", "runs.csv", *options]) == 0
    assert capsys.readouterr().out.endswith("wrote out.html\n")
    page = Path("out.html").read_text(encoding="utf-8")
    assert page.count("This could not be had. Column &#39;run&#39; holds one batch only") >= 8
    assert Path("fixed.csv").exists()


def test_correct_as_json_and_as_an_exit_code(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("-o", "fixed.csv", "--batch", "run", *OWN, "--save-model", "m", "--json")
    assert main(["correct", "runs.csv", *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["batches"] == {"run": {"b1": 20, "b2": 20, "b3": 20}}
    assert [said[name] for name in ("output", "model", "report", "verdict")] == ["fixed.csv", "m", None, None]
    method = ("--method", "location", "--report", "out.html", "--fail-on", "warn")
    code = main(["correct", "runs.csv", *options, *method])
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == "out.html"
    assert code == (0 if said["verdict"] == "fine" else 3)
    rows = ("-o", "z.csv", "--method", "row-zscore", "--ignore", "run,group,coded", "--json")
    assert main(["correct", "runs.csv", *rows]) == 0
    assert json.loads(capsys.readouterr().out)["said"][-1] == "wrote z.csv"
    assert main(["correct", "runs.csv", "-o", "fixed.csv", "--batch", "run", *OWN, "--fail-on", "stop"]) == 2
    assert "--fail-on looks at the verdict of a report" in capsys.readouterr().err


def test_a_report_replaces_reports_only(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = Path("numbers.csv").read_bytes()
    Path("mine.html").write_text("<!DOCTYPE html>my own notes", encoding="utf-8")
    for name, words in (("numbers.csv", "needs a name that ends in .html"), ("mine.html", "did not write")):
        assert diagnose(*OWN, "--report", name) == 2
        assert words in capsys.readouterr().err
    assert Path("numbers.csv").read_bytes() == numbers
    assert diagnose(*OWN, "--report", "out.html") == 0
    assert diagnose(*OWN, "--report", "out.html") == 0
    assert "wrote out.html, replacing" in capsys.readouterr().out


def test_words_are_those_of_the_command(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """No sentence tells of arguments or functions of Python, on a terminal, in JSON or on a page."""
    runs.iloc[0, 4] = None
    runs.to_csv("runs.csv")
    options = ("--ignore", "coded,group", "--after", "runs.csv", "--report", "out.html")
    assert diagnose(*options) == 0
    said = [capsys.readouterr().out, Path("out.html").read_text(encoding="utf-8")]
    assert "no number (" in said[0]
    assert diagnose(*options[:-2], "--json") == 0
    said.append(capsys.readouterr().out)
    for text in said:
        for word in ("corrector=", "keep=", "feature_effects", "got X", "BatchCorrector"):
            assert word not in text


def test_what_is_odd_is_said(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """Distances of shares between logarithms; a kept column of one value; one batch."""
    runs.iloc[:, 3:] *= 3
    runs.to_csv("runs.csv")
    assert diagnose(*OWN, "--distance", "aitchison") == 0
    assert "--distance aitchison is of counts or shares, and 'runs.csv' holds neither" in capsys.readouterr().err
    runs["group"] = "case"
    runs.to_csv("runs.csv")
    assert main(["correct", "runs.csv", "-o", "o.csv", "--batch", "run", *OWN, "--method", "location"]) == 0
    assert "column 'group' holds one value only ('case')" in capsys.readouterr().err
    runs["run"] = "b1"
    runs.to_csv("runs.csv")
    assert diagnose(*OWN) == 2
    assert "'run' holds one only ('b1'): there is no difference to look for" in capsys.readouterr().err


def test_what_may_be_a_label_is_named(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose("--keep", "group") == 0
    assert capsys.readouterr().err.startswith("warning: 'coded' is measured as measurements are")


def test_correct_reports_what_went_besides_batch(runs: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """Nuisance, and further batch columns, go with the batches in the report too."""
    options = ["--method", "linear", "--batch", "run", "--nuisance", "coded", "--ignore", "group"]
    assert main(["correct", "runs.csv", "-o", "fixed.csv", *options, "--report", "out.html"]) == 0
    page = Path("out.html").read_text(encoding="utf-8")
    assert "LinearCorrector" in page
    assert "features</dt><dd>8<" in page


def test_demo_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last lines say the verdict and where the page is, which lies beside the table."""
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    assert main(["demo", "markets", "-o", "sub/m.csv"]) == 0
    out, err = capsys.readouterr()
    assert "60 stocks on 250 days in 6 sectors" in out
    lines = out.splitlines()
    assert lines[-1] == f"wrote {Path('sub', 'markets_report.html')}"
    (verdict,) = (line for line in lines if line.split(":")[0] in ("fine", "warn", "stop"))
    assert err == ""
    assert {each.name for each in Path("sub").iterdir()} == {"m.csv", "markets_report.html"}
    assert [each.name for each in tmp_path.iterdir()] == ["sub"]
    code = main(["demo", "markets", "--report", "m.html", "--json", "--fail-on", "warn"])
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == "m.html"
    assert verdict.startswith(f"{said['verdict']}: {said['headline']}"[:90])
    assert code == (0 if said["verdict"] == "fine" else 3)


def test_demo_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["demo", "microbes"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("for a report with pictures (jinja2 is not installed): pip install 'batchfix[report]'\n")
    assert any(line.split(":")[0] in ("fine", "warn", "stop") for line in out.splitlines())
    assert [each.name for each in tmp_path.iterdir()] == ["microbes_corrected.csv"]
    assert main(["demo", "--report"]) == 2
    assert "--report needs jinja2" in capsys.readouterr().err
    assert err == ""
