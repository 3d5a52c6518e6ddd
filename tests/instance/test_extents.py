from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from segspn.instance.extents import Extents

H, W = 30, 60


def block(left: int, right: int) -> Tensor:
    """Shares (H, W) of an object in rows 10 to 20."""
    shares = torch.zeros(H, W)
    shares[10:20, left:right] = 1
    return shares


def moving(step: int) -> Tensor:
    """Displacement of a scene that moves to the right."""
    way = torch.zeros(2, H, W)
    way[0] = -step
    return way


def test_what_is_hidden_moves_on_with_what_is_in_view() -> None:
    """One passes behind another that stands still: its front is known until it comes out again."""
    screen = block(20, 40)
    extents = Extents.of(torch.stack((block(2, 18), screen)))
    for step in range(1, 13):
        left, right = 2 + 2 * step, 18 + 2 * step
        visible = block(left, right) * (1 - screen)
        extents.follow(torch.stack((visible, screen)), moving(2), [0])
        wanted = block(left, right).numpy() > 0.5
        assert (extents.form[0] == wanted).mean() > 0.98
        extents.accept(torch.stack((visible, screen)), [(0, 1)])
        # Beyond the screen nothing is known that is not seen.
        assert not (extents.form[0] & ~wanted)[:, 40:].any()


def test_each_cell_moves_like_an_object_or_unlike_it() -> None:
    """One moves to the right by 2, the other, with the ground, by none."""
    shares = torch.stack((block(5, 25), block(35, 55)))
    way = moving(2) * shares[0]
    extents = Extents.of(shares)
    extents.follow(shares, way, (0, 1))
    unlike = extents.unlike(way, (0, 1))
    inside = block(5, 25).numpy() > 0
    for n, cells in ((0, ~inside), (1, inside)):
        assert unlike[n].shape == (H, W) and unlike[n].dtype == np.float32
        assert np.allclose(unlike[n], 2.0 * cells, atol=0.1)


def test_where_the_ground_is_seen_nothing_is_hidden() -> None:
    extents = Extents.of(block(5, 25)[None])
    extents.accept(block(5, 15)[None], [])
    assert np.array_equal(extents.form[0], block(5, 15).numpy() > 0.5)


def test_one_out_of_sight_goes_on_as_it_went() -> None:
    screen = block(15, 55)
    extents = Extents.of(torch.stack((block(2, 14), screen)))
    for step in range(1, 9):
        thing = block(2 + 3 * step, 14 + 3 * step)
        shares = torch.stack((thing * (1 - screen), screen))
        extents.follow(shares, moving(3 if shares[0].any() else 0), [0])
        extents.accept(shares, [(0, 1)])
        assert np.array_equal(extents.form[0], thing.numpy() > 0.5)


def test_a_form_is_fitted_to_what_is_in_view() -> None:
    shown = torch.stack((block(10, 30), block(30, 50)))
    extents = Extents.of(torch.stack((block(8, 28), block(30, 50))))  # two cells off
    extents.accept(shown, [(0, 1)])
    assert np.array_equal(extents.form, shown.numpy() > 0.5)


def test_what_one_seems_to_gain_beside_its_like_is_not_of_its_form() -> None:
    alone, like = block(10, 30), block(31, 50)
    gained = alone.clone()
    gained[4:10, 26:30] = 1  # a head that comes out from behind
    for pairs, grows in (([(0, 1)], False), ([], True)):
        extents = Extents.of(torch.stack((alone, like)))
        extents.accept(torch.stack((gained, like)), pairs)
        assert np.array_equal(extents.form[0], (gained if grows else alone).numpy() > 0.5)


def test_away_from_its_like_the_form_is_what_is_seen() -> None:
    like = block(40, 55)
    extents = Extents.of(torch.stack((block(5, 20), like)))
    extents.accept(torch.stack((block(5, 25), like)), [(0, 1)])
    assert np.array_equal(extents.form[0], block(5, 25).numpy() > 0.5)


def test_of_one_out_of_sight_what_something_hides_is_left() -> None:
    like = block(20, 40)
    extents = Extents.of(torch.stack((block(10, 30), like)))
    extents.accept(torch.stack((block(0, 0), like)), [(0, 1)])
    assert extents.form[0].any() and not (extents.form[0] & ~(like.numpy() > 0.5)).any()


@pytest.mark.parametrize("wrong", [float("nan"), 1e4])
def test_a_motion_that_cannot_be_is_not_believed(wrong: float) -> None:
    extents = Extents.of(block(5, 25)[None])
    way = torch.full((2, H, W), wrong) * torch.linspace(-1, 1, W)
    extents.follow(block(5, 25)[None], way, [0])
    assert np.array_equal(extents.motion[0], np.eye(2, 3))


def test_objects_come_and_go_and_a_state_comes_back() -> None:
    extents = Extents.of(torch.stack((block(2, 10), block(20, 30))))
    extents.follow(torch.stack((block(4, 12), block(20, 30))), moving(2), [0])
    extents.arrange([1, None, 0])
    assert not extents.form[1].any() and extents.form[2].any()
    state = extents.state()
    again = Extents.restored(state)
    assert np.array_equal(again.form, extents.form) and np.array_equal(again.motion, extents.motion)
    extents.accept(torch.zeros(3, H, W), [])  # a state does not change with what it was taken from
    assert again.form.any() and state["form"].any() and not extents.form.any()
