"""Gates, from what the guidance net leaves: their logistic function, and 2x2 pixels of a cell spread
out, on the CPU in one pass over memory.

Torch's own shuffling leaves the channels of a pixel together, as they were, and what propagates needs
maps: with the logistic function three passes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.compiled import njit
from segspn.exponential import sigmoid
from segspn.threads import in_bands

_BLOCK = 32  # cells whose values wait in the first-level cache to be spread


def interleave(cells: Tensor) -> Tensor:
    """``F.pixel_shuffle(cells.sigmoid(), 2)``: ``(1, C, 2 h, 2 w)``, contiguous, without gradients.

    ``cells``: float32 ``(1, 4 C, h, w)`` in the order of channels-last, of which it may be a window.
    """
    _, channels, h, w = cells.shape
    one, row, width = cells.stride()[1:]
    # Pixels that are neighbours in a row lie side by side already: they are moved together.
    if cells.device.type != "cpu" or one != 1 or width != channels:
        return F.pixel_shuffle(cells.sigmoid(), 2).contiguous()
    out = cells.new_empty(1, channels // 4, 2 * h, 2 * w)
    flat = cells.as_strided(((h - 1) * row + w * width,), (1,)).numpy()
    maps = out[0].numpy().view(np.float64)
    in_bands(partial(_rows, flat, row, maps), h, torch.get_num_threads())
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _rows(cells, row, maps, first, last):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` of cells, ``row`` apart, into maps ``(C, 2 h, w)`` of pixel pairs."""
    channels, _, w = maps.shape
    values = np.empty(4 * channels * _BLOCK, np.float32)
    pairs = values.view(np.float64)
    for y in range(first, last):
        for start in range(0, w, _BLOCK):
            count, at = min(_BLOCK, w - start), y * row + start * 4 * channels
            # A view: LLVM makes no vectors of indices that numba must look at for being negative.
            here = cells[at : at + count * 4 * channels]
            for k in range(len(here)):
                values[k] = sigmoid(here[k])  # type: ignore[call-arg]
            for c in range(channels):
                for below in range(2):
                    line = maps[c, 2 * y + below]
                    for x in range(count):
                        line[start + x] = pairs[x * 2 * channels + 2 * c + below]
