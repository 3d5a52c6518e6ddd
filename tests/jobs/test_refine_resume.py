"""An interrupted refinement, killed for real, ends with the files of an undisturbed one."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest
from clips import SIZE, contents, make_frames, mask_labels
from fake_segmenter import FakeSegmenter
from test_resume import SCRIPT, finish, start, stop_after, wait_for_frames

from segspn.errors import InputError
from segspn.jobs import Interrupted, refine_video
from segspn.video import VideoWriter, write_labels

COUNT = 70  # two checkpoints of 25 frames, and some more
SAVE = ("labels", "overlay", "scores", "rle")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("refine") / "clip", COUNT)


@pytest.fixture(scope="module", params=["labels", "video"])
def masks(request, tmp_path_factory):
    """Masks that move, of which one object enters late; a folder or a video."""
    folder = tmp_path_factory.mktemp("masks")
    for number in range(COUNT):
        labels = np.roll(mask_labels(), number // 2, axis=1)
        labels[labels == 7] *= number > 30
        labels[2:5, 2:5] = 2  # an island
        write_labels(folder / f"{number:05d}.png", labels)
    if request.param == "labels":
        return folder
    with VideoWriter(folder / "masks.mp4", 25, SIZE) as writer:
        for number in range(COUNT):
            shown = np.roll(mask_labels() > 0, number // 2, axis=1)
            writer.write(np.repeat(shown[..., None] * np.uint8(255), 3, axis=2))
    return folder / "masks.mp4"


@pytest.fixture(scope="module")
def undisturbed(clip, masks, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(clip, masks, out)
    return contents(out)


def run(clip, masks, out, **options):
    given = {"save": SAVE, "segmenter": FakeSegmenter(), "progress": False, **options}
    return refine_video(clip, masks, out, **given)


def test_kill_9_then_resume_gives_the_same_bytes(clip, masks, undisturbed, tmp_path):
    out = tmp_path / "out"
    command = ["refine", clip, "--masks", masks, "-o", out, "--save", ",".join(SAVE)]
    process = start(sys.executable, str(SCRIPT), *map(str, command), delay=0.01)
    wait_for_frames(process, out / "clip", 33)  # after a checkpoint
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "run.json").exists() and (out / ".segspn").is_dir()

    code, told, err = finish(start(sys.executable, str(SCRIPT), *map(str, command), "--resume"))
    assert (code, err) == (0, "")
    assert "resumed after frame 25" in told
    assert contents(out) == undisturbed


@pytest.mark.parametrize("at", [31, 32, 70])
def test_stop_at_any_frame(clip, masks, undisturbed, tmp_path, monkeypatch, at):
    # 31 and 32: before and after the second object enters; 70 stops in the drawing.
    stop_after(monkeypatch, at)
    with pytest.raises(Interrupted, match=f"stopped after {at} of 70 .* --resume"):
        run(clip, masks, tmp_path / "out")
    monkeypatch.undo()
    assert run(clip, masks, tmp_path / "out", resume=True).resumed_at == at
    assert contents(tmp_path / "out") == undisturbed
    assert run(clip, masks, tmp_path / "out", resume=True).was_finished


def test_resume_with_another_argument_names_it(clip, masks, tmp_path, monkeypatch):
    write_labels(tmp_path / "mask.png", np.minimum(mask_labels(), 2) - (mask_labels() == 7))
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        run(clip, masks, tmp_path / "out")
    for other, told in (
        ({"stages": ["spn"]}, "--stages spn,craf, now it is spn"),
        ({"craf": "paper"}, "--craf default, now it is paper"),
        ({"segmenter": FakeSegmenter("quality")}, "preset.name default, now it is quality"),
        ({"mask": tmp_path / "mask.png"}, "another --mask content"),
        ({"stride": 2}, "--stride 1, now it is 2"),
    ):
        with pytest.raises(InputError, match=f"begun with {told}.* --overwrite"):
            run(clip, masks, tmp_path / "out", resume=True, **other)
