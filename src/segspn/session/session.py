"""One video, frame by frame, annotated and corrected at any moment."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from segspn.errors import InputError
from segspn.heap import array_apart, give_back, keep_free_memory, tidy
from segspn.presets import preset_of
from segspn.prompts import Answer, Look, Prompts
from segspn.session.files import read_state, write_state
from segspn.session.frames import Kept, State
from segspn.session.marks import read_marks
from segspn.session.stages import Result, Stages, StagesInOrder, as_it_is, timed

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter


class Session(StagesInOrder):
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
        super().__init__(segmenter)
        keep_free_memory()
        self.size: tuple[int, int] | None = None
        self._index = 0
        self._largest = 0
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
            give_back()  # learning needs other sizes than what frames have left free
            with timed(timings, "fit"):
                self._learn()
        before = self._state()
        if self._ids:
            result = self._segment(pixels, self._index, timings)
        else:
            result = self._nothing(pixels, timings)
        found = frozenset(self._ids)
        kept = (array_apart(pixels), array_apart(result.labels))
        self._kept.append(Kept(self._index, *kept, before, found))
        self._index += 1
        if "fit" in timings:
            give_back()
        else:
            tidy()
        return result

    def follow(self, frames: Iterable[np.ndarray]) -> Iterator[Result]:
        """`step` through ``frames``, one at a time, as far as the results are asked for."""
        for frame in frames:
            yield self.step(frame)

    def begin(
        self,
        frame: np.ndarray,
        labels: np.ndarray,
        others: Iterable[tuple[np.ndarray, np.ndarray]] = (),
    ) -> Result:
        """`annotate` the first frame and learn at once; returns the annotation as a Result.

        For whole videos: ``timings["fit"]`` is what learning took. ``others``: frames and labels from
        later on in the video, to be known from the start. Raises ValueError when the session
        has been annotated before, InputError as `annotate` does.
        """
        if self.size is not None:
            raise ValueError("this session is annotated already; start a new one")
        for annotated in (*others, (frame, labels)):
            self.annotate(*annotated)
        timings = dict[str, float]()
        with torch.inference_mode(), timed(timings, "fit"):
            self._learn()
        labels, ids = self._kept[-1].labels, self._ids
        onehot = np.stack([labels == i for i in ids]).astype(np.float32)
        exact = torch.from_numpy(onehot)
        stages = Stages(onehot, as_it_is, exact.amax(0), exact)
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
        from segspn.pipeline import Segmenter, resolve_device  # which makes sessions

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
        kept = self._kept[-1]
        self._restore(kept.before)
        self._learn_shot(kept.shot())
        kept.pending = False
