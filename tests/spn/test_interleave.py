from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segspn.spn.interleave import interleave


@pytest.mark.parametrize("threads", [1, 2])
def test_the_whole_and_windows(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    whole = torch.randn(1, 12, 7, 39).contiguous(memory_format=torch.channels_last)
    for cells in (whole, whole[..., 2:5, 3:38], whole[..., 6:, :], whole[..., :1, 38:]):
        found = interleave(cells)
        torch.testing.assert_close(found, F.pixel_shuffle(cells.sigmoid(), 2), rtol=1e-5, atol=1e-6)
        assert found.is_contiguous()


def test_other_orders() -> None:
    wide = torch.rand(1, 13, 5, 6).contiguous(memory_format=torch.channels_last)
    for cells in (torch.rand(1, 4, 5, 6), wide[:, :12], wide[:, 1:]):
        found = interleave(cells)
        assert torch.equal(found, F.pixel_shuffle(cells.sigmoid(), 2)) and found.is_contiguous()
