"""Correct an object, and add another, in the middle of a video.

    python examples/correct_midway.py [--frames 12] [--out midway]

Follows the rabbit of the example clip from a box; some frames later the mask is corrected with a click,
the stone blocks on the right are added with a box, and the session goes on: forward from there and back
to the first frame. Leaves the overlays as PNG files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import segspn
from segspn.video import open_source, overlay, write_picture

CLIP = Path(__file__).parent / "bigbuckbunny.mp4"
RABBIT, BLOCKS = 1, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("midway"))
    arguments = parser.parse_args()
    source = open_source(CLIP, end=arguments.frames)
    frames = list(source.read())  # a few: to go back and forth in
    middle = len(frames) // 2

    session = segspn.Segmenter("default").session()
    session.annotate(frames[0], box=(290, 60, 520, 475))
    for result in session.follow(frames[1 : middle + 1]):
        print(f"the rabbit takes {100 * (result.labels == RABBIT).mean():.1f} % of the frame")

    # A click beside the rabbit takes away what is too much there; a box starts a new object.
    session.correct(points=[(250, 330, False)], object_id=RABBIT)
    labels = session.annotate(frames[middle], box=(690, 200, 853, 479), object_id=BLOCKS)

    back = session.copy()  # a second session from the same frame, for the other direction
    found = {middle: labels}
    for k, result in enumerate(session.follow(frames[middle + 1 :]), middle + 1):
        found[k] = result.labels
    for k, result in zip(range(middle - 1, -1, -1), back.follow(frames[:middle][::-1]), strict=True):
        found[k] = result.labels

    arguments.out.mkdir(exist_ok=True)
    for k, labels in sorted(found.items()):
        picture = overlay(frames[k], labels, (RABBIT, BLOCKS))
        write_picture(arguments.out / f"{k:05d}.png", picture)
    print(f"{len(found)} pictures in {arguments.out}")


if __name__ == "__main__":
    main()
