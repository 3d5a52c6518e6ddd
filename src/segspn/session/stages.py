"""The stages in order, over the frames of one video: what a session learns and segments with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone import Frame, label_shares
from segspn.craf import Craf, Sight, build_craf, merge, named
from segspn.foreground import ForegroundStage, Samples, Shot
from segspn.heap import empty
from segspn.instance import InstanceStage, View
from segspn.session.frames import State, chosen_shots

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter


@dataclass(frozen=True)
class Stages:
    """What each stage made of a frame; probabilities in 0..1 at full resolution, float32.

    ``foreground`` ``(H, W)``; ``coarse`` ``(N, H, W)`` before SPN, ``refined`` ``(N, H, W)`` after it.
    On an annotated frame all three are the annotation itself. The first two are brought to full
    resolution when they are read: most runs never do.
    """

    refined: np.ndarray
    upsample: Callable[[Tensor], np.ndarray]
    foreground_map: Tensor
    coarse_maps: Tensor

    @property
    def foreground(self) -> np.ndarray:
        return self.upsample(self.foreground_map[None])[0]

    @property
    def coarse(self) -> np.ndarray:
        return self.upsample(self.coarse_maps)


@dataclass(frozen=True)
class Result:
    """``labels`` int32 ``(H, W)``; ``scores`` float32 ``(N, H, W)`` after CRAF, in the order of ``ids``.

    ``timings``: seconds per stage; ``cut``: the frame shows another scene than the one before it.
    """

    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    stages: Stages
    timings: dict[str, float]
    cut: bool = False


class StagesInOrder:
    """The stages of one video and their objects; what a frame is, and when, is the session's to know."""

    foreground: ForegroundStage
    instance: InstanceStage

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.preset = segmenter.preset
        self.craf: Craf | None = None
        self._ids: tuple[int, ...] = ()
        self._removed: frozenset[int] = frozenset()
        self._shots: tuple[Shot, ...] = ()

    def _learn_shot(self, shot: Shot) -> None:
        """Learn an annotated frame beside those before it; its objects may be new."""
        seg, preset = self.segmenter, self.preset
        self._arrange(tuple(sorted({*self._ids, *shot.known})))
        self._shots = chosen_shots((*self._shots, shot), self._ids)
        drawn = (preset.augment, preset.seed, seg.device)
        shots = [
            replace(s, frame=self._shrink(s.frame), labels=self._shrink(s.labels)) for s in self._shots
        ]
        samples = Samples.of_shots(shots, self._ids, *drawn)
        self.foreground.adapt(samples, preset.seed)
        self.instance.fit(samples, preset.seed)
        if self.craf is not None:
            self.craf.start(shot.labels, shot.known)

    def _arrange(self, ids: tuple[int, ...]) -> None:
        """The objects from now on; new ones are to be learned."""
        before, self._ids = self._ids, ids
        if not ids or not before:
            self._open()
        elif ids != before:
            self.instance.arrange([before.index(i) if i in before else None for i in ids])
            if self.craf is not None:
                for i in set(ids) - set(before):
                    self.craf.add(i)
                for i in set(before) - set(ids):
                    self.craf.remove(i)

    def _open(self) -> None:
        """New stages for the objects, which have learned nothing."""
        if not self._ids:
            self.craf, self._shots = None, ()
            return
        model = self.segmenter.model
        self.foreground = model.foreground(self.preset)
        self.instance = model.instances(self.preset, len(self._ids))
        if self.preset.craf.enabled:
            self.craf = build_craf(self.preset.craf.parameters, self._ids)

    def _state(self) -> State:
        if not self._ids:
            return State()
        return State(
            self._ids,
            self.foreground.state(),
            self.instance.state(),
            None if self.craf is None else self.craf.state(),
            self._shots,
        )

    def _restore(self, state: State) -> None:
        """Take up ``state``, without the objects that have been removed since."""
        self._ids = state.ids
        self._open()
        if state.ids:
            self._shots = state.shots
            self.foreground.restore(state.foreground)
            self.instance.restore(state.instance)
            if self.craf is not None and state.craf is not None:
                self.craf.restore(state.craf)
            self._arrange(tuple(i for i in state.ids if i not in self._removed))

    def _segment(self, pixels: np.ndarray, index: int, timings: dict[str, float]) -> Result:
        """The result of frame number ``index``; ``timings`` gets the seconds of each stage."""
        seg = self.segmenter
        size = pixels.shape[:2]
        with timed(timings, "backbone"):
            frame = Frame(self._shrink(pixels), seg.device)
            seg.model.prepare(frame)
        with timed(timings, "foreground"):
            foreground = self.foreground.predict(frame)
        with timed(timings, "instance"):
            cut = not self.instance.follows(frame)
            if cut:
                self.instance.scatter()
                if self.craf is not None:
                    self.craf.scatter()
            coarse = self.instance.predict(frame)
            coarse = self.foreground.keep_inside(coarse, foreground)
        with timed(timings, "spn"):
            if self.preset.spn.enabled:
                refined = seg.refiner.refine(frame, coarse, self.instance.votes(frame))
                scores = at_size(refined, size).cpu().numpy()
            else:
                scores = _upsampler(frame, size)(coarse)
        with timed(timings, "craf"):
            if self.craf is not None:
                filtered = self.craf.step(scores, sight=self._sight(frame))
                final, labels = filtered.scores, filtered.labels
            else:
                final, labels = scores, merge(scores, self._ids, self.preset.threshold)
        with timed(timings, "memory"):
            shares = label_shares(self._shrink(labels), self._ids, seg.device)
            self.instance.accept(frame, shares, index)
        stages = Stages(scores, _upsampler(frame, size), foreground, coarse)
        return Result(labels, final, self._ids, stages, timings, cut)

    def _sight(self, frame: Frame) -> Sight:
        """What the instance stage has seen of ``frame``, for the filter."""
        motion, likeness = (
            None if maps is None else frame.crop(maps, 4).cpu().numpy()
            for maps in (self.instance.motion(frame), self.instance.likeness(frame))
        )
        return Sight(motion, named(self.instance.alike(), self._ids), likeness)

    def _shrink(self, pixels: np.ndarray) -> np.ndarray:
        """A frame ``(H, W, 3)``, or its labels ``(H, W)``, at the size that the preset works at."""
        side = self.preset.side
        if not side or max(pixels.shape[:2]) <= side:
            return pixels
        view = View(side)
        return view.picture(pixels) if pixels.ndim == 3 else view.labels(pixels)

    def _nothing(self, pixels: np.ndarray, timings: dict[str, float]) -> Result:
        """The result of a frame while all objects have been removed."""
        size = pixels.shape[:2]
        none = np.zeros((0, *size), np.float32)
        stages = Stages(none, as_it_is, torch.zeros(size), torch.zeros(0, *size))
        return Result(np.zeros(size, np.int32), none, (), stages, timings)


def at_size(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps ``(N, h, w)`` -> ``(N, *size)``, bilinear."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.device.type != "cpu":
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    out = torch.from_numpy(empty((1, len(maps), *size), np.float32))
    # what `interpolate` calls, which takes no memory to write to
    return torch.ops.aten.upsample_bilinear2d.out(maps[None], size, False, out=out)[0]


def _upsampler(frame: Frame, size: tuple[int, ...]) -> Callable[[Tensor], np.ndarray]:
    """Maps ``(N, h, w)`` over the padded frame, of any stride -> ``(N, *size)``, bilinear.

    Holds sizes alone: a Result that somebody keeps must not keep the frame's features.
    """
    padded, (height, width) = frame.image.shape[-2:], frame.size

    def upsample(maps: Tensor) -> np.ndarray:
        return at_size(at_size(maps, padded)[:, :height, :width], size).cpu().numpy()

    return upsample


def as_it_is(maps: Tensor) -> np.ndarray:
    return maps.numpy()


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - started
