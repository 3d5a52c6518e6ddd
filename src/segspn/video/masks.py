"""The user's first mask: any usual file, or a folder of them, to one label map."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segspn.errors import InputError
from segspn.video.images import list_images, load_image, sixteen_bit
from segspn.video.labels import LARGEST_ID, davis_palette

MOST_OBJECTS = 254
_VOID = 255
# Fewer values than this are taken at their word; more, without flat areas, are blended edges.
_FEW_COLOURS = 8


@dataclass(frozen=True)
class ObjectMasks:
    """``labels`` int32 (H, W), 0 for background; ``ids`` the objects in it, ascending."""

    labels: np.ndarray
    ids: tuple[int, ...]


def read_object_masks(
    path: str | Path, size: tuple[int, int] | None = None, resize: bool = False
) -> ObjectMasks:
    """Read the objects of an annotated frame.

    ``path`` is a palette or grey PNG (values are ids; in 8 bits 255 is one object if it is alone
    and void, that is background, beside others), a 1-bit PNG, a 16-bit grey PNG (values are ids),
    an RGB or RGBA PNG (one object per colour, black and transparent are background; ids are those
    of the VOC/DAVIS palette if all colours are in it, else 1, 2, ... by ascending (r, g, b)) or a
    folder with one binary image per object (the id is the number that ends the stem if all stems
    end with one, else 1, 2, ... in natural order; where objects overlap the later id wins).

    ``size`` (H, W) is the frame's; another size is resized (nearest) if ``resize``.

    Raises `InputError` for an unreadable file, a mask of another size, without objects, with more
    than 254, with blended colours, or with an object that has no pixel (left).
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path of the mask")
    labels = _read_folder(path) if path.is_dir() else _read_file(path)
    ids = _ids_of(labels)
    if not ids:
        raise InputError(f"{path} is empty: it must mark at least one object")
    if len(ids) > MOST_OBJECTS:
        raise InputError(_too_many(path, len(ids)))
    if ids[-1] > LARGEST_ID:
        raise InputError(f"{path} has the object id {ids[-1]}: ids go to {LARGEST_ID}, renumber it")
    if size is not None and labels.shape != tuple(size):
        if not resize:
            raise InputError(
                f"{path} is {_wh(labels.shape)} but the frame is {_wh(size)}: "
                "give a mask of the frame's size or pass --resize-mask"
            )
        labels = resize_labels(labels, size)
        require_objects(labels, ids, path)
    return ObjectMasks(labels, ids)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map int32 of ``size`` (H, W), nearest neighbour (pixel centres aligned)."""
    # INTER_NEAREST_EXACT knows no int32; float32 holds every id exactly.
    resized = cv2.resize(
        labels.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return resized.astype(np.int32)


def require_objects(labels: np.ndarray, ids: Iterable[int], path: str | Path) -> None:
    """Raise `InputError` if an id of the mask ``path`` has no pixel in ``labels`` any more.

    For label maps that were resized after reading, by ``--resize-mask`` or ``--max-side``.
    """
    lost = sorted(set(ids).difference(_ids_of(labels)))
    if lost:
        raise InputError(
            f"{path}: {_objects(lost)} vanished when the mask was resized to {_wh(labels.shape)}: "
            "mark more of it or work at a larger size"
        )


def _read_file(path: Path) -> np.ndarray:
    image = load_image(path)
    if image.mode == "1":
        return np.asarray(image).astype(np.int32)
    if image.mode.startswith("I"):
        return sixteen_bit(image, path).astype(np.int32)
    if image.mode in ("P", "L", "LA"):
        values = np.asarray(image.convert("L") if image.mode == "LA" else image)
        labels = _without_void(values.astype(np.int32))
    elif image.mode == "F":
        raise InputError(f"{path} holds floating-point pixels: save the mask as a palette PNG")
    else:
        labels = _read_colours(image, path)
    _require_flat(labels, path, lossy=image.format == "JPEG")
    return labels


def _read_colours(image: Image.Image, path: Path) -> np.ndarray:
    colours, inverse = np.unique(_packed(image), return_inverse=True)
    if len(colours) - 1 > MOST_OBJECTS:
        raise InputError(_too_many(path, int(np.count_nonzero(colours))))
    known = _palette_ids()
    if all(int(colour) in known for colour in colours):
        ids = np.array([known[int(colour)] for colour in colours], np.int32)
        return _without_void(ids[inverse])
    # `colours` ascend by (r, g, b); black, if there, is first and takes 0.
    ids = np.arange(len(colours), dtype=np.int32) + (0 if colours[0] == 0 else 1)
    return ids[inverse]


def _packed(image: Image.Image) -> np.ndarray:
    """Colours 0xRRGGBB, int32 (H, W); fully transparent pixels are black."""
    rgba = np.asarray(image.convert("RGBA")).astype(np.int32)
    packed = rgba[..., 0] << 16 | rgba[..., 1] << 8 | rgba[..., 2]
    return np.where(rgba[..., 3] == 0, 0, packed)


def _palette_ids() -> dict[int, int]:
    """Index by packed colour of the palettes of VOC and of DAVIS, whose 192 is sometimes 191."""
    known: dict[int, int] = {}
    for index, (r, g, b) in enumerate(davis_palette().tolist()):
        known[r << 16 | g << 8 | b] = index
        r, g, b = (191 if value == 192 else value for value in (r, g, b))
        known.setdefault(r << 16 | g << 8 | b, index)
    return known


def _without_void(labels: np.ndarray) -> np.ndarray:
    """Apply the 8-bit rule for 255: a binary mask's object if alone, void beside other ids."""
    alone = not np.any((labels != 0) & (labels != _VOID))
    return np.where(labels == _VOID, 1 if alone else 0, labels)


def _require_flat(labels: np.ndarray, path: Path, lossy: bool) -> None:
    """Refuse colours that are no objects but the blended edges of smoothing or of JPEG.

    A drawn object fills a 2x2 block somewhere; a blend lies along an edge.
    """
    ids = _ids_of(labels)
    here = labels[:-1, :-1]
    block = (here == labels[1:, :-1]) & (here == labels[:-1, 1:]) & (here == labels[1:, 1:])
    solid = len(np.unique(here[block & (here != 0)]))
    blended = len(ids) - solid
    if (lossy and blended) or (len(ids) > _FEW_COLOURS and blended > len(ids) // 2):
        raise InputError(
            f"{path} has {len(ids)} colours, most of them blended edges{' of JPEG' * lossy}: "
            "save it as PNG with one flat colour per object, without smoothing"
        )


def _read_folder(folder: Path) -> np.ndarray:
    files = list_images(folder)
    if not files:
        raise InputError(f"the mask folder {folder} holds no images: put one PNG per object in it")
    if len(files) > MOST_OBJECTS:
        raise InputError(_too_many(folder, len(files)))
    labels: np.ndarray | None = None
    numbered = _number(files)
    for object_id, file in sorted(numbered.items()):
        mask = _read_binary(file)
        if labels is None:
            labels = np.zeros(mask.shape, np.int32)
        if mask.shape != labels.shape:
            raise InputError(
                f"{file} is {_wh(mask.shape)} but {files[0].name} is {_wh(labels.shape)}: "
                "all masks of a frame must have one size"
            )
        if not mask.any():
            raise InputError(f"{file} is empty: mark the object or remove the file")
        labels[mask] = object_id
    assert labels is not None
    hidden = sorted(set(numbered).difference(_ids_of(labels)))
    if hidden:
        raise InputError(f"{folder}: {_objects(hidden)} lies wholly under later ones: redraw it")
    return labels


def _number(files: list[Path]) -> dict[int, Path]:
    endings = [re.search(r"[0-9]+$", file.stem) for file in files]
    numbered: dict[int, Path] = {}
    for position, (file, ending) in enumerate(zip(files, endings, strict=True), start=1):
        number = int(ending.group()) if ending and all(endings) else position
        if not 0 < number <= LARGEST_ID:
            raise InputError(
                f"{file} would be object {number}: name masks by ids from 1 to {LARGEST_ID}"
            )
        if number in numbered:
            raise InputError(
                f"{file} and {numbered[number].name} both end in {number}: rename one of them"
            )
        numbered[number] = file
    return numbered


def _read_binary(file: Path) -> np.ndarray:
    """Bool (H, W). Half of the brightest value divides, whether that is 1, 255 or 65535."""
    image = load_image(file)
    if image.mode == "P":
        return np.asarray(image) != 0
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
    else:
        packed = _packed(image)
        values = np.maximum(np.maximum(packed >> 16, packed >> 8 & 255), packed & 255)
    return values * 2 > values.max(initial=0)


def _ids_of(labels: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in np.unique(labels) if value != 0)


def _too_many(path: Path, count: int) -> str:
    return (
        f"{path} has {count} objects, and at most {MOST_OBJECTS} can be followed: if its edges are "
        "smoothed or it was a JPEG, save it as PNG with one flat colour per object"
    )


def _objects(ids: list[int]) -> str:
    return ("object " if len(ids) == 1 else "objects ") + ", ".join(str(i) for i in ids)


def _wh(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
