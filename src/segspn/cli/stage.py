"""``segspn stage``: one stage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segspn.cli.options import (
    CrafName,
    Device,
    DeviceName,
    End,
    Fit,
    Foreground,
    Input,
    Iterations,
    Mask,
    Model,
    Out,
    Overwrite,
    PresetName,
    Quiet,
    Scores,
    Snapshots,
    Start,
    Stride,
    load_segmenter,
)
from segspn.errors import InputError

stage_app = typer.Typer(no_args_is_help=True)


@stage_app.command("foreground")
def stage_foreground(
    input: Input,
    mask: Mask,
    out: Out,
    fit: Fit = False,
    iterations: Iterations = None,
    snapshot_every: Snapshots = None,
    model: Model = None,
    overwrite: Overwrite = False,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Write foreground masks OUT/%05d.png, 0 and 255; the mask is the first frame's."""
    from segspn.jobs import fit_stage, run_foreground
    from segspn.video import open_source

    source = open_source(input, start, end, stride)
    given: dict[str, Any] = {"segmenter": load_segmenter(preset, device), "overwrite": overwrite}
    given["iterations"] = iterations
    if fit:
        _print_paths(fit_stage(source, mask, out, snapshot_every=snapshot_every, **given), quiet)
    else:
        run_foreground(source, mask, out, model=model, progress=not quiet, **given)


@stage_app.command("instance")
def stage_instance(
    input: Input,
    mask: Mask,
    out: Out,
    object_id: Annotated[
        int | None, typer.Option("--object", help="Id in the mask; default one after another.")
    ] = None,
    fit: Fit = False,
    iterations: Iterations = None,
    snapshot_every: Snapshots = None,
    model: Model = None,
    foreground: Foreground = None,
    overwrite: Overwrite = False,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Write OUT/masks and OUT/scores, %05d_<object>.png; the mask is the first frame's.

    With --fit --object 2 only the object's model is made, OUT/2_<iterations>.safetensors, to be
    used by a later run with --object 2 --model FILE.
    """
    from segspn.jobs import fit_stage, run_instance
    from segspn.video import open_source

    if fit and object_id is None:
        raise InputError(f"--fit makes the model of one object of {mask}: say which with --object")
    source = open_source(input, start, end, stride)
    given: dict[str, Any] = {"segmenter": load_segmenter(preset, device), "overwrite": overwrite}
    given |= {"iterations": iterations, "object_id": object_id}
    if fit:
        _print_paths(fit_stage(source, mask, out, snapshot_every=snapshot_every, **given), quiet)
    else:
        given |= {"model": model, "foreground": foreground, "progress": not quiet}
        run_instance(source, mask, out, **given)


@stage_app.command("spn")
def stage_spn(
    input: Input,
    out: Out,
    scores: Annotated[Path, typer.Option(help="Folder of score maps %05d_<object>.png.")],
    overwrite: Overwrite = False,
    start: Start = 0,
    end: End = None,
    stride: Stride = 1,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Refine score maps along the edges of the frames into OUT/%05d_<object>.png."""
    from segspn.jobs import run_spn
    from segspn.video import open_source

    source, segmenter = open_source(input, start, end, stride), load_segmenter(preset, device)
    run_spn(source, scores, out, segmenter=segmenter, overwrite=overwrite, progress=not quiet)


@stage_app.command("craf")
def stage_craf(
    scores: Scores,
    mask: Mask,
    out: Out,
    craf: CrafName = "default",
    foreground: Foreground = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Filter score maps into OUT/%05d_<object>.png and label maps OUT/%05d.png.

    The mask is the annotation of frame 0, whose score maps are not looked at.
    """
    from segspn.jobs import run_craf

    run_craf(
        scores, mask, out, craf=craf, foreground=foreground, overwrite=overwrite, progress=not quiet
    )


@stage_app.command("merge")
def stage_merge(
    scores: Scores,
    out: Out,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", "-m", help="Annotation of frame 0; its objects are merged."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Least score of a labelled pixel, 0 to 1.")
    ] = 0.5,
    foreground: Foreground = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Merge score maps into label maps OUT/%05d.png: the highest score takes the pixel."""
    from segspn.jobs import run_merge

    given: dict[str, Any] = {"foreground": foreground, "overwrite": overwrite}
    run_merge(scores, out, mask=mask, threshold=threshold, progress=not quiet, **given)


def _print_paths(paths: list[Path], quiet: bool) -> None:
    if not quiet:
        print(*paths, sep="\n")
