"""An engine without nets: boxes are filled, clicks are discs, objects move one pixel a frame.

Scenes change where frames get brighter than the engine's ``edge``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segspn.app import Prompt
from segspn.app.turns import Turns

DISC = 5


@dataclass(frozen=True)
class Found:
    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    cut: bool


class FakeTracker:
    """Moves masks to the right; remembers what it was taught."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._masks: dict[int, np.ndarray] = {}
        self.lessons: list[dict[int, int]] = []
        self._bright = False  # of the last frame

    def annotate(self, frame: np.ndarray, masks: Mapping[int, np.ndarray]) -> None:
        for mask in masks.values():
            assert mask.dtype == np.bool_ and mask.shape == frame.shape[:2]
        self.lessons.append({i: int(mask.sum()) for i, mask in masks.items()})
        self._masks |= masks
        self._bright = self._is_bright(frame)

    def _is_bright(self, frame: np.ndarray) -> bool:
        return bool(frame.mean() > self._engine.edge)

    def step(self, frame: np.ndarray) -> Found:
        self._engine.gate.wait(10)
        self._masks = {i: np.roll(mask, 1, axis=1) for i, mask in self._masks.items()}
        labels = np.zeros(frame.shape[:2], np.int32)
        for object_id, mask in self._masks.items():
            labels[mask] = object_id
        ids = tuple(sorted(self._masks))
        scores = np.stack([(labels == i) * np.float32(0.95) for i in ids])
        before, self._bright = self._bright, self._is_bright(frame)
        return Found(labels, scores, ids, before != self._bright)


class FakeEngine:
    def __init__(self) -> None:
        self.turns = Turns()
        self.gate = threading.Event()  # closed: trackers wait
        self.gate.set()
        self.warmed = False
        self.edge = 256.0
        self.trackers: list[FakeTracker] = []

    def warm(self) -> None:
        self.warmed = True

    def tracker(self) -> FakeTracker:
        self.trackers.append(FakeTracker(self))
        return self.trackers[-1]

    def mask(self, frame: np.ndarray, prompt: Prompt, previous: np.ndarray | None) -> np.ndarray:
        height, width = frame.shape[:2]
        y, x = np.mgrid[:height, :width] + 0.5
        found = np.zeros((height, width), bool) if previous is None else previous.copy()
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box
            found = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        for px, py, on in prompt.points:
            found[(x - px) ** 2 + (y - py) ** 2 < DISC**2] = on
        return found
