"""Interrupted runs, killed for real, end with the files of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import contents, make_frames, make_mask
from fake_segmenter import FakePreset, FakeSegmenter

from segspn.errors import InputError
from segspn.jobs import Interrupted, segment_video

COUNT = 70  # two checkpoints of 25 frames, and some more
EVERYTHING = "labels,overlay,scores,cutouts,stages"
SCRIPT = Path(__file__).with_name("fake_cli.py")


def command(clip: tuple[Path, Path], out: Path, *options: str) -> list[str]:
    frames, mask = clip
    return [
        sys.executable, str(SCRIPT), "segment", str(frames), "--mask", str(mask), "--out", str(out),
        "--mask-frame", "20", "--save", EVERYTHING, *options,
    ]  # fmt: skip


def start(*arguments: str, delay: float = 0.0) -> subprocess.Popen[str]:
    environment = {**os.environ, "FAKE_DELAY": str(delay)}
    source = Path(__file__).parents[2] / "src"
    environment["PYTHONPATH"] = os.pathsep.join([str(source), environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def wait_for_frames(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(list(folder.glob("[0-9]*.png"))) < count:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    return make_frames(folder / "clip", COUNT), make_mask(folder / "mask.png")


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(clip, out)
    return contents(out)


def run(clip, out, preset="default", **options):
    segmenter = FakeSegmenter(preset)
    given = {"mask_frame": 20, "save": EVERYTHING.split(","), "progress": False, **options}
    return segment_video(*clip, out, segmenter=segmenter, **given)


@pytest.mark.parametrize("frames", [8, 33, 60])
def test_kill_9_then_resume_gives_the_same_bytes(clip, undisturbed, tmp_path, frames):
    # 33: in the forward sweep after a checkpoint; 60: in the backward sweep.
    out = tmp_path / "out"
    process = start(*command(clip, out), delay=0.01)
    wait_for_frames(process, out / "clip", frames)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "run.json").exists() and (out / ".segspn").is_dir()

    summary = run(clip, out, resume=True)
    assert summary.resumed_at == frames // 25 * 25
    assert contents(out) == undisturbed
    assert (out / "run.json").is_file()


def test_ctrl_c_saves_the_state_and_tells_how_to_go_on(clip, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = start(*command(clip, out), delay=0.01)
    wait_for_frames(process, out / "clip", 8)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert err.count("\n") == 1 and err.startswith("segspn: stopped after ")
    assert "--resume" in err
    stopped_after = int(err.split()[3])
    assert stopped_after >= 8

    code, told, err = finish(start(*command(clip, out, "--resume")))
    assert (code, err) == (0, "")
    assert f"resumed after frame {stopped_after}" in told
    assert contents(out) == undisturbed


@pytest.mark.parametrize("at", [24, 25, 49, 50, 51, 70])
def test_stop_at_any_frame(clip, undisturbed, tmp_path, monkeypatch, at):
    # 50 is the last frame of the forward sweep; 70 stops in the drawing.
    stop_after(monkeypatch, at)
    with pytest.raises(Interrupted, match=f"stopped after {at} of 70 .* --resume"):
        run(clip, tmp_path / "out")
    monkeypatch.undo()
    assert run(clip, tmp_path / "out", resume=True).resumed_at == at
    assert contents(tmp_path / "out") == undisturbed


def test_stopped_again_and_again(clip, undisturbed, tmp_path, monkeypatch):
    for _ in range(3):
        stop_after(monkeypatch, 21)
        with pytest.raises(Interrupted):
            run(clip, tmp_path / "out", resume=True)
        monkeypatch.undo()
    assert run(clip, tmp_path / "out", resume=True).resumed_at == 63
    assert contents(tmp_path / "out") == undisturbed


def stop_after(monkeypatch, frames):
    """Send this process a Ctrl-C after ``frames`` label maps, or while the overlay is drawn."""
    from segspn.jobs import outputs

    written = 0

    def counted(path, labels, wide=None, write=outputs.write_labels):
        nonlocal written
        write(path, labels, wide)
        written += 1
        if written == frames < COUNT:
            signal.raise_signal(signal.SIGINT)

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(outputs, "write_labels", counted)
    if frames == COUNT:
        monkeypatch.setattr(outputs.VideoWriter, "write", interrupted)


def test_ctrl_c_before_the_first_frame_leaves_nothing(clip, tmp_path, monkeypatch):
    def begin(self, frame, labels, others=()):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("fake_segmenter.FakeSession.begin", begin)
    with pytest.raises(Interrupted, match="before the first frame"):
        run(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_works_as_before_after_a_run(clip, tmp_path):
    run(clip, tmp_path / "out", end=30)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_of_a_finished_run_says_so_and_changes_nothing(clip, tmp_path):
    out = tmp_path / "out"
    run(clip, out, end=30)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    summary = run(clip, out, end=30, resume=True)
    assert summary.was_finished and "finished already" in summary.told()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(InputError, match="--stride 1, now it is 2"):
        run(clip, out, end=30, stride=2, resume=True)


def test_resume_without_anything_starts_from_the_beginning(clip, undisturbed, tmp_path):
    assert run(clip, tmp_path / "out", resume=True).resumed_at == 0
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"preset": FakePreset("default", (0.5, 0.5))}, r"preset.rates 0.6,0.4, now it is 0.5,0.5"),
        ({"preset": "quality"}, "preset.name default, now it is quality"),
        ({"max_side": 40}, "--max-side unset, now it is 40"),
        ({"end": 60}, "--end unset, now it is 60"),
        ({"save": ["labels"]}, "--save labels,overlay,scores,cutouts,stages, now it is labels"),
        ({"mask_frame": 21}, "--mask-frame 20, now it is 21"),
        ({"panel": True}, "--panel False, now it is True"),
    ],
)
def test_resume_with_another_argument_names_it(clip, tmp_path, monkeypatch, other, told):
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        run(clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=f"begun with {told}.* --overwrite"):
        run(clip, tmp_path / "out", resume=True, **other)
    assert contents(tmp_path / "out") == before


def test_resume_with_another_correction_names_it(clip, tmp_path, monkeypatch):
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        run(clip, tmp_path / "out")
    with pytest.raises(InputError, match="begun with another --correct 30 content"):
        run(clip, tmp_path / "out", resume=True, corrections={30: clip[1]})


def test_resume_with_another_mask_names_it(clip, tmp_path, monkeypatch):
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        run(clip, tmp_path / "out")
    other = tmp_path / "other.png"
    other.write_bytes((tmp_path / "out" / "clip" / "00022.png").read_bytes())
    with pytest.raises(InputError, match="mask content"):
        run((clip[0], other), tmp_path / "out", resume=True)


def test_damaged_frame_mended_then_resumed(clip, undisturbed, tmp_path):
    # The finished frames stay, and the mended run is as good as an undisturbed one.
    copy = tmp_path / "clip"
    copy.mkdir()
    for file in clip[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    whole = (copy / "00060.png").read_bytes()
    (copy / "00060.png").write_bytes(whole[:100])
    with pytest.raises(InputError, match=r"00060\.png is damaged"):
        run((copy, clip[1]), tmp_path / "out")
    assert len(list((tmp_path / "out" / "clip").iterdir())) == 40  # 20..59
    (copy / "00060.png").write_bytes(whole)
    assert run((copy, clip[1]), tmp_path / "out", resume=True).resumed_at == 25
    assert contents(tmp_path / "out") == undisturbed
