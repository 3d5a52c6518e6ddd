"""Stage 2 as published (paper section 2): one whole net per object, fine-tuned from the parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.foreground.augment import Samples
from segspn.foreground.finetune import FineTuneConfig, fine_tune
from segspn.foreground.resnetf import ResNetF
from segspn.instance.stage import InstanceStage, OnObjectStep


@dataclass(frozen=True)
class NetInstanceConfig:
    """``tune=False`` skips first-frame fine-tuning: the paper's last row of Table 2."""

    tune: bool = True
    fit: FineTuneConfig = field(default_factory=FineTuneConfig)


class NetInstances(InstanceStage):
    """A fine-tuned copy of the parent for each object; nothing is remembered of later frames."""

    def __init__(self, parent: ResNetF, config: NetInstanceConfig, count: int) -> None:
        self.config, self.parent = config, parent
        self.nets = [parent.copy() if config.tune else parent for _ in range(count)]

    def fit(self, samples: Samples, seed: int, on_step: OnObjectStep | None = None) -> None:
        """One object after another, each from the same seed: it is learned as if it were alone.

        Objects of which the newest annotated frame does not tell stay as they are.
        """
        if not self.config.tune:
            return
        for k, i in enumerate(samples.ids):
            if i not in samples.shots[-1].known:
                continue
            told = None if on_step is None else partial(on_step, (k,))
            self.nets[k] = self.parent.copy()
            own = samples.telling_of(i)
            fine_tune(self.nets[k], own, partial(np.equal, i), self.config.fit, seed, told)

    def arrange(self, order: Sequence[int | None]) -> None:
        tune = self.config.tune
        self.nets = [
            (self.parent.copy() if tune else self.parent) if k is None else self.nets[k] for k in order
        ]

    def predict(self, frame: Frame) -> Tensor:
        return torch.stack([net.probability(frame) for net in self.nets])

    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        """The published nets learn from the annotated frame alone."""

    def state(self) -> dict[str, Tensor]:
        """The nets as ``<k>.<name>``; nothing where they are the parent's, not the session's."""
        if not self.config.tune:
            return {}
        return {f"{k}.{n}": v for k, net in enumerate(self.nets) for n, v in net.state_dict().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        if not self.config.tune:
            return
        for k, net in enumerate(self.nets):
            net.load_state_dict(
                {n.removeprefix(f"{k}."): v for n, v in state.items() if n.startswith(f"{k}.")}
            )
