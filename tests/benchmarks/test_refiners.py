"""The comparison of refiners, on a clip of two frames that count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.refiners.__main__ import main
from benchmarks.refiners.methods import CONTRIB, NOTHING, REFINERS, Refiner
from segspn.errors import InputError

SIZE = (96, 128)


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    """A bright disc that moves over a dark ground as DAVIS has it, and masks of it that are shifted."""
    root, masks = tmp_path / "davis", tmp_path / "masks"
    rng = np.random.default_rng(0)
    for stem, x in (("00000", 50), ("00001", 54), ("00002", 58), ("00003", 62)):
        truth, found = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        cv2.circle(truth, (x, 48), 28, 255, -1)
        cv2.circle(found, (x + 3, 48), 26, 1, -1)
        image = np.where(truth[..., None] > 0, (60, 120, 200), (90, 70, 40)) + rng.normal(
            0, 5, (*SIZE, 3)
        )
        for folder, name, picture in (
            (root / "JPEGImages/480p/disc", f"{stem}.jpg", np.clip(image, 0, 255).astype(np.uint8)),
            (root / "Annotations/480p/disc", f"{stem}.png", truth),
            (masks / "disc", f"{stem}.png", found),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name), picture)
    (root / "ImageSets/2016").mkdir(parents=True)
    (root / "ImageSets/2016/val.txt").write_text("disc\n")
    return root, masks


def run(clip: tuple[Path, Path], *more: str, refiners: tuple[Refiner, ...]):
    root, masks = clip
    arguments = ["--davis", str(root), "--masks", f"shifted={masks}", "--threads", "1", *more]
    return main(arguments, refiners)


def inverted(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return scores <= 0.5


def perfect(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return image[..., 0] > 140


BROKEN = Refiner("broken", "broken", "turns masks inside out", inverted)
IDEAL = Refiner("ideal", "ideal", "knows the colour", perfect)


def test_nothing_changes_nothing_and_others_are_judged(clip, capsys) -> None:
    tally = run(clip, "--degraded", refiners=(NOTHING, BROKEN, IDEAL))
    kinds = {e.kind for e in tally.entries}
    assert len(kinds) == 6 and {e.stem for e in tally.entries} == {"00001", "00002"}
    for kind in kinds:
        assert tally.change("nothing", [kind]) == 0
        assert tally.change("broken", [kind]) < -0.1
    assert tally.change("ideal", ["shifted"]) > 0.02
    assert tally.worst("broken", "shifted")[0] == "disc"
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nothing ")]
    assert rows[0].split()[2:] == ["+0.000"] * 6


def test_the_installed_refiners_keep_a_mask_in_place(clip) -> None:
    tally = run(clip, "--limit", "1", refiners=REFINERS)
    installed = {r.name for r in REFINERS if not r.missing}
    assert {e.refiner for e in tally.entries} == installed >= {"nothing", "segspn", "GrabCut, free"}
    assert min(e.j for e in tally.entries) > 0.8


def test_a_refiner_of_the_wrong_shape_is_refused(clip) -> None:
    cropped = replace(BROKEN, refine=lambda image, scores: scores[1:] > 0.5)
    with pytest.raises(TypeError, match=r"broken made bool \(95, 128\)"):
        run(clip, refiners=(NOTHING, cropped))


def test_a_missing_package_is_named(clip, capsys, monkeypatch) -> None:
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    run(clip, "--limit", "1", "--markdown", refiners=(NOTHING, replace(IDEAL, package=CONTRIB)))
    assert (
        "| ideal   | not installed: pip install opencv-contrib-python-headless"
        in capsys.readouterr().out
    )


def test_pictures_are_drawn(clip, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "plot.png", tmp_path / "panels.png"]
    run(clip, "--plot", str(files[0]), "--panels", str(files[1]), refiners=(NOTHING, BROKEN, IDEAL))
    for file in files:
        assert np.ptp(cv2.imread(str(file))) > 200


def test_a_missing_mask_is_named_before_any_work(clip) -> None:
    (clip[1] / "disc" / "00002.png").unlink()
    with pytest.raises(InputError, match=r"00002\.png"):
        run(clip, refiners=(NOTHING,))
