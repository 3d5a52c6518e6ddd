from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from segspn.backbone import Frame, label_shares
from segspn.foreground import AugmentConfig, Samples
from segspn.foreground.augment import Shot
from segspn.instance import InstanceConfig, InstanceStage, SeveralViews, View
from segspn.instance.motion import flow, grey

CPU = torch.device("cpu")
VIEWS = (View(), View(side=210), View(mirrored=True), View(side=100, mirrored=True))
SIZE = (90, 150)


def labels() -> np.ndarray:
    out = np.zeros(SIZE, np.int32)
    out[20:60, 100:140], out[50:80, 10:50] = 1, 2
    return out


def pixels() -> np.ndarray:
    return np.repeat((labels() * 100).astype(np.uint8)[..., None], 3, 2)


class Told(InstanceStage):
    """Finds the objects by their brightness, and remembers what it has been given."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.shots: Sequence[Shot] = ()

    def fit(self, samples: Samples, seed: int, on_step: object = None) -> None:
        self.shots = samples.shots

    def arrange(self, order: Sequence[int | None]) -> None:
        self.order = order

    def predict(self, frame: Frame) -> Tensor:
        grey = torch.nn.functional.avg_pool2d(frame.image[0, :1], 4)[0]
        return torch.stack(((grey - 100).abs() < 30, (grey - 200).abs() < 30)).float()

    def votes(self, frame: Frame) -> Tensor | None:
        return self.predict(frame)

    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        self.given.append(shares)

    def state(self) -> dict[str, Tensor]:
        return {"memory.last": self.given[-1], "learned": torch.ones(1)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.given = [state["memory.last"]]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_finds_things_where_they_are(view: View) -> None:
    frame = Frame(pixels(), CPU)
    seen = view.frame(frame)
    assert max(seen.size) == (view.side or 150) and view.frame(frame) is seen
    found = view.back(Told().predict(seen), frame.size)
    truth = label_shares(labels(), (1, 2), CPU)
    assert found.shape == truth.shape
    assert ((found > 0.5) != (truth > 0.5)).float().mean() < 0.03


@pytest.mark.parametrize("view", VIEWS)
def test_labels_and_shares_agree_with_the_view(view: View) -> None:
    shot = view.shot(Shot(pixels(), labels(), frozenset((1, 2))))
    assert shot.frame.shape[:2] == shot.labels.shape == view.size(SIZE)
    assert (shot.frame[..., 0] != 100 * shot.labels).mean() < 0.05
    forth = view.forth(label_shares(labels(), (1, 2), CPU), SIZE)
    direct = label_shares(shot.labels, (1, 2), CPU)
    assert forth.shape == direct.shape and (forth - direct).abs().mean() < 0.03


class Moving(Told):
    """Knows the motion of what it has seen, by `flow` from the first frame it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Tensor | None = None

    def predict(self, frame: Frame) -> Tensor:
        self.first = grey(frame) if self.first is None else self.first
        return super().predict(frame)

    def motion(self, frame: Frame) -> Tensor | None:
        return None if self.first is None else flow(self.first, grey(frame))


@pytest.mark.parametrize("view", VIEWS)
def test_motion_is_that_of_the_frame_however_it_is_looked_at(view: View) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (*SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    before = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    now = Frame(np.roll(before, (4, -6), (0, 1)), CPU)
    stage = SeveralViews((view, View()), Moving)
    assert stage.motion(now) is None
    stage.predict(Frame(before, CPU))
    found = stage.motion(now)
    assert found is not None and found.shape == (2, 24, 40)
    middle = found[:, 5:-8, 6:-10].flatten(1).median(1).values
    assert torch.allclose(middle, torch.tensor([6 / 4, -4 / 4]), atol=0.25)


class Cutting(Told):
    """Takes a dark frame for a cut; everything is like an object as far as it is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scattered = False

    def follows(self, frame: Frame) -> bool:
        return bool(frame.image.mean() > 10)

    def scatter(self) -> None:
        self.scattered = True

    def likeness(self, frame: Frame) -> Tensor | None:
        return grey(frame)[None, ::2, ::2].float() / 255


def test_the_first_look_tells_of_a_cut_and_of_likeness_for_all() -> None:
    stage = SeveralViews((View(mirrored=True), View()), Cutting)
    frame = Frame(pixels(), CPU)
    assert stage.follows(frame) and not stage.follows(Frame(np.zeros_like(pixels()), CPU))
    stage.scatter()
    assert all(look.scattered for _, look in stage.looks)  # type: ignore[attr-defined]
    found = stage.likeness(frame)
    assert found is not None and found.shape == (1, 24, 40)
    shown = frame.crop(found, 4)[0] > 50 / 255
    assert (shown != torch.from_numpy(labels() > 0)[1::4, 1::4]).float().mean() < 0.05
    assert SeveralViews(VIEWS, Told).likeness(frame) is None
    assert SeveralViews(VIEWS, Told).follows(frame)


def test_looks_are_averaged_and_told_of_the_result() -> None:
    stage = SeveralViews(VIEWS, Told)
    samples = Samples(pixels(), labels(), (1, 2), AugmentConfig(copies=1), 0, CPU)
    steps: list[tuple[tuple[int, ...], int]] = []
    stage.fit(samples, 0, lambda objects, step: steps.append((objects, step)))
    assert steps == [((0, 1), 1)]
    assert [s.shots[0].frame.shape[1] for _, s in stage.looks] == [150, 210, 150, 100]  # type: ignore[attr-defined]
    frame, truth = Frame(pixels(), CPU), label_shares(labels(), (1, 2), CPU)
    scores = stage.predict(frame)
    assert ((scores > 0.5) != (truth > 0.5)).float().mean() < 0.02
    voted = stage.votes(frame)
    assert voted is not None and 0 <= voted.min() and voted.max() <= 1 and voted.shape == truth.shape
    stage.accept(frame, truth, 1)
    other = SeveralViews(VIEWS, Told)
    state = stage.state()
    assert sum(name.startswith("memory.") for name in state) == len(VIEWS) == len(state) / 2
    other.restore(state)
    for (_, one), (_, two) in zip(stage.looks, other.looks, strict=True):
        assert torch.equal(one.given[-1], two.given[-1])  # type: ignore[attr-defined]


def test_no_view_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="views"):
        InstanceConfig(views=())
