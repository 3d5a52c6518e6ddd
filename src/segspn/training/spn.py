"""Offline training of the SPN's guidance net on stills (paper section 3).

As in the paper it is class- and instance-agnostic. Coarse scores come from two places in equal shares:
corrupted exact masks, and what the trained parent's matching really votes for in a second view.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.foreground.parent import ParentNet
from segspn.spn.guidance import LightGuidance
from segspn.spn.refiner import Propagation
from segspn.training.corrupt import coarse_scores
from segspn.training.parent import MOST, Pairs, matched_labels, mean_iou


class CoarsePairs(Pairs):
    """Pairs of views plus ``coarse`` float32 (MOST, S/4, S/4), corrupted masks of the second view."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        item = super().__getitem__(index)
        rng = np.random.default_rng((self.seed, index, 1))
        labels = item["labels"][1]
        item["coarse"] = np.stack([coarse_scores(labels == k + 1, rng) for k in range(MOST)])
        return item


class SpnTrainer(nn.Module):
    """Frozen backbone and parent, trained guidance and propagation."""

    def __init__(
        self,
        backbone: nn.Module,
        parent: ParentNet,
        guidance: LightGuidance,
        propagation: Propagation,
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.parent = parent.requires_grad_(False)
        self.guidance = guidance
        self.propagation = propagation

    def train(self, mode: bool = True) -> SpnTrainer:
        super().train(mode)
        self.backbone.eval()
        self.parent.eval()
        return self


def spn_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy at full resolution, with weight on the band around the true contour."""
    assert isinstance(model, SpnTrainer)
    device = model.propagation.gain.device
    images = batch["images"].to(device).float()
    labels = batch["labels"].to(device).long().clamp(max=MOST)
    onehot = F.one_hot(labels, MOST + 1).permute(0, 1, 4, 2, 3).float()
    with torch.no_grad():
        stacked = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = model.backbone(stacked)
        keys = model.parent.keys(model.parent.embed(features)).unflatten(0, (-1, 2))
        shares = F.avg_pool2d(onehot[:, 0], 4)
        # Twice the learned scale, as the memory reads: few votes count.
        scale = 2.0 * model.parent.scale
        voted = matched_labels(keys[:, 0], keys[:, 1], shares, scale)[:, 1:]
        second = {s: f.unflatten(0, (-1, 2))[:, 1] for s, f in features.items()}
        half = torch.arange(len(voted), device=device)[:, None, None, None] % 2 == 0
        coarse = torch.where(half, voted, batch["coarse"].to(device))
    target = onehot[:, 1, 1:]
    gates = model.guidance(images[:, 1], second)
    logits = model.propagation(coarse, gates)
    present = target.amax((2, 3), keepdim=True)
    band = boundary_band(target)
    weight = present * (0.5 + 4.0 * band)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (loss * weight).sum() / weight.sum().clamp(min=1.0)
    with torch.no_grad():
        before = F.interpolate(torch.logit(coarse, 1e-4), scale_factor=4, mode="bilinear") > 0
        figures = {
            "loss": loss.item(),
            "iou_in": mean_iou(before, target, present),
            "iou_out": mean_iou(logits > 0, target, present),
            "gain": model.propagation.gain.item(),
            "gate": gates.mean().item(),
        }
    return loss, figures


def boundary_band(target: Tensor, radius: int = 6) -> Tensor:
    """1 within ``radius`` pixels of a contour, else 0. ``(B, N, H, W)`` in and out."""
    size = 2 * radius + 1
    grown = F.max_pool2d(target, size, 1, radius)
    shrunk = -F.max_pool2d(-target, size, 1, radius)
    return grown - shrunk
