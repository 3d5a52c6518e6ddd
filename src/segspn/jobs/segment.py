"""Segmenting a whole video from files to files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
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
    corrections: Mapping[int, str | Path] | None = None,
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
    """Segment the objects of one annotated frame, or of several, in every frame of a video.

    From the annotated frame the objects are followed to the last frame and, if it is not the first
    one, by a second session to the first. ``corrections`` are further annotated frames: they are known
    from the start. Files are written as their frame is done (`Layout` says
    where); the overlay video, the contact sheet and ``run.json`` follow at the end.

    Args:
        input: a video file, a folder or glob of images, a DAVIS sequence.
        mask: the annotated frame's objects, anything `segspn.video.read_object_masks` reads.
        out: folder for the results, made if needed.
        segmenter: a ready one to use; otherwise one is made from ``preset`` and ``device``.
        mask_frame: number of the annotated frame in the source; None: the first selected one.
        corrections: masks of other frames by their numbers in the source, such as those where an
            earlier run went wrong, or where objects come in that ``mask`` does not have.
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
    key = _index_of(source, mask_frame, "--mask-frame")
    paths = {key: Path(mask)}
    for number, path in sorted((corrections or {}).items()):
        paths.setdefault(_index_of(source, number, "--correct"), Path(path))
    if len(paths) < 1 + len(corrections or {}):
        raise InputError(f"{mask} and a --correct are of one frame: give one mask of each frame")
    masks = {i: read_object_masks(path, source.size, resize_mask) for i, path in paths.items()}
    scale = Scale(source.size, max_side)
    working = {i: scale.shrink_masks(masks[i], path) for i, path in paths.items()}
    wanted = require_saveable(save)
    layout = Layout(Path(out), video_name(input))
    require_layout(layout, overwrite, resume, [input, *paths.values()])
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
    """The `Work` of two sweeps from the first annotated frame: to the last one, then to the first."""

    title = "Segmenting"
    stage_folders: tuple[str, ...] = STAGE_FOLDERS

    def __init__(
        self,
        source: Source,
        key: int,
        masks: Mapping[int, ObjectMasks],
        scale: Scale,
        labels: Mapping[int, np.ndarray],
        segmenter: Segmenter,
    ) -> None:
        """``masks`` by the index of their frame, first that of ``key``, where the sweeps start;
        ``labels`` are theirs at the working size."""
        self.source, self.scale, self.segmenter = source, scale, segmenter
        self.key, self.labels = key, labels
        self.ids = tuple(sorted({i for each in masks.values() for i in each.ids}))
        self.sweeps: Sequence[range] = (range(key, len(source)), range(key - 1, -1, -1))
        self.annotations: Mapping[int, np.ndarray] = {i: m.labels for i, m in masks.items()}
        self.threshold: float = segmenter.preset.threshold
        self.facts: dict[str, Any] = {
            "preset": asdict(segmenter.preset),
            "device": str(segmenter.device),
        }
        self.arguments = {**self.facts, "mask content": mask_identity(masks[key].labels)}
        for i, each in masks.items():
            if i != key:
                self.arguments[f"--correct {source.numbers[i]} content"] = mask_identity(each.labels)

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
        work = self._work
        small = work.scale.shrink_frame(frame)
        if self._session is not None:
            result = self._session.step(small)
            if index in work.labels:
                labels = self._session.annotate(small, work.labels[index])
                result = replace(result, labels=labels)
            return result
        session = work.segmenter.session(keep=1)
        others = (
            (work.scale.shrink_frame(next(work.source.read(other, other + 1))), labels)
            for other, labels in work.labels.items()
            if other != index
        )
        result = session.begin(small, work.labels[index], others)
        self._session = session
        return result

    def save(self, path: Path) -> None:
        assert self._session is not None, "nothing to save before the first step"
        self._session.save(path)

    def close(self) -> None:
        """Nothing is open."""


def _index_of(source: Source, number: int | None, option: str) -> int:
    """Index among the selected frames of an annotated one, a source frame number; None: the first."""
    if number is None:
        return 0
    numbers = source.numbers
    if number not in numbers:
        raise InputError(
            f"frame {number} of {source.spec}, which the mask belongs to, is not selected: "
            f"choose {option} from {numbers[0]} to {numbers[-1]}"
            + (f" in steps of {numbers.step}" if numbers.step > 1 else "")
        )
    return numbers.index(number)
