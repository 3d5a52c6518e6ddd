"""Segmenter and Session, with the shipped weights and with the published nets, untrained."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segspn.errors import InputError
from segspn.foreground import NetForegroundConfig
from segspn.instance import InstanceConfig, NetInstanceConfig, View
from segspn.models import ResNet101Weights
from segspn.pipeline import Result, Segmenter, Session, resolve_device
from segspn.presets import Preset, load_preset

pytestmark = pytest.mark.usefixtures("one_thread")

Clip = list[tuple[np.ndarray, np.ndarray]]


def clip(count: int, h: int, w: int) -> Clip:
    """A red disc (object 3) and a blue square (object 7) that move over a soft texture."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), (0, 0), 4)
    frames: Clip = []
    for t in range(count):
        frame, labels = np.asarray(ground).copy(), np.zeros((h, w), np.int32)
        masks = np.zeros((2, h, w), np.uint8)
        radius, side, step = h // 5, h // 3, h // 24
        cv2.circle(masks[0], (w // 4 + t * step, h // 3), radius, 1, -1)
        corner = (w - side - 4 - t * step, h - side - 4)
        cv2.rectangle(masks[1], corner, (corner[0] + side, corner[1] + side), 1, -1)
        for mask, value, colour in zip(masks, (3, 7), ((220, 40, 30), (30, 60, 220)), strict=True):
            frame[mask > 0], labels[mask > 0] = colour, value
        frames.append((frame, labels))
    return frames


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("default", "cpu")


@pytest.fixture(scope="module")
def video() -> Clip:
    return clip(4, 100, 150)


def same(a: Result, b: Result) -> bool:
    pairs = [
        (a.labels, b.labels),
        (a.scores, b.scores),
        (a.stages.foreground, b.stages.foreground),
        (a.stages.coarse, b.stages.coarse),
        (a.stages.refined, b.stages.refined),
    ]
    return a.ids == b.ids and all(np.array_equal(x, y) for x, y in pairs)


def check_result(result: Result, size: tuple[int, int]) -> None:
    assert result.ids == (3, 7) and result.labels.dtype == np.int32
    assert result.labels.shape == size and set(np.unique(result.labels)) <= {0, 3, 7}
    stages = result.stages
    assert stages.foreground.shape == size
    for maps in (result.scores, stages.coarse, stages.refined):
        assert maps.shape == (2, *size) and maps.dtype == np.float32
        assert 0 <= maps.min() and maps.max() <= 1


def test_objects_are_followed_the_same_way_twice(segmenter: Segmenter, video: Clip) -> None:
    one, two = segmenter.session(), segmenter.session()
    for index, (frame, labels) in enumerate(video):
        results = [s.step(frame) if index else s.begin(frame, labels) for s in (one, two)]
        check_result(results[0], labels.shape)
        assert same(*results)
        for i in (3, 7):
            found, truth = results[0].labels == i, labels == i
            assert (found & truth).sum() / (found | truth).sum() > 0.75, (index, i)
    assert set(results[0].timings) == {
        "backbone", "foreground", "instance", "spn", "craf", "memory"
    }
    # Sessions of a segmenter share nothing that changes.
    assert one.instance is not two.instance and one.index == 4


def test_a_saved_session_goes_on_as_if_it_had_not_been(
    segmenter: Segmenter, video: Clip, tmp_path: Path
) -> None:
    session = segmenter.session()
    session.begin(*video[0])
    session.save(tmp_path)
    session.step(video[1][0])
    session.save(tmp_path)  # over the former state
    restored = segmenter.load_session(tmp_path)
    assert restored.index == session.index == 2
    for frame, _ in video[2:]:
        assert same(session.step(frame), restored.step(frame))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "state-0.safetensors", "state-1.safetensors", "state.json"
    ]


def test_states_that_cannot_be_taken_up(segmenter: Segmenter, video: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable session state"):
        segmenter.load_session(tmp_path)
    session = segmenter.session()
    session.begin(*video[0])
    session.save(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    for change, told in (
        ({"version": 0}, "another version"),
        ({"preset": {**state["preset"], "seed": 5}}, "another preset"),
    ):
        (tmp_path / "state.json").write_text(json.dumps({**state, **change}))
        with pytest.raises(InputError, match=told):
            segmenter.load_session(tmp_path)


def test_masks_and_frames_that_do_not_fit(segmenter: Segmenter, video: Clip) -> None:
    frame, labels = video[0]
    session = segmenter.session()
    with pytest.raises(ValueError, match="annotate a frame before stepping"):
        session.step(frame)
    with pytest.raises(InputError, match="the mask is empty"):
        session.begin(frame, np.zeros_like(labels))
    with pytest.raises(InputError, match="the mask is 149x100, the frame 150x100"):
        session.begin(frame, labels[:, 1:])
    session.begin(frame, labels)
    with pytest.raises(ValueError, match="annotated already"):
        session.begin(frame, labels)
    with pytest.raises(InputError, match=r"frame is \(99, 150\)"):
        session.step(frame[1:])


def test_stages_can_be_switched_off(segmenter: Segmenter, video: Clip) -> None:
    preset = segmenter.preset
    changed = replace(
        preset,
        spn=replace(preset.spn, enabled=False),
        craf=replace(preset.craf, enabled=False),
        foreground=replace(preset.foreground, adapt=False),
        instance=replace(preset.instance, tune=False),
    )
    session = Segmenter(changed, "cpu").session()
    session.begin(*video[0])
    result = session.step(video[1][0])
    assert np.array_equal(result.stages.coarse, result.stages.refined)
    assert np.array_equal(result.stages.refined, result.scores)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="'cuda' is not available.*--device cpu"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="unknown device 'tpu'; choose one of auto, cpu, cuda, mps"):
        resolve_device("tpu")


def tiny_paper() -> Preset:
    """The published preset with untrained nets and two iterations, which settle nothing."""
    paper = load_preset("paper")
    assert isinstance(paper.foreground, NetForegroundConfig)
    assert isinstance(paper.instance, NetInstanceConfig)
    fit = replace(paper.instance.fit, steps=2)
    weights = ResNet101Weights(backbone="random", parent="random", vgg="random", guidance="random")
    return replace(
        paper,
        weights=weights,
        # An untrained foreground would leave no score to look at.
        foreground=replace(paper.foreground, fit=fit, threshold=0.0),
        instance=replace(paper.instance, fit=fit),
    )


def test_the_published_nets_end_to_end(tmp_path: Path) -> None:
    video = clip(3, 64, 64)
    segmenter = Segmenter(tiny_paper(), "cpu")
    session = segmenter.session()
    check_result(session.begin(*video[0]), (64, 64))
    result = session.step(video[1][0])
    check_result(result, (64, 64))
    first, second = result.stages.coarse
    assert first.std() > 0 and not np.array_equal(first, second)
    session.save(tmp_path)
    restored = segmenter.load_session(tmp_path)
    assert same(session.step(video[2][0]), restored.step(video[2][0]))


def test_paper_says_which_weight_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSPN_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        Segmenter("paper", "cpu")
    text = str(caught.value)
    assert str(tmp_path / "resnetf.safetensors") in text and "SEGSPN_WEIGHTS" in text
    assert "'random'" in text and "\n" not in text


def test_a_new_session_is_not_annotated(segmenter: Segmenter) -> None:
    assert isinstance(segmenter.session(), Session) and segmenter.session().ids == ()


def test_a_preset_may_work_at_a_smaller_size(segmenter: Segmenter, video: Clip) -> None:
    small = copy.copy(segmenter)
    small.preset = replace(segmenter.preset, side=96)
    session = small.session()
    session.annotate(*video[0])
    for frame, truth in video[1:]:
        result = session.step(frame)
        check_result(result, truth.shape)
        for i in result.ids:
            found, wanted = result.labels == i, truth == i
            assert (found & wanted).sum() > 0.6 * (found | wanted).sum()
    # 96 pixels at the longest side, a share for four.
    assert session.instance.state()["memory.last"].shape == (2, 16, 24)


def test_a_preset_may_look_twice_and_be_saved_in_between(
    segmenter: Segmenter, video: Clip, tmp_path: Path
) -> None:
    twice = copy.copy(segmenter)
    views = (View(), View(side=200, mirrored=True))
    twice.preset = replace(segmenter.preset, instance=InstanceConfig(views=views))
    session = twice.session()
    session.annotate(*video[0])
    session.step(video[1][0])
    session.save(tmp_path / "saved")
    on, again = (s.step(video[2][0]) for s in (session, Session.load(tmp_path / "saved", twice)))
    assert same(on, again)
    check_result(on, video[2][1].shape)
    for i in on.ids:
        found, wanted = on.labels == i, video[2][1] == i
        assert (found & wanted).sum() > 0.8 * (found | wanted).sum()
    # An object that comes later is learned by both looks.
    square = video[3][1] == 7
    session.remove(7)
    session.annotate(video[3][0], square)
    assert len(session.ids) == 2


def test_lower_precision_gives_about_the_same(
    segmenter: Segmenter, video: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segspn.models.computes_in_bfloat16", lambda device: True)
    lower = Segmenter(replace(segmenter.preset, bfloat16=True), "cpu")
    results = []
    for made in (segmenter, lower):
        session = made.session()
        session.annotate(*video[0])
        results.append(session.step(video[1][0]))
    assert not np.array_equal(results[0].scores, results[1].scores)
    assert (results[0].labels != results[1].labels).mean() < 0.01
