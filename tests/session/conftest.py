from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

# Tests are imported by path (importlib mode), which leaves their folder off the search path.
sys.path.insert(0, str(Path(__file__).parent))

from session_clips import Clip, clip

from segspn.pipeline import Segmenter
from segspn.presets import load_preset


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """The default with less learning: what sessions do with what is learned does not depend on it."""
    preset = load_preset("default")
    return Segmenter(replace(preset, augment=replace(preset.augment, copies=3)), "cpu")


@pytest.fixture(scope="session")
def video() -> Clip:
    return clip(6)
