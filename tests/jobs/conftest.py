from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Tests are imported by path (importlib mode), which leaves their folder off the search path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def segmenter() -> Iterator[Any]:
    """The default preset's real nets, hardly fine-tuned, since frames are tiny."""
    import torch

    from segspn.pipeline import Segmenter
    from segspn.presets import load_preset

    preset = load_preset("default")
    preset = replace(
        preset,
        augment=replace(preset.augment, copies=2),
        foreground=replace(
            preset.foreground, adapt=True, fit=replace(preset.foreground.fit, steps=8)
        ),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other over such frames
    yield Segmenter(preset, "cpu")
    torch.set_num_threads(threads)
