"""Offline training of what matches frames: the backbone beyond stride 8, and a matching net on it.

Labels are voted from frame to frame of a synthetic clip, as the memory does it, and often only a half of
an object may vote: what turns shows sides that no frame before has shown, which a still cannot tell of
otherwise. What the other nets read of the backbone is held to what it was: the parent's trunk and the
guidance learn to say the same of the new features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone import EfficientNetLite0
from segspn.foreground.parent import SUB, Matcher, ParentNet
from segspn.spn import LightGuidance
from segspn.training.decoder import OBJECTS, half_plane
from segspn.training.parent import balanced_nll, matched_labels

HIDDEN = 0.5  # probability that a part of a frame does not vote
LEAST_SEEN = 0.25  # of an object, that votes all the same
HELD = 2.0  # weight of what the other nets read


class MatchingTrainer(nn.Module):
    """Trained: the backbone's deep blocks, the matching net, the parent's trunk and the guidance's view
    of stride 16. ``before`` are copies of the last two, and of the backbone, as they were."""

    def __init__(
        self, backbone: EfficientNetLite0, parent: ParentNet, guidance: LightGuidance, matcher: Matcher
    ) -> None:
        super().__init__()
        self.before = nn.ModuleList(copy.deepcopy(part) for part in (backbone, parent, guidance))
        self.backbone, self.parent, self.guidance, self.matcher = backbone, parent, guidance, matcher
        self.requires_grad_(False)
        for part in (backbone.deep, matcher.trunk, matcher.key, parent.trunk, guidance.lateral["16"]):
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> MatchingTrainer:
        """Nothing is noisy or counts on the batch: stored statistics, always."""
        return super().train(False)

    def held(self, features: Mapping[int, Tensor], before: Mapping[int, Tensor]) -> Tensor:
        """How far from what it was is what the other nets read: squared, relative to its variance."""
        _, parent, guidance = self.before
        assert isinstance(parent, ParentNet)
        with torch.no_grad():
            wanted = [parent.embed(before), _lateral(guidance, before)]
        found = [self.parent.embed(features), _lateral(self.guidance, features)]
        errors = [F.mse_loss(a, b) / b.var() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(errors).sum()


def _lateral(guidance: nn.Module, features: Mapping[int, Tensor]) -> Tensor:
    assert isinstance(guidance, LightGuidance)
    found: Tensor = guidance.lateral["16"](guidance.norm["16"](features[16]))
    return found


def partly_seen(shares: Tensor) -> Tensor:
    """Bool ``(B, h, w)``: all cells, or those on one side of a line through an object.

    ``shares``: ``(B, N, 2h, 2w)`` of the objects. Of the object at least `LEAST_SEEN` is left. Draws
    from torch's generator.
    """
    inside = F.avg_pool2d(shares, SUB).cpu() > 0.5
    b, _, h, w = inside.shape
    seen = torch.ones(b, h, w, dtype=torch.bool)
    for one, objects in zip(seen, inside, strict=True):
        present = objects[objects.any(2).any(1)]
        if not len(present) or torch.rand(()) >= HIDDEN:
            continue
        cells = present[torch.randint(len(present), ())]
        kept = ~half_plane(cells, 2 * torch.pi * float(torch.rand(())))
        if (cells & kept).sum() >= LEAST_SEEN * cells.sum():
            one[:] = kept
    return seen.to(shares.device)


def matching_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy of what each frame votes for in every later one; see `MatchingTrainer`."""
    assert isinstance(model, MatchingTrainer)
    images = batch["images"].to(model.parent.log_scale.device)
    labels = batch["labels"].to(images.device).long().clamp(max=OBJECTS)
    frames = images.shape[:2]
    with torch.no_grad():
        stacked = images.flatten(0, 1).float().contiguous(memory_format=torch.channels_last)
        before = model.before[0](stacked)
        onehot = F.one_hot(labels, OBJECTS + 1).permute(0, 1, 4, 2, 3).float()
        shares = F.avg_pool2d(onehot.flatten(0, 1), 4).unflatten(0, frames)
    features = model.backbone.deepened(before)
    keys = model.matcher(features).unflatten(0, frames)
    losses, right = [], []
    for t in range(1, frames[1]):
        for s in range(t):
            seen = partly_seen(shares[:, s, 1:])
            voted = matched_labels(keys[:, s], keys[:, t], shares[:, s], model.parent.scale, seen)
            loss, accuracy = balanced_nll(voted, shares[:, t], shares[:, s])
            losses.append(loss)
            right.append(accuracy)
    matching, held = torch.stack(losses).mean(), model.held(features, before)
    loss = matching + HELD * held
    figures = {"loss": loss.item(), "matching": matching.item(), "held": held.item()}
    return loss, {**figures, "accuracy": sum(right) / len(right)}
