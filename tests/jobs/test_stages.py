"""Each stage from files to files; the learned ones with the default preset's real nets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clips import contents, make_frames, make_mask, mask_labels, picture_of

from segspn.craf import build_craf, merge
from segspn.errors import InputError
from segspn.jobs import (
    fit_stage,
    run_craf,
    run_foreground,
    run_instance,
    run_merge,
    run_spn,
    segment_video,
)
from segspn.jobs.stage_models import with_preset
from segspn.video import open_source, read_labels, read_score_map, write_mask, write_score_map

BIG = (64, 96)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    frames = make_frames(folder / "clip", 3, BIG)
    return open_source(frames), make_mask(folder / "mask.png", BIG)


def write_scores(folder, ids=(2, 7), frames=(1, 2, 3), seed=0):
    """Blobs that follow the mask, with noise, in the authors' naming."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number in frames:
        for object_id in ids:
            mask = np.roll(mask_labels() == object_id, number, axis=1)
            score = np.clip(0.8 * mask + rng.normal(0, 0.1, mask.shape), 0, 1)
            write_score_map(folder / f"{number:05d}_{object_id}.png", score)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Merge


def test_merge(tmp_path):
    scores = write_scores(tmp_path / "scores")
    run_merge(scores, tmp_path / "out", threshold=0.6, progress=False)
    assert names(tmp_path / "out") == ["00001.png", "00002.png", "00003.png"]
    for name in ("00001", "00003"):
        read = np.stack([read_score_map(scores / f"{name}_{i}.png") for i in (2, 7)])
        labels = read_labels(tmp_path / "out" / f"{name}.png")
        assert np.array_equal(labels, merge(read / 255, (2, 7), 0.6))
        assert set(np.unique(labels)) == {0, 2, 7}


def test_merge_with_annotation_and_foreground(tmp_path):
    # Frame 0 has a map of one object only, as in the authors' own files: it is not looked at.
    scores = write_scores(tmp_path / "scores")
    (scores / "00000_7.png").write_bytes((scores / "00001_7.png").read_bytes())
    inside = tmp_path / "foreground"
    inside.mkdir()
    left = np.zeros(mask_labels().shape, bool)
    left[:, :32] = True
    for number in (1, 2, 3):
        write_mask(inside / f"{number:05d}.png", left)
    mask = make_mask(tmp_path / "mask.png")
    run_merge(scores, tmp_path / "out", mask=mask, foreground=inside, progress=False)
    assert np.array_equal(read_labels(tmp_path / "out" / "00000.png"), mask_labels())
    labels = read_labels(tmp_path / "out" / "00002.png")
    assert labels[:, :32].any() and not labels[:, 32:].any()
    with pytest.raises(InputError, match=r"00000_2\.png is missing"):
        run_merge(scores, tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_results_are_replaced_only_on_request_and_stale_ones_go(tmp_path):
    scores = write_scores(tmp_path / "scores")
    run_merge(scores, tmp_path / "out", progress=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds results of this stage already.*--overwrite"):
        run_merge(scores, tmp_path / "out", progress=False)
    (scores / "00003_2.png").unlink()
    (scores / "00003_7.png").unlink()
    run_merge(scores, tmp_path / "out", overwrite=True, progress=False)
    assert names(tmp_path / "out") == ["00001.png", "00002.png", "notes.txt"]


@pytest.mark.parametrize("stage", ["merge", "craf"])
def test_no_stage_writes_over_its_input(tmp_path, stage):
    scores, mask = write_scores(tmp_path / "scores"), make_mask(tmp_path / "mask.png")
    before = contents(scores)
    with pytest.raises(InputError, match="is an input and would be written to"):
        if stage == "merge":
            run_merge(scores, scores, overwrite=True, progress=False)
        else:
            run_craf(scores, mask, scores, overwrite=True, progress=False)
    assert contents(scores) == before


def test_maps_of_another_size_and_folders_without_any(tmp_path):
    scores = write_scores(tmp_path / "scores")
    write_score_map(scores / "00002_7.png", np.zeros((10, 12)))
    with pytest.raises(InputError, match=r"00002_7\.png is 12x10 but 64x48 is needed"):
        run_merge(scores, tmp_path / "out", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no score maps: name them like"):
        run_merge(tmp_path / "empty", tmp_path / "out2", progress=False)
    with pytest.raises(InputError, match="none is not a folder"):
        run_merge(tmp_path / "none", tmp_path / "out2", progress=False)
    with pytest.raises(InputError, match="--threshold 2 is not a score"):
        run_merge(scores, tmp_path / "out2", threshold=2, progress=False)


# CRAF


def test_craf_writes_score_maps_and_labels(tmp_path):
    scores, mask = write_scores(tmp_path / "scores"), make_mask(tmp_path / "mask.png")
    run_craf(scores, mask, tmp_path / "out", craf="paper", progress=False)
    assert names(tmp_path / "out") == sorted(
        ["00000.png"] + [f"0000{n}{e}.png" for n in (1, 2, 3) for e in ("", "_2", "_7")]
    )
    assert np.array_equal(read_labels(tmp_path / "out" / "00000.png"), mask_labels())
    craf = build_craf("paper", (2, 7))
    craf.start(mask_labels())
    for number in (1, 2, 3):
        read = [read_score_map(scores / f"{number:05d}_{i}.png") for i in (2, 7)]
        result = craf.step(np.stack(read))
        labels = read_labels(tmp_path / "out" / f"{number:05d}.png")
        assert np.array_equal(labels, result.labels)
        for object_id, score in zip((2, 7), result.scores, strict=True):
            written = read_score_map(tmp_path / "out" / f"{number:05d}_{object_id}.png")
            assert np.array_equal(written, np.rint(score * 255))


# The learned stages


def test_foreground(segmenter, clip, tmp_path):
    source, mask = clip
    run_foreground(source, mask, tmp_path / "out", segmenter=segmenter, progress=False)
    assert names(tmp_path / "out") == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(picture_of(tmp_path / "out" / "00000.png"), 255 * (mask_labels(BIG) > 0))
    later = picture_of(tmp_path / "out" / "00002.png")
    assert later.shape == BIG and set(np.unique(later)) <= {0, 255}
    # The same masks as those that the whole method leaves.
    whole = tmp_path / "whole"
    segment_video(source.spec, mask, whole, segmenter=segmenter, save=["stages"], progress=False)
    stages = whole / "clip_stages"
    assert contents(stages / "foreground") == contents(tmp_path / "out")


def test_instance_of_one_object_leaves_the_others_alone(segmenter, clip, tmp_path):
    source, mask = clip
    out = tmp_path / "out"
    run_instance(source, mask, out, segmenter=segmenter, object_id=7, progress=False)
    assert names(out / "masks") == names(out / "scores") == [f"0000{n}_7.png" for n in range(3)]
    first = picture_of(out / "masks" / "00000_7.png")
    assert np.array_equal(first, 255 * (mask_labels(BIG) == 7))
    for name in ("00001_7.png", "00002_7.png"):
        score, hard = picture_of(out / "scores" / name), picture_of(out / "masks" / name)
        sure = score != 128  # 127.5 is one half
        assert np.array_equal(hard[sure], np.where(score > 127, 255, 0)[sure])
    before = contents(out)
    run_instance(source, mask, out, segmenter=segmenter, object_id=2, progress=False)
    after = contents(out)
    assert len(after) == 12 and before.items() <= after.items()
    with pytest.raises(InputError, match="no object 3: choose --object from 2, 7"):
        run_instance(source, mask, out, segmenter=segmenter, object_id=3, progress=False)


def test_instance_inside_the_foreground(segmenter, clip, tmp_path):
    source, mask = clip
    inside = tmp_path / "foreground"
    inside.mkdir()
    for name in source.names:
        write_mask(inside / f"{name}.png", np.zeros(BIG, bool))
    out = tmp_path / "out"
    run_instance(source, mask, out, segmenter=segmenter, object_id=2, foreground=inside, progress=False)
    assert picture_of(out / "scores" / "00000_2.png").any()  # the annotation stays
    assert not picture_of(out / "scores" / "00001_2.png").any()


def test_a_model_that_was_fitted_before_gives_the_same(segmenter, clip, tmp_path):
    source, mask = clip
    given = {"segmenter": segmenter, "object_id": 2}
    paths = fit_stage(source, mask, tmp_path / "models", **given)
    assert [p.name for p in paths] == ["2_00001.safetensors"] == names(tmp_path / "models")
    run_instance(source, mask, tmp_path / "a", model=paths[0], progress=False, **given)
    run_instance(source, mask, tmp_path / "b", progress=False, **given)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with pytest.raises(InputError, match="learns an object in one step"):
        run_instance(source, mask, tmp_path / "c", iterations=6, progress=False, **given)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("adapts", [True, False])
def test_foreground_model_and_its_snapshots(segmenter, clip, tmp_path, adapts):
    """Who asks for it gets it, with presets too that adapt nothing by themselves."""
    source, mask = clip
    preset = segmenter.preset
    preset = replace(preset, foreground=replace(preset.foreground, adapt=adapts))
    segmenter = with_preset(segmenter, preset)
    paths = fit_stage(
        source, mask, tmp_path / "models", segmenter=segmenter, iterations=6, snapshot_every=4
    )
    assert [p.name for p in paths] == [f"foreground_0000{n}.safetensors" for n in (4, 6)]
    assert paths[0].read_bytes() != paths[1].read_bytes()
    given = {"segmenter": segmenter, "progress": False}
    run_foreground(source, mask, tmp_path / "a", model=paths[1], **given)
    run_foreground(source, mask, tmp_path / "b", iterations=6, **given)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_models_that_do_not_fit(segmenter, clip, tmp_path):
    source, mask = clip
    given = {"segmenter": segmenter, "progress": False}
    model = fit_stage(source, mask, tmp_path / "models", segmenter=segmenter, object_id=2, iterations=1)[
        0
    ]
    with pytest.raises(InputError, match="is a model of 2, not of 7"):
        run_instance(source, mask, tmp_path / "out", object_id=7, model=model, **given)
    with pytest.raises(InputError, match="is a model of 2, not of foreground"):
        run_foreground(source, mask, tmp_path / "out", model=model, **given)
    with pytest.raises(InputError, match=r"mask\.png is no readable model: make one with --fit"):
        run_foreground(source, mask, tmp_path / "out", model=mask, **given)
    with pytest.raises(InputError, match="say which with --object"):
        run_instance(source, mask, tmp_path / "out", model=model, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("numbers", [{"iterations": 0}, {"iterations": 3, "snapshot_every": 0}])
def test_impossible_schedules(segmenter, clip, tmp_path, numbers):
    with pytest.raises(InputError, match="give 1 or more"):
        fit_stage(*clip, tmp_path / "out", segmenter=segmenter, **numbers)
    assert not (tmp_path / "out").exists()


def test_spn_refines_what_the_stages_left(segmenter, clip, tmp_path):
    source, mask = clip
    coarse = tmp_path / "coarse"
    run_instance(source, mask, coarse, segmenter=segmenter, progress=False)
    run_spn(source, coarse / "scores", tmp_path / "out", segmenter=segmenter, progress=False)
    assert names(tmp_path / "out") == names(coarse / "scores")
    assert contents(tmp_path / "out") != contents(coarse / "scores")
    # The annotated frame needs no score maps; any other does.
    for object_id in (2, 7):
        (coarse / "scores" / f"00000_{object_id}.png").unlink()
    run_spn(source, coarse / "scores", tmp_path / "b", segmenter=segmenter, progress=False)
    assert contents(tmp_path / "b").items() < contents(tmp_path / "out").items()
    (coarse / "scores" / "00002_7.png").unlink()
    with pytest.raises(InputError, match=r"00002_7\.png is missing"):
        run_spn(source, coarse / "scores", tmp_path / "c", segmenter=segmenter, progress=False)


# The whole method with real nets


def test_a_real_run_is_resumed_exactly(segmenter, tmp_path, monkeypatch):
    import signal

    from segspn.jobs import Interrupted, outputs

    frames, mask = make_frames(tmp_path / "clip", 9, BIG), make_mask(tmp_path / "m.png", BIG)
    given = {"segmenter": segmenter, "save": ["labels", "scores"], "progress": False}
    segment_video(frames, mask, tmp_path / "whole", mask_frame=3, **given)

    def stop(path, labels, wide=None, write=outputs.write_labels):
        write(path, labels, wide)
        if path.stem == "00001":  # the eighth, in the sweep back
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(outputs, "write_labels", stop)
    with pytest.raises(Interrupted):
        segment_video(frames, mask, tmp_path / "parts", mask_frame=3, **given)
    monkeypatch.undo()
    done = segment_video(frames, mask, tmp_path / "parts", mask_frame=3, resume=True, **given)
    assert done.resumed_at == 8
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
