"""The SPN stage: coarse scores in, scores at full resolution that follow the image's edges out."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone import EfficientNetLite0, Frame, Place, pad
from segspn.backbone.precision import Lower
from segspn.foreground import ParentNet, embed
from segspn.heap import copy, zeros_apart
from segspn.spn.evidence import Looked, MaskEvidence
from segspn.spn.guidance import LightGuidance
from segspn.spn.operator import propagate
from segspn.threads import side_by_side
from segspn.weights import load_weights

LOOK_SIDE = 1024
AROUND = 64  # pixels beyond an object's box that its refinement looks at and may change
VISIBLE = 0.05  # score above which a pixel belongs to an object's box


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

    def values(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores ``(B, N, h, w)`` in 0..1 -> what is propagated, ``(B, N, *size)``: log-odds, or the
        scores themselves."""
        x = scores
        if self.domain == "logit":
            x = torch.logit(x, 1e-4).clamp(-self.limit, self.limit)
        if x.shape[-2:] == size:
            return x
        from segspn.spn.enlarge import bicubic  # which loads numba

        return bicubic(x, size)

    def forward(self, values: Tensor, gates: Tensor, hold: Tensor | None = None) -> Tensor:
        """Values ``(B, N, H, W)``, gates ``(B, 4, 3, H, W)`` -> logits ``(B, N, H, W)``.

        ``hold`` ``(B, N, H, W)`` in 0..1: the share of the values themselves in the result.
        """
        y = propagate(values, gates, merge=self.merge, rounds=self.rounds)
        if self.domain == "score":
            y = torch.logit(y, 1e-4)
        y = self.gain * y + self.bias
        return y if hold is None else torch.lerp(y, values, hold)


class SpnRefiner(nn.Module):
    """Guidance, evidence and propagation together: the SPN stage as the pipeline and ``refine`` use it.

    Without ``evidence``, ``guidance`` reads the image alone. With it, it is a `LightGuidance`, reads
    the features of ``backbone`` as well, and the given scores are first judged by ``evidence``, which
    reads the embedding of ``parent``.
    """

    def __init__(
        self,
        guidance: nn.Module,
        propagation: Propagation,
        backbone: nn.Module | None = None,
        parent: ParentNet | None = None,
        evidence: MaskEvidence | None = None,
    ) -> None:
        super().__init__()
        self.guidance, self.propagation = guidance, propagation
        self.backbone, self.parent, self.evidence = backbone, parent, evidence
        self.lower: Lower = nullcontext  # makes the context in which the nets run

    @classmethod
    def load(
        cls,
        backbone: EfficientNetLite0,
        parent: ParentNet,
        device: torch.device | str,
        guidance: str = "spn_guidance",
        evidence: str = "spn_evidence",
        propagation: str = "spn_propagation",
    ) -> SpnRefiner:
        """The light refiner, shipped weights by default; shares backbone and parent net, so that
        features and embedding are computed once."""
        gates = LightGuidance(backbone.channels)
        judge, applied = MaskEvidence(parent.trunk.width, gates.width), Propagation()
        load_weights(gates, guidance)
        load_weights(judge, evidence)
        load_weights(applied, propagation)
        gates.fuse()
        refiner = cls(gates, applied, backbone, parent, judge).eval().requires_grad_(False)
        # The order of the backbone's features; what has few channels is faster as planes.
        for wide in (gates.near, gates.mix):
            wide.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return refiner.to(device)

    @torch.inference_mode()
    def refine(self, frame: Frame, scores: Tensor, memory: Tensor | None = None) -> Tensor:
        """Scores ``(N, h, w)`` in 0..1 over the padded frame, any stride -> ``(N, H, W)`` in 0..1.

        ``memory``: shares ``(N, Hp / 4, Wp / 4)`` that other frames vote for, for the evidence, which
        looks at an object and its surroundings alone: farther away scores are as given if they came at
        full size, else 0.
        """
        height, width = frame.image.shape[-2:]
        if self.evidence is None:
            values = self.propagation.values(scores[None], (height, width))
            logits = self.propagation(values, self.guidance(frame.image))
            return frame.crop(logits[0]).sigmoid()
        stride = height // scores.shape[-2]
        out = scores.clone() if stride == 1 else zeros_apart((len(scores), height, width), scores)
        self._refine_places(frame, scores, stride, memory, out)
        return frame.crop(out)

    def _refine_places(
        self, frame: Frame, scores: Tensor, stride: int, memory: Tensor | None, out: Tensor
    ) -> None:
        """Write each object's scores into ``out`` ``(N, Hp, Wp)``, where it is to be seen and around."""
        from segspn.spn.interleave import interleave  # which loads numba

        assert self.backbone is not None and self.parent is not None and self.evidence is not None
        judge = self.evidence.judge
        boxes = [Place.around(seen, stride, AROUND) for seen in scores > VISIBLE]
        found = [(k, box, box.grown(out.shape[-2:])) for k, box in enumerate(boxes) if box is not None]
        if not found:
            return
        rooms = [room for _, _, room in found]
        whole = Place.joined(rooms).grown(out.shape[-2:])
        # Guidance is the same for all objects: once for all, unless they are few and far apart.
        apart = sum(room.area for room in rooms) < whole.area
        frame.features(self.backbone)  # here, on all threads: in jobs each would make them for itself
        embed(frame, self.backbone, self.parent)
        shared = None if apart else self._guide(frame, whole)

        def write(k: int, box: Place, room: Place) -> None:
            if shared is None:
                looked, cells = self._guide(frame, room)
            else:
                inner = room.within(whole)
                looked, cells = shared[0].cut(inner), inner.cut(shared[1], 2)
            gates = interleave(cells).unflatten(1, (4, 3))
            voted = None if memory is None else room.cut(memory[None, k : k + 1], 4)
            given = self.propagation.values(room.cut(scores[None, k : k + 1], stride), room.size)
            with self.lower():
                judged, hold = judge(looked, given, voted)
            logits = self.propagation(judged.float(), gates, hold.float())
            torch.sigmoid(box.within(room).cut(logits[0, 0]), out=box.cut(out)[k])

        found.sort(key=lambda each: -each[2].area)
        side_by_side([partial(write, *each) for each in found], scores.device.type)

    def _guide(self, frame: Frame, place: Place) -> tuple[Looked, Tensor]:
        """What is the same for all objects of a place: the look of the evidence net, and gates, of
        `LightGuidance.cells`."""
        assert self.backbone is not None and self.parent is not None and self.evidence is not None
        assert isinstance(self.guidance, LightGuidance)
        features = {s: place.cut(f, s) for s, f in frame.features(self.backbone).items()}
        embedding = embed(frame, self.backbone, self.parent)
        with self.lower():
            detail = self.guidance.detail(place.cut(frame.image), features)
            looked = self.evidence.look(detail, place.cut(embedding, 8))
            return looked, self.guidance.cells(detail)

    @torch.inference_mode()
    def refine_full(self, frame: Frame, scores: Tensor, memory: Tensor | None = None) -> Tensor:
        """Scores ``(N, H, W)`` in 0..1 of the picture that ``frame`` is a look at -> ``(N, H, W)``.

        Where the look is smaller than the picture, scores change only where refinement changes the
        mask there; elsewhere they keep the detail of the full size.
        """
        size = tuple(scores.shape[-2:])
        if size == frame.size:
            return self.refine(frame, pad(scores[None])[0], memory)
        small = F.interpolate(scores[None], size=frame.size, mode="area")
        refined = self.refine(frame, pad(small)[0], memory)[None]
        changed = ((refined > 0.5) != (small > 0.5)).float()
        changed = F.max_pool2d(changed, 3, 1, 1)
        out = copy(scores)
        for k, kept in enumerate(out):  # one after the other: at full size a map takes megabytes
            if changed[0, k].any():
                where = F.interpolate(changed[:, k : k + 1], size=size)[0, 0] > 0
                new = F.interpolate(
                    refined[:, k : k + 1], size=size, mode="bilinear", align_corners=False
                )
                torch.where(where, new[0, 0], kept, out=kept)
        return out

    def refine_pixels(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The same from arrays: uint8 RGB ``(H, W, 3)`` and float32 ``(N, H, W)`` in 0..1."""
        frame = look(pixels, self.propagation.gain.device)
        given = torch.from_numpy(scores).to(frame.image.device)
        return without_inventions(self.refine_full(frame, given).cpu().numpy(), scores)


def without_inventions(refined: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Refined scores float32 ``(N, H, W)``, in place as given again where a region has come up from
    nothing.

    Refinement may extend or cut a region of the given mask; one that shares no pixel with it is
    something else that looks alike.
    """
    for new, old in zip(refined, given, strict=True):
        count, regions = cv2.connectedComponents((new > 0.5).view(np.uint8), connectivity=8)
        if count > 2:
            grown = np.zeros(count, bool)
            grown[regions[old > 0.5]] = True
            grown[0] = True
            invented = ~grown[regions]
            new[invented] = old[invented]
    return refined


def look(pixels: np.ndarray, device: torch.device) -> Frame:
    """The frame as the networks see it: shrunk if a side is longer than `LOOK_SIDE`.

    They were trained at about this scale of things, and their time grows with the pixels.
    """
    height, width = pixels.shape[:2]
    scale = LOOK_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Frame(pixels, device)
