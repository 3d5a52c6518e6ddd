"""Speed, start-up time and peak memory of presets, and of what else would do the same job.

    python benchmarks/speed.py                                   # 1, 3, 10 objects; 480p and 1080p
    python benchmarks/speed.py --presets fast default --sizes 480p --objects 1
    python benchmarks/speed.py --presets default --sizes 480p --objects 1 --rivals sam2 cutie
    python benchmarks/speed.py --presets default --sizes 480p --objects 1 --frames 500

Each row is a process of its own, so that its peak memory is its own. The clip is the one in
``examples``, scaled and played forward and backward until it is long enough; objects beyond those of
its mask are boxes. A frame's time is that of `Session.step` and of writing the label PNG, from the array
to the file; the median is over all frames but the first eight, in which the memory fills. The row of
the run with the median time stands for ``--runs``. Start-up: ``load`` builds the networks, ``fit`` is
online learning on the annotated frame. "further" is what each object beyond the first adds, as a share
of the time with one.

Rivals run with random weights, on which speed does not depend, in the same run on the same machine:
`benchmarks/rivals.py` says which and how to install them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.machine import machine  # noqa: E402
from benchmarks.rivals import RIVALS, Clip, Missing  # noqa: E402
from segspn.jobs.report import peak_memory  # noqa: E402

CLIP = ROOT / "examples" / "bigbuckbunny.mp4"
MASK = ROOT / "examples" / "bigbuckbunny_first.png"
SIZES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920)}
WARM = 8  # steps until the default's memory is full

Figures = dict[str, Any]


def read_clip(size: tuple[int, int], objects: int) -> Clip:
    """The example's frames, uint8 RGB ``(H, W, 3)``, and its first labels, int32 ``(H, W)``."""
    from segspn.video import open_source, read_object_masks, resize_labels

    frames = [
        cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        for frame in open_source(CLIP).read()
    ]
    labels = resize_labels(read_object_masks(MASK).labels, size)
    return Clip(frames, many_objects(labels, objects))


def many_objects(labels: np.ndarray, count: int) -> np.ndarray:
    """Keep the first ``count`` objects, or add boxes until there are ``count``; ids 1 to ``count``."""
    ids = [i for i in np.unique(labels) if i > 0]
    out = np.zeros_like(labels)
    height, width = labels.shape
    side = height // 6
    for k in range(len(ids), count):
        y, x = divmod(k - len(ids), max(1, width // (2 * side)))
        out[2 * y * side : (2 * y + 1) * side, 2 * x * side : (2 * x + 1) * side] = k + 1
    # Last, so that no box hides one of the clip's own.
    for k, i in enumerate(ids[:count]):
        out[labels == i] = k + 1
    return out


def run_preset(preset: str, clip: Clip, frames: int) -> Figures:
    """One run of a preset in this process; seconds, and bytes of memory."""
    from segspn import Segmenter
    from segspn.video import write_labels

    begun = time.perf_counter()
    session = Segmenter(preset, "cpu").session()
    load = time.perf_counter() - begun
    started = time.perf_counter()
    fit = session.begin(clip.frame(0), clip.labels).timings["fit"]
    steps, stages = [], dict[str, list[float]]()
    with tempfile.TemporaryDirectory(prefix="segspn-speed-") as folder:
        for i in range(1, frames):
            clock = time.perf_counter()
            result = session.step(clip.frame(i))
            stepped = time.perf_counter()
            write_labels(Path(folder) / f"{i:05d}.png", result.labels)
            written = time.perf_counter()
            steps.append(written - clock)
            for name, seconds in {**result.timings, "png": written - stepped}.items():
                stages.setdefault(name, []).append(seconds)
    total = time.perf_counter() - started
    return {
        "load": load,
        "fit": fit,
        "step": statistics.median(steps[WARM:]),
        "stages": {name: statistics.median(seconds[WARM:]) for name, seconds in stages.items()},
        "whole": total / frames,
        "memory": peak_memory(),
    }


def run_case(name: str, size: tuple[int, int], objects: int, frames: int, threads: int) -> Figures:
    """One row in this process. ``{"missing": line}`` for a rival that is not installed."""
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    clip = read_clip(size, objects)
    if name not in RIVALS:
        return run_preset(name, clip, frames)
    try:
        return {**RIVALS[name](clip), "memory": peak_memory()}
    except Missing as missing:
        return {"missing": str(missing)}


def in_process(name: str, size: str, objects: int, args: argparse.Namespace) -> Figures:
    """The figures of the run with the median frame time, each run in a process of its own."""
    # This process stays small: a new one's peak memory is at least that of the one that began it.
    command = [sys.executable, __file__, "--case", name, size, str(objects)]
    command += ["--frames", str(args.frames), "--threads", str(args.threads)]
    runs: list[Figures] = []
    for _ in range(args.runs if name not in RIVALS else 1):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{name}, {size}, {objects} objects failed; its message is above")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        if "missing" in runs[-1]:
            return runs[-1]
    return sorted(runs, key=lambda run: run["step"])[len(runs) // 2]


HEAD = (
    f"{'':16}{'size':>7}{'objects':>9}{'load s':>8}{'fit s':>7}{'ms/frame':>10}{'fps':>7}"
    f"{'further':>9}{'peak MB':>9}  ms per stage"
)


def row(name: str, size: str, objects: int, figures: Figures, one: Figures | None) -> str:
    """One line of the table; ``one`` the figures with one object, if there are."""
    further = ""
    if one is not None and objects > 1:
        further = f"{(figures['step'] / one['step'] - 1) / (objects - 1):.0%}"
    stages = ", ".join(f"{stage} {1e3 * s:.0f}" for stage, s in figures.get("stages", {}).items())
    whole = f"; all included {figures['whole']:.3f} s/frame" if "whole" in figures else ""
    return (
        f"{name:16}{size:>7}{objects:9}{figures['load']:8.1f}{figures['fit']:7.1f}"
        f"{1e3 * figures['step']:10.0f}{1 / figures['step']:7.2f}{further:>9}"
        f"{figures['memory'] / 2**20:9.0f}  {stages}{whole}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=["default"])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--sizes", nargs="+", default=["480p", "1080p"], choices=SIZES)
    parser.add_argument("--frames", type=int, default=32, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="of each preset's row")
    parser.add_argument("--rivals", nargs="*", default=[], choices=RIVALS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.frames < WARM + 2:
        parser.error(f"--frames must be {WARM + 2} or more")
    if args.case:
        name, size, objects = args.case
        print(json.dumps(run_case(name, SIZES[size], int(objects), args.frames, args.threads)))
        return
    print(f"{machine(args.threads)}; {args.frames} frames, median of {args.runs} runs")
    print(HEAD)
    times: dict[tuple[str, str, int], float] = {}
    for size in args.sizes:
        for name in (*args.presets, *args.rivals):
            one = None
            for objects in args.objects:
                figures = in_process(name, size, objects, args)
                if "missing" in figures:
                    print(f"{name:16}{size:>7}{objects:9}  {figures['missing']}", flush=True)
                    break
                one = figures if objects == 1 else one
                times[name, size, objects] = figures["step"]
                print(row(name, size, objects, figures, one), flush=True)
    for (rival, size, objects), seconds in times.items():
        for preset in args.presets:
            if rival in args.rivals and (preset, size, objects) in times:
                share = seconds / times[preset, size, objects]
                print(f"{size}, {objects} objects: {preset} is {share:.1f} times as fast as {rival}")


if __name__ == "__main__":
    main()
