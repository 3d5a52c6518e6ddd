"""Clips of several objects with exact masks, composed from sequences of one.

    python benchmarks/composer.py --davis DAVIS --out COMPOSED --clips 12 --objects 3

Each clip is a stretch of one annotated sequence, whose object is object 1, with the objects of other
stretches pasted over it, or behind its object: every second clip takes them from the same sequence, at
another time and mirrored in turn (distractors of the same class), the others from other sequences. A
pasted object keeps its own shape, light and motion about its smoothed track; the track itself is
replaced by a smooth path through the object of an earlier layer, so that objects cross and hide each
other. Edges are soft over a pixel, and hidden parts are not in the masks. In the first frame every
object covers 0.3 % of the frame or more; in every clip something is hidden, at its worst by half.

OUT is a data set in DAVIS's layout (2017, val); OUT-alone holds the same stretches with nothing pasted,
for comparison. The same arguments make the same files. DAVIS is any root in that layout; a sequence of
several objects counts as one of their union.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from segspn.errors import InputError  # noqa: E402
from segspn.evaluation import DavisSequence, open_davis  # noqa: E402
from segspn.video import read_labels, write_bytes, write_labels  # noqa: E402

VISIBLE = 0.003  # least share of the frame that each object covers in the first frame
HIDDEN = 0.5  # least share of an object that is hidden in its worst frame, in some object
DRAWS = 400  # plans tried per clip
SMALL = 4  # plans are tried on masks so many times smaller
TRACK = 15  # frames over which an object's own track is smoothed
LARGEST = 0.15  # share of the frame, of any object in the first frame
EDGE = 0.02  # largest share of a pasted object's mask that lies on the frame's rim


@dataclass(frozen=True)
class Stretch:
    """Frames of one sequence, by position, in the order they are shown."""

    sequence: DavisSequence
    frames: tuple[int, ...]

    def picture(self, t: int) -> np.ndarray:
        """The frame at time ``t``, uint8 BGR ``(H, W, 3)``."""
        path = next(self.sequence.images.glob(f"{self.sequence.frames[self.frames[t]]}.[jp][pn]g"))
        return cv2.imread(str(path), cv2.IMREAD_COLOR)

    def mask(self, t: int) -> np.ndarray:
        """The union of its objects at time ``t``, bool ``(H, W)``."""
        labels = read_labels(self.sequence.annotation(self.sequence.frames[self.frames[t]]))
        return labels != 0


@dataclass(frozen=True)
class Pasted:
    """One pasted object: where it is from, and for each frame an affine map ``(T, 2, 3)`` from its
    frame to the clip's, in pixels."""

    stretch: Stretch
    maps: np.ndarray

    def warp(self, picture: np.ndarray, t: int, size: tuple[int, int], scale: int = 1) -> np.ndarray:
        """``picture`` of time ``t``, both it and ``size`` ``(H, W)`` made ``scale`` times smaller."""
        matrix = self.maps[t].copy()
        matrix[:, 2] /= scale
        warped: np.ndarray = cv2.warpAffine(picture, matrix, size[::-1], flags=cv2.INTER_LINEAR)
        return warped


@dataclass(frozen=True)
class Clip:
    """``base`` with its object, id 1, and ``pasted`` objects, ids 2 and up; ``order`` of all ids from
    the farthest to the nearest."""

    name: str
    base: Stretch
    pasted: tuple[Pasted, ...]
    order: tuple[int, ...]

    def labels(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Label map int32 ``(H, W)`` of the whole masks, bool ``(H, W)``, of ids 1 and up."""
        out = np.zeros(masks[0].shape, np.int32)
        for i in self.order:
            out[masks[i - 1]] = i
        return out

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame ``t``: uint8 BGR ``(H, W, 3)``, and its labels, int32 ``(H, W)``."""
        base, own = self.base.picture(t), self.base.mask(t)
        size = (own.shape[0], own.shape[1])
        pictures, alphas = [base], [_soft(own.astype(np.float32))]
        for item in self.pasted:
            pictures.append(item.warp(item.stretch.picture(t), t, size))
            alphas.append(_soft(item.warp(item.stretch.mask(t).astype(np.float32), t, size)))
        canvas = base.astype(np.float32)
        for i in self.order:
            alpha = alphas[i - 1][..., None]
            canvas += alpha * (pictures[i - 1] - canvas)
        return np.rint(canvas).astype(np.uint8), self.labels([alpha >= 0.5 for alpha in alphas])


def _soft(mask: np.ndarray) -> np.ndarray:
    """A mask, float32 ``(H, W)``, with an edge that is soft over a pixel; 0.5 where it was."""
    soft: np.ndarray = cv2.GaussianBlur(mask, (3, 3), 0.6)
    return soft


class Composer:
    """Draws plans of clips from the sequences of a data set; small masks are read once."""

    def __init__(self, sequences: Sequence[DavisSequence], frames: int) -> None:
        self.sequences = sequences
        self.frames = frames
        self._masks: dict[tuple[str, int], np.ndarray] = {}

    def clip(self, index: int, objects: int, seed: int) -> Clip:
        """Clip ``index`` with so many objects. InputError where none of many plans will do."""
        rng = np.random.default_rng([seed, index])
        # In turn, so that a few clips use many sequences. Odd clips hold distractors; every other
        # time round it is the even ones, so that each sequence comes to both.
        lap, turn = divmod(index, len(self.sequences))
        base = self.sequences[turn]
        for _ in range(DRAWS):
            others = [s for s in self.sequences if s.name != base.name]
            alike = (index + lap * (len(self.sequences) + 1)) % 2 == 1 or not others
            donors = [base] * (objects - 1)
            if not alike:
                take = rng.choice(len(others), objects - 1, replace=objects - 1 > len(others))
                donors = [others[k] for k in take]
            clip = self._draw(f"{index:02d}-{base.name}{'-alike' if alike else ''}", base, donors, rng)
            if clip is not None:
                return clip
        raise InputError(
            f"no clip of {objects} objects was found over {base.name} in {DRAWS} draws: give fewer "
            "--objects, another --seed or more sequences"
        )

    def _draw(
        self, name: str, base: DavisSequence, donors: list[DavisSequence], rng: np.random.Generator
    ) -> Clip | None:
        """One plan, or None if it breaks a rule."""
        ground = self._stretch(base, rng, None)
        own = self._small(ground)
        area = own[0].mean()
        if not VISIBLE <= area <= LARGEST:
            return None
        wholes = [own]
        pasted = []
        for k, donor in enumerate(donors):
            stretch = self._stretch(donor, rng, ground if donor.name == base.name else None)
            masks = self._small(stretch)
            if not masks[0].mean() >= VISIBLE or _rim(masks) > EDGE:
                return None
            if donor.name == base.name:
                wanted = area * rng.uniform(0.5, 1.2)
            else:
                wanted = np.exp(rng.uniform(np.log(0.015), np.log(0.08)))
            zoom = float(np.clip(np.sqrt(wanted / masks[0].mean()), 0.35, 1.6))
            mirrored = bool(rng.integers(2)) if donor.name != base.name else k % 2 == 0
            met = wholes[int(rng.integers(len(wholes)))]
            item = Pasted(stretch, _maps(masks, met, zoom, mirrored, rng))
            pasted.append(item)
            size = (own.shape[1], own.shape[2])
            wholes.append(
                np.stack([item.warp(m.astype(np.float32), t, size, SMALL) >= 0.5
                          for t, m in enumerate(masks)])
            )
        order = tuple(int(i) + 1 for i in rng.permutation(len(wholes)))
        clip = Clip(name, ground, tuple(pasted), order)
        return clip if _will_do(clip, wholes) else None

    def _stretch(
        self, sequence: DavisSequence, rng: np.random.Generator, unlike: Stretch | None
    ) -> Stretch:
        """A stretch that starts anywhere; short sequences turn back at their end. Away from the start
        of ``unlike``, if given."""
        count = len(sequence.frames)
        first = int(rng.integers(max(1, count - self.frames + 1)))
        if unlike is not None:
            first = (unlike.frames[0] + int(rng.integers(count // 4, 3 * count // 4 + 1))) % count
        turns = [*range(count), *range(count - 2, 0, -1)]
        return Stretch(sequence, tuple(turns[(first + t) % len(turns)] for t in range(self.frames)))

    def _small(self, stretch: Stretch) -> np.ndarray:
        """Small masks of a stretch, bool ``(T, h, w)``."""
        out = []
        for t, frame in enumerate(stretch.frames):
            key = (stretch.sequence.name, frame)
            if key not in self._masks:
                self._masks[key] = stretch.mask(t)[::SMALL, ::SMALL]
            out.append(self._masks[key])
        return np.stack(out)


def _rim(masks: np.ndarray) -> float:
    """The largest share of a mask on the rim of its frame, over small masks bool ``(T, h, w)``."""
    rim = masks.copy()
    rim[:, 1:-1, 1:-1] = False
    return float((rim.sum((1, 2)) / np.maximum(masks.sum((1, 2)), 1)).max())


def _tracks(masks: np.ndarray) -> np.ndarray:
    """Centroids ``(T, 2)`` as x, y of small masks; where a mask is empty, of the nearest that is not."""
    seen = np.flatnonzero(masks.any((1, 2)))
    points = np.array([np.argwhere(masks[t]).mean(0)[::-1] for t in seen])
    times = np.arange(len(masks))
    return np.stack([np.interp(times, seen, points[:, k]) for k in (0, 1)], 1)


def _smooth(track: np.ndarray) -> np.ndarray:
    """A track ``(T, 2)`` averaged over `TRACK` frames."""
    half = TRACK // 2
    grown = np.pad(track, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(grown[:, k], np.ones(TRACK) / TRACK, "valid") for k in (0, 1)], 1)


def _maps(
    masks: np.ndarray, met: np.ndarray, zoom: float, mirrored: bool, rng: np.random.Generator
) -> np.ndarray:
    """Affine maps ``(T, 2, 3)`` that take an object along a path through another one.

    ``masks``, ``met``: the small masks bool ``(T, h, w)`` of the object and of the one it meets. The
    path goes from one side, through where the other is at a moment in the middle, to the other side.
    """
    count, height, width = masks.shape
    track = _tracks(masks)
    own = _tracks(met)
    smooth = _smooth(track)
    moment = int(count * rng.uniform(0.35, 0.65))
    times = np.arange(count) / (count - 1)
    through = own[moment] + rng.uniform(-0.03, 0.03, 2) * (width, height)
    side = rng.choice([-1.0, 1.0])
    reach = np.array([side * rng.uniform(0.2, 0.45) * width, rng.uniform(-0.15, 0.15) * height])
    start, end = through - reach, through + reach * rng.uniform(0.7, 1.0)
    # A parabola through the three points, kept inside the frame.
    u = times[moment]
    weights = np.stack(
        [
            (times - u) * (times - 1) / u,
            times * (times - 1) / (u * (u - 1)),
            times * (times - u) / (1 - u),
        ],
        1,
    )
    path = weights @ np.stack([start, through, end])
    path = np.clip(path, (0.08 * width, 0.15 * height), (0.92 * width, 0.85 * height))
    flip = -1.0 if mirrored else 1.0
    linear = np.array([[flip * zoom, 0.0], [0.0, zoom]])
    # Its own motion about its smoothed track stays: the smoothed track lands on the path.
    shift = path - smooth @ linear.T
    maps = np.concatenate([np.broadcast_to(linear, (count, 2, 2)), shift[..., None]], 2).copy()
    maps[..., 2] *= SMALL
    return maps


def _will_do(clip: Clip, wholes: Sequence[np.ndarray]) -> bool:
    """Whether whole small masks, bool ``(T, h, w)`` each, keep the rules of this module."""
    shown = np.stack([clip.labels([whole[t] for whole in wholes]) for t in range(len(wholes[0]))])
    hidden = 0.0
    for i, whole in enumerate(wholes, 1):
        area, seen = whole.sum((1, 2)), (shown == i).sum((1, 2))
        # Twice the least: it is counted on small masks.
        if seen[0] < 2 * VISIBLE * whole[0].size or seen[0] < 0.8 * area[0]:
            return False
        if (seen > 0).mean() < 0.75:
            return False
        hidden = max(hidden, float((1 - seen / np.maximum(area, 1)).max()))
    return hidden >= HIDDEN


def compose(
    davis: Path, out: Path, year: int, subset: str, clips: int, objects: int, frames: int, seed: int
) -> tuple[Path, Path]:
    """Write the data set and that of the bases alone; returns their roots.

    Raises InputError for a root or output that will not do, before anything is written.
    """
    if not 2 <= objects <= 5:
        raise InputError(f"--objects {objects}: give 2 to 5")
    if frames < 2 * TRACK:
        raise InputError(f"--frames {frames}: give {2 * TRACK} or more, for objects to cross")
    roots = (out, out.with_name(f"{out.name}-alone"))
    for root in roots:
        if root.exists():
            raise InputError(f"{root} is there already: remove it or give another --out")
    composer = Composer(open_davis(davis, year, subset).sequences, frames)
    planned = [composer.clip(index, objects, seed) for index in range(clips)]
    for root in roots:
        work = root.with_name(f".{root.name}.part")
        shutil.rmtree(work, ignore_errors=True)
        for clip in planned:
            alone = root is roots[1]
            shown = Clip(clip.name, clip.base, (), (1,)) if alone else clip
            write_frames(work, clip.name, (shown.render(t) for t in range(len(shown.base.frames))))
        write_list(work, 2017, "val", [clip.name for clip in planned])
        work.rename(root)
    return roots


def write_frames(root: Path, name: str, frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """A sequence of a data set: frames uint8 BGR ``(H, W, 3)`` and their labels int32 ``(H, W)``."""
    images, annotations = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    for t, (picture, labels) in enumerate(frames):
        _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 95))
        write_bytes(images / f"{t:05d}.jpg", data.tobytes())
        write_labels(annotations / f"{t:05d}.png", labels)


def write_list(root: Path, year: int, subset: str, names: Iterable[str]) -> None:
    """Which sequences a data set has."""
    (root / f"ImageSets/{year}").mkdir(parents=True)
    listed = "".join(f"{name}\n" for name in names)
    write_bytes(root / f"ImageSets/{year}/{subset}.txt", listed.encode())


def options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is composed."""
    parser.add_argument("--davis", required=True, type=Path, help="root of the sequences to use")
    parser.add_argument("--year", type=int, default=2016, help="of the list of sequences")
    parser.add_argument("--subset", default="val", help="the list of sequences")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--objects", type=int, default=3, help="2 to 5 in each clip")
    parser.add_argument("--frames", type=int, default=50, help="of each clip")
    parser.add_argument("--seed", type=int, default=0)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options(parser)
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    args = vars(parser.parse_args(None if arguments is None else list(arguments)))
    try:
        roots = compose(**args)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{roots[0]}: {args['clips']} clips; {roots[1]}: the same with nothing pasted")


if __name__ == "__main__":
    main()
