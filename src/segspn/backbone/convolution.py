"""Convolutions that on a plain CPU do what follows them in the same pass.

Between two convolutions there is hardly more than an addition and an activation, and each of these
reads and writes the whole map once more. OneDNN applies them to what a convolution still holds in its
registers, and reads weights in an order of its own, into which torch would bring them at every call.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.precision import lowered_type

# Not of torch's public interface: its compiler emits them. With how many arguments they are known here;
# where they lack, or have changed, torch does the work.
_OPERATIONS = {
    ("_convolution_pointwise", "default"): 10,
    ("_convolution_pointwise", "binary"): 13,
    ("_reorder_convolution_weight", "default"): 6,
}

NOTHING, RELU, RELU6 = "none", "relu", "hardtanh"
"""Activations."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding, and an addition and an activation after it.

    Without gradients, on an x86 CPU, oneDNN makes one pass of all; elsewhere torch does one after the
    other. Both agree but for rounding.
    """

    _packed: tuple[object, Tensor] | None = None

    def forward(self, x: Tensor, activation: str = NOTHING, add: Tensor | None = None) -> Tensor:
        """``x`` ``(B, C, H, W)`` -> activation of the convolution plus ``add`` ``(B, D, H', W')``."""
        assert not isinstance(self.padding, str)
        return self.padded_by(self.padding, x, activation, add)

    def padded_by(
        self, around: tuple[int, ...], x: Tensor, activation: str = NOTHING, add: Tensor | None = None
    ) -> Tensor:
        """The same with so many rows and columns of zeros on each side."""
        kind = lowered_type(x)
        if not torch.is_grad_enabled() and _can_in_one_pass(x, kind):
            x = x.to(kind)
            # OneDNN knows no ReLU6 of a sum; and the sum of two precisions has the higher one.
            if add is None or (add.dtype == x.dtype and activation != RELU6):
                return self._in_one_pass(around, x, activation, add)
            y = self._in_one_pass(around, x)
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, around, self.dilation, self.groups)
        return finished(y, activation, add)

    @torch.no_grad()
    def fold(self, norm: nn.Module, times: int = 1) -> None:
        """Take over what the standardisation ``norm`` does to the input of this 1x1 convolution, of
        whose channels ``times`` in turn are one of the norm's (inference only)."""
        assert isinstance(norm, nn.BatchNorm2d) and self.bias is not None
        assert norm.running_mean is not None and norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale, shift = (v.repeat_interleave(times) for v in (scale, -norm.running_mean * scale))
        self.bias += (self.weight[:, :, 0, 0] * shift).sum(1)
        self.weight *= scale[:, None, None]

    def _in_one_pass(
        self, around: tuple[int, ...], x: Tensor, activation: str = NOTHING, add: Tensor | None = None
    ) -> Tensor:
        weight = self._weight(around, x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        how = (around, self.stride, self.dilation, self.groups)
        limits: list[float] = [0.0, 6.0] if activation == RELU6 else []
        run: Any = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            return run(x, weight, bias, *how, activation, limits, "")
        after = (None, [], None) if activation == NOTHING else (activation, limits, "")
        return run.binary(x, add, weight, bias, *how, "add", None, *after)

    def _weight(self, around: tuple[int, ...], x: Tensor) -> Tensor:
        """The weight in oneDNN's order, as it is best for the first ``x`` that comes."""
        weight = self.weight
        if weight.requires_grad:  # it may change
            return weight.to(x.dtype)
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), version, x.dtype)
        if self._packed is None or self._packed[0] != state:
            order: Any = torch.ops.mkldnn._reorder_convolution_weight
            plain = weight.to(x.dtype).contiguous()
            how = (around, self.stride, self.dilation, self.groups)
            self._packed = state, order(plain, *how, x.shape)
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def finished(y: Tensor, activation: str = NOTHING, add: Tensor | None = None) -> Tensor:
    """What follows a convolution, one after the other: activation of ``y`` plus ``add``."""
    if add is not None:
        y = y + add
    if activation == RELU:
        return F.relu(y)
    return F.relu6(y) if activation == RELU6 else y


def _have_operations() -> bool:
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    for (name, form), count in _OPERATIONS.items():
        operation = getattr(getattr(torch.ops.mkldnn, name, None), form, None)
        if operation is None or len(operation._schema.arguments) != count:
            return False
    return True


_available = _have_operations()


def _has_bfloat16() -> bool:
    """Whether oneDNN knows bfloat16 on this processor: those without AVX-512 mostly lack it."""
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return asked is not None and bool(asked())


_types = (torch.float32, torch.bfloat16) if _has_bfloat16() else (torch.float32,)


def _can_in_one_pass(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN can for ``x`` in ``dtype``."""
    if not _available or x.device.type != "cpu" or not x.numel():
        return False
    if not torch.backends.mkldnn.enabled or torch.compiler.is_compiling():
        return False
    return dtype in _types
