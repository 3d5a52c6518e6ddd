"""Spatial propagation: the three-way, four-direction operator."""

from __future__ import annotations

from segspn.spn.guidance import LightGuidance
from segspn.spn.operator import propagate
from segspn.spn.refiner import Propagation, SpnRefiner
from segspn.spn.single import refine

__all__ = ["LightGuidance", "Propagation", "SpnRefiner", "propagate", "refine"]
