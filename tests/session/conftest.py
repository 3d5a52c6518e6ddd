from __future__ import annotations

from dataclasses import replace

import pytest

from segspn.pipeline import Segmenter
from segspn.presets import load_preset
from tests.session.clips import Clip, clip


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """The default with less learning: what sessions do with what is learned does not depend on it."""
    preset = load_preset("default")
    return Segmenter(replace(preset, augment=replace(preset.augment, copies=3)), "cpu")


@pytest.fixture(scope="session")
def video() -> Clip:
    return clip(6)
