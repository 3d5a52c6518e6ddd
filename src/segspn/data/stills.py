"""Still images with object masks: ``<root>/<source>/{images,masks}``."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segspn.errors import InputError


@dataclass(frozen=True)
class Still:
    """One image and its mask file (0 background, 1..N object ids, same size)."""

    source: str
    image: Path
    mask: Path

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB ``uint8 (H, W, 3)`` and ids ``uint8 (H, W)``; InputError when unreadable."""
        image = cv2.imread(str(self.image), cv2.IMREAD_COLOR)
        mask = cv2.imread(str(self.mask), cv2.IMREAD_UNCHANGED)
        if image is None or mask is None:
            bad = self.image if image is None else self.mask
            raise InputError(f"{bad}: not a readable image; replace or delete it")
        if mask.ndim == 3:
            mask = mask[:, :, 0]
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"{self.mask}: mask is {mask.shape[1]}x{mask.shape[0]}, its image "
                f"{image.shape[1]}x{image.shape[0]}; they must agree"
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask


class Stills:
    """A weighted collection of stills.

    ``weights`` maps source folder -> sampling weight; a source that is not named is not used.
    ``split`` is ``train`` or ``val``: one image in twenty, chosen by a hash of its name, is held out.
    Raises InputError when the root, a source or all masks are missing.
    """

    def __init__(self, root: str | Path, weights: dict[str, float], split: str = "train") -> None:
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give the folder that holds the stills")
        self.items: dict[str, list[Still]] = {}
        for source in weights:
            images = sorted((root / source / "images").glob("*.jpg"))
            if not images:
                raise InputError(f"{root / source}/images: no .jpg files; check the data folder")
            picked = []
            for image in images:
                held_out = zlib.crc32(image.stem.encode()) % 20 == 0
                mask = root / source / "masks" / f"{image.stem}.png"
                if held_out == (split == "val") and mask.exists():
                    picked.append(Still(source, image, mask))
            if not picked:
                raise InputError(f"{root / source}/masks: no mask matches an image")
            self.items[source] = picked
        self.sources = list(self.items)
        total = sum(weights.values())
        self.probabilities = np.array([weights[s] / total for s in self.sources])

    def __len__(self) -> int:
        return sum(len(v) for v in self.items.values())

    def all(self) -> Sequence[Still]:
        return [still for items in self.items.values() for still in items]

    def draw(self, rng: np.random.Generator, source: str = "") -> Still:
        """A still of a random source, chosen by weight, or of the one named."""
        name = source or self.sources[rng.choice(len(self.sources), p=self.probabilities)]
        items = self.items[name]
        return items[rng.integers(len(items))]
