from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_clips import make_video, picture

from segspn.errors import InputError
from segspn.video import open_source


def make_folder(folder: Path, names: list[str], size: tuple[int, int] = (48, 64)) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number, size)).save(folder / name)
    return folder


def test_a_folder_is_read_in_natural_order_both_ways(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ünï", ["f1.png", "f2.png", "f10.png"])
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._f1.png").write_bytes(b"left by macOS")
    source = open_source(folder)
    assert (len(source), source.size, source.fps) == (3, (48, 64), 24.0)
    assert source.names == ["00000", "00001", "00002"]
    for i, frame in enumerate(source.read()):
        assert np.array_equal(frame, picture(i))
        assert frame.flags.c_contiguous and frame.flags.writeable
    backward = list(source.read(2, -1, -1))
    assert [np.array_equal(f, picture(2 - i)) for i, f in enumerate(backward)] == [True] * 3
    assert [np.array_equal(f, picture(2 - i)) for i, f in enumerate(source.read(2, 0, -1))] == [
        True
    ] * 2


def test_digit_stems_are_kept_and_others_counted(tmp_path: Path) -> None:
    digits = make_folder(tmp_path / "a", ["007.png", "008.png", "012.png"])
    assert open_source(digits, start=1).names == ["008", "012"]
    mixed = make_folder(tmp_path / "b", ["007.png", "008.png", "last.png"])
    # Decided by all files, so that a selection gets the same names as the whole.
    assert open_source(mixed, end=2).names == ["00000", "00001"]


def test_stems_that_would_collide_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["001.png", "001.bmp"])
    with pytest.raises(InputError, match="share one output name"):
        open_source(folder)


def test_globs_and_single_pictures(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["1.png", "2.png", "10.png", "x.png"])
    source = open_source(f"{folder}/[0-9]*.png")
    assert source.names == ["1", "2", "10"]
    assert len(open_source(folder / "x.png")) == 1
    with pytest.raises(InputError, match=r"no image matches .*\*\.jpg"):
        open_source(f"{folder}/*.jpg")


def test_a_folder_with_brackets_in_its_name_is_a_folder(tmp_path: Path) -> None:
    assert len(open_source(make_folder(tmp_path / "take [1]", ["1.png"]))) == 1


@pytest.mark.parametrize("kind", ["folder", "video"])
@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (10, None), (3, 3), (4, 2), (0, 0), (12, 20), (0, -2)]
)
def test_empty_ranges_tell_the_number_of_frames(
    tmp_path: Path, kind: str, start: int, end: int | None
) -> None:
    if kind == "folder":
        spec = make_folder(tmp_path / "a", [f"{i}.png" for i in range(10)])
    else:
        spec = make_video(tmp_path / "a.avi", 10, "mpeg4")
    with pytest.raises(InputError, match=rf"{spec.name} has 10 frames"):
        open_source(spec, start=start, end=end)


def test_an_end_beyond_the_last_frame_means_to_the_last(tmp_path: Path) -> None:
    spec = make_video(tmp_path / "a.avi", 10, "mpeg4")
    assert len(open_source(spec, start=4, end=99)) == 6


def test_bad_strides_steps_and_indices(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["1.png", "2.png"])
    with pytest.raises(InputError, match="stride"):
        open_source(folder, stride=0)
    source = open_source(folder)
    assert list(source.read(1, 1)) == []
    with pytest.raises(ValueError, match="step"):
        source.read(0, 2, 2)
    for first, stop, step in [(0, 3, 1), (-1, 2, 1), (2, -1, -1), (1, -2, -1)]:
        with pytest.raises(IndexError):
            source.read(first, stop, step)


def test_missing_and_empty_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.mp4 does not exist"):
        open_source(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match="holds no images"):
        open_source(tmp_path)


def test_the_first_odd_size_is_named_on_opening(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["1.png", "2.png", "3.png", "4.png"])
    for name in ("3.png", "4.png"):
        Image.fromarray(picture(0, (32, 40))).save(folder / name)
    with pytest.raises(InputError, match=r"3\.png is 40x32 but 1\.png is 64x48"):
        open_source(folder)
    assert len(open_source(folder, end=2)) == 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_file_is_named_when_reached(tmp_path: Path, suffix: str, kept: float) -> None:
    folder = make_folder(tmp_path / "a", [f"{i}.{suffix}" for i in range(4)])
    bad = folder / f"2.{suffix}"
    data = bad.read_bytes()
    # TIFF keeps its directory at the end: cut from the middle, where the pixels are.
    bad.write_bytes(data[:200] + data[-300:] if suffix == "tif" else data[: int(len(data) * kept)])
    given = 0
    with pytest.raises(InputError, match=rf"2\.{suffix} is damaged"):
        for _ in open_source(folder).read():
            given += 1
    # A broken header is told on opening, before any frame.
    assert given == 2 or (suffix in ("webp", "tif") and given == 0)


def test_every_kind_of_image_becomes_8_bit_rgb(tmp_path: Path) -> None:
    frame = picture(3)
    grey = frame[..., 0]
    grey3 = np.repeat(grey[..., None], 3, axis=2)
    palette = Image.fromarray(grey).convert("P")
    palette.putpalette(
        np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256)], 1)
        .astype(np.uint8)
        .tobytes()
    )
    wide = grey.astype(np.uint16) * 257
    cases: dict[str, tuple[Image.Image, np.ndarray]] = {
        "grey.png": (Image.fromarray(grey), grey3),
        "rgba.png": (Image.fromarray(np.dstack([frame, grey])), frame),
        "wide.png": (Image.fromarray(wide), grey3),
        "wide.tif": (Image.fromarray(wide), grey3),
        "palette.png": (palette, np.stack([grey, 255 - grey, grey], 2)),
        "bits.png": (Image.fromarray(grey > 99), np.where(grey3 > 99, 255, 0)),
        "upper.PNG": (Image.fromarray(frame), frame),
    }
    for name, (image, wanted) in cases.items():
        image.save(tmp_path / name)
        (read,) = open_source(tmp_path / name).read()
        assert read.dtype == np.uint8, name
        assert np.array_equal(read, wanted), name


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    image = Image.fromarray(picture(1))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.webp", exif=exif, lossless=True)
    source = open_source(tmp_path)
    assert source.size == (64, 48)
    (read,) = source.read()
    assert np.array_equal(read, np.rot90(picture(1), -1))
