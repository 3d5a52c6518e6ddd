"""Pictures with object masks, alone or in order as videos: the one interface of all training data."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from segspn.errors import InputError
from segspn.video.labels import read_labels

LARGEST = 720
"""Pictures whose short side is longer are shrunk to it on loading: crops are a few hundred pixels."""

VOID = 255  # "ignore" in the palette masks of VOC, DAVIS and YouTube-VOS
HELD_OUT = 20  # one item in so many


class Labels(Protocol):
    """Where a picture's label map comes from, other than a PNG file."""

    @property
    def name(self) -> str:
        """For messages."""

    def draw(self, size: tuple[int, int]) -> np.ndarray:
        """Ids uint8 ``(H, W)`` for a picture of ``size`` (H, W); InputError when they do not fit."""


@dataclass(frozen=True)
class Still:
    """One picture and its objects (0 background, 1..N ids, same size).

    ``sharp``: the mask follows the edges; masks drawn by hand mostly are 2 to 4 pixels off.
    """

    source: str
    image: Path
    mask: Path | Labels
    sharp: bool = False

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB ``uint8 (H, W, 3)`` and ids ``uint8 (H, W)``; InputError when unreadable or no pair.

        255 is void, hence 0, in a palette PNG and beside other ids; alone in a grey PNG it is the
        object. Large pictures come shrunk (see `LARGEST`), masks by the nearest pixel.
        """
        image = cv2.imread(str(self.image), self._decoding())
        if image is None:
            raise InputError(f"{self.image}: not a readable image; replace or delete it")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        full = self._size() if self._decoding() != cv2.IMREAD_COLOR else image.shape[:2]
        labels = self._labels((full[0], full[1]))
        if min(image.shape[:2]) > LARGEST or labels.shape != image.shape[:2]:
            zoom = min(1.0, LARGEST / min(labels.shape))
            w, h = (max(1, round(n * zoom)) for n in labels.shape[::-1])
            image = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels, (w, h), interpolation=cv2.INTER_NEAREST)
        return image, labels

    def _size(self) -> tuple[int, int]:
        """(H, W) by the file's header, turned as its EXIF says, as cv2 turns the picture."""
        with Image.open(self.image) as header:
            w, h = header.size
            turned = header.getexif().get(0x0112, 1) >= 5
        return (w, h) if turned else (h, w)

    def _decoding(self) -> int:
        """JPEGs are decoded at half or quarter size where that is enough: many times quicker."""
        if self.image.suffix.lower() not in (".jpg", ".jpeg"):
            return cv2.IMREAD_COLOR
        try:
            short = min(self._size())
        except (OSError, ValueError):  # cv2 then says that it is unreadable
            return cv2.IMREAD_COLOR
        if short >= 4 * LARGEST:
            return cv2.IMREAD_REDUCED_COLOR_4
        return cv2.IMREAD_REDUCED_COLOR_2 if short >= 2 * LARGEST else cv2.IMREAD_COLOR

    def _labels(self, size: tuple[int, int]) -> np.ndarray:
        if not isinstance(self.mask, Path):
            return self.mask.draw(size)
        labels = read_labels(self.mask)
        if labels.shape != size:
            raise InputError(
                f"{self.mask}: mask is {labels.shape[1]}x{labels.shape[0]}, its image "
                f"{size[1]}x{size[0]}; they must agree"
            )
        if labels.max() > VOID:
            raise InputError(
                f"{self.mask}: id {labels.max()} is too large; renumber the objects 1 to 254"
            )
        narrow = labels.astype(np.uint8)
        areas = id_areas(narrow)
        if areas[VOID] and areas[1:VOID].any():
            narrow[narrow == VOID] = 0
        return narrow


def id_areas(labels: np.ndarray) -> np.ndarray:
    """Pixels of each id, float32 ``(256,)``, in a label map uint8 ``(H, W)``: many times quicker than
    bincount."""
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()


Video = tuple[Still, ...]
"""Frames in order of time, ids the same in all; a lone picture is a video of one frame."""


class Stills:
    """A weighted collection of videos and lone stills.

    ``weights`` maps source -> sampling weight; a source without weight (or with 0) is not used.
    ``split`` is ``train`` or ``val``: of sources of twenty or more, one video or still in twenty, chosen
    by a hash of its name, is held out. ``cache_mb``: as much memory, of each process that draws, keeps
    decoded pictures.
    Raises InputError when nothing is left to draw from.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Video]],
        weights: Mapping[str, float],
        split: str = "train",
        cache_mb: float = 0.0,
    ) -> None:
        self.items: dict[str, list[Video]] = {}
        for source, weight in weights.items():
            if source not in sources:
                raise InputError(
                    f"weights: no data is called {source!r}; there are: {', '.join(sorted(sources))}"
                )
            videos = sources[source]
            few = len(videos) < HELD_OUT
            kept = [v for v in videos if (_held_out(v) and not few) == (split == "val")]
            if weight > 0:
                if not kept:
                    raise InputError(f"{source}: nothing to draw from in the split {split!r}")
                self.items[source] = kept
        self.sources = list(self.items)
        if not self.sources:
            raise InputError("no data has a weight above 0")
        total = sum(weights[s] for s in self.sources)
        self.probabilities = np.array([weights[s] / total for s in self.sources])
        self._cache = _Cache(cache_mb * 1e6)

    def __len__(self) -> int:
        return len(self.all())

    def all(self) -> list[Still]:
        return [still for items in self.items.values() for video in items for still in video]

    def digest(self) -> str:
        """Changes when files are added, removed or weighted otherwise."""
        crc = zlib.crc32(repr((self.sources, self.probabilities.tolist())).encode())
        for still in self.all():
            crc = zlib.crc32(f"{still.source}/{still.image.name}".encode(), crc)
        return f"{crc:08x}"

    def without(self, bad: set[Still]) -> None:
        """Leave out stills; InputError when a source has no other."""
        for source, items in self.items.items():
            kept = [tuple(s for s in video if s not in bad) for video in items]
            self.items[source] = [video for video in kept if video]
            if not self.items[source]:
                raise InputError(f"{source}: no usable picture in it")

    def draw_video(self, rng: np.random.Generator, source: str = "") -> Video:
        """The frames of a random video or still, of the source named or of one chosen by weight."""
        name = source or self.sources[rng.choice(len(self.sources), p=self.probabilities)]
        items = self.items[name]
        return items[rng.integers(len(items))]

    def draw(self, rng: np.random.Generator, source: str = "") -> Still:
        """A random frame of what `draw_video` gives."""
        video = self.draw_video(rng, source)
        return video[rng.integers(len(video))] if len(video) > 1 else video[0]

    def load(self, still: Still) -> tuple[np.ndarray, np.ndarray]:
        """`Still.load` through the cache; the arrays are shared and read-only."""
        return self._cache.load(still)


def _held_out(video: Video) -> bool:
    name = video[0].image.parent.name if len(video) > 1 else video[0].image.stem
    return zlib.crc32(name.encode()) % HELD_OUT == 0


class _Cache:
    """Decoded pictures, the least recently used dropped above a limit of bytes."""

    def __init__(self, limit: float) -> None:
        self.limit, self.held = limit, 0
        self.pairs: OrderedDict[Still, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def load(self, still: Still) -> tuple[np.ndarray, np.ndarray]:
        if still in self.pairs:
            self.pairs.move_to_end(still)
            return self.pairs[still]
        pair = still.load()
        for array in pair:
            array.flags.writeable = False
        size = pair[0].nbytes + pair[1].nbytes
        if size <= self.limit:
            self.pairs[still] = pair
            self.held += size
            while self.held > self.limit:
                _, dropped = self.pairs.popitem(last=False)
                self.held -= dropped[0].nbytes + dropped[1].nbytes
        return pair
