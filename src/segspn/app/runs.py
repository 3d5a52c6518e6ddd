"""Following the objects through the video, in a thread that can be paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from segspn.app.clip import Clip
from segspn.app.engine import Engine, Tracker
from segspn.app.project import Project
from segspn.errors import InputError
from segspn.jobs.scale import Scale
from segspn.video import prefetch, resize_labels

DIRECTIONS = {"forward": (1,), "backward": (-1,), "both": (1, -1)}
"""The sweeps of a run by its name: step from frame to frame."""

_RECENT = 0.2


@dataclass
class Progress:
    """How far a job is. ``phase``: learning, tracking, drawing, paused, done, failed; ``kind``: run
    or export; ``frame`` the last one finished; ``seconds`` what a frame takes lately."""

    kind: str
    total: int
    phase: str
    done: int = 0
    frame: int | None = None
    seconds: float | None = None
    message: str = ""

    @property
    def active(self) -> bool:
        return self.phase in ("learning", "tracking", "drawing")

    def finished(self, frame: int, seconds: float) -> None:
        """Count one more frame; ``seconds`` of work."""
        self.done += 1
        self.frame = frame
        if self.seconds is not None:
            seconds = _RECENT * seconds + (1 - _RECENT) * self.seconds
        self.seconds = seconds

    def told(self) -> dict[str, object]:
        """Plain JSON values."""
        left = None if self.seconds is None else self.seconds * (self.total - self.done)
        return {
            "kind": self.kind,
            "phase": self.phase,
            "active": self.active,
            "done": self.done,
            "total": self.total,
            "frame": self.frame,
            "eta": left,
            "message": self.message,
        }


class Background:
    """One job in a thread of its own; what it raises is told in its progress.

    ``work`` gets an event that asks it to stop.
    """

    def __init__(self, progress: Progress, work: Callable[[threading.Event], None]) -> None:
        self.progress = progress
        self._work = work
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="segspn-app-job", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop and wait until it has; the frame it is at is finished first."""
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._asked)
        except InputError as error:
            self.progress.message, self.progress.phase = str(error), "failed"
        except BaseException as error:
            self.progress.message = f"something went wrong in segspn itself ({error!r})"
            self.progress.phase = "failed"
            raise
        else:
            self.progress.phase = "paused" if self._asked.is_set() else "done"


@dataclass
class _Live:
    """A tracker that has seen the frames up to ``at``; ``edits`` of the project that it knows of."""

    tracker: Tracker
    step: int
    at: int
    edits: int


class Run:
    """Sweeps from one frame to the ends of the video; frames drawn on the way are learnt from.

    A run that was paused goes on (`follow` again) where it stopped, with the same tracker, as long
    as nothing was drawn but in the frame where it stands.
    """

    def __init__(self, clip: Clip, project: Project, engine: Engine, scale: Scale) -> None:
        self._clip, self._project, self._engine, self._scale = clip, project, engine, scale
        self._live: _Live | None = None
        self._left: list[tuple[int, int]] = []  # (frame to start from, step) of sweeps to do

    @property
    def unfinished(self) -> bool:
        """Whether sweeps are left that a pause put off."""
        return bool(self._left)

    def plan(self, frame: int, direction: str) -> Progress:
        """Set out from ``frame``; raises `InputError` where nothing is marked in it."""
        if not self._project.labels(frame).any():
            raise InputError(
                f"nothing is marked in frame {frame}: draw an object first, or go to a frame that "
                "has a mask"
            )
        self._left = [(frame, step) for step in DIRECTIONS[direction]]
        return self._expected()

    def again(self, frame: int) -> Progress:
        """Go on with what a pause left. ``frame`` is the one looked at: where something was drawn
        since in a frame behind, the sweep starts there again."""
        if not self._left:
            raise InputError("there is nothing to continue: start a run")
        at, step = self._left[0]
        drawn_behind = (at - frame) * step > 0 and frame in self._project.drawn
        if drawn_behind and (self._live is None or self._live.edits != self._project.edits):
            self._left[0] = (frame, step)
        return self._expected()

    def forget(self) -> None:
        """Nothing is left to do, and no tracker is kept."""
        self._left, self._live = [], None

    def follow(
        self, progress: Progress, asked: threading.Event, kept: Callable[[int], None]
    ) -> None:
        """Do what is left; ``kept`` is called with each frame whose masks are new."""
        while self._left and not asked.is_set():
            self._sweep(progress, asked, kept)

    def _expected(self) -> Progress:
        total = sum(len(self._ahead(frame, step)) for frame, step in self._left)
        return Progress("run", total, "learning")

    def _ahead(self, frame: int, step: int) -> range:
        return range(frame + step, len(self._clip) if step > 0 else -1, step)

    def _sweep(
        self, progress: Progress, asked: threading.Event, kept: Callable[[int], None]
    ) -> None:
        start, step = self._left[0]
        frames = self._ahead(start, step)
        if frames:
            live = self._tracker_at(start, step)
            progress.phase = "tracking"
            stream = self._clip.source.read(frames[0], frames[-1] + step, step)
            with closing(prefetch(stream)) as pictures:
                for frame, picture in zip(frames, pictures, strict=True):
                    begun = time.perf_counter()
                    self._advance(live, frame, picture)
                    self._left[0] = (frame, step)
                    kept(frame)
                    progress.finished(frame, time.perf_counter() - begun)
                    if asked.is_set():
                        break
        if self._left[0][0] == (frames[-1] if frames else start):
            del self._left[0]
            self._live = None

    def _tracker_at(self, start: int, step: int) -> _Live:
        """A tracker that knows the masks of the frame ``start``."""
        live, edits = self._live, self._project.edits
        same = live is not None and (live.step, live.at) == (step, start)
        if live is None or not same or (live.edits != edits and start not in self._project.drawn):
            live = self._live = _Live(self._engine.tracker(), step, start, -1)
        if live.edits != edits:
            self._teach(live.tracker, self._clip.pixels(start), self._project.labels(start))
            live.edits = edits
        return live

    def _advance(self, live: _Live, frame: int, picture: np.ndarray) -> None:
        small = self._scale.shrink_frame(picture)
        with self._engine.turns:
            found = live.tracker.step(small)
        labels = self._scale.enlarge_labels(found.labels, found.scores, found.ids)
        self._project.track(frame, labels, found.scores, found.ids)
        live.at = frame
        if frame in self._project.drawn:
            self._teach(live.tracker, picture, self._project.labels(frame))

    def _teach(self, tracker: Tracker, picture: np.ndarray, labels: np.ndarray) -> None:
        if self._scale.shrinks:
            labels = resize_labels(labels, self._scale.working)
        with self._engine.turns:
            tracker.annotate(self._scale.shrink_frame(picture), labels)

