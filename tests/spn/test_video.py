"""The video refiner: its memory helps, is bounded, and survives a restart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from segspn.backbone import load_backbone
from segspn.foreground import ParentNet
from segspn.spn import Propagation, SpnRefiner, VideoRefiner
from segspn.spn.guidance_vgg16 import Vgg16Guidance
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def refiner() -> SpnRefiner:
    backbone = load_backbone()
    parent = ParentNet(backbone.channels)
    load_weights(parent, "parent")
    return SpnRefiner.load(backbone, parent.eval(), "cpu")


def published() -> SpnRefiner:
    guidance = Vgg16Guidance.load("random", "random", "torchvision", seed=3)
    return SpnRefiner(guidance, Propagation("score", "max"))


def clip(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A textured bright square that moves over a dark ground, and its labels."""
    rng = np.random.default_rng(0)
    ground = rng.integers(20, 70, (96, 128, 3))
    thing = rng.integers(150, 250, (40, 40, 3))
    frames, labels = [], []
    for t in range(count):
        image, label = ground.copy(), np.zeros((96, 128), np.int32)
        rows, columns = slice(24, 64), slice(30 + 3 * t, 70 + 3 * t)
        image[rows, columns], label[rows, columns] = thing, 1
        frames.append(image.astype(np.uint8))
        labels.append(label)
    return frames, labels


def scores(label: np.ndarray, *ids: int) -> np.ndarray:
    return np.stack([label == i for i in ids or (1,)]).astype(np.float32)


def run(refiner: VideoRefiner, frames: list[np.ndarray], labels: list[np.ndarray]) -> list[np.ndarray]:
    out = []
    for frame, label in zip(frames, labels, strict=True):
        out.append(refiner.step(frame, scores(label)))
        refiner.accept(frame, (out[-1][0] > 0.5).astype(np.int32), (1,))
    return out


def test_restored_it_goes_on_as_if_nothing_had_happened(refiner: SpnRefiner) -> None:
    frames, labels = clip(6)
    whole = run(VideoRefiner(refiner, 1), frames, labels)
    first = VideoRefiner(refiner, 1)
    run(first, frames[:3], labels[:3])
    second = VideoRefiner(refiner, 1)
    second.restore({k: v.clone() for k, v in first.state().items()})
    for a, b in zip(run(second, frames[3:], labels[3:]), whole[3:], strict=True):
        assert np.array_equal(a, b)


def test_motion_between_frames_is_known_once_there_are_two(refiner: SpnRefiner) -> None:
    frames, labels = clip(3)
    video = VideoRefiner(refiner, 1)
    moved = []
    for frame, label in zip(frames, labels, strict=True):
        video.step(frame, scores(label))
        moved.append(video.motion())
        video.accept(frame, label, (1,))
    assert moved[0] is None
    for t, motion in enumerate(moved[1:], 1):
        assert motion is not None and motion.shape == (2, 24, 32)
        x, y = np.median(motion[:, labels[t][2::4, 2::4] == 1], 1)  # 3 pixels to the right
        assert abs(x + 3 / 4) < 0.15 and abs(y) < 0.15


def test_a_cut_is_known_and_only_a_cut(refiner: SpnRefiner) -> None:
    frames, labels = clip(3)
    turned = np.ascontiguousarray(frames[2][::-1, ::-1] // 2 + 128)
    turned[:, :64] = (20, 160, 40)  # a scene of its own
    video, told = VideoRefiner(refiner, 1), []
    for frame in (*frames, turned, turned):
        video.step(frame, scores(labels[0]))
        resumed = VideoRefiner(refiner, 1)
        resumed.restore(video.state())
        resumed.step(frame, scores(labels[0]))
        assert resumed.cut() == video.cut()
        told.append(video.cut())
        video.accept(frame, labels[0], (1,))
    assert told == [False, False, False, True, False]
    assert not VideoRefiner(published(), 1).cut()


def test_objects_that_differ_are_told_from_look_alikes(refiner: SpnRefiner) -> None:
    """Of three objects the second is a copy of the first, the third, which comes later, is another."""
    rng = np.random.default_rng(1)
    ground = rng.integers(20, 70, (96, 256, 3)).astype(np.uint8)
    thing = cv2.GaussianBlur(rng.integers(0, 255, (48, 48, 3)).astype(np.uint8), (0, 0), 3)
    two, labels = ground.copy(), np.zeros((96, 256), np.int32)
    for i, left in ((1, 16), (2, 96)):
        two[24:72, left : left + 48], labels[24:72, left : left + 48] = thing, i
    three, more = two.copy(), labels.copy()
    three[24:72, 192:240], more[24:72, 192:240] = (230, 40, 20), 3
    video = VideoRefiner(refiner, 3)
    assert video.alike() == [(1, 0), (2, 0), (2, 1)]  # who knows?
    video.accept(two, labels, (1, 2, 3))
    assert video.alike() == [(1, 0), (2, 0), (2, 1)]
    for _ in range(3):
        video.accept(three, more, (1, 2, 3))
    assert video.alike() == [(1, 0)]
    resumed = VideoRefiner(refiner, 3)
    resumed.restore(video.state())
    assert resumed.alike() == [(1, 0)]
    assert VideoRefiner(published(), 3).alike() is None


def test_memory_is_bounded(refiner: SpnRefiner) -> None:
    frames, labels = clip(8)
    video = VideoRefiner(refiner, 1)
    sizes = []
    for _ in range(3):
        run(video, frames, labels)
        sizes.append(sum(v.numel() for v in video.state().values()))
    assert sizes[1] == sizes[2]


def test_what_is_not_there_is_left_alone(refiner: SpnRefiner) -> None:
    frames, labels = clip(2)
    video = VideoRefiner(refiner, 2)
    nothing = np.zeros((2, 96, 128), np.float32)
    assert np.array_equal(video.step(frames[0], nothing), nothing)
    video.accept(frames[0], np.zeros((96, 128), np.int32), (1, 2))
    entering = scores(labels[1], 1, 2)
    refined = video.step(frames[1], entering)
    assert np.array_equal(refined[1], entering[1])
    overlap = (refined[0] > 0.5) & (labels[1] == 1)
    assert overlap.sum() > 0.9 * (labels[1] == 1).sum()


def test_an_annotated_frame_is_remembered_without_a_step(refiner: SpnRefiner) -> None:
    frames, labels = clip(2)
    video = VideoRefiner(refiner, 1)
    video.accept(frames[0], labels[0], (1,))
    worse = labels[1].copy()
    worse[24:64, 50:60] = 0  # a gap across the object
    alone = VideoRefiner(refiner, 1).step(frames[1], scores(worse))[0]
    helped = video.step(frames[1], scores(worse))[0]
    gap = (slice(24, 64), slice(50, 60))
    assert helped[gap].mean() > alone[gap].mean()


def test_memory_is_tidied_with_every_frame(
    refiner: SpnRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a memory too: freed memory is kept from frame to frame, and somebody must give it back."""
    calls = []
    monkeypatch.setattr("segspn.spn.video.tidy", lambda: calls.append(1))
    frames, labels = clip(3)
    for each in (refiner, published()):
        calls.clear()
        run(VideoRefiner(each, 1), frames, labels)
        assert len(calls) == 3


def test_published_networks_have_no_memory() -> None:
    video = VideoRefiner(published(), 1)
    frames, labels = clip(1)
    video.accept(frames[0], labels[0], (1,))
    refined = video.step(frames[0], scores(labels[0]))
    assert refined.shape == (1, 96, 128)
    assert "last" not in video.state() and torch.is_tensor(video.state()["index"])
