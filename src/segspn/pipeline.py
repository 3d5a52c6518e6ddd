"""``Segmenter`` holds the models of a preset; a `Session` goes through one video with them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from segspn.errors import InputError
from segspn.models import MODELS
from segspn.presets import Preset, load_preset
from segspn.prompts import Prompter
from segspn.session import Result, Session, Stages
from segspn.spn import VideoRefiner

__all__ = ["Result", "Segmenter", "Session", "Stages", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda`` or ``mps``; InputError when absent."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if available[n])
    if name not in available:
        raise InputError(f"unknown device {name!r}; choose one of auto, {', '.join(available)}")
    if not available[name]:
        raise InputError(f"device {name!r} is not available on this machine; use --device cpu")
    return torch.device(name)


class Segmenter:
    """The models of a preset on a device, shared by any number of sessions.

    >>> session = Segmenter("default").session()
    >>> labels = session.annotate(frame0, mask)
    >>> result = session.step(frame1)
    """

    def __init__(self, preset: str | Preset = "default", device: str = "auto") -> None:
        self.preset = load_preset(preset)
        self.device = resolve_device(device)
        self.model = MODELS[self.preset.model](self.preset, self.device)
        self.refiner = self.model.refiner

    def session(self, keep: int = 16) -> Session:
        """A new session, which remembers the last ``keep`` frames so that they can be corrected."""
        return Session(self, keep)

    @cached_property
    def prompter(self) -> Prompter:
        """What turns clicks, boxes and scribbles into masks; loaded when it is first needed."""
        return self.model.prompter(self.device)

    def video_refiner(self, count: int) -> VideoRefiner:
        """A refiner of another tool's masks of one video with ``count`` objects."""
        return VideoRefiner(self.refiner, count)

    def load_session(self, path: str | Path) -> Session:
        """A session as ``save`` left it; it goes on exactly as the saved one would have."""
        return Session.load(path, self)
