"""Thresholds: from where on a number of an evaluation means something, each with its reason."""

from __future__ import annotations

ALPHA = 0.05

LEFT = 0.01
"""Batch may explain a hundredth of the variance before it matters to anything."""

FEATURES = 0.01
"""Share of the features that batch may still move: at a false discovery rate of 5 % a few come by chance."""

SPREAD = 1.2
"""Batches may scatter this much more than others: a tenth of a standard deviation either way of the mean."""

SPREAD_FEATURES = 0.05

AREA = 0.05
"""An area under the curve may be off by this much, beyond what chance explains; scores of biology may fall by it."""

KEPT = (0.8, 1.5)
"""Biology may stand so much less clear, or clearer, against what nothing explains; so much of its effect be left."""

NEARLY_KEPT = 0.95
"""Less of an effect than this is worth a word."""

TOLD_KEPT = 0.9
"""A corrector that keeps an effect leaves more of it than this, few samples and all."""

GONE = 0.5
"""Where this share of the sum of squares between batches is left, what a model without batch finds is batch too."""

ALIKE = 0.1
"""Where less is left of it, batches were made alike."""

SHARED = 0.05
"""From this rho2 on, batch is predicted from biology alone, and areas tell nothing of the correction."""
