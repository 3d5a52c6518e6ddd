"""Per-target copies of the parent head, fine-tuned online and run as one batch.

Foreground adaptation is the case of one target: everything that is annotated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB, Head
from segspn.foreground.stage import OnStep


@dataclass(frozen=True)
class FitConfig:
    """How heads are fine-tuned: ``steps`` of Adam on ``batch`` random samples each."""

    steps: int = 40
    batch: int = 4
    lr: float = 2e-3


class HeadBank:
    """N independent heads over one shared embedding; state is four plain tensors.

    ``run(embedding (B, C, h, w)) -> logits (B, N, 2h, 2w)``. The first convolutions of all heads are
    one convolution with N times the channels, the second ones a grouped convolution, so a further
    object costs only its own arithmetic.
    """

    def __init__(self, parent: Head, count: int) -> None:
        w1, w2 = parent.conv1.weight.detach(), parent.conv2.weight.detach()
        b1, b2 = parent.conv1.bias, parent.conv2.bias
        assert b1 is not None and b2 is not None
        self.count = count
        self.params = [
            w1.repeat(count, 1, 1, 1),
            b1.detach().repeat(count),
            w2.repeat(count, 1, 1, 1),
            b2.detach().repeat(count),
        ]

    def run(self, embedding: Tensor, params: list[Tensor] | None = None) -> Tensor:
        w1, b1, w2, b2 = params or self.params
        x = F.relu(F.conv2d(embedding, w1, b1, padding=1))
        return F.pixel_shuffle(F.conv2d(x, w2, b2, padding=1, groups=self.count), SUB)

    def fit(
        self,
        embeddings: Tensor,
        targets: Tensor,
        config: FitConfig,
        seed: int,
        weights: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> float:
        """Fine-tune in place on samples; deterministic for a seed. Returns the last loss.

        ``embeddings``: ``(M, C, h, w)``; ``targets``: ``(M, N, 2h, 2w)`` in 0..1; ``weights``:
        ``(M, N, 2h, 2w)`` per-pixel weights or None. The loss is the paper's eq. 1 per target.
        """
        generator = torch.Generator().manual_seed(seed)
        balance = _balance(targets) if weights is None else _balance(targets) * weights
        loss_value = 0.0
        with torch.inference_mode(False), torch.enable_grad():
            params = [p.clone().requires_grad_() for p in self.params]
            self.params = [p.detach() for p in params]  # of one memory with those that learn
            optimiser = torch.optim.Adam(params, lr=config.lr)
            for step in range(config.steps):
                for group in optimiser.param_groups:  # linear decay: settle at the end
                    group["lr"] = config.lr * (1 - step / config.steps)
                pick = torch.randperm(len(embeddings), generator=generator)[: config.batch]
                logits = self.run(embeddings[pick], params)
                loss = F.binary_cross_entropy_with_logits(
                    logits, targets[pick], weight=balance[pick], reduction="none"
                )
                # Mean over pixels and samples, sum over heads: heads stay independent of each other.
                loss = loss.mean((0, 2, 3)).sum()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                loss_value = loss.item()
                if on_step is not None:
                    on_step(step + 1)
        return loss_value


def _balance(targets: Tensor) -> Tensor:
    """Weights of eq. 1: one minus the class's share; tiny objects are capped at a 2 % share."""
    share = targets.mean((2, 3), keepdim=True).clamp(0.02, 0.98)
    return 2 * (targets * (1 - share) + (1 - targets) * share)
