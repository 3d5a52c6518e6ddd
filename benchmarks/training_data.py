"""How quickly training samples are made: two-frame synthetic clips of 256x256 pixels.

    python benchmarks/training_data.py --stills FOLDER

FOLDER holds the sources of the recipe, as for `segspn train --stills FOLDER`. Samples per second of the
training loop's own data loader, medians of the runs, beside the time that opening the pictures takes of
it (the same loader, decoding alone). --sheet FILE leaves a picture of some clips.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from segspn.data import ClipConfig, Stills, draw_clip, open_data
from segspn.training import load_recipe
from segspn.training.loop import LoopConfig, sample_batches
from segspn.training.processes import Processes
from segspn.video.labels import davis_palette


class Clips(Dataset[dict[str, np.ndarray]]):
    """Clips, or, with ``config`` None, three decoded pictures thrown away."""

    def __init__(self, stills: Stills, config: ClipConfig | None, seed: int) -> None:
        self.stills, self.config, self.seed = stills, config, seed

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        if self.config is None:
            for _ in range(3):
                self.stills.load(self.stills.draw(rng))
            return {"none": np.zeros(1)}
        clip = draw_clip(self.stills, rng, self.config)
        return {"images": clip.images.transpose(0, 3, 1, 2), "labels": clip.labels}


def rate(stills: Stills, config: ClipConfig | None, loop: LoopConfig, runs: int) -> float:
    """Samples per second, the median of runs; the workers' start is not counted."""
    found = []
    for run in range(runs):
        batches = sample_batches(Clips(stills, config, run), loop, 0, Processes())
        next(batches)
        start = time.perf_counter()
        for _ in batches:
            pass
        found.append((loop.steps - 1) * loop.batch / (time.perf_counter() - start))
    return statistics.median(found)


def sheet(stills: Stills, config: ClipConfig, rows: int) -> np.ndarray:
    """RGB: a clip in each row, its objects tinted."""
    drawn = []
    for row in range(rows):
        clip = draw_clip(stills, np.random.default_rng(row), config)
        tint = clip.images // 2 + davis_palette()[clip.labels] // 2
        shown = np.where(clip.labels[..., None] > 0, tint, clip.images)
        drawn.append(np.concatenate(list(shown), 1))
    return np.concatenate(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stills", type=Path, required=True)
    parser.add_argument("--config", default="cpu", help="recipe whose data are drawn from")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=480)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cache-mb", type=float, help="default: the recipe's")
    parser.add_argument("--sheet", type=Path, help="PNG to write")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    recipe = load_recipe(options.config)
    cache = recipe.cache_mb if options.cache_mb is None else options.cache_mb
    stills = open_data(recipe.data, options.stills, cache_mb=cache)
    config = ClipConfig(size=options.size, frames=options.frames)
    if options.sheet:
        picture = sheet(stills, config, 8)
        cv2.imwrite(str(options.sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    loop = LoopConfig(steps=options.samples // 8, batch=8, workers=options.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, {options.workers} workers, "
        f"{len(stills)} stills, cache {cache:g} MB a worker, OpenCV {cv2.__version__}"
    )
    size = f"{options.frames} frames of {options.size}x{options.size}"
    print(f"{size}: {rate(stills, config, loop, options.runs):.1f} samples/s, median of {options.runs}")
    print(f"three pictures decoded: {rate(stills, None, loop, options.runs):.1f} samples/s")


if __name__ == "__main__":
    main()
