"""Refining the masks of any tool: spatial propagation, then the connected-region-aware filter."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from segspn.craf import NOTHING, Sight, merge, named
from segspn.errors import InputError
from segspn.heap import empty
from segspn.jobs.checkpoint import mask_identity
from segspn.jobs.filter import LateFilter
from segspn.jobs.layout import Layout, video_name
from segspn.jobs.outputs import require_saveable
from segspn.jobs.report import RunSummary
from segspn.jobs.run import require_layout, run_video
from segspn.jobs.scale import Scale
from segspn.jobs.stages import read_foreground
from segspn.tracks import FrameMasks, Tracks, open_tracks
from segspn.video import ObjectMasks, Source, open_source, prefetch, read_object_masks

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter
    from segspn.presets import Preset
    from segspn.spn import VideoRefiner

REFINE_STAGES = ("spn", "craf")
"""Stages of a refinement, in order."""

_THRESHOLD = 0.5
_HALF = 128
_REFINER = "refiner.safetensors"


def refine_video(
    input: str | Path,
    masks: str | Path,
    out: str | Path,
    *,
    stages: Iterable[str] = REFINE_STAGES,
    segmenter: Segmenter | None = None,
    preset: str | Preset = "default",
    device: str = "auto",
    craf: str = "default",
    mask: str | Path | None = None,
    foreground: str | Path | None = None,
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
    note: Callable[[str], None] = lambda line: None,
) -> RunSummary:
    """Refine the masks that any tool made of a video: one or many objects, hard or soft.

    A stream like `segspn.jobs.segment_video`, with the same files and the same way to go on after an
    interruption. An object that enters later is taken up by the filter in the first frame that shows
    it; where an object has no mask it has no pixels.

    Args:
        input: a video file, a folder or glob of images, a DAVIS sequence.
        masks: masks of all these frames, anything that `segspn.tracks.open_tracks` reads.
        out: folder for the results, made if needed.
        stages: of `REFINE_STAGES`.
        segmenter: a ready one whose SPN to use; otherwise one is made from ``preset`` and ``device``
            where that stage is asked for.
        craf: parameter set of the filter.
        mask: annotation of the first frame, which is then kept as it is and names the objects;
            without it the first frame is refined like the others and all objects are.
        foreground: folder of foreground masks ``%05d.png``; nothing is labelled outside of them.
        start, end, stride, max_side, save, overwrite, resume, panel, progress: as for
            `segspn.jobs.segment_video`. There are no foreground masks among the stages' outputs.
        resize_mask: accept masks of another size than the frames'.
        note: is told how masks were read where that is not plain, one line each.

    Raises:
        InputError, Interrupted: as `segspn.jobs.segment_video` does.
    """
    chosen = require_stages(stages)
    if panel and "craf" not in chosen:
        raise InputError("--panel shows what the region filter does: add craf to --stages")
    source = open_source(input, start, end, stride)
    given = None if mask is None else read_object_masks(mask, source.size, resize_mask)
    scale = Scale(source.size, max_side)
    annotation = None if given is None or mask is None else scale.shrink_masks(given, mask)
    wanted = require_saveable(save)
    tracks = open_tracks(
        masks, source, video_name(input), annotated=given is not None, resize=resize_mask
    )
    ids = tracks.ids if given is None else given.ids
    notes = [*tracks.notes, *_compare(tracks.ids, ids, masks, mask)]
    for name in source.names if foreground is not None else ():
        if not (file := Path(str(foreground)) / f"{name}.png").is_file():
            raise InputError(f"{file} is missing: every frame needs a foreground mask")
    if "craf" in chosen:
        LateFilter(craf, ids)  # complains now if the name is unknown
    layout = Layout(Path(out), video_name(input))
    read = [input, *tracks.paths, *(path for path in (mask, foreground) if path is not None)]
    require_layout(layout, overwrite, resume, read)
    for line in notes:
        note(line)
    if "spn" not in chosen:
        segmenter = None
    elif segmenter is None:
        from segspn.pipeline import Segmenter

        segmenter = Segmenter(preset, device)
    work = _Refining(
        source,
        scale,
        tracks,
        notes,
        ids,
        given,
        annotation,
        segmenter,
        craf if "craf" in chosen else None,
        None if foreground is None else Path(foreground),
    )
    work.arguments = {
        "--masks": str(Path(masks).absolute()),
        "--stages": list(chosen),
        "--start": start,
        "--end": end,
        "--stride": stride,
        "--max-side": max_side,
        "--resize-mask": resize_mask,
        "--foreground": None if foreground is None else str(Path(foreground).absolute()),
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


def require_stages(stages: Iterable[str]) -> tuple[str, ...]:
    """``stages`` in their order. Raises `InputError` for an unknown one or none."""
    wanted = set(stages)
    if not wanted or not wanted <= set(REFINE_STAGES):
        raise InputError(
            f"--stages {','.join(sorted(wanted))}: give one or both of {','.join(REFINE_STAGES)}"
        )
    return tuple(stage for stage in REFINE_STAGES if stage in wanted)


def _compare(
    found: tuple[int, ...], wanted: tuple[int, ...], masks: object, mask: object
) -> Iterator[str]:
    """Notes where the objects of ``masks`` are not those of the annotation ``mask``.

    Raises `InputError` if none of them is.
    """
    told = f"{masks} has objects {', '.join(map(str, found))}, {mask} has {', '.join(map(str, wanted))}"
    if not set(found) & set(wanted):
        raise InputError(f"{told}: give both the same ids")
    if set(found) != set(wanted):
        yield f"{told}: only objects of both can be refined"


@dataclass(frozen=True)
class _Stages:
    """Scores float32 (N, h, w) as they were given and after the SPN; see `FrameStages`."""

    coarse: np.ndarray
    refined: np.ndarray

    @property
    def foreground(self) -> np.ndarray:
        """Any object, (h, w)."""
        shares: np.ndarray = self.coarse.max(0)
        return shares


@dataclass(frozen=True)
class _Result:
    """A `FrameResult`."""

    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    stages: _Stages
    timings: dict[str, float] = field(default_factory=dict)
    cut: bool = False


class _Refining:
    """The `Work` of one sweep over all frames.

    ``given`` the annotation of the first frame, ``annotation`` its labels at the working size;
    ``segmenter`` None leaves out the SPN, ``craf`` None the filter.
    """

    title = "Refining"
    stage_folders: tuple[str, ...] = ("hard", "coarse", "refined")
    threshold = _THRESHOLD

    def __init__(
        self,
        source: Source,
        scale: Scale,
        tracks: Tracks,
        notes: list[str],
        ids: tuple[int, ...],
        given: ObjectMasks | None,
        annotation: np.ndarray | None,
        segmenter: Segmenter | None,
        craf: str | None,
        foreground: Path | None,
    ) -> None:
        self.source, self.scale, self.tracks, self.ids = source, scale, tracks, ids
        self.first_labels, self.segmenter = annotation, segmenter
        self.craf, self.foreground = craf, foreground
        self.sweeps: Sequence[range] = (range(len(source)),)
        self.annotations: Mapping[int, np.ndarray] = {} if given is None else {0: given.labels}
        self.facts: dict[str, Any] = {"masks": tracks.kind, "notes": notes}
        self.arguments: dict[str, Any] = {
            "--craf": craf,
            "--mask content": None if given is None else mask_identity(given.labels),
            "--masks content": tracks.identity,
        }
        if segmenter is not None:
            net = {"preset": asdict(segmenter.preset), "device": str(segmenter.device)}
            self.facts |= net
            self.arguments |= net

    def begin(self, sweep: int) -> _Refinement:
        filter = None if self.craf is None else LateFilter(self.craf, self.ids)
        refiner = None
        if self.segmenter is not None:
            refiner = self.segmenter.video_refiner(len(self.ids))
        return _Refinement(self, filter, refiner)

    def load(self, path: Path) -> _Refinement:
        fresh = self.begin(0)
        fresh.restore(path)
        return fresh


class _Refinement:
    """The `Steps` of a refinement: frames hand on the states of the filter and of the refiner."""

    def __init__(
        self, work: _Refining, filter: LateFilter | None, refiner: VideoRefiner | None
    ) -> None:
        self._work = work
        self._filter, self._refiner = filter, refiner
        self._masks: Generator[FrameMasks] | None = None

    def step(self, index: int, frame: np.ndarray) -> _Result:
        work = self._work
        if index == 0 and work.first_labels is not None:
            return self._annotate(frame, work.first_labels)
        timings: dict[str, float] = {}
        clock = time.perf_counter()
        given = self._read(index)
        timings["masks"], clock = time.perf_counter() - clock, time.perf_counter()
        refined, cut = given, False
        if self._refiner is not None:
            frame = work.scale.shrink_frame(frame)
            refined = self._refiner.step(frame, given)
            cut = self._refiner.cut()
            timings["spn"], clock = time.perf_counter() - clock, time.perf_counter()
        allowed = self._allowed(index)
        if self._filter is None:
            scores, labels = refined, merge(refined, work.ids, _THRESHOLD, allowed)
        else:
            sight = NOTHING
            if self._refiner is not None:
                sight = Sight(self._refiner.motion(), named(self._refiner.alike(), work.ids))
                if cut:
                    self._filter.scatter()
            scores, labels = self._filter.step(refined, _THRESHOLD, allowed, sight)
            timings["craf"], clock = time.perf_counter() - clock, time.perf_counter()
        if self._refiner is not None:
            self._refiner.accept(frame, labels, work.ids)
            timings["memory"] = time.perf_counter() - clock
        return _Result(labels, scores, work.ids, _Stages(given, refined), timings, cut)

    def save(self, path: Path) -> None:
        path.mkdir()
        if self._filter is not None:
            self._filter.save(path)
        if self._refiner is not None:
            state = {k: v.cpu().contiguous() for k, v in self._refiner.state().items()}
            save_file(state, path / _REFINER)

    def close(self) -> None:
        if self._masks is not None:
            self._masks.close()

    def restore(self, path: Path) -> None:
        if self._filter is not None:
            self._filter.restore(path)
        if self._refiner is not None:
            try:
                self._refiner.restore(load_file(path / _REFINER))
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"{path / _REFINER} is damaged: start anew with --overwrite"
                ) from error

    def _annotate(self, frame: np.ndarray, labels: np.ndarray) -> _Result:
        if self._refiner is not None:
            self._refiner.accept(self._work.scale.shrink_frame(frame), labels, self._work.ids)
        if self._filter is not None:
            self._filter.start(labels)
        exact = np.stack([labels == i for i in self._work.ids]).astype(np.float32)
        return _Result(labels, exact, self._work.ids, _Stages(exact, exact))

    def _read(self, index: int) -> np.ndarray:
        """The masks of a frame as scores float32 (N, h, w)."""
        if self._masks is None:
            self._masks = prefetch(self._work.tracks.read(index))
        masks = next(self._masks)
        scores = empty((len(self._work.ids), *self._work.scale.working), np.float32)
        for score, object_id in zip(scores, self._work.ids, strict=True):
            if object_id in masks:
                np.divide(self._work.scale.fit_map(masks[object_id]), np.float32(255), out=score)
            else:
                score.fill(0)
        return scores

    def _allowed(self, index: int) -> np.ndarray | None:
        work = self._work
        if work.foreground is None:
            return None
        mask = read_foreground(work.foreground, work.source.names[index], work.source.size)
        return work.scale.fit_map(mask.astype(np.uint8) * np.uint8(255)) >= _HALF
