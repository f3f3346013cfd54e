"""Tables to try a correction on: real ones that ship with the package, made ones with a known truth.

A loader (``load_*``) reads files that lie beside the package and compares them with the hashes in
their registry. A generator (``make_*``) draws a table from a written-down model, and returns what it
drew beside the table, so that a correction can be judged by how much of it comes back.
"""

from __future__ import annotations

from .lab import LabTable, make_lab
from .markets import MarketTable, make_markets
from .microbes import MicrobeTable, make_microbes
from .shipped import LabelledTable, load_bladder, load_markets, load_microbes

__all__ = [
    "LabTable",
    "LabelledTable",
    "MarketTable",
    "MicrobeTable",
    "load_bladder",
    "load_markets",
    "load_microbes",
    "make_lab",
    "make_markets",
    "make_microbes",
]
