"""COCO's run-length encoding of a mask: column by column, background first.

``counts`` is a list of run lengths or, compressed, a string: each count, from the fourth on as the
difference to the one before the last, in groups of five bits, least significant first, one
character from ``chr(48)`` on per group; bit 5 tells that more follow, bit 4 of the last is the sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FIRST = 48
_MORE = 0x20
_SIGN = 0x10


def encode_rle(mask: np.ndarray) -> dict[str, object]:
    """``{"size": [H, W], "counts": string}`` of a mask, bool (H, W)."""
    flat = np.ravel(mask, order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return {"size": [int(side) for side in mask.shape], "counts": _compress(counts)}


def decode_rle(counts: str | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask, bool (H, W). Raises `ValueError`, without the file's name, for damaged counts."""
    runs = np.asarray(_expand(counts) if isinstance(counts, str) else counts)
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
        raise ValueError("its counts are neither a string nor a list of whole numbers")
    height, width = size
    if runs.min(initial=0) < 0 or int(runs.sum()) != height * width:
        raise ValueError(f"its counts do not add up to {width}x{height} pixels")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs.astype(np.int64)).reshape(width, height).T


def _compress(counts: Sequence[int]) -> str:
    characters: list[str] = []
    for position, count in enumerate(counts):
        left = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            group = left & 0x1F
            left >>= 5
            more = left != (-1 if group & _SIGN else 0)
            characters.append(chr(_FIRST + (group | _MORE if more else group)))
    return "".join(characters)


def _expand(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - _FIRST
        if not 0 <= group < 64:
            raise ValueError(f"its counts hold {character!r}, which no compressed RLE has")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        value = shift = 0
    if shift:
        raise ValueError("its counts are cut off")
    return counts
