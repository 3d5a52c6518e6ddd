"""The region filter over masks in which objects may enter late."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from segspn.craf import NOTHING, Craf, Sight, build_craf, merge
from segspn.errors import InputError

_FILE = "filter.npz"


class LateFilter:
    """The region filter over objects that may enter late.

    The filter judges an object by where it was, so an object is annotated with its own mask in the
    first frame that shows it. Raises `InputError` for an unknown parameter set.
    """

    def __init__(self, params: str, ids: tuple[int, ...]) -> None:
        build_craf(params, ids)  # complains now if the name is unknown
        self._params = params
        self._ids = ids
        self._craf: Craf | None = None

    def start(self, labels: np.ndarray) -> None:
        """Take ``labels``, int32 (H, W), as the truth of this frame for all objects."""
        self._craf = build_craf(self._params, self._ids)
        self._craf.start(labels)

    def step(
        self,
        scores: np.ndarray,
        threshold: float,
        allowed: np.ndarray | None,
        sight: Sight = NOTHING,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Filtered scores (N, H, W) and labels of a frame; see `Craf.step`. An object enters where its
        merged scores of at least ``threshold`` show it for the first time."""
        entered = () if self._craf is None else self._craf.ids
        if self._craf is not None and entered == self._ids:
            result = self._craf.step(scores, allowed, sight)
            return result.scores, result.labels
        merged = merge(scores, self._ids, threshold, allowed)
        labels = np.zeros_like(merged)
        if self._craf is not None:
            rows = [self._ids.index(i) for i in entered]
            result = self._craf.step(scores[rows], allowed, sight)
            scores = scores.copy()
            scores[rows] = result.scores
            labels = result.labels
        there = set(np.unique(merged).tolist())
        new = [i for i in self._ids if i in there and i not in entered]
        if new:
            if self._craf is None:
                self._craf = build_craf(self._params, new)
            else:
                self._craf.add(*new)
            is_new = np.isin(merged, new)
            labels[is_new] = merged[is_new]
            self._craf.start(labels, new)
        return scores, labels

    def scatter(self) -> None:
        """The next frame shows another scene: all objects enter anew. (Where they are then the masks
        tell; what the filter knew of them holds no more.)"""
        self._craf = None

    def save(self, folder: Path) -> None:
        """Write the state into ``folder``."""
        state: dict[str, Any] = {} if self._craf is None else self._craf.state()
        np.savez(folder / _FILE, **state)

    def restore(self, folder: Path) -> None:
        """Go on where `save` left off. Raises `InputError` for a damaged state."""
        path = folder / _FILE
        try:
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged: start anew with --overwrite") from error
        if state:
            self._craf = build_craf(self._params, self._ids)
            self._craf.restore(state)
