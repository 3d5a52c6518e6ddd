from __future__ import annotations

import torch

from segspn.instance.thinning import thinned


def test_near_the_object_every_cell_counts_and_far_away_every_second_one() -> None:
    there = torch.zeros(2, 12, 20, dtype=torch.bool)
    there[0, 5, 6] = True
    counts = thinned(there)
    assert counts.shape == (2, 12, 20)
    assert (counts[0, 2:9, 3:10] == 1).all()
    far = torch.ones(12, 20, dtype=torch.bool)
    far[2:9, 3:10] = False
    assert (counts[0][far] != 1).all() and set(counts[1].unique().tolist()) == {0.0, 2.0}
    assert counts[1].sum() == 12 * 20
    # Of two neighbours one stays.
    assert (counts[1, :, 1:] + counts[1, :, :-1] == 2).all()
    assert (counts[1, 1:] + counts[1, :-1] == 2).all()


def test_with_a_larger_step_fewer_cells_stand_for_more() -> None:
    there = torch.zeros(1, 24, 40, dtype=torch.bool)
    counts = thinned(there, 2)[0]
    assert set(counts.unique().tolist()) == {0.0, 8.0} and counts.sum() == 24 * 40
    # One in each block of two rows and four columns.
    blocks = counts.unflatten(0, (-1, 2)).unflatten(2, (-1, 4))
    assert (blocks.sum((1, 3)) == 8).all()
    there[0, 10, 20] = True
    assert (thinned(there, 2)[0, 7:14, 17:24] == 1).all()
