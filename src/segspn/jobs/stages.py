"""One stage alone on one video, from files to files, in the authors' naming.

Foreground masks are ``%05d.png`` (0 and 255), hard masks and score maps ``%05d_<object>.png``,
label maps ``%05d.png``. The mask belongs to the first selected frame. Every function raises
`InputError` for what the user can mend, before anything is written where it can be known by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segspn.craf import filter_folder, merge
from segspn.errors import InputError
from segspn.jobs.progress import progress_bar
from segspn.jobs.score_maps import (
    PER_FRAME,
    PER_OBJECT,
    NumberedFiles,
    ScoreMaps,
    require_size,
)
from segspn.jobs.stage_models import (
    FOREGROUND,
    fit_model,
    foreground_session,
    instance_session,
    iterations_of,
    model_name,
)
from segspn.video import (
    ObjectMasks,
    Source,
    needs_wide,
    prefetch,
    read_object_masks,
    read_score_map,
    write_labels,
    write_mask,
    write_score_map,
)

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter

_HALF = 0.5


def fit_stage(
    source: Source,
    mask: str | Path,
    out: str | Path,
    *,
    segmenter: Segmenter,
    object_id: int | None = None,
    iterations: int | None = None,
    snapshot_every: int | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Fine-tune the model of one object, or of the foreground (``object_id`` None), and write it.

    Leaves ``OUT/<object>_<iterations>.safetensors`` after each ``snapshot_every`` iterations and at
    the end (None: the preset's number). Returns the paths.
    """
    masks = read_object_masks(mask, source.size)
    target = FOREGROUND if object_id is None else str(_known(masks, object_id, mask))
    total = iterations_of(segmenter.preset, target) if iterations is None else iterations
    if total < 1:
        raise InputError(f"--iterations {total} learns nothing: give 1 or more")
    if snapshot_every is not None and snapshot_every < 1:
        raise InputError(f"--snapshot-every {snapshot_every} is impossible: give 1 or more")
    stops = [*range(snapshot_every or total, total, snapshot_every or total), total]
    files = NumberedFiles(out, rf"{target}_\d+\.safetensors", overwrite)

    def path_of(done: int) -> Path:
        return files.path(model_name(target, done))

    frame = next(source.read())
    fit_model(segmenter, frame, masks.labels, target, total, stops, path_of)
    return [path_of(stop) for stop in stops]


def run_foreground(
    source: Source,
    mask: str | Path,
    out: str | Path,
    *,
    segmenter: Segmenter,
    model: Path | None = None,
    iterations: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write foreground masks ``OUT/%05d.png``, 0 and 255.

    ``model`` a file of `fit_stage`; without one the foreground is adapted here, ``iterations``
    long. The annotated frame's mask is the annotation.
    """
    masks = read_object_masks(mask, source.size)
    files = NumberedFiles(out, PER_FRAME, overwrite)
    with numbered_frames(source, "Foreground", progress) as frames:
        _, first = next(frames)
        session = foreground_session(segmenter, first, masks.labels, iterations, model)
        write_mask(files.path(f"{source.names[0]}.png"), masks.labels > 0)
        for index, frame in frames:
            foreground = session.step(frame).stages.foreground >= _HALF
            write_mask(files.path(f"{source.names[index]}.png"), foreground)


def run_instance(
    source: Source,
    mask: str | Path,
    out: str | Path,
    *,
    segmenter: Segmenter,
    object_id: int | None = None,
    model: Path | None = None,
    iterations: int | None = None,
    foreground: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write hard masks ``OUT/masks/%05d_<object>.png`` and score maps ``OUT/scores/...``.

    One object, or all of the mask one after another; each by a model of its own that knows nothing
    of the others. ``foreground`` a folder of foreground masks that scores are kept inside. The
    other arguments as for `run_foreground`.
    """
    masks = read_object_masks(mask, source.size)
    if object_id is None and model is not None:
        raise InputError(f"{model} belongs to one object: say which with --object")
    wanted = masks.ids if object_id is None else (_known(masks, object_id, mask),)
    pattern = rf"\d+_({'|'.join(map(str, wanted))})\.png"
    hard = NumberedFiles(Path(out) / "masks", pattern, overwrite)
    soft = NumberedFiles(Path(out) / "scores", pattern, overwrite)
    for target in wanted:
        with numbered_frames(source, f"Object {target}", progress) as frames:
            _, first = next(frames)
            session = instance_session(segmenter, first, masks.labels, target, iterations, model)
            for index, frame in chain([(0, first)], frames):
                name = source.names[index]
                if not index:
                    score = (masks.labels == target).astype(np.float32)
                else:
                    score = session.step(frame).stages.coarse[0]
                    if foreground is not None:
                        score = score * read_foreground(foreground, name, source.size)
                write_mask(hard.path(f"{name}_{target}.png"), score >= _HALF)
                write_score_map(soft.path(f"{name}_{target}.png"), np.clip(score, 0, 1))


def run_spn(
    source: Source,
    scores: str | Path,
    out: str | Path,
    *,
    segmenter: Segmenter,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Refine the score maps ``SCORES/%05d_<object>.png`` of a video into ``OUT``, same names.

    The first frame, which is the annotated one, may have no score maps.
    """
    folder = Path(scores)
    names = source.names
    if not any(folder.glob(f"{names[0]}_*.png")):
        names = names[1:]
    maps = ScoreMaps(folder, names)
    files = NumberedFiles(out, PER_OBJECT, overwrite, [folder])
    skipped = len(source) - len(names)
    with numbered_frames(source, "SPN", progress) as frames:
        for index, frame in frames:
            if index < skipped:
                continue
            raw = maps.read(source.names[index], source.size)
            refined = segmenter.refiner.refine_pixels(frame, raw.astype(np.float32) / 255)
            write_scores(files, source.names[index], refined, maps.ids)


def run_craf(
    scores: str | Path,
    mask: str | Path,
    out: str | Path,
    *,
    craf: str = "default",
    foreground: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Filter a folder of score maps into score maps and label maps, both in ``OUT``.

    ``mask`` is the annotation of frame 0, whose label map is written too.
    """
    masks = read_object_masks(mask)
    folder = Path(scores)
    inputs = [folder, *([foreground] if foreground else [])]
    filtered = filter_folder(
        folder, masks.labels, masks.ids, craf, foreground, read_score=read_score_map
    )
    files = NumberedFiles(out, f"{PER_FRAME}|{PER_OBJECT}", overwrite, inputs)
    wide = needs_wide(masks.ids)
    total = len({p.name.split("_")[0] for p in folder.glob("[0-9]*_*.png")} - {"00000"})
    with progress_bar("CRAF", total, 0, progress) as advance:
        for number, result, _ in filtered:
            if number == 1:
                write_labels(files.path("00000.png"), masks.labels, wide)
            name = f"{number:05d}"
            write_scores(files, name, result.scores, masks.ids)
            write_labels(files.path(f"{name}.png"), result.labels, wide)
            advance()


def run_merge(
    scores: str | Path,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    threshold: float = _HALF,
    foreground: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Merge a folder of score maps into label maps ``OUT/%05d.png``.

    ``mask`` the annotation of frame 0: it becomes that frame's label map, its objects are the ones
    merged, and score maps of frame 0 are not looked at. ``threshold`` 0..1, the least score of a
    labelled pixel.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g} is not a score: give 0 to 1")
    folder = Path(scores)
    masks = None if mask is None else read_object_masks(mask)
    if masks is None:
        maps = ScoreMaps(folder)
    else:
        maps = ScoreMaps(folder, ids=masks.ids, annotated=True)
    inputs = [folder, *([foreground] if foreground else [])]
    files = NumberedFiles(out, PER_FRAME, overwrite, inputs)
    wide = needs_wide(maps.ids)
    size: tuple[int, int] | None = None
    if masks is not None:
        size = (masks.labels.shape[0], masks.labels.shape[1])
    with progress_bar("Merge", len(maps.names), 0, progress) as advance:
        for position, name in enumerate(maps.names):
            read = maps.read(name, size)
            size = (read.shape[1], read.shape[2])
            allowed = None if foreground is None else read_foreground(foreground, name, size)
            if masks is not None and position == 0:
                write_labels(files.path("00000.png"), masks.labels, wide)
            labels = merge(read, maps.ids, threshold * 255, allowed)
            write_labels(files.path(f"{name}.png"), labels, wide)
            advance()


def read_foreground(folder: Path, name: str, size: tuple[int, ...]) -> np.ndarray:
    """The foreground mask of one frame, bool (H, W)."""
    path = folder / f"{name}.png"
    picture = read_score_map(path)
    require_size(path, picture, size)
    return picture > 0


def write_scores(files: NumberedFiles, name: str, scores: np.ndarray, ids: tuple[int, ...]) -> None:
    """Write the score maps of one frame, float (N, H, W)."""
    for object_id, score in zip(ids, scores, strict=True):
        write_score_map(files.path(f"{name}_{object_id}.png"), np.clip(score, 0, 1))


@contextmanager
def numbered_frames(
    source: Source, title: str, progress: bool
) -> Iterator[Iterator[tuple[int, np.ndarray]]]:
    """The frames with their index, under a progress bar."""

    def counted() -> Iterator[tuple[int, np.ndarray]]:
        for index, frame in enumerate(prefetch(source.read())):
            yield index, frame
            advance()

    with progress_bar(title, len(source), 0, progress) as advance:
        yield counted()


def _known(masks: ObjectMasks, object_id: int, mask: str | Path) -> int:
    if object_id not in masks.ids:
        known = ", ".join(map(str, masks.ids))
        raise InputError(f"{mask} has no object {object_id}: choose --object from {known}")
    return object_id
