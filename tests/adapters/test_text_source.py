"""Text files as sources: a key that names no column is named where its column was read as a measurement."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix import LinearCorrector, fit_blocks, transform_blocks
from batchfix.adapters.tables import TableError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"run": list("abab"), "group": list("ccdd"), "f1": [1.0, 2, 3, 5], "f2": [2.0, 2, 3, 4]})
    frame.set_axis(pd.Index(list("wxyz"), name="id")).to_csv(tmp_path / "a.csv")
    return tmp_path / "a.csv"


def test_a_misspelt_key_is_named(table: Path) -> None:
    with pytest.raises(TableError, match=r"^Key 'rum' names no column of '.*a.csv' \(did you mean 'run'\?\)\. "):
        fit_blocks(LinearCorrector(batch_key="rum", keep_keys=["group"]), table)


def test_the_ids_are_no_misspelt_key(table: Path) -> None:
    with pytest.raises(
        TableError, match=r"^Every column of '.*a.csv' but the ids must hold numbers, and 'run', 'group' hold text"
    ):
        fit_blocks(LinearCorrector(batch_key="id"), table)


def test_what_is_kept_need_not_be_there_to_transform(table: Path) -> None:
    corrector = fit_blocks(LinearCorrector(batch_key="run", keep_keys=["group"]), table)
    frame = pd.read_csv(table, index_col=0).drop(columns="group")
    frame.to_csv(table)
    (block,) = transform_blocks(corrector, table)
    np.testing.assert_array_equal(block, corrector.transform(frame))
