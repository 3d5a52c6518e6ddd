"""A segmenter without nets, fast and with a state that every frame changes.

Labels depend on all frames before, so that a run resumed from a wrong state, or a frame read
twice or left out, shows in the files.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from segspn.errors import InputError


@dataclass(frozen=True)
class FakePreset:
    name: str = "default"
    rates: tuple[float, ...] = (0.6, 0.4)
    threshold: float = 0.5


@dataclass
class Stages:
    foreground: np.ndarray
    coarse: np.ndarray
    refined: np.ndarray


@dataclass
class Result:
    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    stages: Stages
    timings: dict[str, float] = field(default_factory=dict)
    cut: bool = False


class FakeSession:
    """Scores follow the brightness of the frame, smoothed over time; white frames are another scene."""

    def __init__(self, preset: FakePreset, delay: float) -> None:
        self.preset = preset
        self.delay = delay
        self.ids: tuple[int, ...] = ()
        self.scores = np.zeros((0, 0, 0), np.float32)

    def begin(
        self,
        frame: np.ndarray,
        labels: np.ndarray,
        others: Iterable[tuple[np.ndarray, np.ndarray]] = (),
    ) -> Result:
        assert frame.shape[:2] == labels.shape and frame.dtype == np.uint8
        known = [labels, *(mask for _, mask in others)]
        self.ids = tuple(sorted({int(i) for mask in known for i in np.unique(mask) if i}))
        self.scores = np.stack([labels == i for i in self.ids]).astype(np.float32)
        return self._result(labels.astype(np.int32), {"fit": 0.5})

    def annotate(self, frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """As of a frame just stepped to."""
        self.scores = np.stack([labels == i for i in self.ids]).astype(np.float32)
        return labels.astype(np.int32)

    def step(self, frame: np.ndarray) -> Result:
        time.sleep(self.delay)
        keep, take = self.preset.rates
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        moved = np.roll(self.scores, 1, axis=2)
        self.scores = keep * moved + take * np.clip(moved * 2 * grey, 0, 1)
        labels = np.zeros(frame.shape[:2], np.int32)
        best = self.scores.argmax(0)
        for position, object_id in enumerate(self.ids):
            labels[(best == position) & (self.scores[position] > 0.2)] = object_id
        return replace(self._result(labels, {}), cut=bool(frame.mean() > 250))

    def _result(self, labels: np.ndarray, timings: dict[str, float]) -> Result:
        stages = Stages(self.scores.max(0), self.scores * 0.9, self.scores * 0.95)
        return Result(labels, self.scores.copy(), self.ids, stages, {"backbone": 0.25, **timings})

    def save(self, path: Path) -> None:
        path.mkdir()
        np.savez(path / "scores.npz", scores=self.scores)
        (path / "state.json").write_text(json.dumps(self.ids))


class FakeRefiner:
    """Pulls scores towards the brightness of the frame."""

    def __init__(self, delay: float) -> None:
        self.delay = delay

    def refine_pixels(self, frame: np.ndarray, scores: np.ndarray) -> np.ndarray:
        time.sleep(self.delay)
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        return np.clip(scores * (0.7 + 0.6 * grey), 0, 1)


class FakeVideoRefiner:
    """The same, with a bias that every accepted frame changes; nothing moves, there is no cut."""

    def __init__(self, refiner: FakeRefiner, count: int) -> None:
        self.refiner, self.bias = refiner, torch.zeros(count)

    def step(self, frame: np.ndarray, scores: np.ndarray) -> np.ndarray:
        refined = self.refiner.refine_pixels(frame, scores)
        return np.clip(refined + self.bias.numpy()[:, None, None] * (scores > 0), 0, 1)

    def alike(self) -> None:
        return None

    def motion(self) -> np.ndarray:
        return np.zeros((2, 12, 16), np.float32)

    def cut(self) -> bool:
        return False

    def accept(self, frame: np.ndarray, labels: np.ndarray, ids: tuple[int, ...]) -> None:
        shares = np.array([(labels == i).mean() for i in ids], np.float32)
        self.bias = 0.9 * self.bias + torch.from_numpy(shares)

    def state(self) -> dict[str, torch.Tensor]:
        return {"bias": self.bias}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.bias = state["bias"]


class FakeSegmenter:
    def __init__(self, preset: str | FakePreset = "default", device: str = "auto") -> None:
        if device == "cuda":
            raise InputError("CUDA was asked for but is not there: choose --device cpu")
        if isinstance(preset, str):
            if preset not in ("default", "quality"):
                raise InputError(f"unknown preset {preset!r}: choose one of default, quality")
            preset = FakePreset(preset)
        self.preset = preset
        self.device = torch.device("cpu")
        self.delay = float(os.environ.get("FAKE_DELAY", "0"))
        self.refiner = FakeRefiner(self.delay)

    def video_refiner(self, count: int) -> FakeVideoRefiner:
        return FakeVideoRefiner(self.refiner, count)

    def session(self, keep: int = 16) -> FakeSession:
        return FakeSession(self.preset, self.delay)

    def load_session(self, path: Path) -> FakeSession:
        session = self.session()
        session.ids = tuple(json.loads((path / "state.json").read_text()))
        session.scores = np.load(path / "scores.npz")["scores"]
        return session
