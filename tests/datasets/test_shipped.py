import csv
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix.datasets import load_bladder, load_microbes, shipped
from batchfix.exceptions import BatchfixError

TABLES = Path(__file__).parents[2] / "datasets"
ORACLES = Path(__file__).parents[1] / "oracles"


def registry():
    with (TABLES / "registry.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


class TestRegistry:
    @pytest.mark.parametrize("row", registry(), ids=lambda row: row["file"])
    def test_each_row_tells_the_truth_and_has_a_card(self, row):
        path = TABLES / row["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
        table = pd.read_csv(path, index_col=0)
        assert table.shape == (int(row["rows"]), int(row["columns"]))
        card = (TABLES / f"{row['name']}.md").read_text(encoding="utf-8")
        for fact in (row["file"], row["licence"], *row["source"].split()):
            assert fact in card

    def test_no_table_is_unregistered(self):
        known = {row["file"] for row in registry()} | {"registry.csv"}
        assert {path.name for path in TABLES.iterdir() if path.suffix != ".md"} == known

    def test_the_folder_is_no_package(self):
        assert not (TABLES / "__init__.py").exists()


class TestBladder:
    def test_equals_the_oracle_to_the_last_bit(self):
        oracle = np.load(ORACLES / "bladder.npz")
        table = load_bladder()
        assert table.data.to_numpy().dtype == np.float64
        np.testing.assert_array_equal(table.data.to_numpy(), oracle["X"])
        assert table.data.columns.tolist() == oracle["features"].tolist()
        assert table.data.index.tolist() == oracle["pheno_sample"].tolist()
        for column, key in (("batch", "batch"), ("cancer", "cond"), ("outcome", "outcome")):
            assert table.samples[column].tolist() == oracle[f"pheno_{key}"].tolist()

    def test_samples_and_data_share_their_index(self):
        table = load_bladder()
        pd.testing.assert_index_equal(table.data.index, table.samples.index)
        assert table.samples.columns.tolist() == ["batch", "cancer", "outcome"]
        assert "Artistic-2.0" in table.description

    def test_a_damaged_file_is_named(self, tmp_path, monkeypatch):
        shutil.copytree(TABLES, tmp_path / "tables")
        damaged = tmp_path / "tables" / "bladder_samples.csv"
        damaged.write_text(damaged.read_text().replace("b3", "b1"))
        monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path / "tables",))
        with pytest.raises(BatchfixError, match=r"bladder_samples\.csv' must have the sha256 .* Install the package"):
            load_bladder()

    def test_a_missing_file_is_named(self, tmp_path, monkeypatch):
        shutil.copytree(TABLES, tmp_path / "tables")
        (tmp_path / "tables" / "bladder.csv.gz").unlink()
        monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path / "tables",))
        with pytest.raises(BatchfixError, match=r"bladder\.csv\.gz' is missing\. Install the package"):
            load_bladder()

    def test_a_missing_folder_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path / "_data", tmp_path))
        with pytest.raises(BatchfixError, match=r"_data', which has no registry\.csv"):
            load_bladder()

    def test_an_installed_package_reads_its_own_copy(self, tmp_path, monkeypatch):
        shutil.copytree(TABLES, tmp_path / "_data")
        monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path / "_data", tmp_path / "nowhere"))
        assert load_bladder().data.shape == (57, 302)

    def test_nothing_is_known_of_the_probes(self):
        table = load_bladder()
        assert table.features.shape == (302, 0)
        pd.testing.assert_index_equal(table.features.index, table.data.columns)


class TestMicrobes:
    def test_the_files_are_what_the_card_says_made_them(self, tmp_path, monkeypatch):
        """The card's code, run here, writes the files that ship."""
        (code,) = re.findall(r"```python\n(.*?)```", (TABLES / "microbes.md").read_text(encoding="utf-8"), re.DOTALL)
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "microbes.md", "exec"), {})
        for name in ("microbes.csv", "microbes_samples.csv"):
            assert (tmp_path / name).read_text() == (TABLES / name).read_text()
        made, kept = (pd.read_csv(folder / "microbes_taxa.csv", index_col=0) for folder in (tmp_path, TABLES))
        # One unit of the sixth decimal: another processor's logarithm may round the other way.
        pd.testing.assert_frame_equal(made, kept, rtol=0, atol=1.5e-6)

    def test_samples_and_taxa_belong_to_the_counts(self):
        table = load_microbes()
        pd.testing.assert_index_equal(table.data.index, table.samples.index)
        pd.testing.assert_index_equal(table.data.columns, table.features.index)
        assert (table.data.dtypes == np.int64).all()
        assert (table.data.sum(axis=1) == table.samples["depth"]).all()
        assert table.samples.columns.tolist() == ["batch", "group", "depth"]

    def test_the_facts_of_the_card(self):
        table = load_microbes()
        data, samples, taxa = table.data, table.samples, table.features
        assert (data == 0).to_numpy().mean() == pytest.approx(0.58, abs=0.005)
        assert data.any(axis=0).all()
        assert data.any(axis=1).all()
        assert ((data > 0).mean() >= 0.1).sum() == 87
        assert samples["depth"].agg(["min", "max"]).tolist() == [1528, 22041]
        assert samples.groupby("batch")["depth"].median().tolist() == [12979, 6742, 8453, 2814]
        assert pd.crosstab(samples["batch"], samples["group"]).to_numpy().tolist() == [[19, 6], [6, 19]] * 2
        assert taxa["effect"].value_counts().to_dict() == {0.0: 80, 1.5: 10, -1.5: 10}
        present = taxa.filter(like="present_")
        assert (present.dtypes == np.bool_).all()
        assert (~present).sum().tolist() == [5, 5, 5, 5]
        missed_twice = present.index[(~present).sum(axis=1) == 2]
        assert missed_twice.tolist() == ["taxon034", "taxon050"]
        assert (data.loc[samples["batch"] == "b4", "taxon073"] > 0).sum() == 23
        assert not taxa.loc["taxon073", "present_b4"]
        assert taxa.filter(like="bias_").mean().abs().max() < 1e-6
        assert "BSD-3-Clause" in table.description
