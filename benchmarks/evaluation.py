"""Time the evaluation against vos-benchmark on the same files, and compare their figures.

    python benchmarks/evaluation.py --root ROOT --year 2016 --subset val --results DIR

Both tools get the same copies of the masks: for 2016 truth and results are written as 0 and 1
first, since vos-benchmark knows no binary truth. Needs the extra ``dev``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from segspn.evaluation import open_davis, score_results
from segspn.evaluation.davis import DavisSequence, DavisSubset
from segspn.evaluation.protocol import BINARY_YEAR

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.machine import processor  # noqa: E402

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path, help="DAVIS folder")
    parser.add_argument("--year", type=int, default=2016)
    parser.add_argument("--subset", default="val")
    parser.add_argument("--results", required=True, type=Path, help="folder of masks to score")
    parser.add_argument("--workers", type=int, default=2, help="of each tool")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="segspn-benchmark-") as folder:
        original = open_davis(args.root, args.year, args.subset)
        data, results = copy_masks(original, args.results, Path(folder))
        # Taken in turns, so that a busy moment of the machine hits both.
        ours, theirs = [], []
        for _ in range(args.runs):
            ours.append(timed(lambda: score_results(data, results, args.workers)))
            theirs.append(timed(lambda: vos_benchmark(data, results, args.workers)))

    evaluation = ours[0][2]
    frames = sum(len(s.frames) for s in evaluation.sequences)
    objects = sum(s.j.size for s in evaluation.sequences)
    height, width = sizes(original)
    console.print(
        f"{processor()}, {os.cpu_count()} cores; {platform.system()}, "
        f"Python {platform.python_version()}, OpenCV {cv2.__version__}, numpy {np.__version__}\n"
        f"DAVIS {args.year} {args.subset}: {len(evaluation.sequences)} sequences, {frames} frames "
        f"{width}x{height}, {objects} object-frames; {args.workers} workers, {args.runs} runs each",
        soft_wrap=True,
    )
    total = evaluation.total
    table = Table()
    table.add_column("tool")
    for column in ("median s", "range", "CPU s", "CPU ms/object", "J", "F"):
        table.add_column(column, justify="right", no_wrap=True)
    medians = []
    rows: list[tuple[str, list[tuple[float, float]], float, float]] = [
        ("segspn", [run[:2] for run in ours], total.j.mean, total.f.mean),
        ("vos-benchmark", [run[:2] for run in theirs], *theirs[0][2]),
    ]
    for name, runs, j, f in rows:
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        medians.append(wall)
        spread = f"{min(runs)[0]:.2f}-{max(runs)[0]:.2f}"
        cells = (f"{wall:.2f}", spread, f"{cpu:.2f}", f"{1e3 * cpu / objects:.2f}")
        table.add_row(name, *cells, f"{j:.6f}", f"{f:.6f}")
    console.print(table)
    console.print(f"segspn is {medians[1] / medians[0]:.2f} times as fast")


def timed(call: Callable[[], T]) -> tuple[float, float, T]:
    """Seconds on the clock and seconds of processor time of one call, and what it returned."""
    before, start = os.times(), time.perf_counter()
    value = call()
    wall = time.perf_counter() - start
    # A child's time is known once it has been waited for.
    while multiprocessing.active_children():
        time.sleep(0.01)
    after = os.times()
    return wall, sum(after[:4]) - sum(before[:4]), value


def copy_masks(data: DavisSubset, results: Path, folder: Path) -> tuple[DavisSubset, Path]:
    """The truth and the results as both tools can read them: ids for 2016 reduced to 0 and 1."""
    truth, found = folder / "truth", folder / "found"
    sequences = []
    for sequence in data.sequences:
        for source, target in (
            (sequence.annotations, truth / sequence.name),
            (results / sequence.name, found / sequence.name),
        ):
            target.mkdir(parents=True)
            for stem in sequence.frames:
                # The first and last result may be missing; neither tool scores them.
                if (source / f"{stem}.png").exists():
                    copy_mask(source / f"{stem}.png", target / f"{stem}.png", data.year)
        annotations = truth / sequence.name
        copy = DavisSequence(sequence.name, sequence.images, annotations, sequence.frames)
        sequences.append(copy)
    return DavisSubset(truth, data.year, data.subset, data.resolution, tuple(sequences)), found


def copy_mask(source: Path, target: Path, year: int) -> None:
    labels = np.array(Image.open(source))
    if year == BINARY_YEAR:
        labels = (labels != 0).astype(np.uint8)
    Image.fromarray(labels).save(target)


def vos_benchmark(data: DavisSubset, results: Path, workers: int) -> tuple[float, float]:
    """J and F, 0..1, as vos-benchmark has them."""
    from vos_benchmark.benchmark import benchmark

    with contextlib.redirect_stdout(io.StringIO()):
        _, j, f, _ = benchmark(
            [str(data.root)], [str(results)], num_processes=workers, verbose=False
        )
    return j[0] / 100, f[0] / 100


def sizes(data: DavisSubset) -> tuple[int, int]:
    with Image.open(data.sequences[0].first_mask) as image:
        return image.height, image.width


if __name__ == "__main__":
    main()
