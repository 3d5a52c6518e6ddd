"""Figures for people and for other tools: the two official CSVs and a table for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segspn.errors import InputError
from segspn.evaluation.protocol import Evaluation, GlobalScores, total
from segspn.video import write_bytes

GLOBAL_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
SEQUENCE_COLUMNS = ("Sequence", "J-Mean", "F-Mean")


def write_csvs(evaluation: Evaluation, out: str | Path) -> tuple[Path, Path]:
    """Write both official CSVs into the folder ``out``; returns their paths, global one first.

    They are named ``global_results-SUBSET.csv`` and ``per-sequence_results-SUBSET.csv`` and have
    the official columns and three decimals. Older files of these names are replaced, always: the
    official tool reuses them even when the masks have changed since. Raises ``InputError`` when
    ``out`` cannot be written.
    """
    out = Path(out)
    rows = [(o.name, _decimals(o.j.mean), _decimals(o.f.mean)) for o in evaluation.objects]
    overall = [_decimals(value) for value in global_row(evaluation.total)]
    return (
        write_csv(out / f"global_results-{evaluation.subset}.csv", GLOBAL_COLUMNS, [overall]),
        write_csv(out / f"per-sequence_results-{evaluation.subset}.csv", SEQUENCE_COLUMNS, rows),
    )


def global_row(scores: GlobalScores) -> tuple[float, ...]:
    """The seven values of ``GLOBAL_COLUMNS``."""
    j, f = scores.j, scores.f
    return (scores.jf, j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)


def score_table(evaluation: Evaluation, per_object: bool = False) -> Table:
    """A table, 80 columns wide, with one row per sequence or per object and the global figures.

    A sequence's row is the mean over its objects, whose number follows its name when there are
    several. The global row is the mean over all objects, as the protocol has it, which is not the
    mean of the rows when sequences differ in objects.
    """
    title = f"DAVIS {evaluation.year} {evaluation.subset}"
    # Rules instead of boxes: eight columns have to fit into a plain terminal.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Object" if per_object else "Sequence", no_wrap=True)
    for column in GLOBAL_COLUMNS:
        table.add_column(column.replace("-", "\n"), justify="right", min_width=6)
    for sequence in evaluation.sequences:
        if per_object:
            for item in sequence.objects:
                table.add_row(item.name, *_cells(GlobalScores(item.j, item.f)))
        else:
            count = len(sequence.ids)
            name = sequence.name if count == 1 else f"{sequence.name} ({count})"
            table.add_row(name, *_cells(total(sequence.objects)))
    table.add_section()
    table.add_row("Global", *_cells(evaluation.total), style="bold")
    return table


def print_scores(
    evaluation: Evaluation, console: Console | None = None, per_object: bool = False
) -> None:
    """Print ``score_table`` on the terminal."""
    (console or Console()).print(score_table(evaluation, per_object))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV with a header, atomically. Raises ``InputError`` when it cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text, atomically. Raises ``InputError`` when it cannot be written."""
    write_bytes(make_parent(path), text.encode("utf-8"))
    return path


def make_parent(path: Path) -> Path:
    """Make the folder of a file to be written, as needed; returns ``path``.

    Raises ``InputError`` when it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"{path.parent}: cannot be made ({error.strerror or error}); give another folder"
        raise InputError(told) from error
    return path


def _cells(scores: GlobalScores) -> list[str]:
    return [_decimals(value) for value in global_row(scores)]


def _decimals(value: float) -> str:
    return f"{value:.3f}"
