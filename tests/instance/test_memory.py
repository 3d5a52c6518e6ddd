from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance import Memory, MemoryConfig, matching

H, W = 3, 4
WHOLE = torch.ones(H, W, dtype=torch.bool)


def keys(seed: int) -> Tensor:
    return F.normalize(torch.randn(5, H, W, generator=torch.Generator().manual_seed(seed)), dim=0)


def shares(value: float) -> Tensor:
    return torch.full((2, 2 * H, 2 * W), float(value))


def held(memory: Memory) -> list[tuple[bool, int]]:
    return [(e.annotated, e.index) for e in memory.entries]


def test_the_bank_is_bounded_and_keeps_its_first_frame() -> None:
    memory = Memory(MemoryConfig(recent=2, every=3, annotated=2), scale=1.0)
    memory.add(keys(0), shares(1), 0, annotated=True)
    for index in range(1, 60):
        memory.add(keys(index), shares(0), index, annotated=False)
        assert len(memory.entries) <= 3 and held(memory)[0] == (True, 0)
        assert held(memory)[-1] == (False, index)  # the last frame is always there
    assert held(memory) == [(True, 0), (False, 57), (False, 59)]
    for index in (60, 70, 80):
        memory.add(keys(index), shares(1), index, annotated=True)
    annotated = [index for is_annotated, index in held(memory) if is_annotated]
    assert annotated == [0, 80] and len(memory.entries) == 4


exactly = pytest.mark.usefixtures("floats_compared")


@pytest.fixture
def floats_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are not compared as bytes, whatever the processor: that is right to a hundredth only."""
    monkeypatch.setattr(matching, "bytes_are_fast", lambda: False)


@exactly
def test_a_read_by_hand() -> None:
    """Two remembered cells, one query: softmax of scale times cosine."""
    memory = Memory(MemoryConfig(sharpness=2.0), scale=1.5)
    stored = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # cells (1, 0) and (0, 1)
    values = torch.zeros(1, 2, 4)
    values[0, :, :2] = torch.tensor([[0.1, 0.2], [0.3, 0.4]])  # the first cell's 2x2
    memory.add(stored, values, 0, annotated=True)
    query = torch.tensor([[[0.6, 0.6]], [[0.8, 0.8]]])
    read = memory.read(query, torch.ones(1, 2, dtype=torch.bool))
    a, b = math.exp(3.0 * 0.6), math.exp(3.0 * 0.8)
    wanted = torch.tensor([[0.1, 0.2], [0.3, 0.4]]) * a / (a + b)
    assert read.shape == (1, 2, 4)
    assert torch.allclose(read[0, :, :2], wanted) and torch.allclose(read[0, :, 2:], wanted)


def test_cells_outside_the_region_read_nothing() -> None:
    memory = Memory(MemoryConfig(), scale=1.0)
    memory.add(keys(0), shares(1), 0, annotated=True)
    region = torch.zeros(H, W, dtype=torch.bool)
    region[1, 1:3] = True
    read = memory.read(keys(1), region)
    assert torch.allclose(read[:, 2:4, 2:6], torch.tensor(1.0))
    assert float(read[:, :, :2].abs().sum() + read[:, :, 6:].abs().sum()) == 0


def test_a_region_in_pieces_reads_as_the_whole_does() -> None:
    memory = Memory(MemoryConfig(), scale=3.0)
    generator = torch.Generator().manual_seed(3)
    for index in range(2):
        stored = F.normalize(torch.randn(5, 8, 12, generator=generator), dim=0)
        memory.add(stored, torch.rand(2, 16, 24, generator=generator), index, annotated=True)
    region = torch.zeros(8, 12, dtype=torch.bool)
    region[1:4, :2], region[2:5, 7:9], region[7, 11] = True, True, True
    read = memory.read(stored, region)
    whole = memory.read(stored, torch.ones_like(region))
    fine = region.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.allclose(read[:, fine], whole[:, fine], atol=1e-6)
    assert (read[:, :, 10:14] == 0).all()  # between the pieces


@exactly
def test_every_second_cell_far_from_objects_stands_for_two() -> None:
    """Where neighbours are alike, thinning changes nothing; at an object nothing is left out."""
    generator = torch.Generator().manual_seed(0)
    pairs = F.normalize(torch.randn(8, 16, 12, generator=generator), dim=0)
    # (8, 16, 24): each cell is like one beside it, also across the edge of what is near the object
    stored = pairs.repeat_interleave(2, 2).roll(1, 2)
    alone = F.normalize(torch.randn(8, generator=generator), dim=0)
    stored[:, 4, 4:6] = alone[:, None]  # an object of two cells, one of them of the colour left out
    value = torch.zeros(1, 32, 48)
    value[:, 8:10, 8:12] = 1
    memory = Memory(MemoryConfig(sharpness=1.0), scale=5.0)
    memory.add(stored, value, 0, annotated=True)
    query = F.normalize(torch.randn(8, 16, 24, generator=generator), dim=0)
    query[:, 0, 0] = alone
    read = memory.read(query, torch.ones(16, 24, dtype=torch.bool))[:, ::2, ::2]
    weight = (5.0 * stored.flatten(1).T @ query.flatten(1)).softmax(0)
    assert torch.allclose(read.flatten(), weight[4 * 24 + 4 : 4 * 24 + 6].sum(0), atol=1e-6)
    cells = memory.entries[0].cells
    # The last of the values counts cells.
    assert cells.size[1] < 0.7 * 16 * 24 and float(cells.values[:, :, -1].sum()) == 16 * 24


def test_what_is_filled_in_afresh_is_so_in_recent_frames_alone() -> None:
    memory = Memory(MemoryConfig(), scale=3.0)
    for index in (0, 3, 4):
        memory.add(keys(index), shares(0.8), index, annotated=index == 0)
    memory.fill(0, lambda _: torch.zeros(1, 2 * H, 2 * W))  # it is known: nothing to fill in
    memory.fill(1, lambda _: torch.full((1, 2 * H, 2 * W), 0.3), afresh=True)
    first, second = (torch.stack([e.values[0, 0, at] for e in memory.entries]) for at in (0, 4))
    assert torch.allclose(first, torch.tensor([0.8, 0.8, 0.8]))
    assert torch.allclose(second, torch.tensor([0.8, 0.3, 0.3]))


def test_recent_frames_are_searched_nearby_only() -> None:
    """A recent frame's cell votes within the radius; an annotated one's everywhere."""
    config = MemoryConfig(radius=0)
    stored = torch.zeros(2, 12, 12)
    stored[0] = 1
    stored[:, 11, 11] = torch.tensor([0.0, 1.0])  # what is looked for, in the far corner
    value = torch.zeros(1, 24, 24)
    value[:, 22:, 22:] = 1
    query = torch.zeros(2, 12, 12)
    query[1] = 1
    found = []
    for annotated in (True, False):
        memory = Memory(config, scale=20.0)
        memory.add(stored, value, 0, annotated=annotated)
        found.append(float(memory.read(query, torch.ones(12, 12, dtype=torch.bool))[0, 0, 0]))
    assert found[0] > 0.99 and found[1] < 0.01


def test_state_round_trip() -> None:
    memory = Memory(MemoryConfig(), scale=3.0)
    for index in range(5):
        memory.add(keys(index), shares(index / 5), index, annotated=index == 0)
    state = memory.state()
    again = Memory(MemoryConfig(), scale=3.0)
    again.restore({k: v.clone() for k, v in state.items()})
    assert held(again) == held(memory)
    assert torch.equal(again.read(keys(9), WHOLE), memory.read(keys(9), WHOLE))
    for m in (memory, again):
        m.add(keys(7), shares(0.5), 5, annotated=False)
    assert torch.equal(again.read(keys(9), WHOLE), memory.read(keys(9), WHOLE))


@exactly
def test_votes_by_hand() -> None:
    """Annotated and recent frames apart, and about the cosine of the best match."""
    stored = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    query = torch.tensor([[[0.6, 0.6]], [[0.8, 0.8]]])
    whole = torch.ones(1, 2, dtype=torch.bool)
    for scale in (20.0, 100.0):  # the weights' margin is cut off for the second
        memory = Memory(MemoryConfig(sharpness=1.0), scale=scale)
        values = torch.zeros(1, 2, 4)
        values[..., 2:] = 1.0  # the second cell is the object
        memory.add(stored, values, 0, annotated=True)
        memory.add(stored, 1 - values, 1, annotated=False)
        found = memory.votes(query, whole)
        a, b = math.exp(scale * (0.6 - 0.8)), 1.0
        assert torch.allclose(found.shares[0], torch.full((1, 2, 4), b / (a + b)), atol=1e-4)
        assert torch.allclose(found.shares[1], torch.full((1, 2, 4), a / (a + b)), atol=1e-4)
        assert torch.allclose(found.shares[2], torch.full((1, 2, 4), 0.5), atol=1e-4)
        assert torch.allclose(found.shares[2], memory.read(query, whole), atol=1e-6)
        own, other, recent, else_ = (float(m[0, 0, 0]) for m in found.match)
        assert own == pytest.approx(0.8, abs=1e-3) and else_ == pytest.approx(0.8, abs=1e-3)
        if scale < 50:  # beyond, the worse match drowns in the better one's rounding
            assert other == pytest.approx(0.6, abs=1e-3) and recent == pytest.approx(0.6, abs=1e-3)
