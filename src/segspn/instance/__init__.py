"""Stage 2: one model per object, fine-tuned online, and the appearance memory beside it."""

from __future__ import annotations

from segspn.instance.memory import Memory, MemoryConfig
from segspn.instance.model import InstanceConfig, InstanceStage, compete

__all__ = ["InstanceConfig", "InstanceStage", "Memory", "MemoryConfig", "compete"]
