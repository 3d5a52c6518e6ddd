"""Follow an object live, in whatever a camera sees, without ever lagging behind it.

    python examples/camera.py [SOURCE] --box 200,120,420,400 [--frames 100]

SOURCE is a camera's number (0), the address of an RTSP or HTTP stream, or a video file. Frames that come
while another is being segmented are dropped. `segspn watch` shows the same in a browser.
"""

from __future__ import annotations

import argparse
import itertools
import time

import segspn
from segspn.video import Newest, live_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", nargs="?", default="0")
    parser.add_argument("--box", required=True, help="x0,y0,x1,y1 in the first frame, in pixels")
    parser.add_argument("--frames", type=int, help="stop after so many")
    arguments = parser.parse_args()
    box = tuple(float(part) for part in arguments.box.split(","))
    session = segspn.Segmenter("default").session()
    with Newest(live_frames(arguments.source)) as frames:
        session.annotate(next(frames), box=box)
        for frame in itertools.islice(frames, arguments.frames):
            begun = time.perf_counter()
            mask = session.step(frame).labels == 1
            rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
            where = f"({columns.mean():.0f}, {rows.mean():.0f})" if len(rows) else "out of sight"
            print(f"{where}  {time.perf_counter() - begun:.2f} s, {frames.dropped} dropped so far")


if __name__ == "__main__":
    main()
