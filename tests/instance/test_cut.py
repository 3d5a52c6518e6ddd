"""Cuts between scenes: by what is where, whatever moves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance.cut import Scene, layout


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
    assert Scene(layout(keys[..., :108])).goes_on(layout(keys[..., shift : 108 + shift]))


def test_another_scene_and_the_same_one_from_another_side_are_cuts() -> None:
    keys = scene(0)[..., :108]
    before = Scene(layout(keys))
    assert not before.goes_on(layout(scene(1)[..., :108]))
    assert not before.goes_on(layout(keys.flip(2)))


def turned(layout: Tensor, cosine: float) -> Tensor:
    """A layout of which each block has so much in common with that of ``layout``."""
    across = torch.randn(layout.shape, generator=torch.Generator().manual_seed(9))
    across = F.normalize(across - (across * layout).sum(0) * layout, dim=0)
    return cosine * layout + (1 - cosine**2) ** 0.5 * across


@pytest.mark.parametrize(
    ("usual", "least"),
    [(None, 0.6), (0.65, 0.6), (0.8, 0.65), (0.85, 0.7), (0.99, 0.75)],
)
def test_how_much_may_change_depends_on_how_much_usually_does(usual: float | None, least: float) -> None:
    now = layout(scene(0))
    before = Scene(turned(now, least + 0.01), usual)
    assert before.goes_on(now)
    assert not Scene(turned(now, least - 0.01), usual).goes_on(now)
    # What is usual follows, but not over a cut; and it is kept.
    for near, expected in ((True, 0.2), (False, 0.0)):
        shown = turned(now, least + (0.01 if near else -0.01))
        after = Scene(shown, usual).followed_by(now)
        kept = Scene.restored(after.state())
        had = None if "usual" not in kept.state() else float(kept.state()["usual"])
        if usual is None:
            assert had == (pytest.approx(least + 0.01, abs=1e-5) if near else None)
        else:
            assert had == pytest.approx(usual + expected * (least + 0.01 - usual), abs=1e-5)
        assert torch.equal(kept.state()["layout"], now)
