"""What the shipped weights are trained with: data weights, steps, and the commands' entry points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from segspn import __version__
from segspn.backbone import EfficientNetLite0, load_backbone
from segspn.data.stills import Stills
from segspn.foreground import ParentNet
from segspn.instance import Decoder
from segspn.prompts.net import PromptNet
from segspn.spn import LightGuidance, MaskEvidence, Propagation
from segspn.training.decoder import DecoderTrainer, TrackedPairs, decoder_loss
from segspn.training.loop import LoopConfig, train
from segspn.training.parent import Pairs, ParentTrainer, parent_loss
from segspn.training.prompts import PromptScenes, PromptTrainer, prompt_loss
from segspn.training.spn import MistakenPairs, SpnTrainer, spn_loss
from segspn.weights import load_weights, save_weights


@dataclass(frozen=True)
class Recipe:
    """``sources``: folder of stills -> sampling weight. Vehicles and household things are scarce, so
    sources are weighted, not images; the SPN prefers the sources with the sharpest masks."""

    sources: dict[str, float]
    loop: LoopConfig


PARENT = Recipe(
    {
        "voc_animals": 3.0,
        "ccp": 1.0,
        "coco_person": 2.0,
        "coco_tiny": 2.0,
        "coco128": 1.0,
        "minicoco": 0.5,
        "imagenet_pseudo": 1.5,
    },
    LoopConfig(steps=1600, batch=8, lr=1e-3),
)
DECODER = replace(PARENT, loop=LoopConfig(steps=1500, batch=6, lr=2e-3, log_every=25))
SPN = Recipe(
    {
        "voc_animals": 2.0,
        "ccp": 2.0,
        "coco_person": 2.0,
        "coco_tiny": 1.0,
        "coco128": 0.5,
        "imagenet_pseudo": 2.0,
    },
    LoopConfig(steps=3200, batch=4, lr=2e-3, log_every=20),
)

PROMPTS = Recipe(
    {
        "voc_animals": 3.0,
        "ccp": 1.0,
        "coco_person": 2.0,
        "coco_tiny": 2.0,
        "coco128": 1.0,
        "minicoco": 0.5,
        "imagenet_pseudo": 2.0,
    },
    LoopConfig(steps=1500, batch=8, lr=3e-3, log_every=25, workers=0),
)
PROMPT_SCENES = 3000
"""Different scenes that the prompt net sees, each with several objects and users."""


def train_parent(
    stills: Path, out: Path, steps: int | None = None, seed: int = 0, device: str = "cpu"
) -> Path:
    """Train the parent net; writes ``out/parent.safetensors`` and returns its path.

    Checkpoints lie in ``out``; the same call resumes a killed run. Raises InputError for bad data.
    """
    loop = _loop(PARENT, steps, seed)
    data = Pairs(Stills(stills, PARENT.sources), loop.steps * loop.batch, seed=seed)
    torch.manual_seed(seed)
    backbone = load_backbone()
    model = ParentTrainer(backbone, ParentNet(backbone.channels))
    trained = train(model.train(), data, parent_loss, loop, out, device)
    assert isinstance(trained, ParentTrainer)
    return _write(trained.parent, out / "parent.safetensors", loop)


def train_decoder(
    stills: Path,
    out: Path,
    parent: str = "parent",
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Train the instance decoder on top of a trained parent (a shipped name or a file)."""
    loop = _loop(DECODER, steps, seed)
    data = TrackedPairs(Stills(stills, DECODER.sources), loop.steps * loop.batch, seed=seed)
    torch.manual_seed(seed)
    backbone, parent_net = _parent(parent)
    model = DecoderTrainer(backbone, parent_net, Decoder(parent_net.trunk.width))
    trained = train(model.train(), data, decoder_loss, loop, out, device)
    assert isinstance(trained, DecoderTrainer)
    return _write(trained.decoder, out / "decoder.safetensors", loop)


def train_spn(
    stills: Path,
    out: Path,
    parent: str = "parent",
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Path, Path, Path]:
    """Train guidance net, evidence net and propagation on a trained parent (shipped name or file)."""
    loop = _loop(SPN, steps, seed)
    data = MistakenPairs(Stills(stills, SPN.sources), loop.steps * loop.batch, seed=seed)
    torch.manual_seed(seed)
    backbone, parent_net = _parent(parent)
    model = SpnTrainer(
        backbone,
        parent_net,
        LightGuidance(backbone.channels),
        MaskEvidence(parent_net.trunk.width),
        Propagation(),
    )
    trained = train(model.train(), data, spn_loss, loop, out, device)
    assert isinstance(trained, SpnTrainer)
    return (
        _write(trained.guidance, out / "spn_guidance.safetensors", loop),
        _write(trained.evidence, out / "spn_evidence.safetensors", loop),
        _write(trained.propagation, out / "spn_propagation.safetensors", loop),
    )


def train_prompts(
    stills: Path,
    out: Path,
    parent: str = "parent",
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Train the prompt net; its trunk and keys are a trained parent's (shipped name or file)."""
    loop = _loop(PROMPTS, steps, seed)
    count = loop.steps * loop.batch
    data = PromptScenes(Stills(stills, PROMPTS.sources), count, PROMPT_SCENES, seed=seed)
    torch.manual_seed(seed)
    backbone, parent_net = _parent(parent)
    net = PromptNet(backbone.channels, parent_net.trunk.width)
    net.trunk.load_state_dict(parent_net.trunk.state_dict())
    net.key.load_state_dict(parent_net.key.state_dict())
    trained = train(PromptTrainer(backbone, net).train(), data, prompt_loss, loop, out, device)
    assert isinstance(trained, PromptTrainer)
    return _write(trained.net, out / "prompts.safetensors", loop)


def _parent(name: str) -> tuple[EfficientNetLite0, ParentNet]:
    """The backbone, and a trained parent on it (a shipped name or a file)."""
    backbone = load_backbone()
    parent = ParentNet(backbone.channels)
    load_weights(parent, name)
    return backbone, parent


def _loop(recipe: Recipe, steps: int | None, seed: int) -> LoopConfig:
    return replace(recipe.loop, steps=steps or recipe.loop.steps, seed=seed)


def _write(module: nn.Module, path: Path, loop: LoopConfig) -> Path:
    metadata = {
        "segspn": __version__,
        "steps": str(loop.steps),
        "batch": str(loop.batch),
        "seed": str(loop.seed),
    }
    save_weights(module, path, metadata)
    return path
