"""The refiner on whole frames: places, and frames that are looked at smaller."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segspn.backbone import ALIGN, Frame, load_backbone
from segspn.foreground import ParentNet
from segspn.spn import SpnRefiner
from segspn.spn.refiner import AROUND, LOOK_SIDE, look, without_inventions
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def refiner() -> SpnRefiner:
    backbone = load_backbone()
    parent = ParentNet(backbone.channels)
    load_weights(parent, "parent")
    return SpnRefiner.load(backbone, parent.eval(), "cpu")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_far_from_an_object_scores_stay(refiner: SpnRefiner) -> None:
    scores = torch.zeros(2, 64, 448)
    scores[0, 20:40, 10:30] = 1
    scores[1, 20:40, 400:430] = 1
    refined = refiner.refine(Frame(noise(64, 448), torch.device("cpu")), scores)
    assert refined.shape == (2, 64, 448)
    reach = 30 + AROUND + 32  # places start and end at multiples of 32
    assert (refined[0, :, reach:] < 0.01).all()
    assert not torch.equal(refined[0, :, :30], scores[0, :, :30])


def test_an_object_is_refined_as_if_it_were_alone(refiner: SpnRefiner) -> None:
    """Up to what guidance sees across the border of the window that holds all objects."""
    scores = torch.zeros(2, 96, 320)
    scores[0, 20:70, 20:60] = 1
    scores[1, 20:70, 240:290] = 1
    frame = Frame(noise(96, 320), torch.device("cpu"))
    together, alone = refiner.refine(frame, scores), refiner.refine(frame, scores[:1])
    assert (together[0] - alone[0]).abs()[:, :80].max() < 0.05


def test_coarse_scores_come_out_at_full_size_and_nothing_far_away(refiner: SpnRefiner) -> None:
    frame = Frame(noise(256, 320), torch.device("cpu"))
    scores = torch.full((2, 64, 80), 0.01)
    scores[0, 4:10, 4:10] = 0.95
    refined = refiner.refine(frame, scores)
    assert refined.shape == (2, 256, 320) and refined[0, 16:40, 16:40].max() > 0.5
    far = 40 + AROUND + ALIGN
    assert (refined[0, far:] == 0).all() and (refined[0, :, far:] == 0).all() and (refined[1] == 0).all()


def test_nothing_to_refine_is_handed_on(refiner: SpnRefiner) -> None:
    frame = Frame(noise(40, 50), torch.device("cpu"))
    refined = refiner.refine(frame, torch.zeros(1, 64, 64))
    assert refined.shape == (1, 40, 50) and refined.max() < 0.01


def test_large_frames_are_looked_at_smaller_and_answered_in_full(refiner: SpnRefiner) -> None:
    image = noise(64, 2 * LOOK_SIDE)
    assert look(image, torch.device("cpu")).size == (32, LOOK_SIDE)
    scores = np.zeros((1, 64, 2 * LOOK_SIDE), np.float32)
    scores[0, 10:50, 100:200] = 1
    refined = refiner.refine_pixels(image, scores)
    assert refined.shape == scores.shape
    assert np.array_equal(refined[..., 1000:], scores[..., 1000:])
    both = (refined > 0.5) & (scores > 0.5)
    assert both.sum() > 0.5 * (scores > 0.5).sum()


def test_regions_may_grow_but_not_come_from_nothing() -> None:
    given, refined = np.zeros((2, 1, 20, 40), np.float32)
    given[0, 5:10, 5:10] = 1
    refined[0, 5:15, 5:18] = 0.9  # grown
    refined[0, 5:10, 30:35] = 0.8  # invented
    wanted = refined.copy()
    wanted[0, 5:10, 30:35] = 0
    assert np.array_equal(without_inventions(refined, given), wanted)
    assert np.array_equal(without_inventions(np.zeros_like(given), given), np.zeros_like(given))
