"""The DAVIS semi-supervised protocol: which pixels count, and how frames become figures.

Source: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", and the official
``davis2017-evaluation`` code, from which this departs where that code fails: decay from 256 scored
frames on, ids that are not contiguous, ids in the results that the truth does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

VOID = 255
"""Label of "don't care" pixels in multi-object truth; background to the official code."""

RECALL_THRESHOLD = 0.5

BINARY_YEAR = 2016
"""The DAVIS of one object per sequence: whatever is not 0 is the object."""


@dataclass(frozen=True)
class Statistics:
    """What the protocol says of one measure: mean 0..1, recall 0..1, decay -1..1."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """J and F of every object in every scored frame of one sequence.

    ``frames`` are the ``T`` scored stems, ``ids`` the ``N`` objects, ``j`` and ``f`` float64
    ``(N, T)`` in 0..1.
    """

    name: str
    frames: tuple[str, ...]
    ids: tuple[int, ...]
    j: NDArray[np.float64]
    f: NDArray[np.float64]

    @cached_property
    def objects(self) -> tuple[ObjectScores, ...]:
        """The objects one by one, with their statistics."""
        return tuple(
            ObjectScores(self.name, label, statistics(self.j[n]), statistics(self.f[n]))
            for n, label in enumerate(self.ids)
        )


@dataclass(frozen=True)
class ObjectScores:
    """The statistics of one object."""

    sequence: str
    id: int
    j: Statistics
    f: Statistics

    @property
    def name(self) -> str:
        """``<sequence>_<id>``, as in the official per-sequence CSV."""
        return f"{self.sequence}_{self.id}"


@dataclass(frozen=True)
class GlobalScores:
    """Statistics averaged over all objects of all sequences, and J&F, the mean of both means."""

    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        """J&F, 0..1."""
        return (self.j.mean + self.f.mean) / 2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All scores of one results folder over one subset of DAVIS."""

    year: int
    subset: str
    sequences: tuple[SequenceScores, ...]

    @cached_property
    def objects(self) -> tuple[ObjectScores, ...]:
        """Every object of every sequence, in the order of the subset."""
        return tuple(o for sequence in self.sequences for o in sequence.objects)

    @cached_property
    def total(self) -> GlobalScores:
        """The global figures: every object counts the same, whatever its sequence's length."""
        return total(self.objects)


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Mean, recall (share of frames strictly above 0.5) and decay of one object's ``(T,)`` values.

    Decay is the mean of the first quarter of the frames minus that of the last; the quarters are
    those of ``decay_quarters``. Raises ``ValueError`` when there are no values.
    """
    values = np.asarray(values, dtype=np.float64)
    first, last = decay_quarters(len(values))
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > RECALL_THRESHOLD).mean()),
        decay=float(values[first].mean() - values[last].mean()),
    )


def decay_quarters(count: int) -> tuple[slice, slice]:
    """First and last quarter of ``count`` frames, with the edges of the official code.

    The edges are ``round(linspace(1, count, 5) + 1e-10) - 1``, and both of a quarter's edges belong
    to it (so that neighbours share a frame). The official code keeps them in 8 bits, which wrap
    from 256 frames on; these do not. Raises ``ValueError`` for a count below 1.
    """
    if count < 1:
        raise ValueError("statistics of no frames")
    edges = (np.round(np.linspace(1, count, 5) + 1e-10) - 1).astype(int)
    return slice(int(edges[0]), int(edges[1]) + 1), slice(int(edges[3]), int(edges[4]) + 1)


def total(objects: Sequence[ObjectScores]) -> GlobalScores:
    """Mean of each statistic over ``objects``. Raises ``ValueError`` when there are none."""
    if not objects:
        raise ValueError("an average over no objects")

    def average(rows: list[Statistics]) -> Statistics:
        columns = np.array([(s.mean, s.recall, s.decay) for s in rows])
        return Statistics(*(float(value) for value in columns.mean(axis=0)))

    return GlobalScores(average([o.j for o in objects]), average([o.f for o in objects]))


def truth_labels(labels: NDArray[np.integer], year: int) -> NDArray[np.integer]:
    """An annotation ``(H, W)`` as the protocol sees it: 2016 0 and 1, otherwise void cleared."""
    if year == BINARY_YEAR:
        return (labels != 0).view(np.uint8)
    return np.where(labels == VOID, 0, labels) if (labels == VOID).any() else labels


def result_labels(labels: NDArray[np.integer], year: int) -> NDArray[np.integer]:
    """A result ``(H, W)`` as the protocol sees it: 2016 0 and 1, otherwise as it is."""
    return (labels != 0).view(np.uint8) if year == BINARY_YEAR else labels


def object_ids(first: NDArray[np.integer]) -> tuple[int, ...]:
    """The objects of a sequence, ascending: what its first ``truth_labels`` hold besides 0."""
    return tuple(int(label) for label in np.unique(first) if label > 0)


def scored_frames(stems: Sequence[str]) -> tuple[str, ...]:
    """The stems that count: all annotated frames but the first, which is given, and the last."""
    return tuple(stems[1:-1])
