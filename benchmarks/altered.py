"""The sequences of a DAVIS root as they would look in other conditions, as a data set of their own.

    python benchmarks/altered.py --davis DAVIS --how poles --out ALTERED
    segspn evaluate davis --root ALTERED --year 2016 --subset val --results DIR

``poles``: something upright, half as wide as the object, passes in front of it in the middle of the
clip, so that it comes out on one side before it is gone on the other. ``zoom-in``: the camera comes 2.5
times nearer to the object, as far as it stays in the picture; ``zoom-out``: it starts there. ``roll``:
the camera turns by 60 degrees. ``shake``: it is held badly. ``dim``: the light fades to less than a
third, and the sensor's noise stays. Sequences of several objects count as one of their union. The same
arguments make the same files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.composer import Stretch, write_frames, write_list  # noqa: E402
from segspn.errors import InputError  # noqa: E402
from segspn.evaluation import open_davis  # noqa: E402

NEAREST = 2.5  # times enlarged
MARGIN = 1.1  # of the object's box, that a picture shows at least
ROLL = 60.0  # degrees, from the first frame to the last
SHAKE = (13.0, 13.0, 0.9)  # pixels and degrees, standard deviation
DIM, NOISE = 0.3, 4.0  # share of the light in the last frame; levels of 255
POLE, PASSING = 0.5, 20  # width as a share of the object's, and frames in which it passes
SMOOTH = 6.0  # frames over which a camera's way is smoothed

Shown = tuple[np.ndarray, np.ndarray]
"""A frame, uint8 BGR ``(H, W, 3)``, and its mask, bool ``(H, W)``."""


def boxes(masks: list[np.ndarray]) -> np.ndarray:
    """Left, top, right and bottom of the object in each frame, float ``(T, 4)``; where it is not in view
    as in the frame before."""
    found: list[tuple[float, ...]] = []
    for mask in masks:
        y, x = np.nonzero(mask)
        if len(x):
            found.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        else:
            found.append(found[-1] if found else (0, 0, mask.shape[1], mask.shape[0]))
    return np.array(found, float)


def smoothed(way: np.ndarray, frames: float) -> np.ndarray:
    """Values ``(T,)`` or ``(T, K)`` over time, smoothed over so many frames."""
    size = (1, 2 * int(3 * frames) + 1)
    values = np.asarray(way, np.float64)
    found = cv2.GaussianBlur(values, size, 1.0, sigmaY=frames, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(found).reshape(values.shape)


def zoom(masks: list[np.ndarray], inwards: bool) -> np.ndarray:
    """Maps ``(T, 2, 3)`` of a camera that comes nearer to the object, or goes away."""
    height, width = masks[0].shape
    box, way = boxes(masks), np.linspace(0, 1, len(masks))
    share = NEAREST ** -(way if inwards else 1 - way)  # of the picture's sides that is shown
    needed = MARGIN * np.maximum((box[:, 2] - box[:, 0]) / width, (box[:, 3] - box[:, 1]) / height)
    share = smoothed(np.minimum(np.maximum(share, needed), 1), SMOOTH)
    centre = smoothed((box[:, :2] + box[:, 2:]) / 2, SMOOTH)
    size = share[:, None] * (width, height)
    corner = np.clip(centre - size / 2, 0, np.array([width, height]) - size)
    maps = np.zeros((len(masks), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / share
    maps[:, :, 2] = -corner / share[:, None]
    return maps


def turned(size: tuple[int, ...], degrees: Iterable[float], enlarged: float) -> np.ndarray:
    """Maps ``(T, 2, 3)`` that turn the picture about its centre."""
    centre = (size[1] / 2, size[0] / 2)
    return np.stack([cv2.getRotationMatrix2D(centre, float(d), enlarged) for d in degrees])


def moved(frames: list[Shown], maps: np.ndarray) -> list[Shown]:
    """Every frame as its map ``(2, 3)`` shows it; beyond its rim a picture is mirrored, without the
    object."""
    shown = []
    for (picture, mask), way in zip(frames, maps, strict=True):
        size = mask.shape[::-1]
        warped = cv2.warpAffine(
            picture, way, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        there = cv2.warpAffine(mask.astype(np.float32), way, size, flags=cv2.INTER_LINEAR)
        shown.append((warped, there >= 0.5))
    return shown


def behind_a_pole(frames: list[Shown], cloth: np.ndarray, to_right: bool) -> list[Shown]:
    """A strip of the picture ``cloth``, of the frames' size, passes before the object."""
    box = boxes([mask for _, mask in frames])
    across = box[:, 2] - box[:, 0]
    object_width = float(np.median(across))
    width = max(2, round(POLE * object_width))
    centre = smoothed((box[:, 0] + box[:, 2]) / 2, 2.0)
    time = np.arange(len(frames)) - len(frames) // 2
    speed = (object_width + width) / PASSING * (1 if to_right else -1)
    start = (cloth.shape[1] - width) // 2
    strip = np.zeros_like(cloth)
    strip[:, :width] = cloth[:, start : start + width]
    solid = np.zeros(cloth.shape[:2], np.float32)
    solid[:, :width] = 1
    shown = []
    for t, (picture, mask) in enumerate(frames):
        way = np.array([[1, 0, centre[t] + time[t] * speed - width / 2], [0, 1, 0]])
        alpha = cv2.warpAffine(solid, way, mask.shape[::-1])
        over = cv2.warpAffine(strip, way, mask.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        mixed = picture + alpha[..., None] * (over.astype(np.float32) - picture)
        shown.append((np.rint(mixed).astype(np.uint8), mask & (alpha < 0.5)))
    return shown


def poles(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    size = frames[0][1].shape[::-1]
    return behind_a_pole(frames, cv2.resize(other, size), bool(rng.integers(2)))


def zoom_in(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    return moved(frames, zoom([mask for _, mask in frames], inwards=True))


def zoom_out(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    return moved(frames, zoom([mask for _, mask in frames], inwards=False))


def roll(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    return moved(frames, turned(frames[0][1].shape, np.linspace(0, ROLL, len(frames)), 1.0))


def shake(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    off = rng.normal(size=(len(frames), 3)) * SHAKE
    maps = turned(frames[0][1].shape, off[:, 2], 1.12)
    maps[:, :, 2] += off[:, :2]
    return moved(frames, maps)


def dim(frames: list[Shown], other: np.ndarray, rng: np.random.Generator) -> list[Shown]:
    shown = []
    for (picture, mask), light in zip(frames, DIM ** np.linspace(0, 1, len(frames)), strict=True):
        noisy = light * picture + rng.normal(0, NOISE, picture.shape)
        shown.append((np.rint(noisy.clip(0, 255)).astype(np.uint8), mask))
    return shown


Alteration = Callable[[list[Shown], np.ndarray, np.random.Generator], list[Shown]]
HOW: dict[str, Alteration] = {
    "poles": poles,
    "zoom-in": zoom_in,
    "zoom-out": zoom_out,
    "roll": roll,
    "shake": shake,
    "dim": dim,
}
"""Of a sequence's frames, a picture of another sequence and a source of chance the frames to show."""


def alter(davis: Path, out: Path, how: str, year: int, subset: str) -> int:
    """Write the data set; returns how many sequences it has. InputError for what will not do."""
    if out.exists():
        raise InputError(f"{out} is there already: remove it or give another --out")
    sequences = open_davis(davis, year, subset).sequences
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    for k, sequence in enumerate(sequences):
        one = Stretch(sequence, tuple(range(len(sequence.frames))))
        frames = [(one.picture(t), one.mask(t)) for t in range(len(sequence.frames))]
        other = Stretch(sequences[(k + 1) % len(sequences)], (0,)).picture(0)
        shown = HOW[how](frames, other, np.random.default_rng([0, k]))
        write_frames(work, sequence.name, ((image, mask.astype(np.int32)) for image, mask in shown))
    write_list(work, year, subset, [sequence.name for sequence in sequences])
    work.rename(out)
    return len(sequences)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--davis", required=True, type=Path, help="root of the sequences")
    parser.add_argument("--how", required=True, choices=sorted(HOW), help="what is altered")
    parser.add_argument("--year", type=int, default=2016, help="of the list of sequences")
    parser.add_argument("--subset", default="val", help="the list of sequences")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    args = vars(parser.parse_args(None if arguments is None else list(arguments)))
    try:
        count = alter(**args)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{args['out']}: {count} sequences, {args['how']}")


if __name__ == "__main__":
    main()
