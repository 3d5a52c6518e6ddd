from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from segspn import Segmenter
from segspn.backbone import EfficientNetLite0, Frame
from segspn.data import ClipConfig, DataConfig, Stills, open_data
from segspn.errors import InputError
from segspn.foreground import AugmentConfig, Matcher, ParentNet, Samples, matching_keys
from segspn.foreground.model import annotated_keys
from segspn.models import LiteModel
from segspn.spn import LightGuidance
from segspn.training import load_recipe, train_stage
from segspn.training.decoder import Clips
from segspn.training.matching import (
    LEAST_SEEN,
    MatchingTrainer,
    matching_loss,
    partly_seen,
)
from segspn.training.parent import balanced_nll, matched_labels
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer() -> MatchingTrainer:
    torch.manual_seed(0)
    backbone = EfficientNetLite0()
    load_weights(backbone, "efficientnet_lite0")
    parent, guidance = ParentNet(backbone.channels), LightGuidance(backbone.channels)
    matcher = Matcher(backbone.channels)
    matcher.begin_as(parent)
    return MatchingTrainer(backbone, parent, guidance, matcher).train()


@pytest.fixture
def stills(data: Path) -> Stills:
    return open_data((DataConfig("my_data"),), data)


def test_what_matches_learns_and_the_rest_stays(stills: Stills) -> None:
    model = trainer()
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    clips = Clips(stills, 2, ClipConfig(size=64, frames=3))
    loss, figures = matching_loss(model, default_collate([clips[0], clips[1]]))
    assert figures["held"] == pytest.approx(0, abs=1e-6)  # nothing has changed yet
    loss.backward()
    deep = [p for p in model.backbone.deep.parameters() if p.grad is not None]
    assert len(deep) == len(list(model.backbone.deep.parameters()))
    assert max(p.grad.abs().max() for p in deep if p.grad is not None) > 0
    assert model.matcher.key.weight.grad is not None
    first = len(model.backbone.blocks) - len(model.backbone.deep)
    frozen = [*model.before.parameters(), *model.backbone.blocks[:first].parameters()]
    frozen += [*model.parent.head.parameters(), model.parent.key.weight, model.parent.log_scale]
    assert not any(p.requires_grad for p in frozen)


def test_it_leaves_a_preset_that_segments(data: Path, tmp_path: Path) -> None:
    chosen = [f"matching.loop.{k}" for k in ("steps=1", "batch=1", "workers=0", "tensorboard=false")]
    config = load_recipe("finetune", [*chosen, "matching.size=64"])
    paths = train_stage("matching", config, data, tmp_path / "out")
    assert [p.stem for p in paths] == ["backbone", "matching", "parent", "spn_guidance", "preset"]
    segmenter = Segmenter(str(paths[-1]), "cpu")
    model = segmenter.model
    assert isinstance(model, LiteModel) and model.parent.matcher is not None
    image = np.random.default_rng(0).integers(0, 80, (64, 96, 3), np.uint8)
    image[16:48, 32:64] = 200
    mask = np.zeros((64, 96), np.int32)
    mask[16:48, 32:64] = 1
    session = segmenter.session()
    session.annotate(image, mask)
    labels = session.step(np.roll(image, 4, 1)).labels
    wanted = np.roll(mask, 4, 1) == 1
    assert (wanted & (labels == 1)).sum() > 0.8 * (wanted | (labels == 1)).sum()
    # Keys of the annotated frame and of later ones are made alike, and not by the parent.
    frame = Frame(image, torch.device("cpu"))
    with torch.inference_mode():
        keys = matching_keys(frame, model.backbone, model.parent)
        assert torch.equal(keys, model.parent.matcher(frame.features(model.backbone))[0])
        samples = Samples(image, mask, (1,), AugmentConfig(copies=1), 0, torch.device("cpu"))
        assert torch.equal(annotated_keys(samples, model.backbone, model.parent)[0], keys)
    # The prompt net keeps the backbone that it was trained on.
    assert model.prompter(torch.device("cpu")).backbone is not model.backbone


def test_one_frame_cannot_be_matched() -> None:
    with pytest.raises(InputError, match="clip.frames must be 2 or more to match, not 1"):
        load_recipe("cpu", ["matching.clip.frames=1"])


def test_what_other_nets_read_is_held_to_what_it_was() -> None:
    model = trainer()
    image = 255 * torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        before = model.backbone(image)
        assert model.held(model.backbone.deepened(before), before) < 1e-6
        for p in model.backbone.deep.parameters():
            p.mul_(1.1)
    changed = model.held(model.backbone.deepened(before), before)
    assert changed > 1e-3
    changed.backward()
    for part in (model.parent.trunk.project, model.guidance.lateral["16"], model.backbone.deep[0]):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    assert all(p.grad is None for p in model.before.parameters())


def test_cells_that_do_not_vote_say_nothing() -> None:
    torch.manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(2, 2, 8, 3, 4), dim=2)
    shares = torch.rand(2, 3, 6, 8).softmax(1)
    scale = torch.tensor(20.0)
    whole = matched_labels(keys[0], keys[1], shares, scale)
    everything = torch.ones(2, 3, 4, dtype=torch.bool)
    assert torch.equal(matched_labels(keys[0], keys[1], shares, scale, everything), whole)
    # One cell alone: its labels, everywhere.
    one = torch.zeros_like(everything)
    one[:, 1, 2] = True
    voted = matched_labels(keys[0], keys[1], shares, scale, one)
    assert torch.allclose(voted, shares[:, :, 2:4, 4:6].repeat(1, 1, 3, 4), atol=1e-6)


def test_a_part_of_an_object_is_seen() -> None:
    torch.manual_seed(0)
    shares = torch.zeros(200, 2, 24, 24)
    shares[:, 0, 4:14, 6:20] = 1.0
    seen = partly_seen(shares)
    whole = seen.flatten(1).all(1)
    assert 70 < whole.sum() < 130
    inside = shares[0, 0, ::2, ::2] > 0
    parts = seen[:, inside].float().mean(1)
    assert parts.min() >= LEAST_SEEN and (parts[~whole] < 1).any()
    assert partly_seen(torch.zeros(3, 2, 8, 8)).all()  # nothing there


def test_classes_count_alike_and_unknown_ones_do_not() -> None:
    truth = torch.zeros(1, 3, 4, 10)
    truth[:, 1, 0, :4] = 1.0
    truth[:, 2, 3, :2] = 1.0
    truth[:, 0] = 1 - truth.sum(1)
    first = truth.clone()
    first[:, 0] += first[:, 2]
    first[:, 2] = 0  # the second object was not seen before
    voted = truth.clone()
    voted[:, 1, 0, :2], voted[:, 0, 0, :2] = 0, 1  # half of the object missed
    loss, right = balanced_nll(voted, truth, first)
    # 4 cells weigh as much as 34, and as much as the 2 of which nothing can be known.
    assert right == pytest.approx(1 - 0.5 / 3)
    assert loss == pytest.approx(-0.5 / 3 * math.log(1e-4))
