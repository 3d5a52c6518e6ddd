"""The clip and the mask that the README's demo uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segspn.video import open_source, read_object_masks

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIP = EXAMPLES / "bigbuckbunny.mp4"
MASK = EXAMPLES / "bigbuckbunny_first.png"

# Share of the frame in per cent, least and most: rabbit, boulders, stone blocks.
SHARES = {1: (10, 16), 2: (2.5, 5), 3: (5, 8)}


def test_clip_opens_at_the_size_of_the_mask():
    source = open_source(CLIP)
    masks = read_object_masks(MASK, size=source.size)
    assert source.size == (480, 854)
    assert masks.labels.shape == source.size
    assert len(source) >= 40
    assert source.fps == pytest.approx(24)
    frames = source.read(0, len(source), 1)
    assert sum(frame.shape == (*source.size, 3) for frame in frames) == len(source)


def test_clip_is_one_shot():
    source = open_source(CLIP)
    frames = [frame[::8, ::8].astype(np.int16) for frame in source.read(0, len(source), 1)]
    changes = [np.abs(b - a).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert max(changes) < 20
    assert min(changes) > 0, "a frame is repeated"


def test_mask_holds_the_described_objects():
    masks = read_object_masks(MASK, size=(480, 854))
    assert masks.ids == tuple(SHARES)
    for object_id, (least, most) in SHARES.items():
        assert least < 100 * (masks.labels == object_id).mean() < most, object_id


def test_objects_are_where_they_are_seen():
    # The rabbit is grey and left of the middle; the blocks are at the right border.
    masks = read_object_masks(MASK, size=(480, 854))
    columns = {i: np.nonzero((masks.labels == i).any(axis=0))[0] for i in masks.ids}
    assert columns[2].mean() < columns[1].mean() < columns[3].mean()
    assert columns[3].max() == 853


def test_clip_and_its_licence_are_small_and_present():
    assert CLIP.stat().st_size < 1.5e6
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for needed in ("Blender Foundation", "www.bigbuckbunny.org", "CC BY 3.0", "Changes made"):
        assert needed in text
