from __future__ import annotations

from pathlib import Path

import pytest

from segspn import InputError
from segspn.evaluation import open_davis


def make(root: Path, *names: str, resolution: str = "480p", frames: int = 3) -> None:
    for name in names:
        folder = root / "Annotations" / resolution / name
        folder.mkdir(parents=True)
        for t in range(frames):
            (folder / f"{t:05d}.png").touch()


def write_list(root: Path, text: str, place: str = "2017/val.txt") -> None:
    path = root / "ImageSets" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_names_in_the_order_of_the_list(tmp_path):
    make(tmp_path, "dog", "bear", "unlisted")
    write_list(tmp_path, "dog\n\nbear \n")
    data = open_davis(tmp_path, 2017, "val")
    assert [s.name for s in data.sequences] == ["dog", "bear"]
    dog = data.sequences[0]
    assert dog.frames == ("00000", "00001", "00002")
    assert dog.first_mask == tmp_path / "Annotations" / "480p" / "dog" / "00000.png"
    assert dog.images == tmp_path / "JPEGImages" / "480p" / "dog"


@pytest.mark.parametrize("place", ["2016/val.txt", "480p/val.txt"])
def test_lists_of_the_first_release(tmp_path, place):
    make(tmp_path, "dog", "bear")
    lines = [
        f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png"
        for name in ("bear", "dog")
        for t in range(3)
    ]
    write_list(tmp_path, "\n".join(lines), place)
    data = open_davis(tmp_path, 2016, "val")
    assert [s.name for s in data.sequences] == ["bear", "dog"]


def test_frames_go_by_number_and_hidden_files_do_not_count(tmp_path):
    make(tmp_path, "dog", frames=0)
    for stem in ("10", "9", "100", ".9-part"):
        (tmp_path / "Annotations" / "480p" / "dog" / f"{stem}.png").touch()
    write_list(tmp_path, "dog")
    assert open_davis(tmp_path, 2017, "val").sequences[0].frames == ("9", "10", "100")


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (("480p", "Full-Resolution"), "480p"),
        (("Full-Resolution", "tiny"), "Full-Resolution"),
        (("tiny",), "tiny"),
    ],
)
def test_resolution_chosen(tmp_path, present, chosen):
    for resolution in present:
        make(tmp_path, "dog", resolution=resolution)
    write_list(tmp_path, "dog")
    assert open_davis(tmp_path, 2017, "val").resolution == chosen
    assert open_davis(tmp_path, 2017, "val", present[-1]).resolution == present[-1]


def test_what_is_missing_is_named(tmp_path):
    def told(*args: object) -> str:
        with pytest.raises(InputError) as caught:
            open_davis(*args)
        message = str(caught.value)
        assert "\n" not in message
        return message

    assert "nowhere" in told(tmp_path / "nowhere", 2017, "val")
    assert "Annotations" in told(tmp_path, 2017, "val")
    (tmp_path / "Annotations").mkdir()
    assert "480p" in told(tmp_path, 2017, "val")
    make(tmp_path, "dog")
    assert "nothing" in told(tmp_path, 2017, "val")
    write_list(tmp_path, "dog\nbear")
    assert "2017/val" in told(tmp_path, 2017, "test-dev")
    assert "bear" in told(tmp_path, 2017, "val")
    assert "4k" in told(tmp_path, 2017, "val", "4k")
    assert "2018" in told(tmp_path, 2018, "val")
    write_list(tmp_path, "\n")
    assert "val.txt" in told(tmp_path, 2017, "val")
