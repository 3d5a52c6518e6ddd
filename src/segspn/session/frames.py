"""Frames that a session can go back to, and which annotated frames it goes on learning from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from segspn.foreground import Shot
from segspn.prompts import Answer

MOST_SHOTS = 3  # annotated frames to learn from, unless more are needed to know every object


@dataclass(frozen=True)
class State:
    """Everything that the stages have learned and remember between two frames.

    The tensors are shared with the stages, which replace and never change them.
    """

    ids: tuple[int, ...] = ()
    foreground: dict[str, Tensor] = field(default_factory=dict)
    instance: dict[str, Tensor] = field(default_factory=dict)
    craf: dict[str, Any] | None = None
    shots: tuple[Shot, ...] = ()


@dataclass
class Kept:
    """A frame of the session, and all that is needed to annotate it again.

    ``pixels`` uint8 ``(H, W, 3)``; ``labels`` int32 ``(H, W)``: predicted, with what has been marked
    since; ``before``: the stages' state when the frame came; ``found``: objects whose pixels were
    predicted; ``known``: those that a person has marked; ``answers``: what the prompts have led to so
    far, by object; ``pending``: marked, and the stages have not learned it yet.
    """

    index: int
    pixels: np.ndarray
    labels: np.ndarray
    before: State
    found: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()
    answers: dict[int, Answer] = field(default_factory=dict)
    pending: bool = False

    def copy(self) -> Kept:
        """Another that can be marked without changing this one."""
        return replace(self, labels=self.labels.copy(), answers=dict(self.answers))

    def shot(self) -> Shot:
        """The frame as something to learn from."""
        found = self.found - self.known
        return Shot(self.pixels, self.labels.copy(), self.known, found, self.index)

    def drop(self, object_id: int) -> None:
        """Forget an object."""
        self.labels[self.labels == object_id] = 0
        self.known -= {object_id}
        self.found -= {object_id}
        self.answers.pop(object_id, None)
        self.pending = self.pending and bool(self.known)


def chosen_shots(shots: Sequence[Shot], ids: Sequence[int]) -> tuple[Shot, ...]:
    """The annotated frames, oldest first, that are worth keeping for the objects ``ids``.

    The first and the newest stay and, of the others, those without which an object would not be known;
    beyond that the oldest go until `MOST_SHOTS` are left. So their number is bounded by that of the
    objects, however long the session.
    """
    live = frozenset(ids)
    kept = [shot for shot in shots if shot.known & live]
    for shot in kept[1:-1] + kept[:1]:
        if len(kept) <= MOST_SHOTS:
            break
        others = frozenset[int]().union(*(s.known for s in kept if s is not shot))
        if shot.known & live <= others:
            kept.remove(shot)
    return tuple(kept)
