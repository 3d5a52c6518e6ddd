"""The definition itself: by hand, by its invariants, and its own hand-written backward."""

from __future__ import annotations

import pytest
import torch

from segspn.spn.reference import MERGES, backward_reference, propagate_reference


def test_one_row_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    gates = torch.full((1, 4, 3, 1, 3), 9.0)
    gates[:, :, 1] = 0.5  # on one row only the middle neighbour is inside the map
    result = propagate_reference(x, gates, merge="all", normalise=False)[0, :, 0, 0]
    assert result[0].tolist() == [1.0, 1.5, 2.75]
    assert result[1].tolist() == [2.0, 3.0, 4.0]
    assert result[2].tolist() == result[3].tolist() == [1.0, 2.0, 4.0]
    merged = propagate_reference(x, gates, merge="max", normalise=False)
    assert merged.flatten().tolist() == [2.0, 3.0, 4.0]


def test_normalised_before_the_outside_gate_is_dropped() -> None:
    x = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    gates = torch.ones(1, 4, 3, 1, 3)  # a third each; two thirds go to X on a map of one row
    result = propagate_reference(x, gates, merge="all")[0, 0, 0, 0]
    torch.testing.assert_close(result, torch.tensor([1.0, 5 / 3, 8 / 3 + 5 / 9]))


def test_three_by_three_by_hand() -> None:
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    gates = torch.zeros(1, 4, 3, 3, 3)
    gates[0, 2] = torch.tensor([0.25, 0.5, -0.25]).reshape(3, 1, 1)
    result = propagate_reference(x, gates, merge="all", normalise=False)[0, :, 0]
    # second row from (1, 2, 3): 4 + .5(1-4) - .25(2-4), 5 + .25(1-5) + .5(2-5) - .25(3-5), ...
    expected = torch.tensor([[1.0, 2.0, 3.0], [3.0, 3.0, 3.5], [5.0, 5.0, 4.75]])
    expected[2, 0] = 7 + 0.5 * (3 - 7) - 0.25 * (3 - 7)
    expected[2, 1] = 8 + 0.25 * (3 - 8) + 0.5 * (3 - 8) - 0.25 * (3.5 - 8)
    expected[2, 2] = 9 + 0.25 * (3 - 9) + 0.5 * (3.5 - 9)
    torch.testing.assert_close(result[2], expected)
    for d in (0, 1, 3):
        assert torch.equal(result[d], x[0, 0])


def test_directions_are_each_other_mirrored() -> None:
    torch.manual_seed(0)
    x, g = torch.rand(1, 1, 5, 7), torch.randn(1, 3, 5, 7)
    gates = torch.zeros(1, 4, 3, 5, 7)
    gates[:, 0] = g
    right = propagate_reference(x, gates, merge="all")[:, 0]
    gates = torch.zeros(1, 4, 3, 5, 7)
    gates[:, 1] = g.flip(-1)
    assert torch.equal(propagate_reference(x.flip(-1), gates, merge="all")[:, 1].flip(-1), right)
    gates = torch.zeros(1, 4, 3, 7, 5)
    gates[:, 2] = g.mT
    assert torch.equal(propagate_reference(x.mT, gates, merge="all")[:, 2].mT, right)
    gates[:, 3] = g.mT.flip(-2)
    up = propagate_reference(x.mT.flip(-2), gates, merge="all")[:, 3]
    assert torch.equal(up.flip(-2).mT, right)


def test_rounds_repeat() -> None:
    torch.manual_seed(0)
    x, gates = torch.rand(1, 2, 5, 6), torch.randn(1, 4, 3, 5, 6)
    once = propagate_reference(x, gates, merge="mean")
    twice = propagate_reference(x, gates, rounds=2, merge="mean")
    assert torch.equal(propagate_reference(once, gates, merge="mean"), twice)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_gradients(merge: str, normalise: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    gates = torch.randn(1, 4, 3, 3, 4, dtype=torch.float64, requires_grad=True)

    def call(x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return propagate_reference(x, gates, 1, merge, normalise)

    assert torch.autograd.gradcheck(call, (x, gates))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_backward_by_hand_is_autograd(merge: str, normalise: bool, per_channel: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    shape = (2, 3, 4, 3, 5, 7) if per_channel else (2, 4, 3, 5, 7)
    gates = (torch.randn(shape, dtype=torch.float64) * 0.5).requires_grad_()
    result = propagate_reference(x, gates, 1, merge, normalise)
    grad = torch.randn_like(result)
    expected = torch.autograd.grad(result, (x, gates), grad)
    found = backward_reference(grad, x.detach(), gates.detach(), merge, normalise)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
