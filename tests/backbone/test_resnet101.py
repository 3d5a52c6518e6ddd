"""ResNet-101 against a state dict in torchvision's format, written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from segspn.backbone.convention import normalise
from segspn.backbone.resnet101 import Bottleneck, ResNet101, StoredNorm, torchvision_features
from segspn.errors import InputError
from segspn.weights import assign_weights, read_state, weight_path

pytestmark = pytest.mark.usefixtures("one_thread")


def torchvision_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ``resnet101().state_dict()``, classifier included."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    cin = 64
    for layer, (count, width) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512)), start=1):
        for block in range(count):
            at = f"layer{layer}.{block}"
            shapes[f"{at}.conv1.weight"] = (width, cin, 1, 1)
            norm(f"{at}.bn1", width)
            shapes[f"{at}.conv2.weight"] = (width, width, 3, 3)
            norm(f"{at}.bn2", width)
            shapes[f"{at}.conv3.weight"] = (4 * width, width, 1, 1)
            norm(f"{at}.bn3", 4 * width)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (4 * width, cin, 1, 1)
                norm(f"{at}.downsample.1", 4 * width)
            cin = 4 * width
    return shapes | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(7)
        for name, shape in torchvision_shapes().items()
    }


@pytest.fixture(scope="module")
def net() -> ResNet101:
    return ResNet101("torchvision")


def test_a_torchvision_file_loads_whole(
    net: ResNet101, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = [v.numel() for k, v in state.items() if "running" not in k and "tracked" not in k]
    assert len(state) == 626 and sum(learned) == 44_549_160  # as published for torchvision's
    torch.save(state, tmp_path / "resnet.pth")
    monkeypatch.setenv("SEGSPN_WEIGHTS", str(tmp_path))
    path, read = read_state("resnet.pth", "a ResNet-101")
    assert path == tmp_path / "resnet.pth"
    loaded = ResNet101("torchvision")
    assign_weights(loaded, torchvision_features(read), path)
    own = loaded.state_dict()
    assert own.keys() == {k for k in state if "fc." not in k and "tracked" not in k}
    assert all(torch.equal(own[k], state[k]) for k in own)


def test_a_state_that_does_not_fit_is_refused_by_name(net: ResNet101, state: dict[str, Tensor]) -> None:
    features = torchvision_features(state)
    path = Path("other.pth")
    with pytest.raises(InputError, match="other.pth: lacks layer3.22.bn1.bias"):
        assign_weights(net, {k: v for k, v in features.items() if k != "layer3.22.bn1.bias"}, path)
    with pytest.raises(InputError, match=r"conv1.weight is \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)"):
        assign_weights(net, features | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 64), (37, 61)])
def test_strides_and_channels(net: ResNet101, size: tuple[int, int]) -> None:
    features = net(torch.rand(1, 3, *size) * 255)
    shapes = {s: (1, c, -(-size[0] // s), -(-size[1] // s)) for s, c in
              ((8, 512), (16, 1024), (32, 2048))}
    assert {s: tuple(x.shape) for s, x in features.items()} == shapes


@torch.no_grad()
def test_conventions_differ_in_input_stride_and_pooling() -> None:
    image = torch.tensor([255.0, 0.0, 51.0]).view(1, 3, 1, 1)
    caffe = normalise(image, "caffe").flatten().tolist()
    assert caffe == pytest.approx([51 - 104.00699, -116.66877, 255 - 122.67892], abs=1e-4)
    ours = normalise(image, "torchvision").flatten().tolist()
    assert ours == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], abs=1e-5)
    first, second = Bottleneck(8, 4, 2, first=True), Bottleneck(8, 4, 2, first=False)
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    assert (second.conv1.stride, second.conv2.stride) == ((1, 1), (2, 2))
    assert first(torch.rand(1, 8, 8, 8)).shape == second(torch.rand(1, 8, 8, 8)).shape
    with pytest.raises(ValueError, match="caffe or torchvision"):
        ResNet101("tensorflow")


@torch.no_grad()
def test_caffe_pooling_keeps_strides_of_aligned_sizes() -> None:
    net = ResNet101("caffe")
    assert net.get_submodule("layer2")[0].conv1.stride == (2, 2)  # type: ignore[index]
    assert {s: x.shape[-2:] for s, x in net(torch.rand(1, 3, 32, 64)).items()} == {
        8: (4, 8), 16: (2, 4), 32: (1, 2)
    }


def test_stored_statistics_stay_while_the_affine_part_learns() -> None:
    norm = StoredNorm(2).train()
    norm.load_state_dict({
        "weight": torch.tensor([2.0, 1.0]), "bias": torch.tensor([0.5, 0.0]),
        "running_mean": torch.tensor([1.0, 0.0]), "running_var": torch.tensor([4.0, 1.0]),
    })
    x = torch.tensor([[[[3.0]], [[5.0]]]])
    y = norm(x)
    assert y.flatten().tolist() == pytest.approx([2 * (3 - 1) / 2 + 0.5, 5.0], rel=1e-4)
    y.sum().backward()
    assert norm.weight.grad is not None and norm.get_buffer("running_mean").tolist() == [1.0, 0.0]


def test_weight_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSPN_WEIGHTS", str(tmp_path))
    assert weight_path("sub/net.pth") == tmp_path / "sub/net.pth"
    assert weight_path("/elsewhere/net.pth") == Path("/elsewhere/net.pth")
    monkeypatch.delenv("SEGSPN_WEIGHTS")
    assert weight_path("net.pth") == Path("net.pth")
    (tmp_path / "torn.pth").write_bytes(b"not a file of torch")
    (tmp_path / "torn.safetensors").write_bytes(b"no")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    for name, told in (
        ("missing.pth", "weights not found"),
        ("torn.pth", "not a readable weight file"),
        ("torn.safetensors", "not a readable weight file"),
        ("nested.pth", "no plain state dict"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            read_state(str(tmp_path / name), "a ResNet-101 from somewhere")
        text = str(caught.value)
        assert "\n" not in text and name in text and "a ResNet-101 from somewhere" in text


def test_half_precision_safetensors_are_widened(tmp_path: Path) -> None:
    save_file({k: v.half() for k, v in StoredNorm(3).state_dict().items()}, tmp_path / "n.safetensors")
    path, state = read_state(str(tmp_path / "n.safetensors"), "a norm")
    norm = StoredNorm(3)
    assign_weights(norm, state, path)
    assert norm.weight.dtype == torch.float32
