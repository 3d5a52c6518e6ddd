"""Masks as a video file."""

from __future__ import annotations

import numpy as np
import pytest
from clips import SIZE, make_video, mask_labels

from segspn.errors import InputError
from segspn.video import VideoWriter, open_source


def shifted(number):
    return np.roll(mask_labels(), number, axis=1)


def write(path, pictures):
    with VideoWriter(path, 25, SIZE) as writer:
        for picture in pictures:
            if picture.ndim == 2:
                picture = np.repeat(picture[..., None], 3, axis=2)
            writer.write(picture.astype(np.uint8))
    return path


def binary(count=6):
    return [(shifted(number) > 0) * 255 for number in range(count)]


def test_black_and_white_is_true_from_half_on(read, tmp_path):
    tracks, frames = read(write(tmp_path / "masks.mp4", binary()))
    assert tracks.kind == "mask video" and tracks.ids == (1,)
    decoded = next(open_source(tmp_path / "masks.mp4").read())
    assert len(np.unique(decoded)) > 2  # the codec has blended the edges
    for number, masks in enumerate(frames):
        assert set(np.unique(masks[1])) == {0, 255}
        assert ((masks[1] > 0) != (shifted(number) > 0)).mean() < 0.02


def test_a_frame_without_the_object_has_no_mask(read, tmp_path):
    pictures = binary()
    pictures[2] = np.zeros(SIZE)
    assert [sorted(masks) for masks in read(write(tmp_path / "m.mp4", pictures))[1]][2] == []


def test_grey_is_soft(read, tmp_path):
    ramp = np.tile(np.linspace(0, 255, SIZE[1]), (SIZE[0], 1))
    tracks, frames = read(write(tmp_path / "masks.mp4", [ramp] * 6))
    assert tracks.kind == "soft mask video"
    assert np.abs(frames[3][1].astype(int) - ramp).mean() < 6


def test_a_part_of_the_frames(read, tmp_path):
    whole = write(tmp_path / "whole.mp4", binary())
    part = write(tmp_path / "part.mp4", binary()[1::2])
    for video in (whole, part):
        _, frames = read(video, start=1, stride=2)
        for masks, number in zip(frames, (1, 3, 5), strict=True):
            assert ((masks[1] > 0) != (shifted(number) > 0)).mean() < 0.02
    tracks, _ = read(whole, start=1, stride=2)
    (last,) = list(tracks.read(2))
    assert ((last[1] > 0) != (shifted(5) > 0)).mean() < 0.02


def test_videos_that_are_wrong(read, clip, tmp_path):
    with pytest.raises(InputError, match="m.mp4 has 5 frames but .*clip has 6: give a video"):
        read(write(tmp_path / "m.mp4", binary(5)))
    with pytest.raises(InputError, match="has 5 frames but .*clip has 6, of which 2 are selected"):
        read(tmp_path / "m.mp4", end=2)
    with pytest.raises(InputError, match="black.mp4 marks no object"):
        read(write(tmp_path / "black.mp4", [np.zeros(SIZE)] * 6))
    with pytest.raises(InputError, match="film.mp4 is in colour, not a video of masks"):
        read(make_video(tmp_path / "film.mp4", 6))
    small = tmp_path / "small.mp4"
    with VideoWriter(small, 25, (24, 32)) as writer:
        for _ in range(6):
            writer.write(np.full((24, 32, 3), 255, np.uint8))
    with pytest.raises(InputError, match="small.mp4 is 32x24 but 64x48 is needed"):
        read(small)
    (tmp_path / "notes.txt").write_text("no masks at all")
    with pytest.raises(InputError, match="notes.txt"):
        read(tmp_path / "notes.txt")
