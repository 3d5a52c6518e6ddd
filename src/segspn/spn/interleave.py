"""Maps of 2x2 values a cell -> full resolution, on the CPU: pixel shuffling in one pass over memory.

Torch's own leaves the channels of a pixel together, as they were, and what propagates needs maps: two
passes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.compiled import njit
from segspn.threads import do_all


def interleave(cells: Tensor) -> Tensor:
    """``F.pixel_shuffle(cells, 2)``: ``(1, C, 2 h, 2 w)``, contiguous, without gradients.

    ``cells``: float32 ``(1, 4 C, h, w)`` in the order of channels-last, of which it may be a window.
    """
    _, channels, h, w = cells.shape
    one, row, width = cells.stride()[1:]
    # Pixels that are neighbours in a row lie side by side already: they are moved together.
    together = one == 1 and not (row % 2 or width % 2 or cells.storage_offset() % 2)
    if cells.device.type != "cpu" or not together:
        return F.pixel_shuffle(cells, 2).contiguous()
    out = cells.new_empty(1, channels // 4, 2 * h, 2 * w)
    flat = cells.as_strided(((h - 1) * row + (w - 1) * width + channels,), (1,)).numpy()
    pairs, maps = flat.view(np.float64), out[0].numpy().view(np.float64)
    # More jobs than threads: one thread may be held up.
    bands = np.linspace(0, h, 2 * torch.get_num_threads() + 1).astype(int)
    jobs = [
        partial(_rows, pairs, row // 2, width // 2, maps, first, last)
        for first, last in zip(bands[:-1], bands[1:], strict=True)
    ]
    do_all(jobs, torch.get_num_threads())
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _rows(pairs, row, width, maps, first, last):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` of cells into maps ``(C, 2 h, w)``, all given as pairs of pixels."""
    channels, _, w = maps.shape
    for y in range(first, last):
        for c in range(channels):
            for below in range(2):
                line, at = maps[c, 2 * y + below], y * row + 2 * c + below
                for x in range(w):
                    line[x] = pairs[at + x * width]
