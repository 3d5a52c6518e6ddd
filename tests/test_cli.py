"""The command line as a user meets it: exit codes, one line of complaint, nothing half-written."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "jobs"))

from clips import SIZE, contents, frame, make_frames, make_mask, make_video
from fake_segmenter import FakeSegmenter

from segspn.cli import main
from segspn.video import read_labels

SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture
def fake(monkeypatch):
    """A segmenter without nets in the pipeline's place."""
    pipeline = ModuleType("segspn.pipeline")
    pipeline.Segmenter = FakeSegmenter
    monkeypatch.setitem(sys.modules, "segspn.pipeline", pipeline)


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["segspn", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        return int(stop.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def refused(cli):
    """Runs a command that must fail: one line with all of ``parts``, and no output folder."""

    def run(*arguments: object, parts: tuple[str, ...]) -> None:
        code, out, err = cli(*arguments)
        assert code == 2 and out == ""
        assert err.startswith("segspn: ") and err.endswith("\n") and err.count("\n") == 1, err
        for part in parts:
            assert re.search(part, err), (part, err)
        assert not Path("out").exists()

    return run


def test_segment_prints_one_line_and_exits_with_0(fake, cli, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    code, out, err = cli("segment", frames, "--mask", mask)
    assert (code, err) == (0, "")
    assert out.startswith("clip-segspn: 12 frames, 2 objects, ") and out.count("\n") == 1
    assert len(list((tmp_path / "clip-segspn" / "clip").iterdir())) == 12
    code, out, err = cli("segment", frames, "--mask", mask, "--resume", "--quiet")
    assert (code, out, err) == (0, "", "")


def test_every_option_reaches_the_job(fake, cli, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png", (24, 32))
    code, _, err = cli(
        "segment", frames, "-m", mask, "-o", "out", "--save", "labels,scores", "--panel",
        "--start", 1, "--end", 11, "--stride", 2, "--mask-frame", 5, "--max-side", 48,
        "--resize-mask", "--preset", "quality", "--device", "cpu", "--correct", f"9={mask}",
    )  # fmt: skip
    assert (code, err) == (0, "")
    stems = ["00001", "00003", "00005", "00007", "00009"]
    assert sorted(contents(Path("out"))) == sorted(
        [f"clip/{s}.png" for s in stems]
        + [f"clip_scores/{s}_{i}.png" for s in stems for i in (2, 7)]
        + [f"clip_panel/{s}.png" for s in stems]
        + ["clip_sheet.png"]
    )
    report = Path("out/run.json").read_text()
    assert '"quality"' in report and '"--max-side": 48' in report and '"--correct 9 content"' in report


# Bad input


def test_missing_video(fake, refused, tmp_path):
    mask = make_mask(tmp_path / "mask.png")
    refused(
        "segment", "no.mp4", "--mask", mask, "-o", "out",
        parts=(r"no\.mp4 does not exist", "check the path"),
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_unreadable_video(fake, refused, tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    mask = make_mask(tmp_path / "mask.png")
    refused("segment", "bad.mp4", "--mask", mask, "-o", "out", parts=(r"bad\.mp4",))


def test_folder_without_images(fake, refused, tmp_path):
    (tmp_path / "clip").mkdir()
    mask = make_mask(tmp_path / "mask.png")
    refused("segment", "clip", "--mask", mask, "-o", "out", parts=("clip holds no images",))


def test_corrupt_first_frame(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    whole = Path("clip/00000.png").read_bytes()
    Path("clip/00000.png").write_bytes(whole[: len(whole) // 2])
    mask = make_mask(tmp_path / "mask.png")
    refused(
        "segment", "clip", "-m", mask, "-o", "out",
        parts=(r"00000\.png is damaged", "replace the file"),
    )  # fmt: skip


def test_corrupt_frame_in_the_middle_leaves_whole_files_only(fake, cli, tmp_path):
    make_frames(tmp_path / "clip")
    whole = Path("clip/00007.png").read_bytes()
    Path("clip/00007.png").write_bytes(whole[: len(whole) // 2])
    mask = make_mask(tmp_path / "mask.png")
    code, out, err = cli("segment", "clip", "-m", mask, "-o", "out")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and re.search(r"segspn: .*00007\.png is damaged.*replace", err)
    assert sorted(p.name for p in Path("out/clip").iterdir()) == [f"{n:05d}.png" for n in range(7)]
    for path in Path("out/clip").iterdir():
        assert read_labels(path).shape == SIZE
    assert sorted(p.name for p in Path("out").iterdir()) == [".segspn", "clip"]
    # Mended, the run goes on.
    Path("clip/00007.png").write_bytes(whole)
    code, out, _ = cli("segment", "clip", "-m", mask, "-o", "out", "--resume")
    assert code == 0 and "12 frames" in out


def test_corrupt_frame_in_the_middle_of_a_video(fake, cli, tmp_path):
    video, mask = make_video(tmp_path / "film.mp4", 60), make_mask(tmp_path / "mask.png")
    data = bytearray(video.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    video.write_bytes(data)
    code, out, err = cli("segment", video, "-m", mask, "-o", "out")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and re.search(r"frame \d+ of .*film\.mp4 is damaged.*--end", err)
    assert not list(Path("out").rglob(".*.tmp")) and not Path("out/run.json").exists()


def test_frames_of_different_sizes(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    Image.fromarray(frame(0, (40, 64))).save("clip/00005.png")
    mask = make_mask(tmp_path / "mask.png")
    refused(
        "segment", "clip", "-m", mask, "-o", "out",
        parts=(r"00005\.png is 64x40 but 00000\.png is 64x48", "resize or remove it"),
    )  # fmt: skip


def test_mask_of_another_size(fake, refused, cli, tmp_path):
    make_frames(tmp_path / "clip")
    mask = make_mask(tmp_path / "mask.png", (24, 32))
    refused(
        "segment", "clip", "-m", mask, "-o", "out",
        parts=(r"mask\.png is 32x24 but the frame is 64x48", "--resize-mask"),
    )  # fmt: skip
    assert cli("segment", "clip", "-m", mask, "-o", "out", "--resize-mask")[0] == 0


def test_empty_mask(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save("mask.png")
    refused(
        "segment", "clip", "-m", "mask.png", "-o", "out",
        parts=(r"mask\.png is empty", "mark at least one object"),
    )  # fmt: skip


def test_missing_mask(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    refused("segment", "clip", "-m", "no.png", "-o", "out", parts=(r"no\.png does not exist",))


def test_one_object_fully_out_of_the_frame(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    masks = tmp_path / "masks"
    masks.mkdir()
    inside = np.zeros(SIZE, np.uint8)
    inside[10:30, 10:30] = 255
    Image.fromarray(inside).save(masks / "1.png")
    Image.fromarray(inside * 0).save(masks / "2.png")
    refused(
        "segment", "clip", "-m", masks, "-o", "out",
        parts=(r"2\.png is empty", "mark the object or remove the file"),
    )  # fmt: skip


@pytest.mark.parametrize("options", [("--resize-mask",), ("--max-side", "32")])
def test_one_object_that_vanishes_at_the_working_size(fake, refused, tmp_path, options):
    size = (96, 128) if "--resize-mask" in options else SIZE
    make_frames(tmp_path / "clip")
    labels = np.zeros(size, np.uint8)
    labels[10:30, 10:30], labels[40, 50] = 1, 9
    Image.fromarray(labels).save("mask.png")
    refused(
        "segment", "clip", "-m", "mask.png", "-o", "out", *options,
        parts=(r"mask\.png: object 9 vanished", "mark more of it"),
    )  # fmt: skip


def test_more_than_254_objects(fake, refused, tmp_path):
    make_frames(tmp_path / "clip")
    labels = np.repeat(np.repeat(np.arange(768).reshape(24, 32), 2, 0), 2, 1).astype(np.uint16)
    Image.fromarray(labels).save("mask.png")
    refused(
        "segment", "clip", "-m", "mask.png", "-o", "out",
        parts=(r"mask\.png has 767 objects, and at most 254",),
    )  # fmt: skip


def test_output_folder_that_is_not_empty(fake, cli, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    code, out, err = cli("segment", frames, "-m", mask, "-o", "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search("folder out exists and is not empty.*--overwrite.*--resume", err)
    assert contents(Path("out")) == {"thesis.txt": b"mine"}
    code, _, err = cli("segment", frames, "-m", mask, "-o", "out", "--overwrite", "--resume")
    assert code == 2 and "exclude each other" in err
    assert cli("segment", frames, "-m", mask, "-o", "out", "--overwrite")[0] == 0
    assert Path("out/thesis.txt").read_text() == "mine"


def test_output_that_is_a_file(fake, cli, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    Path("out").write_text("mine")
    code, _, err = cli("segment", frames, "-m", mask, "-o", "out", "--overwrite")
    assert (code, err.count("\n")) == (2, 1) and "out is not a folder" in err
    assert Path("out").read_text() == "mine"


@pytest.mark.parametrize("writes", [0, 1, 5])
def test_no_space_left(fake, cli, tmp_path, monkeypatch, writes):
    # 0: not even the run's own state fits; 1: the first label map; 5: a later one.
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    left = writes

    def full(path, data, write=Path.write_bytes):
        nonlocal left
        left -= 1
        if left < 0:
            with path.open("wb") as file:
                file.write(data[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = cli("segment", frames, "-m", mask, "-o", "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    folder = "out/clip" if writes else r"out/\.segspn"
    assert re.search(f"cannot write .* {folder}: No space left on device; free space", err)
    assert not list(tmp_path.rglob(".*.tmp"))
    if writes < 2:
        assert not Path("out").exists()
    else:
        assert all(read_labels(p).shape == SIZE for p in Path("out/clip").iterdir())


def test_no_space_for_the_overlay(fake, tmp_path):
    # For real: the system refuses files above a size, in a process of its own.
    resource = pytest.importorskip("resource")
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    out = tmp_path / "out"
    script = Path(__file__).parent / "jobs" / "fake_cli.py"
    done = subprocess.run(
        [sys.executable, str(script), "segment", str(frames), "-m", str(mask), "-o", str(out)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and f"in the folder {out}: File too large" in done.stderr
    assert sorted(p.name for p in out.iterdir()) == [".segspn", "clip"]


@pytest.mark.parametrize("save", ["labels,video", ",", "label"])
def test_unknown_things_to_save(fake, refused, tmp_path, save):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    refused(
        "segment", frames, "-m", mask, "-o", "out", "--save", save,
        parts=("--save", "labels,overlay,scores,cutouts,stages"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--stride", "0"), "stride must be at least 1"),
        (("--start", "12"), "has 12 frames"),
        (("--start", "4", "--end", "4"), "selects none"),
        (("--mask-frame", "12"), "choose --mask-frame from 0 to 11"),
        (("--correct", "12=mask.png"), "choose --correct from 0 to 11"),
        (("--correct", "mask.png"), "as in 40=mask.png"),
        (("--correct", "3=a.png", "--correct", "3=b.png"), "frame 3 has a mask already"),
        (("--max-side", "5"), "--max-side 5 is too small"),
    ],
)
def test_impossible_selections(fake, refused, tmp_path, options, part):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    refused("segment", frames, "-m", mask, "-o", "out", *options, parts=(part,))


def test_unknown_preset(refused, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    refused(
        "segment", frames, "-m", mask, "-o", "out", "--preset", "best",
        parts=("'best'", "choose one of .*default"),
    )  # fmt: skip


def test_cuda_asked_for_and_absent(refused, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    refused(
        "segment", frames, "-m", mask, "-o", "out", "--device", "cuda",
        parts=("cuda", "--device cpu"),
    )  # fmt: skip


# The other commands


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "clip", "--mask", "m.png", "--colour"),
        ("segment", "clip"),
        ("segment", "clip", "--mask", "m.png", "--device", "tpu"),
        ("enlarge",),
        ("stage", "everything"),
    ],
)
def test_unknown_options_and_commands_exit_with_2(cli, arguments):
    code, out, err = cli(*arguments)
    assert code == 2 and out == "" and "Traceback" not in err


def test_version_and_help_are_quick():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "segspn", *arguments],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    done = run("--version")
    assert re.fullmatch(r"segspn \d+\.\d+\.\d+\n", done.stdout)
    assert not re.search(r"\b(torch|cv2|av|numba)\b", done.stderr)
    done = run("segment", "--help")
    assert "--mask-frame" in done.stdout
    assert not re.search(r"\b(torch|cv2|av|numba)\b", done.stderr)


def test_a_bug_is_not_dressed_up_as_bad_input(fake, monkeypatch, tmp_path):
    frames, mask = make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png")
    monkeypatch.setattr(FakeSegmenter, "session", lambda self, **_: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["segspn", "segment", str(frames), "-m", str(mask)])
    with pytest.raises(ZeroDivisionError):
        main()


def test_evaluate_davis_scores_a_folder_that_segment_made(fake, cli, tmp_path):
    data = tmp_path / "DAVIS"
    frames = make_frames(data / "JPEGImages" / "480p" / "clip")
    truth = data / "Annotations" / "480p" / "clip"
    truth.mkdir(parents=True)
    for number in range(12):
        make_mask(truth / f"{number:05d}.png")
    (data / "ImageSets" / "2017").mkdir(parents=True)
    (data / "ImageSets" / "2017" / "tiny.txt").write_text("clip\n")
    assert cli("segment", frames, "-m", truth / "00000.png", "-o", "out")[0] == 0
    given = ("evaluate", "davis", "--root", data, "--subset", "tiny", "--no-plots")
    code, out, _ = cli(*given, "--results", "out")
    assert code == 0
    assert "Global" in out and Path("out/global_results-tiny.csv").is_file()

    code, made, _ = cli(*given, "--preset", "quality")
    assert code == 0 and made == out
    assert len(list(Path("davis-2017-tiny-quality/clip").glob("*.png"))) == 12

    code, _, err = cli(*given)
    assert code == 2 and "--results FOLDER" in err


def test_info_tells_presets_and_weights(cli):
    code, out, err = cli("info")
    assert (code, err) == (0, "")
    for part in ("segspn", "torch", "cpu", "default", "parent.safetensors"):
        assert part in out
