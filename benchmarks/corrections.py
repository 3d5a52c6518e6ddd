"""What one correction is worth: the true mask of the worst frame, and what follows from it.

    python benchmarks/corrections.py --davis DAVIS [--sequences kite-surf ...] [--preset default]

Each sequence is segmented from its first frame. The frame with the lowest J of those scored is then
corrected with its true mask, and the session goes on from there: to the last frame ("forward"), and,
as a person would who sees the middle go wrong, back over the nearer half of the frames before it as
well ("both"). Or the clip is run again from its first frame to its last, as ``segspn segment --correct``
does, and the web page where a file is at hand: both annotated frames are known from the start ("again").
J&F as in DAVIS-2016, the corrected frame included.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from segspn import Segmenter
from segspn.evaluation import DavisSequence, open_davis
from segspn.evaluation.measures import frame_scores

HARDEST = ("bmx-trees", "breakdance", "drift-straight", "kite-surf", "scooter-black")

GIVEN = ("before", "forward", "both", "again")


def correct_one(segmenter: Segmenter, sequence: DavisSequence) -> dict[str, object]:
    """Figures of one sequence."""
    frames, truth = [], []
    for stem in sequence.frames:
        image = cv2.imread(str(sequence.images / f"{stem}.jpg"))
        frames.append(np.ascontiguousarray(image[..., ::-1]))
        mask = cv2.imread(str(sequence.annotation(stem)), cv2.IMREAD_GRAYSCALE)
        truth.append((mask > 0).astype(np.int32))
    session = segmenter.session(keep=len(frames))  # to go back anywhere
    found = [session.annotate(frames[0], truth[0])]
    found += [result.labels for result in session.follow(frames[1:])]
    before = [scores(a, b) for a, b in zip(found, truth, strict=True)]
    worst = min(range(1, len(frames) - 1), key=lambda t: before[t][0])
    corrected = list(found)
    corrected[worst] = session.correct(worst, truth[worst])
    back = session.copy()
    for t, result in enumerate(session.follow(frames[worst + 1 :]), worst + 1):
        corrected[t] = result.labels
    forward = [scores(a, b) for a, b in zip(corrected, truth, strict=True)]
    middle = worst // 2
    for t, result in zip(
        range(worst - 1, middle, -1), back.follow(frames[worst - 1 : middle : -1]), strict=True
    ):
        corrected[t] = result.labels
    both = [scores(a, b) for a, b in zip(corrected, truth, strict=True)]
    session = segmenter.session(keep=1)
    session.annotate(frames[worst], truth[worst])
    session.annotate(frames[0], truth[0])
    corrected[1:worst] = [result.labels for result in session.follow(frames[1:worst])]
    session.annotate(frames[worst], truth[worst])  # which is the next frame
    corrected[worst + 1 :] = [result.labels for result in session.follow(frames[worst + 1 :])]
    again = [scores(a, b) for a, b in zip(corrected, truth, strict=True)]
    return {
        "sequence": sequence.name,
        "frames": len(frames),
        "before": mean(before),
        "worst": worst,
        "worst_j": before[worst][0],
        "forward": mean(forward),
        "both": mean(both),
        "again": mean(again),
    }


def scores(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J and F of a frame."""
    j, f = frame_scores(found, truth, [1])
    return float(j[0]), float(f[0])


def mean(frames: list[tuple[float, float]]) -> float:
    """J&F of a sequence in per cent: without its first and last frame, as in DAVIS."""
    return 100 * float(np.mean(frames[1:-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--sequences", nargs="+", default=HARDEST)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    console = Console()
    segmenter = Segmenter(arguments.preset, "cpu")
    rows = []
    for sequence in open_davis(arguments.davis, 2016).sequences:
        if sequence.name in arguments.sequences:
            rows.append(correct_one(segmenter, sequence))
            console.print(rows[-1])
    table = Table(title=f"preset {arguments.preset}, torch {torch.__version__}, {platform.machine()}")
    for column in ("sequence", "J&F", "worst frame", "its J", "forward", "both ways", "again"):
        table.add_column(column, justify="left" if column == "sequence" else "right")
    for row in rows:
        table.add_row(
            str(row["sequence"]),
            f"{row['before']:.1f}",
            f"{row['worst']} of {row['frames']}",
            f"{row['worst_j']:.2f}",
            f"{row['forward']:.1f}",
            f"{row['both']:.1f}",
            f"{row['again']:.1f}",
        )
    means = [float(np.mean([row[k] for row in rows])) for k in GIVEN]  # type: ignore[misc]
    table.add_row("mean", f"{means[0]:.1f}", "", "", *(f"{m:.1f}" for m in means[1:]))
    console.print(table)
    gains = ", ".join(f"{m - means[0]:+.1f} {k}" for k, m in zip(GIVEN[1:], means[1:], strict=True))
    console.print(f"gain: {gains}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
