"""Jobs: a whole video from files to files, in one go, resumed, or stage by stage."""

from segspn.jobs.interrupt import Interrupted
from segspn.jobs.layout import Layout, default_out
from segspn.jobs.outputs import SAVEABLE
from segspn.jobs.refine import REFINE_STAGES, refine_video, require_stages
from segspn.jobs.refine_folder import refine_folder
from segspn.jobs.report import RunSummary, installation
from segspn.jobs.segment import segment_video
from segspn.jobs.stages import (
    fit_stage,
    run_craf,
    run_foreground,
    run_instance,
    run_merge,
    run_spn,
)
from segspn.jobs.variants import ablation_segmenters, sequence_segmenter

__all__ = [
    "REFINE_STAGES",
    "SAVEABLE",
    "Interrupted",
    "Layout",
    "RunSummary",
    "ablation_segmenters",
    "default_out",
    "fit_stage",
    "installation",
    "refine_folder",
    "refine_video",
    "require_stages",
    "run_craf",
    "run_foreground",
    "run_instance",
    "run_merge",
    "run_spn",
    "segment_video",
    "sequence_segmenter",
]
