"""Five colorectal cancer studies (MMUPHin's table): what the diagnostics say of corrections that are known.

Needs the tables that BATCHFIX_REAL_DATA points to; they are not part of the project.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix import ComBat, CompositionalCorrector, LogRatio
from batchfix.core.simplex import closure
from batchfix.diagnostics.evaluation import evaluate
from batchfix.diagnostics.placebo import placebo_test

FOLDER = os.environ.get("BATCHFIX_REAL_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="BATCHFIX_REAL_DATA does not name the folder of the real tables")


@pytest.fixture(scope="module")
def crc():
    shares = pd.read_csv(Path(FOLDER, "mmuphin_crc_abundance.tsv.gz"), sep="\t", index_col=0)
    samples = pd.read_csv(Path(FOLDER, "mmuphin_crc_metadata.tsv.gz"), sep="\t", index_col=0).loc[shares.index]
    common = shares.loc[:, (shares > 0).mean() >= 0.1]
    table = pd.DataFrame(closure(common.to_numpy()), common.index, common.columns)
    return table, samples["studyID"], samples["study_condition"]


def test_the_placebo_test_flags_combat_told_the_label(crc):
    table, study, condition = crc
    found = placebo_test(ComBat(), LogRatio().fit_transform(table), study, condition)
    assert found.verdict == "inverted"
    assert found.auc["linear"] < 0.47
    assert found.per_batch["linear"].idxmin() == "HanniganGD_2017"


@pytest.mark.parametrize("corrector", [CompositionalCorrector(), CompositionalCorrector(ComBat())], ids=str)
def test_and_passes_location_only_and_the_guard(crc, corrector):
    table, study, condition = crc
    found = placebo_test(corrector, table, study, condition)
    assert found.verdict == "fine", str(found)
    assert found.auc["linear"] == pytest.approx(0.5, abs=0.03)


def test_the_evaluation_of_location_only(crc):
    table, study, condition = crc
    found = evaluate(table, corrector=CompositionalCorrector(), batch=study, keep=condition, fast=True)
    # the figures to compare with are known to three decimals: half a unit of the last
    assert pytest.approx(0.083, abs=5e-4) == found.batch_variance.before.R2
    assert pytest.approx(0.010, abs=5e-4) == found.biology["study_condition"].before.R2
    assert found.batch_variance.held_out.left == pytest.approx(0.0, abs=0.005)
    assert found.location == found.over == ()
    assert found.scale  # taxa are near-absent from some studies: location cannot mend that
    assert found.predictability.before.linear > 0.95
    assert found.predictability.after.linear == pytest.approx(0.5, abs=0.05)
    transfer = found.leave_one_batch_out["study_condition"]
    assert transfer.before["linear"] == pytest.approx(0.792, abs=0.02)
    assert transfer.after["linear"] >= transfer.before["linear"] - 0.01
    assert np.isfinite(found.to_frame()["after"]).all()
