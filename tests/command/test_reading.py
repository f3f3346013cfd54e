"""Tables as spreadsheets of other languages write them: what is to be done is said, and nothing is thrown away."""

from pathlib import Path

import pytest

from batchfix.cli import main

HEAD = "id,run,group,age,f0,f1\n"
ROWS = [f"s{k},r{k % 2},{'ab'[k // 2 % 2]},{40 + k}.5,{k}.25,{k}.5\n" for k in range(8)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(list(command)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("columns", ["all", "some cells"])
def test_decimal_commas_are_named(capsys: pytest.CaptureFixture[str], columns: str) -> None:
    lines = [line.replace(",", "\t").replace(".", ",") for line in [HEAD, *ROWS]]
    if columns == "some cells":
        lines[1] = lines[1].replace("0,25", "0").replace("0,5\n", "0\n")
    Path("eu.tsv").write_text("".join(lines))
    roles = ("--batch", "run", "--keep", "group", "--ignore", "age")
    for command in (("diagnose", "eu.tsv", *roles), ("correct", "eu.tsv", "-o", "o.csv", *roles)):
        said = refused(capsys, *command)
        assert "which looks like one with a decimal comma; export the table with decimal points" in said
        assert "--ignore" not in said


@pytest.mark.parametrize("option", ["--keep", "--keep-number"])
def test_a_number_with_decimal_commas_is_no_factor(capsys: pytest.CaptureFixture[str], option: str) -> None:
    rows = [line.replace(f"{40 + k}.5", f'"{40 + k},5"') for k, line in enumerate(ROWS)]
    Path("samples.csv").write_text("".join([HEAD, *rows]))
    said = refused(capsys, "check", "samples.csv", "--batch", "run", option, "age")
    assert "sample 's0' has '40,5', which looks like one with a decimal comma" in said
    assert ("say --keep-factor age if these are levels" in said) == (option == "--keep")
    rows = [f's{k},r{k % 2},{"ab"[k // 2 % 2]},"1,{k // 4}",{k}.5,1\n' for k in range(8)]
    Path("samples.csv").write_text("".join([HEAD, *rows]))
    assert main(["check", "samples.csv", "--batch", "run", "--keep-factor", "age"]) == 0


def test_a_table_without_numbers_is_not_to_be_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.csv").write_text("id,run,f0\n" + "".join(f"s{k},r{k % 2},word\n" for k in range(6)))
    said = refused(capsys, "diagnose", "text.csv", "--batch", "run")
    assert "No column would be left to correct" in said


def test_a_table_of_samples_in_columns_is_shown_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    Path("turned.csv").write_text("feature,s0,s1,s2\nf0,1,2,3\n")
    assert "give the table that describes them, one a row, with --metadata" in refused(
        capsys, "diagnose", "turned.csv", "--batch", "run"
    )
    assert "give the table that describes them, one a row" in refused(
        capsys, "check", "turned.csv", "--batch", "run", "--keep", "group"
    )


@pytest.mark.parametrize(
    ("command", "way"),
    [
        ("diagnose a.csv --metadata a.h5ad", "adata.obs.to_csv"),
        ("correct a.csv -o o.csv --metadata a.h5ad", "adata.obs.to_csv"),
        ("apply a.csv -o o.csv --model m --metadata a.h5ad", "adata.obs.to_csv"),
    ],
)
def test_an_anndata_in_place_of_a_table_is_shown_the_way(
    capsys: pytest.CaptureFixture[str], command: str, way: str
) -> None:
    Path("a.csv").write_text("".join([HEAD.replace("group", "g").replace("age", "h"), *ROWS]))
    options = ["--batch", "run", *(["--ignore", "g"] if "a.csv" in command else [])]
    if "--model" in command:
        model = ["--batch", "run", "--ignore", "g", "--method", "location", "--save-model", "m"]
        assert main(["correct", "a.csv", "-o", "o.csv", *model]) == 0
        capsys.readouterr()
    said = refused(capsys, *command.split(), *options)
    assert "a table must be a text or parquet file here, and 'a.h5ad' is an AnnData; write" in said
    assert way in said
