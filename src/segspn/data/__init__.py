"""Training data: stills with object masks, and synthetic scenes made from them."""

from __future__ import annotations

from segspn.data.stills import Still, Stills
from segspn.data.synthetic import Motion, Scene, View, bend, draw_lines

__all__ = ["Motion", "Scene", "Still", "Stills", "View", "bend", "draw_lines"]
