"""Appearance memory: a bounded bank of remembered frames, read by softmax matching at stride 8.

The annotated frames stay for good and are searched globally; the last accepted frames are searched
around each cell only, which keeps far distractors out. Each remembered cell carries the 2x2 stride-4
shares of every object, so that what is read comes out at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB

# Rows of cells matched at once: a block of similarities stays in the cache.
_BLOCK_ROWS = 6


@dataclass(frozen=True)
class MemoryConfig:
    """``recent``: accepted frames kept besides the annotated ones; ``every``: one in how many."""

    recent: int = 2
    every: int = 3
    annotated: int = 3
    radius: int = 14  # cells of stride 8, for the recent frames
    sharpness: float = 1.5  # multiplies the learned matching scale


@dataclass(eq=False)  # compared by identity
class _Entry:
    keys: Tensor  # (h * w, K)
    values: Tensor  # (h * w, 4 N)
    annotated: bool
    index: int


class Memory:
    """Bank of keys ``(h, w)`` x K and label shares, bounded by its config."""

    def __init__(self, config: MemoryConfig, scale: float) -> None:
        self.config = config
        self.scale = scale * config.sharpness
        self.entries: list[_Entry] = []

    def add(self, keys: Tensor, shares: Tensor, index: int, annotated: bool) -> None:
        """Remember a frame. ``keys``: ``(K, h, w)``; ``shares``: ``(N, 2h, 2w)`` in 0..1."""
        entry = _Entry(_cells(keys), _cells(F.pixel_unshuffle(shares[None], SUB)[0]), annotated, index)
        if annotated:
            kept = [e for e in self.entries if e.annotated]
            if len(kept) >= self.config.annotated:
                # The very first annotation never fades; the oldest correction goes.
                self.entries.remove(kept[1] if len(kept) > 1 else kept[0])
            self.entries.append(entry)
            return
        recent = [e for e in self.entries if not e.annotated]
        # The newest slot always holds the last frame; older slots hold every n-th one.
        if recent and recent[-1].index % self.config.every:
            self.entries.remove(recent[-1])
            recent.pop()
        if len(recent) >= self.config.recent:
            self.entries.remove(recent[0])
        self.entries.append(entry)

    def read(self, keys: Tensor) -> Tensor:
        """Shares ``(N, 2h, 2w)`` in 0..1 that the bank votes for, given ``keys`` ``(K, h, w)``."""
        _, h, w = keys.shape
        queries = _cells(keys)
        width = self.entries[0].values.shape[1]
        votes = queries.new_zeros(h * w, width)
        total = queries.new_zeros(h * w, 1)
        for entry in self.entries:
            for top in range(0, h, _BLOCK_ROWS):
                bottom = min(h, top + _BLOCK_ROWS)
                first, last = 0, h
                if not entry.annotated:
                    first = max(0, top - self.config.radius)
                    last = min(h, bottom + self.config.radius)
                rows = slice(top * w, bottom * w)
                cells = slice(first * w, last * w)
                # Cosines are at most 1, so shifting by the scale keeps exp() in range.
                weight = queries[rows] @ entry.keys[cells].T
                weight = weight.mul_(self.scale).sub_(self.scale).exp_()
                votes[rows] += weight @ entry.values[cells]
                total[rows] += weight.sum(1, keepdim=True)
        shares = (votes / total.clamp(min=1e-12)).T.reshape(1, width, h, w)
        return F.pixel_shuffle(shares, SUB)[0]

    def state(self) -> dict[str, Tensor]:
        """Flat tensors, so that a session can be saved without pickle."""
        out: dict[str, Tensor] = {}
        for i, e in enumerate(self.entries):
            out[f"{i}.keys"], out[f"{i}.values"] = e.keys, e.values
            out[f"{i}.meta"] = torch.tensor([int(e.annotated), e.index])
        return out

    def restore(self, state: dict[str, Tensor]) -> None:
        self.entries = []
        for i in range(sum(k.endswith(".meta") for k in state)):
            annotated, index = (int(v) for v in state[f"{i}.meta"])
            self.entries.append(
                _Entry(state[f"{i}.keys"], state[f"{i}.values"], bool(annotated), index)
            )


def _cells(x: Tensor) -> Tensor:
    return x.flatten(1).T.contiguous()
