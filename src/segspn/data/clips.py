"""Synthetic clips from stills: objects move smoothly through a scene, with exact masks of each.
Annotated videos give stills too, and clips as they are.

The background is one still, moved by a camera; its own objects are the clip's (they move with it) or
stay unlabelled. Objects cut out of other stills move over it by affine and thin-plate warps, leave and
return, and pass behind each other and behind occluders. Beside an object a distractor may move: the
same still's object warped otherwise, or another one of the same source. Blur and illumination change
along the clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segspn.data.footage import cut_footage
from segspn.data.layers import Layer, ThinPlate, poses, sway
from segspn.data.stills import Still, Stills, id_areas
from segspn.data.synthetic import affine, jitter_colour, recolour, smooth_noise, translation
from segspn.errors import InputError

LEAST = 0.003  # of the crop: an object of fewer pixels does not count as seen
DRAWS = 30


@dataclass(frozen=True)
class ClipConfig:
    """What clips look like. Shares are of the crop's side, speeds shares per frame."""

    size: int = 256  # side of the square crop, pixels
    frames: int = 4
    objects: int = 3  # at most, labelled 1..K
    real: float = 0.5  # probability that a clip of an annotated video is cut out of it
    paste: float = 0.7  # probability that the background's own objects are not the clip's
    slow: float = 0.004  # objects move by a speed between slow and fast, evenly in its logarithm
    fast: float = 0.08
    zoom: float = 1.5  # largest growth or shrinkage of an object along the clip
    turn: float = 25.0  # degrees
    bend: float = 0.06  # thin-plate displacement, share of the object's size
    camera: float = 0.5  # the camera's motion, share of an object's
    leave: float = 0.2  # probability that an object leaves, or comes from outside
    distractor: float = 0.5  # probability of one beside the objects
    alike: float = 0.35  # probability that pasted objects are of one kind: one still's object again, or
    # others of its source
    crowd: float = 0.5  # probability that a pasted object starts close to the one before
    occluder: float = 0.4  # probability of one before an object
    blur: float = 0.3  # probability that fast layers are smeared; also that the view is out of focus
    light: float = 0.08  # colour change along the clip; a distractor's and an occluder's too
    shade: float = 0.3  # probability of moving shadows

    def __post_init__(self) -> None:
        if self.size < 32 or self.frames < 1 or not 1 <= self.objects <= 250:
            raise ValueError("size must be 32 or more, frames 1 or more, objects 1 to 250")
        if not 0 < self.slow <= self.fast:
            raise ValueError("slow and fast must satisfy 0 < slow <= fast")


@dataclass(frozen=True)
class Clip:
    """``images``: RGB uint8 ``(T, S, S, 3)``; ``labels``: uint8 ``(T, S, S)``, 0 and ids 1..K.

    Frame 0 shows at least one object. Those that it shows come first in the ids; an object with a
    higher id enters later. ``exact``: every contour is, because it was pasted, or drawn with care.
    """

    images: np.ndarray
    labels: np.ndarray
    exact: bool

    @property
    def seen(self) -> int:
        """How many of the ids frame 0 shows: 1..seen."""
        return int(self.labels[0].max())


def draw_clip(stills: Stills, rng: np.random.Generator, config: ClipConfig) -> Clip:
    """A clip that depends on ``stills``, ``config`` and the generator's state alone.

    Raises InputError for unreadable stills, or when none of 30 draws shows an object in frame 0.
    """
    c = config
    for _ in range(DRAWS):
        video = stills.draw_video(rng)
        if len(video) > 1 and rng.random() < c.real:
            cut = cut_footage(stills, video, rng, c.frames, c.size, c.objects, c.light)
            if cut is not None and _shows_object(cut[1][0]):
                return Clip(cut[0], _first_seen_first(cut[1]), exact=False)
        scene = _Scene(stills, video[int(rng.integers(len(video)))], rng, config)
        if scene.starts():
            return scene.render()
    raise InputError(
        f"no object covers {LEAST:.1%} of the first frame in {DRAWS} synthetic clips; "
        "check that the masks are not empty and the objects not tiny"
    )


class _Scene:
    """Layers from back to front. Labelled are the background's own objects, or else pasted ones."""

    def __init__(
        self, stills: Stills, still: Still, rng: np.random.Generator, config: ClipConfig
    ) -> None:
        self.stills, self.rng, self.config = stills, rng, config
        self.speed = config.size * np.exp(rng.uniform(np.log(config.slow), np.log(config.fast)))
        self.shutter = rng.uniform(0.2, 0.7) if rng.random() < config.blur else 0.0
        wanted = int(rng.integers(1, config.objects + 1))
        image, mask = stills.load(still)
        own = object_ids(mask)
        labelled = rng.permutation(own)[: 0 if rng.random() < config.paste else wanted]
        lut = np.zeros(256, np.uint8)
        lut[labelled] = np.arange(1, len(labelled) + 1)
        pasted = len(labelled) == 0
        self.exact = pasted or still.sharp
        self.camera = self._motion((config.size / 2,) * 2, config.camera if pasted else 1.0)
        background, focus = self._background(image, None if pasted else lut[mask])
        between = []
        if pasted:
            cuts = self._cuts(wanted)
            places = self._places(len(cuts))
            for k, (cut, at) in enumerate(zip(cuts, places, strict=True)):
                between.append(self._object(cut, at, k + 1, rng.random() < config.leave))
        else:
            cuts = [_CutOut.of(image, mask == i, still) for i in labelled]
            places = [focus] * len(cuts)
        self.targets = places or [focus]  # where the objects, or something, are in frame 0
        if cuts and rng.random() < config.distractor:
            between.append(self._distractor(cuts))
        self.layers = [background, *(between[i] for i in rng.permutation(len(between)))]
        if rng.random() < config.occluder:
            self.layers.append(self._occluder())

    def starts(self) -> bool:
        """Whether frame 0 shows an object."""
        return _shows_object(self._compose(0)[1])

    def render(self) -> Clip:
        config, rng = self.config, self.rng
        frames, size = config.frames, config.size
        change = np.stack([sway(rng, frames, 0.7, 0.4) for _ in range(6)], 1) + rng.normal(0, 1, 6)
        soft = np.zeros(frames)
        if rng.random() < config.blur:
            soft = np.abs(rng.uniform(0, 0.8) + sway(rng, frames, 0.4, 0.3))
        shaded = rng.random() < config.shade
        if shaded:
            noise = smooth_noise((size, 2 * size), size / 5, rng, 1) * rng.uniform(0.05, 0.3)
            shade = np.exp(np.minimum(noise, 0.2)).repeat(3, 2)
            drift = np.rint(size / 2 + sway(rng, frames, size / 4, 0.05 * size)).astype(int)
        images = np.empty((frames, size, size, 3), np.uint8)
        labels = np.empty((frames, size, size), np.uint8)
        for t in range(frames):
            image, labels[t] = self._compose(t)
            if shaded:
                here = shade[:, drift[t] : drift[t] + size]
                image = cv2.multiply(image, here, dtype=cv2.CV_8U)
            if soft[t] > 0.3:
                image = cv2.GaussianBlur(image, (0, 0), float(soft[t]))
            images[t] = recolour(image, change[t], config.light)
        return Clip(images, _first_seen_first(labels), self.exact)

    def _compose(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self.layers[0].background(t, self.config.size)
        for layer in self.layers[1:]:
            layer.lay(t, image, labels)
        return image, labels

    def _motion(self, centre: tuple[float, float], amount: float) -> np.ndarray:
        """Matrices ``(T, 3, 3)`` of a wandering, turning and zooming about a point of the crop."""
        config, rng = self.config, self.rng
        speed = amount * self.speed * rng.uniform(0.3, 1.0, 2)
        reach = amount * config.size * rng.uniform(0.05, 0.2)
        pace = amount * self.speed / config.size  # of turning and zooming
        shift = np.stack([sway(rng, config.frames, reach, s) for s in speed], 1)
        turn = sway(rng, config.frames, amount * config.turn / 2, 180 * pace * rng.uniform(0, 1))
        zoom = sway(rng, config.frames, amount * np.log(config.zoom) / 2, 2 * pace * rng.uniform(0, 1))
        return poses(centre, shift, turn, zoom)

    def _bending(self, size: tuple[float, float], side: int) -> tuple[ThinPlate, np.ndarray]:
        """A thin plate and its control points' displacements ``(T, side**2, 2)`` along the clip."""
        config, rng = self.config, self.rng
        reach = rng.uniform(0, config.bend) * max(size)
        rate = reach * rng.uniform(0.1, 0.6)
        curves = [sway(rng, config.frames, reach / 2, rate) for _ in range(2 * side * side)]
        return ThinPlate(size, side), np.stack(curves, 1).reshape(config.frames, side * side, 2)

    def _background(self, image: np.ndarray, labels: np.ndarray | None) -> tuple[Layer, np.ndarray]:
        """The layer, and where its objects, or just something, are in the crop in frame 0."""
        rng, size = self.rng, self.config.size
        h, w = image.shape[:2]
        zoom = size / min(h, w) * np.exp(rng.uniform(np.log(1.05), np.log(1.8)))
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        w, h = round(w * zoom), round(h * zoom)
        image = cv2.resize(image, (w, h), interpolation=way)
        if labels is not None:
            labels = cv2.resize(labels, (w, h), interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            image = cv2.flip(image, 1)
            labels = None if labels is None else cv2.flip(labels, 1)
        focus = np.array([w, h]) * rng.uniform(0.3, 0.7, 2)
        if labels is not None:
            ys, xs = np.nonzero(labels)
            focus = np.array([np.median(xs), np.median(ys)])
        # The crop in frame 0 lies inside the still; what lies beyond its edges is mirrored.
        corner = np.clip(focus - size * rng.uniform(0.3, 0.7, 2), 0, np.array([w, h]) - size)
        base = affine((size / 2,) * 2, rng.normal(0, 4), 1.0, False) @ translation(*-corner)
        plate, control = self._bending((w, h), 4)
        layer = Layer(image, labels, None, 0, self.camera @ base, plate, control)
        return layer, focus - corner

    def _object(self, cut: _CutOut, at: np.ndarray, label: int, leaves: bool = False) -> Layer:
        """A cut-out that is at ``at`` of the crop in frame 0, unless it comes from outside."""
        rng, config = self.rng, self.config
        image, alpha = cut.image, cut.alpha
        # Objects of about .2 to .9 of the crop; hardly ever blown up, which would look soft.
        side = config.size * np.exp(rng.uniform(np.log(0.2), np.log(0.9)))
        zoom = min(side / max(alpha.shape), 1.3)
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        w, h = (max(4, round(n * zoom)) for n in alpha.shape[::-1])
        image, alpha = (cv2.resize(x, (w, h), interpolation=way) for x in (image, alpha))
        if rng.random() < 0.5:
            image, alpha = cv2.flip(image, 1), cv2.flip(alpha, 1)
        image = jitter_colour(image, rng, config.light / 2 if label else config.light)
        base = translation(*at) @ affine((0, 0), rng.normal(0, 8), 1.0, False)
        own = self._motion((float(at[0]), float(at[1])), 1.0)
        if leaves:
            t = np.linspace(0, 1, config.frames) if config.frames > 1 else np.zeros(1)
            # Out; in, of objects that need not be there at first; or out and back again.
            ways = [t * t * (3 - 2 * t), np.sin(np.pi * t)]
            if label > 1:
                ways.append(1 - ways[0])
            heading = rng.uniform(0, 2 * np.pi)
            # In a short clip only partly: not by leaps.
            far = min((config.size + max(w, h)) * rng.uniform(0.4, 0.7),
                      2 * config.fast * config.size * config.frames)
            away = far * ways[int(rng.integers(len(ways)))][:, None]
            gone = away * (np.cos(heading), np.sin(heading))
            own = np.stack([translation(*x) for x in gone]) @ own
        matrices = self.camera @ own @ (base @ translation(-w / 2, -h / 2))
        plate, control = self._bending((w, h), 3)
        return Layer(image, None, alpha, label, matrices, plate, control, self.shutter)

    def _distractor(self, cuts: list[_CutOut]) -> Layer:
        """The same still's object again, or another of its source, beside one of the objects."""
        rng = self.rng
        k = int(rng.integers(len(cuts)))
        cut = cuts[k]
        if rng.random() < 0.5:
            cut = _CutOut.draw(self.stills, rng, cut.source) or cut
        return self._object(cut, self.targets[k] + self._beside(0.2, 0.5), label=0)

    def _beside(self, near: float, far: float) -> np.ndarray:
        """A way in any direction, between two shares of the crop long, in pixels."""
        heading = self.rng.uniform(0, 2 * np.pi)
        length = self.config.size * self.rng.uniform(near, far)
        return length * np.array([np.cos(heading), np.sin(heading)])

    def _occluder(self) -> Layer:
        """An object, or a bar or blob of some still's texture, that crosses one of the objects."""
        rng, config = self.rng, self.config
        target = self.targets[int(rng.integers(len(self.targets)))]
        when = rng.uniform(0, config.frames)
        heading = rng.uniform(0, 2 * np.pi)
        velocity = self.speed * rng.uniform(0, 1.5) * np.array([np.cos(heading), np.sin(heading)])
        cut = _CutOut.draw(self.stills, rng) if rng.random() < 0.4 else None
        layer = self._object(cut or self._texture(), target - when * velocity, label=0)
        # Its own wandering is replaced by a straight crossing.
        steady = np.stack([translation(*(velocity * t)) for t in range(config.frames)])
        layer.matrices = steady @ self.camera @ layer.matrices[0]
        return layer

    def _texture(self) -> _CutOut:
        rng, size = self.rng, self.config.size
        image = self.stills.load(self.stills.draw(rng))[0]
        h, w = (min(n, size) for n in image.shape[:2])
        y, x = (int(rng.integers(0, n - m + 1)) for n, m in zip(image.shape, (h, w), strict=False))
        alpha: np.ndarray = np.zeros((h, w), np.float32)
        if rng.random() < 0.6:
            thick = max(2, round(w * rng.uniform(0.04, 0.25)))
            cv2.line(alpha, (w // 2, 0), (w // 2, h), 1.0, thick)
        else:
            axes = (max(2, round(w * rng.uniform(0.1, 0.45))), max(2, round(h * rng.uniform(0.1, 0.45))))
            cv2.ellipse(alpha, (w // 2, h // 2), axes, 0, 0, 360, 1.0, -1)
        return _CutOut(image[y : y + h, x : x + w], cv2.GaussianBlur(alpha, (3, 3), 0.8), "")

    def _places(self, count: int) -> list[np.ndarray]:
        """Where pasted objects are in frame 0."""
        rng, size = self.rng, self.config.size
        places: list[np.ndarray] = []
        for _ in range(count):
            at = size * rng.uniform(0.2, 0.8, 2)
            if places and rng.random() < self.config.crowd:
                at = np.clip(places[-1] + self._beside(0.15, 0.4), 0.1 * size, 0.9 * size)
            places.append(at)
        return places

    def _cuts(self, wanted: int) -> list[_CutOut]:
        """Up to ``wanted`` objects: of one kind, of one still, or each of another."""
        rng = self.rng
        if wanted > 1 and rng.random() < self.config.alike:
            cut = _CutOut.draw(self.stills, rng)
            if cut is not None:
                again = rng.random(wanted - 1) < 0.5
                kin = (
                    cut if same else _CutOut.draw(self.stills, rng, cut.source) for same in again
                )
                return [cut, *(k for k in kin if k is not None)]
        if rng.random() < 0.3:
            for _ in range(5):
                still = self.stills.draw(rng)
                image, mask = self.stills.load(still)
                ids = rng.permutation(object_ids(mask))[:wanted]
                if len(ids):
                    return [_CutOut.of(image, mask == i, still) for i in ids]
        drawn = (_CutOut.draw(self.stills, rng) for _ in range(wanted))
        return [cut for cut in drawn if cut is not None]


@dataclass(frozen=True)
class _CutOut:
    """An object: RGB uint8 ``(h, w, 3)`` and float32 alpha ``(h, w)``, with some pixels around."""

    image: np.ndarray
    alpha: np.ndarray
    source: str

    @classmethod
    def of(cls, image: np.ndarray, mask: np.ndarray, still: Still) -> _CutOut:
        """Cut along a bool mask ``(H, W)``; where drawn masks are wide, inside its outermost pixel."""
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.s_[max(0, ys[0] - 2) : ys[-1] + 3, max(0, xs[0] - 2) : xs[-1] + 3]
        cut = np.pad(mask[box].astype(np.uint8), 2)
        image = cv2.copyMakeBorder(image[box], 2, 2, 2, 2, cv2.BORDER_REPLICATE)
        if not still.sharp and min(cut.shape) > 24:
            # An edge of the still counts as inside, lest objects that it cuts shrink there.
            cut = np.pad(cv2.erode(cut[2:-2, 2:-2], np.ones((3, 3), np.uint8), borderValue=1), 2)
        return cls(image, cv2.GaussianBlur(cut.astype(np.float32), (3, 3), 0.8), still.source)

    @classmethod
    def draw(cls, stills: Stills, rng: np.random.Generator, source: str = "") -> _CutOut | None:
        """An object of a random still, of ``source`` where given; None when five have none."""
        for _ in range(5):
            still = stills.draw(rng, source)
            image, mask = stills.load(still)
            ids = object_ids(mask)
            if len(ids):
                return cls.of(image, mask == ids[rng.integers(len(ids))], still)
        return None


def object_ids(mask: np.ndarray, least: float = 0.01) -> np.ndarray:
    """Ids in a mask uint8 ``(H, W)`` of the objects that cover at least a share of it."""
    areas = id_areas(mask)
    areas[0] = 0
    return np.flatnonzero(areas >= max(1.0, least * mask.size))


def _shows_object(labels: np.ndarray) -> bool:
    return bool(id_areas(labels)[1:].max() >= LEAST * labels.size)


def _first_seen_first(labels: np.ndarray) -> np.ndarray:
    """Renumber ids 1..K of ``(T, S, S)``, those of frame 0 first; ids without a pixel vanish."""
    lut = np.zeros(256, np.uint8)
    count = 0
    for frame in labels:
        for i in np.flatnonzero(id_areas(frame)):
            if i > 0 and lut[i] == 0:
                count += 1
                lut[i] = count
    return lut[labels]
