from __future__ import annotations

import pytest
import torch

from segspn.foreground import ParentNet

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = {4: 3, 8: 5, 16: 4, 32: 6}


@torch.inference_mode()
def test_folding_the_standardisation_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    parent = ParentNet(CHANNELS, width=16, hidden=4, key=8).eval()
    for norm in parent.trunk.norm.values():
        norm.running_mean.normal_(0, 2, generator=generator)
        norm.running_var.uniform_(0.2, 4, generator=generator)
    features = {s: torch.randn(1, c, 64 // s, 96 // s, generator=generator) for s, c in CHANNELS.items()}
    before = parent.embed(features)
    parent.trunk.fuse()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in parent.trunk.modules())
    assert torch.allclose(parent.embed(features), before, atol=1e-4)
    parent.trunk.fuse()  # twice is once
    assert torch.allclose(parent.embed(features), before, atol=1e-4)
