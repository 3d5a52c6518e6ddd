"""Cuts between scenes: by what is where, whatever moves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance.cut import layout, same_scene


def scene(seed: int, h: int = 60, w: int = 108) -> Tensor:
    """Keys ``(16, h, w)`` of a picture with things of about 16 cells, 24 cells wider than ``w``."""
    numbers = torch.Generator().manual_seed(seed)
    drawn = torch.randn(16, 1 + h // 16, 2 + (w + 24) // 16, generator=numbers)
    smooth = F.interpolate(drawn[None], size=(h, w + 24), mode="bilinear", align_corners=True)[0]
    return F.normalize(smooth, dim=0)


def test_layout_is_of_unit_vectors_whatever_the_size() -> None:
    found = layout(scene(0, 30, 41)[..., :41])
    assert found.shape == (16, 4, 6)  # what hangs over at the end is a block too
    assert torch.allclose(found.norm(dim=0), torch.ones(4, 6))


@pytest.mark.parametrize("shift", [0, 1, 2, 4])
def test_a_scene_that_moves_stays_the_same(shift: int) -> None:
    keys = scene(0)
    assert same_scene(layout(keys[..., :108]), layout(keys[..., shift : 108 + shift]))


def test_another_scene_and_the_same_one_from_another_side_are_cuts() -> None:
    keys = scene(0)[..., :108]
    assert not same_scene(layout(keys), layout(scene(1)[..., :108]))
    assert not same_scene(layout(keys), layout(keys.flip(2)))
