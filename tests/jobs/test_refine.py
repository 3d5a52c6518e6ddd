from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from clips import SIZE, contents, make_frames, make_mask, mask_labels
from PIL import Image

from segspn.craf import build_craf
from segspn.errors import InputError
from segspn.jobs import refine_folder, refine_video
from segspn.jobs.refine import LabelMaps
from segspn.video import open_source, read_labels, read_score_map, write_labels, write_score_map

RUNNING = os.environ.get("SEGSPN_CRAF_RUNNING")


@pytest.fixture
def source(tmp_path):
    return open_source(make_frames(tmp_path / "clip", 5))


def shifted(number):
    return np.roll(mask_labels(), number, axis=1)


def write_maps(folder, frames=range(5)):
    folder.mkdir()
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


def test_label_maps_through_the_filter(source, tmp_path):
    maps = write_maps(tmp_path / "maps")
    labels = shifted(3)
    labels[2:4, 2:4] = 7  # an island
    write_labels(maps / "00003.png", labels)
    folder = refine_video(source, maps, tmp_path / "out", stages=["craf"], progress=False)
    found = read_all(folder)
    assert folder == tmp_path / "out" / "clip" and len(found) == 5
    for number in range(5):
        assert np.array_equal(found[f"{number:05d}"], shifted(number))


def test_score_maps_with_the_first_annotation(source, tmp_path):
    scores, mask = write_scores(tmp_path / "scores"), make_mask(tmp_path / "mask.png")
    given = {"mask": mask, "stages": ["craf"], "craf": "paper", "progress": False}
    found = read_all(refine_video(source, scores, tmp_path / "out", **given))
    craf = build_craf("paper", (2, 7))
    craf.start(mask_labels())
    assert np.array_equal(found["00000"], mask_labels())
    for number in range(1, 5):
        read = [read_score_map(scores / f"{number:05d}_{i}.png") for i in (2, 7)]
        assert np.array_equal(found[f"{number:05d}"], craf.step(np.stack(read)).labels)


def test_network_refines_masks_of_any_tool(segmenter, source, tmp_path):
    maps = write_maps(tmp_path / "maps")
    given = {"segmenter": segmenter, "progress": False, "save": ["labels", "scores"]}
    folder = refine_video(source, maps, tmp_path / "out", stages=["spn"], **given)
    assert sorted(np.unique(read_all(folder)["00004"])) == [0, 2, 7]
    score = read_score_map(tmp_path / "out" / "clip_scores" / "00004_2.png")
    assert score.shape == SIZE and len(np.unique(score)) > 20  # no longer 0 and 255
    refine_video(source, maps, tmp_path / "both", **given)
    assert len(list((tmp_path / "both" / "clip").iterdir())) == 5


def test_binary_masks_of_0_and_255_are_object_1(source, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in range(5):
        binary = (shifted(number) > 0) * np.uint8(255)
        Image.fromarray(binary).save(maps / f"{number:05d}.png")
    found = read_all(refine_video(source, maps, tmp_path / "out", stages=["craf"], progress=False))
    assert np.array_equal(found["00002"], shifted(2) > 0)


def test_void_is_no_object_but_a_wide_id_is(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    labels = mask_labels()
    labels[0, 0] = 255
    Image.fromarray(labels.astype(np.uint8)).save(folder / "00000.png")
    assert LabelMaps(folder, ["00000"]).ids == (2, 7)
    labels[1, 0] = 300
    write_labels(folder / "00001.png", labels)
    assert LabelMaps(folder, ["00000", "00001"]).ids == (2, 7, 255, 300)


def test_objects_that_come_later_are_refined_too(source, tmp_path):
    maps = write_maps(tmp_path / "maps")
    for number in (0, 1):
        labels = shifted(number)
        labels[labels == 7] = 0
        write_labels(maps / f"{number:05d}.png", labels)
    found = read_all(refine_video(source, maps, tmp_path / "out", stages=["craf"], progress=False))
    assert not (found["00001"] == 7).any()
    assert np.array_equal(found["00004"] == 7, shifted(4) == 7)


def test_bad_masks_are_told_before_anything_is_written(source, tmp_path):
    given = {"stages": ["craf"], "progress": False}
    maps = write_maps(tmp_path / "maps")
    (maps / "00003.png").unlink()
    with pytest.raises(InputError, match=r"maps/00003\.png is missing: every frame needs"):
        refine_video(source, maps, tmp_path / "out", **given)
    write_labels(maps / "00003.png", np.zeros((10, 10), np.int32))
    with pytest.raises(InputError, match=r"00003\.png is 10x10 but 64x48 is needed"):
        refine_video(source, maps, tmp_path / "wrong", **given)
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in source.names:
        write_labels(empty / f"{name}.png", np.zeros(SIZE, np.int32))
    with pytest.raises(InputError, match="empty marks no object in any frame"):
        refine_video(source, empty, tmp_path / "out", **given)
    with pytest.raises(InputError, match="--stages blur,craf: give one or both of spn,craf"):
        refine_video(source, maps, tmp_path / "out", stages=["craf", "blur"], progress=False)
    with pytest.raises(InputError, match="--save overlay: give labels"):
        refine_video(source, maps, tmp_path / "out", save=["overlay"], **given)
    with pytest.raises(InputError, match="unknown CRAF parameter set 'best'"):
        refine_video(source, maps, tmp_path / "out", craf="best", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(RUNNING is None, reason="SEGSPN_CRAF_RUNNING names no folder")
@pytest.mark.parametrize("craf", ["release", "default", "paper"])
def test_the_authors_own_score_maps(tmp_path, craf):
    folder = Path(str(RUNNING))
    labels = refine_folder(folder, folder / "annotation_00000.png", tmp_path, craf=craf, progress=False)
    found = read_all(labels)
    assert [int(stem) for stem in found] == list(range(21))
    # Both runners are there in every frame of the first third, before they cross.
    assert all({1, 2} <= set(np.unique(found[f"{n:05d}"])) for n in range(7))
