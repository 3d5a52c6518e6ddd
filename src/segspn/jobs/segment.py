"""Segmenting a whole video from files to files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segspn.errors import InputError
from segspn.jobs.checkpoint import mask_identity
from segspn.jobs.layout import STAGE_FOLDERS, Layout, video_name
from segspn.jobs.outputs import require_saveable
from segspn.jobs.report import RunSummary
from segspn.jobs.run import require_layout, run_video
from segspn.jobs.scale import Scale
from segspn.video import ObjectMasks, Source, open_source, read_object_masks

if TYPE_CHECKING:
    from segspn.pipeline import Result, Segmenter, Session
    from segspn.presets import Preset


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
    require_layout(layout, overwrite, resume, [input, mask])
    if segmenter is None:
        from segspn.pipeline import Segmenter

        segmenter = Segmenter(preset, device)
    work = _Segmenting(source, key, masks, scale, working, segmenter)
    work.arguments = {
        "--mask-frame": source.numbers[key],
        "--start": start,
        "--end": end,
        "--stride": stride,
        "--max-side": max_side,
        **work.arguments,
    }
    return run_video(
        work,
        layout,
        save=wanted,
        panel=panel,
        overwrite=overwrite,
        resume=resume,
        progress=progress,
    )


class _Segmenting:
    """The `Work` of two sweeps from the annotated frame: to the last one, then to the first."""

    title = "Segmenting"
    stage_folders: tuple[str, ...] = STAGE_FOLDERS

    def __init__(
        self,
        source: Source,
        key: int,
        masks: ObjectMasks,
        scale: Scale,
        labels: np.ndarray,
        segmenter: Segmenter,
    ) -> None:
        """``labels`` are those of ``masks`` at the working size."""
        self.source, self.scale, self.segmenter = source, scale, segmenter
        self.key, self.labels = key, labels
        self.ids = masks.ids
        self.sweeps: Sequence[range] = (range(key, len(source)), range(key - 1, -1, -1))
        self.annotation: tuple[int, np.ndarray] | None = (key, masks.labels)
        self.threshold: float = segmenter.preset.threshold
        self.facts: dict[str, Any] = {
            "preset": asdict(segmenter.preset),
            "device": str(segmenter.device),
        }
        self.arguments = {**self.facts, "mask content": mask_identity(masks.labels)}

    def begin(self, sweep: int) -> _Following:
        following = _Following(self, None)
        if sweep > 0:  # the way back starts at the annotated frame too, which is written already
            following.step(self.key, next(self.source.read(self.key, self.key + 1)))
        return following

    def load(self, path: Path) -> _Following:
        return _Following(self, self.segmenter.load_session(path))


class _Following:
    """The `Steps` of one session, which begins with the annotated frame."""

    def __init__(self, work: _Segmenting, session: Session | None) -> None:
        self._work = work
        self._session = session

    def step(self, index: int, frame: np.ndarray) -> Result:
        small = self._work.scale.shrink_frame(frame)
        if self._session is not None:
            return self._session.step(small)
        session = self._work.segmenter.session(keep=1)
        result = session.begin(small, self._work.labels)
        self._session = session
        return result

    def save(self, path: Path) -> None:
        assert self._session is not None, "nothing to save before the first step"
        self._session.save(path)

    def close(self) -> None:
        """Nothing is open."""


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
