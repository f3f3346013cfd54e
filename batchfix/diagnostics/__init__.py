"""Diagnostics: whether there is a batch effect, can be removed, was, and what that cost.

Pictures are in `batchfix.diagnostics.displays`; a page of them, with the numbers, is a `Report`.
"""

from ..core.forecast import ForecastCurve
from .anova import Permanova, permanova
from .causality import Causality, check_causality
from .design import Block, DesignForecast, design_forecast
from .design_words import Finding
from .distance_comparison import DistanceComparison
from .effects import FeatureEffects, feature_effects
from .evaluation import Evaluation, evaluate
from .group_effects import GroupEffects, group_effects
from .mixing import Lisi, Silhouette, lisi, silhouette
from .placebo import Placebo, placebo_test
from .predictability import BatchPredictability, batch_predictability
from .report import Report
from .sections import BatchVariance, Biology, Features, Missing, Mixing
from .spread import Dispersion, dispersion
from .validation import LeaveOneBatchOut, leave_one_batch_out
from .variance import VarianceExplained, variance_explained

__all__ = [
    "BatchPredictability",
    "BatchVariance",
    "Biology",
    "Block",
    "Causality",
    "DesignForecast",
    "Dispersion",
    "DistanceComparison",
    "Evaluation",
    "FeatureEffects",
    "Features",
    "Finding",
    "ForecastCurve",
    "GroupEffects",
    "LeaveOneBatchOut",
    "Lisi",
    "Missing",
    "Mixing",
    "Permanova",
    "Placebo",
    "Report",
    "Silhouette",
    "VarianceExplained",
    "batch_predictability",
    "check_causality",
    "design_forecast",
    "dispersion",
    "evaluate",
    "feature_effects",
    "group_effects",
    "leave_one_batch_out",
    "lisi",
    "permanova",
    "placebo_test",
    "silhouette",
    "variance_explained",
]
