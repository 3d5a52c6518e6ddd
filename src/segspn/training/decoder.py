"""Offline training of the instance decoder on pairs of views.

The first view is the memory, the second the current frame; the previous mask is the second view's,
moved and corrupted as a video's last output would be.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.foreground.parent import ParentNet
from segspn.instance.decoder import Decoder
from segspn.training.corrupt import coarse_scores
from segspn.training.parent import MOST, Pairs, matched_labels, mean_iou


class TrackedPairs(Pairs):
    """Pairs of views plus ``previous`` float32 (MOST, S/4, S/4): last frame's masks of the objects.

    One in six is unknown (0.5 everywhere), so that the decoder can work without it.
    """

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        item = super().__getitem__(index)
        rng = np.random.default_rng((self.seed, index, 2))
        labels = item["labels"][1]
        size = labels.shape[0]
        shift = rng.normal(0, 1, 2) * rng.choice([2.0, 6.0, 14.0])
        turn = cv2.getRotationMatrix2D(
            (size / 2, size / 2), rng.normal(0, 3), float(np.exp(rng.normal(0, 0.04)))
        )
        turn[:, 2] += shift
        moved = cv2.warpAffine(labels, turn, (size, size), flags=cv2.INTER_NEAREST)
        previous = np.stack([coarse_scores(moved == k + 1, rng) for k in range(MOST)])
        if rng.random() < 1 / 6:
            previous[:] = 0.5
        # What the pipeline feeds back is a label map: crisp more often than not.
        elif rng.random() < 0.7:
            previous = (previous > 0.5).astype(np.float32)
        item["previous"] = previous
        return item


class DecoderTrainer(nn.Module):
    """Frozen backbone and parent, trained decoder."""

    def __init__(self, backbone: nn.Module, parent: ParentNet, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.parent = parent.requires_grad_(False)
        self.decoder = decoder

    def train(self, mode: bool = True) -> DecoderTrainer:
        super().train(mode)
        self.backbone.eval()
        self.parent.eval()
        return self


def decoder_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy at stride 4; an object and its background have the same say."""
    assert isinstance(model, DecoderTrainer)
    device = model.decoder.out.weight.device
    images = batch["images"].to(device).float().flatten(0, 1)
    labels = batch["labels"].to(device).long().clamp(max=MOST)
    onehot = F.one_hot(labels, MOST + 1).permute(0, 1, 4, 2, 3).float()
    shares = F.avg_pool2d(onehot.flatten(0, 1), 4).unflatten(0, (-1, 2))
    with torch.no_grad():
        features = model.backbone(images.contiguous(memory_format=torch.channels_last))
        embedding = model.parent.embed(features)
        keys = model.parent.keys(embedding).unflatten(0, (-1, 2))
        # Twice the learned scale, as the memory reads: few votes count.
        scale = 2.0 * model.parent.scale
        memory = matched_labels(keys[:, 0], keys[:, 1], shares[:, 0], scale)[:, 1:]
    target = shares[:, 1, 1:]
    logits = model.decoder(
        embedding.unflatten(0, (-1, 2))[:, 1], memory, batch["previous"].to(device)
    )
    # An object that the memory has never seen cannot be found.
    known = (shares[:, 0, 1:].amax((2, 3), keepdim=True) > 0).float()
    share = target.mean((2, 3), keepdim=True).clamp(0.05, 0.95)
    weight = known * (target * (1 - share) + (1 - target) * share) / (share * (1 - share)) / 2
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (loss * weight).sum() / weight.sum().clamp(min=1.0)
    figures = {
        "loss": loss.item(),
        "iou_memory": mean_iou(memory > 0.5, target, known),
        "iou": mean_iou(logits > 0, target, known),
    }
    return loss, figures
