"""Training data: stills with object masks, and synthetic clips made from them."""

from __future__ import annotations

from segspn.data.clips import Clip, ClipConfig, draw_clip
from segspn.data.stills import Still, Stills
from segspn.data.synthetic import Motion, Scene, View, bend, draw_lines

__all__ = [
    "Clip",
    "ClipConfig",
    "Motion",
    "Scene",
    "Still",
    "Stills",
    "View",
    "bend",
    "draw_clip",
    "draw_lines",
]
