from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segspn.backbone import Place
from segspn.instance.whereabouts import Whereabouts

H, W = 64, 96  # cells of stride 4: 256 x 384 pixels
REACH = 16
WHOLE = Place(0, 0, 4 * H, 4 * W)


def block(left: int, right: int) -> Tensor:
    """Shares (H, W) of an object in rows 24 to 40, pixels 96 to 160."""
    shares = torch.zeros(H, W)
    shares[24:40, left:right] = 1
    return shares


def claims(*columns: tuple[int, int]) -> Tensor:
    """A classifier's scores (4, H / 2, W / 2): it finds the object in the object's rows and these
    columns, of stride 4, alone."""
    scores = torch.full((4, H // 2, W // 2), -1.0)
    for left, right in columns:
        scores[:, 12:20, left // 2 : right // 2] = 1
    return scores


def test_an_object_that_is_whole_is_looked_for_around_it() -> None:
    whole = block(40, 60)[None]  # pixels 160 to 240
    where = Whereabouts.of(whole)
    assert where.places(whole, REACH, None) == [Place(64, 128, 192, 256)]
    assert where.places(whole, REACH, claims((40, 60))[None]) == [Place(64, 128, 192, 256)]


def test_one_that_is_hidden_is_looked_for_as_far_as_it_may_reach() -> None:
    """Of 240 pixels across 120 are in view, which may be either half; downwards nothing is hidden."""
    where = Whereabouts.of(block(20, 80)[None])
    where.accept(block(20, 50)[None])
    (place,) = where.places(block(20, 50)[None], REACH, None)
    assert (place.top, place.bottom) == (64, 192)
    assert place.left == 0 and place.right == 320  # 200, and 240 * 0.95 - 120 more
    for _ in range(60):
        where.accept(block(20, 50)[None])  # it is not hidden, but smaller now
    assert where.places(block(20, 50)[None], REACH, None) == [Place(64, 64, 192, 224)]


def test_it_is_looked_for_where_its_classifier_finds_it_near_by() -> None:
    """80 pixels wide, so 80 pixels away at most."""
    where = Whereabouts.of(block(40, 60)[None])
    last = block(40, 60)[None]
    scores = claims((40, 60), (66, 76), (92, 96))[None]  # the second one to pixel 304, the last from 368
    (place,) = where.places(last, REACH, scores)
    assert place == Place(64, 128, 192, 320)
    lone = claims((40, 60))[None]
    lone[..., 15, 36] = 2  # a single cell does not tell
    assert where.places(last, REACH, lone) == [Place(64, 128, 192, 256)]


def test_where_another_object_was_in_view_nothing_comes_out() -> None:
    both = torch.stack((block(40, 60), block(66, 76)))
    scores = torch.stack((claims((40, 60), (66, 76)), claims((66, 76))))
    first, second = Whereabouts.of(both).places(both, REACH, scores)
    assert first == Place(64, 128, 192, 256)
    assert second == Place(64, 224, 192, 320)


def test_one_that_is_out_of_sight_may_be_anywhere_and_keeps_its_size() -> None:
    where = Whereabouts.of(torch.stack((block(20, 40), block(50, 60))))
    gone = torch.stack((torch.zeros(H, W), block(50, 60)))
    for _ in range(100):
        where.accept(gone)
    lost, there = where.places(gone, REACH, torch.stack((claims(), claims((50, 60)))))
    assert lost == WHOLE and there != WHOLE
    assert where.sides.tolist() == [[64, 80], [64, 40]]


def test_objects_come_and_go_and_the_state_is_a_copy() -> None:
    where = Whereabouts.of(torch.stack((block(20, 40), block(50, 60))))
    where.arrange([1, None, 0])
    assert where.sides.tolist() == [[64, 40], [0, 0], [64, 80]]
    state = where.state()
    where.accept(torch.stack((block(0, 90), block(0, 90), block(0, 90))))
    assert state.tolist() == [[64, 40], [0, 0], [64, 80]]
    again = Whereabouts(state.numpy())
    assert np.array_equal(again.sides, state.numpy())
