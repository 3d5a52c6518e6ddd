"""Offline training of the instance decoder on synthetic clips, with online learning in the loop.

The classifier is fitted on a clip's first frame and goes on learning from what the decoder makes of the
later ones; so do the memory and the last mask. Now and then the last mask is spoilt as drift would spoil
it, so that the decoder learns to find back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.data.clips import ClipConfig, draw_clip
from segspn.data.stills import Stills
from segspn.foreground.parent import SUB, ParentNet
from segspn.instance.decoder import CLUES, Decoder, clues, fuse
from segspn.instance.learner import CELLS, Learner, LearnerConfig, describe, moments
from segspn.instance.memory import MemoryConfig, margin, votes_of
from segspn.instance.model import certainty, compete
from segspn.training.parent import mean_iou

OBJECTS = 2  # of a clip, followed together
SPOILT = 0.4  # probability that what is handed on of a frame is spoilt


class Clips(Dataset[dict[str, np.ndarray]]):
    """``images`` uint8 (T, 3, S, S), ``labels`` uint8 (T, S, S) of synthetic clips, and a ``seed``."""

    def __init__(
        self, stills: Stills, count: int, config: ClipConfig, seed: int = 0
    ) -> None:
        self.stills, self.count, self.config, self.seed = stills, count, config, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        clip = draw_clip(self.stills, np.random.default_rng((self.seed, index)), self.config)
        images = np.ascontiguousarray(clip.images.transpose(0, 3, 1, 2))
        return {"images": images, "labels": clip.labels, "seed": np.array(index)}


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


@dataclass
class _Seen:
    """A frame of B clips as the decoder's inputs need it."""

    keys: Tensor  # (B, K, M)
    inputs: Tensor  # (B, M, D), of `describe`


def match(query: Tensor, remembered: list[tuple[Tensor, Tensor]], scale: float) -> Tensor:
    """What `Memory` sums up of frames, everywhere: ``(B, 4 N + 1, h w)``.

    ``query`` ``(B, K, h w)``; ``remembered``: keys ``(B, K, h w)`` and shares ``(B, N, 2h, 2w)``.
    """
    total: Tensor | None = None
    for keys, shares in remembered:
        values = F.pixel_unshuffle(shares, SUB).flatten(2)
        values = torch.cat((values, torch.ones_like(values[:, :1])), 1)
        shift = query.new_tensor(margin(scale) - scale)
        found = values @ torch.baddbmm(shift, keys.transpose(1, 2), query, alpha=scale).exp_()
        total = found if total is None else total + found
    assert total is not None
    return total


def spoil(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Masks ``(B, N, 2h, 2w)`` as drift leaves them: grown, shrunk, shifted, cut in half, lost, or
    spilt onto another object."""
    out = shares.clone()
    side = shares.shape[-1]
    for b in range(len(out)):
        for k in range(out.shape[1]):
            kind, size = torch.rand(2, generator=generator).tolist()
            one = out[b : b + 1, k : k + 1]
            radius = 1 + int(3 * size)
            if kind < 0.2:
                one = F.max_pool2d(one, 2 * radius + 1, 1, radius)
            elif kind < 0.4:
                one = -F.max_pool2d(-one, 2 * radius + 1, 1, radius)
            elif kind < 0.55:
                by = torch.randint(-5, 6, (2,), generator=generator).tolist()
                one = one.roll(by, (2, 3))
            elif kind < 0.8:  # a half-plane through the object
                angle = 6.2832 * size
                grid = torch.arange(side, dtype=one.dtype)
                where = torch.nonzero(one[0, 0] > 0.5)
                if len(where):
                    y, x = where[int(torch.randint(len(where), (1,), generator=generator))].tolist()
                    height = torch.sin(torch.tensor(angle)) * (grid - y)[:, None]
                    beside = height + torch.cos(torch.tensor(angle)) * (grid - x)[None, :] > 0
                    one = one * beside.to(one.device)
            elif kind < 0.87:
                one = torch.zeros_like(one)
            elif out.shape[1] > 1:
                one = (one + shares[b : b + 1, k - 1 : k if k else None]).clamp(max=1)
            out[b, k] = one[0, 0]
    return out / out.sum(1, keepdim=True).clamp(min=1)


def hide(known: Tensor, generator: torch.Generator) -> Tensor:
    """Clues ``(B, N, CHANNELS, h, w)`` as they are when an object turns, grows or is lit anew.

    A still shows one side of a thing, so what matches does so far too well in synthetic clips. In a
    random part of the map some of votes and scores say "not the object" or nothing that can be relied
    on; now and then one of the clues is missing altogether.
    """
    b, n, _, h, w = known.shape
    known = known.clone()
    at = {name: slice(CELLS * k, CELLS * (k + 1)) for k, name in enumerate(CLUES)}

    def chance(p: float, *shape: int) -> Tensor:
        return (torch.rand(b, n, 1, *shape, generator=generator) < p).to(known)

    noise = torch.randn(b, n, h // 6 + 2, w // 6 + 2, generator=generator)
    noise = F.interpolate(noise, size=(h, w), mode="bicubic")[:, :, None]
    part = (noise > 1.2 * torch.rand(b, n, 1, 1, 1, generator=generator) - 0.4).to(known)
    part = part * chance(0.6, 1, 1)
    for name in ("first", "recent", "steady", "learning"):
        maps = known[:, :, at[name]]
        low = -2.3 if name in ("first", "recent") else -0.7
        wrong = torch.where(chance(0.5, 1, 1) > 0, low, maps * (2 * chance(0.5, h, w) - 1))
        weight = part * chance(0.3 if name == "learning" else 0.6, 1, 1)
        weight = weight * (0.3 + 0.7 * torch.rand(b, n, 1, 1, 1, generator=generator))
        maps.lerp_(wrong, weight.expand_as(maps))
    share = {"first": 0.25, "recent": 0.15, "steady": 0.25, "learning": 0.1, "last": 0.1, "what": 0.1}
    for name, p in share.items():
        known[:, :, at[name]] *= 1 - chance(p, 1, 1)
    known[:, :, CELLS * len(CLUES) :] *= 1 - chance(0.2, 1, 1)
    return known


def decoder_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy at stride 4 over the frames of a clip, and the Jaccard index, made soft."""
    assert isinstance(model, DecoderTrainer)
    device = model.decoder.log_scale.device
    labels = batch["labels"].to(device).long()  # (B, T, S, S)
    count, frames = labels.shape[:2]
    with torch.no_grad():
        images = batch["images"].to(device).float().flatten(0, 1)
        images = images.contiguous(memory_format=torch.channels_last)
        embedding = model.parent.embed(model.backbone(images)).unflatten(0, (count, frames)).float()
        onehot = torch.stack([labels == k + 1 for k in range(OBJECTS)], 2).float()
        shares = F.avg_pool2d(onehot.flatten(0, 1), 4).unflatten(0, (count, frames))
    generator = torch.Generator().manual_seed(int(batch["seed"].sum()))
    kind = device.type
    lower = torch.autocast(
        kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
    )
    # Only the decoder itself may run in lower precision: matching and least squares need all digits.
    with torch.autocast(kind, enabled=False):
        return _follow(model, embedding, shares, generator, lower)


def _follow(
    model: DecoderTrainer,
    embedding: Tensor,
    shares: Tensor,
    generator: torch.Generator,
    lower: torch.autocast,
) -> tuple[Tensor, dict[str, float]]:
    """The loss along clips, from embeddings ``(B, T, C, h, w)`` and shares ``(B, T, N, 2h, 2w)``."""
    size = embedding.shape[-2:]
    scale = MemoryConfig().sharpness * float(model.parent.scale)
    known = (shares[:, 0].amax((2, 3), keepdim=True) > 0.5).float()  # (B, N, 1, 1)
    with torch.no_grad():
        seen = [_Seen(model.parent.keys(e).flatten(2), describe(e)) for e in embedding.unbind(1)]
        learner = Learner(LearnerConfig())
        learner.begin(moments(seen[0].inputs, shares[:, 0]))
    previous = shares[:, 0]
    recent: list[tuple[Tensor, Tensor]] = []
    losses, given, found = [], [], []
    for t in range(1, embedding.shape[1]):
        with torch.no_grad():
            sums = [match(seen[t].keys, [(seen[0].keys, shares[:, 0])], scale)]
            sums.append(match(seen[t].keys, recent, scale) if recent else torch.zeros_like(sums[0]))
            votes = votes_of(torch.stack(sums, 1).unflatten(3, tuple(size)), scale)
            steady, learning = learner.scores(seen[t].inputs, size)
            foreground = model.parent.foreground(embedding[:, t])
            inputs = hide(clues(votes, steady, learning, previous, foreground), generator)
        with lower:
            first, logits = (x.float() for x in model.decoder(embedding[:, t], inputs))
        target = shares[:, t]
        fused = compete(fuse(logits, votes, learning))
        losses.append(
            0.2 * _loss(first, target, known)
            + 0.5 * _loss(compete(logits), target, known)
            + 0.5 * _loss(fused, target, known)
        )
        given.append(mean_iou(F.pixel_shuffle(learning.flatten(1, 2), SUB) > 0, target, known))
        found.append(mean_iou(fused > 0, target, known))
        with torch.no_grad():
            # What the pipeline hands on is a label map at full resolution, averaged over cells.
            sharp = F.interpolate(fused, scale_factor=4, mode="bilinear")
            mask = F.avg_pool2d((sharp > 0).float(), 4)
            if float(torch.rand(1, generator=generator)) < SPOILT:
                mask = spoil(mask, generator)
            previous = mask * known
            recent = [*recent[-1:], (seen[t].keys, previous)]
            learner.update(moments(seen[t].inputs, previous, certainty(fused)))
    loss = torch.stack(losses).mean()
    figures = {"loss": loss.item(), "iou_learner": sum(given) / len(given)}
    return loss, {**figures, "iou": sum(found) / len(found), "iou_last": found[-1]}


def _loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """An object and its background have the same say; objects not shown by the first frame have none."""
    share = target.mean((2, 3), keepdim=True).clamp(0.05, 0.95)
    weight = known * (target * (1 - share) + (1 - target) * share) / (share * (1 - share)) / 2
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (loss * weight).sum() / weight.sum().clamp(min=1.0)
    scores = logits.sigmoid()
    inter = (scores * target).sum((2, 3))
    jaccard = inter / (scores + target - scores * target).sum((2, 3)).clamp(min=1.0)
    present = known[..., 0, 0] * (target.amax((2, 3)) > 0.5)
    return entropy + 0.3 * (1 - (jaccard * present).sum() / present.sum().clamp(min=1.0))
