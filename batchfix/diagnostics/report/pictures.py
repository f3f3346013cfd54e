"""Pictures: the displays of a report, each with what to look for in it, or the sentence why it cannot be drawn.

Tables, labels and an evaluation flow in; pictures flow out by the section they stand in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...exceptions import BatchfixError
from ..design import DesignForecast
from ..effects import FeatureEffects
from ..evaluation import Evaluation
from .document import Picture

if TYPE_CHECKING:
    from ..displays.canvas import Display
    from .findings import Tables

MOST_COLUMNS = 4
"""Kept columns that have pictures of their own."""


class Album:
    """Pictures by section; those that could not be drawn are sentences."""

    def __init__(self, tables: Tables | None, found: Evaluation) -> None:
        self.pictures: dict[str, list[Picture]] = {}
        self.missing: dict[str, list[str]] = {}
        self._of_forecast(found)
        if tables is not None:
            self._of_tables(tables)
        self._of_features(found)

    def of(self, section: str) -> tuple[Picture, ...]:
        """Those of a section."""
        return tuple(self.pictures.get(section, ()))

    def not_drawn(self, section: str) -> tuple[str, ...]:
        """Why others of it could not be drawn."""
        return tuple(self.missing.get(section, ()))

    def _add(self, section: str, title: str, look_for: str, draw: Callable[[], Display]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a picture warns of, the number beside it has noted
            try:
                self.pictures.setdefault(section, []).append(Picture(draw(), title, look_for))
            except BatchfixError as error:
                self.missing.setdefault(section, []).append(f"{title} could not be drawn. {error}")

    def _of_forecast(self, found: Evaluation) -> None:
        from ..displays import DesignDisplay, ForecastDisplay

        forecast = found.forecast
        if not isinstance(forecast, DesignForecast):
            return
        for name in list(forecast.tables)[:MOST_COLUMNS]:
            self._add(
                "forecast",
                f"Samples by batch and {name}",
                "Empty cells and one-sided rows are where batch and biology are hard to tell apart."
                if name in forecast.blocks
                else "Where the means of batches differ, batch and biology are hard to tell apart.",
                lambda name=name: DesignDisplay.from_forecast(forecast, column=name),  # type: ignore[misc]  # one a loop
            )
        self._add(
            "forecast",
            "What the design costs",
            "Further right is worse; each mark is a comparison of this design.",
            lambda: ForecastDisplay.from_forecast(forecast),
        )

    def _of_tables(self, tables: Tables) -> None:
        from ..displays import ComponentsDisplay, PCADisplay, RelativeLogExpressionDisplay, VarianceDisplay

        both = (tables.before, tables.after)
        kept = None if tables.keep is None else tables.keep.iloc[:, :MOST_COLUMNS]
        labels = {"batch": tables.batch, "keep": kept}
        self._add(
            "samples",
            "Principal components",
            "Batches should lie on top of each other, and levels of what is kept as far apart as before. Axes are "
            "those of the table before, in all panels.",
            lambda: PCADisplay.from_tables(*both, **labels),
        )
        self._add(
            "samples",
            "What each component is about",
            "After a correction, batch should be in none of the large components, beyond what it shares with what is "
            "kept. Each table has components of its own.",
            lambda: ComponentsDisplay.from_tables(*both, **labels),
        )
        self._add(
            "samples",
            "Sample by sample",
            "Boxes should lie around 0 and be of one size; batches that lie off were shifted, wide ones are noisier.",
            lambda: RelativeLogExpressionDisplay.from_tables(*both, batch=tables.batch),
        )
        self._add(
            "batch_variance",
            "Shares of variance",
            "Each beyond the others. In corrected samples the share of batch is 0 by construction.",
            lambda: VarianceDisplay.from_tables(*both, batch=tables.batch, keep=tables.keep),
        )

    def _of_features(self, found: Evaluation) -> None:
        from ..displays import FeatureEffectsDisplay

        effects = {
            when: each
            for when in ("before", "after")
            if isinstance(each := getattr(found.features, when), FeatureEffects)
        }
        if len(effects) == 2 and not effects["before"].table.index.equals(effects["after"].table.index):
            del effects["after"]  # other features: log-ratios, say
        if effects:
            self._add(
                "features",
                "Batch, feature by feature",
                "The line should fall to the floor; features that stay up are the ones to look at.",
                lambda: FeatureEffectsDisplay(effects, top=10).plot(),
            )
