"""The filter over a folder of score maps in the authors' naming (section 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segspn.craf.base import Craf, CrafResult
from segspn.craf.build import build_craf
from segspn.craf.params import CrafParams
from segspn.errors import InputError

_SCORE_NAME = re.compile(r"(\d{5,})_(\d+)\.png")

Reader = Callable[[Path], np.ndarray]


def filter_folder(
    scores: Path,
    mask: np.ndarray,
    ids: Sequence[int],
    params: CrafParams | str,
    foreground: Path | None = None,
    *,
    read_score: Reader,
) -> Iterator[tuple[int, CrafResult, np.ndarray]]:
    """Filter the score maps ``%05d_<object>.png`` of frames 1, 2, ... one frame at a time.

    Frame 0 is the annotation, so score maps of frame 0 are not used; nor are those of objects that
    are not in ``ids``.

    Args:
        scores: folder of score maps.
        mask: int32 (H, W), the labels of frame 0.
        ids: the objects of ``mask`` to filter.
        params: a parameter set or its name.
        foreground: folder of foreground masks ``%05d.png`` (0 is background), or None.
        read_score: reads a PNG as uint8 (H, W); for palette files, the indices.

    Returns:
        An iterator of (frame number, filtered frame, uint8 (N, H, W) scores as read, objects in
        ascending order of id). All files are looked for before it is returned.

    Raises:
        InputError: no folder, no score maps, a missing file, or a map of another size.
    """
    if not scores.is_dir():
        raise InputError(f"{scores} is not a folder: give the folder of the score maps")
    craf = build_craf(params, ids)
    craf.start(mask)
    found = [m for m in (_SCORE_NAME.fullmatch(p.name) for p in scores.iterdir()) if m]
    last = max((int(m[1]) for m in found if int(m[2]) in craf.ids), default=0)
    if last == 0:
        raise InputError(
            f"{scores} holds no score map of objects {list(craf.ids)} after frame 0: "
            f"name them like {_score_name(1, craf.ids[0])}"
        )
    present = {m[0] for m in found}
    for frame in range(1, last + 1):
        for object_id in craf.ids:
            if _score_name(frame, object_id) not in present:
                raise InputError(
                    f"{scores / _score_name(frame, object_id)} is missing: frames 1 to {last} need "
                    "a score map of every object, add it or remove the later frames"
                )
        if foreground is not None and not (foreground / f"{frame:05d}.png").is_file():
            raise InputError(
                f"{foreground / f'{frame:05d}.png'} is missing: frames 1 to {last} need a "
                "foreground mask each, add it or leave the foreground out"
            )
    return _frames(scores, craf, last, foreground, mask.shape, read_score)


def _frames(
    scores: Path,
    craf: Craf,
    last: int,
    foreground: Path | None,
    size: tuple[int, ...],
    read_score: Reader,
) -> Iterator[tuple[int, CrafResult, np.ndarray]]:
    def read(path: Path) -> np.ndarray:
        image = read_score(path)
        if image.shape != size:
            got = "x".join(str(n) for n in reversed(image.shape))
            raise InputError(f"{path} is {got} pixels and the mask {size[1]}x{size[0]}: resize one")
        return image

    for frame in range(1, last + 1):
        raw = np.stack([read(scores / _score_name(frame, i)) for i in craf.ids])
        allowed = None if foreground is None else read(foreground / f"{frame:05d}.png") > 0
        yield frame, craf.step(raw, allowed), raw


def _score_name(frame: int, object_id: int) -> str:
    return f"{frame:05d}_{object_id}.png"
