"""Stage 2, instance recognition: per-object heads, appearance memory and decoder make score maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.foreground.augment import Samples
from segspn.foreground.heads import FitConfig, HeadBank
from segspn.foreground.model import embed, embed_samples
from segspn.foreground.parent import ParentNet
from segspn.instance.decoder import Decoder
from segspn.instance.memory import Memory, MemoryConfig, search_region
from segspn.instance.stage import InstanceStage, OnObjectStep


@dataclass(frozen=True)
class InstanceConfig:
    """``tune=False`` skips first-frame fine-tuning: the paper's last row of Table 2.

    The decoder's log-odds (the memory's alone without ``decode``) and the head's, ``head_weight`` times,
    are added; heads are cut off at ``head_limit`` first, since fine-tuning makes them sure of what they
    have never seen. ``reach``: how far, in cells of stride 8, objects may have moved since a frame ago.
    """

    tune: bool = True
    fit: FitConfig = field(default_factory=FitConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    head_weight: float = 0.3
    head_limit: float = 4.0
    decode: bool = True
    reach: int = 12


class HeadInstances(InstanceStage):
    """A head for each object and the memory, over the frozen backbone's embedding (stride 4)."""

    def __init__(
        self,
        backbone: torch.nn.Module,
        parent: ParentNet,
        decoder: Decoder,
        config: InstanceConfig,
        count: int,
    ) -> None:
        self.config = config
        self.backbone, self.parent, self.decoder = backbone, parent, decoder
        self.bank = HeadBank(parent.head, count)
        self.memory = Memory(config.memory, float(parent.scale))

    def fit(self, samples: Samples, seed: int, on_step: OnObjectStep | None = None) -> None:
        embeddings, shares = embed_samples(samples, self.backbone, self.parent)
        self._remember(samples, embeddings, shares)
        self.last = shares[len(samples.shots) - 1]
        if self.config.tune:
            everyone = tuple(range(len(samples.ids)))
            told = None if on_step is None else partial(on_step, everyone)
            weights = None
            if not samples.complete:
                known = samples.known().to(shares)
                weights = known[..., None, None].expand_as(shares)
            self.bank = HeadBank(self.parent.head, len(samples.ids))
            self.bank.fit(embeddings, shares, self.config.fit, seed, weights, told)

    def arrange(self, order: Sequence[int | None]) -> None:
        self.bank = self.bank.arranged(self.parent.head, order)
        self.memory.arrange(order)
        new = self.last.new_zeros(self.last.shape[1:])
        self.last = torch.stack([new if k is None else self.last[k] for k in order])

    def _remember(self, samples: Samples, embeddings: Tensor, shares: Tensor) -> None:
        """Put all annotated frames into the memory, in place of those it has.

        What one of them, or a recent frame, does not tell of an object is filled in with what the
        frames vote for that do tell: to count as "not there" would be a lie.
        """
        shots = samples.shots
        keys = self.parent.keys(embeddings[: len(shots)])
        shares = shares[: len(shots)].clone()
        everywhere = torch.ones(keys.shape[-2:], dtype=torch.bool, device=keys.device)
        for n, i in enumerate(samples.ids):
            told = [k for k, shot in enumerate(shots) if i in shot.known]
            votes = Memory(self.config.memory, float(self.parent.scale))
            votes.annotate(keys[told], shares[told, n : n + 1], told)
            for k, shot in enumerate(shots):
                if i not in shot.known | shot.found:
                    shares[k, n] = votes.read(keys[k], everywhere)[0]
            self.memory.fill(n, partial(votes.read, region=everywhere))
        self.memory.annotate(keys, shares, [shot.index for shot in shots])

    def predict(self, frame: Frame) -> Tensor:
        """Score maps ``(N, Hp / 4, Wp / 4)`` in 0..1; objects compete."""
        embedding = embed(frame, self.backbone, self.parent)
        region = search_region(self.last, self.config.reach)
        memory = self.memory.read(self._keys(frame), region)
        if self.config.decode:
            logits = self.decoder(embedding, memory[None], self.last[None])[0]
        else:
            logits = torch.logit(memory, 1e-4)
        if self.config.tune:
            heads = self.bank.run(embedding)[0].clamp(-self.config.head_limit, self.config.head_limit)
            logits = logits + self.config.head_weight * heads
        return compete(logits)

    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        self.memory.add(self._keys(frame), shares, index, annotated=False)
        self.last = shares

    def _keys(self, frame: Frame) -> Tensor:
        """The memory's keys ``(K, Hp / 8, Wp / 8)`` of a frame, computed once per frame."""
        embedding = embed(frame, self.backbone, self.parent)
        made: Tensor = frame.once("keys", lambda: self.parent.keys(embedding)[0])
        return made

    def state(self) -> dict[str, Tensor]:
        out = {f"head{i}": p for i, p in enumerate(self.bank.params)}
        out |= {f"memory.{k}": v for k, v in self.memory.state().items()}
        return out | {"memory.last": self.last}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.bank.params = [state[f"head{i}"] for i in range(4)]
        self.memory.restore({k[7:]: v for k, v in state.items() if k.startswith("memory.")})
        self.last = state["memory.last"]


def compete(logits: Tensor) -> Tensor:
    """Soft aggregation: each object's log-odds against the best of the others and background.

    ``(N, h, w)`` log-odds -> probabilities; for one object it is the sigmoid. Where two objects both
    claim a pixel, the weaker claim drops by what the stronger exceeds it (Oh et al., STM, eq. 6, in
    spirit; with a maximum instead of a sum, so that ten objects do not shrink each other).
    """
    if len(logits) == 1:
        return logits.sigmoid()
    best, second = logits.topk(2, dim=0).values
    others = torch.where(logits == best, second, best)
    return (logits - others.clamp(min=0.0)).sigmoid()
