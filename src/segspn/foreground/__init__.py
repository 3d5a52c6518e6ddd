"""Stage 1: what is foreground. The parent net, its online adaptation, and the augmented copies."""

from __future__ import annotations

from segspn.foreground.augment import AugmentConfig, Samples, Shot, augmented_copies
from segspn.foreground.finetune import FineTuneConfig
from segspn.foreground.heads import FitConfig, HeadBank
from segspn.foreground.model import ForegroundConfig, HeadForeground, embed, matching_keys
from segspn.foreground.parent import Matcher, ParentNet
from segspn.foreground.resnetf import NetForeground, NetForegroundConfig, ResNetF
from segspn.foreground.stage import ForegroundStage

__all__ = [
    "AugmentConfig",
    "FineTuneConfig",
    "FitConfig",
    "ForegroundConfig",
    "ForegroundStage",
    "HeadBank",
    "HeadForeground",
    "Matcher",
    "NetForeground",
    "NetForegroundConfig",
    "ParentNet",
    "ResNetF",
    "Samples",
    "Shot",
    "augmented_copies",
    "embed",
    "matching_keys",
]
