"""``segspn refine`` as a user meets it, with the real networks on a tiny clip."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))

from clips import SIZE, contents, make_frames, make_mask, mask_labels

from segspn.cli import main
from segspn.tracks import encode_rle
from segspn.video import VideoWriter, read_labels, write_labels, write_score_map

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 4


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    make_frames(tmp_path / "clip", COUNT)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["segspn", "refine", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        return int(stop.value.code or 0), told.out, told.err

    return run


def shifted(number: int) -> np.ndarray:
    return np.roll(mask_labels(), number, axis=1)


def write_maps(folder: str, name: str = "{:05d}") -> str:
    for number in range(COUNT):
        path = Path(folder) / f"{name.format(number)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, shifted(number))
    return folder


def per_object(folder: str, layout: str, soft: bool = False) -> str:
    for number in range(COUNT):
        for object_id in (2, 7):
            path = Path(folder) / layout.format(frame=number, object=object_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_score_map(path, (shifted(number) == object_id) * (0.8 if soft else 1.0))
    return folder


def mask_video(path: str) -> str:
    with VideoWriter(path, 24, SIZE) as writer:
        for number in range(COUNT):
            writer.write(np.repeat((shifted(number) > 0)[..., None] * np.uint8(255), 3, axis=2))
    return path


def rle_json(path: str) -> str:
    entries = [
        {"image_id": n, "category_id": i, "score": 0.9, "segmentation": encode_rle(shifted(n) == i)}
        for n in range(COUNT)
        for i in (2, 7)
    ]
    Path(path).write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("prepare", "objects"),
    [
        (lambda: write_maps("maps"), 2),
        (lambda: per_object("soft", "{frame:05d}_{object}.png", soft=True), 2),
        (lambda: per_object("sam", "{object:03d}/{frame:05d}.png"), 2),
        (lambda: write_maps("davis/Annotations/480p/clip") and "davis", 2),
        (lambda: write_maps("results/clip") and "results", 2),
        (lambda: mask_video("masks.mp4"), 1),
        (lambda: rle_json("masks.json"), 2),
    ],
    ids=["labels", "soft", "folders", "davis", "root", "video", "rle"],
)
def test_masks_in_refined_masks_out(cli, prepare, objects):
    code, out, err = cli("clip", "--masks", prepare())
    assert (code, err) == (0, "")
    told = "1 object" if objects == 1 else f"{objects} objects"
    assert out.startswith(f"clip-refined: {COUNT} frames, {told}, ") and out.count("\n") == 1
    assert sorted(contents(Path("clip-refined"))) == sorted(
        [f"clip/{n:05d}.png" for n in range(COUNT)] + ["clip.mp4", "clip_sheet.png"]
    )
    report = json.loads(Path("clip-refined/run.json").read_text())
    assert report["finished"] and report["versions"] and report["timings"]["spn"]["total"] > 0
    found, given = read_labels("clip-refined/clip/00003.png"), shifted(3)
    # The frames are noise, so that edges may go anywhere, but masks stay where they were.
    assert 0 < (found > 0).sum() < 2 * (given > 0).sum()
    assert ((found > 0) & (given > 0)).sum() > 0.5 * (found > 0).sum()


def test_each_stage_alone(cli):
    write_maps("maps")
    for stages in ("spn", "craf"):
        code, _, err = cli("clip", "--masks", "maps", "--stages", stages, "-o", stages, "-q")
        assert (code, err) == (0, "")
    assert not np.array_equal(read_labels("spn/clip/00002.png"), shifted(2))
    assert np.array_equal(read_labels("craf/clip/00002.png"), shifted(2))


def test_every_option_reaches_the_job(cli):
    write_maps("maps")
    for path in Path("maps").iterdir():
        with Image.open(path) as image:
            image.resize((32, 24), Image.Resampling.NEAREST).save(path)
    mask = make_mask(Path("first.png"))
    code, out, err = cli(
        "clip", "--masks", "maps", "-m", mask, "-o", "out", "--save", "labels,scores,rle", "--panel",
        "--start", 1, "--end", 4, "--stride", 2, "--max-side", 48, "--resize-mask", "--craf", "paper",
        "--stages", "craf,spn", "--preset", "quality", "--device", "cpu",
    )  # fmt: skip
    assert (code, err) == (0, "") and "2 frames, 2 objects" in out
    assert sorted(contents(Path("out"))) == sorted(
        [f"clip/0000{n}.png" for n in (1, 3)]
        + [f"clip_scores/0000{n}_{i}.png" for n in (1, 3) for i in (2, 7)]
        + [f"clip_panel/0000{n}.png" for n in (1, 3)]
        + ["clip_rle.json", "clip_sheet.png"]
    )
    arguments = json.loads(Path("out/run.json").read_text())["arguments"]
    assert arguments["--craf"] == "paper" and arguments["preset"]["name"] == "quality"
    assert np.array_equal(read_labels("out/clip/00001.png"), mask_labels())
    # What was written can be refined again.
    assert cli("clip", "--masks", "out/clip_rle.json", "--start", 1, "--stride", 2, "-q")[0] == 0
    # And resumed, which here means that there is nothing left to do.
    code, out, _ = cli("clip", "--masks", "out/clip_rle.json", "--start", 1, "--stride", 2, "--resume")
    assert code == 0 and "is finished already" in out


def test_masks_in_order_are_told_on_the_error_stream(cli):
    write_maps("maps", "mask_{}")
    code, out, err = cli("clip", "--masks", "maps", "--stages", "craf")
    assert code == 0 and out.count("\n") == 1 and err.count("\n") == 1
    assert err.startswith("segspn: note: the masks in maps are not named as the frames are")
    assert cli("clip", "--masks", "maps", "--stages", "craf", "--overwrite", "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("clip", "--masks", "maps", "--stages", "blur"), "--stages blur: give one or both of spn,craf"),
        (("clip", "--masks", "nothing"), "nothing does not exist: check the path of the masks"),
        (("clip", "--masks", "gap"), r"gap/00002\.png is missing: every frame needs one"),
        (("clip", "--masks", "gap", "--mask", "maps/00000.png"), r"gap/00002\.png is missing"),
        (("clip", "--masks", "bad.json"), r"bad\.json is no readable JSON file"),
        (("clip", "--masks", "first.png"), r"first\.png.* every frame needs one"),
        (("clip", "--masks", "maps", "--save", "gif"), "--save does not know gif: give one or more of"),
        (("clip", "--masks", "maps", "--max-side", "5"), "--max-side 5 is too small"),
        (("clip", "--masks", "maps", "--start", "9"), "clip has 4 frames"),
        (("clip", "--masks", "maps", "--preset", "best"), "'best'"),
        (("no.mp4", "--masks", "maps"), r"no\.mp4 does not exist"),
        (("soft",), "the spn stage needs frames and masks: give --masks"),
        (("soft", "--stages", "craf"), "score maps alone need the first frame's --mask"),
        (
            ("soft", "--stages", "craf", "-m", "first.png", "--resume"),
            "filtered as a whole: give frames",
        ),
    ],
)
def test_bad_input_is_one_line(cli, arguments, told):
    write_maps("maps")
    write_maps("gap")
    os.remove("gap/00002.png")
    per_object("soft", "{frame:05d}_{object}.png")
    make_mask(Path("first.png"))
    Path("bad.json").write_text("[{")
    code, out, err = cli(*arguments, "-o", "out")
    assert (code, out) == (2, "")
    assert err.startswith("segspn: ") and err.count("\n") == 1 and re.search(told, err), err
    assert not Path("out").exists()


def test_output_of_an_earlier_run_is_kept(cli):
    write_maps("maps")
    assert cli("clip", "--masks", "maps", "--stages", "craf", "-q")[0] == 0
    before = contents(Path("clip-refined"))
    code, _, err = cli("clip", "--masks", "maps", "--stages", "spn")
    assert code == 2 and re.search("clip-refined exists and is not empty.*--overwrite.*--resume", err)
    code, _, err = cli("clip", "--masks", "maps", "--stages", "spn", "--resume")
    assert code == 2 and "begun with --stages craf, now it is spn" in err
    assert contents(Path("clip-refined")) == before
    assert cli("clip", "--masks", "maps", "--stages", "spn", "--overwrite", "-q")[0] == 0


def test_score_maps_alone(cli):
    per_object("soft", "{frame:05d}_{object}.png")
    make_mask(Path("first.png"))
    code, out, err = cli("soft", "--stages", "craf", "--mask", "first.png", "--craf", "release")
    assert (code, out, err) == (0, "soft-refined/soft\n", "")
    assert np.array_equal(read_labels("soft-refined/soft/00003.png"), shifted(3))
    assert sorted(path.name for path in Path("soft-refined").iterdir()) == ["soft"]
