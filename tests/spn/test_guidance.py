"""Guidance nets, how their gates are applied, and the refiner made of both."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from segspn.backbone import EfficientNetLite0, Frame
from segspn.errors import InputError
from segspn.spn import LightGuidance, Propagation, SpnRefiner, propagate
from segspn.spn.guidance_vgg16 import Vgg16Guidance
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")

# Names and shapes of torchvision's vgg16().features: index -> (in, out).
VGG = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
       14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512),
       26: (512, 512), 28: (512, 512)}  # fmt: skip


@pytest.fixture(scope="module")
def guidance() -> Vgg16Guidance:
    return Vgg16Guidance.load("random", "random", "torchvision", seed=3)


@pytest.fixture(scope="module")
def vgg() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, (cin, cout) in VGG.items():
        state[f"features.{index}.weight"] = torch.rand(cout, cin, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = torch.rand(cout, generator=generator)
    return state | {"classifier.6.bias": torch.zeros(1000)}


@torch.no_grad()
def test_vgg_gates_at_full_resolution(guidance: Vgg16Guidance) -> None:
    image = torch.rand(2, 3, 32, 64) * 255
    gates = guidance(image)
    assert gates.shape == (2, 4, 3, 32, 64) and bool(gates.isfinite().all())
    assert torch.allclose(guidance(image[1:]), gates[1:], atol=1e-5)
    blocks = [
        [(layer.in_channels, layer.out_channels) for layer in block if hasattr(layer, "in_channels")]
        for block in guidance.decoder
    ]
    assert blocks == [
        [(512, 512), (512, 512), (512, 512)],
        [(512, 512), (512, 512), (512, 256)],
        [(256, 256), (256, 256), (256, 128)],
        [(128, 128), (128, 64)],
        [(64, 64), (64, 64)],
    ]


@torch.no_grad()
def test_skip_links_reach_the_gates() -> None:
    """With a decoder that passes on its input, each pixel of the image is seen by its own gates."""
    net = Vgg16Guidance("caffe").eval()
    image = torch.zeros(1, 3, 32, 32)
    before = net(image)
    image[..., 5, 9] = 255
    change = (net(image) - before).abs().sum((1, 2))[0]
    assert change[5, 9] > 0 and change[4:7, 8:11].sum() > change[20:23, 20:23].sum()


def test_vgg_encoder_from_a_torchvision_file(vgg: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(vgg, tmp_path / "vgg16.pth")
    net = Vgg16Guidance.load("random", str(tmp_path / "vgg16.pth"), "torchvision", seed=0)
    own = net.state_dict()
    assert {k for k in own if k.startswith("features.")} == {k for k in vgg if "features" in k}
    assert all(torch.equal(own[k], v) for k, v in vgg.items() if k.startswith("features."))
    del vgg["features.28.bias"]
    torch.save(vgg, tmp_path / "vgg16.pth")
    with pytest.raises(InputError, match="lacks 28.bias"):
        Vgg16Guidance.load("random", str(tmp_path / "vgg16.pth"), "torchvision", seed=0)


def test_whole_guidance_from_safetensors(guidance: Vgg16Guidance, tmp_path: Path) -> None:
    save_file(guidance.state_dict(), tmp_path / "g.safetensors")
    loaded = Vgg16Guidance.load(str(tmp_path / "g.safetensors"), "absent.pth", "torchvision", seed=9)
    own = loaded.state_dict()
    assert all(torch.equal(own[k], v) for k, v in guidance.state_dict().items())
    with pytest.raises(InputError, match="vgg16.*not found.*vgg16-397923af.pth.*'random'"):
        Vgg16Guidance.load("random", str(tmp_path / "vgg16.pth"), "torchvision", seed=0)


def test_random_weights_are_those_of_the_seed(guidance: Vgg16Guidance) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    again = Vgg16Guidance.load("random", "random", "torchvision", seed=3)
    assert torch.equal(again.out.weight, guidance.out.weight)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_light_gates_are_a_convex_mix() -> None:
    channels = {2: 4, 4: 5, 8: 6, 16: 7}
    net = LightGuidance(channels).eval()
    features = {s: torch.rand(1, c, 32 // s, 48 // s) for s, c in channels.items()}
    gates = net(torch.rand(1, 3, 32, 48) * 255, features)
    assert gates.shape == (1, 4, 3, 32, 48)
    assert 0 <= float(gates.min()) and float(gates.max()) <= 1


@torch.no_grad()
def test_score_domain_is_the_published_propagation() -> None:
    scores, gates = torch.rand(1, 2, 8, 9), torch.randn(1, 4, 3, 8, 9)
    refined = Propagation(domain="score", merge="max")(scores, gates).sigmoid()
    wanted = propagate(scores, gates, merge="max").clamp(1e-4, 1 - 1e-4)
    assert torch.allclose(refined, wanted, atol=1e-5)


@torch.no_grad()
def test_closed_gates_leave_scores_and_upsample_them() -> None:
    scores = torch.full((1, 1, 4, 4), 0.75)
    for domain in ("logit", "score"):
        propagation = Propagation(domain)
        values = propagation.values(scores, (16, 16))
        refined = propagation(values, torch.zeros(1, 4, 3, 16, 16)).sigmoid()
        assert refined.shape == (1, 1, 16, 16)
        assert torch.allclose(refined, torch.tensor(0.75), atol=1e-5)
    with pytest.raises(ValueError, match="'logit' or 'score'"):
        Propagation("pixels")


def test_refiner_without_a_backbone(guidance: Vgg16Guidance) -> None:
    refiner = SpnRefiner(guidance, Propagation("score", "max"))
    frame = Frame(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), torch.device("cpu"))
    with torch.no_grad():
        refined = refiner.refine(frame, torch.rand(2, 32, 64))
    assert refined.shape == (2, 30, 40)
    assert 0 <= float(refined.min()) and float(refined.max()) <= 1


@torch.no_grad()
def test_fused_guidance_gives_the_same_gates() -> None:
    channels = EfficientNetLite0.channels
    torch.manual_seed(0)
    plain = LightGuidance(channels)
    load_weights(plain, "spn_guidance")
    fused = copy.deepcopy(plain.eval())
    fused.fuse()
    fused.fuse()  # once is enough
    image = 255 * torch.rand(1, 3, 64, 96)
    features = {s: torch.randn(1, c, 64 // s, 96 // s) for s, c in channels.items()}
    assert torch.allclose(fused(image, features), plain(image, features), atol=1e-5)


@torch.no_grad()
def test_gates_come_in_the_order_that_spreading_is_quick_for() -> None:
    """`interleave` takes any other as well, in several times as long."""
    guidance = LightGuidance(EfficientNetLite0.channels)
    for order in (torch.contiguous_format, torch.channels_last):
        detail = torch.rand(1, guidance.width, 24, 40).contiguous(memory_format=order)
        cells = guidance.cells(detail)
        assert cells.is_contiguous(memory_format=torch.channels_last) and cells.dtype == torch.float32
