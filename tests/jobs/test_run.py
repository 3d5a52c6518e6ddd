from __future__ import annotations

import json

import numpy as np
import pytest
from clips import SIZE, contents, make_frames, make_mask, make_video, mask_labels, picture_of
from fake_segmenter import FakeSegmenter
from PIL import Image

from segspn.craf import merge
from segspn.errors import InputError
from segspn.jobs import SAVEABLE, default_out, segment_video
from segspn.jobs.layout import video_name
from segspn.tracks import decode_rle
from segspn.video import open_source, read_labels, read_score_map, write_labels


@pytest.fixture
def clip(tmp_path):
    return make_frames(tmp_path / "clip"), make_mask(tmp_path / "mask.png"), tmp_path / "out"


def run(clip, **options):
    return segment_video(*clip, segmenter=FakeSegmenter(), progress=False, **options)


def by_hand(folder, key=0, step=1):
    """Results of a session of our own, by index."""
    session = FakeSegmenter().session()
    source = open_source(folder)
    frames = source.read(key, None, step)
    results = {key: session.begin(next(frames), mask_labels())}
    for distance, frame in enumerate(frames, start=1):
        results[key + step * distance] = session.step(frame)
    return results


def test_labels_are_those_of_one_session_over_all_frames(clip):
    summary = run(clip)
    assert summary.frames == 12 and summary.ids == (2, 7) and not summary.was_finished
    for index, result in by_hand(clip[0]).items():
        assert np.array_equal(read_labels(summary.labels / f"{index:05d}.png"), result.labels)


def test_default_output_is_davis_layout_overlay_sheet_and_report(clip):
    run(clip)
    assert sorted(p.name for p in clip[2].iterdir()) == [
        "clip", "clip.mp4", "clip_sheet.png", "run.json",
    ]  # fmt: skip
    assert [p.name for p in sorted((clip[2] / "clip").iterdir())] == [f"{n:05d}.png" for n in range(12)]
    video = open_source(clip[2] / "clip.mp4")
    assert len(video) == 12 and video.size == SIZE and video.fps == 24


def test_mask_on_a_later_frame_goes_both_ways(clip):
    run(clip, mask_frame=5, save=["labels"])
    wanted = {**by_hand(clip[0], 5, -1), **by_hand(clip[0], 5)}
    assert sorted(wanted) == list(range(12))
    for index, result in wanted.items():
        labels = read_labels(clip[2] / "clip" / f"{index:05d}.png")
        assert np.array_equal(labels, result.labels)


def test_mask_frame_counts_in_the_source_and_must_be_selected(clip):
    run(clip, start=2, stride=3, mask_frame=8)
    names = [p.stem for p in sorted((clip[2] / "clip").iterdir())]
    assert names == ["00002", "00005", "00008", "00011"]
    assert np.array_equal(read_labels(clip[2] / "clip" / "00008.png"), mask_labels())
    # The overlay plays at the source's speed.
    assert open_source(clip[2] / "clip.mp4").fps == 8
    with pytest.raises(InputError, match="frame 7 .* choose --mask-frame from 2 to 11 in steps"):
        run(clip, start=2, stride=3, mask_frame=7, overwrite=True)


def correction(path, object_id=2):
    labels = np.zeros(SIZE, np.int32)
    labels[10:30, 20:50] = object_id
    write_labels(path, labels)
    return labels


def test_corrections_are_kept_and_followed_from_both_ways(clip, tmp_path):
    labels = correction(tmp_path / "more.png", object_id=9)
    again = correction(tmp_path / "again.png")
    given = {8: tmp_path / "more.png", 2: tmp_path / "again.png"}
    summary = run(clip, mask_frame=5, corrections=given, save=["labels"])
    assert summary.ids == (2, 7, 9)
    assert np.array_equal(read_labels(summary.labels / "00008.png"), labels)
    assert np.array_equal(read_labels(summary.labels / "00002.png"), again)
    assert np.array_equal(read_labels(summary.labels / "00005.png"), mask_labels())
    session = FakeSegmenter().session()
    frames = open_source(clip[0]).read(5)
    session.begin(next(frames), mask_labels(), [(labels, labels)])
    for index, frame in enumerate(frames, start=6):
        wanted = session.step(frame).labels
        if index == 8:
            wanted = session.annotate(frame, labels)
        assert np.array_equal(read_labels(summary.labels / f"{index:05d}.png"), wanted)


def test_corrections_of_frames_that_are_not_there(clip, tmp_path):
    correction(tmp_path / "more.png")
    with pytest.raises(InputError, match="frame 12 .* choose --correct from 0 to 11"):
        run(clip, corrections={12: tmp_path / "more.png"})
    with pytest.raises(InputError, match="one mask of each frame"):
        run(clip, mask_frame=3, corrections={3: tmp_path / "more.png"})
    with pytest.raises(InputError, match="none.png"):
        run(clip, corrections={3: tmp_path / "none.png"})
    assert not clip[2].exists()


def test_every_kind_of_output(clip):
    run(clip, save=SAVEABLE, panel=True)
    folder, out, _ = clip[0], clip[2], None
    results = by_hand(folder)
    for position, object_id in enumerate((2, 7)):
        name = f"00004_{object_id}.png"
        result = results[4]
        score = read_score_map(out / "clip_scores" / name)
        assert np.array_equal(score, np.rint(result.scores[position] * 255))
        coarse = read_score_map(out / "clip_stages" / "coarse" / name)
        assert np.array_equal(coarse, np.rint(result.stages.coarse[position] * 255))
        refined = read_score_map(out / "clip_stages" / "refined" / name)
        assert np.array_equal(refined, np.rint(result.stages.refined[position] * 255))
        hard = picture_of(out / "clip_stages" / "hard" / name)
        assert np.array_equal(hard, np.where(result.stages.coarse[position] >= 0.5, 255, 0))
        rgba = picture_of(out / "clip_cutouts" / name)
        assert np.array_equal(rgba[..., 3], np.where(result.labels == object_id, 255, 0))
        assert np.array_equal(rgba[..., :3], picture_of(folder / "00004.png"))
    foreground = picture_of(out / "clip_stages" / "foreground" / "00004.png")
    assert np.array_equal(foreground, np.where(results[4].stages.foreground >= 0.5, 255, 0))
    assert len(list((out / "clip_panel").iterdir())) == 12


def test_run_length_encoded_masks_are_those_of_the_label_maps(clip):
    summary = run(clip, save=["labels", "rle"], start=1, stride=4)
    content = json.loads((clip[2] / "clip_rle.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 5, 9]
    for image in content["images"]:
        labels = np.zeros(SIZE, np.int32)
        for entry in content["annotations"]:
            if entry["image_id"] == image["id"]:
                labels[decode_rle(entry["segmentation"]["counts"], SIZE)] = entry["track_id"]
        assert labels.any()
        assert np.array_equal(labels, read_labels(summary.labels / image["file_name"]))


def test_overlay_alone_leaves_no_label_files(clip):
    summary = run(clip, save=["overlay"])
    assert summary.labels is None
    assert sorted(contents(clip[2])) == ["clip.mp4", "clip_sheet.png"]


def test_video_file_gives_the_same_as_its_frames(tmp_path):
    video, mask = make_video(tmp_path / "film.mp4"), make_mask(tmp_path / "mask.png")
    run((video, mask, tmp_path / "out"), save=["labels"])
    labels = read_labels(tmp_path / "out" / "film" / "00011.png")
    assert np.array_equal(labels, by_hand(video)[11].labels)


def test_report_tells_what_was_run(clip):
    summary = run(clip, max_side=32)
    report = json.loads((clip[2] / "run.json").read_text())
    assert report == summary.report
    assert report["finished"] is True
    assert report["frames"] == 12 and report["size"] == list(SIZE)
    assert report["preset"] == {"name": "default", "rates": [0.6, 0.4], "threshold": 0.5}
    assert report["timings"]["backbone"] == {"total": 3.0, "median": 0.25}
    assert report["timings"]["fit"] == {"total": 0.5, "median": 0.5}
    assert report["cuts"] == [] and "cut" not in summary.told()
    assert set(report["versions"]) == {"segspn", "torch", "numpy", "python"}
    assert report["arguments"]["--max-side"] == 32
    assert report["peak_memory_bytes"] > 1 << 20


def test_report_tells_where_the_scene_changes(clip):
    for number in (2, 8):  # of which the first is the last of its scene: the clip is followed from 5
        Image.new("RGB", SIZE[::-1], "white").save(clip[0] / f"{number:05d}.png")
    summary = run(clip, mask_frame=5)
    assert summary.report["cuts"] == ["00003", "00008"]
    assert "2 objects, 2 cuts, " in summary.told()


def test_smaller_working_size_gives_full_size_results(clip):
    run(clip, max_side=32, save=SAVEABLE)
    first = read_labels(clip[2] / "clip" / "00000.png")
    assert np.array_equal(first, mask_labels())  # as it was given, not shrunk and enlarged
    assert read_labels(clip[2] / "clip" / "00009.png").shape == SIZE
    assert read_score_map(clip[2] / "clip_stages" / "refined" / "00009_7.png").shape == SIZE


def test_overwrite_removes_stale_frames_and_nothing_else(clip):
    run(clip)
    (clip[2] / "clip" / "notes.txt").write_text("mine")
    run(clip, end=4, save=["labels"], overwrite=True)
    assert sorted(contents(clip[2])) == [
        *(f"clip/{n:05d}.png" for n in range(4)), "clip/notes.txt", "clip_sheet.png",
    ]  # fmt: skip


def test_temporary_files_of_a_killed_writer_do_not_count(clip):
    clip[2].mkdir()
    (clip[2] / ".run.json.tmp").write_text("")
    assert run(clip).frames == 12


@pytest.mark.parametrize("out", ["", "clip"])
def test_output_never_replaces_the_input(tmp_path, out):
    # With --overwrite, OUT/clip is emptied: it must not be the folder of the frames.
    frames = make_frames(tmp_path / out / "clip")
    before = contents(tmp_path)
    mask = make_mask(tmp_path / "mask.png")
    with pytest.raises(InputError, match="would be overwritten .* --out"):
        run((frames, mask, tmp_path / out), overwrite=True)
    mask.unlink()
    assert contents(tmp_path) == before


def test_overlay_never_replaces_the_input_video(tmp_path):
    video, mask = make_video(tmp_path / "film.mp4"), make_mask(tmp_path / "mask.png")
    before = video.read_bytes()
    with pytest.raises(InputError, match="film.mp4 would be overwritten"):
        run((video, mask, tmp_path), overwrite=True)
    assert video.read_bytes() == before


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("film.tar.mp4", "film.tar"),
        ("clip", "clip"),
        ("clip/", "clip"),
        ("clip/*.png", "clip"),
        ("*/0000*.png", "HERE"),
    ],
)
def test_names_of_outputs(tmp_path, monkeypatch, spec, name):
    make_frames(tmp_path / "clip", 1)
    (tmp_path / "film.tar.mp4").touch()
    monkeypatch.chdir(tmp_path)
    wanted = tmp_path.name if name == "HERE" else name
    assert video_name(spec) == wanted
    assert default_out(spec).name == f"{wanted}-segspn"


def test_panel_shows_the_merge_before_the_filter(clip):
    run(clip, panel=True, save=["labels"])
    result = by_hand(clip[0])[6]
    before = merge(result.stages.refined, result.ids)
    assert not np.array_equal(before, result.labels)
    assert picture_of(clip[2] / "clip_panel" / "00006.png").shape[2] == 3
