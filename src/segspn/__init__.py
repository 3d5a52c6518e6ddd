"""segspn: video object segmentation with spatial propagation networks, on a plain CPU.

The public face is lazy: ``import segspn`` costs milliseconds, and torch is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# name -> module that defines it
_PUBLIC = {
    "InputError": "segspn.errors",
    "Preset": "segspn.presets",
    "load_preset": "segspn.presets",
    "Segmenter": "segspn.pipeline",
    "Session": "segspn.pipeline",
    "Result": "segspn.pipeline",
    "propagate": "segspn.spn",
    "refine": "segspn.spn",
    "refine_video": "segspn.jobs",
    "segment_video": "segspn.jobs",
    "to_supervision": "segspn.tracks",
    "evaluate_davis": "segspn.evaluation",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'segspn' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
