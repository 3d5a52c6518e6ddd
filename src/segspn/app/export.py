"""Results as `segspn segment` leaves them, in one zip."""

from __future__ import annotations

import json
import shutil
import threading
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segspn.app.clip import Clip
from segspn.app.project import Project, Thing
from segspn.app.runs import Progress
from segspn.errors import InputError
from segspn.jobs.layout import Layout, make_folders
from segspn.jobs.outputs import FrameFiles, FrameStages, draw_overview
from segspn.jobs.scale import Scale
from segspn.video import open_source, replacing, write_bytes

OFFERED = ("labels", "overlay", "scores", "cutouts", "rle")
"""What can be exported, by the names of ``segspn segment --save``; the maps of single stages are not
kept while correcting."""


@dataclass(frozen=True)
class _Exported:
    """A `FrameResult` at full size; there are no maps of single stages in it."""

    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]

    cut: bool = False

    @property
    def timings(self) -> dict[str, float]:
        return {}

    @property
    def stages(self) -> FrameStages:
        raise NotImplementedError("the app keeps no maps of single stages")


def require_offered(save: Iterable[str]) -> tuple[str, ...]:
    """``save`` in the order of `OFFERED`. Raises `InputError` for an unknown name or none."""
    wanted = set(save)
    if not wanted or not wanted <= set(OFFERED):
        raise InputError(f"choose what to export: one or more of {', '.join(OFFERED)}")
    return tuple(name for name in OFFERED if name in wanted)


def exported_frames(project: Project) -> range:
    """The frames from the first with a mask to the last. Raises `InputError` if there is none."""
    frames = sorted(project.looks)
    if not frames or not project.present:
        raise InputError("there are no masks to export yet: draw an object and run")
    return range(frames[0], frames[-1] + 1)


def export_results(
    project: Project,
    clip: Clip,
    name: str,
    save: tuple[str, ...],
    target: Path,
    progress: Progress,
    asked: threading.Event,
) -> None:
    """Write ``target``, a zip of DAVIS layout named ``name``; nothing is left if ``asked`` to stop.

    An object's number in the files is its colour, so that label maps look as they did on the page;
    ``objects.json`` has the names. Frames between the first and the last mask that have none are
    empty. Raises `InputError` where a file cannot be written.
    """
    frames = exported_frames(project)
    things = sorted(project.present, key=lambda thing: thing.colour)
    folder = target.with_name("export")
    shutil.rmtree(folder, ignore_errors=True)
    layout = Layout(folder / name, name)
    try:
        _write(project, clip, layout, things, frames, save, progress, asked)
        if not asked.is_set():
            _pack(layout.out, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    project: Project,
    clip: Clip,
    layout: Layout,
    things: list[Thing],
    frames: range,
    save: tuple[str, ...],
    progress: Progress,
    asked: threading.Event,
) -> None:
    source = open_source(clip.source.spec, frames.start, frames.stop)
    ids = tuple(thing.colour for thing in things)
    files = FrameFiles(layout, save, False, ids, None, Scale(source.size, None), 0.5, ())
    make_folders(files.folders())
    colours = np.zeros(max(project.things) + 1, np.int32)
    for thing in things:
        colours[thing.id] = thing.colour
    clock = time.perf_counter()

    def advance() -> None:
        nonlocal clock
        now = time.perf_counter()
        progress.finished(frames[min(progress.done, len(frames) - 1)], now - clock)
        clock = now

    wants_scores = [thing.id for thing in things] if "scores" in save else []
    for index, picture in zip(frames, source.read(), strict=True):
        if asked.is_set():
            return
        labels = colours[project.labels(index)]
        scores = project.scores(index, wants_scores)
        result = _Exported(labels, scores, ids)
        files.write(source.names[index - frames.start], picture, result, None)
        advance()
    video = layout.overlay if "overlay" in save else None
    rle = layout.rle if "rle" in save else None
    draw_overview(source, files.labels, ids, layout.sheet, video, rle, advance)
    named = [{"id": t.colour, "name": t.name} for t in things]
    write_bytes(layout.out / "objects.json", (json.dumps(named, indent=2) + "\n").encode())
    shutil.rmtree(layout.work)


def _pack(folder: Path, target: Path) -> None:
    """A zip of ``folder``, its own name first in each path; PNG and MP4 are compressed already."""
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
