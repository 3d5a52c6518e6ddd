"""The command line: parse, call, print.

Everything heavy is imported inside the commands, so that ``segspn --help`` is quick.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import segspn
from segspn.errors import InputError

_BAD_INPUT = 2
_CTRL_C = 130  # 128 + SIGINT, as shells have it


class _Commands(TyperGroup):
    """Tells what a user can mend in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            _complain(str(error))
            raise typer.Exit(_BAD_INPUT) from error
        except KeyboardInterrupt as stop:
            _complain(str(stop) or "stopped")
            raise typer.Exit(_CTRL_C) from stop


def _complain(message: str) -> None:
    print(f"segspn: {message}", file=sys.stderr)


class Device(str, Enum):
    """Where the nets run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # A traceback is a bug report; Python's own is the one that can be pasted.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the console entry point."""
    app(prog_name="segspn")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"segspn {segspn.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Follow objects through a video: a mask in one frame in, masks in every frame out."""


_FRAMES = "Frames"
_RESULTS = "Results"
_METHOD = "Method"

Input = Annotated[
    str,
    typer.Argument(help="Video file, folder or glob of images, DAVIS sequence.", metavar="INPUT"),
]
Start = Annotated[
    int, typer.Option(help="First frame, by number in the input.", rich_help_panel=_FRAMES)
]
End = Annotated[
    int | None, typer.Option(help="Frame to stop before; default all.", rich_help_panel=_FRAMES)
]
Stride = Annotated[int, typer.Option(help="Take every n-th frame.", rich_help_panel=_FRAMES)]
PresetName = Annotated[
    str,
    typer.Option("--preset", help="default, quality or paper.", rich_help_panel=_METHOD),
]
DeviceName = Annotated[Device, typer.Option("--device", rich_help_panel=_METHOD)]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what is in --out.", rich_help_panel=_RESULTS),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar, no summary; errors only.")
]


@app.command()
def segment(
    input: Input,
    mask: Annotated[
        Path,
        typer.Option(
            "--mask",
            "-m",
            help="Objects of one frame: a palette, grey, 16-bit or RGB PNG, or a folder with one "
            "binary PNG per object.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output folder; default INPUT-segspn.", rich_help_panel=_RESULTS
        ),
    ] = None,
    save: Annotated[
        str,
        typer.Option(
            help="What to leave, of labels,overlay,scores,cutouts,stages.",
            rich_help_panel=_RESULTS,
        ),
    ] = "labels,overlay",
    panel: Annotated[
        bool,
        typer.Option(
            "--panel", help="Draw the six-picture figure of each frame.", rich_help_panel=_RESULTS
        ),
    ] = False,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an interrupted run stopped.", rich_help_panel=_RESULTS
        ),
    ] = False,
    mask_frame: Annotated[
        int | None,
        typer.Option(
            help="Frame that the mask belongs to; default the first one taken.",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Shrink frames to this longest side for the work; results keep the full size.",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    resize_mask: Annotated[
        bool,
        typer.Option(
            "--resize-mask", help="Accept a mask of another size.", rich_help_panel=_FRAMES
        ),
    ] = False,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Segment the objects of one annotated frame in every frame of a video.

    Leaves OUT/NAME/%05d.png (label maps in DAVIS layout), OUT/NAME.mp4 (overlay), a contact sheet
    OUT/NAME_sheet.png and OUT/run.json with versions, preset and timings.
    """
    from segspn.jobs import default_out, segment_video

    summary = segment_video(
        input,
        mask,
        default_out(input) if out is None else out,
        preset=preset,
        device=device.value,
        mask_frame=mask_frame,
        start=start,
        end=end,
        stride=stride,
        max_side=max_side,
        save=_listed(save),
        resize_mask=resize_mask,
        overwrite=overwrite,
        resume=resume,
        panel=panel,
        progress=not quiet,
    )
    if not quiet:
        print(summary.told())


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
