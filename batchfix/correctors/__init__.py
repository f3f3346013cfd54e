"""Correctors: scikit-learn transformers over the core."""

from .batch import BatchCorrector
from .combat import ComBat
from .linear import LinearCorrector
from .log_ratio import LogRatio

__all__ = ["BatchCorrector", "ComBat", "LinearCorrector", "LogRatio"]
