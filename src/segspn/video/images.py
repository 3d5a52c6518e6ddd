"""Single image files: which ones count, in what order, and how their pixels become 8-bit RGB."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segspn.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

_EXIF_ORIENTATION = 0x0112
# What Pillow's decoders raise on damaged files; every one becomes an InputError.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key in which ``frame2`` comes before ``frame10``; the name itself breaks ties."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def list_images(folder: Path) -> list[Path]:
    """The image files directly inside ``folder``, in natural order, hidden files left out.

    Raises `InputError` if the folder cannot be read; the list may be empty.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    images = [
        path
        for path in entries
        # macOS leaves "._name.jpg" companions on foreign disks; they are not pictures.
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(images, key=lambda path: natural_key(path.name))


def header_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as it is to be seen (EXIF orientation applied), without decoding it.

    Raises `InputError` if the file is missing or is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = _orientation(image) in (5, 6, 7, 8)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def is_plain_grey(path: Path) -> bool:
    """Whether it is an 8-bit grey image without a palette. Raises `InputError` as `header_size`."""
    try:
        with Image.open(path) as image:
            return image.mode == "L"
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def load_image(path: Path) -> Image.Image:
    """A completely decoded Pillow image in its native mode.

    Pillow, unlike OpenCV, reports a truncated file instead of filling the rest with grey.
    Raises `InputError` if the file is missing, damaged or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def read_rgb(path: Path) -> np.ndarray:
    """A frame, uint8 (H, W, 3) RGB, C-contiguous, from an image of any usual kind.

    Grey is repeated, alpha dropped, palettes looked up, 16 bits scaled to 8, EXIF orientation
    applied (not in PNG). Raises `InputError` as `load_image` does, and for floating-point images.
    """
    image = load_image(path)
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise InputError(f"{path} holds floating-point pixels: convert it to 8-bit RGB")
    if image.mode.startswith("I"):
        grey = sixteen_bit(image, path)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    return np.array(image.convert("RGB"), order="C")  # a copy: views of Pillow are read-only


def sixteen_bit(image: Image.Image, path: Path) -> np.ndarray:
    """Values 0..65535, int64 (H, W), of a mode ``I`` or ``I;16`` image.

    Raises `InputError` where a 32-bit image holds values that 16 bits cannot.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise InputError(f"{path} holds values outside 0..65535: save it with 16 or 8 bits")
    return values


def _orientation(image: Image.Image) -> int:
    # A PNG may carry EXIF after its pixels: looking for it would decode every file on opening, and
    # no camera writes PNG.
    return 1 if image.format == "PNG" else image.getexif().get(_EXIF_ORIENTATION, 1)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist: check the path")
    if isinstance(error, PermissionError):
        return InputError(f"{path} may not be read: check its permissions")
    return InputError(f"{path} is damaged, truncated or no image: replace the file ({error})")
