"""Displays: pictures of a table before and after its correction, in scikit-learn's manner.

Tables, labels or results of `batchfix.diagnostics` flow in by a display's ``from_...``; axes and a figure flow out, and
a sentence on what is seen by ``describe()``. Numbers are those of the functions of the same name.
"""

from __future__ import annotations

from .components import ComponentsDisplay
from .design import DesignDisplay
from .effects import FeatureEffectsDisplay
from .expression import RelativeLogExpressionDisplay
from .forecast import ForecastDisplay
from .pca import PCADisplay
from .sectors import SectorIndexDisplay
from .variance import VarianceDisplay

__all__ = [
    "ComponentsDisplay",
    "DesignDisplay",
    "FeatureEffectsDisplay",
    "ForecastDisplay",
    "PCADisplay",
    "RelativeLogExpressionDisplay",
    "SectorIndexDisplay",
    "VarianceDisplay",
]
