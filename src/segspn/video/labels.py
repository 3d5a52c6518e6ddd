"""Label maps, score maps and masks as PNG files, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from segspn.errors import InputError
from segspn.video.atomic import write_bytes
from segspn.video.images import load_image, sixteen_bit

# 255 is left to "void" in the palette PNGs of VOC and DAVIS.
LARGEST_PALETTE_ID = 254
LARGEST_ID = 65535
# zlib's Z_RLE: for flat areas it takes less than half the time, and files are no larger.
_RUNS = 3


def davis_palette() -> np.ndarray:
    """The VOC colour map that DAVIS uses too, uint8 (256, 3): bits of the index spread over RGB."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


def needs_wide(ids: Iterable[int]) -> bool:
    """Whether label maps of these ids need 16-bit PNGs: decide once for all files of a video."""
    return max(ids, default=0) > LARGEST_PALETTE_ID


def write_labels(path: str | Path, labels: np.ndarray, wide: bool | None = None) -> None:
    """Write a label map, integers (H, W), as a palette PNG, or as 16-bit grey where ``wide``.

    ``wide`` None decides by this map alone. Raises `ValueError` for ids that do not fit (above 254,
    above 65535 where wide, or negative) and `InputError` where the file cannot be written.
    """
    largest = int(labels.max(initial=0))
    if wide is None:
        wide = largest > LARGEST_PALETTE_ID
    limit = LARGEST_ID if wide else LARGEST_PALETTE_ID
    if labels.ndim != 2 or labels.min(initial=0) < 0 or largest > limit:
        raise ValueError(f"{path}: a label map must be (H, W) with ids in 0..{limit}")
    if wide:
        image = Image.fromarray(labels.astype(np.uint16))
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(davis_palette().tobytes())
    write_bytes(path, _png(image, compress_type=_RUNS))


def read_labels(path: str | Path) -> np.ndarray:
    """A label map, int32 (H, W), from a palette, grey, 16-bit grey or 1-bit (0 and 1) PNG.

    Values are ids as they stand (255 too). Raises `InputError` for an unreadable file or colours.
    """
    path = Path(path)
    return _values(load_image(path), path, "a label map").astype(np.int32)


def write_score_map(path: str | Path, score: np.ndarray) -> None:
    """Write one object's score, float (H, W) in 0..1, as 8-bit grey ``round(255 * score)``.

    Raises `ValueError` for another shape or values outside 0..1 (NaN too) and `InputError` where
    the file cannot be written.
    """
    # `not (...)` so that NaN fails as well.
    if score.ndim != 2 or not (score.min(initial=0) >= 0 and score.max(initial=0) <= 1):
        raise ValueError(f"{path}: a score map must be (H, W) with values in 0..1")
    write_bytes(path, _png(Image.fromarray(np.rint(score * 255.0).astype(np.uint8))))


def read_score_map(path: str | Path) -> np.ndarray:
    """One object's score, uint8 (H, W), 255 for certain.

    The authors' score PNGs are palette images whose index, not colour, is the score; 16-bit grey
    is scaled, 1-bit is 0 and 255. Raises `InputError` for an unreadable file or colours.
    """
    path = Path(path)
    image = load_image(path)
    values = _values(image, path, "a score map")
    if image.mode == "1":
        values = values * 255
    elif image.mode.startswith("I"):
        values = (values + 128) // 257
    return values.astype(np.uint8)


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a mask, bool (H, W), as 8-bit grey 0 and 255.

    Raises `ValueError` for another type or shape, `InputError` where the file cannot be written.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"{path}: a mask must be bool (H, W), not {mask.dtype} {mask.shape}")
    write_bytes(path, _png(Image.fromarray(mask.astype(np.uint8) * 255), compress_type=_RUNS))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB or (H, W, 4) RGBA as a PNG; raises as `write_mask` does."""
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise ValueError(f"{path}: a picture must be uint8 (H, W, 3 or 4), not {picture.shape}")
    write_bytes(path, _png(Image.fromarray(picture)))


def _values(image: Image.Image, path: Path, what: str) -> np.ndarray:
    """Raw integers (H, W) of a one-channel image; a palette's indices. 1-bit gives 0 and 1."""
    if image.mode.startswith("I"):
        return sixteen_bit(image, path)
    if image.mode not in ("P", "L", "1"):
        raise InputError(
            f"{path} is {image.mode}, not {what}: save it as a palette, grey or 16-bit grey PNG"
        )
    values = np.asarray(image)
    # No wider copy here: reading label maps is half of an evaluation's time.
    return values.astype(np.uint8) if values.dtype == bool else values


def _png(image: Image.Image, **options: int) -> bytes:
    # Encoded in memory, so that a full disk is met by one plain write.
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()
