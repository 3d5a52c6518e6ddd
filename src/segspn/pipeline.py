"""The stages in order: ``Segmenter`` holds the models, ``Session`` one video's typed state."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone import Frame, label_shares
from segspn.craf import Craf, build_craf, merge
from segspn.errors import InputError
from segspn.foreground import ForegroundStage, Samples, Shot
from segspn.instance import InstanceStage
from segspn.models import MODELS
from segspn.presets import Preset, load_preset, preset_of
from segspn.prompts import Answer, Look, Prompter, Prompts
from segspn.session import Kept, State, chosen_shots, read_marks, read_state, write_state
from segspn.spn import VideoRefiner


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

    ``timings``: seconds per stage.
    """

    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    stages: Stages
    timings: dict[str, float]


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda`` or ``mps``; InputError when absent."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if available[n])
    if name not in available:
        raise InputError(f"unknown device {name!r}; choose one of auto, {', '.join(available)}")
    if not available[name]:
        raise InputError(f"device {name!r} is not available on this machine; use --device cpu")
    return torch.device(name)


class Segmenter:
    """The models of a preset on a device, shared by any number of sessions.

    >>> session = Segmenter("default").session()
    >>> labels = session.annotate(frame0, mask)
    >>> result = session.step(frame1)
    """

    def __init__(self, preset: str | Preset = "default", device: str = "auto") -> None:
        self.preset = load_preset(preset)
        self.device = resolve_device(device)
        self.model = MODELS[self.preset.model](self.preset, self.device)
        self.refiner = self.model.refiner

    def session(self, keep: int = 16) -> Session:
        """A new session, which remembers the last ``keep`` frames so that they can be corrected."""
        return Session(self, keep)

    @cached_property
    def prompter(self) -> Prompter:
        """What turns clicks, boxes and scribbles into masks; loaded when it is first needed."""
        return self.model.prompter(self.device)

    def video_refiner(self, count: int) -> VideoRefiner:
        """A refiner of another tool's masks of one video with ``count`` objects."""
        return VideoRefiner(self.refiner, count)

    def load_session(self, path: str | Path) -> Session:
        """A session as ``save`` left it; it goes on exactly as the saved one would have."""
        return Session.load(path, self)


class Session:
    """One video, frame by frame: ``annotate`` objects at any moment, ``step`` on, ``correct``, go on.

    The session does not care where frames come from, nor in which direction they run. It numbers them
    as they come, from 0 (`index` is the next one's number), and remembers the last ``keep`` of them, so
    that they can be corrected. Its memory does not grow with the video.

    >>> session = Segmenter("default").session()
    >>> labels = session.annotate(frame0, box=(210, 80, 330, 300))      # a new object: number 1
    >>> labels = session.annotate(frame0, points=[(250, 290, False)], object_id=1)
    >>> result = session.step(frame1)
    """

    def __init__(self, segmenter: Segmenter, keep: int = 16) -> None:
        """``keep``: frames to go back to, the current one included; at least 1."""
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.segmenter = segmenter
        self.preset = segmenter.preset
        self.size: tuple[int, int] | None = None
        self.foreground: ForegroundStage
        self.instance: InstanceStage
        self.craf: Craf | None = None
        self._ids: tuple[int, ...] = ()
        self._index = 0
        self._largest = 0
        self._removed: frozenset[int] = frozenset()
        self._shots: tuple[Shot, ...] = ()
        self._kept: deque[Kept] = deque(maxlen=keep)
        self._look: Look | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects that are followed, ascending."""
        marked = self._kept[-1].known if self._kept else frozenset()
        return tuple(sorted({*self._ids, *marked}))

    @property
    def index(self) -> int:
        """How many frames have come, which is the number of the next one."""
        return self._index

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the frames that `correct` can go back to; the last is the current one."""
        return tuple(kept.index for kept in self._kept)

    @torch.inference_mode()
    def annotate(
        self,
        frame: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        scribbles: np.ndarray | None = None,
        box: Sequence[float] | None = None,
        points: Sequence[Sequence[float]] | None = None,
        object_id: int | None = None,
    ) -> np.ndarray:
        """Mark objects in a frame: at the start, a new one later on, or a known one to correct it.

        A frame other than the current one is the next frame: known objects are first found in it, as
        `step` would. The current frame can be annotated again and again; each call adds to what has
        been marked there, and hints of several calls at one object are taken together. What is marked
        is learned when the next frame is stepped to, so that every call answers quickly.

        Args:
            frame: uint8 RGB ``(H, W, 3)``, of the same size for the whole session.
            mask: integers ``(H, W)``, the exact pixels of each object that occurs in it by id; 0 says
                nothing of other objects, -1 that no object is there. Or, with ``object_id`` or of type
                bool, the pixels of that object; all false: it is not visible here.
            scribbles: integers ``(H, W)`` of strokes: ids on objects, -1 on the background, 0 elsewhere.
                Or bool, strokes on the object ``object_id``.
            box: (x0, y0, x1, y1) in pixels, around the object.
            points: (x, y) or (x, y, positive) in pixels; not positive: beside the object.
            object_id: the object that is meant, known or not; None: a new one, which gets the number
                after the largest so far. Label maps and scribbles bring their own ids.

        Returns:
            int32 ``(H, W)``: the labels of the frame, with what was marked.

        Raises:
            InputError: sizes that differ, nothing marked, or marks outside the frame.
        """
        self._check_frame(frame)
        given = (mask, scribbles, box, points, object_id)
        if self.size is None:
            empty = np.zeros(frame.shape[:2], np.int32)
            first = Kept(0, frame.copy(), empty, State())
            self._mark(first, *given)
            self.size = (frame.shape[0], frame.shape[1])
            self._kept.append(first)
            self._index = 1
        else:
            current = self._kept[-1] if self._kept else None
            if current is None or not np.array_equal(frame, current.pixels):
                labels = np.ones(self.size, np.int32)
                read_marks(self.size, labels, 1, *given)  # complain before the frame is taken
                self.step(frame)
            self._mark(self._kept[-1], *given)
        return self._kept[-1].labels.copy()

    @torch.inference_mode()
    def correct(
        self,
        index: int | None = None,
        mask: np.ndarray | None = None,
        *,
        scribbles: np.ndarray | None = None,
        box: Sequence[float] | None = None,
        points: Sequence[Sequence[float]] | None = None,
        object_id: int | None = None,
    ) -> np.ndarray:
        """Annotate a frame that the session still keeps, and go on from there.

        The session goes back to frame ``index`` (None: the current one), as if later frames had not
        come; what follows is what a session would give that had been annotated so at once. Step through
        frame ``index + 1`` and the others anew.

        Arguments as for `annotate`; hints or a bool mask without ``object_id`` mean the only object.
        Returns int32 ``(H, W)``. Raises InputError when the frame is not kept (see `kept`) or it is not
        clear which object is meant.
        """
        numbers = self.kept
        wanted = index if index is not None else numbers[-1] if numbers else 0
        if wanted not in numbers:
            told = f"{numbers[0]} to {numbers[-1]}" if numbers else "none yet"
            raise InputError(f"frame {wanted} is not kept any more; frames that are: {told}")
        target = self._kept[numbers.index(wanted)].copy()
        bare = mask is None or mask.dtype == bool
        if object_id is None and scribbles is None and bare:
            known = sorted(target.found | target.known)
            if len(known) != 1:
                raise InputError(f"say which object is meant: object_id is one of {known}")
            object_id = known[0]
        self._mark(target, mask, scribbles, box, points, object_id)
        while self._kept[-1].index > wanted:
            self._kept.pop()
        self._kept[-1] = target
        self._index = wanted + 1
        self._restore(target.before)
        return target.labels.copy()

    @torch.inference_mode()
    def step(self, pixels: np.ndarray) -> Result:
        """Segment the next frame, uint8 RGB ``(H, W, 3)`` of the annotated frame's size.

        What has been annotated since the last step is learned first (``timings["fit"]``). Raises
        ValueError before anything has been annotated, InputError for a frame of another size.
        """
        if self.size is None:
            raise ValueError("annotate a frame before stepping")
        self._check_frame(pixels)
        timings = dict[str, float]()
        self._look = None
        if self._kept and self._kept[-1].pending:
            with _timed(timings, "fit"):
                self._learn()
        before = self._state()
        result = self._segment(pixels, timings) if self._ids else self._nothing(pixels, timings)
        found = frozenset(self._ids)
        self._kept.append(Kept(self._index, pixels.copy(), result.labels.copy(), before, found))
        self._index += 1
        return result

    def follow(self, frames: Iterable[np.ndarray]) -> Iterator[Result]:
        """`step` through ``frames``, one at a time, as far as the results are asked for."""
        for frame in frames:
            yield self.step(frame)

    def begin(self, frame: np.ndarray, labels: np.ndarray) -> Result:
        """`annotate` the first frame and learn at once; returns the annotation as a Result.

        For whole videos: ``timings["fit"]`` is what learning took. Raises ValueError when the session
        has been annotated before, InputError as `annotate` does.
        """
        if self.size is not None:
            raise ValueError("this session is annotated already; start a new one")
        self.annotate(frame, labels)
        timings = dict[str, float]()
        with torch.inference_mode(), _timed(timings, "fit"):
            self._learn()
        labels, ids = self._kept[-1].labels, self._ids
        onehot = np.stack([labels == i for i in ids]).astype(np.float32)
        exact = torch.from_numpy(onehot)
        stages = Stages(onehot, _as_it_is, exact.amax(0), exact)
        return Result(labels.copy(), onehot, ids, stages, timings)

    @torch.inference_mode()
    def remove(self, object_id: int) -> None:
        """Stop following an object; its number is not used again. InputError if there is none such."""
        if object_id not in self.ids:
            raise InputError(f"there is no object {object_id}; there are {list(self.ids)}")
        self._removed |= {object_id}
        for kept in self._kept:
            kept.drop(object_id)
        self._arrange(tuple(i for i in self._ids if i != object_id))

    @torch.inference_mode()
    def copy(self) -> Session:
        """An independent session that goes on from here, such as the other way through a video.

        >>> back = session.copy()
        >>> forward = session.follow(source.read(t + 1))
        >>> backward = back.follow(source.read(t - 1, None, -1))
        """
        other = Session(self.segmenter, self._kept.maxlen or 1)
        other.size, other._index = self.size, self._index
        other._largest, other._removed = self._largest, self._removed
        other._kept.extend(kept.copy() for kept in self._kept)
        other._restore(self._state())
        return other

    @torch.inference_mode()
    def save(self, path: str | Path) -> None:
        """Write the whole state into the folder ``path``: a safetensors file and ``state.json``.

        Frames to go back to are not saved. A save that is killed leaves the former state.
        """
        if self.size is None:
            raise ValueError("nothing to save before annotate()")
        if self._kept and self._kept[-1].pending:
            self._learn()
        about = {
            "size": list(self.size),
            "largest": self._largest,
            "removed": sorted(self._removed),
            "keep": self._kept.maxlen,
            "preset": asdict(self.preset),
        }
        write_state(Path(path), self._state(), self._index, about)

    @classmethod
    def load(cls, path: str | Path, segmenter: Segmenter | None = None) -> Session:
        """A session as `save` left it; it goes on exactly as the saved one would have.

        ``segmenter``: one of the same preset; None: one is made from the preset in the file. Raises
        InputError when the state is missing, damaged or was made with another preset.
        """
        folder = Path(path)
        device = resolve_device("auto") if segmenter is None else segmenter.device
        state, meta = read_state(folder, device)
        if segmenter is None:
            segmenter = Segmenter(preset_of(meta["preset"], str(folder)))
        elif meta["preset"] != json.loads(json.dumps(asdict(segmenter.preset))):
            raise InputError(f"{folder}: session state was made with another preset; start afresh")
        session = cls(segmenter, meta["keep"])
        session.size, session._index = tuple(meta["size"]), meta["index"]
        session._largest, session._removed = meta["largest"], frozenset(meta["removed"])
        session._restore(state)
        return session

    def _check_frame(self, frame: np.ndarray) -> None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"a frame is uint8 RGB (H, W, 3), not {frame.dtype} {frame.shape}")
        if self.size is not None and frame.shape[:2] != self.size:
            raise InputError(f"frame is {frame.shape[:2]}, the annotated one {self.size} (H, W)")

    def _mark(
        self,
        kept: Kept,
        mask: np.ndarray | None,
        scribbles: np.ndarray | None,
        box: Sequence[float] | None,
        points: Sequence[Sequence[float]] | None,
        object_id: int | None,
    ) -> None:
        """Put what a person has marked into a kept frame."""
        given = (mask, scribbles, box, points, object_id)
        marks = read_marks(kept.pixels.shape[:2], kept.labels, self._largest + 1, *given)
        labels = kept.labels
        if marks.cleared is not None:
            labels[marks.cleared] = 0
        masks = dict(marks.masks)
        for i, prompts in marks.prompts.items():
            kept.answers[i] = self._answer(kept, i, prompts)
            masks[i] = kept.answers[i].scores > 0.5
        for i, own in masks.items():
            labels[labels == i] = 0
            labels[own] = i
        for i in marks.masks:
            kept.answers.pop(i, None)
        kept.known |= frozenset(masks)
        kept.pending = True
        self._removed -= frozenset(masks)
        self._largest = max(self._largest, *masks) if masks else self._largest

    def _answer(self, kept: Kept, object_id: int, prompts: Prompts) -> Answer:
        before = kept.answers.get(object_id)
        previous: np.ndarray | None = None
        if before is not None:
            previous, prompts = before.scores, before.prompts.joined(prompts)
        elif object_id in kept.known | kept.found:
            previous = (kept.labels == object_id).astype(np.float32)
        if self._look is None or self._look.pixels is not kept.pixels:
            self._look = self.segmenter.prompter.look(kept.pixels)
        return self._look.answer(prompts, previous)

    def _learn(self) -> None:
        """Learn what is marked in the current frame, from the state before it came."""
        kept, seg, preset = self._kept[-1], self.segmenter, self.preset
        self._restore(kept.before)
        self._arrange(tuple(sorted({*self._ids, *kept.known})))
        self._shots = chosen_shots((*self._shots, kept.shot()), self._ids)
        drawn = (preset.augment, preset.seed, seg.device)
        samples = Samples.of_shots(self._shots, self._ids, *drawn)
        self.foreground.adapt(samples, preset.seed)
        self.instance.fit(samples, preset.seed)
        if self.craf is not None:
            self.craf.start(kept.labels)
        kept.pending = False

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

    def _segment(self, pixels: np.ndarray, timings: dict[str, float]) -> Result:
        seg = self.segmenter
        with _timed(timings, "backbone"):
            frame = Frame(pixels, seg.device)
            seg.model.prepare(frame)
        with _timed(timings, "foreground"):
            foreground = self.foreground.predict(frame)
        with _timed(timings, "instance"):
            coarse = self.instance.predict(frame)
            coarse = self.foreground.keep_inside(coarse, foreground)
        with _timed(timings, "spn"):
            if self.preset.spn.enabled:
                refined = seg.refiner.refine(frame, coarse)
            else:
                refined = torch.from_numpy(_upsampler(frame)(coarse))
            scores = refined.cpu().numpy()
        with _timed(timings, "craf"):
            if self.craf is not None:
                filtered = self.craf.step(scores)
                final, labels = filtered.scores, filtered.labels
            else:
                final, labels = scores, merge(scores, self._ids, self.preset.threshold)
        with _timed(timings, "memory"):
            self.instance.accept(frame, label_shares(labels, self._ids, seg.device), self._index)
        stages = Stages(scores, _upsampler(frame), foreground, coarse)
        return Result(labels, final, self._ids, stages, timings)

    def _nothing(self, pixels: np.ndarray, timings: dict[str, float]) -> Result:
        """The result of a frame while all objects have been removed."""
        size = pixels.shape[:2]
        none = np.zeros((0, *size), np.float32)
        stages = Stages(none, _as_it_is, torch.zeros(size), torch.zeros(0, *size))
        return Result(np.zeros(size, np.int32), none, (), stages, timings)


def _upsampler(frame: Frame) -> Callable[[Tensor], np.ndarray]:
    """Maps ``(N, h, w)`` over the padded frame, of any stride -> ``(N, H, W)``, bilinear.

    Holds sizes alone: a Result that somebody keeps must not keep the frame's features.
    """
    padded, (height, width) = frame.image.shape[-2:], frame.size

    def upsample(maps: Tensor) -> np.ndarray:
        if maps.shape[-2:] != padded:
            maps = F.interpolate(maps[None], size=padded, mode="bilinear", align_corners=False)[0]
        return maps[:, :height, :width].cpu().numpy()

    return upsample


def _as_it_is(maps: Tensor) -> np.ndarray:
    return maps.numpy()


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - started
