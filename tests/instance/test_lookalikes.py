from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance.lookalikes import as_look_alikes


def drawn(h: int, w: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key = (F.normalize(torch.randn(1, 32, h, w, generator=generator), dim=1) for _ in range(2))
    return query, key, torch.randn(1, count, h, w, generator=generator)


@pytest.mark.parametrize("size", [(3, 5), (20, 24)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 11.0, 200.0])
def test_a_softmax_over_all_places(size: tuple[int, int], count: int, scale: float) -> None:
    query, key, labels = drawn(*size, count)
    cosines = torch.einsum("bkhw,bkyx->bhwyx", query.double(), key.double())
    weights = (scale * cosines).flatten(3).softmax(3)
    expected = torch.einsum("bhwp,bnp->bnhw", weights, labels.double().flatten(2)).float()
    found = as_look_alikes(query, key, torch.tensor(scale), labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_all_that_is_given() -> None:
    query, key, labels = (maps.requires_grad_() for maps in drawn(20, 24, 1))
    scale = torch.tensor(5.0, requires_grad=True)
    as_look_alikes(query, key, scale, labels).square().sum().backward()
    for given in (query, key, labels, scale):
        assert given.grad is not None and bool(given.grad.abs().sum() > 0)
