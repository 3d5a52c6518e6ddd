"""The nets that are trained offline: what each is made of, and the entry points of the commands."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.utils.data import Dataset

from segspn import __version__
from segspn.backbone import EfficientNetLite0, load_backbone
from segspn.data import Stills, open_data
from segspn.data.check import check_data
from segspn.foreground import Matcher, ParentNet
from segspn.instance import Decoder
from segspn.models import LiteWeights
from segspn.presets import preset_values
from segspn.prompts.net import PromptNet
from segspn.spn import LightGuidance, MaskEvidence, Propagation
from segspn.training.board import panels
from segspn.training.config import TrainConfig
from segspn.training.decoder import Clips, DecoderTrainer, KeptClips, decoder_loss
from segspn.training.loop import LossFn, train
from segspn.training.matching import MatchingTrainer, matching_loss
from segspn.training.parent import Pairs, ParentTrainer, parent_loss
from segspn.training.processes import join
from segspn.training.prompts import PromptScenes, PromptTrainer, prompt_loss
from segspn.training.spn import MistakenPairs, SpnTrainer, spn_loss
from segspn.video.atomic import write_bytes
from segspn.weights import load_weights, save_weights

PARENT, GUIDANCE = "parent", "spn_guidance"  # what later nets stand on: the shipped ones


@dataclass(frozen=True)
class Task:
    """One net to train: ``model`` goes through the loop, ``output`` is its module whose log-odds are
    the prediction (empty: no pictures are drawn of it), ``files`` are the weight files it leaves: stem
    -> module's name, ``ground`` the trained nets that it stands on, by name. ``preset``: whether these
    files, with the shipped rest, make a preset, which it leaves too."""

    model: nn.Module
    dataset: Dataset[Any]
    loss: LossFn
    output: str
    files: Mapping[str, str]
    ground: Mapping[str, nn.Module]
    preset: bool = False


@dataclass(frozen=True)
class Ground:
    """What a net stands on: shipped names, or files."""

    parent: str = PARENT
    guidance: str = GUIDANCE


def _parent_task(config: TrainConfig, stills: Stills, _: Ground, __: Path) -> Task:
    loop = config.parent.loop
    data = Pairs(stills, loop.steps * loop.batch, config.parent.size, config.seed)
    backbone = load_backbone(config.backbone)
    model = ParentTrainer(backbone, ParentNet(backbone.channels))
    return Task(model, data, parent_loss, "parent.head", {"parent": "parent"}, {"backbone": backbone})


def _decoder_task(config: TrainConfig, stills: Stills, ground: Ground, out: Path) -> Task:
    settings = config.decoder
    count = settings.loop.steps * settings.loop.batch
    clip = dataclasses.replace(settings.clip, size=settings.size)
    backbone = load_backbone(config.backbone)
    net = _trained_parent(backbone, ground.parent)
    data: Dataset[Any] = Clips(stills, count, clip, config.seed)
    if settings.scenes:
        clips = Clips(stills, settings.scenes, clip, config.seed)
        # Named after all that they depend on, so that another run's are not taken for this one's.
        told = f"{clip} {config.seed} {stills.digest()} {_digest(backbone)}".encode()
        data = KeptClips(clips, count, backbone, out / f"clips-{zlib.crc32(told):08x}")
    model = DecoderTrainer(backbone, net, Decoder(net.trunk.width))
    files = {"decoder": "decoder", "parent": "parent"}
    return Task(model, data, decoder_loss, "decoder", files, {"backbone": backbone, "parent": net})


def _spn_task(config: TrainConfig, stills: Stills, ground: Ground, _: Path) -> Task:
    loop = config.spn.loop
    data = MistakenPairs(stills, loop.steps * loop.batch, config.spn.size, config.seed)
    backbone = load_backbone(config.backbone)
    net = _trained_parent(backbone, ground.parent)
    guidance, evidence = LightGuidance(backbone.channels), MaskEvidence(net.trunk.width)
    model = SpnTrainer(backbone, net, guidance, evidence, Propagation())
    files = {f"spn_{name}": name for name in ("guidance", "evidence", "propagation")}
    return Task(model, data, spn_loss, "propagation", files, {"backbone": backbone, "parent": net})


def _prompts_task(config: TrainConfig, stills: Stills, ground: Ground, _: Path) -> Task:
    settings = config.prompts
    count = settings.loop.steps * settings.loop.batch
    data = PromptScenes(stills, count, settings.scenes, settings.size, config.seed)
    backbone = load_backbone()  # whatever a preset's backbone: the prompt net has this one for itself
    trained = _trained_parent(backbone, ground.parent)
    net = PromptNet(backbone.channels, trained.trunk.width)
    net.trunk.load_state_dict(trained.trunk.state_dict())
    net.key.load_state_dict(trained.key.state_dict())
    model = PromptTrainer(backbone, net)
    nets = {"backbone": backbone, "parent": trained}
    return Task(model, data, prompt_loss, "", {"prompts": "net"}, nets)


def _matching_task(config: TrainConfig, stills: Stills, ground: Ground, _: Path) -> Task:
    settings = config.matching
    clip = dataclasses.replace(settings.clip, size=settings.size)
    data = Clips(stills, settings.loop.steps * settings.loop.batch, clip, config.seed)
    backbone = EfficientNetLite0()
    load_weights(backbone, config.backbone)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parent = _trained_parent(backbone, ground.parent)
    guidance = LightGuidance(backbone.channels)
    load_weights(guidance, ground.guidance)
    matcher = Matcher(backbone.channels, parent.trunk.width)
    matcher.begin_as(parent)
    model = MatchingTrainer(backbone, parent, guidance, matcher)
    files = {
        "backbone": "backbone",
        "matching": "matcher",
        "parent": "parent",
        "spn_guidance": "guidance",
    }
    nets = {"backbone": backbone, "parent": parent, "spn_guidance": guidance}
    return Task(model, data, matching_loss, "", files, nets, preset=True)


TASKS: Mapping[str, Callable[[TrainConfig, Stills, Ground, Path], Task]] = {
    "parent": _parent_task,
    "decoder": _decoder_task,
    "spn": _spn_task,
    "prompts": _prompts_task,
    "matching": _matching_task,
}
ALL = ("parent", "decoder", "spn", "prompts")
"""What `train_all` trains, in this order."""


def train_stage(
    stage: str,
    config: TrainConfig,
    base: Path,
    out: Path,
    ground: Ground = Ground(),
    device: str = "cpu",
) -> list[Path]:
    """Train one net (see `TASKS`) and return the files that it leaves in ``out``.

    ``base``: where the data's relative folders start. ``ground``: the trained nets under all but the
    parent. Checkpoints, log and ``config.yaml`` lie in ``out`` too; the same call
    goes on with a run that was killed. Raises InputError for bad data and for another run's ``out``.
    """
    settings = config.stage(stage)
    processes, where = join(torch.device(device))
    stills = open_data(config.data, base, settings.weights, cache_mb=config.cache_mb)
    check_data(stills, config.bad_share, shown=processes.first)
    torch.manual_seed(config.seed)
    task = TASKS[stage](config, stills, ground, out)
    if settings.start:
        for stem, name in task.files.items():
            if stem not in task.ground:  # which ``ground`` names
                load_weights(task.model.get_submodule(name), _starting_point(settings.start, stem))
    identity = dataclasses.asdict(settings) | {"data": stills.digest()}
    del identity["loop"]  # the loop adds what counts of it
    identity |= {name: _digest(net) for name, net in task.ground.items()}
    out.mkdir(parents=True, exist_ok=True)
    if processes.first and not (out / "checkpoint.pt").exists():
        values = yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)
        write_bytes(out / "config.yaml", values.encode())
    trained = train(
        task.model.train(),
        task.dataset,
        task.loss,
        settings.loop,
        out,
        where,
        config.seed,
        identity,
        panels(task.loss, task.output) if task.output else None,
        processes,
    )
    files = [out / f"{stem}.safetensors" for stem in task.files]
    if processes.first:
        loop = settings.loop
        told = {"steps": loop.steps, "batch": loop.batch, "seed": config.seed, "segspn": __version__}
        metadata = {"recipe": config.name, **{k: str(v) for k, v in told.items()}}
        for path, name in zip(files, task.files.values(), strict=True):
            save_weights(trained.get_submodule(name), path, metadata)
        if task.preset:
            _write_preset(config, {path.stem: path for path in files}, out)
    processes.wait()
    return [*files, out / "preset.yaml"] if task.preset else files


def train_all(config: TrainConfig, base: Path, out: Path, device: str = "cpu") -> list[Path]:
    """Train parent, decoder, SPN and prompt net, each in a folder of its own below ``out``.

    ``out/preset.yaml``, the default preset with these weights, then makes ``segspn segment --preset``
    use them. Returns all files.
    """
    made: dict[str, Path] = {}
    # The decoder tunes the parent it stands on. The others stand on the parent as it was: an SPN that
    # was trained on the tuned one did worse (weights/parent.md).
    parent = str((out / "parent" / "parent.safetensors").resolve())
    for stage in ALL:
        for path in train_stage(stage, config, base, out / stage, Ground(parent), device):
            made[path.stem] = path
    if join(torch.device(device))[0].first:
        _write_preset(config, made, out)
    return [*made.values(), out / "preset.yaml"]


def _write_preset(config: TrainConfig, made: Mapping[str, Path], out: Path) -> None:
    """The default preset with the weights ``made``, by stem."""
    named = {stem.removeprefix("spn_"): str(path.resolve()) for stem, path in made.items()}
    known = {field.name for field in dataclasses.fields(LiteWeights)}
    preset = {
        **preset_values("default"),
        "name": config.name,
        "description": f"Weights trained by the recipe {config.name}.",
        "weights": {name: path for name, path in named.items() if name in known},
    }
    write_bytes(out / "preset.yaml", yaml.safe_dump(preset, sort_keys=False).encode())


def _trained_parent(backbone: EfficientNetLite0, name: str) -> ParentNet:
    """A trained parent (a shipped name or a file) on a backbone."""
    parent = ParentNet(backbone.channels)
    load_weights(parent, name)
    return parent


def _digest(module: nn.Module) -> str:
    """Of weights; that of their file would change with the order of its metadata."""
    crc = 0
    for name, value in sorted(module.state_dict().items()):
        crc = zlib.crc32(value.cpu().numpy().tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def _starting_point(start: str, stem: str) -> str:
    return stem if start == "shipped" else str(Path(start).resolve() / f"{stem}.safetensors")


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what YAML has."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
