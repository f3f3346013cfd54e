"""The report: what the diagnostics found, in one HTML file that stands alone.

A table before and after its correction, labels and perhaps the corrector flow in; a page for a person flows out, and
the same as Markdown and JSON. Needs matplotlib and jinja2: the extra `report`.
"""

from __future__ import annotations

from .report import Report

__all__ = ["Report"]
