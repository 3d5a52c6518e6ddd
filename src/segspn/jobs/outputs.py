"""What is written for each frame as soon as it is done, and what is drawn at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segspn.craf import merge
from segspn.errors import InputError
from segspn.jobs.layout import Layout
from segspn.jobs.scale import Scale
from segspn.tracks import coco_writer
from segspn.video import (
    Source,
    VideoWriter,
    contact_sheet,
    cutout,
    needs_wide,
    overlay,
    panel,
    prefetch,
    read_labels,
    resize_labels,
    write_labels,
    write_mask,
    write_picture,
    write_score_map,
)

SAVEABLE = ("labels", "overlay", "scores", "cutouts", "stages", "rle")
"""What a run can leave behind, by the names of ``--save``."""

_SHEET_FRAMES = 12
_SHEET_WIDTH = 320
# Where a probability counts as yes in the black and white masks of the stages.
_HALF = 0.5


def require_saveable(save: Iterable[str]) -> tuple[str, ...]:
    """``save`` in the order of ``SAVEABLE``. Raises `InputError` for an unknown name or none."""
    wanted = set(save)
    unknown = sorted(wanted.difference(SAVEABLE))
    if unknown or not wanted:
        told = f"--save does not know {', '.join(unknown)}" if unknown else "--save is empty"
        raise InputError(f"{told}: give one or more of {','.join(SAVEABLE)}")
    return tuple(name for name in SAVEABLE if name in wanted)


class FrameStages(Protocol):
    """Probabilities 0..1 at the working size, float32: of foreground (H, W), and of each object
    (N, H, W) before and after the spatial propagation network."""

    @property
    def foreground(self) -> np.ndarray: ...

    @property
    def coarse(self) -> np.ndarray: ...

    @property
    def refined(self) -> np.ndarray: ...


class FrameResult(Protocol):
    """One frame at the working size, as `segspn.pipeline.Result` has it."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def stages(self) -> FrameStages: ...

    @property
    def timings(self) -> dict[str, float]: ...

    @property
    def cut(self) -> bool: ...


class FrameFiles:
    """Writes the files of one frame after another.

    ``save`` what is wanted (``SAVEABLE``); ``panel`` the six-picture figure too, with the labels
    that a merge at ``threshold`` gives before the filter; ``annotation`` the labels of the first
    annotated frame, if there is one; ``stage_folders`` those of ``STAGE_FOLDERS`` that results can
    fill. Label maps are always written, since the overlay is drawn from them: where nobody asked for
    them they lie among the run's own files.
    """

    def __init__(
        self,
        layout: Layout,
        save: tuple[str, ...],
        panel: bool,
        ids: tuple[int, ...],
        annotation: np.ndarray | None,
        scale: Scale,
        threshold: float,
        stage_folders: tuple[str, ...],
    ) -> None:
        self._layout = layout
        self._save = save
        self._panel = panel
        self._annotation = annotation
        self._scale = scale
        self._threshold = threshold
        self._stage_folders = stage_folders
        self._wide = needs_wide(ids)
        self.labels = layout.labels if "labels" in save else layout.work / "labels"

    def folders(self) -> list[Path]:
        """The folders that must exist before the first frame."""
        layout = self._layout
        folders = [layout.work, self.labels]
        folders += [layout.scores] if "scores" in self._save else []
        folders += [layout.cutouts] if "cutouts" in self._save else []
        folders += [layout.panel] if self._panel else []
        if "stages" in self._save:
            folders += [layout.stage(kind) for kind in self._stage_folders]
        return folders

    def write(
        self, name: str, frame: np.ndarray, result: FrameResult, annotation: np.ndarray | None
    ) -> None:
        """Write everything of one frame.

        ``frame`` uint8 (H, W, 3) at full size; ``result`` at the working size; ``annotation`` the
        frame's labels int32 (H, W) at full size if they were given: they are kept as they are.
        """
        labels = annotation
        if labels is None:
            labels = self._scale.enlarge_labels(result.labels, result.scores, result.ids)
        if "scores" in self._save:
            self._write_scores(self._layout.scores, name, result.scores, result.ids)
        if "cutouts" in self._save:
            for object_id in result.ids:
                path = self._layout.cutouts / f"{name}_{object_id}.png"
                write_picture(path, cutout(frame, labels == object_id))
        if "stages" in self._save:
            self._write_stages(name, result)
        if self._panel:
            picture = self._draw_panel(frame, result, labels)
            write_picture(self._layout.panel / f"{name}.png", picture)
        write_labels(self.labels / f"{name}.png", labels, self._wide)

    def _draw_panel(self, frame: np.ndarray, result: FrameResult, labels: np.ndarray) -> np.ndarray:
        before = self._merged(result.stages.refined, result.ids)
        if self._annotation is not None:
            return panel(frame, self._annotation, before, labels)
        given = self._merged(result.stages.coarse, result.ids)
        return panel(frame, given, before, labels, caption="masks given")

    def _merged(self, scores: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
        return self._scale.enlarge_labels(merge(scores, ids, self._threshold), scores, ids)

    def _write_stages(self, name: str, result: FrameResult) -> None:
        stage = self._layout.stage
        if "foreground" in self._stage_folders:
            foreground = self._scale.enlarge(result.stages.foreground) >= _HALF
            write_mask(stage("foreground") / f"{name}.png", foreground)
        for object_id, score in zip(result.ids, result.stages.coarse, strict=True):
            hard = self._scale.enlarge(score) >= _HALF
            write_mask(stage("hard") / f"{name}_{object_id}.png", hard)
        self._write_scores(stage("coarse"), name, result.stages.coarse, result.ids)
        self._write_scores(stage("refined"), name, result.stages.refined, result.ids)

    def _write_scores(self, folder: Path, name: str, scores: np.ndarray, ids: tuple[int, ...]) -> None:
        for object_id, score in zip(ids, scores, strict=True):
            write_score_map(folder / f"{name}_{object_id}.png", self._scale.enlarge(score))


def draw_overview(
    source: Source,
    labels: Path,
    ids: tuple[int, ...],
    sheet: Path,
    video: Path | None,
    rle: Path | None,
    advance: Callable[[], None],
) -> None:
    """Draw the contact sheet and, where they are paths, the overlay video and the RLE file.

    All in one stream. ``labels`` is the folder of label PNGs. The video plays at the source's speed
    whatever the stride. Raises `InputError` where a file cannot be written.
    """
    count = min(_SHEET_FRAMES, len(source))
    picked = set(np.linspace(0, len(source) - 1, count).round().astype(int).tolist())
    small: list[tuple[np.ndarray, np.ndarray]] = []

    rate = source.fps / source.numbers.step
    with (
        nullcontext() if video is None else VideoWriter(video, rate, source.size) as writer,
        nullcontext() if rle is None else coco_writer(rle, source, ids) as add_masks,
    ):
        drawn = _drawn(source, labels, ids if writer is not None else ())
        for index, (frame, found, picture) in enumerate(prefetch(drawn)):
            if index in picked:
                small.append(_small(frame, found))
            if writer is not None:
                writer.write(picture)
            if add_masks is not None:
                add_masks(index, found)
            advance()
    frames, maps = zip(*small, strict=True)
    names = [source.names[index] for index in sorted(picked)]
    write_picture(sheet, contact_sheet(frames, maps, ids, names=names, width=frames[0].shape[1]))


def _drawn(
    source: Source, labels: Path, ids: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames, their label maps, and the frames with the objects ``ids`` drawn over them."""
    for name, frame in zip(source.names, source.read(), strict=True):
        found = read_labels(labels / f"{name}.png")
        yield frame, found, overlay(frame, found, ids) if ids else frame


def _small(frame: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both at the sheet's width, so that a dozen large frames are not held at once."""
    height, width = labels.shape
    if width <= _SHEET_WIDTH:
        return frame, labels
    size = (max(1, round(height * _SHEET_WIDTH / width)), _SHEET_WIDTH)
    return (
        cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA),
        resize_labels(labels, size),
    )
