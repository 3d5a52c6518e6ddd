from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segspn.errors import InputError
from segspn.video import davis_palette, read_object_masks, require_objects, write_labels

H, W = 24, 32


def blocks(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """A map (24, 32) with one 4x4 block per value, on 0."""
    out = np.zeros((H, W), dtype)
    for i, value in enumerate(values):
        y, x = 5 * (i // 6), 5 * (i % 6)
        out[y : y + 4, x : x + 4] = value
    return out


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    table = np.array([(0, 0, 0), *colours], np.uint8)
    return table[blocks(*range(1, len(colours) + 1))]


def test_palette_indices_are_ids(tmp_path: Path) -> None:
    labels = blocks(7, 2, 40)
    write_labels(tmp_path / "m.png", labels)
    masks = read_object_masks(tmp_path / "m.png", size=(H, W))
    assert masks.ids == (2, 7, 40)
    assert masks.labels.dtype == np.int32 and np.array_equal(masks.labels, labels)


def test_grey_values_are_ids_and_255_is_object_or_void(tmp_path: Path) -> None:
    assert read_object_masks(save(tmp_path / "a.png", blocks(3, 9))).ids == (3, 9)
    alone = read_object_masks(save(tmp_path / "b.png", blocks(255)))
    assert alone.ids == (1,) and np.array_equal(alone.labels, blocks(1))
    beside = read_object_masks(save(tmp_path / "c.png", blocks(3, 255)))
    assert beside.ids == (3,) and np.array_equal(beside.labels, blocks(3, 0))


def test_one_bit_and_sixteen_bits(tmp_path: Path) -> None:
    bit = read_object_masks(save(tmp_path / "a.png", blocks(1) > 0))
    assert bit.ids == (1,) and np.array_equal(bit.labels, blocks(1))
    wide = blocks(255, 300, 65535, dtype=np.uint16)
    masks = read_object_masks(save(tmp_path / "b.png", wide))
    assert masks.ids == (255, 300, 65535) and np.array_equal(masks.labels, wide)


def test_colours_of_the_palette_give_its_index(tmp_path: Path) -> None:
    palette = davis_palette()
    masks = read_object_masks(
        save(tmp_path / "a.png", coloured(tuple(palette[5]), tuple(palette[2])))
    )
    assert masks.ids == (2, 5) and np.array_equal(masks.labels, blocks(5, 2))
    # DAVIS's own files have 191 where VOC's formula gives 192.
    assert read_object_masks(save(tmp_path / "b.png", coloured((191, 0, 0)))).ids == (9,)


def test_other_colours_are_counted_in_ascending_order(tmp_path: Path) -> None:
    red_of_palette = (128, 0, 0)
    image = coloured((255, 0, 0), (0, 255, 0), red_of_palette)
    masks = read_object_masks(save(tmp_path / "a.png", image))
    assert masks.ids == (1, 2, 3) and np.array_equal(masks.labels, blocks(3, 1, 2))


def test_colours_without_any_black_are_all_objects(tmp_path: Path) -> None:
    image = np.full((H, W, 3), (10, 20, 30), np.uint8)
    image[:5] = (200, 0, 0)
    masks = read_object_masks(save(tmp_path / "a.png", image))
    assert masks.ids == (1, 2) and masks.labels[0, 0] == 2 and masks.labels[-1, 0] == 1


def test_transparent_pixels_are_background(tmp_path: Path) -> None:
    image = np.full((H, W, 4), 255, np.uint8)
    image[..., 3] = blocks(255)
    masks = read_object_masks(save(tmp_path / "a.png", image))
    assert masks.ids == (1,) and np.array_equal(masks.labels, blocks(1))


def test_a_folder_takes_ids_from_stems_and_later_ids_win(tmp_path: Path) -> None:
    low, high = blocks(255), np.roll(blocks(255), 2, axis=1)
    save(tmp_path / "obj_10.png", high)
    save(tmp_path / "obj_9.png", low)
    masks = read_object_masks(tmp_path)
    assert masks.ids == (9, 10)
    assert np.array_equal(masks.labels, np.where(high > 0, 10, np.where(low > 0, 9, 0)))


def test_a_folder_of_plain_names_is_counted(tmp_path: Path) -> None:
    save(tmp_path / "cat.png", blocks(0, 1))
    save(tmp_path / "dog2.png", blocks(255) > 0)
    masks = read_object_masks(tmp_path)
    assert masks.ids == (1, 2) and np.array_equal(masks.labels, blocks(2, 1))


def test_folders_that_cannot_be_meant(tmp_path: Path) -> None:
    def folder(name: str, **files: np.ndarray) -> Path:
        (tmp_path / name).mkdir()
        for stem, array in files.items():
            save(tmp_path / name / f"{stem}.png", array)
        return tmp_path / name

    one, two = blocks(255), blocks(0, 255)
    cases = [
        (folder("none"), "holds no images"),
        (folder("same", a1=one, b1=two), "both end in 1"),
        (folder("zero", m0=one, m1=two), "object 0"),
        (folder("empty", m1=one, m2=blocks()), r"m2\.png is empty"),
        (folder("hidden", m1=one, m2=one), "object 1 lies wholly under"),
        (folder("sizes", m1=one, m2=two[:9]), r"m2\.png is 32x9 but m1\.png is 32x24"),
    ]
    for path, complaint in cases:
        with pytest.raises(InputError, match=complaint):
            read_object_masks(path)


def test_another_size_is_told_or_resized(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", blocks(3, 9))
    with pytest.raises(InputError, match=r"32x24 but the frame is 64x48.*--resize-mask"):
        read_object_masks(path, size=(48, 64))
    masks = read_object_masks(path, size=(48, 64), resize=True)
    assert masks.ids == (3, 9)
    assert np.array_equal(masks.labels, blocks(3, 9).repeat(2, 0).repeat(2, 1))


def test_an_object_lost_in_resizing_is_named(tmp_path: Path) -> None:
    labels = blocks(3)
    labels[12, 16] = 8
    path = save(tmp_path / "a.png", labels)
    with pytest.raises(InputError, match=r"a\.png: object 8 vanished .* 8x6"):
        read_object_masks(path, size=(6, 8), resize=True)
    require_objects(labels, (3, 8), path)
    with pytest.raises(InputError, match="objects 4, 5 vanished"):
        require_objects(labels, (3, 4, 5), path)


def test_empty_and_missing_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png is empty"):
        read_object_masks(save(tmp_path / "a.png", blocks()))
    with pytest.raises(InputError, match=r"b\.png does not exist"):
        read_object_masks(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    with pytest.raises(InputError, match=r"c\.png is damaged"):
        read_object_masks(tmp_path / "c.png")


def test_254_objects_are_taken_and_255_are_not(tmp_path: Path) -> None:
    def many(count: int) -> np.ndarray:
        out = np.zeros((32, 40), np.uint16)
        flat = np.arange(1, count + 1, dtype=np.uint16)
        out.reshape(-1)[: len(flat)] = flat
        return out

    assert len(read_object_masks(save(tmp_path / "a.png", many(254))).ids) == 254
    with pytest.raises(InputError, match="has 255 objects"):
        read_object_masks(save(tmp_path / "b.png", many(255)))


@pytest.mark.parametrize("kind", ["smooth-rgb", "smooth-grey", "jpeg-rgb", "jpeg-grey"])
def test_blended_colours_are_recognised(tmp_path: Path, kind: str) -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    cv2.circle(image, (50, 50), 30, (255, 40, 0), -1)
    cv2.circle(image, (95, 45), 20, (0, 200, 90), -1)
    if kind.startswith("smooth"):
        image = cv2.GaussianBlur(image, (0, 0), 1.0)
    if kind.endswith("grey"):
        image = image.max(axis=2)
    path = save(tmp_path / ("m.png" if kind.startswith("smooth") else "m.jpg"), image)
    with pytest.raises(InputError, match=r"m\.\w+ has \d+ (colours|objects).*save it as PNG"):
        read_object_masks(path)


def test_many_small_flat_objects_are_no_blend(tmp_path: Path) -> None:
    assert len(read_object_masks(save(tmp_path / "a.png", blocks(*range(1, 21)))).ids) == 20
