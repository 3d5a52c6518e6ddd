from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from segspn.backbone.frame import Frame
from segspn.instance.motion import carry, flow, grey, half_grey


def texture(height: int = 128, width: int = 192) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def test_a_shifted_picture_was_elsewhere_by_the_shift() -> None:
    before = texture()
    now = np.roll(before, (8, -12), (0, 1))  # 8 pixels down, 12 to the left
    found = flow(half_grey(before), half_grey(now))
    assert found.shape == (2, 32, 48)
    middle = found[:, 8:-8, 8:-8].mean((1, 2))
    assert middle[0] == pytest.approx(12 / 4, abs=0.2) and middle[1] == pytest.approx(-8 / 4, abs=0.2)


def test_a_mask_is_carried_along() -> None:
    before = texture()
    now = np.roll(before, 16, 1)
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., 10:20, 12:24] = 1
    there = carry(mask, flow(half_grey(before), half_grey(now))[None])
    wanted = mask.roll(4, 3)
    both = torch.minimum(there, wanted).sum() / torch.maximum(there, wanted).sum()
    assert both > 0.85 and there.min() >= 0 and there.max() <= 1


def test_no_motion_leaves_shares_as_they_are() -> None:
    shares = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(carry(shares, torch.zeros(2, 2, 12, 16)), shares, atol=1e-5)


def test_each_clip_of_a_batch_has_its_own_motion() -> None:
    shares = torch.rand(2, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    motion = torch.zeros(2, 2, 12, 16)
    motion[1, 0] = 2.0
    there = carry(shares, motion)
    assert torch.allclose(there[0], shares[0], atol=1e-5)
    assert torch.allclose(there[1, :, :, :-2], shares[1, :, :, 2:], atol=1e-5)


def test_a_picture_too_small_to_tell_stands_still() -> None:
    frame = Frame(texture(32, 32), torch.device("cpu"))
    assert grey(frame).shape == (16, 16)
    assert not flow(grey(frame), grey(frame).flip(0)).any()
