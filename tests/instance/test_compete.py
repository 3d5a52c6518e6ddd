from __future__ import annotations

import torch

from segspn.instance import compete


def test_one_object_stays_as_it_is() -> None:
    logits = torch.tensor([[[-2.0, 0.0, 3.0]]])
    assert torch.equal(compete(logits), logits)


def test_the_weaker_claim_drops_by_the_stronger() -> None:
    logits = torch.tensor([[[3.0, -1.0, 2.0]], [[1.0, -2.0, -4.0]], [[0.5, -3.0, -4.0]]])
    wanted = torch.tensor(
        [[[3.0 - 1.0, -1.0, 2.0]], [[1.0 - 3.0, -2.0, -4.0 - 2.0]], [[0.5 - 3.0, -3.0, -4.0 - 2.0]]]
    )
    assert torch.allclose(compete(logits), wanted)


def test_at_most_one_object_holds_a_pixel() -> None:
    logits = 4 * torch.randn(5, 20, 20, generator=torch.Generator().manual_seed(0))
    assert int((compete(logits) > 0).sum(0).max()) == 1
    claimed = (logits > 0).any(0)
    assert torch.equal(compete(logits).max(0).values > 0, claimed)
