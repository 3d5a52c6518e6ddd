"""Stage 2: one model per object, fine-tuned online, and the appearance memory beside it."""

from __future__ import annotations

from segspn.instance.decoder import Decoder
from segspn.instance.memory import Memory, MemoryConfig
from segspn.instance.model import HeadInstances, InstanceConfig, compete
from segspn.instance.nets import NetInstanceConfig, NetInstances
from segspn.instance.stage import InstanceStage
from segspn.instance.views import SeveralViews, View

__all__ = [
    "Decoder",
    "HeadInstances",
    "InstanceConfig",
    "InstanceStage",
    "Memory",
    "MemoryConfig",
    "NetInstanceConfig",
    "NetInstances",
    "SeveralViews",
    "View",
    "compete",
]
