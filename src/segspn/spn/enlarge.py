"""What is between an object's scores at stride 4 and the full resolution, on the CPU in one pass each.

As separate operations of torch these took half of an object's refinement: each reads and writes maps of
full size, and most do little arithmetic. With gradients, or on another device, torch does them; both
agree but for rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.compiled import njit
from segspn.exponential import sigmoid
from segspn.threads import in_bands

_CELLS = 4  # of a map, 2x2, in the channels of an answer


def bicubic(values: Tensor, size: tuple[int, int]) -> Tensor:
    """``(B, N, h, w)`` -> ``(B, N, *size)``; in one pass where that is four times as high and wide."""
    h, w = values.shape[-2:]
    if size != (4 * h, 4 * w) or not _in_one_pass(values):
        return F.interpolate(values, size=size, mode="bicubic", align_corners=False)
    out = values.new_empty(*values.shape[:2], *size)
    for source, target in _maps(values, out):
        in_bands(partial(_quadruple, source, target, _TAPS), h, torch.get_num_threads())
    return out


def halved(values: Tensor) -> Tensor:
    """Log-odds ``(B, N, H, W)`` -> what they mean, -1..1, by 2x2: ``(B N, 1, H / 2, W / 2)``."""
    b, n, height, width = values.shape
    if not _in_one_pass(values):
        return F.avg_pool2d(values.sigmoid(), 2).mul(2).sub(1).flatten(0, 1)[:, None]
    out = values.new_empty(b, n, height // 2, width // 2)
    for source, target in _maps(values, out):
        in_bands(partial(_halve, source, target), height // 2, torch.get_num_threads())
    return out.flatten(0, 1)[:, None]


def judged(answers: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """What the evidence net answers, applied to what was given.

    ``answers`` ``(B N, 12, h, w)``: of three maps, change, trust and hold, 2x2 values each, the last two
    before their sigmoid; ``given``: log-odds ``(B, N, 4 h, 4 w)``. Returns change + trust * given, and
    hold, both like ``given``, the three maps enlarged bilinearly.
    """
    b, n = given.shape[:2]
    if not _in_one_pass(given) or answers.requires_grad:
        change, rest = answers.split((_CELLS, 2 * _CELLS), 1)
        maps = F.pixel_shuffle(torch.cat((change, rest.sigmoid()), 1), 2)
        maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
        change, trust, hold = maps.unflatten(0, (b, n)).unbind(2)
        return change + trust * given, hold
    out, hold = torch.empty_like(given), torch.empty_like(given)
    answered = answers.float().contiguous().unflatten(0, (b, n))
    for arrays in _maps(answered, given, out, hold):
        in_bands(partial(_judge, *arrays), 2 * answers.shape[-2], torch.get_num_threads())
    return out, hold


def _in_one_pass(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad


def _maps(*batches: Tensor) -> list[tuple[Any, ...]]:
    """Of batches ``(B, N, ...)`` what is in the same place, as arrays, together."""
    arrays = [batch.numpy() for batch in batches]
    b, n = arrays[0].shape[:2]
    return [tuple(array[k, m] for array in arrays) for k in range(b) for m in range(n)]


def _taps() -> Any:
    """What each of four values in place of one takes of the four around it, (4, 4): torch's bicubic."""
    a = -0.75
    out = np.empty((4, 4))
    for phase in range(4):
        t = (0.625, 0.875, 0.125, 0.375)[phase]
        for tap, d in enumerate((1 + t, t, 1 - t, 2 - t)):
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            out[phase, tap] = near if d <= 1 else a * (((d - 5) * d + 8) * d - 4)
    return out.astype(np.float32)


_TAPS = _taps()
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@_jit
def _quadruple(x, out, taps, first, last):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` of x (h, w) into out (4 h, 4 w)."""
    h, w = x.shape
    line = np.empty(w + 4, np.float32)  # with two more on each side
    for i in range(first, last):
        for p in range(4):
            above = i - 2 if p < 2 else i - 1
            r0, r1 = max(above, 0), min(max(above + 1, 0), h - 1)
            r2, r3 = min(above + 2, h - 1), min(above + 3, h - 1)
            a, b, c, d = taps[p]
            for j in range(w):
                line[j + 2] = a * x[r0, j] + b * x[r1, j] + c * x[r2, j] + d * x[r3, j]
            line[0] = line[1] = line[2]
            line[w + 2] = line[w + 3] = line[w + 1]
            row = out[4 * i + p]
            for j in range(w):
                u, v, s, t, z = line[j], line[j + 1], line[j + 2], line[j + 3], line[j + 4]
                row[4 * j] = taps[0, 0] * u + taps[0, 1] * v + taps[0, 2] * s + taps[0, 3] * t
                row[4 * j + 1] = taps[1, 0] * u + taps[1, 1] * v + taps[1, 2] * s + taps[1, 3] * t
                row[4 * j + 2] = taps[2, 0] * v + taps[2, 1] * s + taps[2, 2] * t + taps[2, 3] * z
                row[4 * j + 3] = taps[3, 0] * v + taps[3, 1] * s + taps[3, 2] * t + taps[3, 3] * z


@_jit
def _halve(x, out, first, last):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` of out (H / 2, W / 2) from log-odds x (H, W)."""
    width = out.shape[1]
    line = np.empty(2 * width, np.float32)
    for i in range(first, last):
        for j in range(2 * width):
            line[j] = sigmoid(x[2 * i, j]) + sigmoid(x[2 * i + 1, j])  # type: ignore[call-arg]
        for j in range(width):
            out[i, j] = np.float32(0.5) * (line[2 * j] + line[2 * j + 1]) - np.float32(1)


@_jit
def _cells_row(answers, i, lines):  # type: ignore[no-untyped-def]
    """Row i of the three maps at half size, one more value on each side: lines (3, W / 2 + 2)."""
    w = answers.shape[2]
    r, below = i // 2, 2 * (i % 2)
    for m in range(3):
        line, left, right = lines[m], answers[4 * m + below, r], answers[4 * m + below + 1, r]
        if m == 0:
            for j in range(w):
                line[2 * j + 1] = left[j]
                line[2 * j + 2] = right[j]
        else:
            for j in range(w):
                line[2 * j + 1] = sigmoid(left[j])  # type: ignore[call-arg]
                line[2 * j + 2] = sigmoid(right[j])  # type: ignore[call-arg]
        line[0], line[2 * w + 1] = line[1], line[2 * w]


@_jit
def _judge(answers, given, out, hold, first, last):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` at half size: two each of given, out and hold (H, W)."""
    height, width = given.shape[0] // 2, given.shape[1] // 2
    near, far = np.float32(0.75), np.float32(0.25)
    rows = np.empty((3, 3, width + 2), np.float32)  # the one before, this one, the one after
    mixed = np.empty((3, width + 2), np.float32)
    _cells_row(answers, max(first - 1, 0), rows[0])
    _cells_row(answers, first, rows[1])
    for i in range(first, last):
        before, this, after = (i - first) % 3, (i - first + 1) % 3, (i - first + 2) % 3
        _cells_row(answers, min(i + 1, height - 1), rows[after])
        for below in range(2):
            other = after if below else before
            for m in range(3):
                for j in range(width + 2):
                    mixed[m, j] = near * rows[this, m, j] + far * rows[other, m, j]
            y = 2 * i + below
            for j in range(width):
                for right in range(2):
                    k = j + 2 if right else j
                    change = near * mixed[0, j + 1] + far * mixed[0, k]
                    trust = near * mixed[1, j + 1] + far * mixed[1, k]
                    out[y, 2 * j + right] = change + trust * given[y, 2 * j + right]
                    hold[y, 2 * j + right] = near * mixed[2, j + 1] + far * mixed[2, k]
