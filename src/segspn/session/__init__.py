"""A session: one video, frame by frame, annotated and corrected at any moment.

Beside the stages in order it keeps frames to go back to, what a person has marked, and files.
"""

from segspn.session.session import Session
from segspn.session.stages import Result, Stages

__all__ = ["Result", "Session", "Stages"]
