"""``segspn convert``: weights of other origins -> safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    file: Annotated[
        str,
        typer.Argument(
            help="A .caffemodel, a .pth of torchvision's, or efficientnet_lite0 (the PyPI package's).",
            metavar="FILE",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The .safetensors file to write.")],
) -> None:
    """Convert a ResNet-101, a VGG-16, the authors' parent net or the small backbone.

    What the file holds is found out by looking. Nothing in it is executed, and Caffe is not needed.
    """
    from segspn.convert import convert as convert_file

    done = convert_file(file, to)
    print(f"{to}: {done.net} (convention: {done.convention})")
    print(f"in a preset: {done.use.replace('FILE', str(to))}")
