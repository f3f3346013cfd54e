"""Diagnostics: is there a batch effect, can it be removed, was it, and what did that cost?"""

from ..core.forecast import ForecastCurve
from .anova import Permanova, permanova
from .causality import Causality, check_causality
from .design import Block, DesignForecast, design_forecast
from .design_words import Finding
from .effects import FeatureEffects, feature_effects
from .mixing import Lisi, Silhouette, lisi, silhouette
from .spread import Dispersion, dispersion
from .variance import VarianceExplained, variance_explained

__all__ = [
    "Block",
    "Causality",
    "DesignForecast",
    "Dispersion",
    "FeatureEffects",
    "Finding",
    "ForecastCurve",
    "Lisi",
    "Permanova",
    "Silhouette",
    "VarianceExplained",
    "check_causality",
    "design_forecast",
    "dispersion",
    "feature_effects",
    "lisi",
    "permanova",
    "silhouette",
    "variance_explained",
]
