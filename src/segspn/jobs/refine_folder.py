"""Filtering a folder of score maps alone, as the authors' release does; no frames are needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segspn.craf import filter_folder
from segspn.errors import InputError
from segspn.jobs.layout import Layout, require_writable, video_name
from segspn.jobs.progress import progress_bar
from segspn.jobs.score_maps import PER_FRAME, PER_OBJECT, NumberedFiles
from segspn.jobs.stages import write_scores
from segspn.video import needs_wide, read_object_masks, read_score_map, write_labels


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
