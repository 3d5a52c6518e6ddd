"""A stream without end: memory and speed of a session over thousands of frames.

    python benchmarks/endless.py [--frames 10000] [--size 480 854] [--preset default] [--json OUT]

The stream is made as it is asked for: textured shapes enter at one side, cross the picture and leave
it, at most --objects at once. Each is annotated with its mask when it is in full view and removed when
it has left, so that objects come and go for as long as the stream lasts. Memory is the resident size of
the process, read after every frame; reported is the most in each 50 frames: up to frame 200, when the
stream has come to its full number of objects, at the end, and in between. And the median seconds for a
frame in each tenth of the run (learning, which follows annotations, apart).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from segspn import Segmenter

SETTLED = 200  # frames after which memory should not grow


@dataclass
class Shape:
    """One object: it crosses the picture in a straight line."""

    number: int
    picture: np.ndarray
    mask: np.ndarray
    start: tuple[float, float]
    speed: tuple[float, float]
    age: int = 0
    object_id: int | None = None

    def place(self) -> tuple[int, int]:
        return tuple(round(p + v * self.age) for p, v in zip(self.start, self.speed, strict=True))  # type: ignore[return-value]


class Stream:
    """Frames and the true masks of the shapes in them, one after the other, from a seed."""

    def __init__(self, size: tuple[int, int], objects: int, every: int, seed: int = 0) -> None:
        self.size, self.objects, self.every = size, objects, every
        self.rng = np.random.default_rng(seed)
        self.ground = self.texture(size, 12, 90, 40)
        self.shapes: list[Shape] = []
        self.count = self.frame = 0

    def texture(self, size: tuple[int, int], sigma: float, mean: int, spread: int) -> np.ndarray:
        noise = self.rng.normal(0, 1, (*size, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
        return np.clip(mean + spread * smooth / smooth.std(), 0, 255).astype(np.uint8)

    def next(self) -> tuple[np.ndarray, list[tuple[Shape, np.ndarray]]]:
        """A frame, uint8 (H, W, 3), and the visible mask, bool (H, W), of each shape in it."""
        if self.frame % self.every == 0 and len(self.shapes) < self.objects:
            self.shapes.append(self.made())
        self.frame += 1
        picture = self.ground.copy()
        owner: np.ndarray = np.zeros(self.size, np.int32)
        for shape in self.shapes:
            shape.age += 1
            x, y = shape.place()
            h, w = shape.mask.shape
            rows = slice(max(0, y), min(self.size[0], y + h))
            columns = slice(max(0, x), min(self.size[1], x + w))
            if rows.start < rows.stop and columns.start < columns.stop:
                cut = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
                own = shape.mask[cut]
                picture[rows, columns][own] = shape.picture[cut][own]
                owner[rows, columns][own] = shape.number
        noise = self.rng.integers(-4, 5, picture.shape, np.int16)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        return picture, [(shape, owner == shape.number) for shape in self.shapes]

    def made(self) -> Shape:
        self.count += 1
        h, w = self.size
        side = int(self.rng.uniform(0.25, 0.45) * h)
        drawn: np.ndarray = np.zeros((side, side), np.uint8)
        corners = int(self.rng.integers(3, 8))
        angles = np.sort(self.rng.uniform(0, 2 * np.pi, corners)) + np.linspace(0, 0.5, corners)
        points = side / 2 * (1 + 0.95 * np.stack((np.cos(angles), np.sin(angles)), 1))
        if self.rng.random() < 0.4 or cv2.contourArea(points.astype(np.float32)) < 0.2 * side**2:
            cv2.circle(drawn, (side // 2, side // 2), side // 2 - 1, 1, -1)
        else:
            cv2.fillPoly(drawn, [points.astype(np.int32)], 1)
        picture = self.texture((side, side), 6, int(self.rng.integers(60, 200)), 20)
        picture = np.clip(picture + self.rng.normal(0, 45, 3), 0, 255).astype(np.uint8)
        rightwards = self.rng.random() < 0.5
        speed = (1 if rightwards else -1) * self.rng.uniform(3, 7)
        start = (float(-side if rightwards else w), float(self.rng.uniform(0, h - side)))
        return Shape(self.count, picture, drawn > 0, start, (speed, self.rng.normal(0, 0.3)))


def resident() -> float:
    """Resident memory of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("H", "W"))
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--every", type=int, default=20, help="frames between objects that enter")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    session = Segmenter(arguments.preset, "cpu").session()
    stream = Stream(tuple(arguments.size), arguments.objects, arguments.every)
    memory: list[tuple[int, float]] = []
    steps: list[float] = []
    fits: list[float] = []
    overlaps: list[float] = []
    most = 0.0
    h, w = arguments.size
    for k in range(arguments.frames):
        frame, shapes = stream.next()
        begun = time.perf_counter()
        result = session.step(frame) if session.size is not None else None
        if result is not None:
            taken = time.perf_counter() - begun
            fits += [result.timings["fit"]] if "fit" in result.timings else []
            steps.append(taken - result.timings.get("fit", 0.0))
        for shape, mask in shapes:
            whole = mask.sum() > 0.8 * shape.mask.sum()
            x, _ = shape.place()
            if shape.object_id is None and whole:
                session.annotate(frame, mask)
                shape.object_id = session.ids[-1]
            elif shape.object_id is not None and result is not None and whole:
                found = result.labels == shape.object_id
                overlaps.append(float((found & mask).sum() / (found | mask).sum()))
            if x < -shape.mask.shape[1] or x > w:
                if shape.object_id is not None:
                    session.remove(shape.object_id)
                stream.shapes.remove(shape)
        most = max(most, resident())
        if k % 50 == 49:
            memory.append((k + 1, most))
            most = 0.0
    settled = next((mb for k, mb in memory if k >= SETTLED), memory[-1][1])
    tenth = max(1, len(steps) // 10)
    speeds = [statistics.median(steps[i : i + tenth]) for i in range(0, len(steps) - tenth + 1, tenth)]
    console.print(
        f"{arguments.frames} frames {w}x{h}, {stream.count} objects came, at most "
        f"{arguments.objects} at once; preset {arguments.preset}, {arguments.threads} threads, "
        f"torch {torch.__version__}, {platform.machine()}"
    )
    peak, last = max(mb for _, mb in memory), memory[-1][1]
    console.print(
        f"memory, most in 50 frames: {settled:.0f} MB up to frame {SETTLED}, {last:.0f} MB at the end "
        f"({100 * (last / settled - 1):+.1f} %), {peak:.0f} MB at most "
        f"({100 * (peak / settled - 1):+.1f} %)"
    )
    console.print("seconds a frame, by tenths: " + " ".join(f"{s:.3f}" for s in speeds))
    console.print(f"learning, {len(fits)} times: median {statistics.median(fits or [0.0]):.2f} s")
    console.print(f"IoU with the truth while an object is in full view: {np.mean(overlaps):.3f}")
    if arguments.json:
        figures = {"memory_mb": memory, "speeds": speeds, "fits": fits, "iou": float(np.mean(overlaps))}
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
