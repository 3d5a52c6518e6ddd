"""Which results are doubtful, from the size and the certainty of each object's mask."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

UNSURE = 0.92
"""Mean score inside a mask below which a result is doubtful; see benchmarks/doubts.py."""

JUMP = 1.3
"""Factor between the areas of one frame and the one before from which on a result is doubtful."""

# Share of the frame below which sizes jump by chance.
_TINY = 0.0005


@dataclass(frozen=True)
class Look:
    """``area`` share of the frame, 0..1; ``confidence`` mean score inside the mask, 0..1; ``drawn``
    by the user."""

    area: float
    confidence: float
    drawn: bool


def look(labels: np.ndarray, object_id: int, score: np.ndarray | None, drawn: bool) -> Look:
    """What there is to see of an object in labels (H, W); ``score`` (H, W) in 0..1 if tracked."""
    mask = labels == object_id
    area = float(mask.mean())
    if drawn or score is None or not area:
        return Look(area, 1.0 if drawn else 0.0, drawn)
    return Look(area, float(score[mask].mean()), drawn)


def doubt(now: Look, before: Look | None) -> str | None:
    """Why a result is doubtful, in plain words, or None; ``before`` is that of the frame before."""
    if now.drawn:
        return None
    if now.area == 0:
        return "lost" if before is not None and before.area > 0 else None
    if now.confidence < UNSURE:
        return "unsure"
    if before is None or max(now.area, before.area) < _TINY:
        return None
    if before.area == 0:
        return "appeared"
    ratio = now.area / before.area
    if ratio > JUMP:
        return "grew suddenly"
    return "shrank suddenly" if ratio < 1 / JUMP else None


def doubts(
    looks: Mapping[int, Mapping[int, Look]],
    frames: Iterable[int],
    cuts: Collection[int] = (),
) -> dict[int, dict[int, str]]:
    """Of ``frames``, those with doubtful objects: frame -> object -> why. In ``cuts``, which begin
    another scene, that objects come, go or change their size is no reason."""
    found: dict[int, dict[int, str]] = {}
    for frame in frames:
        before = {} if frame in cuts else looks.get(frame - 1, {})
        why = {i: doubt(now, before.get(i)) for i, now in looks.get(frame, {}).items()}
        doubtful = {i: told for i, told in why.items() if told is not None}
        if doubtful:
            found[frame] = doubtful
    return found
