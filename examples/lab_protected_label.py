"""A label that is protected while the correction is learned, and unknown when it is applied.

Disease is commoner in some batches. A correction that does not know it takes a part of it for a batch effect; one that
is told, and uses a row's own label to correct that row (as sva does), cannot correct the patient to be diagnosed.
Here the label is kept while the batch effects are estimated (`keep_y=True`), and every row is then mapped without its
own (`keep_at_transform=False`).

A batch's offset still carries the labels of the batch's training rows. So that this cannot flatter a classifier, score
within batches, or hold out whole batches. The check: on permuted labels, the score must be a coin's.
"""

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import ComBat
from batchfix.datasets import make_lab
from batchfix.exceptions import AdaptationWarning

lab = make_lab(
    n_samples=300, n_features=100, n_batches=5, batch_shift=2.0, effect_size=0.4, confounding=0.4, random_state=0
)
table = lab.data.assign(batch=lab.batch)
disease = (lab.group == "case").astype(int)

# A held-out batch is learned from its own rows when it comes (handle_unknown="adapt"), without their labels. The
# corrector warns that a difference in composition is then taken for a batch effect: here we accept that.
warnings.simplefilter("ignore", AdaptationWarning)
correct = ComBat(batch_key="batch", keep_y=True, keep_at_transform=False, handle_unknown="adapt")
careless = ComBat(batch_key="batch")
model = make_pipeline(correct, StandardScaler(), LogisticRegression(C=0.01))


def share_kept(corrector):
    """Slope of the measured effects of disease on the true ones: 1 if they come through whole."""
    corrected = corrector.fit(table, disease).transform(table)  # transform is not told who is ill
    measured = corrected[disease == 1].mean() - corrected[disease == 0].mean()
    active = lab.effect != 0
    return np.polyfit(lab.effect[active], measured[active], deg=1)[0]


def auc_new_batches(y):
    """Leave one batch out: how well the next batch is classified."""
    how = {"cv": LeaveOneGroupOut(), "groups": lab.batch, "scoring": "roc_auc", "error_score": "raise"}
    return cross_val_score(model, table, y, **how).mean()


def auc_within_batches(y):
    """Leave out a fifth of every batch, compare patients of one batch: how well known batches are classified."""
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0).split(table, lab.batch + y.astype(str))
    risk = cross_val_predict(model, table, y, cv=list(folds), method="predict_proba")[:, 1]
    return np.mean([roc_auc_score(y[lab.batch == b], risk[lab.batch == b]) for b in lab.batch.unique()])


rng = np.random.default_rng(0)
permuted = disease.groupby(lab.batch).transform(rng.permutation)

kept, kept_carelessly = share_kept(correct), share_kept(careless)
new, within, coin = auc_new_batches(disease), auc_within_batches(disease), auc_within_batches(permuted)
assert abs(kept - 1) < 0.1
assert kept_carelessly < 0.9
assert new > 0.7
assert within > 0.7
assert abs(coin - 0.5) < 0.1
print(f"Share of the effect of disease that is left: {kept:.2f}; without keep_y {kept_carelessly:.2f}")
print(f"AUC in new batches {new:.2f}, within known batches {within:.2f}, within batches on permuted labels {coin:.2f}")
