"""Synthetic clips: masks follow the pixels, motion is smooth, and each wanted thing occurs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segspn.data import Clip, ClipConfig, DataConfig, Stills, draw_clip, open_data
from segspn.data.layers import ThinPlate
from segspn.errors import InputError

PLAIN = ClipConfig(
    size=96, frames=4, objects=1, distractor=0, occluder=0, blur=0, light=0, shade=0, leave=0, paste=1
)


def write(root: Path, images: Sequence[np.ndarray], mask: np.ndarray) -> Stills:
    for sub in ("images", "masks"):
        (root / "s" / sub).mkdir(parents=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(root / f"s/images/{i}.jpg"), image)
        cv2.imwrite(str(root / f"s/masks/{i}.png"), mask)
    return open_data([DataConfig(root="s")], root)


@pytest.fixture
def discs(tmp_path: Path) -> Stills:
    """Two white discs on black, objects 1 and 7."""
    mask = np.zeros((140, 180), np.uint8)
    cv2.circle(mask, (60, 60), 35, 1, -1)
    cv2.circle(mask, (135, 90), 28, 7, -1)
    image = np.where(mask[..., None] > 0, 255, 0).repeat(3, 2).astype(np.uint8)
    return write(tmp_path, [image] * 4, mask)


def clips(stills: Stills, config: ClipConfig, count: int = 12) -> list[Clip]:
    return [draw_clip(stills, np.random.default_rng((3, k)), config) for k in range(count)]


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_masks_follow_the_pixels(discs: Stills, blur: float) -> None:
    """Of the background's own objects: wherever the label is, it is bright, and nowhere else."""
    for clip in clips(discs, replace(PLAIN, paste=0, objects=2, bend=0.1, blur=blur)):
        assert clip.images.shape == (4, 96, 96, 3) and clip.labels.shape == (4, 96, 96)
        assert clip.images.dtype == clip.labels.dtype == np.uint8
        bright, labelled = clip.images.mean(3) > 127, clip.labels > 0
        if clip.seen == 2:  # else the other disc is bright and unlabelled
            assert (bright != labelled).mean() < 0.03
        assert not (labelled & ~bright).mean() > 0.03


def test_pasted_masks_follow_the_pixels(tmp_path: Path) -> None:
    """A red box: all that is labelled is red. (The background's own box is red and unlabelled.)"""
    mask = np.zeros((120, 120), np.uint8)
    mask[30:90, 20:100] = 5
    image = np.zeros((120, 120, 3), np.uint8)
    image[mask > 0] = (0, 0, 255)  # red, BGR
    stills = write(tmp_path, [image] * 4, mask)
    for clip in clips(stills, replace(PLAIN, bend=0.1, zoom=2.0)):
        red = clip.images[..., 0] > 127
        assert (clip.labels > 0).any()
        assert ((clip.labels > 0) & ~red).mean() < 0.02


def test_the_generator_alone_decides(discs: Stills) -> None:
    one, two = (draw_clip(discs, np.random.default_rng(9), ClipConfig(size=64)) for _ in range(2))
    assert np.array_equal(one.images, two.images) and np.array_equal(one.labels, two.labels)


def test_ids_are_contiguous_and_those_of_the_first_frame_come_first(discs: Stills) -> None:
    late = 0
    for clip in clips(discs, ClipConfig(size=64, frames=6, leave=1.0, paste=1.0), 25):
        ids = set(np.unique(clip.labels)) - {0}
        assert ids == set(range(1, len(ids) + 1))
        assert set(np.unique(clip.labels[0])) - {0} == set(range(1, clip.seen + 1)) != set()
        late += len(ids) > clip.seen
    assert late > 1, "some objects enter"


def test_objects_leave_pass_behind_and_come_back(discs: Stills) -> None:
    def areas(config: ClipConfig) -> np.ndarray:
        return np.stack([(c.labels == 1).mean((1, 2)) for c in clips(discs, config, 20)])

    stay = areas(replace(PLAIN, frames=8, fast=0.02))
    assert (stay > 0).mean() > 0.97
    left = areas(replace(PLAIN, frames=8, fast=0.3, leave=1.0))
    assert (left[:, -1] == 0).sum() >= 2
    assert ((left.min(1) < 0.1 * left[:, 0]) & (left[:, -1] > 0.3 * left[:, 0])).any()
    hidden = areas(replace(PLAIN, frames=8, fast=0.02, occluder=1.0))
    assert hidden.mean() < 0.93 * stay.mean()


def test_motion_is_smooth(discs: Stills) -> None:
    """The centre of an object moves on as it moved: second differences are small beside first ones."""
    config = replace(PLAIN, frames=12, slow=0.03, fast=0.04, camera=0.0)
    steps, turns = [], []
    for clip in clips(discs, config):
        at = np.array([np.argwhere(f == 1).mean(0) for f in clip.labels if (f == 1).sum() > 50])
        if len(at) == 12:
            steps += np.hypot(*np.diff(at, 1, 0).T).tolist()
            turns += np.hypot(*np.diff(at, 2, 0).T).tolist()
    assert len(steps) > 40
    assert np.mean(steps) > 0.5 and np.mean(turns) < 0.6 * np.mean(steps)


def test_a_distractor_is_like_the_object_but_unlabelled(discs: Stills) -> None:
    config = replace(PLAIN, camera=0.0)
    white = [
        np.mean([((c.images[..., 0] > 127) & (c.labels == 0)).mean() for c in clips(discs, x, 20)])
        for x in (config, replace(config, distractor=1.0))
    ]
    assert white[1] > white[0] + 0.02


def test_light_changes_along_a_clip(discs: Stills) -> None:
    base = replace(PLAIN, slow=1e-6, fast=1e-6, bend=0.0, frames=5)
    still, lit = (clips(discs, replace(base, light=x), 5) for x in (0.0, 0.3))
    assert all(np.ptp(c.images.mean((1, 2, 3))) < 1 for c in still)
    assert sum(np.ptp(c.images.mean((1, 2, 3))) > 3 for c in lit) >= 3


def test_a_thin_plate_goes_through_its_control_points() -> None:
    plate = ThinPlate((80, 40), 3)
    control = np.random.default_rng(0).normal(0, 5, (9, 2))
    assert np.allclose(plate.shift(plate.points * plate.unit, control), control, atol=1e-6)
    assert np.allclose(plate.shift(np.array([[13.0, 22.0]]), np.ones((9, 2)) * 4), 4)


def test_masks_without_objects_are_refused(tmp_path: Path) -> None:
    stills = write(tmp_path, [np.zeros((60, 60, 3), np.uint8)] * 4, np.zeros((60, 60), np.uint8))
    with pytest.raises(InputError, match="masks are not empty"):
        draw_clip(stills, np.random.default_rng(0), PLAIN)


def test_config_is_checked() -> None:
    with pytest.raises(ValueError, match="slow"):
        ClipConfig(slow=0.2, fast=0.1)


def test_objects_of_one_kind_start_side_by_side(tmp_path: Path) -> None:
    """Of many textures, all objects of a clip have one: they are the same cut-out."""
    rng = np.random.default_rng(1)
    mask = cv2.circle(np.zeros((140, 140), np.uint8), (70, 70), 40, 1, -1)
    colours = rng.integers(40, 255, (8, 3))
    stills = write(tmp_path, [(mask[..., None] * c).astype(np.uint8) for c in colours], mask)
    few = replace(PLAIN, objects=2, frames=1, bend=0.0)

    def spreads(config: ClipConfig) -> tuple[float, float]:
        """Mean difference of two objects' colours, and median distance of their centres."""
        colours, ways = [], []
        for clip in clips(stills, config, 60):
            if clip.seen == 2:
                own = [clip.images[0][clip.labels[0] == i].mean(0) for i in (1, 2)]
                colours.append(np.abs(own[0] - own[1]).mean())
                at = [np.argwhere(clip.labels[0] == i).mean(0) for i in (1, 2)]
                ways.append(np.linalg.norm(at[0] - at[1]))
        assert len(colours) > 8
        return float(np.mean(colours)), float(np.median(ways))

    apart, near = (spreads(replace(few, alike=a, crowd=c)) for a, c in ((0.0, 0.0), (1.0, 1.0)))
    assert near[0] < 0.8 * apart[0] and near[1] < apart[1]
