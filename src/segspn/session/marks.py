"""What a person gives to ``annotate``, checked and sorted by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segspn.errors import InputError
from segspn.prompts import Prompts

Box = Sequence[float]
Points = Sequence[Sequence[float]]
BACKGROUND = -1


@dataclass(frozen=True)
class Marks:
    """``masks``: object -> bool ``(H, W)``, its exact pixels; ``cleared``: bool ``(H, W)``, sure to be
    no object's, or None; ``prompts``: object -> hints from which its mask is to be found."""

    masks: dict[int, np.ndarray] = field(default_factory=dict)
    cleared: np.ndarray | None = None
    prompts: dict[int, Prompts] = field(default_factory=dict)


def read_marks(
    size: tuple[int, int],
    labels: np.ndarray,
    new_id: int,
    mask: np.ndarray | None,
    scribbles: np.ndarray | None,
    box: Box | None,
    points: Points | None,
    object_id: int | None,
) -> Marks:
    """Check the arguments of ``Session.annotate`` and sort them by object.

    ``size`` is the frame's ``(H, W)``; ``labels`` int32 ``(H, W)`` tell which objects a stroke of
    background touches; ``new_id`` is what an object without an id gets. Raises `InputError`.
    """
    if object_id is not None and (object_id != int(object_id) or object_id < 1):
        raise InputError(f"object_id must be a whole number from 1, not {object_id}")
    target = new_id if object_id is None else int(object_id)
    if mask is not None:
        if not (scribbles is None and box is None and points is None):
            raise InputError("give a mask or hints (scribbles, box, points), not both")
        return _of_mask(_checked(mask, size, "mask"), target, object_id)
    if scribbles is None and box is None and points is None:
        raise InputError("nothing is marked: give a mask, scribbles, a box or points")
    prompts: dict[int, Prompts] = {}
    if scribbles is not None:
        prompts = _of_scribbles(_checked(scribbles, size, "scribbles"), labels, target, object_id)
    if box is not None or points is not None:
        old = prompts.get(target, Prompts())
        prompts[target] = old.joined(
            Prompts(_clicks(points or (), size), None if box is None else _box(box, size))
        )
    return Marks(prompts=prompts)


def _checked(given: np.ndarray, size: tuple[int, int], what: str) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise InputError(
            f"the {what} must be bool or whole numbers (H, W), not {array.dtype} {array.shape}"
        )
    if array.shape != size:
        raise InputError(
            f"the {what} is {array.shape[1]}x{array.shape[0]}, the frame {size[1]}x{size[0]}; "
            "they must agree"
        )
    return array


def _of_mask(mask: np.ndarray, target: int, object_id: int | None) -> Marks:
    if mask.dtype == bool or object_id is not None:
        return Marks({target: mask > 0})
    ids = [int(i) for i in np.unique(mask) if i > 0]
    cleared = mask == BACKGROUND
    if not ids and not cleared.any():
        raise InputError("the mask is empty: it must mark at least one object")
    return Marks({i: mask == i for i in ids}, cleared if cleared.any() else None)


def _of_scribbles(
    strokes: np.ndarray, labels: np.ndarray, target: int, object_id: int | None
) -> dict[int, Prompts]:
    if strokes.dtype == bool:
        strokes = np.where(strokes, target, 0)
    ids = {int(i) for i in np.unique(strokes) if i > 0}
    if not strokes.any():
        raise InputError("the scribbles are empty: draw at least one stroke")
    if object_id is not None:
        ids.add(object_id)
    if not ids:  # background alone: it is meant for what it touches
        ids = {int(i) for i in np.unique(labels[strokes == BACKGROUND]) if i > 0}
        if not ids:
            raise InputError("the scribbles mark background where no object is: name an object_id")
    return {
        i: Prompts(positive=strokes == i, negative=(strokes != 0) & (strokes != i)) for i in sorted(ids)
    }


def _clicks(points: Points, size: tuple[int, int]) -> tuple[tuple[int, int, bool], ...]:
    clicks = []
    for point in points:
        if len(point) not in (2, 3):
            raise InputError(f"a point is (x, y, positive), not {tuple(point)}")
        x, y = round(point[0]), round(point[1])
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise InputError(f"point ({x}, {y}) lies outside the frame of {size[1]}x{size[0]} pixels")
        clicks.append((x, y, bool(point[2]) if len(point) == 3 else True))
    return tuple(clicks)


def _box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    if len(box) != 4:
        raise InputError(f"a box is (x0, y0, x1, y1), not {tuple(box)}")
    x0, x1 = sorted(min(max(round(x), 0), size[1]) for x in (box[0], box[2]))
    y0, y1 = sorted(min(max(round(y), 0), size[0]) for y in (box[1], box[3]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise InputError(f"the box {tuple(box)} holds no pixel of the {size[1]}x{size[0]} frame")
    return x0, y0, x1, y1
