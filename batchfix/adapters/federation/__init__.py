"""Federated fitting: moments in a small file, checked so that no row can be read off it."""

from .exchange import DisclosureError, load_moments, save_moments

__all__ = ["DisclosureError", "load_moments", "save_moments"]
