"""What each stage is worth: the same sequences with stages switched off, one row per variant.

The rows and columns are those of Table 2 of the paper: mean (recall) of J and of F, and their
global mean J&F.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segspn.errors import InputError
from segspn.evaluation.protocol import GlobalScores
from segspn.evaluation.report import write_csv, write_text
from segspn.evaluation.run import SegmentSequence, run_and_evaluate

VARIANTS = (
    "full",
    "without CRAF",
    "without CRAF, SPN",
    "without CRAF, SPN, first-frame tuning",
)
"""The paper's four variants, in its order."""

COLUMNS = ("Variant", "J-Mean", "J-Recall", "F-Mean", "F-Recall", "Global")


@dataclass(frozen=True)
class AblationRow:
    """One variant and its global figures."""

    variant: str
    scores: GlobalScores


def run_ablation(
    root: str | Path,
    year: int,
    subset: str,
    results: str | Path,
    variants: Mapping[str, SegmentSequence],
    out: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> tuple[AblationRow, ...]:
    """Run and score every variant, in the order of ``variants``.

    The masks of a variant go to ``<results>/<folder_of(variant)>`` with its official CSVs; what is
    complete there is not made again unless ``overwrite``. Writes ``ablation-SUBSET.csv`` and
    ``ablation-SUBSET.md`` into ``out`` (default: ``results``). Raises ``InputError`` when there is
    no variant, when two share a folder, and as ``run_and_evaluate`` does.
    """
    folders = {variant: folder_of(variant) for variant in variants}
    if not folders:
        raise InputError(f"{results}: no variants to compare; name at least one")
    if len(set(folders.values())) < len(folders) or "" in folders.values():
        raise InputError(f"{results}: variants need names that differ in letters or digits")
    results = Path(results)
    console = Console(stderr=True, quiet=not progress)
    rows = []
    for variant, segment_sequence in variants.items():
        console.print(variant, markup=False, highlight=False)
        evaluation = run_and_evaluate(
            root, year, subset, results / folders[variant], segment_sequence,
            plots=False, workers=workers, progress=progress, overwrite=overwrite,
        )  # fmt: skip
        rows.append(AblationRow(variant, evaluation.total))
    out = results if out is None else Path(out)
    write_csv(out / f"ablation-{subset}.csv", COLUMNS, [_csv_row(row) for row in rows])
    write_text(out / f"ablation-{subset}.md", ablation_markdown(rows))
    return tuple(rows)


def folder_of(variant: str) -> str:
    """Folder name of a variant: ``without CRAF, SPN`` becomes ``without-craf-spn``."""
    return "-".join(re.findall(r"[a-z0-9]+", variant.lower()))


def ablation_table(rows: Sequence[AblationRow], title: str = "Ablation") -> Table:
    """The rows as a table for the terminal."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("J mean (recall)", "F mean (recall)", "global"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.variant, *_cells(row))
    return table


def ablation_markdown(rows: Sequence[AblationRow]) -> str:
    """The rows as a Markdown table, with the paper's columns; ends with a newline."""
    lines = ["| | J mean (recall) | F mean (recall) | global |", "|---|---|---|---|"]
    lines += [f"| {row.variant} | {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: AblationRow) -> tuple[str, str, str]:
    j, f = row.scores.j, row.scores.f
    return (
        f"{j.mean:.3f} ({j.recall:.3f})",
        f"{f.mean:.3f} ({f.recall:.3f})",
        f"{row.scores.jf:.3f}",
    )


def _csv_row(row: AblationRow) -> tuple[str, ...]:
    j, f = row.scores.j, row.scores.f
    values = (j.mean, j.recall, f.mean, f.recall, row.scores.jf)
    return (row.variant, *(f"{value:.3f}" for value in values))
