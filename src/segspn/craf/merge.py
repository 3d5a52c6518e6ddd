"""From the scores of several objects to one label map (section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def merge(
    scores: np.ndarray,
    ids: Sequence[int],
    threshold: float = 0.5,
    foreground: np.ndarray | None = None,
) -> np.ndarray:
    """Give each pixel to the object with the highest score.

    Ties go to the lower id; a pixel whose highest score is below ``threshold``, or that lies
    outside the foreground, is background.

    Args:
        scores: (N, H, W), any numeric type, on the scale of ``threshold`` (normally 0..1).
        ids: the N object ids, ascending.
        threshold: least score of a labelled pixel, inclusive.
        foreground: bool (H, W), or None for everything.

    Returns:
        int32 (H, W), 0 for background.

    Raises:
        ValueError: the number of ids or the shape of the foreground does not fit the scores.
    """
    if scores.ndim != 3 or len(ids) != len(scores) or not len(ids):
        raise ValueError(f"merge: {len(ids)} ids for scores of shape {scores.shape}")
    # Folding is several times faster than argmax over the first axis, whose stride is a whole map.
    best = scores[0]
    labels = np.full(scores.shape[1:], ids[0], np.int32)
    for object_id, score in zip(ids[1:], scores[1:], strict=True):
        labels[score > best] = object_id  # strictly: ties stay with the lower id
        best = np.maximum(best, score)
    # Products are faster than to set what is chosen by a mask, which is most of a frame.
    labels *= ~(best < threshold)
    if foreground is not None:
        if foreground.shape != labels.shape:
            raise ValueError(f"merge: foreground {foreground.shape}, scores {labels.shape}")
        labels *= foreground.astype(bool, copy=False)
    return labels
