"""Simulated users mark the object of each first frame: IoU after each hint, and time per answer.

    python benchmarks/prompts.py --davis DAVIS [--threads 2] [--plot curve.png]

DAVIS is a folder in DAVIS layout. Users start with a box, with clicks or with a stroke, look at the
answer and mark the middle of the largest wrong region, with a click or with a stroke, up to --hints
times. Several seeds give the strokes and the boxes' jitter (--jitter, in shares of the box's sides).
Only answers are timed; the first one of an image includes all that is computed once for it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from segspn import Segmenter
from segspn.evaluation import open_davis
from segspn.prompts import Prompter, Prompts
from segspn.prompts.users import framed, stroke, worst_click

USERS = ("box", "clicks", "scribbles")
BARS = {("box", 1): 0.75, ("clicks", 3): 0.70, ("clicks", 5): 0.78, ("scribbles", 3): 0.82}


def first_frames(davis: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image, uint8 RGB (H, W, 3), and object, bool (H, W), of each sequence's first frame."""
    frames = {}
    for sequence in open_davis(davis, 2016).sequences:
        image = cv2.imread(str(sequence.images / f"{sequence.frames[0]}.jpg"))
        mask = cv2.imread(str(sequence.first_mask), cv2.IMREAD_GRAYSCALE)
        frames[sequence.name] = (np.ascontiguousarray(image[..., ::-1]), mask > 0)
    return frames


def use(
    prompter: Prompter,
    image: np.ndarray,
    truth: np.ndarray,
    user: str,
    hints: int,
    jitter: float,
    rng: np.random.Generator,
) -> tuple[list[float], list[float]]:
    """IoU and seconds after each of ``hints`` hints of one user."""
    look = prompter.look(image)
    prompts, scores = Prompts(), None
    found = np.zeros_like(truth)
    ious: list[float] = []
    seconds: list[float] = []
    for k in range(hints):
        prompts = prompts.joined(hint(user, k, found, truth, jitter, rng))
        begun = time.perf_counter()
        answer = look.answer(prompts, scores)
        seconds.append(time.perf_counter() - begun)
        prompts, scores = answer.prompts, answer.scores
        found = scores > 0.5
        ious.append(float((found & truth).sum() / (found | truth).sum()))
    return ious, seconds


def hint(
    user: str,
    k: int,
    found: np.ndarray,
    truth: np.ndarray,
    jitter: float,
    rng: np.random.Generator,
) -> Prompts:
    """Hint number ``k`` of a user who sees what has been ``found``."""
    if user == "box" and k == 0:
        x0, y0, x1, y1 = framed(truth)
        moved = np.array([x0, y0, x1, y1]) + jitter * rng.normal(0, 1, 4) * np.tile(
            (x1 - x0, y1 - y0), 2
        )
        h, w = truth.shape
        a, b, c, d = np.clip(np.rint(moved), 0, (w, h, w, h)).astype(int).tolist()
        return Prompts(box=(a, b, c, d))
    if user == "scribbles" and k == 0:
        return Prompts(positive=stroke(truth, rng, 4))
    click = worst_click(found, truth)
    if click is None:
        return Prompts()
    if user == "scribbles":
        wrong = truth & ~found if click[2] else found & ~truth
        drawn = stroke(wrong, rng, 2)
        return Prompts(positive=drawn) if click[2] else Prompts(negative=drawn)
    return Prompts(clicks=(click,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--hints", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    console = Console()
    frames = first_frames(arguments.davis)
    prompter = Segmenter("default", "cpu").prompter
    image, truth = next(iter(frames.values()))
    use(prompter, image, truth, "box", 2, 0.0, np.random.default_rng(0))  # warm up
    height, width = truth.shape
    console.print(
        f"{len(frames)} first frames {width}x{height}, {arguments.seeds} seeds; {platform.machine()}, "
        f"{arguments.threads} threads, torch {torch.__version__}"
    )
    curves: dict[str, list[float]] = {}
    by_name = Table("sequence", *(f"{u} {k}" for u in USERS for k in (1, 3, 5)))
    means = Table("user", *(str(k + 1) for k in range(arguments.hints)), "first s", "later s", "worst s")
    rows: dict[str, list[str]] = {name: [] for name in frames}
    for user in USERS:
        runs: dict[str, list[list[float]]] = {}
        first: list[float] = []
        later: list[float] = []
        # Clicks, and boxes without jitter, are the same for every seed.
        varied = user == "scribbles" or (user == "box" and arguments.jitter > 0)
        for name, (image, truth) in frames.items():
            for seed in range(arguments.seeds if varied else 1):
                rng = np.random.default_rng(seed)
                ious, seconds = use(
                    prompter, image, truth, user, arguments.hints, arguments.jitter, rng
                )
                runs.setdefault(name, []).append(ious)
                first.append(seconds[0])
                later += seconds[1:]
            mean = np.mean(runs[name], 0)
            rows[name] += [f"{mean[k]:.3f}" for k in (0, 2, 4) if k < len(mean)]
        curve = np.mean([np.mean(r, 0) for r in runs.values()], 0)
        curves[user] = curve.tolist()
        means.add_row(
            user,
            *(f"{v:.3f}" for v in curve),
            f"{statistics.median(first):.2f}",
            f"{statistics.median(later):.2f}",
            f"{max(first + later):.2f}",
        )
    for name, cells in rows.items():
        by_name.add_row(name, *cells)
    console.print(by_name)
    console.print(means)
    for (user, k), bar in BARS.items():
        if k <= arguments.hints:
            console.print(f"{user}, {k} hints: {curves[user][k - 1]:.3f} (bar {bar:.2f})")
    if arguments.plot:
        plot(curves, arguments.plot)


def plot(curves: dict[str, list[float]], path: Path) -> None:
    """The curves as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for user, curve in curves.items():
        axis.plot(range(1, len(curve) + 1), curve, marker="o", label=user)
    axis.set_xlabel("hints")
    axis.set_ylabel("mean IoU with the first frame's mask")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
