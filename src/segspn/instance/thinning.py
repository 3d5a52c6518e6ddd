"""Some cells stand for others where neighbours say about the same: far from an object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FAR = 3  # cells from the object


def thinned(there: Tensor, step: int = 1) -> Tensor:
    """How many cells each one stands for, where bool ``there`` ``(N, h, w)`` is the object.

    Float ``(N, h, w)``: 1 on the object and near it; farther away 2 and 0 in turn, as on a chessboard,
    or with a larger ``step`` ``2 * step**2`` and 0: in every so many rows one cell in twice as many
    stays, shifted from row to row.
    """
    near = F.max_pool2d(there.float(), 2 * _FAR + 1, 1, _FAR) > 0
    rows, columns = (torch.arange(n, device=there.device) for n in there.shape[1:])
    kept = (rows[:, None] % step == 0) & ((rows[:, None] + columns) % (2 * step) == 0)
    return torch.where(near, 1.0, 2.0 * step**2 * kept)
