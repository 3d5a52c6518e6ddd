from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Tests are imported by path (importlib mode), which leaves the folder of the clips off the search path.
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))

from clips import make_frames

from segspn.tracks import open_tracks
from segspn.video import open_source


@pytest.fixture
def clip(tmp_path):
    return make_frames(tmp_path / "clip", 6)


@pytest.fixture
def read(clip):
    """Opens masks of the clip and gives them with the masks of every frame."""

    def opened(masks, frames=clip, start=0, end=None, stride=1, **options):
        source = open_source(frames, start, end, stride)
        tracks = open_tracks(masks, source, Path(frames).stem, **options)
        return tracks, list(tracks.read(1 if options.get("annotated") else 0))

    return opened
