"""Stage 1, foreground: the parent head adapted to the annotated frame (paper section 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.foreground.heads import FitConfig, HeadBank
from segspn.foreground.parent import ParentNet


@dataclass(frozen=True)
class ForegroundConfig:
    """``threshold``: an instance score survives where the foreground's probability exceeds it.

    Low on purpose: the stage is there to strike out what is surely background; instances, SPN and
    CRAF decide the rest. ``adapt=False`` leaves the parent as it was trained offline.
    """

    threshold: float = 0.1
    adapt: bool = True
    fit: FitConfig = field(default_factory=FitConfig)


class ForegroundStage:
    """``adapt`` once on the annotated frame's samples, then ``predict`` frame by frame."""

    def __init__(self, parent: ParentNet, config: ForegroundConfig) -> None:
        self.config = config
        self.bank = HeadBank(parent.head, 1)

    def adapt(self, embeddings: Tensor, shares: Tensor, seed: int) -> None:
        """``embeddings``: ``(M, C, h, w)``; ``shares``: ``(M, N, 2h, 2w)`` of all objects."""
        if self.config.adapt:
            union = shares.sum(1, keepdim=True).clamp(max=1.0)
            self.bank.fit(embeddings, union, self.config.fit, seed)

    def predict(self, embedding: Tensor) -> Tensor:
        """Embedding ``(1, C, h, w)`` -> foreground probability ``(2h, 2w)``."""
        return self.bank.run(embedding)[0, 0].sigmoid()

    def keep_inside(self, scores: Tensor, foreground: Tensor) -> Tensor:
        """Zero the scores ``(N, 2h, 2w)`` outside the foreground (paper section 2)."""
        return scores * (foreground > self.config.threshold)

    def state(self) -> dict[str, Tensor]:
        return {f"head{i}": p for i, p in enumerate(self.bank.params)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.bank.params = [state[f"head{i}"] for i in range(4)]


def embed(frame: Frame, backbone: torch.nn.Module, parent: ParentNet) -> Tensor:
    """The parent's embedding ``(1, C, Hp / 8, Wp / 8)`` of a frame, computed once per frame."""
    made: Tensor = frame.once("embedding", lambda: parent.embed(frame.features(backbone)))
    return made
