"""A small synthetic DAVIS: two sequences of moving shapes, written in its layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = (48, 64)


@dataclass(frozen=True)
class Dataset:
    """Where a dataset and its results lie, and what they hold: sequence -> labels (T, H, W)."""

    root: Path
    results: Path
    truth: Mapping[str, np.ndarray]
    found: Mapping[str, np.ndarray]


Writer = Callable[..., Dataset]


def save_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def disk(centre: tuple[float, float], radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def moving(frames: int, ids: tuple[int, ...], seed: int, shift: float = 0.0) -> np.ndarray:
    """Disks, one per id, on their way over the image; ``shift`` moves them off their truth."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((frames, *SIZE), np.int32)
    for label in ids:
        start, speed = rng.uniform(8, 40, 2), rng.uniform(-0.8, 0.8, 2)
        radius = rng.uniform(5, 9)
        for t in range(frames):
            y, x = start + speed * t + shift * t
            labels[t][disk((y, x), radius)] = label
    return labels


@pytest.fixture
def write_davis(tmp_path: Path) -> Writer:
    """Writes sequences of truth and of results; the list of the subset ``val`` names them all."""

    def write(
        truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], year: int = 2017
    ) -> Dataset:
        root, results = tmp_path / "davis", tmp_path / "results"
        for name, stack in truth.items():
            for t, labels in enumerate(stack):
                save_labels(root / "Annotations" / "480p" / name / f"{t:05d}.png", labels)
                frame = root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg"
                frame.parent.mkdir(parents=True, exist_ok=True)
                frame.touch()
        for name, stack in found.items():
            for t, labels in enumerate(stack):
                save_labels(results / name / f"{t:05d}.png", labels)
        image_set = root / "ImageSets" / str(year) / "val.txt"
        image_set.parent.mkdir(parents=True)
        image_set.write_text("".join(f"{name}\n" for name in truth))
        return Dataset(root, results, truth, found)

    return write


@pytest.fixture
def davis(write_davis: Writer) -> Dataset:
    """Two sequences, the second with three objects and ids that leave gaps."""
    truth = {"one": moving(9, (1,), seed=1), "three": moving(12, (2, 5, 9), seed=2)}
    found = {
        "one": moving(9, (1,), seed=1, shift=0.3),
        "three": moving(12, (2, 5, 9), seed=2, shift=-0.4),
    }
    return write_davis(truth, found)
