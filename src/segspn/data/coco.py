"""Pictures of COCO's instances JSON: polygons and RLE become label maps when they are looked at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segspn.errors import InputError
from segspn.tracks.rle import decode_rle

FINER = 4  # subdivisions of a pixel, for polygons
MOST = 254  # objects of an image; COCO's most crowded has fewer


@dataclass(frozen=True)
class Outlines:
    """The ``segmentation`` entries of one image, largest object first; ``size`` (H, W) is the JSON's."""

    name: str
    size: tuple[int, int]
    objects: tuple[Any, ...]

    def __hash__(self) -> int:  # the entries are lists, which have none
        return hash(self.name)

    def draw(self, size: tuple[int, int]) -> np.ndarray:
        """Ids uint8 ``(H, W)``, 1..N; a smaller object lies over a larger one that it is part of."""
        if size != self.size:
            raise InputError(
                f"{self.name}: the JSON says {self.size[1]}x{self.size[0]}, the image is "
                f"{size[1]}x{size[0]}; they must agree"
            )
        labels: np.ndarray = np.zeros(size, np.uint8)
        for k, shape in enumerate(self.objects):
            try:
                labels[_mask(shape, size)] = k + 1
            except (ValueError, TypeError, KeyError, cv2.error) as error:
                raise InputError(f"{self.name}: damaged segmentation ({error})") from error
        return labels


def coco_pictures(images: Path, annotations: Path) -> list[tuple[Path, Outlines]]:
    """The images of ``annotations`` (COCO's instances format) that have objects, in the JSON's order.

    Crowds (``iscrowd``) are background, as they are not one object. Raises InputError for a file that
    is missing or no such JSON.
    """
    try:
        loaded = json.loads(annotations.read_text(encoding="utf-8"))
        sizes = {i["id"]: (i["file_name"], (i["height"], i["width"])) for i in loaded["images"]}
        objects: dict[Any, list[tuple[float, Any]]] = {}
        for a in loaded["annotations"]:
            if not a.get("iscrowd") and a.get("segmentation"):
                objects.setdefault(a["image_id"], []).append((a.get("area", 0), a["segmentation"]))
    except OSError as error:
        raise InputError(f"{annotations}: {error.strerror}; check the config's masks") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{annotations}: not COCO instances JSON ({error!r})") from error
    found = []
    for key, (name, size) in sizes.items():
        if key in objects:
            shapes = [s for _, s in sorted(objects[key], key=lambda pair: -pair[0])][:MOST]
            outlines = Outlines(f"{annotations}: {name}", size, tuple(shapes))
            found.append((images / name, outlines))
    if not found:
        raise InputError(f"{annotations}: no image in it has an object")
    return found


def _mask(shape: Any, size: tuple[int, int]) -> np.ndarray:
    """Bool ``(H, W)`` of polygons ``[[x, y, x, y, ...], ...]`` or RLE ``{"size", "counts"}``."""
    if isinstance(shape, dict):
        return decode_rle(shape["counts"], size)
    mask = np.zeros(size, bool)
    for polygon in shape:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        low = np.clip(np.floor(points.min(0)), 0, size[::-1]).astype(int)
        high = np.clip(np.ceil(points.max(0)), 0, size[::-1]).astype(int)
        w, h = high - low
        if w <= 0 or h <= 0:
            continue
        # COCO's corners are on the edges of pixels, cv2's on their centres. cv2 draws the outline too,
        # half a pixel too much: drawn finer that is an eighth, which the threshold takes off.
        fine: np.ndarray = np.zeros((h * FINER, w * FINER), np.uint8)
        corners = np.rint(((points - low) * FINER - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(fine, [corners], 255, shift=4)
        share = cv2.resize(fine, (int(w), int(h)), interpolation=cv2.INTER_AREA)
        mask[low[1] : high[1], low[0] : high[0]] |= share >= 255 * 0.625
    return mask
