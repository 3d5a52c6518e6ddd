"""One browser tab's work, and all of them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from segspn.app.archive import load_project, save_project
from segspn.app.clip import Clip
from segspn.app.engine import Engine
from segspn.app.export import export_results, exported_frames, require_offered
from segspn.app.project import Project
from segspn.app.prompts import Pointer, Stroke
from segspn.app.review import doubts
from segspn.app.runs import Background, Progress, Run
from segspn.errors import InputError
from segspn.jobs.layout import video_name
from segspn.jobs.scale import Scale
from segspn.video import open_source

MOST_TABS = 8
# A page tells every half minute that it is there.
_GONE_AFTER = 300.0
_MOST_NEWS = 10_000


class Busy(Exception):
    """A change that cannot be made while a job runs."""


class Opened:
    """A video with what was made of it."""

    def __init__(
        self, path: str | Path, name: str, folder: Path, engine: Engine, max_side: int | None
    ) -> None:
        self.name = name
        self.clip = Clip(open_source(path))
        self._engine, self._folder, self._max_side = engine, folder, max_side
        self.take(Project(folder, self.clip.source.size, len(self.clip)))

    def take(self, project: Project) -> None:
        """Go on with another project on this video."""
        scale = Scale(self.clip.source.size, self._max_side)
        self.project = project
        self.pointer = Pointer(project, self._engine)
        self.run = Run(self.clip, project, self._engine, scale)


class Tab:
    """What one page works on. Methods that change something raise `Busy` while a job runs.

    ``given``: the video named on the command line, opened first. ``lock`` must be held around calls
    that change anything.
    """

    def __init__(self, engine: Engine, given: str | None, max_side: int | None) -> None:
        self.id = secrets.token_urlsafe(18)
        self.folder = Path(tempfile.mkdtemp(prefix="segspn-app-"))
        self.lock = threading.RLock()
        self.seen = time.monotonic()
        self.opened: Opened | None = None
        self._engine, self._max_side = engine, max_side
        self._job: Background | None = None
        self._opens = 0
        self._masks: Path | None = None
        self._news: deque[tuple[int, int]] = deque(maxlen=_MOST_NEWS)  # (number, frame)
        self._told = 0
        if given is not None:
            self.open(given, video_name(given))

    # Files

    def open(self, path: str | Path, name: str) -> None:
        """Open a video in place of the one before. Raises `InputError` where it cannot be read."""
        self._require_idle()
        folder = self._new_folder()
        opened = Opened(path, name, folder, self._engine, self._max_side)
        if self.opened is not None:
            self.opened.clip.close()
            uploaded = Path(self.opened.clip.source.spec)
            if uploaded.parent == self.folder:
                uploaded.unlink()
        self.opened = opened
        self._settle(folder)

    def load_project(self, path: Path) -> None:
        """Open a project file on the video that is open. Raises `InputError` where it does not fit."""
        self._require_idle()
        opened = self.require_open()
        folder = self._new_folder()
        opened.take(load_project(path, opened.clip, folder))
        self._settle(folder)

    def save_project(self) -> Path:
        """The project file, written anew."""
        opened = self.require_open()
        path = self.folder / "project.zip"
        save_project(opened.project, opened.clip, opened.name, path)
        return path

    @property
    def results(self) -> Path:
        """Where an export leaves its zip."""
        return self.folder / "results.zip"

    def new_upload(self, suffix: str) -> Path:
        """Where a file that is sent may be written."""
        return self.folder / f"upload-{secrets.token_hex(8)}{suffix}"

    def uses(self, path: Path) -> bool:
        """Whether ``path`` is the open video."""
        return self.opened is not None and Path(self.opened.clip.source.spec) == path

    def require_open(self) -> Opened:
        if self.opened is None:
            raise InputError("open a video first")
        return self.opened

    # Changes

    def edit(self, stroke: Stroke) -> None:
        self._require_idle()
        opened = self.require_open()
        opened.pointer.apply(stroke, opened.clip.pixels(stroke.frame))
        opened.run.changed(stroke.frame)

    def undo(self) -> int | None:
        self._require_idle()
        opened = self.require_open()
        frame = opened.project.undo()
        opened.pointer.back()
        opened.run.forget_tracker()
        return frame

    def clear(self, frame: int) -> None:
        self._require_idle()
        opened = self.require_open()
        opened.project.clear(frame)
        opened.pointer.forget()
        opened.run.forget_tracker()

    def remove(self, object_id: int) -> None:
        self._require_idle()
        opened = self.require_open()
        opened.project.remove(object_id)
        opened.run.forget_tracker()

    # Jobs

    def start_run(self, frame: int, direction: str | None) -> None:
        """Run from a frame; ``direction`` None goes on with a paused run."""
        self._require_idle()
        run = self.require_open().run
        progress = run.again(frame) if direction is None else run.plan(frame, direction)
        self._start(progress, lambda asked: run.follow(progress, asked, self._news_of))

    def start_export(self, save: Iterable[str]) -> None:
        self._require_idle()
        opened = self.require_open()
        wanted = require_offered(save)
        frames = exported_frames(opened.project)
        progress = Progress("export", 2 * len(frames), "drawing")
        self.results.unlink(missing_ok=True)

        def work(asked: threading.Event) -> None:
            export_results(
                opened.project, opened.clip, opened.name, wanted, self.results, progress, asked
            )

        self._start(progress, work)

    def pause(self) -> None:
        """Stop the job after the frame it is at; a run can go on later."""
        if self._job is not None:
            self._job.stop()

    def cancel(self) -> None:
        """Stop the job for good; frames that are done stay."""
        self.pause()
        if self.opened is not None:
            self.opened.run.forget()
        if self._job is not None and self._job.progress.phase == "paused":
            self._job = None

    # Telling

    def told(self) -> dict[str, Any]:
        """Everything the page must know, plain JSON values."""
        opened = self.opened
        if opened is None:
            return {"video": None, "job": None}
        source, cursor = opened.clip.source, self._told
        return {
            "video": {
                "name": opened.name,
                "frames": len(opened.clip),
                "size": list(source.size),
                "shown": list(opened.clip.shown.working),
                "fps": source.fps,
                "number": self._opens,
            },
            **self.changed(sorted(opened.project.looks)),
            "cursor": cursor,
        }

    def changed(self, frames: Iterable[int]) -> dict[str, Any]:
        """Objects, job, and what there is to tell of some frames and those after them."""
        opened = self.require_open()
        project = opened.project
        wide = sorted({f for frame in frames for f in (frame, frame + 1) if f < project.count})
        why = doubts(project.looks, wide, project.cuts)
        present = {thing.id for thing in project.present}
        told: dict[int, Any] = {}
        for frame in wide:
            looks = {i: v for i, v in project.looks.get(frame, {}).items() if i in present}
            told[frame] = {
                "objects": {i: [round(v.area, 6), round(v.confidence, 4)] for i, v in looks.items()},
                "doubts": {i: told for i, told in why.get(frame, {}).items() if i in present},
                "drawn": sorted(project.drawn.get(frame, frozenset()) & present),
                "cut": frame in project.cuts,
            }
        return {
            "objects": [
                {"id": t.id, "name": t.name, "colour": t.colour} for t in project.present
            ],
            "frames": told,
            "undo": project.can_undo,
            "job": None if self._job is None else self._job.progress.told(),
            "unfinished": opened.run.unfinished,
        }

    def news(self, cursor: int) -> dict[str, Any]:
        """What changed by running since ``cursor``, and the next one."""
        told, news = self._told, list(self._news)  # in this order: what comes between is told twice
        if cursor >= told:
            frames: list[int] = []
        elif news and news[0][0] <= cursor + 1:
            frames = [frame for number, frame in news if number > cursor]
        else:  # too long ago
            frames = sorted(self.require_open().project.looks)
        return {**self.changed(frames), "cursor": told}

    def close(self) -> None:
        """Stop everything and remove all files."""
        self.pause()
        if self.opened is not None:
            self.opened.clip.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._job is not None and self._job.progress.active

    def _require_idle(self) -> None:
        if self.running:
            raise Busy("pause the run first")

    def _start(self, progress: Progress, work: Callable[[threading.Event], None]) -> None:
        self._job = Background(progress, work)

    def _new_folder(self) -> Path:
        self._opens += 1
        return self.folder / f"masks-{self._opens}"

    def _settle(self, folder: Path) -> None:
        """Forget what belonged to the video or project before."""
        self._job = None
        self._news.clear()
        self.results.unlink(missing_ok=True)
        if self._masks is not None:
            shutil.rmtree(self._masks, ignore_errors=True)
        self._masks = folder

    def _news_of(self, frame: int) -> None:
        self._news.append((self._told + 1, frame))
        self._told += 1


class Tabs:
    """The tabs that are open, at most ``most``; one that is gone makes room for a new one."""

    def __init__(
        self,
        engine: Engine,
        given: str | None = None,
        max_side: int | None = None,
        most: int = MOST_TABS,
        gone_after: float = _GONE_AFTER,
    ) -> None:
        self._make: Callable[[], Tab] = lambda: Tab(engine, given, max_side)
        self._most, self._gone_after = most, gone_after
        self._tabs: dict[str, Tab] = {}
        self._lock = threading.Lock()

    def new(self) -> Tab:
        """Raises `InputError` where all are in use, or the given video cannot be read."""
        with self._lock:
            if len(self._tabs) >= self._most:
                self._drop_one()
            tab = self._make()
            self._tabs[tab.id] = tab
            return tab

    def get(self, tab_id: str) -> Tab:
        """Raises `KeyError` if it is not there (any more)."""
        tab = self._tabs[tab_id]
        tab.seen = time.monotonic()
        return tab

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            for tab in self._tabs.values():
                tab.close()
            self._tabs.clear()

    def _drop_one(self) -> None:
        oldest = min(self._tabs.values(), key=lambda tab: tab.seen)
        if oldest.running or time.monotonic() - oldest.seen < self._gone_after:
            raise InputError(
                f"{self._most} pages are open already: close one, wait five minutes and reload this"
            )
        del self._tabs[oldest.id]
        oldest.close()
