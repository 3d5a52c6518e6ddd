"""``segspn train``: the offline training of the shipped weights, or of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segspn.cli.options import Device, DeviceName

train_app = typer.Typer(no_args_is_help=True)

StillsFolder = Annotated[
    Path,
    typer.Option("--stills", help="Folder of <source>/{images/*.jpg,masks/*.png}."),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Checkpoints, log and weights; resumes what lies there.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps; default: the recipe's.")]
Seed = Annotated[int, typer.Option(help="All randomness follows from it.")]
Parent = Annotated[
    str, typer.Option(help="The trained parent: the shipped one, or a .safetensors file.")
]


@train_app.command("parent")
def parent(
    stills: StillsFolder,
    out: Out = Path("runs/parent"),
    steps: Steps = None,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
) -> None:
    """Train the parent net: trunk, foreground head and matching keys."""
    from segspn.pipeline import resolve_device
    from segspn.training import train_parent

    print(train_parent(stills, out, steps, seed, str(resolve_device(device.value))))


@train_app.command("decoder")
def decoder(
    stills: StillsFolder,
    out: Out = Path("runs/decoder"),
    parent: Parent = "parent",
    steps: Steps = None,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
) -> None:
    """Train the instance decoder on top of a trained parent."""
    from segspn.pipeline import resolve_device
    from segspn.training import train_decoder

    print(train_decoder(stills, out, parent, steps, seed, str(resolve_device(device.value))))


@train_app.command("spn")
def spn(
    stills: StillsFolder,
    out: Out = Path("runs/spn"),
    parent: Parent = "parent",
    steps: Steps = None,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
) -> None:
    """Train the SPN (guidance, evidence, propagation) on top of a trained parent."""
    from segspn.pipeline import resolve_device
    from segspn.training import train_spn

    for path in train_spn(stills, out, parent, steps, seed, str(resolve_device(device.value))):
        print(path)


@train_app.command("prompts")
def prompts(
    stills: StillsFolder,
    out: Out = Path("runs/prompts"),
    parent: Parent = "parent",
    steps: Steps = None,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
) -> None:
    """Train the net that turns clicks, boxes and scribbles into masks."""
    from segspn.pipeline import resolve_device
    from segspn.training import train_prompts

    print(train_prompts(stills, out, parent, steps, seed, str(resolve_device(device.value))))
