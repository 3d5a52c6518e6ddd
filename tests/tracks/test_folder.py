"""Folders of masks, as tools write them."""

from __future__ import annotations

import numpy as np
import pytest
from clips import SIZE, make_frames, make_video, mask_labels
from PIL import Image

from segspn.errors import InputError
from segspn.video import davis_palette, write_labels, write_score_map


def shifted(number: int) -> np.ndarray:
    return np.roll(mask_labels(), number, axis=1)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write_maps(folder, frames=range(6), name="{:05d}"):
    folder.mkdir(parents=True)
    for number in frames:
        write_labels(folder / f"{name.format(number)}.png", shifted(number))
    return folder


def labels_of(frames):
    """Label maps of masks that don't overlap."""
    found = []
    for masks in frames:
        labels = np.zeros(SIZE, np.int32)
        for object_id, score in masks.items():
            assert score.dtype == np.uint8 and not labels[score > 127].any()
            labels[score > 127] = object_id
        found.append(labels)
    return found


def assert_follows(frames, numbers=range(6)):
    for labels, number in zip(labels_of(frames), numbers, strict=True):
        assert np.array_equal(labels, shifted(number))


# One label map per frame


def test_palette_maps(read, tmp_path):
    tracks, frames = read(write_maps(tmp_path / "maps"))
    assert tracks.kind == "label maps" and tracks.ids == (2, 7) and tracks.notes == ()
    assert_follows(frames)


@pytest.mark.parametrize("on", [1, 255])
def test_binary_masks_are_object_1(read, tmp_path, on):
    for number in range(6):
        save(tmp_path / "maps" / f"{number:05d}.png", (shifted(number) > 0) * on)
    tracks, frames = read(tmp_path / "maps")
    assert tracks.ids == (1,)
    assert np.array_equal(frames[2][1] == 255, shifted(2) > 0)


@pytest.mark.parametrize("strength", [1.0, 0.8])
def test_shades_of_grey_are_one_soft_object(read, tmp_path, strength):
    soft = np.clip(np.hypot(*np.mgrid[-24:24, -32:32]) * -8 + 200, 0, 255) * strength
    for number in range(6):
        save(tmp_path / "alpha" / f"{number:05d}.png", np.roll(soft, number, axis=1))
    tracks, frames = read(tmp_path / "alpha")
    assert tracks.kind == "soft masks" and tracks.ids == (1,)
    assert "shades of grey" in tracks.notes[0]
    assert np.array_equal(frames[2][1], np.roll(soft, 2, axis=1).astype(np.uint8))


def test_many_objects_are_no_shades(read, tmp_path):
    labels = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 16 % 60
    for number in range(6):
        save(tmp_path / "maps" / f"{number:05d}.png", labels)
    assert read(tmp_path / "maps")[0].ids == tuple(range(1, 60))


def test_void_is_no_object_but_a_wide_id_is(read, tmp_path):
    maps = write_maps(tmp_path / "maps")
    labels = shifted(0)
    labels[0, 0] = 255
    Image.fromarray(labels.astype(np.uint8)).save(maps / "00000.png")
    assert read(maps)[0].ids == (2, 7)
    labels[1, 0] = 300
    write_labels(maps / "00001.png", labels)
    assert read(maps)[0].ids == (2, 7, 255, 300)


def test_names_of_the_frames_own_files(read, tmp_path):
    frames = make_frames(tmp_path / "named", 6)
    for file in sorted(frames.iterdir()):
        file.rename(file.with_name(f"shot_{int(file.stem) + 1}.png"))
    maps = write_maps(tmp_path / "maps", name="{}")
    for number in reversed(range(6)):
        (maps / f"{number}.png").rename(maps / f"shot_{number + 1}.png")
    tracks, found = read(maps, frames)
    assert tracks.notes == ()
    assert_follows(found)
    # The output names, which count from 0, will do as well.
    assert_follows(read(write_maps(tmp_path / "counted"), frames, start=2)[1], range(2, 6))


def test_numbers_match_whatever_their_zeros(read, tmp_path):
    tracks, found = read(write_maps(tmp_path / "maps", name="{:03d}"))
    assert tracks.notes == ()
    assert_follows(found)


@pytest.mark.parametrize("name", ["mask-{}", "prediction_{:04d}"])
def test_other_names_are_taken_in_order(read, tmp_path, name):
    tracks, found = read(write_maps(tmp_path / "maps", range(6), name))
    assert len(tracks.notes) == 1 and "were taken in order" in tracks.notes[0]
    assert_follows(found)
    # Of a part of the frames: as many masks as in the whole input, or as in the part.
    assert_follows(read(tmp_path / "maps", start=1, stride=2)[1], (1, 3, 5))
    part = write_maps(tmp_path / "part", (1, 3, 5), name)
    assert_follows(read(part, start=1, stride=2)[1], (1, 3, 5))


@pytest.mark.parametrize("start", [0, 1])
def test_masks_that_count_from_1_for_a_video_that_has_no_names(read, tmp_path, start):
    # What `ffmpeg -i film.mp4 %05d.png` calls its pictures.
    video = make_video(tmp_path / "film.mp4", 6)
    maps = write_maps(tmp_path / "maps", name="{:05d}")
    for number in reversed(range(6)):
        (maps / f"{number:05d}.png").rename(maps / f"{number + 1:05d}.png")
    tracks, found = read(maps, video, start=start)
    assert "were taken in order" in tracks.notes[0]
    assert_follows(found, range(start, 6))


def test_a_missing_frame_is_not_made_up_by_a_stray_file(read, tmp_path):
    maps = write_maps(tmp_path / "maps")
    (maps / "00003.png").rename(maps / "thumbnail.png")
    with pytest.raises(InputError, match=r"maps/00003\.png is missing: every frame needs one"):
        read(maps)


def test_frames_beside_their_masks(read, tmp_path):
    maps = write_maps(tmp_path / "maps")
    for number in range(6):
        Image.new("RGB", (64, 48)).save(maps / f"{number:05d}.jpg")
    assert_follows(read(maps)[1])


# One file per object and frame


def test_soft_maps(read, tmp_path):
    folder = tmp_path / "soft"
    folder.mkdir()
    for number in range(6):
        for object_id in (2, 7):
            if (number, object_id) != (4, 2):  # an object without a mask
                score = 0.6 * (shifted(number) == object_id)
                write_score_map(folder / f"{number:05d}_{object_id}.png", score)
    tracks, frames = read(folder)
    assert tracks.kind == "score maps" and tracks.ids == (2, 7)
    assert sorted(frames[4]) == [7] and np.array_equal(frames[3][7], 153 * (shifted(3) == 7))
    # An object of other frames is none of these.
    write_score_map(folder / "00005_9.png", score)
    assert read(folder, end=5)[0].ids == (2, 7) and read(folder)[0].ids == (2, 7, 9)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), "palette", "soft"])
def test_a_folder_per_object(read, tmp_path, values):
    # SAM 2's scripts write OUT/<video>/<object>/<frame>.png with palette indices 0 and 1.
    folder = tmp_path / "sam" / "clip"
    for number in range(6):
        for object_id in (2, 7):
            if (number, object_id) == (4, 2):
                continue
            path = folder / f"{object_id:03d}" / f"{number:05d}.png"
            mask = shifted(number) == object_id
            if values == "soft":
                save(path, np.where(mask, 200, 1))
            elif values == "palette":
                path.parent.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(mask.astype(np.uint8))
                image.putpalette(davis_palette().tobytes())
                image.save(path)
            else:
                save(path, mask * values[1])
    for given in (folder, folder.parent):
        tracks, frames = read(given)
        assert tracks.kind == "a folder per object" and tracks.ids == (2, 7) and not tracks.notes
        assert sorted(frames[4]) == [7]
        background = 1 if values == "soft" else 0
        certain = 200 if values == "soft" else 255
        assert np.array_equal(frames[3][2], np.where(shifted(3) == 2, certain, background))


def test_folders_with_names_are_numbered_and_told(read, tmp_path):
    for number in range(6):
        for object_id, name in ((2, "cat"), (7, "dog")):
            save(tmp_path / "maps" / name / f"{number:05d}.png", (shifted(number) == object_id) * 255)
    tracks, frames = read(tmp_path / "maps")
    assert tracks.ids == (1, 2)
    assert "cat is object 1, dog is object 2" in tracks.notes[0]
    assert np.array_equal(frames[5][2] > 0, shifted(5) == 7)


@pytest.mark.parametrize("layout", ["{object}/{frame:05d}.png", "{frame:05d}_{object}.png"])
def test_objects_that_count_from_0_become_1_and_up(read, tmp_path, layout):
    for number in range(6):
        for object_id, value in ((0, 2), (1, 7)):
            path = tmp_path / "maps" / layout.format(object=object_id, frame=number)
            save(path, (shifted(number) == value) * 255)
    tracks, frames = read(tmp_path / "maps")
    assert tracks.ids == (1, 2) and len(tracks.notes) == 1
    assert np.array_equal(frames[5][1] > 0, shifted(5) == 2)


# Roots


@pytest.mark.parametrize("inner", ["clip", "Annotations/480p/clip", "480p/clip"])
def test_root_of_results(read, tmp_path, inner):
    write_maps(tmp_path / "root" / "other")
    write_maps(tmp_path / "root" / inner)
    # Beside them lie, as in our own output, a contact sheet and a video.
    Image.new("RGB", (9, 9)).save(tmp_path / "root" / "clip_sheet.png")
    tracks, frames = read(tmp_path / "root")
    assert tracks.kind == "label maps" and tracks.paths == (tmp_path / "root" / inner,)
    assert_follows(frames)


def test_one_image_for_one_frame(read, tmp_path):
    image = make_frames(tmp_path / "one", 1) / "00000.png"
    write_labels(tmp_path / "mask.png", shifted(0))
    assert_follows(read(tmp_path / "mask.png", image)[1], [0])


# Bad input


def test_a_stream_can_start_anywhere(read, tmp_path):
    tracks, _ = read(write_maps(tmp_path / "maps"), start=1)
    assert_follows(list(tracks.read(3)), [4, 5])


def test_the_first_frame_needs_no_masks_where_it_is_annotated(read, tmp_path):
    maps = write_maps(tmp_path / "maps", range(1, 6))
    with pytest.raises(InputError, match=r"00000\.png is missing"):
        read(maps)
    assert_follows(read(maps, annotated=True, end=4)[1], [1, 2, 3])


def test_folders_that_are_wrong(read, tmp_path):
    def refused(told, prepare):
        folder = tmp_path / f"wrong{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        prepare(folder)
        with pytest.raises(InputError, match=told) as caught:
            read(folder)
        assert "\n" not in str(caught.value)

    def write(folder, number, labels, name="{:05d}.png"):
        save(folder / name.format(number), labels)

    def all_but(missing, name="{:05d}.png"):
        return lambda folder: [write(folder, n, shifted(n), name) for n in range(6) if n != missing]

    refused("holds no masks: give", lambda folder: None)
    refused(r"00002\.png is missing", all_but(2))
    refused(r"00000\.png is missing.* or give 6 in order", all_but(2, "mask{}.png"))
    refused("has no mask for frame 00002", all_but(2, "{:05d}_1.png"))
    refused("has no mask for frame 00002", all_but(2, "1/{:05d}.png"))
    refused(
        "marks no object in any frame",
        lambda folder: [write(folder, n, np.zeros(SIZE)) for n in range(6)],
    )
    refused(
        r"00004\.png is 32x24 but 64x48 is needed",
        lambda folder: [write(folder, n, shifted(n)[:: n // 4 + 1, :: n // 4 + 1]) for n in range(6)],
    )
    refused(
        r"00000_1\.png is 32x24 but 64x48 is needed",
        lambda folder: [write(folder, n, shifted(n)[::2, ::2], "{:05d}_1.png") for n in range(6)],
    )
    refused(r"00000\.jpg is JPEG", all_but(None, "{:05d}.jpg"))
    refused(r"00000\.jpg is JPEG", all_but(None, "1/{:05d}.jpg"))
    refused(
        "is RGB, not a label map",
        lambda folder: [write(folder, n, np.zeros((*SIZE, 3))) for n in range(6)],
    )
    refused(
        "would be masks of one frame",
        lambda folder: [write(folder, 0, shifted(0), f"{{:05d}}.{end}") for end in ("png", "bmp")],
    )
    refused(
        "has 255 objects, and at most 254",
        lambda folder: (
            [write(folder, 0, shifted(0), f"{{:05d}}_{i}.png") for i in range(1, 256)]
            + [write(folder, n, shifted(n), "{:05d}_1.png") for n in range(6)]
        ),
    )
    with pytest.raises(InputError, match="nothing does not exist: check the path of the masks"):
        read(tmp_path / "nothing")
