"""Offline training of the parent net on stills (paper section 1, in today's form).

Two losses on two views of a synthetic scene: the class-balanced cross entropy of eq. 1 for the
foreground head, and, for the memory's keys, the cross entropy of the labels that the first view's
cells vote for in the second view.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.data.stills import Stills
from segspn.data.synthetic import Scene
from segspn.foreground.parent import SUB, ParentNet

MOST = 3  # objects per scene


class Pairs(Dataset[dict[str, np.ndarray]]):
    """``images`` uint8 (2, 3, S, S) and ``labels`` uint8 (2, S, S) of two views of a scene."""

    def __init__(self, stills: Stills, count: int, size: int = 256, seed: int = 0) -> None:
        self.stills, self.count, self.size, self.seed = stills, count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        scene = Scene(self.stills, rng, self.size, most_objects=MOST)
        views = [scene.view(rng, 0.2), scene.view(rng, 1.0)]
        return {
            "images": np.stack([v.image.transpose(2, 0, 1) for v in views]),
            "labels": np.stack([v.labels for v in views]),
        }


class ParentTrainer(nn.Module):
    """Frozen backbone and trained parent, so that one module goes through the loop."""

    def __init__(self, backbone: nn.Module, parent: ParentNet) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.parent = parent

    def train(self, mode: bool = True) -> ParentTrainer:
        super().train(mode)
        self.backbone.eval()  # stored statistics, always
        return self


def balanced_bce(logit: Tensor, target: Tensor) -> Tensor:
    """Paper eq. 1: each class is weighted by one minus its share of the pixels. ``(B, 1, h, w)``."""
    share = target.mean((1, 2, 3), keepdim=True).clamp(0.02, 0.98)
    weight = target * (1 - share) + (1 - target) * share
    loss = F.binary_cross_entropy_with_logits(logit, target, weight=weight, reduction="none")
    return 2 * loss.mean()


def matched_labels(
    keys_a: Tensor, keys_b: Tensor, labels_a: Tensor, scale: Tensor, votes: Tensor | None = None
) -> Tensor:
    """Labels of view a, voted into view b by softmax matching.

    ``keys_*``: unit vectors ``(B, K, h, w)``; ``labels_a``: ``(B, C, 2h, 2w)`` shares per class;
    ``votes``: bool ``(B, h, w)``, which cells of view a vote; None: all. Returns ``(B, C, 2h, 2w)``. In
    single precision under autocast too: cosines times a scale of 60, and log-odds of shares near 1, need
    more than bfloat16's eight bits.
    """
    b, _, h, w = keys_b.shape
    with torch.autocast(keys_a.device.type, enabled=False):
        first, second = keys_a.float().flatten(2), keys_b.float().flatten(2)
        logits = scale * torch.einsum("bki,bkj->bij", first, second)
        if votes is not None:
            logits = logits.masked_fill(~votes.flatten(1)[:, :, None], -torch.inf)
        values = F.pixel_unshuffle(labels_a.float(), SUB).flatten(2)
        return F.pixel_shuffle(torch.bmm(values, logits.softmax(1)).view(b, -1, h, w), SUB)


def parent_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    assert isinstance(model, ParentTrainer)
    device = model.parent.log_scale.device
    images = batch["images"].to(device).flatten(0, 1).float()
    labels = batch["labels"].to(device).long()
    with torch.no_grad():
        features = model.backbone(images.contiguous(memory_format=torch.channels_last))
    embedding = model.parent.embed(features)
    onehot = F.one_hot(labels.clamp(max=MOST), MOST + 1).permute(0, 1, 4, 2, 3).float()
    shares = F.avg_pool2d(onehot.flatten(0, 1), 4)  # (2B, C, S/4, S/4)
    foreground = balanced_bce(model.parent.foreground(embedding), 1 - shares[:, :1])
    keys = model.parent.keys(embedding).unflatten(0, (-1, 2))
    shares = shares.unflatten(0, (-1, 2))
    voted = matched_labels(keys[:, 0], keys[:, 1], shares[:, 0], model.parent.scale)
    matching, accuracy = balanced_nll(voted, shares[:, 1], shares[:, 0])
    figures = {
        "foreground": foreground.item(),
        "matching": matching.item(),
        "accuracy": accuracy,
        "scale": model.parent.scale.item(),
    }
    return foreground + matching, figures


def balanced_nll(voted: Tensor, shares: Tensor, first: Tensor) -> tuple[Tensor, float]:
    """Cross entropy of ``voted`` and true ``shares``, ``(B, C, h, w)`` each, and the share of cells that
    are right.

    An object counts like the background, whatever its area. Classes without a cell in ``first``, the
    shares of the frame that votes, cannot be voted for and are not punished.
    """
    present = first.amax((2, 3), keepdim=True) > 0
    nll = -(shares * present * torch.log(voted.clamp(min=1e-4))).sum(1)
    area = shares.mean((2, 3), keepdim=True).clamp(min=0.02)
    weight = (shares / area).sum(1)
    right = (voted.argmax(1) == shares.argmax(1)).float()
    return (nll * weight).sum() / weight.sum(), float((right * weight).sum() / weight.sum())


def mean_iou(found: Tensor, target: Tensor, known: Tensor) -> float:
    """Mean IoU of the objects to be found, for the log.

    ``found`` bool ``(B, N, h, w)``; ``target`` the same in 0..1; ``known`` ``(B, N, 1, 1)``: 0 for an
    object that cannot be found. Objects without a pixel of truth do not count.
    """
    truth = target > 0.5
    inter = (found & truth).sum((2, 3)).float()
    union = (found | truth).sum((2, 3)).float().clamp(min=1)
    counts = known[..., 0, 0] * (truth.sum((2, 3)) > 0)
    return float((inter / union * counts).sum() / counts.sum().clamp(min=1))
