"""Fine-tuning of a whole net on an annotated frame, as published (paper sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.frame import Frame
from segspn.foreground.augment import Samples
from segspn.foreground.stage import OnStep


@dataclass(frozen=True)
class FineTuneConfig:
    """The published schedule: SGD, one sample a step. ``lr`` belongs to a loss that is summed over
    the pixels, and is halved every ``halve_every`` steps."""

    steps: int = 30_000
    lr: float = 1e-8
    momentum: float = 0.99
    weight_decay: float = 5e-4
    halve_every: int = 10_000

    def __post_init__(self) -> None:
        if self.steps < 0 or self.halve_every < 1:
            raise ValueError("steps must be at least 0 and halve_every at least 1")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rate: float = self.lr * 0.5 ** (step // self.halve_every)
        return rate


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Eq. 1, summed: cross entropy, each class weighted by one minus its share of the pixels.

    ``logits``: ``(2, H, W)`` of background and target; ``target``: bool ``(H, W)``.
    """
    share = target.float().mean()
    weight = torch.stack((share, 1 - share))  # of background, of target
    return F.cross_entropy(logits[None], target[None].long(), weight=weight, reduction="sum")


def fine_tune(
    net: nn.Module,
    samples: Samples,
    target_of: Callable[[np.ndarray], np.ndarray],
    config: FineTuneConfig,
    seed: int,
    on_step: OnStep | None = None,
) -> list[float]:
    """Fine-tune all of ``net`` in place; deterministic for a seed. Returns the loss of each step.

    ``net``: image ``(1, 3, Hp, Wp)`` -> logits ``(1, 2, Hp, Wp)``; ``target_of``: a sample's labels
    ``(H, W)`` -> bool ``(H, W)``.
    """
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    with torch.inference_mode(False), torch.enable_grad():
        net.requires_grad_(True)
        optimiser = torch.optim.SGD(
            net.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.lr_at(step)
            pick = int(torch.randint(len(samples.copies), (1,), generator=generator))
            pixels, labels = samples.copies[pick]
            frame = Frame(pixels, samples.device)
            target = torch.from_numpy(target_of(labels)).to(samples.device)
            # The padding is no part of the frame, and would count in the class shares.
            loss = balanced_loss(frame.crop(net(frame.image))[0], target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if on_step is not None:
                on_step(step + 1)
        optimiser.zero_grad(set_to_none=True)
        net.requires_grad_(False)
    return losses
