"""Lower precision where the processor computes in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

Lower = Callable[[], AbstractContextManager[object]]
"""Makes a context in which nets run: an autocast, or nothing."""


def lowered_type(x: Tensor) -> torch.dtype:
    """In which type autocast, where it is on, gives a CPU tensor to a convolution."""
    single = x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if single else x.dtype


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether convolutions are faster in bfloat16: on processors with AMX or AVX-512-BF16."""
    if device.type != "cpu":
        return False
    # Not of torch's public interface: where a version lacks them, float32 it is.
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)
