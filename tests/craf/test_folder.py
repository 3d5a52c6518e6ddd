import numpy as np
import pytest
from PIL import Image

from segspn.craf import build_craf, filter_folder
from segspn.errors import InputError


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    names = [(t, i) for t in (1, 2, 3) for i in (2, 10)] + [(0, 2), (2, 5), (9, 5)]
    for t, i in names:
        image = Image.fromarray(rng.integers(0, 256, (6, 9), np.uint8), "P")
        image.putpalette([255 - n // 3 for n in range(768)])  # the index counts, not the colour
        image.save(tmp_path / f"{t:05d}_{i}.png")
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


@pytest.fixture
def mask():
    out = np.zeros((6, 9), np.int32)
    out[:, :4], out[:, 5:] = 2, 10
    return out


def test_frames_in_order_as_if_stepped_by_hand(folder, mask):
    craf = build_craf("release", (2, 10))
    craf.start(mask)
    numbers = []
    for frame, result, raw in filter_folder(folder, mask, (10, 2), "release", read_score=read):
        numbers.append(frame)
        want = np.stack([read(folder / f"{frame:05d}_{i}.png") for i in (2, 10)])
        assert raw.dtype == np.uint8 and np.array_equal(raw, want)
        assert np.array_equal(result.labels, craf.step(want).labels)
        assert result.labels.any()
    assert numbers == [1, 2, 3]


def test_foreground_folder(folder, mask, tmp_path):
    inside = tmp_path / "fg"
    inside.mkdir()
    image = np.zeros((6, 9), np.uint8)
    image[:, :3] = 255
    for t in (1, 2, 3):
        Image.fromarray(image).save(inside / f"{t:05d}.png")
    frames = list(filter_folder(folder, mask, (2, 10), "release", inside, read_score=read))
    assert frames[0][1].labels[:, :3].any()
    assert not any(f[1].labels[:, 3:].any() for f in frames)
    (inside / "00002.png").unlink()
    with pytest.raises(InputError, match="00002.png is missing"):
        filter_folder(folder, mask, (2, 10), "release", inside, read_score=read)


@pytest.mark.parametrize("name", ["00002_2.png", "00003_10.png", "00001_2.png"])
def test_missing_file_is_named_before_any_work(folder, mask, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        filter_folder(folder, mask, (2, 10), "paper", read_score=read)


def test_other_size_is_named(folder, mask):
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(folder / "00002_10.png")
    frames = filter_folder(folder, mask, (2, 10), "default", read_score=read)
    assert next(frames)[0] == 1
    with pytest.raises(InputError, match="00002_10.png is 9x7 pixels and the mask 9x6"):
        next(frames)


def test_nothing_to_filter(tmp_path, mask):
    with pytest.raises(InputError, match="00001_2.png"):
        filter_folder(tmp_path, mask, (2, 10), "default", read_score=read)
    with pytest.raises(InputError, match="not a folder"):
        filter_folder(tmp_path / "none", mask, (2, 10), "default", read_score=read)
