"""What each part of the SPN stage gives: variants of the shipped refiner on published masks.

    python benchmarks/refine_study.py --davis DAVIS --masks osvos=FOLDER rgmp=FOLDER [--every 8]

All frames pass through the shipped refiner and its memory; every n-th one is refined by each variant
as well, from the same memory, and scored (J&F, DAVIS 2016). No region filter. Milliseconds are the
median of one object, networks' features not included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn import Segmenter
from segspn.backbone import Frame, pad
from segspn.evaluation import boundary_f, open_davis, region_j
from segspn.foreground import embed
from segspn.spn import Propagation, SpnRefiner, VideoRefiner, propagate
from segspn.video import open_source, read_labels


@dataclass(frozen=True)
class Seen:
    """What variants start from: values ``(1, 1, H, W)`` are the given log-odds."""

    refiner: SpnRefiner
    frame: Frame
    values: Tensor
    memory: Tensor | None

    def detail(self) -> Tensor:
        return self.refiner.guidance.detail(self.frame.image, self.frame.features(self.refiner.backbone))

    def judged(self, detail: Tensor, memory: bool = True) -> tuple[Tensor, Tensor]:
        embedding = embed(self.frame, self.refiner.backbone, self.refiner.parent)
        return self.refiner.evidence(detail, embedding, self.values, self.memory if memory else None)


def shipped(seen: Seen, memory: bool = True) -> Tensor:
    detail = seen.detail()
    values, hold = seen.judged(detail, memory)
    return seen.refiner.propagation(values, seen.refiner.guidance.gates(detail), hold)


def without_evidence(seen: Seen) -> Tensor:
    return seen.refiner.propagation(
        seen.values, seen.refiner.guidance(seen.frame.image, seen.frame.features(seen.refiner.backbone))
    )


def without_hold(seen: Seen) -> Tensor:
    detail = seen.detail()
    values, _ = seen.judged(detail)
    return seen.refiner.propagation(values, seen.refiner.guidance.gates(detail))


def without_propagation(seen: Seen) -> Tensor:
    return seen.judged(seen.detail())[0]


def other_operator(seen: Seen, **options: object) -> Tensor:
    """Another number of rounds or another merge, of the same gates."""
    detail = seen.detail()
    values, hold = seen.judged(detail)
    own = seen.refiner.propagation
    y = propagate(values, seen.refiner.guidance.gates(detail), **{"merge": own.merge, **options})
    return torch.lerp(own.gain * y + own.bias, values, hold)


def at_stride(seen: Seen, stride: int) -> Tensor:
    """Propagation of shrunken values by shrunken gates, enlarged again."""
    detail = seen.detail()
    values, hold = seen.judged(detail)
    gates = F.avg_pool2d(seen.refiner.guidance.gates(detail).flatten(1, 2), stride)
    small = seen.refiner.propagation(F.avg_pool2d(values, stride), gates.unflatten(1, (4, 3)))
    y = F.interpolate(small, scale_factor=stride, mode="bilinear", align_corners=False)
    return torch.lerp(y, values, hold)


def hand_made(seen: Seen, evidence: bool) -> Tensor:
    """Gates that fall with the colour difference of neighbours (sigma 10 of 255) and sum to 0.9."""
    image = seen.frame.image
    gates = []
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        for side in (-1, 0, 1):
            across = (side, 0) if dy else (0, side)
            neighbour = torch.roll(image, (dy - across[1], dx - across[0]), (2, 3))
            gates.append(torch.exp(-((image - neighbour).square().sum(1) / 3).sqrt() / 10))
    stack = torch.stack(gates, 1).unflatten(1, (4, 3)) * 0.3
    values, hold = seen.values, None
    if evidence:
        values, hold = seen.judged(seen.detail())
    y = propagate(values, stack, merge="mean")
    return y if hold is None else torch.lerp(y, values, hold)


def score_domain(seen: Seen) -> Tensor:
    """The paper's: scores instead of log-odds, the largest of the four directions."""
    detail = seen.detail()
    values, hold = seen.judged(detail)
    y = Propagation("score", "max")(values.sigmoid(), seen.refiner.guidance.gates(detail))
    return torch.lerp(y, values, hold)


VARIANTS: dict[str, Callable[[Seen], Tensor]] = {
    "input": lambda seen: seen.values,
    "shipped": shipped,
    "without memory": lambda seen: shipped(seen, memory=False),
    "without evidence": without_evidence,
    "without hold": without_hold,
    "without propagation": without_propagation,
    "2 rounds": lambda seen: other_operator(seen, rounds=2),
    "3 rounds": lambda seen: other_operator(seen, rounds=3),
    "merge max": lambda seen: other_operator(seen, merge="max"),
    "scores, max (paper)": score_domain,
    "propagation at stride 2": lambda seen: at_stride(seen, 2),
    "propagation at stride 4": lambda seen: at_stride(seen, 4),
    "hand-made gates": lambda seen: hand_made(seen, True),
    "hand-made gates alone": lambda seen: hand_made(seen, False),
}


class Watched(VideoRefiner):
    """The shipped video refiner, which hands what it starts from to a watcher."""

    watch: Callable[[Seen], None] | None = None

    def _votes(self, frame: Frame, given: Tensor, there: Tensor) -> Tensor | None:
        votes = super()._votes(frame, given, there)
        if self.watch is not None:
            size = tuple(frame.image.shape[-2:])
            values = self.refiner.propagation.values(pad(given[None]), size)
            self.watch(Seen(self.refiner, frame, values, None if votes is None else votes[None]))
        return votes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--masks", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    refiner = Segmenter("default", "cpu").refiner
    data = open_davis(options.davis, 2016, "val")
    table: dict[str, dict[str, list[float]]] = {name: {} for name in VARIANTS}
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for method, folder in (pair.split("=", 1) for pair in options.masks):
        for sequence in data.sequences:
            video = Watched(refiner, 1)
            scored = sequence.frames[options.every // 2 : -1 : options.every]
            found: dict[str, list[float]] = {name: [] for name in VARIANTS}
            for stem, pixels in zip(sequence.frames, open_source(sequence.images).read(), strict=True):
                truth = read_labels(sequence.annotation(stem)) > 0

                def watch(seen: Seen, truth: np.ndarray = truth, found: dict = found) -> None:
                    seen.frame.features(refiner.backbone)
                    for name, variant in VARIANTS.items():
                        begun = time.perf_counter()
                        logits = seen.frame.crop(variant(seen))[0, 0]
                        times[name].append(1e3 * (time.perf_counter() - begun))
                        mask = (logits > 0).numpy()
                        found[name].append((region_j(mask, truth) + boundary_f(mask, truth)) / 2)

                video.watch = watch if stem in scored else None
                given = read_labels(Path(folder) / sequence.name / f"{stem}.png") > 0
                refined = video.step(pixels, given[None].astype(np.float32))
                video.accept(pixels, (refined[0] > 0.5).astype(np.int32), (1,))
            for name, values in found.items():
                table[name].setdefault(method, []).append(float(np.mean(values)))
    methods = list(table["input"])
    print(f"J&F of every {options.every}th frame, {options.threads} threads")
    print(f"{'':26}" + "".join(f"{m:>12}" for m in methods) + f"{'ms':>8}")
    for name, rows in table.items():
        change = "".join(f"{np.mean(rows[m]) - np.mean(table['input'][m]):+12.4f}" for m in methods)
        if name == "input":
            change = "".join(f"{np.mean(rows[m]):12.4f}" for m in methods)
        print(f"{name:26}{change}{statistics.median(times[name]):8.0f}")


if __name__ == "__main__":
    main()
