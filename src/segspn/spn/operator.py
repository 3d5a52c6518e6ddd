"""The operator as torch sees it: registered custom ops, their dispatch, and the public function."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from segspn.spn.reference import MERGES, backward_reference, propagate_reference

_HALF = (torch.float16, torch.bfloat16)
_DTYPES = (torch.float32, torch.float64, *_HALF)


def propagate(
    x: Tensor, gates: Tensor, *, rounds: int = 1, merge: str = "max", normalise: bool = True
) -> Tensor:
    """Propagate the maps ``x`` along gates: three-way, four directions, merged (paper eq. 2).

    Per direction and line t, ``H_t[l] = (1 - sum_j g_j) X_t[l] + sum_j g_j H_{t-1}[l + j]`` with j
    in {-1, 0, 1}, the gates read at the current pixel; a gate whose neighbour lies outside the map
    counts as 0, and H = X on the first line. Differentiable in ``x`` and ``gates`` (once), usable
    under ``torch.compile`` and ``torch.export``.

    Args:
        x: ``(B, N, H, W)``, any range; H and W at least 1, B and N may be 0.
        gates: ``(B, 4, 3, H, W)``, shared by the N maps, or ``(B, N, 4, 3, H, W)``; the same dtype
            and device as ``x``. Directions: left→right, right→left, top→bottom, bottom→top; then
            the neighbours -1, 0, +1 of the previous line.
        rounds: how often to propagate, each time the merged result of the last; at least 1.
        merge: ``max`` (the gradient goes to the largest direction, the first of equals), ``mean``,
            or ``all``: no merging, one round, the four results as ``(B, 4, N, H, W)``.
        normalise: divide the gates by ``max(1, sum_j |g_j|)`` first, which keeps the scan stable.
            Where they are not negative as well, the result lies within the range of ``x``.

    Returns:
        ``(B, N, H, W)``, or ``(B, 4, N, H, W)`` for ``all``. Half precision is computed in float32.

    Raises:
        ValueError: on shapes, dtypes, devices or options other than these.
    """
    if x.dim() != 4 or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f"x must be (B, N, H, W) with H, W >= 1, not {tuple(x.shape)}")
    b, n, h, w = x.shape
    if tuple(gates.shape) not in ((b, 4, 3, h, w), (b, n, 4, 3, h, w)):
        raise ValueError(
            f"gates must be {(b, 4, 3, h, w)} or {(b, n, 4, 3, h, w)} for x {tuple(x.shape)}, "
            f"not {tuple(gates.shape)}"
        )
    if x.dtype not in _DTYPES or gates.dtype != x.dtype:
        raise ValueError(f"x and gates must share a float dtype, not {x.dtype} and {gates.dtype}")
    if gates.device != x.device:
        raise ValueError(f"x and gates must share a device, not {x.device} and {gates.device}")
    if merge not in MERGES:
        raise ValueError(f"merge must be one of {', '.join(MERGES)}, not {merge!r}")
    if rounds < 1 or (merge == "all" and rounds > 1):
        raise ValueError(f"rounds must be at least 1, and 1 with merge='all', not {rounds}")
    per_channel = gates.dim() == 6
    if per_channel:  # a map with its own gates is a batch entry of its own
        x, gates = x.reshape(b * n, 1, h, w), gates.reshape(b * n, 4, 3, h, w)
    # A custom op loads torch's compiler at its first call: two seconds, and 150 MB of memory for good.
    # Where nothing can ask for it the kernels are called without.
    plain = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
    once = _one_round if plain and type(x) is type(gates) is Tensor else _propagate
    for _ in range(rounds):
        x = once(x, gates, merge, normalise)
    if not per_channel:
        return x
    return x.reshape(b, n, 4, h, w).transpose(1, 2) if merge == "all" else x.reshape(b, n, h, w)


def _one_round(x: Tensor, gates: Tensor, merge: str, normalise: bool) -> Tensor:
    """One round with shared gates; see :func:`propagate`."""
    shape = (x.shape[0], 4, *x.shape[1:]) if merge == "all" else x.shape
    if x.numel() == 0:
        return x.new_empty(shape)
    backend = _backend(x)
    if backend == "numba":
        from segspn.spn import cpu

        result = cpu.forward(_array(x), _array(gates), merge, normalise)
        return torch.from_numpy(result).to(x.dtype)
    if backend == "triton":
        from segspn.spn import cuda

        return cuda.forward(x, gates, merge, normalise)
    torched = propagate_reference(_wide(x), _wide(gates), 1, merge, normalise)
    return torched.to(x.dtype).contiguous()


_propagate = torch.library.custom_op("segspn::propagate", _one_round, mutates_args=())


@torch.library.custom_op("segspn::propagate_backward", mutates_args=())
def _propagate_backward(
    grad: Tensor, x: Tensor, gates: Tensor, merge: str, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of x and gates for one round."""
    if x.numel() == 0:
        return torch.empty_like(x), torch.zeros_like(gates)
    backend = _backend(x)
    if backend == "numba":
        from segspn.spn import cpu

        dx, dgates = cpu.backward(_array(grad), _array(x), _array(gates), merge, normalise)
        return torch.from_numpy(dx).to(x.dtype), torch.from_numpy(dgates).to(x.dtype)
    if backend == "triton":
        from segspn.spn import cuda

        return cuda.backward(grad, x, gates, merge, normalise)
    both = backward_reference(_wide(grad), _wide(x), _wide(gates), merge, normalise)
    return both[0].to(x.dtype), both[1].to(x.dtype)


@_propagate.register_fake
def _(x: Tensor, gates: Tensor, merge: str, normalise: bool) -> Tensor:
    b, n, h, w = x.shape
    return x.new_empty((b, 4, n, h, w) if merge == "all" else (b, n, h, w))


@_propagate_backward.register_fake
def _(grad: Tensor, x: Tensor, gates: Tensor, merge: str, normalise: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), gates.new_empty(gates.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, gates, ctx.merge, ctx.normalise = inputs
    ctx.save_for_backward(x, gates)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, gates = ctx.saved_tensors
    dx, dgates = _propagate_backward(grad, x, gates, ctx.merge, ctx.normalise)
    return dx, dgates, None, None


_propagate.register_autograd(_backward, setup_context=_setup_context)


def _backend(x: Tensor) -> Literal["numba", "triton", "torch"]:
    """Which kernels serve `x`; `torch` is the definition in plain torch, which runs anywhere."""
    if x.device.type == "cpu":
        return "numba"
    if x.device.type == "cuda" and x.dtype != torch.float64 and _triton_found():
        return "triton"
    return "torch"


@lru_cache(maxsize=1)
def _triton_found() -> bool:
    """Whether triton is there, and new enough: before 3.4 (which torch 2.8 brings), it compiles the
    exchange between lanes to a thousand shuffles."""
    try:
        import triton
    except ImportError:
        return False
    major, minor = triton.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (3, 4)


def _wide(tensor: Tensor) -> Tensor:
    """Half precision as float32."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def _array(tensor: Tensor) -> Any:
    """A C-contiguous numpy array of what the kernels take: float32 or float64."""
    return _wide(tensor.detach()).contiguous().numpy()
