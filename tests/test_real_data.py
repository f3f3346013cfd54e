"""Five colorectal cancer studies (MMUPHin): what keeping the label does to a left-out study, and what repairs it.

Needs the tables that BATCHFIX_REAL_DATA points to; they are not part of the project.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import BatchCorrector, ComBat

FOLDER = os.environ.get("BATCHFIX_REAL_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="BATCHFIX_REAL_DATA does not name the folder of the real tables")


@pytest.fixture(scope="module")
def studies():
    """Centred log-ratios of common taxa, where a taxon is present, the study, and who has cancer."""
    shares = pd.read_csv(Path(FOLDER, "mmuphin_crc_abundance.tsv.gz"), sep="\t", index_col=0)
    samples = pd.read_csv(Path(FOLDER, "mmuphin_crc_metadata.tsv.gz"), sep="\t", index_col=0).loc[shares.index]
    shares = shares.to_numpy()[:, (shares > 0).mean() >= 0.1]
    present = shares > 0
    shares = shares / shares.sum(axis=1, keepdims=True)
    logs = np.log(np.where(present, shares, shares[present].min() / 2))
    cancer = (samples["study_condition"] == "CRC").to_numpy()
    return logs - logs.mean(axis=1, keepdims=True), present, samples["studyID"].to_numpy(), cancer


def left_out_auc(X, study, cancer):
    """Mean over studies of the AUC of a linear classifier that was trained on the other studies."""
    aucs = []
    for one in np.unique(study):
        test = study == one
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
        model.fit(X[~test], cancer[~test])
        aucs.append(roc_auc_score(cancer[test], model.decision_function(X[test])))
    return float(np.mean(aucs))


def test_published_figures_come_back(studies):
    X, _, study, cancer = studies
    assert left_out_auc(X, study, cancer) == pytest.approx(0.792, abs=5e-4)
    located = BatchCorrector(scale=None).fit_transform(X, batch=study)
    assert left_out_auc(located, study, cancer) == pytest.approx(0.792, abs=5e-4)
    assert left_out_auc(ComBat().fit_transform(X, batch=study), study, cancer) == pytest.approx(0.788, abs=5e-4)


def test_the_guard_repairs_what_keeping_the_label_breaks(studies):
    X, present, study, cancer = studies
    label = np.where(cancer, "cancer", "control")
    bare = ComBat().fit_transform(X, batch=study, keep=label)
    assert left_out_auc(bare, study, cancer) == pytest.approx(0.699, abs=5e-4)
    guarded = ComBat(scale_guard=0.2).fit_transform(X, batch=study, keep=label, scale_where=present)
    assert left_out_auc(guarded, study, cancer) > 0.79
