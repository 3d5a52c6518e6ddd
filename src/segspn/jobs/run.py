"""The loop of every job on a whole video: read, step, write, checkpoint, draw, report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segspn.errors import InputError
from segspn.jobs.checkpoint import (
    Checkpoint,
    input_identity,
    load_checkpoint,
    require_same,
    save_checkpoint,
)
from segspn.jobs.interrupt import CtrlC, Interrupted
from segspn.jobs.layout import Layout, make_folders, remove_if_empty, require_writable
from segspn.jobs.outputs import FrameFiles, FrameResult, draw_overview
from segspn.jobs.progress import progress_bar
from segspn.jobs.report import (
    RunSummary,
    peak_memory,
    read_report,
    timing_table,
    versions,
    write_report,
)
from segspn.jobs.scale import Scale
from segspn.video import Source, prefetch

CHECKPOINT_EVERY = 25
"""Frames between two checkpoints."""


class Steps(Protocol):
    """One sweep under way."""

    def step(self, index: int, frame: np.ndarray) -> FrameResult:
        """The result of the next frame of the sweep, uint8 (H, W, 3) at full size; at the working
        size."""

    def save(self, path: Path) -> None:
        """Write the state after the last step into the folder ``path``, which is not there yet."""

    def close(self) -> None:
        """Let go of files and threads; no step follows."""


class Work(Protocol):
    """What a job does to the frames of a video, in one or more sweeps over them.

    Attributes:
        title: of the progress bar.
        source, scale: the frames, and the size to work at.
        ids: the objects, ascending.
        sweeps: indices of the frames in the order they are done; each frame is in one of them.
        annotations: of each annotated frame, by its index, the labels int32 (H, W) at full size,
            which are kept as they are; the first one is that of the figure.
        stage_folders: of `STAGE_FOLDERS`, those that its results can fill.
        threshold: least score of a labelled pixel.
        arguments: what its results depend on beside the frames, plain JSON values by name.
        facts: what it adds to the report.
    """

    title: str
    source: Source
    scale: Scale
    ids: tuple[int, ...]
    sweeps: Sequence[range]
    annotations: Mapping[int, np.ndarray]
    stage_folders: tuple[str, ...]
    threshold: float
    arguments: dict[str, Any]
    facts: dict[str, Any]

    def begin(self, sweep: int) -> Steps:
        """What works on the frames of ``sweeps[sweep]``, from the first one on."""

    def load(self, path: Path) -> Steps:
        """The same as `Steps.save` left it."""


def require_layout(layout: Layout, overwrite: bool, resume: bool, inputs: Iterable[str | Path]) -> None:
    """Raise `InputError` unless a run may write to ``layout`` without harm to anything."""
    layout.refuse_to_touch(*inputs)
    require_writable(layout.out, overwrite, resume, " or --resume to continue an interrupted run")


def run_video(
    work: Work,
    layout: Layout,
    *,
    save: tuple[str, ...],
    panel: bool,
    overwrite: bool,
    resume: bool,
    progress: bool,
) -> RunSummary:
    """Do ``work`` on every frame, leaving files as soon as their frame is done.

    Overlay, contact sheet, RLE file and ``run.json`` follow at the end. ``layout`` is one that
    `require_layout` has passed, ``save`` names of `SAVEABLE`; the others are those of
    `segment_video`.

    Raises:
        InputError: for anything the user can mend. Nothing is written if it is found before the
            first frame; later the finished frames stay and the run can be resumed.
        Interrupted: at Ctrl-C, after the state was saved.
    """
    source = work.source
    arguments = _arguments(work, save, panel)
    checkpoint = Checkpoint(arguments)
    if resume:
        finished = read_report(layout.report)
        if finished is not None:
            require_same(layout.out, finished["arguments"], arguments)
            shutil.rmtree(layout.work, ignore_errors=True)
            return _summary(layout, save, finished, 0, was_finished=True)
        found = load_checkpoint(layout.work)
        if found is not None:
            require_same(layout.out, found.arguments, arguments)
            checkpoint = found
    resumed_at = checkpoint.done
    files = FrameFiles(
        layout,
        save,
        panel,
        work.ids,
        next(iter(work.annotations.values()), None),
        work.scale,
        work.threshold,
        work.stage_folders,
    )
    run = _Run(work, files, layout, checkpoint, overwrite)
    try:
        with progress_bar(work.title, len(source), resumed_at, progress) as advance:
            run.follow_all(advance)
        with progress_bar("Drawing", len(source), 0, progress) as advance:
            video = layout.overlay if "overlay" in save else None
            rle = layout.rle if "rle" in save else None
            draw_overview(source, files.labels, work.ids, layout.sheet, video, rle, advance)
    except KeyboardInterrupt as stop:
        raise Interrupted(_how_to_go_on(layout, checkpoint.done, len(source))) from stop
    report = {**_facts(work), **run.figures(), "arguments": arguments}
    write_report(layout.report, report)
    # Last: as long as it is there, a killed run can be resumed.
    shutil.rmtree(layout.work)
    return _summary(layout, save, report, resumed_at, was_finished=False)


class _Run:
    """One run under way; ``checkpoint.done`` counts frames over all sweeps."""

    def __init__(
        self,
        work: Work,
        files: FrameFiles,
        layout: Layout,
        checkpoint: Checkpoint,
        overwrite: bool,
    ) -> None:
        self._work = work
        self._source = work.source
        self._files = files
        self._layout = layout
        self._checkpoint = checkpoint
        self._overwrite = overwrite
        self._ctrl_c = CtrlC()
        self._steps: Steps | None = None
        self._begun = time.perf_counter() - checkpoint.seconds

    def follow_all(self, advance: Callable[[], None]) -> None:
        """Write all frames that are not written yet."""
        with self._ctrl_c:
            try:
                before = 0
                for sweep, indices in enumerate(self._work.sweeps):
                    done = max(0, self._checkpoint.done - before)
                    if done < len(indices):
                        self._follow(sweep, indices[done:], resumed=done > 0, advance=advance)
                    before += len(indices)
                self._steps = None  # what remains is drawing, which needs none
                self._save()
            except KeyboardInterrupt:
                # Without steps, what is on disk is all there is to go on from.
                if not self._ctrl_c.torn and self._checkpoint.done and self._steps is not None:
                    with self._ctrl_c.held():
                        self._save()
                raise

    def figures(self) -> dict[str, Any]:
        """What the run cost."""
        seconds = time.perf_counter() - self._begun
        return {
            "seconds": round(seconds, 3),
            "fps": round(self._checkpoint.done / self._checkpoint.seconds, 3),
            "timings": timing_table(self._checkpoint.timings),
            "cuts": [self._source.names[k] for k in sorted(self._checkpoint.cuts)],
            "peak_memory_bytes": peak_memory(),
        }

    def _follow(self, sweep: int, indices: range, resumed: bool, advance: Callable[[], None]) -> None:
        """Step through the frames ``indices``, writing each."""
        self._steps = None  # that of the sweep before has done its work
        steps = self._load() if resumed else self._work.begin(sweep)
        if resumed:
            self._steps = steps
        stop = indices[-1] + indices.step
        # Closed at once when something goes wrong: a traceback would keep both alive.
        with (
            closing(steps),
            closing(prefetch(self._source.read(indices[0], stop, indices.step))) as frames,
        ):
            for index, frame in zip(indices, frames, strict=True):
                clock = time.perf_counter()
                if not self._checkpoint.done:
                    # It may take long, and there is nothing yet that Ctrl-C could tear.
                    result = steps.step(index, frame)
                    with self._ctrl_c.held():
                        self._begin(index, frame, result, clock)
                        self._steps = steps
                else:
                    with self._ctrl_c.held():
                        self._steps = steps
                        result = steps.step(index, frame)
                        if result.cut:  # going back, the frame is the last one of its scene
                            self._checkpoint.cuts.append(index + (indices.step < 0))
                        self._finish(index, frame, result, clock)
                        if self._checkpoint.done % CHECKPOINT_EVERY == 0:
                            self._save()
                advance()

    def _load(self) -> Steps:
        if self._checkpoint.session is None:
            raise InputError(f"{self._layout.work} lacks a session: start anew with --overwrite")
        return self._work.load(self._layout.work / self._checkpoint.session)

    def _begin(self, index: int, frame: np.ndarray, result: FrameResult, clock: float) -> None:
        """Make the folders and write the first frame: only now, when little can go wrong."""
        if self._overwrite:
            self._layout.clear()
        new = not self._layout.out.exists()
        try:
            make_folders(self._files.folders())
            self._save()
            self._finish(index, frame, result, clock)
        except InputError:  # a full disk: leave it as it was
            if new:
                self._layout.clear()
                remove_if_empty(self._layout.out)
            raise

    def _finish(self, index: int, frame: np.ndarray, result: FrameResult, clock: float) -> None:
        annotation = self._work.annotations.get(index)
        self._files.write(self._source.names[index], frame, result, annotation)
        timings = {**result.timings, "frame": time.perf_counter() - clock}
        for stage, seconds in timings.items():
            self._checkpoint.timings.setdefault(stage, []).append(round(seconds, 6))
        self._checkpoint.done += 1
        self._checkpoint.seconds = time.perf_counter() - self._begun

    def _save(self) -> None:
        save_checkpoint(self._layout.work, self._checkpoint, self._steps)


def _arguments(work: Work, save: tuple[str, ...], panel: bool) -> dict[str, Any]:
    """Everything that the results depend on, as it comes back from JSON."""
    source = work.source
    arguments = {
        "input": str(Path(source.spec).absolute()),
        "--save": list(save),
        "--panel": panel,
        **work.arguments,
        "segspn version": versions()["segspn"],
        "input content": input_identity(source),
    }
    plain: dict[str, Any] = json.loads(json.dumps(arguments, default=str))
    return plain


def _facts(work: Work) -> dict[str, Any]:
    import torch

    source = work.source
    return {
        "finished": True,
        "versions": versions(),
        **json.loads(json.dumps(work.facts, default=str)),
        "threads": torch.get_num_threads(),
        "input": source.spec,
        "frames": len(source),
        "size": list(source.size),
        "source_fps": source.fps,
        "objects": list(work.ids),
    }


def _how_to_go_on(layout: Layout, done: int, total: int) -> str:
    if not done:
        return f"stopped before the first frame, nothing was written to {layout.out}"
    return (
        f"stopped after {done} of {total} frames in {layout.out}; "
        "give the same command with --resume to go on"
    )


def _summary(
    layout: Layout,
    save: tuple[str, ...],
    report: dict[str, Any],
    resumed_at: int,
    was_finished: bool,
) -> RunSummary:
    return RunSummary(
        out=layout.out,
        labels=layout.labels if "labels" in save else None,
        frames=report["frames"],
        ids=tuple(report["objects"]),
        resumed_at=resumed_at,
        was_finished=was_finished,
        report=report,
    )
