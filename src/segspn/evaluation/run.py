"""From folders to figures: score results that exist, or make them first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segspn.errors import InputError
from segspn.evaluation.davis import DavisSequence, DavisSubset, open_davis, stems_in, time_order
from segspn.evaluation.measures import frame_scores
from segspn.evaluation.plot import can_plot, plot_frames
from segspn.evaluation.protocol import (
    BINARY_YEAR,
    Evaluation,
    SequenceScores,
    object_ids,
    result_labels,
    scored_frames,
    truth_labels,
)
from segspn.evaluation.report import write_csvs
from segspn.video import read_labels

SegmentSequence = Callable[[Path, Path, Path], object]
"""Segments one sequence: folder of its frames, its first mask, folder for the label PNGs."""


@dataclass(frozen=True)
class _Plan:
    """What is to be scored of one sequence."""

    sequence: DavisSequence
    frames: tuple[str, ...]
    ids: tuple[int, ...]
    results: Path


def evaluate_davis(
    root: str | Path,
    year: int,
    subset: str,
    results: str | Path,
    out: str | Path | None = None,
    plots: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a folder of results, ``<results>/<sequence>/%05d.png``, by the DAVIS protocol.

    Writes the two official CSVs and, with ``plots``, ``per-frame_results-SUBSET.png`` into ``out``
    (default: ``results``), replacing what is there; without matplotlib the plot is left out, with a
    line on the error stream. ``workers`` threads (default: one per core) share the frames; memory
    does not grow with the length of the sequences. Raises ``InputError`` for anything missing or
    of the wrong size, before a file is written.
    """
    data = open_davis(root, year, subset)
    evaluation = score_results(data, results, workers, progress)
    out = Path(results if out is None else out)
    write_csvs(evaluation, out)
    if plots and can_plot():
        plot_frames(evaluation, out / f"per-frame_results-{subset}.png")
    elif plots:
        note = "No plot: matplotlib is not installed; pip install 'segspn[plots]' to draw it."
        Console(stderr=True).print(note, markup=False, highlight=False)
    return evaluation


def run_and_evaluate(
    root: str | Path,
    year: int,
    subset: str,
    results: str | Path,
    segment_sequence: SegmentSequence,
    out: str | Path | None = None,
    plots: bool = True,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Evaluation:
    """Segment every sequence that has no complete result yet, then ``evaluate_davis``.

    ``segment_sequence(frames_folder, first_mask, out_folder)`` is to leave ``<stem>.png`` in
    ``out_folder`` for every frame; a folder of an interrupted run is handed over as it is. A
    sequence is complete when every frame has a PNG that is not empty; with ``overwrite`` all are
    segmented again. Raises ``InputError`` as ``evaluate_davis`` does and for a sequence without
    frames, ``RuntimeError`` when ``segment_sequence`` leaves frames out.
    """
    data = open_davis(root, year, subset)
    results = Path(results)
    frames = {s.name: _frames(s) for s in data.sequences}
    with _bar(progress, "Segmenting", len(data.sequences)) as advance:
        for sequence in data.sequences:
            folder, stems = results / sequence.name, frames[sequence.name]
            if overwrite or _missing(folder, stems):
                segment_sequence(sequence.images, sequence.first_mask, folder)
                missing = _missing(folder, stems)
                if missing:
                    raise RuntimeError(f"{folder}: {len(missing)} of {len(stems)} frames not made")
            advance()
    return evaluate_davis(root, year, subset, results, out, plots, workers, progress)


def score_results(
    data: DavisSubset,
    results: str | Path,
    workers: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score the PNGs in ``<results>/<sequence>`` against ``data``; writes nothing.

    Raises ``InputError`` for missing sequences or frames, for a size that differs from the truth's,
    and for a sequence that cannot be scored (under three frames, no object in the first).
    """
    results = Path(results)
    workers = _default_workers() if workers is None else workers
    if workers < 1:
        raise InputError(f"{workers} workers cannot score; give 1 or more")
    frames = _check_results(data, results)

    # Threads suffice: decoding, numpy and OpenCV all work outside Python's lock.
    pool = ThreadPoolExecutor(workers)
    try:
        sequences = data.sequences
        plans = list(pool.map(lambda s: _plan(s, frames[s.name], results, data.year), sequences))
        jobs = [(plan, stem) for plan in plans for stem in plan.frames]
        scores = []
        with _bar(progress, "Scoring", len(jobs)) as advance:
            for score in pool.map(lambda job: _score_frame(job[0], job[1], data.year), jobs):
                scores.append(score)
                advance()
    finally:
        # After an error, or Ctrl-C, the frames that wait are of no use.
        pool.shutdown(cancel_futures=True)

    remaining = iter(scores)
    return Evaluation(data.year, data.subset, tuple(_collect(plan, remaining) for plan in plans))


def _collect(
    plan: _Plan, scores: Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> SequenceScores:
    pairs = [next(scores) for _ in plan.frames]
    j, f = (np.stack([pair[k] for pair in pairs], axis=1) for k in (0, 1))
    return SequenceScores(plan.sequence.name, plan.frames, plan.ids, j, f)


def _score_frame(
    plan: _Plan, stem: str, year: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth_path, path = plan.sequence.annotation(stem), plan.results / f"{stem}.png"
    truth, result = read_labels(truth_path), read_labels(path)
    if truth.shape != result.shape:
        raise InputError(
            f"{path}: {_size(result)}, but its truth {truth_path} is {_size(truth)}; "
            "write the results at the size of the annotations"
        )
    return frame_scores(result_labels(result, year), truth_labels(truth, year), plan.ids)


def _plan(sequence: DavisSequence, frames: tuple[str, ...], results: Path, year: int) -> _Plan:
    ids = object_ids(truth_labels(read_labels(sequence.first_mask), year))
    if not ids:
        hint = "" if year == BINARY_YEAR else " (255 is void; for a binary truth give --year 2016)"
        raise InputError(f"{sequence.first_mask}: no object in the first annotation{hint}")
    return _Plan(sequence, frames, ids, results / sequence.name)


def _check_results(data: DavisSubset, results: Path) -> dict[str, tuple[str, ...]]:
    """The scored frames of every sequence, after making sure that a result exists for each.

    All are looked up before any is scored, so that a gap in the last sequence is told at once.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the folder that holds the results")
    absent = [s.name for s in data.sequences if not (results / s.name).is_dir()]
    if absent:
        raise InputError(
            f"{results}: no results for {len(absent)} of {len(data.sequences)} sequences, "
            f"the first is {absent[0]}; add a folder of that name or choose another subset"
        )
    frames = {}
    for sequence in data.sequences:
        scored = scored_frames(sequence.frames)
        if not scored:
            raise InputError(
                f"{sequence.annotations}: {len(sequence.frames)} annotated frames, but the first "
                "and the last are not scored; 3 or more are needed"
            )
        folder = results / sequence.name
        missing = time_order(set(scored) - set(stems_in(folder, ".png")))
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {len(scored)} frames missing, the first is "
                f"{missing[0]}.png; complete the results"
            )
        frames[sequence.name] = scored
    return frames


def _frames(sequence: DavisSequence) -> tuple[str, ...]:
    stems = stems_in(sequence.images, ".jpg", ".jpeg", ".png")
    if not stems:
        raise InputError(f"{sequence.images}: no frames (*.jpg); complete the dataset")
    return stems


def _missing(folder: Path, stems: tuple[str, ...]) -> tuple[str, ...]:
    """Stems without a PNG, or with an empty one."""
    sizes = {f.stem: f.stat().st_size for f in folder.glob("*.png")}
    return tuple(stem for stem in stems if not sizes.get(stem))


def _size(labels: NDArray) -> str:
    return f"{labels.shape[1]}x{labels.shape[0]}"


def _default_workers() -> int:
    # A container's or a scheduler's share of the machine, where the system tells it.
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@contextmanager
def _bar(shown: bool, title: str, count: int) -> Iterator[Callable[[], None]]:
    """A progress bar on the error stream; yields what advances it by one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not shown, transient=True
    ) as progress:
        task = progress.add_task(title, total=count)
        yield lambda: progress.advance(task)
