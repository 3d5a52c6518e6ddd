"""A whole video from files to files: segment, write, resume."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segspn.errors import InputError
from segspn.jobs.checkpoint import (
    Checkpoint,
    input_identity,
    load_checkpoint,
    mask_identity,
    require_same,
    save_checkpoint,
)
from segspn.jobs.interrupt import CtrlC, Interrupted
from segspn.jobs.layout import Layout, make_folders, remove_if_empty, require_writable, video_name
from segspn.jobs.outputs import FrameFiles, draw_overview, require_saveable
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
from segspn.video import ObjectMasks, Source, open_source, prefetch, read_object_masks

if TYPE_CHECKING:
    from segspn.pipeline import Result, Segmenter, Session
    from segspn.presets import Preset

CHECKPOINT_EVERY = 25
"""Frames between two checkpoints."""


def segment_video(
    input: str | Path,
    mask: str | Path,
    out: str | Path,
    *,
    segmenter: Segmenter | None = None,
    preset: str | Preset = "default",
    device: str = "auto",
    mask_frame: int | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_side: int | None = None,
    save: Iterable[str] = ("labels", "overlay"),
    resize_mask: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    panel: bool = False,
    progress: bool = True,
) -> RunSummary:
    """Segment the objects of one annotated frame in every frame of a video.

    From the annotated frame the objects are followed to the last frame and, if it is not the first
    one, by a second session to the first. Files are written as their frame is done (`Layout` says
    where); the overlay video, the contact sheet and ``run.json`` follow at the end.

    Args:
        input: a video file, a folder or glob of images, a DAVIS sequence.
        mask: the annotated frame's objects, anything `segspn.video.read_object_masks` reads.
        out: folder for the results, made if needed.
        segmenter: a ready one to use; otherwise one is made from ``preset`` and ``device``.
        mask_frame: number of the annotated frame in the source; None: the first selected one.
        start, end, stride: frames to work on, by number in the source; ``end`` is exclusive.
        max_side: shrink frames to this longest side for the work; results have the full size.
        save: what to leave, names of `SAVEABLE`. The contact sheet is always left.
        resize_mask: accept a mask of another size than the frames'.
        overwrite: replace the results of an earlier run in ``out``.
        resume: go on where an interrupted run with the same arguments stopped. The results are
            those of an undisturbed run, byte for byte.
        panel: draw the six-picture figure of the authors' demo for each frame.
        progress: show a progress bar, if the error stream is a terminal.

    Raises:
        InputError: for anything the user can mend. Nothing is written if it is found before the
            first frame; later the finished frames stay and the run can be resumed.
        Interrupted: at Ctrl-C, after the state was saved.
    """
    source = open_source(input, start, end, stride)
    key = _key_index(source, mask_frame)
    masks = read_object_masks(mask, source.size, resize_mask)
    scale = Scale(source.size, max_side)
    working = scale.shrink_masks(masks, mask)
    wanted = require_saveable(save)
    layout = Layout(Path(out), video_name(input))
    layout.refuse_to_touch(input, mask)
    require_writable(layout.out, overwrite, resume, " or --resume to continue an interrupted run")
    if segmenter is None:
        from segspn.pipeline import Segmenter

        segmenter = Segmenter(preset, device)
    arguments = {
        "input": str(Path(input).absolute()),
        "--mask-frame": source.numbers[key],
        "--start": start,
        "--end": end,
        "--stride": stride,
        "--max-side": max_side,
        "--save": list(wanted),
        "--panel": panel,
        "device": str(segmenter.device),
        "preset": _plain(asdict(segmenter.preset)),
        "segspn version": versions()["segspn"],
        "input content": input_identity(source),
        "mask content": mask_identity(masks.labels),
    }
    checkpoint = Checkpoint(arguments)
    if resume:
        finished = read_report(layout.report)
        if finished is not None:
            require_same(layout.out, finished["arguments"], arguments)
            shutil.rmtree(layout.work, ignore_errors=True)
            return _summary(layout, wanted, finished, 0, was_finished=True)
        found = load_checkpoint(layout.work)
        if found is not None:
            require_same(layout.out, found.arguments, arguments)
            checkpoint = found
    resumed_at = checkpoint.done
    files = FrameFiles(layout, wanted, panel, masks, scale, segmenter.preset.threshold)
    run = _Run(source, key, segmenter, scale, working, files, layout, checkpoint, overwrite)
    try:
        with progress_bar("Segmenting", len(source), resumed_at, progress) as advance:
            run.segment(advance)
        with progress_bar("Drawing", len(source), 0, progress) as advance:
            video = layout.overlay if "overlay" in wanted else None
            draw_overview(source, files.labels, masks.ids, layout.sheet, video, advance)
    except KeyboardInterrupt as stop:
        raise Interrupted(_how_to_go_on(layout, checkpoint.done, len(source))) from stop
    report = {**_facts(source, masks, segmenter), **run.figures(), "arguments": arguments}
    write_report(layout.report, report)
    # Last: as long as it is there, a killed run can be resumed.
    shutil.rmtree(layout.work)
    return _summary(layout, wanted, report, resumed_at, was_finished=False)


class _Run:
    """One run under way. Frames are written in two sweeps from the annotated one, ``key``: to the
    last frame, then to the first; ``checkpoint.done`` counts over both.
    """

    def __init__(
        self,
        source: Source,
        key: int,
        segmenter: Segmenter,
        scale: Scale,
        labels: np.ndarray,
        files: FrameFiles,
        layout: Layout,
        checkpoint: Checkpoint,
        overwrite: bool,
    ) -> None:
        self._source = source
        self._key = key
        self._segmenter = segmenter
        self._scale = scale
        self._labels = labels
        self._files = files
        self._layout = layout
        self._checkpoint = checkpoint
        self._overwrite = overwrite
        self._ctrl_c = CtrlC()
        self._session: Session | None = None
        self._begun = time.perf_counter() - checkpoint.seconds

    def segment(self, advance: Callable[[], None]) -> None:
        """Write all frames that are not written yet."""
        with self._ctrl_c:
            try:
                self._sweep_both_ways(advance)
            except KeyboardInterrupt:
                if not self._ctrl_c.torn and self._checkpoint.done:
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
            "peak_memory_bytes": peak_memory(),
        }

    def _sweep_both_ways(self, advance: Callable[[], None]) -> None:
        count, key, checkpoint = len(self._source), self._key, self._checkpoint
        forward = count - key
        if checkpoint.done < forward:
            session = self._load() if checkpoint.done else self._annotate(advance)
            self._follow(session, range(key + checkpoint.done, count), advance)
        if checkpoint.done < count:
            session = self._load() if checkpoint.done > forward else self._annotate(None)
            self._follow(session, range(count - 1 - checkpoint.done, -1, -1), advance)
        self._session = None  # what remains is drawing, which needs none
        self._save()

    def _load(self) -> Session:
        if self._checkpoint.session is None:
            raise InputError(f"{self._layout.work} lacks a session: start anew with --overwrite")
        return self._segmenter.load_session(self._layout.work / self._checkpoint.session)

    def _annotate(self, advance: Callable[[], None] | None) -> Session:
        """A session that knows the annotated frame, which is written if ``advance`` is given."""
        self._session = None
        frame = next(self._source.read(self._key, self._key + 1))
        clock = time.perf_counter()
        session = self._segmenter.session()
        result = session.annotate(self._scale.shrink_frame(frame), self._labels)
        with self._ctrl_c.held():
            if advance is not None:
                self._begin(frame, result, clock)
                advance()
            self._session = session
        return session

    def _follow(self, session: Session, indices: range, advance: Callable[[], None]) -> None:
        """Step through the frames ``indices``, writing each."""
        self._session = session
        if not indices:
            return
        stop = indices[-1] + indices.step
        frames = prefetch(self._source.read(indices[0], stop, indices.step))
        for index, frame in zip(indices, frames, strict=True):
            clock = time.perf_counter()
            with self._ctrl_c.held():
                result = session.step(self._scale.shrink_frame(frame))
                self._finish(index, frame, result, clock)
                if self._checkpoint.done % CHECKPOINT_EVERY == 0:
                    self._save()
            advance()

    def _begin(self, frame: np.ndarray, result: Result, clock: float) -> None:
        """Make the folders and write the first frame: only now, when little can go wrong."""
        if self._overwrite:
            self._layout.clear()
        new = not self._layout.out.exists()
        try:
            make_folders(self._files.folders())
            self._save()
            self._finish(self._key, frame, result, clock)
        except InputError:  # a full disk: leave it as it was
            if new:
                self._layout.clear()
                remove_if_empty(self._layout.out)
            raise

    def _finish(self, index: int, frame: np.ndarray, result: Result, clock: float) -> None:
        self._files.write(self._source.names[index], frame, result, index == self._key)
        timings = {**result.timings, "frame": time.perf_counter() - clock}
        for stage, seconds in timings.items():
            self._checkpoint.timings.setdefault(stage, []).append(round(seconds, 6))
        self._checkpoint.done += 1
        self._checkpoint.seconds = time.perf_counter() - self._begun

    def _save(self) -> None:
        save_checkpoint(self._layout.work, self._checkpoint, self._session)


def _key_index(source: Source, mask_frame: int | None) -> int:
    """Index among the selected frames of the annotated one, a source frame number."""
    if mask_frame is None:
        return 0
    numbers = source.numbers
    if mask_frame not in numbers:
        raise InputError(
            f"frame {mask_frame} of {source.spec}, which the mask belongs to, is not selected: "
            f"choose --mask-frame from {numbers[0]} to {numbers[-1]}"
            + (f" in steps of {numbers.step}" if numbers.step > 1 else "")
        )
    return numbers.index(mask_frame)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as they come back from JSON, so that they compare equal to saved ones."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _facts(source: Source, masks: ObjectMasks, segmenter: Segmenter) -> dict[str, Any]:
    import torch

    return {
        "finished": True,
        "versions": versions(),
        "preset": _plain(asdict(segmenter.preset)),
        "device": str(segmenter.device),
        "threads": torch.get_num_threads(),
        "input": source.spec,
        "frames": len(source),
        "size": list(source.size),
        "source_fps": source.fps,
        "objects": list(masks.ids),
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
