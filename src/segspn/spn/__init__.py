"""Spatial propagation: the three-way, four-direction operator."""

from __future__ import annotations

from segspn.spn.operator import propagate

__all__ = ["propagate"]
