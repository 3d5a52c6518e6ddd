from __future__ import annotations

import os
import resource
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.codec import UnknownCodecError
from video_clips import picture

from segspn.errors import InputError
from segspn.video import VideoWriter, open_source, sinks


def codec_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.name


@pytest.mark.parametrize(("size", "even"), [((48, 64), (48, 64)), ((47, 63), (48, 64))])
def test_a_video_decodes_to_what_was_written(
    tmp_path: Path, size: tuple[int, int], even: tuple[int, int]
) -> None:
    path = tmp_path / "é.mp4"
    with VideoWriter(path, 30000 / 1001, size) as writer:
        for number in range(20):
            writer.write(picture(number, size))
        assert not path.exists()
    assert os.listdir(tmp_path) == ["é.mp4"]
    assert codec_of(path) == "h264"
    source = open_source(path)
    assert len(source) == 20 and source.size == even
    assert source.fps == pytest.approx(30000 / 1001)
    for number, frame in enumerate(source.read()):
        truth = picture(number, size).astype(int)
        assert np.abs(frame[: size[0], : size[1]] - truth).mean() < 20
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first, for the web"


def test_colours_survive(tmp_path: Path) -> None:
    colour = np.array([200, 60, 30], np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 24, (48, 64)) as writer:
        writer.write(np.broadcast_to(colour, (48, 64, 3)))
    (frame,) = open_source(tmp_path / "a.mp4").read()
    assert np.abs(frame.astype(int) - colour).max() <= 4


def test_without_libx264_it_falls_back_to_mpeg4(tmp_path: Path, monkeypatch) -> None:
    def without(name: str, mode: str) -> None:
        assert (name, mode) == ("libx264", "w")
        raise UnknownCodecError(name)

    monkeypatch.setattr(sinks, "Codec", without)
    with VideoWriter(tmp_path / "a.mp4", 25, (48, 64)) as writer:
        for number in range(5):
            writer.write(picture(number))
    assert codec_of(tmp_path / "a.mp4") == "mpeg4"
    assert len(open_source(tmp_path / "a.mp4")) == 5


def test_an_error_leaves_the_target_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")
    # The caller's own OSError must not be told as a failure to write.
    with pytest.raises(FileNotFoundError, match="mine"), VideoWriter(path, 24, (48, 64)) as writer:
        writer.write(picture(0))
        raise FileNotFoundError("mine")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_bad_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate"):
        VideoWriter(tmp_path / "a.mp4", 0, (48, 64))
    with pytest.raises(ValueError, match="expected"):
        with VideoWriter(tmp_path / "a.mp4", 24, (48, 64)) as writer:
            writer.write(picture(0, (40, 64)))
    with pytest.raises(ValueError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 24, (48, 64)):
        pass
    assert not list(tmp_path.iterdir())


def test_unwritable_folders_and_full_disks_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.mp4 in the folder .*nowhere: No such file"):
        with VideoWriter(tmp_path / "nowhere" / "a.mp4", 24, (48, 64)):
            pass
    noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(InputError, match=f"in the folder {tmp_path}"):
            with VideoWriter(tmp_path / "a.mp4", 24, (240, 320)) as writer:
                for frame in noise:
                    writer.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
