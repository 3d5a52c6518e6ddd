"""Appearance memory: a bounded bank of remembered frames, read by softmax matching at stride 8.

The annotated frames stay for good and are searched globally; the last accepted frames are searched
around each cell only, which keeps far distractors out. Each remembered cell carries the 2x2 stride-4
shares of every object, so that what is read comes out at stride 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB
from segspn.heap import apart
from segspn.instance.matching import Cells, Search, Window, weighted_sums
from segspn.instance.thinning import thinned

# Rows of cells matched at once, and in recent frames with the same surroundings.
_BLOCK_ROWS = 2

_LEAST = 58.4  # logarithm by which the best match may fall below a perfect one


def margin(scale: float) -> float:
    """By how much weights ``exp(scale * (cosine - 1))`` are raised, as a logarithm.

    The small ones must stay out of the denormal range, where arithmetic is many times slower; e**75
    times the cells of a bank is far from float32's limit, e**88. Where it is the scale itself nothing
    need be added to the cosines.
    """
    return min(scale, 75.0)


@dataclass(frozen=True)
class MemoryConfig:
    """``recent``: accepted frames kept besides the annotated ones; ``every``: one in how many."""

    recent: int = 2
    every: int = 3
    annotated: int = 3
    radius: int = 12  # cells of stride 8, for the recent frames
    sharpness: float = 2.0  # multiplies the learned matching scale


@dataclass(eq=False)  # compared by identity
class _Entry:
    keys: Tensor  # (h, w, K)
    values: Tensor  # (h, w, 4 N + 1): shares, and a one that sums the weights
    annotated: bool
    index: int

    @cached_property
    def cells(self) -> Cells:
        """What is compared: all cells of a recent frame; of an annotated one, in a single row, what
        stands for the whole of it (see `thinned`), half of what a global search costs."""
        if not self.annotated:
            return Cells.of(self.keys, self.values)
        counts = thinned((self.values[..., :-1] > 0).any(-1)[None])[0]
        kept = counts > 0
        return Cells.of(self.keys[kept][None], (self.values[kept] * counts[kept][:, None])[None])


def _entry(keys: Tensor, shares: Tensor, index: int, annotated: bool) -> _Entry:
    values = F.pixel_unshuffle(shares[None], SUB)[0]
    values = torch.cat((values, torch.ones_like(values[:1])))
    cells = [apart(maps.permute(1, 2, 0).contiguous()) for maps in (keys, values)]
    return _Entry(cells[0], cells[1], annotated, index)


class Memory:
    """Bank of keys ``(h, w)`` x K and label shares, bounded by its config."""

    def __init__(self, config: MemoryConfig, scale: float) -> None:
        self.config = config
        self.scale = scale * config.sharpness
        self.entries: list[_Entry] = []

    def add(self, keys: Tensor, shares: Tensor, index: int, annotated: bool) -> None:
        """Remember a frame. ``keys``: ``(K, h, w)``; ``shares``: ``(N, 2h, 2w)`` in 0..1."""
        entry = _entry(keys, shares, index, annotated)
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

    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; None: one not remembered (`fill`)."""
        for k, e in enumerate(self.entries):
            shares, ones = e.values[..., :-1].unflatten(-1, (-1, SUB * SUB)), e.values[..., -1:]
            unknown = torch.full_like(shares[..., 0, :], -1.0)
            columns = [unknown if n is None else shares[..., n, :] for n in order]
            values = torch.cat((*columns, ones), -1)
            self.entries[k] = replace(e, values=values)

    def fill(self, position: int, votes: Callable[[Tensor], Tensor], afresh: bool = False) -> None:
        """Remember an object that is new since `arrange`, in each frame with the shares ``(1, 2h, 2w)``
        that ``votes`` gives for the frame's keys ``(K, h, w)``; ``afresh``: in all recent frames, new
        or not."""
        column = slice(position * SUB * SUB, (position + 1) * SUB * SUB)
        for k, e in enumerate(self.entries):
            if e.values[0, 0, column.start] < 0 or (afresh and not e.annotated):
                shares = F.pixel_unshuffle(votes(e.keys.permute(2, 0, 1))[None], SUB)[0]
                values = e.values.clone()
                values[..., column] = shares.permute(1, 2, 0)
                self.entries[k] = replace(e, values=values)

    def annotate(self, keys: Tensor, shares: Tensor, indices: Sequence[int]) -> None:
        """Put annotated frames in the place of all that are there, and of their own predictions.

        ``keys`` ``(A, K, h, w)``; ``shares`` ``(A, N, 2h, 2w)``. Their number is the caller's to bound.
        """
        self.entries = [e for e in self.entries if not e.annotated and e.index not in set(indices)]
        for key, share, index in zip(keys, shares, indices, strict=True):
            self.entries.append(_entry(key, share, index, annotated=True))

    def annotated(self) -> tuple[Tensor, Tensor]:
        """Keys ``(A, K, h, w)`` and shares ``(A, N, 2h, 2w)`` of the annotated frames that are there."""
        frames = [e for e in self.entries if e.annotated]
        keys, shares = (
            torch.stack(maps).permute(0, 3, 1, 2)
            for maps in ([e.keys for e in frames], [e.values[..., :-1] for e in frames])
        )
        return keys, F.pixel_shuffle(shares, SUB)

    def read(self, keys: Tensor, region: Tensor) -> Tensor:
        """Shares ``(N, 2h, 2w)`` in 0..1 that the bank votes for, given ``keys`` ``(K, h, w)``.

        Only the cells of ``region``, bool ``(h, w)``, are sure to be looked up; elsewhere shares may
        be 0.
        """
        sums = self._gather(keys, region).sum(0)
        return F.pixel_shuffle((sums[:-1] / sums[-1:].clamp(min=1e-30))[None], SUB)[0]

    def votes(self, keys: Tensor, region: Tensor) -> Votes:
        """The same, annotated and recent frames apart, and how well they match."""
        votes = votes_of(self._gather(keys, region)[None], self.scale)
        return Votes(votes.shares[:, 0], votes.match[:, 0])

    def _gather(self, keys: Tensor, region: Tensor) -> Tensor:
        """Sums ``(2, 4 N + 1, h, w)`` of annotated and of recent frames: each object's shares, weighted,
        and the weights."""
        _, h, w = keys.shape
        out = keys.new_zeros(2, self.entries[0].values.shape[-1], h, w)
        windows = _windows(region)
        annotated = [(e.cells, e.cells.everywhere) for e in self.entries if e.annotated]
        recent = [e.cells for e in self.entries if not e.annotated]
        scales = (self.scale, margin(self.scale))
        if annotated:
            weighted_sums([Search(window, annotated) for window in windows], keys, *scales, out[0])
        if recent:
            searches = []
            for rows, columns in windows:
                near = (_grow(rows, self.config.radius, h), _grow(columns, self.config.radius, w))
                searches.append(Search((rows, columns), [(cells, near) for cells in recent]))
            weighted_sums(searches, keys, *scales, out[1])
        return out

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
            self.entries.append(_Entry(state[f"{i}.keys"], state[f"{i}.values"], bool(annotated), index))


@dataclass(frozen=True)
class Votes:
    """What a memory says of a frame, annotated frames first, recent ones second.

    ``shares`` ``(3, N, 2h, 2w)`` in 0..1, the third those of all frames together; 0 where nothing was
    looked up or nothing is remembered. ``match`` ``(4, N, h, w)``: about the cosine of the best match of
    the object, of all else, then of both among the recent frames.
    """

    shares: Tensor
    match: Tensor

    def batched(self) -> Votes:
        """With a batch axis of 1 behind the first axis."""
        return Votes(self.shares[:, None], self.match[:, None])


def votes_of(sums: Tensor, scale: float) -> Votes:
    """Sums ``(B, 2, 4 N + 1, h, w)`` of weights ``exp(scale * (cosine - 1) + margin(scale))`` -> votes
    with a batch axis behind the first."""
    b, _, width, h, w = sums.shape
    three = torch.cat((sums, sums.sum(1, keepdim=True)), 1)
    cells, total = three[:, :, :-1].unflatten(2, (-1, SUB * SUB)), three[:, :, -1:]
    shares = F.pixel_shuffle((cells / total[:, :, None].clamp(min=1e-30)).flatten(0, 2), SUB)
    shares = shares.view(b, 3, -1, SUB * h, SUB * w).transpose(0, 1)
    own, total = cells[:, :2].mean(3), total[:, :2]
    both = torch.stack((own, (total - own).clamp(min=0)), 2).flatten(1, 2)  # (B, 4, N, h, w)
    least = math.exp(margin(scale) - _LEAST)
    match = (1 + (both.clamp(min=least).log() - margin(scale)) / scale).transpose(0, 1)
    return Votes(shares, match)


def _windows(region: Tensor) -> list[Window]:
    """Windows that cover the true values of a bool ``(h, w)``: in each block of rows the stretches of
    columns."""
    h, w = region.shape
    tops = np.arange(0, h, _BLOCK_ROWS)
    wanted = np.zeros((len(tops), w + 2), np.int8)
    wanted[:, 1:-1] = np.logical_or.reduceat(region.cpu().numpy(), tops)
    blocks, edges = np.nonzero(np.diff(wanted))
    return [
        (slice(top, min(h, top + _BLOCK_ROWS)), slice(first, last))
        for top, first, last in zip(
            tops[blocks[::2]].tolist(), edges[::2].tolist(), edges[1::2].tolist(), strict=True
        )
    ]


def _grow(span: slice, by: int, limit: int) -> slice:
    return slice(max(0, span.start - by), min(limit, span.stop + by))
