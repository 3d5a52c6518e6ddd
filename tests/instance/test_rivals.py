from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance.rivals import ALIKE, CLEAR, LOST, Rivals, alikeness, pairs_alike

H, W = 6, 10


def three() -> Tensor:
    """Shares (3, 2H, 2W) of objects at the left, in the middle and at the right."""
    shares = torch.zeros(3, 2 * H, 2 * W)
    for n, left in enumerate((0, 8, 16)):
        shares[n, 4:8, left : left + 4] = 1
    return shares


def pair(alike: float) -> Tensor:
    """The first two are so much alike, the third is not like them."""
    found = torch.full((3, 3), 0.1)
    found[0, 1] = found[1, 0] = alike
    return found


def rivals(shares: Tensor, alike: Tensor, form: Tensor | None = None, **unlike: Tensor) -> Rivals:
    """Of objects that go on below what is in view of them, hidden, unless ``form`` tells how they are,
    and which stand still; how unlike the ``first`` and the ``second`` cells move may be told."""
    still = torch.zeros(2 * H, 2 * W)
    moving = {n: unlike.get(name, still).numpy() for n, name in enumerate(("first", "second", "third"))}
    known = (shares > 0.5) | (shares.roll(2, 1) > 0.5) if form is None else form
    return Rivals(shares, known.numpy(), moving, pairs_alike(alike))


def test_likeness_is_that_of_the_best_matches() -> None:
    keys = torch.zeros(4, H, W)
    keys[0], keys[1, :, 4:6] = 1, 1  # the middle one points halfway elsewhere
    keys[:, :, 8:] = torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None, None]
    found = alikeness(F.normalize(keys, dim=0)[None], three()[None])
    assert torch.equal(found, found.T) and (found.diagonal() == -1).all()
    assert torch.isclose(found[0, 1], torch.tensor(0.5).sqrt()) and found[0, 2] == 0


def test_objects_told_of_in_different_frames_are_compared() -> None:
    keys = F.normalize(torch.randn(2, 4, H, W, generator=torch.Generator().manual_seed(0)), dim=1)
    keys[1, :, :, 4:6] = keys[0, :, :, 0:2]  # the second object in frame 1 is the first in frame 0
    shares = torch.stack((three(), three()))
    shares[0, 1:], shares[1, 0], shares[1, 2] = 0, 0, 0
    found = alikeness(keys, shares)
    assert torch.isclose(found[0, 1], torch.tensor(1.0)) and (found[2] == -1).all()


def claims() -> Tensor:
    """The first object claims all, the second doubts, the third claims nothing."""
    return torch.tensor([5.0, -1.0, -6.0])[:, None, None].expand(3, 2 * H, 2 * W)


def test_between_those_that_look_alike_the_nearer_one_has_it() -> None:
    settled = rivals(three(), pair(ALIKE + 0.05)).settle(claims())
    first, second, third = settled
    assert torch.equal(third, claims()[2])  # nobody looks like it
    # Where the second was, it has what the first claims; where the first was, that keeps it.
    assert (second[4:8, 8:12] == 5).all() and (first[4:8, 8:12] == 5 - LOST).all()
    assert (first[4:8, :4] == 5).all() and (second[4:8, :4] == -1 - LOST).all()
    # Between them, cell by cell: at column 6 the second is nearer by one of CLEAR cells.
    assert torch.allclose(second[5, 6], torch.tensor(-1 + 6 / CLEAR))
    assert torch.allclose(first[5, 6], torch.tensor(5 - LOST / CLEAR))


def test_those_that_differ_and_those_out_of_sight_keep_what_they_claim() -> None:
    assert torch.equal(rivals(three(), pair(ALIKE - 0.05)).settle(claims()), claims())
    gone = three()
    gone[1] = 0
    assert torch.equal(rivals(gone, pair(1.0)).settle(claims()), claims())
    alone = rivals(three()[:1], torch.full((1, 1), -1.0))
    assert torch.equal(alone.settle(claims()[:1]), claims()[:1])


def test_votes_for_either_go_to_the_nearest() -> None:
    """Each pixel's votes stay as many, and those of an object like no other stay its own."""
    votes = torch.tensor([0.5, 0.1, 0.2])[:, None, None].expand(3, 2 * H, 2 * W)
    divided = rivals(three(), pair(ALIKE + 0.05)).divide(votes[None])[0]
    assert torch.equal(divided[2], votes[2])
    assert torch.allclose(divided[:2].sum(0), torch.tensor(0.6))
    assert torch.allclose(divided[1, 4:8, 8:12], torch.tensor(0.6))  # where the second was
    assert torch.allclose(divided[0, 4:8, :4], torch.tensor(0.6))
    even = divided[:, 5, 5] / divided[:2, 5, 5].sum()  # two cells from the first, three from the other
    wanted = 0.501 / (0.501 + 0.101 * (1 - 1 / CLEAR))
    assert torch.allclose(even[0], torch.tensor(wanted))


def test_of_three_alike_one_that_nobody_votes_for_gets_the_votes_where_it_is() -> None:
    votes = torch.tensor([0.3, 0.3, 0.0])[:, None, None].expand(3, 2 * H, 2 * W)
    divided = rivals(three(), torch.ones(3, 3)).divide(votes)
    assert torch.allclose(divided[2, 4:8, 16:], torch.tensor(0.6))
    gone = three()
    gone[2] = 0
    assert (rivals(gone, torch.ones(3, 3)).divide(votes)[2] == 0).all()


def test_what_was_hidden_of_an_object_is_its_own_when_it_comes_out() -> None:
    """The second stands before the first, whose right half has been hidden, and moves away."""
    form = three() > 0.5
    form[0, 4:8, :8] = True
    settled = rivals(three(), pair(1.0), form).settle(claims().flip(0))
    # Column 4 is CLEAR cells from the second; the first claims nothing there and gets what that does.
    assert (settled[0, 4:8, 4] == -1).all() and (settled[1, 4:8, 4] == -1 - LOST).all()
    form[0, 4:8, 8:12] = True
    before = rivals(three(), pair(1.0), form).settle(claims())
    # Where the second is in view it is the second's, whatever is behind it.
    assert (before[1, 4:8, 8:12] == 5).all() and (before[0, 4:8, 8:12] == 5 - LOST).all()


def test_what_moves_as_the_other_does_goes_to_that() -> None:
    """Midway between the two, of a picture in which one of them moves by a cell a frame."""
    moving = torch.zeros(2 * H, 2 * W)
    moving[:, 6] = 1
    alike = pair(1.0)
    for unlike, takes in (({"first": moving}, 1), ({"second": moving}, 0)):
        both = rivals(three(), alike, **unlike).settle(torch.full((3, 2 * H, 2 * W), 2.0))[:2, 5]
        even = rivals(three(), alike).settle(torch.full((3, 2 * H, 2 * W), 2.0))[:2, 5]
        assert both[takes, 6] > both[1 - takes, 6] + LOST / 3
        assert torch.equal(both[:, :6], even[:, :6]) and torch.equal(both[:, 7:], even[:, 7:])


def test_motion_is_worth_a_few_cells_and_no_more() -> None:
    """Where one of them is and the other is far away, no motion takes it away from that."""
    wild = torch.full((2 * H, 2 * W), 50.0)
    settled = rivals(three(), pair(1.0), first=wild).settle(torch.full((3, 2 * H, 2 * W), 2.0))
    assert (settled[0, 4:8, :2] > settled[1, 4:8, :2]).all()


def test_what_is_new_beside_one_that_is_whole_in_view_is_its_likes() -> None:
    """A head comes out beside the first, which is in view as it always was, two cells away."""
    form = three() > 0.5
    form[1, 4:8, 12:16] = True  # half of the second is hidden
    for whole, takes in ((True, 1), (False, 0)):
        form[0, 8:12, :4] = not whole
        settled = rivals(three(), pair(1.0), form).settle(torch.full((3, 2 * H, 2 * W), 2.0))
        assert settled[takes, 5, 5] > settled[1 - takes, 5, 5] + 1
