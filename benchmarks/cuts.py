"""What a cut to another scene does: what is taken for the object there, and how it is found again.

    python benchmarks/cuts.py --davis DAVIS [--preset default]

Of each sequence the first frames are segmented, as far as the session has to know its object. Then the
film cuts: for a while to the middle of another sequence, where every pixel that gets a label is false,
and back to where it left off ("back"); or straight to the same frames mirrored, as if seen from another
side ("mirrored"). Each sequence is cut to two others. "false" is the labelled area of a foreign frame as
a share of the object's in its first frame; the other figures are J, of the first frame after a cut and
of all of them. Sequences of several objects count as one of their union.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.composer import Stretch  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from segspn import Segmenter, Session  # noqa: E402
from segspn.errors import InputError  # noqa: E402
from segspn.evaluation import DavisSequence, open_davis  # noqa: E402
from segspn.evaluation.measures import frame_scores  # noqa: E402

BEFORE, AWAY, AFTER = 15, 20, 15  # frames
OTHERS = (3, 7)  # places farther in the list
COLUMNS = ("before", "false", "first back", "back", "first mirrored", "mirrored")


def read(sequence: DavisSequence, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame ``t``, uint8 RGB ``(H, W, 3)``, and its object, int32 ``(H, W)`` of 0 and 1."""
    one = Stretch(sequence, (t,))
    return np.ascontiguousarray(one.picture(0)[..., ::-1]), one.mask(0).astype(np.int32)


def overlap(session: Session, frame: np.ndarray, truth: np.ndarray) -> float:
    """J of the next frame."""
    return float(frame_scores(session.step(frame).labels, truth, [1])[0][0])


def cut_one(segmenter: Segmenter, sequence: DavisSequence, others: list[DavisSequence]) -> np.ndarray:
    """The figures of one sequence, in the order of `COLUMNS`."""
    session = segmenter.session()
    frame, truth = read(sequence, 0)
    size, area = truth.shape, int(truth.sum())
    session.annotate(frame, truth)
    before = [overlap(session, *read(sequence, t)) for t in range(1, BEFORE)]
    after = [read(sequence, t) for t in range(BEFORE, min(BEFORE + AFTER, len(sequence.frames)))]
    false, back = [], []
    for other in others:
        there = session.copy()
        middle = max(0, len(other.frames) - AWAY) // 2
        for t in range(middle, min(middle + AWAY, len(other.frames))):
            foreign = cv2.resize(read(other, t)[0], size[::-1], interpolation=cv2.INTER_AREA)
            false.append(np.count_nonzero(there.step(foreign).labels) / area)
        back.append([overlap(there, *one) for one in after])
    mirrored = [
        overlap(session, *(np.ascontiguousarray(maps[:, ::-1]) for maps in one)) for one in after
    ]
    returns = np.array(back)
    firsts = (returns[:, 0].mean(), returns.mean(), mirrored[0], np.mean(mirrored))
    return np.array([np.mean(before), np.mean(false), *firsts])


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True, help="root of the sequences")
    parser.add_argument("--year", type=int, default=2016, help="of the list of sequences")
    parser.add_argument("--subset", default="val", help="the list of sequences")
    parser.add_argument("--preset", default="default", help="a preset's name or file")
    args = parser.parse_args(None if arguments is None else list(arguments))
    console = Console()
    begun = time.perf_counter()
    try:
        sequences = open_davis(args.davis, args.year, args.subset).sequences
        if len(sequences) < 2 or any(len(s.frames) <= BEFORE for s in sequences):
            raise InputError(f"{args.davis}: give several sequences, of more than {BEFORE} frames each")
        segmenter = Segmenter(args.preset)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    table = Table(title=f"preset {Path(args.preset).stem}; {machine(torch.get_num_threads())}")
    for column in ("sequence", *COLUMNS):
        table.add_column(column, justify="left" if column == "sequence" else "right")
    rows = []
    for k, sequence in enumerate(sequences):
        rest = [*sequences[k + 1 :], *sequences[:k]]  # never itself, however few there are
        others = [rest[(step - 1) % len(rest)] for step in OTHERS]
        rows.append(cut_one(segmenter, sequence, others))
        table.add_row(sequence.name, *(f"{value:.3f}" for value in rows[-1]))
    table.add_row("mean", *(f"{value:.3f}" for value in np.mean(rows, 0)))
    console.print(table)
    console.print(f"{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
