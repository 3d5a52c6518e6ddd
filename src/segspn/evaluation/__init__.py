"""Evaluation: J and F, the DAVIS protocol, its CSVs, tables, plots and the ablation."""

from __future__ import annotations

from segspn.evaluation.ablation import (
    VARIANTS,
    AblationRow,
    ablation_markdown,
    ablation_table,
    run_ablation,
)
from segspn.evaluation.davis import DavisSequence, DavisSubset, open_davis
from segspn.evaluation.measures import boundary_f, boundary_map, frame_scores, region_j
from segspn.evaluation.plot import plot_frames
from segspn.evaluation.protocol import (
    Evaluation,
    GlobalScores,
    ObjectScores,
    SequenceScores,
    Statistics,
    statistics,
)
from segspn.evaluation.report import print_scores, score_table, write_csvs
from segspn.evaluation.run import (
    SegmentSequence,
    evaluate_davis,
    run_and_evaluate,
    score_results,
)

__all__ = [
    "VARIANTS",
    "AblationRow",
    "DavisSequence",
    "DavisSubset",
    "Evaluation",
    "GlobalScores",
    "ObjectScores",
    "SegmentSequence",
    "SequenceScores",
    "Statistics",
    "ablation_markdown",
    "ablation_table",
    "boundary_f",
    "boundary_map",
    "evaluate_davis",
    "frame_scores",
    "open_davis",
    "plot_frames",
    "print_scores",
    "region_j",
    "run_ablation",
    "run_and_evaluate",
    "score_results",
    "score_table",
    "statistics",
    "write_csvs",
]
