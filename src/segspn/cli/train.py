"""``segspn train``: the offline training of the shipped weights, or of your own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from segspn.cli.options import Device, DeviceName

train_app = typer.Typer(no_args_is_help=True)

Recipe = Annotated[
    str, typer.Option("--config", "-c", help="A shipped recipe (cpu, gpu, finetune) or a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value: --set parent.loop.steps=200."),
]
Base = Annotated[
    Path,
    typer.Option("--stills", help="Where relative folders of the recipe's data start."),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Checkpoints, logs and weights; resumes what lies there.")
]
Parent = Annotated[
    str, typer.Option(help="The trained parent: the shipped one, or a .safetensors file.")
]
Guidance = Annotated[
    str, typer.Option(help="The trained guidance of the SPN: the shipped one, or a .safetensors file.")
]


@train_app.command("parent")
def parent(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/parent"),
    device: DeviceName = Device.auto,
) -> None:
    """Train the parent net: trunk, foreground head and matching keys."""
    _train("parent", config, settings, stills, out, device)


@train_app.command("decoder")
def decoder(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/decoder"),
    parent: Parent = "parent",
    device: DeviceName = Device.auto,
) -> None:
    """Train the instance decoder on top of a trained parent."""
    _train("decoder", config, settings, stills, out, device, parent)


@train_app.command("spn")
def spn(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/spn"),
    parent: Parent = "parent",
    device: DeviceName = Device.auto,
) -> None:
    """Train the SPN (guidance, evidence, propagation) on top of a trained parent."""
    _train("spn", config, settings, stills, out, device, parent)


@train_app.command("prompts")
def prompts(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/prompts"),
    parent: Parent = "parent",
    device: DeviceName = Device.auto,
) -> None:
    """Train the net that turns clicks, boxes and scribbles into masks."""
    _train("prompts", config, settings, stills, out, device, parent)


@train_app.command("matching")
def matching(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/matching"),
    parent: Parent = "parent",
    guidance: Guidance = "spn_guidance",
    device: DeviceName = Device.auto,
) -> None:
    """Tune the backbone beyond stride 8, with a matching net on it; leaves a preset that uses both."""
    _train("matching", config, settings, stills, out, device, parent, guidance)


@train_app.command("all")
def train_everything(
    config: Recipe = "cpu",
    settings: Settings = None,
    stills: Base = Path(),
    out: Out = Path("runs/all"),
    device: DeviceName = Device.auto,
) -> None:
    """Train all nets one after the other, and write a preset that uses them."""
    from segspn.pipeline import resolve_device
    from segspn.training import load_recipe, train_all

    recipe = load_recipe(config, settings or ())
    _told(train_all(recipe, stills, out, str(resolve_device(device.value))))


def _train(
    stage: str,
    config: str,
    settings: list[str] | None,
    stills: Path,
    out: Path,
    device: Device,
    parent: str = "parent",
    guidance: str = "spn_guidance",
) -> None:
    from segspn.pipeline import resolve_device
    from segspn.training import Ground, load_recipe, train_stage

    recipe = load_recipe(config, settings or ())
    where = str(resolve_device(device.value))
    _told(train_stage(stage, recipe, stills, out, Ground(parent, guidance), where))


def _told(paths: list[Path]) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes, the one that wrote them
        print(*paths, sep="\n")
