"""Following the objects through the video, in a thread that can be paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
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
_MOST_LESSONS = 4


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

    def finished(self, frame: int, seconds: float | None) -> None:
        """Count one more frame; ``seconds`` of work, None where they tell nothing of the next ones."""
        self.done += 1
        self.frame = frame
        if seconds is None:
            return
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
    """A tracker that has seen the frames up to ``at``; ``stale``: something was drawn there since."""

    tracker: Tracker
    step: int
    at: int
    stale: bool = False


class Run:
    """Sweeps from one frame to the ends of the video; frames drawn on the way are learnt from.

    A run that was paused goes on (`again`, `follow`) where it stopped: with the same tracker if
    nothing was changed but in the frame where it stands, else with a new one that learns from every
    frame near by that was drawn.
    """

    def __init__(self, clip: Clip, project: Project, engine: Engine, scale: Scale) -> None:
        self._clip, self._project, self._engine, self._scale = clip, project, engine, scale
        self._live: _Live | None = None
        self._left: list[tuple[int, int]] = []  # (frame to start from, step) of sweeps to do
        self._changed: set[int] = set()  # frames, since the last run

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
        self._changed.clear()
        return self._expected()

    def again(self, frame: int) -> Progress:
        """Go on with what a pause left. ``frame`` is the one looked at: where something was drawn
        since in a frame behind, the sweep starts there again."""
        if not self._left:
            raise InputError("there is nothing to continue: start a run")
        at, step = self._left[0]
        if (at - frame) * step > 0 and frame in self._changed:
            self._left[0] = (frame, step)
        self._changed.clear()
        return self._expected()

    def forget(self) -> None:
        """Nothing is left to do, and no tracker is kept."""
        self._left, self._live = [], None
        self._changed.clear()

    def changed(self, frame: int) -> None:
        """Take note that something was drawn in a frame."""
        self._changed.add(frame)
        if self._live is not None and frame == self._live.at:
            self._live.stale = True
        else:
            self._live = None

    def forget_tracker(self) -> None:
        """Something was taken back or removed, which a tracker cannot unlearn."""
        self._live = None

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
            live = self._live
            learning = live is None or live.stale or (live.step, live.at) != (step, start)
            live = self._tracker_at(start, step)
            stream = self._clip.source.read(frames[0], frames[-1] + step, step)
            with closing(prefetch(stream)) as pictures:
                for frame, picture in zip(frames, pictures, strict=True):
                    # What was drawn is learned with the step that follows.
                    progress.phase = "learning" if learning else "tracking"
                    begun = time.perf_counter()
                    self._advance(live, frame, picture)
                    self._left[0] = (frame, step)
                    kept(frame)
                    progress.finished(frame, None if learning else time.perf_counter() - begun)
                    learning = frame in self._project.drawn
                    if asked.is_set():
                        break
        if self._left[0][0] == (frames[-1] if frames else start):
            del self._left[0]
            self._live = None

    def _tracker_at(self, start: int, step: int) -> _Live:
        """A tracker that knows the masks of the frame ``start``, and that came there by ``step``."""
        live = self._live
        if live is None or (live.step, live.at) != (step, start):
            live = self._live = _Live(self._engine.tracker(), step, start)
            for frame in self._lessons(start):
                self._teach(live.tracker, frame, self._project.drawn[frame])
            every = (thing.id for thing in self._project.present)
            self._teach(live.tracker, start, every)
        elif live.stale:
            self._teach(live.tracker, start, self._project.drawn.get(start, ()))
        live.stale = False
        return live

    def _lessons(self, start: int) -> list[int]:
        """Other frames that were drawn, a few of the nearest, the nearest last."""
        others = (frame for frame in self._project.drawn if frame != start)
        return sorted(others, key=lambda frame: -abs(frame - start))[-_MOST_LESSONS:]

    def _advance(self, live: _Live, frame: int, picture: np.ndarray) -> None:
        small = self._scale.shrink_frame(picture)
        with self._engine.turns:
            found = live.tracker.step(small)
        labels = self._scale.enlarge_labels(found.labels, found.scores, found.ids)
        self._project.track(frame, labels, found.scores, found.ids)
        # Of the two frames the later one begins a scene, whichever way the run goes.
        self._project.note_cut(max(frame, live.at), found.cut)
        live.at = frame
        if frame in self._project.drawn:
            self._teach(live.tracker, frame, self._project.drawn[frame])

    def _teach(self, tracker: Tracker, frame: int, ids: Iterable[int]) -> None:
        """Show a tracker the objects ``ids`` as they are shown in a frame."""
        labels = self._project.labels(frame)
        if self._scale.shrinks:
            labels = resize_labels(labels, self._scale.working)
        small = self._scale.shrink_frame(self._clip.pixels(frame))
        known = {thing.id for thing in self._project.present}
        with self._engine.turns:
            tracker.annotate(small, {i: labels == i for i in sorted(known.intersection(ids))})
