"""Spatial propagation: the three-way, four-direction operator."""

from __future__ import annotations

from segspn.spn.evidence import MaskEvidence
from segspn.spn.guidance import LightGuidance
from segspn.spn.operator import propagate
from segspn.spn.refiner import Propagation, SpnRefiner
from segspn.spn.single import refine
from segspn.spn.tiles import propagate_tiles
from segspn.spn.video import VideoRefiner

__all__ = [
    "LightGuidance",
    "MaskEvidence",
    "Propagation",
    "SpnRefiner",
    "VideoRefiner",
    "propagate",
    "propagate_tiles",
    "refine",
]
