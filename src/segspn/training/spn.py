"""Offline training of the SPN on stills (paper section 3): guidance, evidence and propagation at once.

As in the paper it is class- and instance-agnostic. What it learns to refine are hard masks with the
mistakes that other tools make, coarse scores, and what the trained parent's matching really votes for in
a second view, as our own instance stage would.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.data.synthetic import Scene, bend, draw_lines
from segspn.foreground.parent import ParentNet
from segspn.spn.evidence import MaskEvidence
from segspn.spn.guidance import LightGuidance
from segspn.spn.refiner import Propagation
from segspn.training.corrupt import coarse_scores
from segspn.training.mistakes import mistaken_mask
from segspn.training.parent import MOST, Pairs, matched_labels, mean_iou

Features = Mapping[int, Tensor]
LIMIT = Propagation.limit
OBJECTS = 2  # of a scene, refined together
AS_SCORES, BESIDE, NOT = 0, 1, 2


class MistakenPairs(Pairs):
    """Pairs of views plus what a segmenter might have made of the second one.

    ``given`` float32 (OBJECTS, S, S): log-odds of hard masks with mistakes, or of coarse scores.
    ``weight`` float32 (OBJECTS, S, S): how much a pixel teaches: most near a contour, but little on a
    contour that is some pixels off. ``known`` uint8 (S, S): the first view's labels as a memory has
    them, exact or with mistakes. ``use`` says what the memory's votes are for: `AS_SCORES`, in place of
    ``given``, as our own instance stage would; `BESIDE`; or `NOT`. ``echo``: the share of ``given`` in
    such a memory.
    """

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        scene = Scene(self.stills, rng, self.size, most_objects=MOST, trim=True)
        views = [scene.view(rng, 0.2, 0.12), bend(scene.view(rng, 1.0, 0.12), rng)]
        if rng.random() < 0.45:
            # Only in the second view: a memory of cells of 8 pixels does not see thin parts either.
            views[1] = draw_lines(views[1], rng, int(rng.integers(1, 5)))
        image, labels, known = views[1].image, views[1].labels, views[0].labels
        use = rng.choice([AS_SCORES, BESIDE, NOT], p=[0.25, 0.45, 0.3])
        soft = rng.random() < 0.25
        # Frames just before have the same mistakes: the memory echoes what is given, to some share.
        echo = rng.uniform(0, 0.7) if rng.random() < 0.6 else 0.0
        given = np.full((OBJECTS, self.size, self.size), -LIMIT, np.float32)
        weight = np.zeros_like(given)
        for k in range(OBJECTS):
            mask = labels == k + 1
            if not mask.any():
                continue
            weight[k] = 0.5 + 4.0 * band(mask, 6)
            if not scene.exact:
                weight[k] *= np.where(band(mask, 2), 0.2, 1.0)
            if soft:
                score = np.clip(coarse_scores(mask, rng), 1e-4, 1 - 1e-4)
                odds = np.clip(np.log(score / (1 - score)), -LIMIT, LIMIT)
                given[k] = cv2.resize(odds, (self.size,) * 2, interpolation=cv2.INTER_CUBIC)
            else:
                others = (labels > 0) & ~mask
                mistaken = mistaken_mask(mask, image, others, rng, severe=use == BESIDE)
                given[k] = np.where(mistaken, LIMIT, -LIMIT)
        if use == BESIDE and rng.random() < 0.5:  # the tool's own mask of the first frame
            first, known = known, np.zeros_like(known)
            for k in range(OBJECTS):
                mask, others = first == k + 1, (first > 0) & (first != k + 1)
                known[mistaken_mask(mask, views[0].image, others, rng)] = k + 1
        return {
            "images": np.stack([v.image.transpose(2, 0, 1) for v in views]),
            "labels": labels,
            "known": known,
            "given": given,
            "weight": weight,
            "use": np.array(use),
            "echo": np.array(echo, np.float32),
        }


class SpnTrainer(nn.Module):
    """Frozen backbone and parent; trained guidance, evidence and propagation."""

    def __init__(
        self,
        backbone: nn.Module,
        parent: ParentNet,
        guidance: LightGuidance,
        evidence: MaskEvidence,
        propagation: Propagation,
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.parent = parent.requires_grad_(False)
        self.guidance = guidance
        self.evidence = evidence
        self.propagation = propagation

    def train(self, mode: bool = True) -> SpnTrainer:
        super().train(mode)
        self.backbone.eval()
        self.parent.eval()
        return self

    def forward(
        self, images: Tensor, features: Features, embedding: Tensor, given: Tensor, memory: Tensor
    ) -> Tensor:
        detail = self.guidance.detail(images, features)
        values, hold = self.evidence(detail, embedding, given, memory)
        # Under autocast the convolutions give bfloat16; a scan of hundreds of steps needs more.
        gates = self.guidance.gates(detail)
        logits: Tensor = self.propagation(values.float(), gates, hold.float())
        return logits


def spn_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy at full resolution, with weight on the band around the true contour, and the
    Jaccard index of the result, made soft."""
    assert isinstance(model, SpnTrainer)
    device = model.propagation.gain.device
    images = batch["images"].to(device).float()
    given, weight, use = (batch[k].to(device) for k in ("given", "weight", "use"))
    with torch.no_grad():
        # First views are looked at only where their votes are used.
        voting = (use != NOT).nonzero()[:, 0]
        stacked = torch.cat((images[:, 1], images[voting, 0]))
        features = model.backbone(stacked.contiguous(memory_format=torch.channels_last))
        embedding = model.parent.embed(features)
        count, (height, width) = len(images), given.shape[-2:]
        memory = given.new_full((count, OBJECTS, height // 4, width // 4), 0.5)
        if len(voting):
            keys = model.parent.keys(embedding)
            shares = F.avg_pool2d(_onehot(batch["known"][voting.cpu()].to(device)), 4)
            # Twice the learned scale, as the memory reads: few votes count.
            scale = 2.0 * model.parent.scale
            voted = matched_labels(keys[count:], keys[voting], shares, scale)[:, 1 : OBJECTS + 1]
            memory[voting] = voted
            scores = use == AS_SCORES
            given[scores] = model.propagation.values(memory[scores], (height, width))
            memory[scores] = 0.5
            echo = batch["echo"].to(device)[:, None, None, None] * (use == BESIDE)[:, None, None, None]
            memory = torch.lerp(memory, F.avg_pool2d(given.sigmoid(), 12, 4, 4), echo)
        features = {s: f[:count] for s, f in features.items()}
        target = _onehot(batch["labels"].to(device))[:, 1 : OBJECTS + 1]
    logits = model(images[:, 1], features, embedding[:count], given, memory)
    present = target.amax((2, 3), keepdim=True)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum() / weight.sum().clamp(min=1.0)
    jaccard = (soft_jaccard(logits.sigmoid(), target) * present[..., 0, 0]).sum()
    loss = entropy + 0.25 * (1 - jaccard / present.sum().clamp(min=1.0))
    with torch.no_grad():
        figures = {
            "loss": loss.item(),
            "iou_in": mean_iou(given > 0, target, present),
            "iou_out": mean_iou(logits > 0, target, present),
            "gain": model.propagation.gain.item(),
        }
    return loss, figures


def _onehot(labels: Tensor) -> Tensor:
    """Labels ``(B, H, W)``, 0..MOST -> float ``(B, MOST + 1, H, W)``."""
    return F.one_hot(labels.long().clamp(max=MOST), MOST + 1).permute(0, 3, 1, 2).float()


def soft_jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """Jaccard index of scores in 0..1 and a target of 0 and 1, ``(B, N, H, W)`` -> ``(B, N)``."""
    inter = (scores * target).sum((2, 3))
    return inter / (scores + target - scores * target).sum((2, 3)).clamp(min=1.0)


def band(mask: np.ndarray, radius: int) -> np.ndarray:
    """Within ``radius`` pixels of a contour. Bool ``(H, W)`` in and out."""
    kernel = np.ones((2 * radius + 1,) * 2, np.uint8)
    inner = mask.astype(np.uint8)
    return cv2.dilate(inner, kernel) != cv2.erode(inner, kernel)
