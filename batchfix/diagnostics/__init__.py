"""Diagnostics: what a corrector does to a table, checked from outside."""

from .causality import Causality, check_causality

__all__ = ["Causality", "check_causality"]
