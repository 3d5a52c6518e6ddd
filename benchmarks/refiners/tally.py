"""Run every refiner on every input of every frame; keep quality and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.refiners.cases import Case, Place
from benchmarks.refiners.methods import NOTHING, Refiner
from segspn.evaluation import Evaluation, SequenceScores, frame_scores
from segspn.evaluation.protocol import BINARY_YEAR


@dataclass(frozen=True)
class Entry:
    """One mask made: J and F in 0..1."""

    refiner: str
    kind: str
    sequence: str
    stem: str
    j: float
    f: float
    seconds: float


@dataclass
class Tally:
    """All that was measured. Every figure is over the frames taken."""

    subset: str
    entries: list[Entry] = field(default_factory=list)

    def add(
        self, place: Place, case: Case, refiners: Sequence[Refiner]
    ) -> dict[tuple[str, str], np.ndarray]:
        """Refine and score one frame's inputs; the masks by (refiner, kind)."""
        made = {}
        # In turns, so that a busy moment of the machine hits all of them.
        for kind, scores in case.inputs.items():
            for refiner in refiners:
                start = time.perf_counter()
                mask = refiner(case.image, scores)
                seconds = time.perf_counter() - start
                j, f = frame_scores(mask.view(np.uint8), case.truth.view(np.uint8), (1,))
                name = place.sequence.name
                self.entries.append(
                    Entry(refiner.name, kind, name, place.stem, float(j[0]), float(f[0]), seconds)
                )
                made[refiner.name, kind] = mask
        return made

    def evaluation(self, refiner: str, kind: str) -> Evaluation:
        """The protocol's means: over frames, then over sequences."""
        rows = self._of(refiner, kind)
        sequences = []
        for name in dict.fromkeys(e.sequence for e in rows):
            own = [e for e in rows if e.sequence == name]
            j, f = (np.array([[getattr(e, measure) for e in own]]) for measure in ("j", "f"))
            sequences.append(SequenceScores(name, tuple(e.stem for e in own), (1,), j, f))
        return Evaluation(BINARY_YEAR, self.subset, tuple(sequences))

    def change(self, refiner: str, kinds: Sequence[str]) -> float:
        """J&F minus that of the input, mean over ``kinds``."""
        return statistics.mean(
            self.evaluation(refiner, k).total.jf - self.evaluation(NOTHING.name, k).total.jf
            for k in kinds
        )

    def worst(self, refiner: str, kind: str) -> tuple[str, float]:
        """The sequence whose J&F changes for the worse most, and its change."""
        changes = {}
        before, after = (self.evaluation(name, kind) for name in (NOTHING.name, refiner))
        for old, new in zip(before.objects, after.objects, strict=True):
            gain = (new.j.mean + new.f.mean - old.j.mean - old.f.mean) / 2
            changes[old.sequence] = gain
        name = min(changes, key=lambda n: changes[n])
        return name, changes[name]

    def milliseconds(self, refiner: str, kind: str | None = None) -> float:
        """Median time of one mask."""
        return 1e3 * statistics.median(e.seconds for e in self._of(refiner, kind))

    def _of(self, refiner: str, kind: str | None) -> list[Entry]:
        return [e for e in self.entries if e.refiner == refiner and kind in (None, e.kind)]


def warm_up(case: Case, refiners: Sequence[Refiner]) -> None:
    """Once unmeasured: networks load, numba compiles."""
    for refiner in refiners:
        refiner(case.image, next(iter(case.inputs.values())))
