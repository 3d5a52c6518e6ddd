"""The default's foreground stage on frozen features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segspn.backbone import Frame, load_backbone
from segspn.foreground import AugmentConfig, FitConfig, ForegroundConfig, ParentNet
from segspn.foreground.augment import Samples
from segspn.foreground.model import HeadForeground
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A textured square that the parent has no name for, on another texture."""
    rng = np.random.default_rng(0)
    frame = rng.integers(90, 130, (96, 128, 3)).astype(np.uint8)
    labels = np.zeros((96, 128), np.int32)
    labels[32:64, 40:80] = 5
    frame[labels > 0] = (200, 40, 40)
    return frame, labels


def stage(adapt: bool) -> tuple[HeadForeground, ParentNet, Samples]:
    frame, labels = scene()
    backbone = load_backbone()
    parent = ParentNet(backbone.channels)
    load_weights(parent, "parent")
    parent.eval().requires_grad_(False)
    config = ForegroundConfig(adapt=adapt, fit=FitConfig(steps=20))
    samples = Samples(frame, labels, (5,), AugmentConfig(copies=3), 0, CPU)
    return HeadForeground(backbone, parent, config), parent, samples


@torch.inference_mode()
def test_adaptation_finds_what_was_annotated_and_never_unlearns_the_parent() -> None:
    frame, labels = scene()
    told, parent, samples = stage(adapt=True)
    told.adapt(samples, seed=0)
    found = told.predict(Frame(frame, CPU))
    inside = torch.from_numpy(labels[2::4, 2::4] > 0)
    assert found[inside].mean() > 0.8
    untold, _, _ = stage(adapt=False)
    untold.adapt(samples, seed=0)
    assert (found >= untold.predict(Frame(frame, CPU)) - 1e-5).all()


@torch.inference_mode()
def test_scores_survive_inside_the_foreground_alone() -> None:
    kept, _, _ = stage(adapt=False)
    scores = torch.full((2, 1, 3), 0.9)
    t = kept.threshold
    inside = kept.keep_inside(scores, torch.tensor([[t / 2, t, 2 * t]]))
    assert inside[:, 0].tolist() == [[0.0, 0.0, pytest.approx(0.9)]] * 2


@torch.inference_mode()
def test_a_stage_that_does_not_adapt_has_the_parents_head_and_takes_another() -> None:
    frame, _ = scene()
    told, parent, samples = stage(adapt=True)
    told.adapt(samples, seed=0)
    untold, _, _ = stage(adapt=False)
    untold.adapt(samples, seed=0)
    parents = untold.state()
    assert torch.equal(parents["head0"], parent.head.conv1.weight)
    before = untold.predict(Frame(frame, CPU))
    untold.restore({k: v.clone() for k, v in told.state().items()})
    embedding = parent.embed(Frame(frame, CPU).features(untold.backbone))
    assert torch.equal(untold.predict(Frame(frame, CPU)), told.bank.run(embedding)[0, 0].sigmoid())
    untold.restore(parents)
    assert torch.equal(untold.predict(Frame(frame, CPU)), before)


@torch.inference_mode()
def test_state_round_trip() -> None:
    frame, _ = scene()
    told, _, samples = stage(adapt=True)
    told.adapt(samples, seed=0)
    again, _, _ = stage(adapt=True)
    again.restore({k: v.clone() for k, v in told.state().items()})
    assert torch.equal(again.predict(Frame(frame, CPU)), told.predict(Frame(frame, CPU)))
