"""Options that several commands share, and what turns them into objects."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter


class Device(str, Enum):
    """Where the nets run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


FRAMES = "Frames"
RESULTS = "Results"
METHOD = "Method"


def _hush(quiet: bool) -> bool:
    if quiet:
        logging.getLogger("segspn").setLevel(logging.WARNING)
    return quiet


Input = Annotated[
    str,
    typer.Argument(help="Video file, folder or glob of images, DAVIS sequence.", metavar="INPUT"),
]
Scores = Annotated[
    Path,
    typer.Argument(help="Folder of score maps %05d_<object>.png, 0..255.", metavar="SCORES"),
]
Mask = Annotated[
    Path,
    typer.Option(
        "--mask",
        "-m",
        help="Objects of one frame: a palette, grey, 16-bit or RGB PNG, or a folder with one "
        "binary PNG per object.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder.", rich_help_panel=RESULTS)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there.", rich_help_panel=RESULTS)
]
Save = Annotated[
    str,
    typer.Option(
        help="What to leave, of labels,overlay,scores,cutouts,stages,rle.", rich_help_panel=RESULTS
    ),
]
Panel = Annotated[
    bool,
    typer.Option("--panel", help="Draw the six-picture figure of each frame.", rich_help_panel=RESULTS),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where an interrupted run stopped.", rich_help_panel=RESULTS),
]
MaxSide = Annotated[
    int | None,
    typer.Option(
        help="Shrink frames to this longest side for the work; results keep the full size.",
        rich_help_panel=FRAMES,
    ),
]
ResizeMask = Annotated[
    bool,
    typer.Option("--resize-mask", help="Accept masks of another size.", rich_help_panel=FRAMES),
]
Start = Annotated[
    int, typer.Option(help="First frame, by number in the input.", rich_help_panel=FRAMES)
]
End = Annotated[
    int | None, typer.Option(help="Frame to stop before; default all.", rich_help_panel=FRAMES)
]
Stride = Annotated[int, typer.Option(help="Take every n-th frame.", rich_help_panel=FRAMES)]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset", help="default, quality, paper or a YAML file.", rich_help_panel=METHOD
    ),
]
DeviceName = Annotated[
    Device, typer.Option("--device", help="Where the nets run.", rich_help_panel=METHOD)
]
CrafName = Annotated[
    str,
    typer.Option(
        "--craf",
        help="Parameters of the region filter: default, release or paper.",
        rich_help_panel=METHOD,
    ),
]
Foreground = Annotated[
    Path | None,
    typer.Option(
        help="Folder of foreground masks %05d.png; nothing is labelled outside.",
        rich_help_panel=METHOD,
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(help="Use this model of an earlier --fit.", rich_help_panel=METHOD),
]
Fit = Annotated[
    bool,
    typer.Option(
        "--fit", help="Only fine-tune, and leave the model in --out.", rich_help_panel=METHOD
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(help="Of fine-tuning; default the preset's.", rich_help_panel=METHOD),
]
Snapshots = Annotated[
    int | None,
    typer.Option(
        "--snapshot-every",
        help="With --fit: leave a model after each so many iterations too.",
        rich_help_panel=METHOD,
    ),
]
Root = Annotated[Path, typer.Option(help="DAVIS folder, the one that holds Annotations.")]
Year = Annotated[int, typer.Option(help="2016 (one object) or 2017.")]
Subset = Annotated[str, typer.Option(help="List of sequences: ImageSets/YEAR/SUBSET.txt.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No progress bar, no summary; errors only.", callback=_hush
    ),
]


def load_segmenter(preset: str, device: Device) -> Segmenter:
    """The models, loaded only now."""
    from segspn.pipeline import Segmenter

    return Segmenter(preset, device.value)


def listed(names: str) -> list[str]:
    """The names in a comma list."""
    return [name.strip() for name in names.split(",") if name.strip()]
