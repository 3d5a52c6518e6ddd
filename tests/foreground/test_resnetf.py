"""The published parent net: fusion, weight files, and stage 1 made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from segspn.backbone import Frame, resnet101
from segspn.errors import InputError
from segspn.foreground import (
    AugmentConfig,
    FineTuneConfig,
    NetForeground,
    NetForegroundConfig,
    ResNetF,
    Samples,
)
from segspn.foreground.resnetf import fuse

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def shallow() -> Iterator[None]:
    """One block a layer: the whole depth is tested with the backbone, and takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet101, "_BLOCKS", (1, 1, 1, 1))
        yield


@pytest.fixture(scope="module")
def net(shallow: None) -> ResNetF:
    return ResNetF.load("random", "random", "torchvision", seed=0).requires_grad_(False)


def test_fusion_doubles_concatenates_and_scales() -> None:
    res3, res4, res5 = torch.rand(1, 512, 8, 12), torch.rand(1, 1024, 4, 6), torch.rand(1, 2048, 2, 3)
    fused = fuse({8: res3, 16: res4, 32: res5})
    assert fused.shape == (1, 3584, 8, 12)

    def double(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    assert torch.allclose(fused[:, :2048], double(double(res5)))
    assert torch.allclose(fused[:, 2048:3072], double(0.2 * res4))
    assert torch.allclose(fused[:, 3072:], 0.2 * res3)


@torch.no_grad()
def test_logits_at_full_resolution(net: ResNetF) -> None:
    assert net.head.reduce.weight.shape == (128, 3584, 1, 1)
    assert net.head.classify.weight.shape == (2, 128, 1, 1)
    image = torch.rand(1, 3, 32, 64) * 255
    logits = net(image)
    assert logits.shape == (1, 2, 32, 64) and bool(logits.isfinite().all())
    small = net.head(fuse(net.backbone(image)))
    assert small.shape == (1, 2, 4, 8)
    wanted = F.interpolate(small, scale_factor=8, mode="bilinear", align_corners=False)
    assert torch.allclose(logits, wanted)
    frame = Frame(np.zeros((20, 40, 3), np.uint8), torch.device("cpu"))
    probability = net.probability(frame)
    assert torch.allclose(probability, net(frame.image)[0].softmax(0)[1])


def test_weight_files_of_the_head_and_of_the_whole_net(net: ResNetF, tmp_path: Path) -> None:
    head = {k: v + 1 for k, v in net.head.state_dict().items()}
    save_file(head, tmp_path / "head.safetensors")
    torch.save(net.backbone.state_dict() | {"fc.bias": torch.zeros(1000)}, tmp_path / "resnet.pth")
    made = ResNetF.load(
        str(tmp_path / "head.safetensors"), str(tmp_path / "resnet.pth"), "torchvision", seed=1
    )
    assert torch.equal(made.head.reduce.bias, head["reduce.bias"])
    assert torch.equal(made.backbone.conv1.weight, net.backbone.conv1.weight)

    whole = {k: v.half() for k, v in net.state_dict().items()}
    save_file(whole, tmp_path / "whole.safetensors")
    made = ResNetF.load(str(tmp_path / "whole.safetensors"), "absent.pth", "torchvision", seed=1)
    assert torch.equal(made.head.classify.weight, whole["head.classify.weight"].float())

    with pytest.raises(InputError, match="resnet101-63fe2227.pth") as caught:
        ResNetF.load(str(tmp_path / "head.safetensors"), str(tmp_path / "no.pth"), "caffe", seed=1)
    assert "\n" not in str(caught.value) and "no.pth" in str(caught.value)


def test_the_stage_learns_a_copy_of_its_own(net: ResNetF) -> None:
    labels = np.zeros((32, 32), np.int32)
    labels[8:24, 8:24] = 5
    frame = np.full((32, 32, 3), 90, np.uint8)
    frame[labels == 5] = (220, 40, 40)
    samples = Samples(frame, labels, (5,), AugmentConfig(copies=2), 0, torch.device("cpu"))
    before = net.head.reduce.weight.clone()
    config = NetForegroundConfig(fit=FineTuneConfig(steps=3, lr=1e-6))
    stage = NetForeground(net, config)
    start = stage.predict(Frame(frame, samples.device))
    steps: list[int] = []
    stage.adapt(samples, 0, steps.append)
    assert steps == [1, 2, 3] and torch.equal(before, net.head.reduce.weight)
    with torch.no_grad():
        after = stage.predict(Frame(frame, samples.device))
    assert after.shape == (32, 32) and not torch.equal(start, after)
    again = NetForeground(net, config)
    again.restore(stage.state())
    assert torch.equal(again.predict(Frame(frame, samples.device)), after)

    kept = stage.keep_inside(torch.ones(2, 1, 3), torch.tensor([[0.4, 0.5, 0.6]]))
    assert kept.tolist() == [[[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]]]

    parent = NetForeground(net, NetForegroundConfig(adapt=False))
    parent.adapt(samples, 0)
    assert parent.net is net and parent.state() == {}
    parent.restore({})
