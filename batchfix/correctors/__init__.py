"""Correctors: scikit-learn transformers over the core."""

from .batch import BatchCorrector
from .combat import ComBat
from .linear import LinearCorrector

__all__ = ["BatchCorrector", "ComBat", "LinearCorrector"]
