"""segspn: video object segmentation with spatial propagation networks, on a plain CPU.

The public face is lazy: ``import segspn`` costs milliseconds, and torch is loaded on first use.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"

# Of a thread of torch's that waits. By itself it is milliseconds: harmless on an idle machine, but two
# runs side by side took 1.4 s a frame in place of 0.6. So few cost an idle machine nothing that could
# be measured, 2000 a fifth.
_SPINS = "10000"


def _wait_shortly() -> None:
    """Let torch's threads sleep soon when there is nothing to do, unless the user says how they wait.

    By themselves they spin for milliseconds, on cores that OpenCV's threads and other processes need
    between two operations. It is read as torch is loaded: where that has been, nothing is changed.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


_wait_shortly()

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
