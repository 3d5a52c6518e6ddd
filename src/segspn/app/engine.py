"""All that the app asks of segspn's networks, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from segspn.app.turns import Turns

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter, Session

_PROMPT_SIDE = 320


@dataclass(frozen=True)
class Prompt:
    """What a user pointed at on one frame, in its pixels.

    ``box`` (x0, y0, x1, y1) around the object; ``points`` (x, y, True on the object, False beside).
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()


class Tracked(Protocol):
    """``labels`` int32 (H, W); ``scores`` float32 (N, H, W) in 0..1, in the order of ``ids``."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def ids(self) -> tuple[int, ...]: ...


class Tracker(Protocol):
    """Follows objects through frames, uint8 (H, W, 3), that come in order, forward or backward."""

    def annotate(self, frame: np.ndarray, labels: np.ndarray) -> None:
        """Learn from the frame stepped to last, or from the first one; ``labels`` int32 (H, W)."""

    def step(self, frame: np.ndarray) -> Tracked:
        """The objects in the next frame."""


class Engine(Protocol):
    """Makes trackers, and masks from prompts; whoever calls either holds ``turns``.

    ``threshold``: least score of a labelled pixel.
    """

    turns: Turns

    @property
    def threshold(self) -> float: ...

    def tracker(self) -> Tracker: ...

    def mask(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The object pointed at, bool (H, W)."""


class Networks:
    """The engine of a preset, loaded when it is needed first."""

    def __init__(self, preset: str = "default", device: str = "auto") -> None:
        self.turns = Turns()
        self._preset, self._device = preset, device
        self._loaded: Segmenter | None = None

    def load(self) -> Segmenter:
        """The models; raises `InputError` for an unknown preset or device."""
        if self._loaded is None:
            from segspn.pipeline import Segmenter

            self._loaded = Segmenter(self._preset, self._device)
        return self._loaded

    @property
    def threshold(self) -> float:
        return self.load().preset.threshold

    def tracker(self) -> Tracker:
        return _Follower(self.load())

    def mask(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        return _grab_cut(frame, prompt)


class _Follower:
    """A session; an annotation after the first one starts another."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._session: Session | None = None

    def annotate(self, frame: np.ndarray, labels: np.ndarray) -> None:
        self._session = self._segmenter.session()
        self._session.annotate(frame, labels)

    def step(self, frame: np.ndarray) -> Tracked:
        assert self._session is not None, "annotate comes first"
        return self._session.step(frame)


def _grab_cut(frame: np.ndarray, prompt: Prompt) -> np.ndarray:
    """A stand-in: OpenCV's GrabCut."""
    height, width = frame.shape[:2]
    scale = min(1.0, _PROMPT_SIDE / max(height, width))
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    state = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    if prompt.box is not None:
        x0, y0, x1, y1 = (round(v * scale) for v in prompt.box)
        state[:] = cv2.GC_BGD
        state[y0 : y1 + 1, x0 : x1 + 1] = cv2.GC_PR_FGD
    for x, y, on in prompt.points:
        centre = (int(x * scale), int(y * scale))
        if on and prompt.box is None:
            cv2.circle(state, centre, 40, cv2.GC_PR_FGD, -1)
        cv2.circle(state, centre, 4, cv2.GC_FGD if on else cv2.GC_BGD, -1)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(small, state, None, models[0], models[1], 3, cv2.GC_INIT_WITH_MASK)
    found = np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST) > 0
