"""What each trained part is worth: from ImageNet features to the whole, one part more in each row.

    python benchmarks/trained_parts.py --davis DAVIS --results DIR [--subset val]

The first row has nothing trained by this project: the embedding is a random projection of the
backbone's standardised features (seed 0), over which each object's classifier is learned. Then the
trained embedding takes its place, the memory votes (its keys are the embedding's), the decoder reads
both, the SPN sharpens what comes out and CRAF filters it. Protocol of DAVIS-2016.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.machine import machine  # noqa: E402
from segspn import Segmenter  # noqa: E402
from segspn.evaluation import SegmentSequence, ablation_table, run_ablation  # noqa: E402
from segspn.foreground import ParentNet  # noqa: E402
from segspn.instance import HeadInstances, InstanceStage  # noqa: E402
from segspn.instance.decoder import fuse  # noqa: E402
from segspn.jobs.variants import sequence_segmenter  # noqa: E402
from segspn.models import LiteModel  # noqa: E402
from segspn.presets import Preset, load_preset  # noqa: E402
from segspn.weights import load_weights  # noqa: E402


def untrained(channels: dict[int, int]) -> ParentNet:
    """A parent net that embeds by random projections; only the means and variances of the ImageNet
    features are those of the shipped one."""
    torch.manual_seed(0)
    parent = ParentNet(channels)
    start = {k: v.clone() for k, v in parent.state_dict().items()}
    load_weights(parent, "parent")
    statistics = {k: v for k, v in parent.state_dict().items() if ".norm." in k}
    parent.load_state_dict(start | statistics)
    for lateral in (*parent.trunk.lateral.values(), parent.key):
        torch.nn.init.orthogonal_(lateral.weight)
    for zero in (parent.trunk.project.weight, parent.trunk.project.bias):
        torch.nn.init.zeros_(zero)
    parent.eval().requires_grad_(False)
    parent.trunk.fuse()
    return parent


class SomeParts(HeadInstances):
    """Instances without the decoder's say, and with the memory's or without."""

    memory_speaks = True

    def log_odds(self, decoded: Tensor, shares: Tensor, learning: Tensor) -> Tensor:
        said = shares if self.memory_speaks else torch.full_like(shares, 0.5)
        return fuse(torch.zeros_like(decoded), said, learning)


class HeadsAlone(SomeParts):
    memory_speaks = False


class PartsModel(LiteModel):
    """The light model with instances of another kind."""

    kind: type[HeadInstances] = HeadInstances

    def instances(self, preset: Preset, count: int) -> InstanceStage:
        return self.kind(self.backbone, self.parent, self.decoder, preset.instance, count)  # type: ignore[arg-type]


def variant(kind: type[HeadInstances], trained: bool, spn: bool, craf: bool) -> SegmentSequence:
    preset = load_preset("default")
    preset = replace(
        preset, spn=replace(preset.spn, enabled=spn), craf=replace(preset.craf, enabled=craf)
    )
    segmenter = Segmenter(preset, "cpu")
    model = PartsModel(preset, segmenter.device)
    model.kind = kind
    if not trained:
        model.parent = untrained(model.backbone.channels)
    segmenter.model, segmenter.refiner = model, model.refiner
    return sequence_segmenter(segmenter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--subset", default="val")
    arguments = parser.parse_args()
    variants = {
        "ImageNet features, heads alone": variant(HeadsAlone, False, False, False),
        "trained embedding": variant(HeadsAlone, True, False, False),
        "and memory": variant(SomeParts, True, False, False),
        "and decoder": variant(HeadInstances, True, False, False),
        "and SPN": variant(HeadInstances, True, True, False),
        "and CRAF": variant(HeadInstances, True, True, True),
    }
    rows = run_ablation(arguments.davis, 2016, arguments.subset, arguments.results, variants)
    console = Console()
    console.print(ablation_table(rows))
    console.print(machine(torch.get_num_threads()))


if __name__ == "__main__":
    main()
