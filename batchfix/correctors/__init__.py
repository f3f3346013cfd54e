"""Correctors: scikit-learn transformers over the core."""

from .batch import BatchCorrector
from .combat import ComBat
from .compositional import CompositionalCorrector
from .linear import LinearCorrector
from .log_ratio import LogRatio

__all__ = ["BatchCorrector", "ComBat", "CompositionalCorrector", "LinearCorrector", "LogRatio"]
