"""Refining the masks of any tool: spatial propagation, then the connected-region-aware filter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from segspn.craf import build_craf, filter_folder, merge
from segspn.errors import InputError
from segspn.jobs.layout import Layout, require_writable, video_name
from segspn.jobs.progress import progress_bar
from segspn.jobs.score_maps import (
    PER_FRAME,
    PER_OBJECT,
    NumberedFiles,
    ScoreMaps,
    holds_score_maps,
    require_size,
)
from segspn.jobs.stages import numbered_frames, read_foreground, write_scores
from segspn.video import (
    Source,
    needs_wide,
    read_labels,
    read_object_masks,
    read_score_map,
    write_labels,
)

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter

REFINE_STAGES = ("spn", "craf")
"""Stages of a refinement, in order."""

_VOID = 255
_THRESHOLD = 0.5


def refine_folder(
    scores: str | Path,
    mask: str | Path,
    out: str | Path,
    *,
    craf: str = "default",
    foreground: Path | None = None,
    save: Iterable[str] = ("labels",),
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Filter a folder of score maps ``%05d_<object>.png`` of frames 1, 2, ...; needs no frames.

    Writes label maps ``OUT/NAME/%05d.png``, where NAME is that of the folder and frame 0 is the
    annotation ``mask``; with "scores" in ``save`` the filtered score maps too, as
    ``OUT/NAME_scores/%05d_<object>.png``. ``foreground``: a folder of ``%05d.png``, outside of
    whose masks nothing is labelled.
    Returns the folder of the label maps. Raises `InputError`.
    """
    folder = Path(scores)
    masks = read_object_masks(mask)
    results = _Results(out, folder, masks.ids, save, overwrite, [folder, Path(mask), foreground])
    filtered = filter_folder(
        folder, masks.labels, masks.ids, craf, foreground, read_score=read_score_map
    )
    names = {p.name.split("_")[0] for p in folder.glob("[0-9]*_*.png")}
    with progress_bar("Refining", len(names - {"00000"}), 0, progress) as advance:
        for number, result, _ in filtered:
            if number == 1:
                results.write("00000", masks.labels, None)
            results.write(f"{number:05d}", result.labels, result.scores)
            advance()
    return results.layout.labels


def refine_video(
    source: Source,
    masks: str | Path,
    out: str | Path,
    *,
    stages: Iterable[str] = REFINE_STAGES,
    segmenter: Segmenter | None = None,
    craf: str = "default",
    mask: str | Path | None = None,
    foreground: Path | None = None,
    save: Iterable[str] = ("labels",),
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Refine masks of a video: ``MASKS/%05d.png`` label maps or ``%05d_<object>.png`` score maps.

    An object that enters later is taken up by the filter in the first frame that shows it.

    Args:
        source: the frames.
        masks: the folder of masks, named as the frames are.
        out: written as `refine_folder` does.
        stages: of `REFINE_STAGES`.
        segmenter: whose SPN is used; needed for that stage.
        craf: parameter set of the filter.
        mask: annotation of the first frame, which is then kept as it is and names the objects;
            without it the first frame is refined like the others and all objects are.
        foreground: folder of foreground masks ``%05d.png``; nothing is labelled outside of them.
        save: "labels", "scores" or both.
        overwrite, progress: as for `refine_folder`.

    Raises:
        InputError: for what the user can mend.
    """
    chosen = require_stages(stages)
    if "spn" in chosen and segmenter is None:
        raise ValueError("the SPN stage needs a segmenter")
    folder = Path(masks)
    given = None if mask is None else read_object_masks(mask, source.size)
    ids = None if given is None else given.ids
    names = source.names if given is None else source.names[1:]
    maps: _Masks = (
        ScoreMaps(folder, names, ids) if holds_score_maps(folder) else LabelMaps(folder, names, ids)
    )
    results = _Results(
        out, source.spec, maps.ids, save, overwrite, [folder, source.spec, mask, foreground]
    )
    filter = _Filter(craf, maps.ids) if "craf" in chosen else None
    with numbered_frames(source, "Refining", progress) as frames:
        for index, frame in frames:
            name = source.names[index]
            if index == 0 and given is not None:
                if filter is not None:
                    filter.start(given.labels)
                results.write(name, given.labels, None)
                continue
            scores = maps.read(name, source.size).astype(np.float32) / 255
            if "spn" in chosen and segmenter is not None:
                scores = segmenter.refiner.refine_pixels(frame, scores)
            allowed = None
            if foreground is not None:
                allowed = read_foreground(foreground, name, source.size)
            labels = merge(scores, maps.ids, _THRESHOLD, allowed)
            if filter is not None:
                scores, labels = filter.step(scores, labels, allowed)
            results.write(name, labels, scores)
    return results.layout.labels


def require_stages(stages: Iterable[str]) -> tuple[str, ...]:
    """``stages`` in their order. Raises `InputError` for an unknown one or none."""
    wanted = set(stages)
    if not wanted or not wanted <= set(REFINE_STAGES):
        raise InputError(
            f"--stages {','.join(sorted(wanted))}: give one or both of {','.join(REFINE_STAGES)}"
        )
    return tuple(stage for stage in REFINE_STAGES if stage in wanted)


class _Filter:
    """The region filter over objects that may enter late.

    The filter judges an object by where it was, so an object is annotated with its own mask in the
    first frame that shows it.
    """

    def __init__(self, params: str, ids: tuple[int, ...]) -> None:
        self._craf = build_craf(params, ids)  # complains now if the name is unknown
        self._params = params
        self._ids = ids
        self._entered: tuple[int, ...] = ()

    def start(self, labels: np.ndarray) -> None:
        """Take ``labels``, int32 (H, W), as the truth of this frame for all objects."""
        self._entered = self._ids
        self._craf.start(labels)

    def step(
        self, scores: np.ndarray, merged: np.ndarray, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Filtered scores (N, H, W) and labels of a frame, whose plain merge is ``merged``."""
        rows = [self._ids.index(i) for i in self._entered]
        labels = np.zeros_like(merged)
        if rows:
            result = self._craf.step(scores[rows], allowed)
            scores = scores.copy()
            scores[rows] = result.scores
            labels = result.labels
        there = set(np.unique(merged).tolist())
        new = [i for i in self._ids if i in there and i not in self._entered]
        if new:
            if rows:
                self._craf.add(*new)
            else:
                self._craf = build_craf(self._params, new)
            self._entered = self._craf.ids
            is_new = np.isin(merged, new)
            labels[is_new] = merged[is_new]
            self._craf.start(labels)
        return scores, labels


class _Masks(Protocol):
    """Masks by frame: ``read`` gives scores uint8 (N, H, W) in the order of ``ids``."""

    ids: tuple[int, ...]

    def read(self, name: str, size: tuple[int, int] | None = None) -> np.ndarray: ...


class LabelMaps:
    """Label maps ``%05d.png`` as scores of 0 and 255.

    ``names`` and ``ids`` as for `ScoreMaps`. The value 255 is void, unless it is the only object of
    all the frames, as in binary masks, which makes it object 1.
    """

    def __init__(self, folder: Path, names: Iterable[str], ids: tuple[int, ...] | None = None) -> None:
        self._folder = folder
        found: set[int] = set()
        for name in names:
            path = folder / f"{name}.png"
            if not path.is_file():
                raise InputError(
                    f"{path} is missing: every frame needs a label map {name}.png or score maps "
                    f"{name}_<object>.png"
                )
            found.update(np.unique(read_labels(path)).tolist())
        found.discard(0)
        # 16-bit files may use 255 as an id like any other.
        wide = max(found, default=0) > _VOID
        self._binary = found == {_VOID}
        if self._binary:
            found = {1}
        elif not wide:
            found.discard(_VOID)
        if not found:
            raise InputError(f"{folder} marks no object in any frame: nothing is to be refined")
        self.ids = tuple(sorted(found)) if ids is None else ids

    def read(self, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """Scores of one frame, uint8 (N, H, W). Raises `InputError` for another size."""
        path = self._folder / f"{name}.png"
        labels = read_labels(path)
        require_size(path, labels, size or labels.shape)
        if self._binary:
            labels = (labels > 0).astype(np.int32)
        return np.stack([(labels == i) * np.uint8(255) for i in self.ids])


class _Results:
    """The files of a refinement, made with the first one that is written."""

    def __init__(
        self,
        out: str | Path,
        spec: str | Path,
        ids: tuple[int, ...],
        save: Iterable[str],
        overwrite: bool,
        inputs: Iterable[str | Path | None],
    ) -> None:
        self._save = set(save)
        if not self._save or not self._save <= {"labels", "scores"}:
            raise InputError(
                f"--save {','.join(sorted(self._save))}: give labels, scores or labels,scores"
            )
        self.layout = Layout(Path(out), video_name(spec))
        self.layout.refuse_to_touch(*(path for path in inputs if path is not None))
        require_writable(self.layout.out, overwrite)
        self._ids = ids
        self._wide = needs_wide(ids)
        self._labels = NumberedFiles(self.layout.labels, PER_FRAME, overwrite=True)
        self._scores = NumberedFiles(self.layout.scores, PER_OBJECT, overwrite=True)

    def write(self, name: str, labels: np.ndarray, scores: np.ndarray | None) -> None:
        """Write one frame; ``scores`` None for an annotated one, which has none."""
        if "labels" in self._save:
            write_labels(self._labels.path(f"{name}.png"), labels, self._wide)
        if "scores" in self._save and scores is not None:
            write_scores(self._scores, name, scores, self._ids)
