"""Training data: stills and videos with object masks, and synthetic clips made from them."""

from __future__ import annotations

from segspn.data.clips import Clip, ClipConfig, draw_clip
from segspn.data.sources import DataConfig, open_data
from segspn.data.stills import Still, Stills, Video
from segspn.data.synthetic import Motion, Scene, View, bend, draw_lines

__all__ = [
    "Clip",
    "ClipConfig",
    "DataConfig",
    "Motion",
    "Scene",
    "Still",
    "Stills",
    "Video",
    "View",
    "bend",
    "draw_clip",
    "draw_lines",
    "open_data",
]
