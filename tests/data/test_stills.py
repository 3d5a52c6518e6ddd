from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segspn.data import DataConfig, Scene, Stills, open_data
from segspn.errors import InputError


def opened(root: Path, weights: dict[str, float], split: str = "train") -> Stills:
    return open_data([DataConfig(root=name, weight=w) for name, w in weights.items()], root, {}, split)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for source, count in (("a", 30), ("b", 3)):
        (tmp_path / source / "images").mkdir(parents=True)
        (tmp_path / source / "masks").mkdir()
        for i in range(count):
            image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
            mask = np.zeros((90, 120), np.uint8)
            mask[20:60, 30:70] = 1
            mask[62:80, 80:110] = 7
            cv2.imwrite(str(tmp_path / source / "images" / f"{i:03d}.jpg"), image)
            cv2.imwrite(str(tmp_path / source / "masks" / f"{i:03d}.png"), mask)
    return tmp_path


def test_split_is_a_partition(folder: Path) -> None:
    train = {s.image for s in opened(folder, {"a": 1.0}).all()}
    val = {s.image for s in opened(folder, {"a": 1.0}, "val").all()}
    assert train and val and not train & val
    assert len(train | val) == 30


def test_weights_choose_the_source_not_the_image(folder: Path) -> None:
    stills = opened(folder, {"a": 1.0, "b": 3.0})
    rng = np.random.default_rng(0)
    drawn = [stills.draw(rng).source for _ in range(400)]
    assert 0.68 < drawn.count("b") / 400 < 0.82


def test_missing_source_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        opened(folder, {"nowhere": 1.0})


def test_damaged_and_mismatched_files_are_named(folder: Path) -> None:
    still = opened(folder, {"b": 1.0}).all()[0]
    still.image.write_bytes(b"not a jpeg")
    with pytest.raises(InputError, match=still.image.name):
        still.load()
    other = opened(folder, {"a": 1.0}).all()[0]
    cv2.imwrite(str(other.mask), np.ones((10, 10), np.uint8))
    with pytest.raises(InputError, match="10x10"):
        other.load()


def test_scene_depends_on_its_seed_alone(folder: Path) -> None:
    stills = opened(folder, {"a": 1.0})

    def views() -> list[np.ndarray]:
        rng = np.random.default_rng(5)
        scene = Scene(stills, rng, 64)
        return [x for v in (scene.view(rng, 0), scene.view(rng)) for x in (v.image, v.labels)]

    for one, two in zip(views(), views(), strict=True):
        assert np.array_equal(one, two)


def test_labels_follow_the_pixels(tmp_path: Path) -> None:
    """A white object on black: wherever the label is, the view must be bright, and nowhere else."""
    (tmp_path / "s/images").mkdir(parents=True)
    (tmp_path / "s/masks").mkdir()
    mask = np.zeros((100, 100), np.uint8)
    mask[30:70, 40:80] = 1
    for i in range(8):
        cv2.imwrite(str(tmp_path / f"s/images/{i}.jpg"), np.repeat(mask[..., None] * 255, 3, 2))
        cv2.imwrite(str(tmp_path / f"s/masks/{i}.png"), mask)
    rng = np.random.default_rng(1)
    for _ in range(5):
        scene = Scene(opened(tmp_path, {"s": 1.0}), rng, 96, paste=0.0)
        view = scene.view(rng, 1.0, colour=0.0)
        bright = view.image.mean(2) > 127
        assert view.labels.any()
        # Blur and resampling touch the contour only.
        assert (bright != (view.labels > 0)).mean() < 0.02
