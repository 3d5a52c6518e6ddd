"""Offline training of the instance stage on synthetic clips, with online learning in the loop.

The classifier is fitted on a clip's first frame and goes on learning from what the decoder makes of the
later ones; so do the memory and the last mask. Now and then the last mask is spoilt as drift would spoil
it, so that the decoder learns to find back. The parent's trunk and keys are trained along, through the
matching and through the classifier's closed form: the embedding learns to tell an object from its like
in later frames. What its head says of the foreground, the parent learns to say of the new embedding.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.data.clips import ClipConfig, draw_clip
from segspn.data.stills import Stills
from segspn.foreground.parent import SUB, ParentNet
from segspn.instance.decoder import CLUES, Decoder, clues, fuse
from segspn.instance.learner import (
    CELLS,
    Learner,
    LearnerConfig,
    Moments,
    classify,
    describe,
    hard_moments,
    moments,
)
from segspn.instance.memory import MemoryConfig, margin, votes_of
from segspn.instance.model import certainty, compete
from segspn.instance.motion import carry, flow, half_grey
from segspn.training.parent import mean_iou
from segspn.video.atomic import write_bytes

OBJECTS = 3  # of a clip, followed together
SPOILT = 0.4  # probability that what is handed on of a frame is spoilt


class Clips(Dataset[dict[str, np.ndarray]]):
    """``images`` uint8 (T, 3, S, S), ``labels`` uint8 (T, S, S) of synthetic clips, ``flow`` float16
    (T, 2, S / 4, S / 4) from each frame to the one before, and a ``seed``."""

    def __init__(self, stills: Stills, count: int, config: ClipConfig, seed: int = 0) -> None:
        self.stills, self.count, self.config, self.seed = stills, count, config, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        clip = draw_clip(self.stills, np.random.default_rng((self.seed, index)), self.config)
        greys = [half_grey(image) for image in clip.images]
        flows = [flow(before, now) for before, now in zip((greys[0], *greys), greys, strict=False)]
        return {
            "images": np.ascontiguousarray(clip.images.transpose(0, 3, 1, 2)),
            "labels": clip.labels,
            "flow": torch.stack(flows).half().numpy(),
            "seed": np.array(index),
        }


class KeptClips(Dataset[dict[str, Tensor]]):
    """As many samples of ``count`` as are wanted of a few ``clips``, mirrored at random, with the
    backbone's features ``s4`` to ``s32`` in the place of all images but the last.

    Drawing a clip and its features cost most of a step; both are done once and lie in ``folder``, where
    another run, or this one resumed, finds them.
    """

    def __init__(self, clips: Clips, count: int, backbone: nn.Module, folder: Path) -> None:
        self.clips, self.count, self.backbone, self.folder = clips, count, backbone, folder

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = index % len(self.clips)
        path = self.folder / f"{number}.safetensors"
        if not path.exists():
            self._make(self.clips[number], path)
        sample = load_file(path)
        if torch.rand(1, generator=torch.Generator().manual_seed(index)) < 0.5:
            sample = {name: maps.flip(-1) for name, maps in sample.items()}
            sample["flow"][:, 0] *= -1
        return {**sample, "seed": torch.tensor(index)}

    def _make(self, clip: dict[str, np.ndarray], path: Path) -> None:
        with torch.no_grad():
            images = torch.from_numpy(clip["images"]).float()
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        kept = {f"s{s}": maps.half().contiguous() for s, maps in features.items() if s >= 4}
        kept |= {name: torch.from_numpy(clip[name]) for name in ("labels", "flow")}
        kept["images"] = torch.from_numpy(clip["images"][-1:])
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(kept))


class DecoderTrainer(nn.Module):
    """Frozen backbone; trained parent and decoder; a copy of the parent as it was."""

    def __init__(self, backbone: nn.Module, parent: ParentNet, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.before = copy.deepcopy(parent).requires_grad_(False)
        self.parent = parent
        self.parent.log_scale.requires_grad_(False)
        self.decoder = decoder

    def train(self, mode: bool = True) -> DecoderTrainer:
        super().train(mode)
        for part in (self.backbone, self.before, self.parent):
            part.eval()  # stored statistics, always
        return self

    def features(self, batch: dict[str, Tensor]) -> dict[int, Tensor]:
        """The backbone's features ``(B T, C, h, w)`` of a batch of either data set."""
        device = self.decoder.log_scale.device
        if "s4" in batch:
            return {s: batch[f"s{s}"].to(device).flatten(0, 1).float() for s in (4, 8, 16, 32)}
        images = batch["images"].to(device).float().flatten(0, 1)
        with torch.no_grad():
            made: dict[int, Tensor] = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return made


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
            elif kind < 0.8:
                inside = one[0, 0] > 0.5
                if inside.any():
                    one = one * half_plane(inside, 6.2832 * size, generator)
            elif kind < 0.87:
                one = torch.zeros_like(one)
            elif out.shape[1] > 1:
                one = (one + shares[b : b + 1, k - 1 : k if k else None]).clamp(max=1)
            out[b, k] = one[0, 0]
    return out / out.sum(1, keepdim=True).clamp(min=1)


def half_plane(inside: Tensor, angle: float, generator: torch.Generator | None = None) -> Tensor:
    """Bool ``(h, w)``: what lies on one side of a line, at ``angle``, through a cell drawn from those
    ``inside``, bool ``(h, w)`` and not empty."""
    where = torch.nonzero(inside)
    y, x = where[int(torch.randint(len(where), (1,), generator=generator))].tolist()
    down, across = (torch.arange(n, dtype=torch.float32) for n in inside.shape)
    height = torch.sin(torch.tensor(angle)) * (down - y)[:, None]
    beside = height + torch.cos(torch.tensor(angle)) * (across - x)[None, :] > 0
    return beside.to(inside.device)


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
    frames = labels.shape[:2]
    features = model.features(batch)
    embedding = model.parent.embed(features).float()
    with torch.no_grad():
        known = model.before.foreground(model.before.embed(features)).float().sigmoid()
        onehot = torch.stack([labels == k + 1 for k in range(OBJECTS)], 2).float()
        shares = F.avg_pool2d(onehot.flatten(0, 1), 4).unflatten(0, frames)
    foreground = model.parent.foreground(embedding).float()
    taught = F.binary_cross_entropy_with_logits(foreground, known)
    generator = torch.Generator().manual_seed(int(batch["seed"].sum()))
    kind = device.type
    lower = torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))
    clip = _Clip(
        embedding.unflatten(0, frames),
        foreground.detach().unflatten(0, frames),
        shares,
        batch["flow"].to(device).float(),
    )
    # Only the decoder itself may run in lower precision: matching and least squares need all digits.
    with torch.autocast(kind, enabled=False):
        loss, figures = _follow(model, clip, generator, lower)
    return loss + taught, {**figures, "foreground": taught.item()}


@dataclass
class _Clip:
    """B clips: ``embedding`` ``(B, T, C, h, w)``, ``foreground`` ``(B, T, 1, 2h, 2w)``, ``shares``
    ``(B, T, N, 2h, 2w)`` and ``flow`` ``(B, T, 2, 2h, 2w)``."""

    embedding: Tensor
    foreground: Tensor
    shares: Tensor
    flow: Tensor


def _follow(
    model: DecoderTrainer, clip: _Clip, generator: torch.Generator, lower: torch.autocast
) -> tuple[Tensor, dict[str, float]]:
    """The loss along clips."""
    embedding, shares = clip.embedding, clip.shares
    size = embedding.shape[-2:]
    scale = MemoryConfig().sharpness * float(model.parent.scale)
    known = (shares[:, 0].amax((2, 3), keepdim=True) > 0.5).float()  # (B, N, 1, 1)
    seen = [_Seen(model.parent.keys(e).flatten(2), describe(e)) for e in embedding.unbind(1)]
    learner = Learner(LearnerConfig())

    def annotated(classifier: Tensor | None) -> Moments:
        inputs = seen[0].inputs
        scores = None if classifier is None else classify(inputs, classifier, size).detach()
        return moments(inputs, shares[:, 0], None, scores)

    learner.begin(hard_moments(annotated, learner.config.ridge))
    previous = shares[:, 0]
    recent: list[tuple[Tensor, Tensor]] = []
    losses, given, found = [], [], []
    for t in range(1, embedding.shape[1]):
        previous = carry(previous, clip.flow[:, t])
        sums = [match(seen[t].keys, [(seen[0].keys, shares[:, 0])], scale)]
        sums.append(match(seen[t].keys, recent, scale) if recent else torch.zeros_like(sums[0]))
        votes = votes_of(torch.stack(sums, 1).unflatten(3, tuple(size)), scale)
        steady, learning = learner.scores(seen[t].inputs, size)
        inputs = hide(clues(votes, steady, learning, previous, clip.foreground[:, t]), generator)
        with lower:
            first, logits = (x.float() for x in model.decoder(embedding[:, t], inputs))
        target = shares[:, t]
        fused = compete(fuse(logits, votes.shares[2], learning))
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
            newest = moments(seen[t].inputs.detach(), previous, certainty(fused), learning)
        recent = [*recent[-1:], (seen[t].keys, previous)]
        learner.update(newest)
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
