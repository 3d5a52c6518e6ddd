from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import decode_all, make_video

from segspn.errors import InputError
from segspn.video import file as video_file
from segspn.video import open_source

B_FRAMES = {"bf": "3", "x264-params": "keyint=24:scenecut=0:open-gop=1"}
LONG_GOP = {"bf": "3", "x264-params": "keyint=500:scenecut=0"}


def same(frames: list[np.ndarray], truth: list[np.ndarray]) -> bool:
    return len(frames) == len(truth) and all(
        np.array_equal(a, b) for a, b in zip(frames, truth, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "codec", "options", "seekable"),
    [
        ("open_gop.mp4", "libx264", B_FRAMES, True),
        ("long_gop.mp4", "libx264", LONG_GOP, True),
        ("open_gop.mkv", "libx264", B_FRAMES, True),
        ("open_gop.ts", "libx264", B_FRAMES, True),
        ("raw.h264", "libx264", B_FRAMES, False),
        ("no_pts.avi", "mpeg4", {"bf": "2"}, False),
        ("hidden_frames.webm", "libvpx", {"deadline": "realtime", "auto-alt-ref": "1"}, False),
        ("small.gif", "gif", {}, False),
        ("intra.mov", "mjpeg", {}, True),
    ],
)
def test_frames_are_exact_forward_backward_and_strided(
    tmp_path: Path, monkeypatch, name: str, codec: str, options: dict, seekable: bool
) -> None:
    pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = make_video(tmp_path / name, 60, codec, options, pix_fmt=pix_fmt)
    truth = decode_all(path)

    source = open_source(path)
    assert (source._frames._index is not None) == seekable
    assert len(source) == len(truth) == 60
    assert source.size == (48, 64)
    assert source.names[:2] == ["00000", "00001"] and source.names[-1] == "00059"
    assert same(list(source.read()), truth)
    assert same(list(source.read(59, -1, -1)), truth[::-1])
    monkeypatch.setattr(video_file, "BACKWARD_BUFFER_BYTES", 1)
    assert same(list(source.read(59, -1, -1)), truth[::-1])
    assert same(list(source.read(31, 40)), truth[31:40])
    assert same(list(source.read(40, 31, -1)), truth[40:31:-1])

    strided = open_source(path, start=5, end=50, stride=4)
    assert strided.names == [f"{n:05d}" for n in range(5, 50, 4)]
    assert same(list(strided.read()), truth[5:50:4])
    assert same(list(strided.read(7, 2, -1)), [truth[5 + 4 * i] for i in range(7, 2, -1)])


def test_a_long_group_of_pictures_is_never_buffered_whole(tmp_path: Path, monkeypatch) -> None:
    path = make_video(tmp_path / "long.mp4", 60, options=LONG_GOP)
    source = open_source(path)
    monkeypatch.setattr(video_file, "BACKWARD_BUFFER_BYTES", 10 * 3 * 48 * 64)
    longest = 0
    ascending = video_file.VideoFrames._ascending

    def watched(self, numbers):
        nonlocal longest
        longest = max(longest, len(numbers))
        return ascending(self, numbers)

    monkeypatch.setattr(video_file.VideoFrames, "_ascending", watched)
    assert same(list(source.read(59, -1, -1)), decode_all(path)[::-1])
    assert longest == 10


def test_frames_are_contiguous_and_writable(tmp_path: Path) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", 3, size=(50, 70)))
    for frame in source.read():
        assert frame.shape == (50, 70, 3) and frame.dtype == np.uint8
        assert frame.flags.c_contiguous and frame.flags.writeable
    assert source.fps == 25.0


def test_rotation_metadata_is_honoured(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mp4", 3)
    data = bytearray(plain.read_bytes())
    # The display matrix of the track header: x' = y, y' = -x, a quarter turn to the left.
    matrix = data.index(b"tkhd") + 44
    assert struct.unpack(">5i", data[matrix : matrix + 20]) == (1 << 16, 0, 0, 0, 1 << 16)
    data[matrix : matrix + 20] = struct.pack(">5i", 0, -1 << 16, 0, 1 << 16, 0)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    source = open_source(turned)
    assert source.size == (64, 48)
    assert same(list(source.read()), [np.rot90(f) for f in decode_all(plain)])


def test_a_stream_cut_in_the_middle_of_a_group_opens(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", 60, options=B_FRAMES).read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole[len(whole) // 3 // 188 * 188 :])
    source = open_source(cut)
    assert 0 < len(source) < 60
    forward = list(source.read())
    assert len(forward) == len(source)
    assert same(list(source.read(len(source) - 1, -1, -1)), forward[::-1])


def test_names_with_colons_and_accents_open(tmp_path: Path, monkeypatch) -> None:
    make_video(tmp_path / "plain.mp4", 3).rename(tmp_path / "file:é 日本.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(open_source("file:é 日本.mp4")) == 3


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "mjpeg")])
def test_a_damaged_frame_is_named_and_those_before_it_are_given(
    tmp_path: Path, name: str, codec: str
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"x264-params": "keyint=30:bframes=0"} if codec == "libx264" else {}
    path = make_video(tmp_path / name, 60, codec, options, pix_fmt=pix_fmt)
    truth = decode_all(path)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][37]
        position, length = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    # After the slice header or JPEG tables, so that the frame is found and then proves bad.
    start = position + (length * 9 // 10 if codec == "mjpeg" else 8)
    damage = b"\xff\xd9" if codec == "mjpeg" else b"\x5a"
    data[start : position + length] = (damage * length)[: position + length - start]
    path.write_bytes(data)

    source = open_source(path)
    given = []
    with pytest.raises(InputError, match=r"frame 37 of .*--end 37") as caught:
        for frame in source.read():
            given.append(frame)
    assert str(path) in str(caught.value)
    assert same(given, truth[:37])
    with pytest.raises(InputError, match="frame 37"):
        list(source.read(45, 33, -1))
    assert same(list(open_source(path, end=37).read(36, -1, -1)), truth[36::-1])


def test_files_without_video_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no film\n" * 100)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(4000))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (text, noise, empty):
        with pytest.raises(InputError, match=path.name):
            open_source(path)
