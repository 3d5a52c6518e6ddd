"""``segspn evaluate``: scores against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segspn.cli.options import (
    Device,
    DeviceName,
    PresetName,
    Quiet,
    Root,
    Subset,
    Year,
    load_segmenter,
)
from segspn.errors import InputError

evaluate_app = typer.Typer(no_args_is_help=True)


@evaluate_app.command("davis")
def evaluate_davis(
    root: Root,
    year: Year = 2017,
    subset: Subset = "val",
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of RESULTS/<sequence>/%05d.png; with --preset it is filled."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Segment the sequences that lack results with this preset first."),
    ] = None,
    device: DeviceName = Device.auto,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for CSVs and plot; default RESULTS.")
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw J and F per frame.")] = True,
    per_object: Annotated[
        bool, typer.Option("--per-object", help="One row per object, not per sequence.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --preset: segment all sequences again.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """J and F by the DAVIS protocol: a table, the two official CSVs, a plot per frame."""
    from segspn import evaluation

    options: dict[str, Any] = {"out": out, "plots": plots, "progress": not quiet}
    if preset is not None:
        from segspn.jobs import sequence_segmenter

        segment_sequence = sequence_segmenter(load_segmenter(preset, device))
        folder = results or Path(f"davis-{year}-{subset}-{Path(preset).stem}")
        scores = evaluation.run_and_evaluate(
            root, year, subset, folder, segment_sequence, overwrite=overwrite, **options
        )
    elif results is not None:
        scores = evaluation.evaluate_davis(root, year, subset, results, **options)
    else:
        raise InputError("nothing to score: give --results FOLDER, or --preset NAME to make some")
    if not quiet:
        evaluation.print_scores(scores, per_object=per_object)


@evaluate_app.command("ablation")
def evaluate_ablation(
    root: Root,
    results: Annotated[Path, typer.Option(help="Folder for the masks, CSV and table.")],
    year: Year = 2017,
    subset: Subset = "val",
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Segment again what is complete.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """What each stage is worth: full, without CRAF, without SPN, without first-frame tuning."""
    from rich.console import Console

    from segspn.evaluation import ablation_table, run_ablation
    from segspn.jobs import ablation_segmenters

    variants = ablation_segmenters(load_segmenter(preset, device))
    rows = run_ablation(
        root, year, subset, results, variants, progress=not quiet, overwrite=overwrite
    )
    if not quiet:
        Console().print(ablation_table(rows))
