"""Stage 1: what is foreground. The parent net, its online adaptation, and the augmented copies."""

from __future__ import annotations

from segspn.foreground.augment import AugmentConfig, augmented_copies
from segspn.foreground.heads import FitConfig, HeadBank
from segspn.foreground.model import ForegroundConfig, ForegroundStage, embed
from segspn.foreground.parent import ParentNet

__all__ = [
    "AugmentConfig",
    "FitConfig",
    "ForegroundConfig",
    "ForegroundStage",
    "HeadBank",
    "ParentNet",
    "augmented_copies",
    "embed",
]
