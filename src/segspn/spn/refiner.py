"""The SPN stage: coarse scores in, scores at full resolution that follow the image's edges out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone import EfficientNetLite0, Frame, pad
from segspn.spn.guidance import LightGuidance
from segspn.spn.operator import propagate
from segspn.weights import load_weights


class Propagation(nn.Module):
    """How a guidance net's gates are applied to scores.

    ``domain="score"`` with ``merge="max"`` is the paper's. ``domain="logit"`` propagates log-odds
    instead: an undecided pixel has log-odds near 0 and gives way to whatever confident value reaches
    it, from either side of an edge alike; the four directions are then averaged. Two learned numbers
    turn the merged log-odds back into a score.
    """

    def __init__(self, domain: str = "logit", merge: str = "mean", rounds: int = 1) -> None:
        super().__init__()
        if domain not in ("logit", "score"):
            raise ValueError(f"domain must be 'logit' or 'score', not {domain!r}")
        self.domain, self.merge, self.rounds = domain, merge, rounds
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(0.0))

    limit = 5.0  # log-odds are cut off here: beyond, one stubborn pixel would outvote a region

    def forward(self, scores: Tensor, gates: Tensor) -> Tensor:
        """Scores ``(B, N, h, w)`` in 0..1, gates ``(B, 4, 3, H, W)`` -> logits ``(B, N, H, W)``."""
        x = scores
        if self.domain == "logit":
            x = torch.logit(x, 1e-4).clamp(-self.limit, self.limit)
        if x.shape[-2:] != gates.shape[-2:]:
            x = F.interpolate(x, size=gates.shape[-2:], mode="bicubic", align_corners=False)
        y = propagate(x, gates, merge=self.merge, rounds=self.rounds)
        if self.domain == "score":
            y = torch.logit(y, 1e-4)
        return self.gain * y + self.bias


class SpnRefiner(nn.Module):
    """Guidance and propagation together: the SPN stage as the pipeline and ``refine`` use it.

    ``guidance`` reads the image and the features of ``backbone``, or, without one, the image alone.
    """

    def __init__(
        self, backbone: nn.Module | None, guidance: nn.Module, propagation: Propagation
    ) -> None:
        super().__init__()
        self.backbone, self.guidance, self.propagation = backbone, guidance, propagation

    @classmethod
    def load(
        cls,
        backbone: EfficientNetLite0,
        device: torch.device | str,
        guidance: str = "spn_guidance",
        propagation: str = "spn_propagation",
    ) -> SpnRefiner:
        """The light refiner, shipped weights by default; shares the backbone, so that features are
        computed once."""
        gates, applied = LightGuidance(backbone.channels), Propagation()
        load_weights(gates, guidance)
        load_weights(applied, propagation)
        refiner = cls(backbone, gates, applied).eval().requires_grad_(False)
        return refiner.to(device)

    @torch.inference_mode()
    def refine(self, frame: Frame, scores: Tensor) -> Tensor:
        """Scores ``(N, h, w)`` in 0..1 over the padded frame, any stride -> ``(N, H, W)`` in 0..1."""
        if self.backbone is None:
            gates = self.guidance(frame.image)
        else:
            gates = self.guidance(frame.image, frame.features(self.backbone))
        logits = self.propagation(scores[None], gates)[0]
        return frame.crop(logits).sigmoid()

    def refine_pixels(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The same from arrays: uint8 RGB ``(H, W, 3)`` and float32 ``(N, H, W)`` in 0..1."""
        frame = Frame(pixels, self.propagation.gain.device)
        given = torch.from_numpy(scores).to(frame.image.device)
        refined: np.ndarray = self.refine(frame, pad(given[None])[0]).cpu().numpy()
        return refined
