from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segspn.errors import InputError
from segspn.video import (
    davis_palette,
    needs_wide,
    read_labels,
    read_score_map,
    replacing,
    write_labels,
    write_mask,
    write_picture,
    write_score_map,
)

LABELS = np.arange(20 * 30, dtype=np.int32).reshape(20, 30) % 255


def test_the_palette_is_that_of_voc() -> None:
    palette = davis_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)}
    known |= {9: (192, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, colour in known.items():
        assert tuple(palette[index]) == colour
    assert len({tuple(c) for c in palette}) == 256


def test_label_maps_round_trip_as_palette_png(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.png", LABELS)
    back = read_labels(tmp_path / "a.png")
    assert back.dtype == np.int32 and np.array_equal(back, LABELS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), davis_palette()[LABELS])


def test_wide_label_maps_round_trip_as_16_bit_grey(tmp_path: Path) -> None:
    wide = LABELS * 257
    write_labels(tmp_path / "a.png", wide)
    assert np.array_equal(read_labels(tmp_path / "a.png"), wide)
    # A frame in which only small ids show keeps the format of its video.
    write_labels(tmp_path / "b.png", LABELS, wide=True)
    assert np.array_equal(read_labels(tmp_path / "b.png"), LABELS)
    for name in "ab":
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.mode.startswith("I")
    assert needs_wide((1, 255)) and not needs_wide((1, 254)) and not needs_wide(())


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for labels, wide in [(LABELS + 1, False), (LABELS - 1, None), (LABELS * 300, True)]:
        with pytest.raises(ValueError, match="ids in 0"):
            write_labels(tmp_path / "a.png", labels, wide)
    assert not list(tmp_path.iterdir())


def test_reading_keeps_raw_values(tmp_path: Path) -> None:
    grey = np.where(LABELS > 9, 255, LABELS).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_labels(tmp_path / "grey.png"), grey)
    Image.fromarray(grey > 5).save(tmp_path / "bit.png")
    assert np.array_equal(read_labels(tmp_path / "bit.png"), grey > 5)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match=r"rgb\.png is RGB"):
        read_labels(tmp_path / "rgb.png")


def test_score_maps_round(tmp_path: Path) -> None:
    score = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    write_score_map(tmp_path / "a.png", score)
    back = read_score_map(tmp_path / "a.png")
    assert back.dtype == np.uint8
    assert np.array_equal(back, np.round(255 * score.astype(np.float64)))
    for bad in (score * 1.1, score - 0.1, np.where(score > 0.5, np.nan, score)):
        with pytest.raises(ValueError, match="0..1"):
            write_score_map(tmp_path / "b.png", bad)


def test_score_maps_with_a_palette_are_read_by_index(tmp_path: Path) -> None:
    index = (LABELS % 256).astype(np.uint8)
    image = Image.fromarray(index)
    image.putpalette(davis_palette().tobytes())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_score_map(tmp_path / "a.png"), index)
    Image.fromarray(index > 99).save(tmp_path / "b.png")
    assert np.array_equal(read_score_map(tmp_path / "b.png"), 255 * (index > 99))
    Image.fromarray(index.astype(np.uint16) * 257).save(tmp_path / "c.png")
    assert np.array_equal(read_score_map(tmp_path / "c.png"), index)


def test_masks_are_black_and_white(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", LABELS > 100)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), 255 * (LABELS > 100))
    with pytest.raises(ValueError, match="bool"):
        write_mask(tmp_path / "b.png", LABELS)


def test_pictures_keep_alpha(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    write_picture(tmp_path / "a.png", rgba)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), rgba)


def test_a_failed_rename_leaves_the_target_and_no_temporary(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")

    def refuse(source: object, destination: object) -> None:
        assert Path(str(source)).stat().st_size > 0
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=rf"a\.png in the folder {tmp_path}: No space left"):
        write_labels(target, LABELS)
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_write_that_the_system_cuts_short_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(InputError, match=str(tmp_path)):
            write_picture(tmp_path / "a.png", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in the folder .*nowhere"):
        write_labels(tmp_path / "nowhere" / "a.png", LABELS)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"in the folder .*file"):
        write_labels(tmp_path / "file" / "a.png", LABELS)


def test_other_exceptions_pass_through_and_clean_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
