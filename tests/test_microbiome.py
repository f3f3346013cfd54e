"""Five colorectal cancer studies (MMUPHin's table): what correcting compositions does to batch and to biology.

Needs the tables that BATCHFIX_REAL_DATA points to; they are not part of the project.

R2 is PERMANOVA's, the share of squared distances that a factor adds to the other one. AUC is of a left-out study, in a
pipeline that has never seen it and learns its batch effect from its unlabelled samples.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector, LogRatio
from batchfix.core.simplex import closure

FOLDER = os.environ.get("BATCHFIX_REAL_DATA")
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="BATCHFIX_REAL_DATA does not name the folder of the real tables"),
    # taxa that a study lacks are NaN among robust log-ratios; what is known of the others stands in
    pytest.mark.filterwarnings("ignore::batchfix.exceptions.MissingFeatureWarning"),
]
LEAVE_ONE_STUDY_OUT = {"cv": LeaveOneGroupOut(), "error_score": "raise"}


@pytest.fixture(scope="module")
def crc():
    """Proportions of taxa found in a tenth of the samples, with the column "study"; the study; who has cancer."""
    shares = pd.read_csv(Path(FOLDER, "mmuphin_crc_abundance.tsv.gz"), sep="\t", index_col=0)
    samples = pd.read_csv(Path(FOLDER, "mmuphin_crc_metadata.tsv.gz"), sep="\t", index_col=0).loc[shares.index]
    common = shares.loc[:, (shares > 0).mean() >= 0.1]
    table = pd.DataFrame(closure(common.to_numpy()), common.index, common.columns)
    return table, samples["studyID"].to_numpy(), (samples["study_condition"] == "CRC").to_numpy()


def linear():
    return StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)


def gram(distances):
    """Inner products of centred points with these distances."""
    squares = -0.5 * squareform(distances) ** 2
    return squares - squares.mean(axis=0) - squares.mean(axis=1)[:, None] + squares.mean()


def permanova(inner, *factors):
    """Marginal R2 of each factor: what it adds to the sum of squares that the others explain."""

    def explained(some):
        design = np.column_stack([np.ones(len(inner)), *(pd.get_dummies(f).to_numpy(float)[:, 1:] for f in some)])
        q = np.linalg.qr(design)[0]
        return np.sum((q.T @ inner) * q.T)

    whole = explained(factors)
    rest = [explained([f for f in factors if f is not one]) for one in factors]
    return (whole - np.array(rest)) / np.trace(inner)


def aitchison(ratios):
    centred = ratios - ratios.mean(axis=0)
    return centred @ centred.T


def bray_curtis(table, *factors):
    return permanova(gram(pdist(closure(np.asarray(table)), "braycurtis")), *factors)


# ---- a study left out


def test_a_left_out_study_is_predicted_as_well_as_without_correction(crc):
    table, study, cancer = crc
    with_study = table.assign(study=study)

    def score(first, X):
        model = make_pipeline(first, *linear())
        found = cross_validate(
            model, X, cancer, groups=study, scoring=("roc_auc", "balanced_accuracy"), **LEAVE_ONE_STUDY_OUT
        )
        return found["test_roc_auc"].mean(), found["test_balanced_accuracy"].mean()

    raw, _ = score(LogRatio(), table)
    assert raw == pytest.approx(0.792, abs=1e-3)
    auc, balanced = score(CompositionalCorrector(batch_key="study", handle_unknown="adapt"), with_study)
    assert auc >= 0.792 - 0.005
    assert balanced > 0.70
    for corrector in (ComBat(), BatchCorrector()):
        auc, _ = score(CompositionalCorrector(corrector, batch_key="study", handle_unknown="adapt"), with_study)
        assert auc >= 0.792 - 0.005


def test_so_does_a_forest(crc):
    table, study, cancer = crc
    aucs = []
    for seed in range(3):
        forest = RandomForestClassifier(
            300, class_weight="balanced_subsample", min_samples_leaf=2, random_state=seed, n_jobs=2
        )
        model = make_pipeline(CompositionalCorrector(batch_key="study", handle_unknown="adapt"), forest)
        found = cross_validate(
            model, table.assign(study=study), cancer, groups=study, scoring="roc_auc", **LEAVE_ONE_STUDY_OUT
        )
        aucs.append(found["test_score"].mean())
    assert np.mean(aucs) >= 0.77


# ---- what is left of batch and biology


def test_biology_stays_and_batch_goes(crc):
    table, study, cancer = crc
    batch, biology = permanova(aitchison(LogRatio().fit_transform(table)), study, cancer)
    assert batch == pytest.approx(0.083, abs=5e-4)
    assert biology == pytest.approx(0.010, abs=5e-4)
    batch, biology = permanova(
        aitchison(CompositionalCorrector().fit_transform(table.to_numpy(), batch=study)), study, cancer
    )
    assert batch < 0.001
    assert biology >= 0.0105


def test_batch_is_gone_from_samples_that_the_fit_has_not_seen(crc):
    """Fitted on half of each study, measured on the other half: as much is left as chance leaves, 2 (B - 1) / n."""
    table, study, cancer = crc
    left = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rank = pd.Series(rng.random(len(study))).groupby(study).rank(pct=True).to_numpy()
        seen = rank <= 0.5
        model = CompositionalCorrector().fit(table[seen], batch=study[seen])
        corrected = model.transform(table[~seen], batch=study[~seen]).to_numpy()
        left.append(permanova(aitchison(corrected), study[~seen], cancer[~seen])[0])
    noise = 2 * 4 / (~seen).sum()
    assert np.mean(left) == pytest.approx(noise, abs=0.01)


@pytest.mark.parametrize(
    ("corrector", "limit"), [(None, 0.045), (BatchCorrector(), 0.033), (ComBat(scale_guard=0.05), 0.033)], ids=str
)
def test_every_zero_kept(crc, corrector, limit):
    table, study, cancer = crc
    assert bray_curtis(table, study, cancer)[0] == pytest.approx(0.080, abs=1e-3)
    model = CompositionalCorrector(corrector, output="abundance")
    corrected = model.fit_transform(table, batch=study)
    found = model.audit(table, corrected)
    assert (found.zeros_filled, found.positives_zeroed) == (0, 0)
    assert found.depth_restored
    batch, biology = bray_curtis(corrected, study, cancer)
    assert batch <= limit
    assert biology >= 0.0081


# ---- nothing to be found: labels shuffled within studies


def shuffled(study, cancer, times):
    for seed in range(times):
        rng = np.random.default_rng(seed)
        labels = cancer.copy()
        for one in np.unique(study):
            rows = np.flatnonzero(study == one)
            labels[rows] = labels[rng.permutation(rows)]
        yield labels


def auc_within(scores, study, labels):
    return np.mean([roc_auc_score(labels[study == s], scores[study == s]) for s in np.unique(study)])


def left_out(X, study, labels):
    """AUC within the left-out study of a model of the others; X was corrected as a whole."""
    scores = np.empty(len(study))
    for one in np.unique(study):
        test = study == one
        model = make_pipeline(*linear()).fit(X[~test], labels[~test])
        scores[test] = model.decision_function(X[test])
    return auc_within(scores, study, labels)


@pytest.mark.parametrize(
    ("corrector", "how"),
    [
        (None, {}),
        (None, {"transform": "ilr"}),
        (None, {"output": "abundance"}),
        (ComBat(), {}),
        (BatchCorrector(), {"output": "abundance"}),
        (LinearCorrector(), {}),
        (BatchCorrector(scale=None, keep_y=True, keep_at_transform=False), {}),
        (ComBat(keep_y=True, keep_at_transform=False), {}),
        (BatchCorrector(keep_y=True, keep_at_transform=False), {}),
        (BatchCorrector(keep_y=True, keep_at_transform=False), {"output": "abundance"}),
    ],
    ids=str,
)
def test_inside_the_pipeline_nothing_is_found(crc, corrector, how):
    table, study, cancer = crc
    model = make_pipeline(CompositionalCorrector(corrector, batch_key="study", **how), *linear())
    aucs = []
    for seed, labels in enumerate(shuffled(study, cancer, 20)):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        scores = cross_val_predict(model, table.assign(study=study), labels, cv=folds, method="decision_function")
        aucs.append(auc_within(scores, study, labels))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("output", ["log_ratio", "abundance"])
@pytest.mark.parametrize("corrector", [None, ComBat(), BatchCorrector()], ids=str)
def test_with_every_label_told_nothing_is_found(crc, corrector, output):
    """The whole table corrected with every label, as papers do."""
    table, study, cancer = crc
    aucs = []
    for labels in shuffled(study, cancer, 20):
        keep = np.where(labels, "cancer", "control")
        X = CompositionalCorrector(corrector, output=output).fit_transform(table.to_numpy(), batch=study, keep=keep)
        aucs.append(left_out(X if output == "log_ratio" else np.sqrt(X), study, labels))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


def test_without_the_guard_something_is_found_and_it_is_upside_down(crc):
    table, study, cancer = crc
    ratios = LogRatio().fit_transform(table.to_numpy())
    aucs = []
    for labels in shuffled(study, cancer, 20):
        X = ComBat().fit_transform(ratios, batch=study, keep=np.where(labels, "cancer", "control"))
        aucs.append(left_out(X, study, labels))
    assert np.mean(aucs) < 0.45
