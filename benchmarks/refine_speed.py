"""Speed and memory of refinement: one frame at 854x480 and 1920x1080, 1 and 5 objects.

    python benchmarks/refine_speed.py

Milliseconds, medians of the runs: guidance, evidence and propagation, which is what a pipeline that has
the features pays; and all of `segspn.refine`, from arrays to arrays.
Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((480, 854), (1080, 1920))


def median(call: Callable[[], object], runs: int) -> float:
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


@torch.inference_mode()
def case(height: int, width: int, objects: int, runs: int) -> dict[str, float]:
    """Figures of one size in this process."""
    import segspn
    from segspn import Segmenter
    from segspn.spn.refiner import look
    from segspn.video import open_source

    refiner = Segmenter("default", "cpu").refiner
    picture = next(iter(open_source(ROOT / "examples" / "bigbuckbunny.mp4").read()))
    image = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    masks = np.zeros((objects, height, width), np.uint8)
    for k, mask in enumerate(masks):
        place = (width * (k + 1) // (objects + 1), height // 2)
        cv2.ellipse(mask, place, (width // 8, height // 4), 20, 0, 360, 1, -1)
    scores = torch.from_numpy(masks.astype(np.float32))

    ready = look(image, torch.device("cpu"))
    refiner.refine_full(ready, scores)  # leaves the features in the frame
    everything = median(lambda: segspn.refine(image, masks > 0), runs)
    stage = median(lambda: refiner.refine_full(ready, scores), runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stage_ms": stage, "all_ms": everything, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--case", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    if options.case:
        print(json.dumps(case(*options.case, options.runs)))
        return
    print(f"{options.threads} threads, torch {torch.__version__}, medians of {options.runs} runs")
    print(f"{'':22}{'SPN stage ms':>14}{'all ms':>9}{'peak MB':>9}")
    for height, width in SIZES:
        for objects in (1, 5):
            more = ["--threads", options.threads, "--runs", options.runs]
            command = [sys.executable, __file__, "--case", height, width, objects, *more]
            done = subprocess.run([str(c) for c in command], check=True, capture_output=True)
            f = json.loads(done.stdout)
            name = f"{width}x{height}, {objects} object{'s' if objects > 1 else ''}"
            print(f"{name:22}{f['stage_ms']:14.0f}{f['all_ms']:9.0f}{f['peak_mb']:9.0f}", flush=True)


if __name__ == "__main__":
    main()
