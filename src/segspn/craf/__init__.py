"""The connected-region-aware filter (CRAF) and the merge of object scores into one label map.

``build_craf("default", ids)`` makes a filter, ``start(labels)`` gives it the annotated frame and
``step(scores)`` filters one frame after another. Three parameter sets exist: ``default`` (ours),
``release`` (what the authors' published demo does) and ``paper`` (what the paper describes).
"""

from segspn.craf.base import NOTHING, Craf, CrafResult, Pairs, Sight, State, named
from segspn.craf.build import build_craf
from segspn.craf.folder import filter_folder
from segspn.craf.merge import merge
from segspn.craf.params import (
    PARAMETER_SETS,
    CrafParams,
    DefaultParams,
    PaperParams,
    ReleaseParams,
)

__all__ = [
    "NOTHING",
    "PARAMETER_SETS",
    "Craf",
    "CrafParams",
    "CrafResult",
    "DefaultParams",
    "Pairs",
    "PaperParams",
    "ReleaseParams",
    "Sight",
    "State",
    "build_craf",
    "filter_folder",
    "merge",
    "named",
]
