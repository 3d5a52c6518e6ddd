"""One whole net per object: independent, repeatable, saveable."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from segspn.backbone import Frame, resnet101
from segspn.foreground import AugmentConfig, FineTuneConfig, ResNetF, Samples
from segspn.instance import NetInstanceConfig, NetInstances

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CONFIG = NetInstanceConfig(fit=FineTuneConfig(steps=2, lr=1e-6))


@pytest.fixture(scope="module")
def parent() -> Iterator[ResNetF]:
    # One block a layer: the whole depth is tested with the backbone, and takes its time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet101, "_BLOCKS", (1, 1, 1, 1))
        yield ResNetF.load("random", "random", "torchvision", seed=0).requires_grad_(False)


def annotated() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((32, 32), np.int32)
    labels[4:20, 4:14], labels[10:28, 18:30] = 3, 8
    frame = np.full((32, 32, 3), 120, np.uint8)
    frame[labels == 3], frame[labels == 8] = (220, 30, 30), (30, 30, 220)
    return frame, labels


def samples(ids: tuple[int, ...]) -> Samples:
    frame, labels = annotated()
    return Samples(frame, labels, ids, AugmentConfig(copies=3), 0, CPU)


def test_an_object_is_learned_as_if_it_were_alone(parent: ResNetF) -> None:
    told: list[tuple[tuple[int, ...], int]] = []
    before = parent.head.reduce.weight.clone()
    with torch.inference_mode():  # as in a session
        both = NetInstances(parent, CONFIG, 2)
        both.fit(samples((3, 8)), 0, lambda who, step: told.append((who, step)))
        alone = NetInstances(parent, CONFIG, 1)
        alone.fit(samples((8,)), 0)
        frame = Frame(annotated()[0], CPU)
        scores = both.predict(frame)
        assert scores.shape == (2, 32, 32) and 0 <= float(scores.min()) <= float(scores.max()) <= 1
        assert not torch.equal(scores[0], scores[1])
        assert torch.equal(scores[1], alone.predict(frame)[0])
    assert told == [((0,), 1), ((0,), 2), ((1,), 1), ((1,), 2)]
    assert torch.equal(before, parent.head.reduce.weight)

    again = NetInstances(parent, CONFIG, 2)
    again.restore(both.state())
    with torch.inference_mode():
        assert torch.equal(again.predict(frame), scores)


def test_without_tuning_every_object_is_the_parents(parent: ResNetF) -> None:
    stage = NetInstances(parent, NetInstanceConfig(tune=False), 2)
    stage.fit(samples((3, 8)), 0)
    stage.restore(stage.state())
    frame = Frame(annotated()[0], CPU)
    stage.accept(frame, torch.zeros(2, 8, 8), 1)
    scores = stage.predict(frame)
    assert stage.state() == {} and torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], parent.probability(frame))
