"""All that the app asks of segspn's networks, in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from segspn.app.turns import Turns

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter
    from segspn.presets import Preset
    from segspn.prompts.prompter import Look

_HALF = 0.5


@dataclass(frozen=True)
class Prompt:
    """What a user pointed at on one frame, in its pixels.

    ``box`` (x0, y0, x1, y1) around the object; ``points`` (x, y, True on the object, False beside).
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()


class Tracked(Protocol):
    """``labels`` int32 (H, W); ``scores`` float32 (N, H, W) in 0..1, in the order of ``ids``; ``cut``:
    the frame shows another scene than the one before it."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def cut(self) -> bool: ...


class Tracker(Protocol):
    """Follows objects through frames, uint8 (H, W, 3), that come in order, forward or backward."""

    def annotate(self, frame: np.ndarray, masks: Mapping[int, np.ndarray]) -> None:
        """Learn from the frame stepped to last, or from frames before the first step.

        ``masks``: object -> bool (H, W), all false where it is not visible. Others are left alone.
        """

    def step(self, frame: np.ndarray) -> Tracked:
        """The objects in the next frame."""


class Engine(Protocol):
    """Makes trackers, and masks from prompts; whoever uses either holds ``turns``."""

    turns: Turns

    def warm(self) -> None:
        """Do once what would make the first answer slow."""

    def tracker(self) -> Tracker: ...

    def mask(
        self, frame: np.ndarray, prompt: Prompt, previous: np.ndarray | None
    ) -> np.ndarray:
        """The object pointed at, bool (H, W); ``previous`` the mask that clicks correct, if any."""


class Networks:
    """The engine of a preset, loaded when it is needed first."""

    def __init__(self, preset: str | Preset = "default", device: str = "auto") -> None:
        self.turns = Turns()
        self._preset, self._device = preset, device
        self._loaded: Segmenter | None = None
        self._look: tuple[np.ndarray, Look] | None = None

    def load(self) -> Segmenter:
        """The models; raises `InputError` for an unknown preset or device."""
        if self._loaded is None:
            from segspn.pipeline import Segmenter

            self._loaded = Segmenter(self._preset, self._device)
        return self._loaded

    def warm(self) -> None:
        """Load the nets of prompts, compile the SPN's loops."""
        blank = np.zeros((64, 64, 3), np.uint8)
        with self.turns:
            self.mask(blank, Prompt((16.0, 16.0, 48.0, 48.0)), None)
            self._look = None

    def tracker(self) -> Tracker:
        return _Follower(self.load())

    def mask(
        self, frame: np.ndarray, prompt: Prompt, previous: np.ndarray | None
    ) -> np.ndarray:
        from segspn.prompts import Prompts

        height, width = frame.shape[:2]
        box = None
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box
            box = (int(x0), int(y0), min(math.ceil(x1), width), min(math.ceil(y1), height))
        clicks = tuple((int(x), int(y), on) for x, y, on in prompt.points)
        # Clicks come one after another on one frame, whose features are kept.
        if self._look is None or self._look[0] is not frame:
            self._look = (frame, self.load().prompter.look(frame))
        return self._look[1].answer(Prompts(clicks, box), previous).scores > _HALF


class _Follower:
    """A session as a tracker."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._session = segmenter.session()

    def annotate(self, frame: np.ndarray, masks: Mapping[int, np.ndarray]) -> None:
        for object_id, mask in masks.items():
            # An object that has never been seen cannot be told to be absent.
            if mask.any() or object_id in self._session.ids:
                self._session.annotate(frame, mask, object_id=object_id)

    def step(self, frame: np.ndarray) -> Tracked:
        return self._session.step(frame)
