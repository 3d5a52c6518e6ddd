"""Jobs: a whole video from files to files, in one go, resumed, or stage by stage."""

from segspn.jobs.interrupt import Interrupted
from segspn.jobs.layout import Layout, default_out
from segspn.jobs.outputs import SAVEABLE
from segspn.jobs.report import RunSummary
from segspn.jobs.run import segment_video

__all__ = [
    "SAVEABLE",
    "Interrupted",
    "Layout",
    "RunSummary",
    "default_out",
    "segment_video",
]
