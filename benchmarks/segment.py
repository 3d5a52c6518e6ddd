"""Speed and memory of whole runs: per-stage medians, all-included seconds per frame, peak memory.

    python benchmarks/segment.py --objects 1 3 --lengths 50 500

Each case runs in a process of its own, so that its peak memory is its own. The clip is the one in
``examples``, scaled to ``--size`` and played forward and backward until it is long enough; objects
beyond those of its mask are boxes, which cost the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "examples" / "bigbuckbunny.mp4"
MASK = ROOT / "examples" / "bigbuckbunny_first.png"


def run_case(preset: str, objects: int, length: int, size: tuple[int, int]) -> dict[str, object]:
    """One run in this process; figures as plain numbers."""
    import torch

    from segspn import Segmenter
    from segspn.video import open_source, read_object_masks, resize_labels

    source = open_source(CLIP)
    clip = [cv2.resize(f, size[::-1], interpolation=cv2.INTER_AREA) for f in source.read()]
    labels = resize_labels(read_object_masks(MASK).labels, size)
    labels = many_objects(labels, objects)
    period = 2 * len(clip) - 2
    session = Segmenter(preset, "cpu").session()
    started = time.perf_counter()
    fit = session.begin(clip[0], labels).timings["fit"]
    stages: dict[str, list[float]] = {}
    steps = []
    for i in range(1, length):
        k = i % period
        begun = time.perf_counter()
        result = session.step(clip[k if k < len(clip) else period - k])
        steps.append(time.perf_counter() - begun)
        for name, seconds in result.timings.items():
            stages.setdefault(name, []).append(seconds)
    total = time.perf_counter() - started
    return {
        "objects": len(result.ids),
        "frames": length,
        "fit_s": fit,
        "step_ms": 1e3 * statistics.median(steps),
        "stages_ms": {k: 1e3 * statistics.median(v) for k, v in stages.items()},
        "s_per_frame": total / length,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def many_objects(labels: np.ndarray, count: int) -> np.ndarray:
    """Keep the first ``count`` objects, or add boxes until there are ``count``."""
    ids = [i for i in np.unique(labels) if i > 0]
    out = np.zeros_like(labels)
    for k, i in enumerate(ids[:count]):
        out[labels == i] = k + 1
    h, w = labels.shape
    side = h // 6
    for k in range(len(ids), count):
        y, x = divmod(k - len(ids), max(1, w // (2 * side)))
        out[2 * y * side : (2 * y + 1) * side, 2 * x * side : (2 * x + 1) * side] = k + 1
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50])
    parser.add_argument("--size", type=int, nargs=2, default=[480, 854], metavar=("H", "W"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = (args.size[0], args.size[1])
    if args.case:
        print(json.dumps(run_case(args.preset, *args.case, size)))
        return
    print(f"{platform.processor() or platform.machine()}, preset {args.preset}, {size[1]}x{size[0]}")
    for length in args.lengths:
        for objects in args.objects:
            command = [sys.executable, __file__, "--preset", args.preset, "--size", *map(str, size)]
            command += ["--case", str(objects), str(length)]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(args.runs)
            ]
            middle = sorted(runs, key=lambda r: r["s_per_frame"])[len(runs) // 2]
            stages = ", ".join(f"{k} {v:.0f}" for k, v in middle["stages_ms"].items())
            print(
                f"{middle['objects']} objects, {length} frames, {middle['threads']} threads, median "
                f"of {args.runs}: {middle['s_per_frame']:.3f} s/frame all included "
                f"(fit {middle['fit_s']:.1f} s, step {middle['step_ms']:.0f} ms: {stages}), "
                f"peak {middle['peak_mb']:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
