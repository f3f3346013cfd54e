"""Every error and warning of the library.

An error caused by the input is a `BatchfixError`, hence a `ValueError`. A
doubtful result is reported by a subclass of `BatchfixWarning`. Each message says
what must hold, what came, and what to do.
"""

from __future__ import annotations


class BatchfixError(ValueError):
    """The input cannot be corrected as asked."""


class AlignmentError(BatchfixError):
    """Labels and rows do not belong together: wrong length, or another index."""


class AmbiguousKeepError(BatchfixError):
    """An integer-coded column could be a factor or a number, and nobody said which."""


class ConfoundedDesignError(BatchfixError):
    """Batch and something to keep cannot be told apart from these rows."""


class MergeError(BatchfixError):
    """Two sets of statistics cannot be added."""


class MissingLabelError(BatchfixError):
    """A row has no batch label, or no value of a column that must be kept."""


class TooFewFeaturesError(BatchfixError):
    """A prior across features was asked of fewer than two features."""


class TooFewSamplesError(BatchfixError):
    """There are not enough rows to estimate what was asked."""


class UnknownBatchError(BatchfixError):
    """A row belongs to a batch that was not seen in fit."""


class UnknownLevelError(BatchfixError):
    """A kept or nuisance factor has a level that was not seen in fit."""


class UnmergeableError(MergeError, AttributeError):
    """These statistics do not add up, so the method that would add them is absent."""


class BatchfixWarning(UserWarning):
    """A result that deserves a second look."""


class AdaptationWarning(BatchfixWarning):
    """A new batch was learned from thin evidence."""


class ConstantFeatureWarning(BatchfixWarning):
    """Features without spread were not corrected, or only located."""


class ConvergenceWarning(BatchfixWarning):
    """An iteration stopped before it settled."""


class CopyWarning(BatchfixWarning):
    """`copy=False` could not be honoured."""


class DataScaleWarning(BatchfixWarning):
    """The values look like counts, unlogged intensities or percentages."""


class DenseWarning(BatchfixWarning):
    """A sparse matrix becomes dense, which takes room."""


class DroppedStatisticsWarning(BatchfixWarning):
    """A layer's running statistics have no place in the layer that replaces it."""


class PseudocountWarning(BatchfixWarning):
    """A pseudocount stands for zeros, and makes an effect of sequencing depth."""


class EstimabilityWarning(BatchfixWarning):
    """Some effects of some features cannot be estimated from the observed rows."""


class MissingFeatureWarning(BatchfixWarning):
    """A feature has no observed value in some batch."""


class NothingToCorrectWarning(BatchfixWarning):
    """There are no two batches to bring together."""


class SingletonBatchWarning(BatchfixWarning):
    """A batch has one sample, which has no spread of its own."""
