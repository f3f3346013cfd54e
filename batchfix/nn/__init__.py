"""Normalization layers for torch: the corrections of batchfix, inside a network.

Every layer is the same sentence as the estimators: choose which cells share statistics, estimate their moments, map
them affinely. torch's own layers stand beside ours, unwrapped, so that one namespace holds the vocabulary.
"""

try:
    import torch  # noqa: F401  # only to say what is missing
except ImportError as _error:
    raise ImportError("batchfix.nn needs torch: pip install 'batchfix[torch]'") from _error

from torch.nn import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
)

from . import functional
from .adapt import adapt
from .conditional import (
    AdaptiveInstanceNorm,
    ConditionalBatchNorm1d,
    ConditionalBatchNorm2d,
    ConditionalBatchNorm3d,
    DomainBatchNorm1d,
    DomainBatchNorm2d,
    DomainBatchNorm3d,
)
from .convert import convert
from .freeze import freeze, unfreeze
from .group import FeatureGroupNorm, HeadNorm
from .recomputation import recomputation
from .renorm import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    InstanceRenorm1d,
    InstanceRenorm2d,
    InstanceRenorm3d,
)
from .schedule import Schedule
from .sync import SyncBatchRenorm1d, SyncBatchRenorm2d, SyncBatchRenorm3d, convert_sync_batchrenorm

__all__ = [
    "AdaptiveInstanceNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "ConditionalBatchNorm1d",
    "ConditionalBatchNorm2d",
    "ConditionalBatchNorm3d",
    "DomainBatchNorm1d",
    "DomainBatchNorm2d",
    "DomainBatchNorm3d",
    "FeatureGroupNorm",
    "GroupNorm",
    "HeadNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "InstanceRenorm1d",
    "InstanceRenorm2d",
    "InstanceRenorm3d",
    "LayerNorm",
    "Schedule",
    "SyncBatchRenorm1d",
    "SyncBatchRenorm2d",
    "SyncBatchRenorm3d",
    "adapt",
    "convert",
    "convert_sync_batchrenorm",
    "freeze",
    "functional",
    "recomputation",
    "unfreeze",
]
