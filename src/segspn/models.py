"""The models a preset can be made of: one registry, name -> networks and the stages made of them.

A model brings the learned stages 1 to 3 (foreground, instances, SPN) behind one interface, and the
types of the preset's sections that it reads; what follows them is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch

from segspn.backbone import Frame, load_backbone
from segspn.backbone.convention import require_convention
from segspn.backbone.precision import Lower, computes_in_bfloat16
from segspn.foreground import (
    ForegroundConfig,
    ForegroundStage,
    HeadForeground,
    Matcher,
    NetForeground,
    NetForegroundConfig,
    ParentNet,
    ResNetF,
    embed,
)
from segspn.heap import limit_kernels
from segspn.instance import (
    Decoder,
    HeadInstances,
    InstanceConfig,
    InstanceStage,
    NetInstanceConfig,
    NetInstances,
    SeveralViews,
    View,
)
from segspn.prompts import Prompter
from segspn.spn import Propagation, SpnRefiner
from segspn.spn.guidance_vgg16 import Vgg16Guidance
from segspn.weights import load_weights

if TYPE_CHECKING:
    from segspn.presets import Preset


@dataclass(frozen=True)
class LiteWeights:
    """Shipped weights by name, or paths of files (see ``weights.weight_path``).

    ``matching``: of a trunk of their own for the memory's keys; empty: they are the parent's.
    """

    backbone: str = "efficientnet_lite0"
    parent: str = "parent"
    decoder: str = "decoder"
    guidance: str = "spn_guidance"
    evidence: str = "spn_evidence"
    propagation: str = "spn_propagation"
    matching: str = ""


@dataclass(frozen=True)
class ResNet101Weights:
    """Paths of files, or ``random`` (see ``ResNetF.load`` and ``Vgg16Guidance.load``).

    ``backbone`` is read where ``parent`` is the fusion head alone or random, ``vgg`` where
    ``guidance`` is random. The conventions say where each net's ImageNet weights once came from:
    ``torchvision``, or ``caffe`` (see ``backbone.convention`` and ``ResNet101``).
    """

    backbone: str = "resnet101.pth"
    parent: str = "resnetf.safetensors"
    vgg: str = "vgg16.pth"
    guidance: str = "guidance_vgg16.safetensors"
    backbone_convention: str = "torchvision"
    vgg_convention: str = "torchvision"

    def __post_init__(self) -> None:
        require_convention(self.backbone_convention)
        require_convention(self.vgg_convention)


class Model(ABC):
    """Networks on a device, shared by any number of sessions, and the stages made of them.

    ``sections``: the types of the preset's sections that the model reads.
    """

    sections: ClassVar[Mapping[str, type]]
    refiner: SpnRefiner

    @abstractmethod
    def __init__(self, preset: Preset, device: torch.device) -> None:
        """Load what ``preset.weights`` names."""

    @abstractmethod
    def prepare(self, frame: Frame) -> None:
        """Compute what the stages share of a frame; ``frame`` keeps it."""

    @abstractmethod
    def foreground(self, preset: Preset) -> ForegroundStage:
        """Stage 1 of a new session."""

    @abstractmethod
    def instances(self, preset: Preset, count: int) -> InstanceStage:
        """Stage 2 of a new session with ``count`` objects."""


    def prompter(self, device: torch.device) -> Prompter:
        """What turns hints into masks: the light networks, whatever the model."""
        return Prompter.load(device)


class LiteModel(Model):
    """EfficientNet-Lite0, frozen; heads and memory over one embedding; light guidance."""

    sections = {
        "weights": LiteWeights,
        "foreground": ForegroundConfig,
        "instance": InstanceConfig,
    }

    def __init__(self, preset: Preset, device: torch.device) -> None:
        weights = preset.weights
        assert isinstance(weights, LiteWeights) and isinstance(preset.instance, InstanceConfig)
        limit_kernels(len(preset.instance.views))
        self.backbone = load_backbone(weights.backbone).to(device)
        # The prompt net was trained on the shipped backbone.
        self._prompts_on = self.backbone if weights.backbone == LiteWeights.backbone else None
        self.lower: Lower = nullcontext
        if preset.bfloat16 and computes_in_bfloat16(device):
            self.lower = partial(torch.autocast, device.type, torch.bfloat16)
            self.backbone.bfloat16()
        self.parent = ParentNet(self.backbone.channels)
        load_weights(self.parent, weights.parent)
        self.parent.eval().requires_grad_(False).to(device)
        self.parent.trunk.fuse()
        if weights.matching:
            matcher = Matcher(self.backbone.channels)
            load_weights(matcher, weights.matching)
            matcher.trunk.fuse()
            self.parent.matcher = matcher.eval().requires_grad_(False).to(device)
        self.decoder = Decoder(self.parent.trunk.width)
        load_weights(self.decoder, weights.decoder)
        self.decoder.eval().requires_grad_(False).to(device)
        self.decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.refiner = SpnRefiner.load(
            self.backbone,
            self.parent,
            device,
            weights.guidance,
            weights.evidence,
            weights.propagation,
        )
        self.refiner.lower = self.lower

    def prepare(self, frame: Frame) -> None:
        embed(frame, self.backbone, self.parent)

    def foreground(self, preset: Preset) -> ForegroundStage:
        assert isinstance(preset.foreground, ForegroundConfig)
        return HeadForeground(self.backbone, self.parent, preset.foreground)

    def instances(self, preset: Preset, count: int) -> InstanceStage:
        assert isinstance(preset.instance, InstanceConfig)
        config = preset.instance

        def make() -> InstanceStage:
            return HeadInstances(
                self.backbone, self.parent, self.decoder, config, count, self.lower
            )

        return make() if config.views == (View(),) else SeveralViews(config.views, make)

    def prompter(self, device: torch.device) -> Prompter:
        return Prompter.load(device, self._prompts_on, self.refiner)


class ResNet101Model(Model):
    """The published networks: ResNet-101 with fused res3 to res5, one for the foreground and one for
    each object; VGG-16 guidance, whose gates are applied to the scores and merged by a maximum."""

    sections = {
        "weights": ResNet101Weights,
        "foreground": NetForegroundConfig,
        "instance": NetInstanceConfig,
    }

    def __init__(self, preset: Preset, device: torch.device) -> None:
        w = preset.weights
        assert isinstance(w, ResNet101Weights)
        limit_kernels(1)
        self.parent = ResNetF.load(w.parent, w.backbone, w.backbone_convention, preset.seed)
        self.parent.requires_grad_(False).to(device)
        guidance = Vgg16Guidance.load(w.guidance, w.vgg, w.vgg_convention, preset.seed)
        refiner = SpnRefiner(guidance, Propagation(domain="score", merge="max"))
        self.refiner = refiner.eval().requires_grad_(False).to(device)

    def prepare(self, frame: Frame) -> None:
        """Nothing: each net looks at the image itself."""

    def foreground(self, preset: Preset) -> ForegroundStage:
        assert isinstance(preset.foreground, NetForegroundConfig)
        return NetForeground(self.parent, preset.foreground)

    def instances(self, preset: Preset, count: int) -> InstanceStage:
        assert isinstance(preset.instance, NetInstanceConfig)
        return NetInstances(self.parent, preset.instance, count)


MODELS: Mapping[str, type[Model]] = {"lite": LiteModel, "resnet101": ResNet101Model}
