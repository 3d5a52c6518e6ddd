"""Working at a smaller size than the video's, and coming back to its size."""

from __future__ import annotations

import cv2
import numpy as np

from segspn.errors import InputError
from segspn.video import ObjectMasks, require_objects, resize_labels

# Half of an 8-bit step: far below what shows, far above float32 rounding.
_MARGIN = np.float32(0.5 / 255)


class Scale:
    """The full size of the frames and the size at which they are segmented.

    ``max_side`` is the longest side to work at, None for the full size; smaller videos stay as
    they are. Raises `InputError` for a side below 32.
    """

    def __init__(self, size: tuple[int, int], max_side: int | None) -> None:
        if max_side is not None and max_side < 32:
            raise InputError(f"--max-side {max_side} is too small: give 32 or more")
        self.full = size
        self.working = size
        if max_side is not None and max(size) > max_side:
            height, width = (max(1, round(side * max_side / max(size))) for side in size)
            self.working = (height, width)

    @property
    def shrinks(self) -> bool:
        return self.working != self.full

    def shrink_frame(self, frame: np.ndarray) -> np.ndarray:
        """A frame uint8 (H, W, 3) at the working size."""
        if not self.shrinks:
            return frame
        return cv2.resize(frame, self.working[::-1], interpolation=cv2.INTER_AREA)

    def fit_map(self, score: np.ndarray) -> np.ndarray:
        """One object's score, uint8 (H, W) of any size, at the working size, soft at its edges."""
        if score.shape == self.working:
            return score
        finer = score.shape[0] > self.working[0]
        return cv2.resize(
            score, self.working[::-1], interpolation=cv2.INTER_AREA if finer else cv2.INTER_LINEAR
        )

    def shrink_masks(self, masks: ObjectMasks, path: object) -> np.ndarray:
        """The masks' labels at the working size.

        Raises `InputError`, naming ``path``, if an object vanishes.
        """
        if not self.shrinks:
            return masks.labels
        labels = resize_labels(masks.labels, self.working)
        require_objects(labels, masks.ids, str(path))
        return labels

    def enlarge(self, maps: np.ndarray) -> np.ndarray:
        """Maps float32 (..., h, w) at the full size, bilinear, within 0..1."""
        if self.shrinks:
            flat = [
                cv2.resize(m, self.full[::-1], interpolation=cv2.INTER_LINEAR)
                for m in maps.reshape(-1, *self.working)
            ]
            maps = np.stack(flat).reshape(*maps.shape[:-2], *self.full)
        return np.clip(maps, 0, 1)

    def enlarge_labels(self, labels: np.ndarray, scores: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
        """A label map int32 (h, w) at the full size, its contours drawn by the scores.

        The scores are first held to the labels - a labelled pixel's score to at least one half,
        any other's to at most that - and then enlarged bilinearly and merged. Away from contours
        this gives the labels exactly, whatever rule they were made by; along contours it puts the
        edge where the scores cross, where nearest neighbour would leave steps.
        """
        if not self.shrinks:
            return labels
        merged = np.zeros(self.full, np.int32)
        best = np.full(self.full, 0.5, np.float32)
        # One object at a time, so that memory does not grow with their number.
        for object_id, score in zip(ids, scores, strict=True):
            mine = labels == object_id
            held = np.where(mine, np.maximum(score, 0.5 + _MARGIN), score)
            held = np.where(mine, held, np.minimum(held, 0.5 - _MARGIN)).astype(np.float32)
            large = self.enlarge(held)
            merged[large > best] = object_id
            np.maximum(best, large, out=best)
        return merged
