"""``segspn segment`` and ``segspn refine``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

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
    MaxSide,
    Overwrite,
    Panel,
    PresetName,
    Quiet,
    ResizeMask,
    Resume,
    Save,
    Start,
    Stride,
    listed,
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
    save: Save = "labels,overlay",
    panel: Panel = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    mask_frame: Annotated[
        int | None,
        typer.Option(
            help="Frame that the mask belongs to; default the first one taken.",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    correct: Annotated[
        list[str] | None,
        typer.Option(
            help="Mask of another frame, as N=FILE, known from the start: where an earlier run went "
            "wrong, or where an object comes in. May be given again and again.",
            metavar="N=FILE",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    max_side: MaxSide = None,
    resize_mask: ResizeMask = False,
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
        corrections=_corrections(correct or []),
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


def _corrections(given: list[str]) -> dict[int, Path]:
    """``N=FILE`` -> number and path."""
    found: dict[int, Path] = {}
    for each in given:
        number, _, path = each.partition("=")
        if not number.isdigit() or not path:
            raise InputError(f"--correct {each}: say which frame the mask is of, as in 40=mask.png")
        if int(number) in found:
            raise InputError(f"--correct {each}: frame {number} has a mask already")
        found[int(number)] = Path(path)
    return found


def refine(
    input: Annotated[
        str,
        typer.Argument(
            help="The frames: video file, folder or glob of images, DAVIS sequence; or, without "
            "--masks, a folder of score maps %05d_<object>.png.",
            metavar="INPUT",
        ),
    ],
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Masks of all frames: a folder of label maps %05d.png, of soft maps "
            "%05d_<object>.png or of a folder per object; a root of results with a folder of these "
            "named as the video is; a mask video; COCO or YouTube-VIS RLE in JSON."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", "-m", help="Annotation of the first frame, kept as it is."),
    ] = None,
    stages: Annotated[str, typer.Option(help="spn,craf or one of them.")] = "spn,craf",
    craf: CrafName = "default",
    foreground: Foreground = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output folder; default INPUT-refined.", rich_help_panel=RESULTS
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="What to leave, of labels,overlay,scores,cutouts,stages,rle; default labels,overlay.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    panel: Panel = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    max_side: MaxSide = None,
    resize_mask: ResizeMask = False,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Refine the masks of any tool with the network (spn) and the region filter (craf).

    OUT holds what segment leaves: label maps OUT/NAME/%05d.png, the overlay video, a contact sheet,
    run.json. A folder of score maps alone can be filtered without the frames, into label maps
    (and, with --save labels,scores, score maps): segspn refine SCORES --stages craf --mask FIRST.png
    """
    from segspn.jobs import default_out, refine_folder, refine_video, require_stages

    chosen = require_stages(listed(stages))
    folder = default_out(input, "refined") if out is None else out
    if masks is not None:
        summary = refine_video(
            input,
            masks,
            folder,
            stages=chosen,
            preset=preset,
            device=device.value,
            craf=craf,
            mask=mask,
            foreground=foreground,
            start=start,
            end=end,
            stride=stride,
            max_side=max_side,
            save=["labels", "overlay"] if save is None else listed(save),
            resize_mask=resize_mask,
            overwrite=overwrite,
            resume=resume,
            panel=panel,
            progress=not quiet,
            note=lambda line: None if quiet else print(f"segspn: note: {line}", file=sys.stderr),
        )
        if not quiet:
            print(summary.told())
        return
    if chosen != ("craf",):
        raise InputError(
            f"{input}: the spn stage needs frames and masks: give --masks, or --stages craf to "
            "filter a folder of score maps"
        )
    if mask is None:
        raise InputError(f"{input}: score maps alone need the first frame's --mask")
    if resume or panel or resize_mask or max_side is not None or (start, end, stride) != (0, None, 1):
        raise InputError(
            f"{input}: score maps alone are filtered as a whole: give frames and --masks for --start, "
            "--end, --stride, --max-side, --resize-mask, --panel or --resume"
        )
    written = refine_folder(
        input,
        mask,
        folder,
        craf=craf,
        foreground=foreground,
        save=["labels"] if save is None else listed(save),
        overwrite=overwrite,
        progress=not quiet,
    )
    if not quiet:
        print(written if written.is_dir() else folder)
