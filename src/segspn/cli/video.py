"""``segspn segment`` and ``segspn refine``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segspn.cli.options import (
    FRAMES,
    RESULTS,
    CrafName,
    Device,
    DeviceName,
    End,
    Foreground,
    Input,
    Mask,
    Out,
    Overwrite,
    PresetName,
    Quiet,
    Start,
    Stride,
    listed,
    load_segmenter,
)
from segspn.errors import InputError


def segment(
    input: Input,
    mask: Mask,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output folder; default INPUT-segspn.", rich_help_panel=RESULTS
        ),
    ] = None,
    save: Annotated[
        str,
        typer.Option(
            help="What to leave, of labels,overlay,scores,cutouts,stages.",
            rich_help_panel=RESULTS,
        ),
    ] = "labels,overlay",
    panel: Annotated[
        bool,
        typer.Option(
            "--panel", help="Draw the six-picture figure of each frame.", rich_help_panel=RESULTS
        ),
    ] = False,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an interrupted run stopped.", rich_help_panel=RESULTS
        ),
    ] = False,
    mask_frame: Annotated[
        int | None,
        typer.Option(
            help="Frame that the mask belongs to; default the first one taken.",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Shrink frames to this longest side for the work; results keep the full size.",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    resize_mask: Annotated[
        bool,
        typer.Option(
            "--resize-mask", help="Accept a mask of another size.", rich_help_panel=FRAMES
        ),
    ] = False,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Segment the objects of one annotated frame in every frame of a video.

    OUT/NAME/%05d.png are the label maps, in DAVIS layout; beside them lie the overlay video, a
    contact sheet and run.json with versions, preset and timings.
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
        save=listed(save),
        resize_mask=resize_mask,
        overwrite=overwrite,
        resume=resume,
        panel=panel,
        progress=not quiet,
    )
    if not quiet:
        print(summary.told())


def refine(
    input: Annotated[
        str,
        typer.Argument(
            help="The frames; or, without --masks, a folder of score maps %05d_<object>.png.",
            metavar="INPUT",
        ),
    ],
    out: Out,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of any tool's label maps %05d.png or score maps %05d_<object>.png."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", "-m", help="Annotation of the first frame, kept as it is."),
    ] = None,
    stages: Annotated[str, typer.Option(help="spn,craf or one of them.")] = "spn,craf",
    craf: CrafName = "default",
    foreground: Foreground = None,
    save: Annotated[
        str, typer.Option(help="What to leave: labels, scores or both.", rich_help_panel=RESULTS)
    ] = "labels",
    overwrite: Overwrite = False,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Refine the masks of any tool with the network (spn) and the region filter (craf).

    Label maps go to OUT/NAME/%05d.png. A folder of score maps alone can be filtered without the
    frames: segspn refine SCORES --stages craf --mask FIRST.png --out DIR
    """
    from segspn.jobs import refine_folder, refine_video, require_stages
    from segspn.video import open_source

    chosen = require_stages(listed(stages))
    options: dict[str, Any] = {
        "craf": craf,
        "foreground": foreground,
        "save": listed(save),
        "overwrite": overwrite,
        "progress": not quiet,
    }
    if masks is None:
        if chosen != ("craf",):
            raise InputError(
                f"{input}: the spn stage needs frames and masks: give --masks FOLDER, or "
                "--stages craf to filter a folder of score maps"
            )
        if mask is None:
            raise InputError(f"{input}: score maps alone need the first frame's --mask")
        folder = refine_folder(input, mask, out, **options)
    else:
        source = open_source(input, start, end, stride)
        segmenter = load_segmenter(preset, device) if "spn" in chosen else None
        folder = refine_video(
            source, masks, out, mask=mask, stages=chosen, segmenter=segmenter, **options
        )
    if not quiet:
        print(folder if "labels" in listed(save) else out)
