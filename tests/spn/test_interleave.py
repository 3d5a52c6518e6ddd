from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segspn.spn.interleave import interleave


@pytest.mark.parametrize("threads", [1, 2])
def test_the_whole_and_windows(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    whole = torch.rand(1, 12, 7, 19)
    for cells in (whole, whole[..., 2:5, 3:18], whole[..., 6:, :], whole[..., :1, 18:]):
        assert torch.equal(interleave(cells), F.pixel_shuffle(cells, 2))


def test_what_does_not_lie_in_planes() -> None:
    cells = torch.rand(1, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    assert torch.equal(interleave(cells), F.pixel_shuffle(cells, 2))
