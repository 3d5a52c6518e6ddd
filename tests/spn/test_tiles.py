"""Propagation tile by tile against the whole map."""

from __future__ import annotations

import pytest
import torch

from segspn.spn import propagate, propagate_tiles
from segspn.spn.reference import MERGES


def make(total: float = 1.0, objects: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps in 0..1 and gates, not negative, that sum to `total` at each pixel."""
    torch.manual_seed(0)
    gates = torch.rand(1, 4, 3, 37, 53, dtype=torch.float64)
    maps = torch.rand(1, objects, 37, 53, dtype=torch.float64).round()
    return maps, total * gates / gates.sum(2, keepdim=True)


def window_of(gates: torch.Tensor):  # type: ignore[no-untyped-def]
    return lambda rows, columns: gates[..., rows, columns]


@pytest.mark.parametrize("merge", MERGES)
def test_a_halo_as_large_as_the_map_changes_nothing(merge: str) -> None:
    x, gates = make()
    found = propagate_tiles(x, window_of(gates), tile=16, halo=53, merge=merge)
    assert torch.equal(found, propagate(x, gates, merge=merge))


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("merge", ["max", "mean"])
@pytest.mark.parametrize("halo", [0, 3, 8])
@pytest.mark.parametrize("total", [0.5, 0.9])
def test_error_bound(rounds: int, merge: str, halo: int, total: float) -> None:
    x, gates = make(total)
    whole = propagate(x, gates, rounds=rounds, merge=merge)
    found = propagate_tiles(x, window_of(gates), tile=16, halo=halo, rounds=rounds, merge=merge)
    error = (found - whole).abs().max().item()
    assert 0 < error <= rounds * total ** (halo // rounds + 1)


def test_the_bound_is_reached() -> None:
    """One gate of s in one direction over a step at the tile's edge: what is lost is s^(halo+1)."""
    x = torch.zeros(1, 1, 1, 40, dtype=torch.float64)
    x[..., :10] = 1
    gates = torch.zeros(1, 4, 3, 1, 40, dtype=torch.float64)
    gates[:, 0, 1] = 0.5
    whole = propagate(x, gates)
    found = propagate_tiles(x, window_of(gates), tile=10, halo=0)
    assert (whole - found).abs().max().item() == 0.5
    found = propagate_tiles(x[..., 7:], window_of(gates[..., 7:]), tile=6, halo=3)
    assert (whole[..., 7:] - found).abs().max().item() == pytest.approx(0.5**4)


def test_gates_are_asked_for_one_window_at_a_time() -> None:
    x, gates = make()
    asked = []

    def gates_of(rows: slice, columns: slice) -> torch.Tensor:
        asked.append((rows.start, rows.stop, columns.start, columns.stop))
        return gates[..., rows, columns]

    propagate_tiles(x, gates_of, tile=20, halo=4)
    assert asked == [
        (r0, r1, c0, c1) for r0, r1 in [(0, 24), (16, 37)] for c0, c1 in [(0, 24), (16, 44), (36, 53)]
    ]


def test_gates_of_each_map_and_no_maps() -> None:
    x, gates = make()
    own = torch.stack((gates, gates.flip(2)), 1)
    found = propagate_tiles(x, window_of(own), tile=30, halo=53)
    assert torch.equal(found, propagate(x, own))
    x, gates = make(objects=0)
    assert propagate_tiles(x, window_of(gates), tile=30).shape == (1, 0, 37, 53)


@pytest.mark.parametrize("sizes", [{"tile": 0}, {"halo": -1}])
def test_refuses(sizes: dict[str, int]) -> None:
    x, gates = make()
    with pytest.raises(ValueError, match="tile must be at least 1"):
        propagate_tiles(x, window_of(gates), **sizes)
    with pytest.raises(ValueError, match="gates must be"):
        propagate_tiles(x, lambda rows, columns: gates, tile=16, halo=2)
    with pytest.raises(ValueError, match="x must be"):
        propagate_tiles(x[0], window_of(gates))
