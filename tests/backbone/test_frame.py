from __future__ import annotations

import numpy as np
import torch

from segspn.backbone import ALIGN, Frame, label_shares

CPU = torch.device("cpu")


def test_frames_are_padded_by_their_edges_and_cropped_again() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    frame = Frame(pixels, CPU)
    assert frame.image.shape == (1, 3, 64, 64) and ALIGN == 32
    assert torch.equal(frame.crop(frame.image)[0], torch.from_numpy(pixels).permute(2, 0, 1).float())
    assert torch.equal(frame.image[..., 33:, :50], frame.image[..., 32:33, :50].expand(1, 3, 31, 50))
    assert frame.crop(torch.zeros(2, 16, 16), stride=4).shape == (2, 9, 13)


def test_views_and_frames_that_need_no_padding_are_read_alike() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    image = Frame(pixels, CPU).image
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(Frame(pixels[:, ::-1], CPU).image, image.flip(3))


def test_once_makes_a_thing_once() -> None:
    frame = Frame(np.zeros((32, 32, 3), np.uint8), CPU)
    made: list[int] = []
    for _ in range(2):
        assert frame.once("thing", lambda: made.append(1) or 7) == 7  # type: ignore[func-returns-value]
    assert made == [1]


def test_label_shares_of_a_half_covered_cell() -> None:
    labels = np.zeros((32, 32), np.int32)
    labels[:4, :2] = 9
    labels[:4, 4:8] = 300
    shares = label_shares(labels, (9, 300), CPU)
    assert shares.shape == (2, 8, 8)
    assert shares[:, 0, 0].tolist() == [0.5, 0.0] and shares[:, 0, 1].tolist() == [0.0, 1.0]
    assert float(shares.sum()) == 1.5
