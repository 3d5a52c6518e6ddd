from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance import matching_kernel
from segspn.instance.matching import Cells, Search, _in_torch, weighted_sums

SCALE, MARGIN = 67.0, 67.0
DOT_LANES = matching_kernel.DOT_LANES
needs_bytes = pytest.mark.skipif(not DOT_LANES, reason="this processor has no products of bytes")
BYTES = (False, pytest.param(True, marks=needs_bytes))


def drawn(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def frame(h: int, w: int, width: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Keys (h, w, K), and values (h, w, C), most of them 0 but for the last, which is 1."""
    keys = F.normalize(drawn(h, w, width, seed=seed), dim=2)
    values = drawn(h, w, channels, seed=seed + 1).relu() * (drawn(h, w, 1, seed=seed + 2) > 0.8)
    values[..., -1] = 1
    return keys, values


def in_steps(keys: Tensor) -> Tensor:
    """Unit vectors as bytes hold them."""
    step = keys.abs().max() / 127
    return (keys / step).round() * step


@pytest.mark.parametrize("width", [64, 5])
@pytest.mark.parametrize("channels", [5, 41])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("as_bytes", BYTES)
def test_sums_are_those_of_the_definition(
    width: int, channels: int, threads: int, as_bytes: bool
) -> None:
    """Windows that start and end anywhere in the kernel's tiles, next to the frame's edges and over all
    of it; what lies outside a window is left alone."""
    frames = [frame(7, 37, width, channels, seed) for seed in (0, 10)]
    cells = [Cells.of(*maps, as_bytes=as_bytes) for maps in frames]
    asked = F.normalize(drawn(width, 7, 37, seed=20), dim=0)
    windows = [(slice(0, 2), slice(3, 33)), (slice(5, 7), slice(36, 37)), (slice(2, 5), slice(0, 37))]
    nears = [(slice(0, 7), slice(0, 37)), (slice(3, 6), slice(15, 33)), (slice(6, 7), slice(16, 17))]
    searches = [
        Search(window, [(c, near) for c in cells]) for window, near in zip(windows, nears, strict=True)
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = torch.full((channels, 7, 37), -1.0)
        weighted_sums(searches, asked, SCALE, MARGIN, out)
    finally:
        torch.set_num_threads(before)
    if as_bytes:
        frames = [(in_steps(keys), values) for keys, values in frames]
        asked = in_steps(asked)
    wanted = torch.full((channels, 7, 37), -1.0, dtype=torch.float64)
    for (rows, columns), near in zip(windows, nears, strict=True):
        queries = asked[:, rows, columns].double()
        total = torch.zeros(channels, queries[0].numel(), dtype=torch.float64)
        for keys, values in frames:
            cosines = keys[near].flatten(0, 1).double() @ queries.flatten(1)
            weights = (SCALE * (cosines - 1) + MARGIN).exp()
            total += values[near].flatten(0, 1).double().T @ weights
        wanted[:, rows, columns] = total.view(channels, *queries.shape[1:])
    torch.testing.assert_close(out.double(), wanted, rtol=2e-5, atol=1e-30)
    # What other devices use.
    plain = torch.full_like(out, -1.0)
    for window, near in zip(windows, nears, strict=True):
        search = Search(window, [(Cells(*maps, (7, 37)), near) for maps in frames])
        _in_torch(search, asked, SCALE, MARGIN - SCALE, plain)
    torch.testing.assert_close(plain.double(), wanted, rtol=2e-5, atol=1e-30)


@needs_bytes
def test_as_bytes_cosines_are_right_to_a_hundredth() -> None:
    """What that is worth in weights, at the scale that keys were trained with."""
    keys, values = frame(9, 37, 64, 5, 0)
    asked = F.normalize(keys + 0.1 * drawn(9, 37, 64, seed=7), dim=2).permute(2, 0, 1).contiguous()
    whole = (slice(0, 9), slice(0, 37))
    sums = torch.zeros(2, 5, 9, 37)
    for as_bytes in (False, True):
        search = Search(whole, [(Cells.of(keys, values, as_bytes=as_bytes), whole)])
        weighted_sums([search], asked, SCALE, MARGIN, sums[int(as_bytes)])
    cosines = 1 + (sums[:, -1].log() - MARGIN) / SCALE
    error = (cosines[0] - cosines[1]).abs()
    assert 0 < error.max() < 0.01 and error.mean() < 0.002
    shares = sums[:, :-1] / sums[:, -1:]
    assert (shares[0] - shares[1]).abs().mean() < 0.01


@pytest.mark.skipif(DOT_LANES != matching_kernel.LANES, reason="this processor's vectors are short")
def test_halves_of_a_tile_for_processors_with_shorter_vectors(tmp_path: Path) -> None:
    """Compiled anew in a process that is told of them."""
    told = """
import torch
from segspn.instance import matching_kernel
matching_kernel.DOT_LANES = 8
from segspn.instance.matching import Cells, Search, _in_torch, weighted_sums
draw = torch.Generator().manual_seed(0)
keys = torch.randint(-127, 128, (5, 21, 12), generator=draw) / 127
keys[0, 0, 0] = 1.0
values, whole = torch.rand(5, 21, 3, generator=draw), (slice(0, 5), slice(0, 21))
asked, found, wanted = keys.permute(2, 0, 1).contiguous(), *torch.zeros(2, 3, 5, 21)
weighted_sums([Search(whole, [(Cells.of(keys, values, True), whole)])], asked, 5.0, 5.0, found)
_in_torch(Search(whole, [(Cells(keys, values, (5, 21)), whole)]), asked, 5.0, 0.0, wanted)
torch.testing.assert_close(found, wanted, rtol=2e-5, atol=0)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", told], check=True, env=environment)


@pytest.mark.parametrize("as_bytes", BYTES)
def test_the_best_and_the_worst_match_are_in_range(as_bytes: bool) -> None:
    """Weights run from exp(-2 scale + margin) to exp(margin): neither infinite nor 0."""
    keys = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    values = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])
    for scale, margin, least in ((80.0, 80.0, -80.0), (120.0, 75.0, -87.337)):
        out = torch.zeros(3, 1, 1)
        whole = (slice(0, 1), slice(0, 2))
        search = Search((slice(0, 1), slice(0, 1)), [(Cells.of(keys, values, as_bytes=as_bytes), whole)])
        weighted_sums([search], torch.tensor([[[1.0]], [[0.0]]]), scale, margin, out)
        found = out.flatten().double().log()
        assert found[:2].tolist() == pytest.approx([margin, least], abs=1e-3)
        assert found[2] == pytest.approx(margin, abs=1e-3)
