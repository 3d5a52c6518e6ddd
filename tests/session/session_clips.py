"""Small clips of plain shapes over a soft texture."""

from __future__ import annotations

import cv2
import numpy as np

Clip = list[tuple[np.ndarray, np.ndarray]]


def texture(h: int, w: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 4))


def clip(count: int, h: int = 96, w: int = 144) -> Clip:
    """A red disc (object 3) and a blue square (object 7) that pass each other; frames and labels."""
    ground = texture(h, w)
    frames: Clip = []
    for t in range(count):
        frame, labels = ground.copy(), np.zeros((h, w), np.int32)
        disc, square = np.zeros((2, h, w), np.uint8)
        cv2.circle(disc, (w // 4 + 4 * t, h // 3), h // 5, 1, -1)
        corner = (w - h // 3 - 4 - 4 * t, h - h // 3 - 4)
        cv2.rectangle(square, corner, (corner[0] + h // 3, corner[1] + h // 3), 1, -1)
        for mask, value, colour in ((disc, 3, (220, 40, 30)), (square, 7, (30, 60, 220))):
            frame[mask > 0], labels[mask > 0] = colour, value
        frames.append((frame, labels))
    return frames


def clip_with_pillar(count: int, h: int = 96, w: int = 224) -> Clip:
    """A grey pillar (object 7) passes in front of a red disc (object 3); frames and labels."""
    ground = texture(h, w)
    frames: Clip = []
    for t in range(count):
        frame, labels = ground.copy(), np.zeros((h, w), np.int32)
        disc = np.zeros((h, w), np.uint8)
        cv2.circle(disc, (w // 2, h // 2), h // 6, 1, -1)
        frame[disc > 0], labels[disc > 0] = (220, 40, 30), 3
        right = w + 20 - 5 * t
        columns = slice(max(0, right - 80), right)
        frame[:, columns], labels[:, columns] = (150, 150, 160), 7
        frames.append((frame, labels))
    return frames


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
