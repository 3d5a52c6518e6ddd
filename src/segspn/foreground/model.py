"""Stage 1, foreground: the parent head adapted to the annotated frame (paper section 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from segspn.backbone.frame import Frame, label_shares
from segspn.foreground.augment import Samples
from segspn.foreground.heads import FitConfig, HeadBank
from segspn.foreground.parent import ParentNet
from segspn.foreground.stage import ForegroundStage, OnStep


@dataclass(frozen=True)
class ForegroundConfig:
    """``threshold``: an instance score survives where the foreground's probability exceeds it.

    Low on purpose: the stage is there to strike out what is surely background; instances, SPN and
    CRAF decide the rest. ``adapt=False`` leaves the parent as it was trained offline.
    """

    threshold: float = 0.03
    adapt: bool = True
    fit: FitConfig = field(default_factory=FitConfig)


class HeadForeground(ForegroundStage):
    """The parent's head, adapted, over the frozen backbone's embedding (stride 4)."""

    def __init__(
        self, backbone: torch.nn.Module, parent: ParentNet, config: ForegroundConfig
    ) -> None:
        super().__init__(config.threshold)
        self.config = config
        self.backbone, self.parent = backbone, parent
        self.bank = HeadBank(parent.head, 1)
        self._adapted = False

    def adapt(self, samples: Samples, seed: int, on_step: OnStep | None = None) -> None:
        if self.config.adapt:
            embeddings, shares = embed_samples(samples, self.backbone, self.parent)
            union = shares.sum(1, keepdim=True).clamp(max=1.0)
            weights = None
            if not samples.complete:
                # Where a frame does not tell of all objects, what it leaves out may be one of them.
                whole = samples.known().all(1).to(union)[:, None, None, None]
                weights = torch.maximum(union, whole)
            self.bank = HeadBank(self.parent.head, 1)
            self.bank.fit(embeddings, union, self.config.fit, seed, weights, on_step)
            self._adapted = True

    def predict(self, frame: Frame) -> Tensor:
        """Foreground probability ``(Hp / 4, Wp / 4)``: the parent's or the adapted head's, the higher.

        One annotated frame makes the adapted head sure that all it has not seen is background; a
        dancer who turns around would be struck out. The parent still knows a dancer when it sees one.
        """
        logits = parents_foreground(frame, self.backbone, self.parent)
        if self._adapted:  # else the bank is the parent's head, which has been asked
            adapted = self.bank.run(embed(frame, self.backbone, self.parent))
            logits = torch.maximum(logits, adapted) if self.config.adapt else adapted
        return logits[0, 0].sigmoid()

    def state(self) -> dict[str, Tensor]:
        return {f"head{i}": p for i, p in enumerate(self.bank.params)}

    def restore(self, state: dict[str, Tensor]) -> None:
        parents = HeadBank(self.parent.head, 1).params
        self.bank.params = [state[f"head{i}"] for i in range(4)]
        self._adapted = not all(map(torch.equal, self.bank.params, parents))


def embed(frame: Frame, backbone: torch.nn.Module, parent: ParentNet) -> Tensor:
    """The parent's embedding ``(1, C, Hp / 8, Wp / 8)`` of a frame, computed once per frame."""
    made: Tensor = frame.once("embedding", lambda: parent.embed(frame.features(backbone)))
    return made


def parents_foreground(frame: Frame, backbone: torch.nn.Module, parent: ParentNet) -> Tensor:
    """The parent's log-odds of foreground ``(1, 1, Hp / 4, Wp / 4)``, computed once per frame."""
    made: Tensor = frame.once(
        "foreground", lambda: parent.foreground(embed(frame, backbone, parent))
    )
    return made


def matching_keys(frame: Frame, backbone: torch.nn.Module, parent: ParentNet) -> Tensor:
    """The memory's keys ``(K, Hp / 8, Wp / 8)`` of a frame, unit vectors, computed once per frame."""

    def make() -> Tensor:
        if parent.matcher is None:
            return parent.keys(embed(frame, backbone, parent))[0]
        return parent.matcher(frame.features(backbone))[0]

    made: Tensor = frame.once("keys", make)
    return made


def annotated_keys(samples: Samples, backbone: torch.nn.Module, parent: ParentNet) -> Tensor:
    """The same of the annotated frames, ``(A, K, h, w)``."""
    if parent.matcher is None:
        return parent.keys(embed_samples(samples, backbone, parent)[0][: len(samples.shots)])
    frames = (Frame(shot.frame, samples.device) for shot in samples.shots)
    return torch.stack([matching_keys(frame, backbone, parent) for frame in frames])


def embed_samples(
    samples: Samples, backbone: torch.nn.Module, parent: ParentNet
) -> tuple[Tensor, Tensor]:
    """Embeddings ``(M, C, h, w)`` and label shares ``(M, N, 2h, 2w)`` of all samples, the annotated
    frame first; computed once for both stages."""

    def make() -> tuple[Tensor, Tensor]:
        embeddings, shares = [], []
        for image, labels in samples.copies:
            embeddings.append(embed(Frame(image, samples.device), backbone, parent))
            shares.append(label_shares(labels, samples.ids, samples.device))
        return torch.cat(embeddings), torch.stack(shares)

    made: tuple[Tensor, Tensor] = samples.once("embeddings", make)
    return made
