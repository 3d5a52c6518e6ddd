"""Whether the frames that the app flags as doubtful are bad ones.

    python benchmarks/doubts.py --davis DAVIS [--sequences NAME ...] [--max-side 480]

Follows each sequence of DAVIS-2016 val from its first mask and compares, frame by frame, the flags of
`segspn.app.review` with J. Prints for each sequence the frames, the bad ones (J below 0.6), the flagged
ones, and at the end which share of the flagged is bad (precision), and of the bad flagged (recall).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from segspn.app.review import doubt, look
from segspn.evaluation import region_j
from segspn.jobs.scale import Scale
from segspn.pipeline import Segmenter
from segspn.video import open_source, read_labels, resize_labels

BAD = 0.6


def flags_of(
    segmenter: Segmenter, root: Path, name: str, max_side: int | None
) -> list[tuple[float, bool]]:
    """J of every frame after the first, and whether it is flagged."""
    source = open_source(root / "JPEGImages" / "480p" / name)
    scale = Scale(source.size, max_side)
    truths = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
    session, before, found = segmenter.session(), None, []
    for frame, path in zip(source.read(), truths, strict=True):
        truth = (resize_labels(read_labels(path), scale.working) > 0).astype(np.int32)
        small = scale.shrink_frame(frame)
        if session.size is None:
            session.annotate(small, truth)
            continue
        result = session.step(small)
        now = look(result.labels, 1, result.scores[0], drawn=False)
        j = region_j(result.labels == 1, truth == 1)
        found.append((float(j), doubt(now, before) is not None))
        before = now
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--sequences", nargs="*")
    parser.add_argument("--max-side", type=int)
    arguments = parser.parse_args()
    listed = (arguments.davis / "ImageSets/2016/val.txt").read_text().split()
    names = arguments.sequences or listed
    segmenter, every = Segmenter("default"), []
    for name in names:
        found = flags_of(segmenter, arguments.davis, name, arguments.max_side)
        bad, flagged = (sum(x) for x in zip(*((j < BAD, flag) for j, flag in found), strict=True))
        print(f"{name:16} {len(found):4} frames, {bad:3} bad, {flagged:3} flagged", flush=True)
        every += found
    both = sum(j < BAD and flag for j, flag in every)
    flagged, bad = sum(flag for _, flag in every), sum(j < BAD for j, _ in every)
    print(f"precision {both / max(1, flagged):.2f}, recall {both / max(1, bad):.2f}")


if __name__ == "__main__":
    main()
