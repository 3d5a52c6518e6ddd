"""What all parameter sets have in common: input checks, previous labels, saving and resuming."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segspn.errors import InputError
from segspn.heap import array_apart

State = dict[str, Any]
"""A saved filter: numpy arrays and plain numbers by name."""

Pairs = Collection[tuple[int, int]]
"""Pairs of object ids, the smaller one first."""


@dataclass(frozen=True)
class Sight:
    """What the stages before have seen of a frame, beside the scores; None: not known.

    Attributes:
        motion: float (2, h, w), what lies where moved how: x, y of where each cell of a grid over the
            frame was in the frame before, in cells.
        alike: the objects that look alike and so may be confused. None: any two may be.
        likeness: float (N, h, w), cosines: how like what is remembered of each object the cells of a
            grid over the frame are.
    """

    motion: np.ndarray | None = None
    alike: Pairs | None = None
    likeness: np.ndarray | None = None


NOTHING = Sight()


def named(pairs: Collection[tuple[int, int]] | None, ids: Sequence[int]) -> Pairs | None:
    """``pairs`` of positions in ``ids``, which ascend, as a `Sight` has them; None stays None."""
    return None if pairs is None else [(ids[min(pair)], ids[max(pair)]) for pair in pairs]


# Scores that come out of an interpolation or a softmax may miss 0..1 by rounding, not by more.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class CrafResult:
    """One filtered frame.

    Attributes:
        scores: float32 (N, H, W), the filtered scores, 0..1; the given array itself where the filter
            had nothing to change.
        labels: int32 (H, W), the merged label map.
    """

    scores: np.ndarray
    labels: np.ndarray


class Craf(ABC):
    """A connected-region-aware filter: feed it the annotated frame, then one frame after another.

    Subclasses implement :meth:`_filter` and, where they remember more than the previous labels,
    extend the hooks named below it.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        """Filter the objects ``ids`` (positive, distinct; kept in ascending order).

        Raises:
            InputError: no id, an id below 1 or a repeated id.
        """
        self._ids: tuple[int, ...] = ()
        self._previous: np.ndarray | None = None
        if not ids:
            raise InputError("no object to filter: give a mask with at least one object")
        self.add(*ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """The object ids, ascending: the order of the object axis of the scores."""
        return self._ids

    def add(self, *ids: int) -> None:
        """Make room for more objects; annotate them with :meth:`start` before the next step.

        Raises:
            InputError: an id below 1 or one that is already there.
        """
        new = [int(i) for i in ids]
        merged = sorted({*self._ids, *new})
        if len(merged) != len(self._ids) + len(new) or merged[0] < 1:
            raise InputError(
                f"object ids {new} must be positive and none given twice (known: {self._ids})"
            )
        before, self._ids = self._ids, tuple(merged)
        self._grown(before)

    def remove(self, object_id: int) -> None:
        """Forget an object; the scores of later steps come without its map.

        Raises:
            InputError: there is no such object, or no other one.
        """
        if object_id not in self._ids or len(self._ids) == 1:
            raise InputError(f"object {object_id} cannot be removed from {list(self._ids)}")
        position = self._ids.index(object_id)
        self._ids = self._ids[:position] + self._ids[position + 1 :]
        if self._previous is not None:
            self._previous = np.where(self._previous == object_id, 0, self._previous)
        self._shrunk(position)

    def start(self, labels: np.ndarray, known: Collection[int] | None = None) -> None:
        """Take ``labels``, int32 (H, W), as the truth of the frame before the next :meth:`step`.

        It may be called again at any frame, to correct the labels or to annotate added objects;
        an object without pixels is then not visible in that frame.

        Args:
            labels: of all objects.
            known: the objects whose pixels a person has told; those of others are a result like that
                of a step. None: all.

        Raises:
            InputError: an id that was not given, or another size than in the calls before.
        """
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers (H, W), not {labels.dtype} {labels.shape}")
        self._check_size(labels.shape, "the mask")
        unknown = sorted(set(np.unique(labels).tolist()) - {0, *self._ids})
        if unknown:
            raise InputError(
                f"the mask holds objects {unknown} beside {list(self._ids)}: add them first"
            )
        self._previous = labels.astype(np.int32)
        self._annotated(self._previous, self._ids if known is None else known)

    def step(
        self,
        scores: np.ndarray,
        foreground: np.ndarray | None = None,
        sight: Sight = NOTHING,
    ) -> CrafResult:
        """Filter the next frame.

        Args:
            scores: (N, H, W), float in 0..1, or uint8 in 0..255 as read from files; not changed.
            foreground: bool (H, W); labels are 0 outside. None for everything.
            sight: what else is known of the frame.

        Returns:
            The filtered scores and the labels of this frame.

        Raises:
            InputError: sizes that do not fit the annotated frame, or scores outside 0..1.
            RuntimeError: no frame has been annotated.
            ValueError: a motion or likeness of another shape.
        """
        if self._previous is None:
            raise RuntimeError("annotate a frame with start(labels) before step(scores)")
        if scores.ndim != 3 or len(scores) != len(self._ids):
            raise InputError(
                f"scores of shape {scores.shape} for {len(self._ids)} objects: give one map each"
            )
        self._check_size(scores.shape[1:], "the score map")
        if foreground is not None:
            self._check_size(foreground.shape, "the foreground mask")
            foreground = foreground.astype(bool, copy=False)
        expected = {"motion": (sight.motion, 2), "likeness": (sight.likeness, len(scores))}
        for name, (maps, count) in expected.items():
            if maps is not None and (maps.ndim != 3 or len(maps) != count):
                raise ValueError(f"{name} must be ({count}, h, w), not {maps.shape}")
        if scores.dtype != np.uint8:
            low, high = float(scores.min()), float(scores.max())
            # Written so that NaN, which compares false with everything, is caught as well.
            if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
                raise InputError(
                    f"scores lie in {low:g}..{high:g}: give floats in 0..1 or uint8 in 0..255"
                )
        result = self._filter(scores, self._previous, foreground, sight)
        self._previous = array_apart(result.labels)  # the caller may draw into the result
        return result

    def scatter(self) -> None:  # noqa: B027 - nothing to do for most
        """The next frame shows another scene than the last: no object is where it was."""

    def state(self) -> State:
        """Everything a resumed filter needs, as numpy arrays and plain numbers (copies)."""
        state: State = {"ids": np.array(self._ids, np.int64)}
        if self._previous is not None:
            state["previous"] = array_apart(self._previous)
        return state

    def restore(self, state: State) -> None:
        """Take up the work exactly where :meth:`state` of the same parameter set left it.

        Raises:
            InputError: the state lacks an entry, so it is another parameter set's.
        """
        if "ids" not in state:
            raise InputError("the saved filter state has no object ids: start the session anew")
        self._ids = tuple(int(i) for i in state["ids"])
        previous = state.get("previous")
        self._previous = None if previous is None else np.array(previous, np.int32)

    @abstractmethod
    def _filter(
        self,
        scores: np.ndarray,
        previous: np.ndarray,
        foreground: np.ndarray | None,
        sight: Sight,
    ) -> CrafResult:
        """Filter checked ``scores``; ``previous`` is the int32 label map of the frame before."""

    def _grown(self, before: tuple[int, ...]) -> None:  # noqa: B027 - nothing to do for most
        """Hook: ``ids`` has grown from ``before``."""

    def _shrunk(self, position: int) -> None:  # noqa: B027 - nothing to do for most
        """Hook: the object that was at ``position`` of ``ids`` is gone."""

    def _annotated(  # noqa: B027 - nothing to do for most
        self, labels: np.ndarray, known: Collection[int]
    ) -> None:
        """Hook: ``labels``, int32 (H, W), is the truth of this frame for the objects ``known``."""

    def _check_size(self, size: tuple[int, ...], what: str) -> None:
        if self._previous is not None and size != self._previous.shape:
            height, width = self._previous.shape
            got = "x".join(str(n) for n in reversed(size))
            raise InputError(
                f"{what} is {got} pixels and the annotated frame {width}x{height}: resize one"
            )


def as_unit(scores: np.ndarray) -> np.ndarray:
    """A float32 copy of uint8 (0..255) or float (0..1) scores, on the scale 0..1."""
    if scores.dtype == np.uint8:
        return scores.astype(np.float32) / np.float32(255)
    return array_apart(scores.astype(np.float32, copy=False))


def as_bytes(scores: np.ndarray) -> np.ndarray:
    """A uint8 copy of uint8 or float (0..1) scores: ``round(255 * score)``, as on disk."""
    if scores.dtype == np.uint8:
        return scores.copy()
    return np.rint(np.clip(scores, 0, 1) * 255).astype(np.uint8)
