from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import SIZE, contents, make_frames, make_mask, mask_labels
from PIL import Image

from segspn.craf import build_craf
from segspn.errors import InputError
from segspn.jobs import SAVEABLE, refine_folder, refine_video
from segspn.video import read_labels, read_score_map, write_labels, write_score_map

RUNNING = os.environ.get("SEGSPN_CRAF_RUNNING")


@pytest.fixture
def clip(tmp_path):
    return make_frames(tmp_path / "clip", 5)


def refine(clip, masks, out, **options):
    """The folder of the label maps of a refinement."""
    return refine_video(clip, masks, out, progress=False, **options).labels


def shifted(number):
    return np.roll(mask_labels(), number, axis=1)


def write_maps(folder, frames=range(5)):
    folder.mkdir(parents=True)
    for number in frames:
        write_labels(folder / f"{number:05d}.png", shifted(number))
    return folder


def write_scores(folder, frames=range(1, 5)):
    folder.mkdir()
    for number in frames:
        for object_id in (2, 7):
            score = 0.9 * (shifted(number) == object_id)
            score[2:4, 2:4] = 0.8  # a far island that the filter takes away
            write_score_map(folder / f"{number:05d}_{object_id}.png", score)
    return folder


def read_all(folder):
    return {path.stem: read_labels(path) for path in sorted(folder.iterdir())}


def test_folder_of_score_maps(tmp_path):
    scores, mask = write_scores(tmp_path / "spn"), make_mask(tmp_path / "mask.png")
    folder = refine_folder(
        scores, mask, tmp_path / "out", craf="release", save=["labels", "scores"], progress=False
    )
    assert folder == tmp_path / "out" / "spn"
    labels = read_all(folder)
    assert list(labels) == [f"{n:05d}" for n in range(5)]
    for number in range(5):
        assert np.array_equal(labels[f"{number:05d}"], shifted(number))
    assert len(list((tmp_path / "out" / "spn_scores").iterdir())) == 8
    assert read_score_map(tmp_path / "out" / "spn_scores" / "00003_7.png")[2, 2] == 0


def test_folder_form_keeps_what_is_in_the_output_folder(tmp_path):
    scores, mask = write_scores(tmp_path / "spn"), make_mask(tmp_path / "mask.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty: give --overwrite"):
        refine_folder(scores, mask, tmp_path / "out", progress=False)
    refine_folder(scores, mask, tmp_path / "out", overwrite=True, progress=False)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    before = contents(scores)
    with pytest.raises(InputError, match="spn would be overwritten"):
        refine_folder(scores, mask, tmp_path, overwrite=True, progress=False)
    assert contents(scores) == before


def test_label_maps_through_the_filter(clip, tmp_path):
    maps = write_maps(tmp_path / "maps")
    labels = shifted(3)
    labels[2:4, 2:4] = 7  # an island
    write_labels(maps / "00003.png", labels)
    folder = refine(clip, maps, tmp_path / "out", stages=["craf"])
    found = read_all(folder)
    assert folder == tmp_path / "out" / "clip" and len(found) == 5
    for number in range(5):
        assert np.array_equal(found[f"{number:05d}"], shifted(number))


def test_score_maps_with_the_first_annotation(clip, tmp_path):
    scores, mask = write_scores(tmp_path / "scores"), make_mask(tmp_path / "mask.png")
    given = {"mask": mask, "stages": ["craf"], "craf": "paper"}
    found = read_all(refine(clip, scores, tmp_path / "out", **given))
    craf = build_craf("paper", (2, 7))
    craf.start(mask_labels())
    assert np.array_equal(found["00000"], mask_labels())
    for number in range(1, 5):
        read = [read_score_map(scores / f"{number:05d}_{i}.png") for i in (2, 7)]
        assert np.array_equal(found[f"{number:05d}"], craf.step(np.stack(read)).labels)


def test_network_refines_masks_of_any_tool(segmenter, clip, tmp_path):
    maps = write_maps(tmp_path / "maps")
    given = {"segmenter": segmenter, "save": ["labels", "scores"]}
    folder = refine(clip, maps, tmp_path / "out", stages=["spn"], **given)
    assert sorted(np.unique(read_all(folder)["00004"])) == [0, 2, 7]
    score = read_score_map(tmp_path / "out" / "clip_scores" / "00004_2.png")
    assert score.shape == SIZE and len(np.unique(score)) > 20  # no longer 0 and 255
    refine(clip, maps, tmp_path / "both", **given)
    assert len(list((tmp_path / "both" / "clip").iterdir())) == 5


def test_objects_may_be_anywhere_after_a_cut(segmenter, tmp_path):
    (tmp_path / "film").mkdir()
    (tmp_path / "maps").mkdir()
    grounds = np.random.default_rng(0).integers(0, 160, (2, 96, 256, 3), dtype=np.uint8)
    for number, (scene, left) in enumerate(((0, 10), (0, 12), (1, 200))):
        frame = cv2.GaussianBlur(grounds[scene], (0, 0), 6 - 3 * scene)
        frame[..., scene] //= 3
        frame[30:66, left : left + 36] = (240, 230, 40)
        labels = np.zeros((96, 256), np.int32)
        labels[30:66, left : left + 36] = 1
        Image.fromarray(frame).save(tmp_path / "film" / f"{number:05d}.png")
        write_labels(tmp_path / "maps" / f"{number:05d}.png", labels)
    for stages, kept in (["spn", "craf"], True), (["craf"], False):  # which sees no frames
        out = tmp_path / "-".join(stages)
        options = {"stages": stages, "segmenter": segmenter if "spn" in stages else None}
        found = read_all(refine(tmp_path / "film", tmp_path / "maps", out, **options))
        assert (found["00001"][30:66, 12:48] == 1).mean() > 0.95
        shown = (found["00002"][30:66, 200:236] == 1).mean()
        assert shown > 0.95 if kept else not shown
        assert json.loads((out / "run.json").read_text())["cuts"] == (["00002"] if kept else [])


def test_binary_masks_of_0_and_255_are_object_1(clip, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in range(5):
        binary = (shifted(number) > 0) * np.uint8(255)
        Image.fromarray(binary).save(maps / f"{number:05d}.png")
    found = read_all(refine(clip, maps, tmp_path / "out", stages=["craf"]))
    assert np.array_equal(found["00002"], shifted(2) > 0)


def test_objects_that_come_later_are_refined_too(clip, tmp_path):
    maps = write_maps(tmp_path / "maps")
    for number in (0, 1):
        labels = shifted(number)
        labels[labels == 7] = 0
        write_labels(maps / f"{number:05d}.png", labels)
    found = read_all(refine(clip, maps, tmp_path / "out", stages=["craf"]))
    assert not (found["00001"] == 7).any()
    assert np.array_equal(found["00004"] == 7, shifted(4) == 7)


def test_bad_arguments_are_told_before_anything_is_written(clip, tmp_path):
    maps, given = write_maps(tmp_path / "maps"), {"stages": ["craf"]}
    with pytest.raises(InputError, match="--stages blur,craf: give one or both of spn,craf"):
        refine(clip, maps, tmp_path / "out", stages=["craf", "blur"])
    with pytest.raises(InputError, match="--save does not know video"):
        refine(clip, maps, tmp_path / "out", save=["video"], **given)
    with pytest.raises(InputError, match="unknown CRAF parameter set 'best'"):
        refine(clip, maps, tmp_path / "out", craf="best", **given)
    with pytest.raises(InputError, match="--panel shows .* add craf"):
        refine(clip, maps, tmp_path / "out", stages=["spn"], panel=True)
    with pytest.raises(InputError, match=r"one frame, which --mask annotates"):
        refine(clip, maps, tmp_path / "out", end=1, mask=maps / "00000.png", **given)
    assert not (tmp_path / "out").exists()


def test_masks_are_never_overwritten(clip, tmp_path):
    # The default output of a segmentation is the most usual input of a refinement.
    maps = write_maps(tmp_path / "clip-segspn" / "clip")
    before = contents(maps)
    with pytest.raises(InputError, match="clip would be overwritten by the output"):
        refine(clip, maps.parent, maps.parent, stages=["craf"], overwrite=True)
    objects = tmp_path / "objects"
    for object_id in (2, 7):
        folder = objects / str(object_id)
        folder.mkdir(parents=True)
        for number in range(5):
            Image.fromarray((shifted(number) == object_id) * np.uint8(255)).save(
                folder / f"{number:05d}.png"
            )
    two = clip.rename(tmp_path / "2")  # whose label maps would be OUT/2
    with pytest.raises(InputError, match="2 would be overwritten by the output"):
        refine(two, objects, objects, stages=["craf"], overwrite=True)
    assert contents(maps) == before and len(contents(objects)) == 10


def test_every_kind_of_output(segmenter, clip, tmp_path):
    maps, out = write_maps(tmp_path / "maps"), tmp_path / "out"
    summary = refine_video(
        clip, maps, out, segmenter=segmenter, save=SAVEABLE, panel=True, progress=False
    )
    names = [f"{n:05d}" for n in range(5)]
    each = [f"{name}_{i}" for name in names for i in (2, 7)]
    assert sorted(contents(out)) == sorted(
        [f"clip/{name}.png" for name in names]
        + [f"clip_panel/{name}.png" for name in names]
        + [f"clip_scores/{name}.png" for name in each]
        + [f"clip_cutouts/{name}.png" for name in each]
        + [f"clip_stages/{kind}/{name}.png" for kind in ("hard", "coarse", "refined") for name in each]
        + ["clip.mp4", "clip_sheet.png", "clip_rle.json"]
    )
    for object_id in (2, 7):
        given = read_score_map(out / "clip_stages" / "coarse" / f"00003_{object_id}.png")
        assert np.array_equal(given == 255, shifted(3) == object_id)
        spread = read_score_map(out / "clip_stages" / "refined" / f"00003_{object_id}.png")
        assert not np.array_equal(given, spread)
    report = json.loads((out / "run.json").read_text())
    assert report == summary.report and report["masks"] == "label maps"
    assert report["objects"] == [2, 7] and report["preset"]["spn"]["enabled"]
    assert set(report["timings"]) == {"masks", "spn", "craf", "memory", "frame"}


def test_smaller_working_size_gives_full_size_results(clip, tmp_path):
    maps, mask = write_maps(tmp_path / "maps"), make_mask(tmp_path / "mask.png")
    given = {"stages": ["craf"], "save": ["labels", "scores"], "mask": mask, "max_side": 48}
    found = read_all(refine(clip, maps, tmp_path / "out", **given))
    assert np.array_equal(found["00000"], mask_labels())  # as it was given, not shrunk and enlarged
    assert found["00004"].shape == SIZE and (found["00004"] != shifted(4)).mean() < 0.03
    assert read_score_map(tmp_path / "out" / "clip_scores" / "00003_7.png").shape == SIZE


def test_masks_of_another_size(clip, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    for number in range(5):
        picture = Image.fromarray(shifted(number).astype(np.uint8))
        picture.resize((32, 24), Image.Resampling.NEAREST).save(small / f"{number:05d}.png")
    with pytest.raises(InputError, match=r"00000\.png is 32x24 but 64x48 is needed.*--resize-mask"):
        refine(clip, small, tmp_path / "out", stages=["craf"])
    found = read_all(refine(clip, small, tmp_path / "out", stages=["craf"], resize_mask=True))
    assert (found["00002"] != shifted(2)).mean() < 0.03


def test_an_object_without_a_mask_has_no_pixels(segmenter, clip, tmp_path):
    maps = write_maps(tmp_path / "maps")
    labels = shifted(3)
    labels[labels == 7] = 0
    write_labels(maps / "00003.png", labels)
    write_labels(maps / "00004.png", np.zeros(SIZE, np.int32))
    given = {"segmenter": segmenter, "save": ["labels", "scores"]}
    found = read_all(refine(clip, maps, tmp_path / "out", **given))
    assert sorted(np.unique(found["00003"])) == [0, 2]
    assert not found["00004"].any()
    assert not read_score_map(tmp_path / "out" / "clip_scores" / "00003_7.png").any()


def test_foreground_masks_bound_the_labels(clip, tmp_path):
    maps, foreground = write_maps(tmp_path / "maps"), tmp_path / "foreground"
    foreground.mkdir()
    allowed = np.zeros(SIZE, np.uint8)
    allowed[:24] = 255
    for number in range(5):
        Image.fromarray(allowed).save(foreground / f"{number:05d}.png")
    given = {"stages": ["craf"], "foreground": foreground}
    found = read_all(refine(clip, maps, tmp_path / "out", **given))
    assert all(not labels[24:].any() and labels[:24].any() for labels in found.values())
    (foreground / "00003.png").unlink()
    with pytest.raises(InputError, match=r"foreground/00003\.png is missing"):
        refine(clip, maps, tmp_path / "gap", **given)


def test_objects_of_the_annotation_and_of_the_masks(clip, tmp_path):
    maps, told = write_maps(tmp_path / "maps"), []
    labels = mask_labels()
    labels[labels == 7] = 3
    write_labels(tmp_path / "mask.png", labels)
    given = {"stages": ["craf"], "mask": tmp_path / "mask.png", "note": told.append}
    found = read_all(refine(clip, maps, tmp_path / "out", **given))
    assert sorted(np.unique(found["00003"])) == [0, 2]
    assert "has objects 2, 7, " in told[0] and "has 2, 3: only objects of both" in told[0]
    labels[labels == 2] = 4
    write_labels(tmp_path / "mask.png", labels)
    with pytest.raises(InputError, match="has objects 2, 7, .*has 3, 4: give both the same ids"):
        refine(clip, maps, tmp_path / "none", **given)


def test_notes_reach_the_caller_and_the_report(clip, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in range(5):
        write_labels(maps / f"mask_{number}.png", shifted(number))
    told = []
    summary = refine_video(
        clip, maps, tmp_path / "out", stages=["craf"], progress=False, note=told.append
    )
    assert len(told) == 1 and "were taken in order, from mask_0 to mask_4" in told[0]
    assert summary.report["notes"] == told
    assert np.array_equal(read_all(summary.labels)["00003"], shifted(3))


@pytest.mark.skipif(RUNNING is None, reason="SEGSPN_CRAF_RUNNING names no folder")
@pytest.mark.parametrize("craf", ["release", "default", "paper"])
def test_the_authors_own_score_maps(tmp_path, craf):
    folder = Path(str(RUNNING))
    labels = refine_folder(folder, folder / "annotation_00000.png", tmp_path, craf=craf, progress=False)
    found = read_all(labels)
    assert [int(stem) for stem in found] == list(range(21))
    # Both runners are there in every frame of the first third, before they cross.
    assert all({1, 2} <= set(np.unique(found[f"{n:05d}"])) for n in range(7))
