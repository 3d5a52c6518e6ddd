from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``my_data``: a few noisy photographs of one box each."""
    rng = np.random.default_rng(0)
    for sub in ("images", "masks"):
        (tmp_path / "my_data" / sub).mkdir(parents=True)
    for i in range(4):
        image = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        mask = np.zeros((120, 160), np.uint8)
        mask[30:90, 40:110] = 1
        cv2.imwrite(str(tmp_path / f"my_data/images/{i:03d}.jpg"), image)
        cv2.imwrite(str(tmp_path / f"my_data/masks/{i:03d}.png"), mask)
    return tmp_path
