from __future__ import annotations

import random

import pytest
from pages import COUNT

from segspn.app.clip import Clip
from segspn.errors import InputError
from segspn.video import open_source


def test_every_order_gives_the_same_frames(clip):
    opened = Clip(open_source(clip))
    order = [*range(COUNT)] * 3
    random.Random(0).shuffle(order)
    for index in [*order, *range(COUNT - 1, -1, -1)]:
        assert abs(float(opened.pixels(index).mean()) - 10 * index) < 3
        assert opened.picture(index)[:2] == b"\xff\xd8"
    opened.close()


def test_scrubbing_does_not_decode_everything_again(clip, monkeypatch):
    source = open_source(clip)
    streams = []
    read = source.read
    monkeypatch.setattr(source, "read", lambda first: streams.append(first) or read(first))
    opened = Clip(source)
    for index in [*range(COUNT), *range(COUNT - 1, -1, -1)]:
        opened.picture(index)
    assert streams == [0]
    opened.close()


def test_pictures_held_are_bounded(clip):
    opened = Clip(open_source(clip), cache_bytes=2500)
    sizes = []
    for index in range(COUNT):
        sizes.append(len(opened.picture(index)))
    held = sum(len(picture) for picture in opened._pictures.values())
    assert sum(sizes) > 2500 >= held
    opened.close()


def test_a_damaged_frame_is_told_and_others_still_come(tmp_path):
    from PIL import Image

    for i in range(3):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    broken = tmp_path / "1.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    opened = Clip(open_source(tmp_path))
    with pytest.raises(InputError, match=r"1\.png is damaged"):
        opened.picture(1)
    assert opened.pixels(2)[0, 0, 0] == 80 and opened.pixels(0)[0, 0, 0] == 0
