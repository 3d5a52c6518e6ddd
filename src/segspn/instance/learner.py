"""Online learning of an object's appearance: a linear classifier by weighted least squares.

The paper fine-tunes a whole net per object for thousands of steps (section 2). Over a frozen embedding
the last layer is all there is to learn, its squared loss has one minimum, and the step of Gauss and
Newton reaches it at once: no learning rate, no number of steps, milliseconds instead of seconds. Its
sufficient statistics are two small matrices, so learning from a further frame is adding that frame's:
the annotated frames' never fade, those of the object's own later masks do.

A squared error also punishes scores that are right by more than was asked for, and most cells are easy.
So what the classifier has got right, and clearly, counts little: look-alikes and edges remain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB
from segspn.heap import apart
from segspn.instance.thinning import thinned
from segspn.threads import side_by_side

CELLS = SUB * SUB
CELL = 8  # pixels of a cell's side

_EASY = 0.03  # weight of a cell whose scores lead by `_ENOUGH` and more in the right direction
_ENOUGH = 1.25
_ROUNDS = 2  # of learning annotated frames again with the weights of what was learned before


@dataclass(frozen=True)
class LearnerConfig:
    """``keep``: how much of the running statistics a new frame leaves; ``share``: of the running
    statistics beside the annotated ones; ``ridge``: relative to the mean of the diagonal."""

    keep: float = 0.9
    share: float = 0.5
    ridge: float = 0.01
    tolerance: float = 0.15


@dataclass
class Moments:
    """Second moments ``(B, N, D, D)`` of inputs, and ``(B, N, D, 4)`` of inputs and targets."""

    inputs: Tensor
    targets: Tensor

    def lerp(self, other: Moments, weight: float) -> Moments:
        return Moments(
            torch.lerp(self.inputs, other.inputs, weight),
            torch.lerp(self.targets, other.targets, weight),
        )

    def times(self, factor: Tensor) -> Moments:
        return Moments(self.inputs * factor, self.targets * factor)

    def plus(self, other: Moments) -> Moments:
        return Moments(self.inputs + other.inputs, self.targets + other.targets)

    def error(self, classifier: Tensor) -> Tensor:
        """Mean squared error ``(B, N)`` of a classifier ``(B, N, D, 4)``, less that of the best
        size: targets are -1 and 1, so their square is taken to be 1."""
        fitted = (classifier * (self.inputs @ classifier - 2 * self.targets)).sum(2)
        return 1 + fitted.mean(2)


def describe(embedding: Tensor) -> Tensor:
    """Embedding ``(B, C, h, w)`` -> what is classified, ``(B, h * w, 2 C + 1)``: each cell, the mean of
    its neighbourhood, and a one for the bias."""
    around = F.avg_pool2d(embedding, 3, 1, 1, count_include_pad=False)
    x = torch.cat((embedding, around, torch.ones_like(embedding[:, :1])), 1)
    return x.flatten(2).transpose(1, 2)


def moments(
    inputs: Tensor, shares: Tensor, certainty: Tensor | None = None, scores: Tensor | None = None
) -> Moments:
    """Statistics of frames.

    ``inputs``: of `describe`, ``(B, M, D)``; ``shares``: ``(B, N, 2h, 2w)`` in 0..1. An object's cells
    and all others have the same say (eq. 1 of the paper). ``certainty`` ``(B, N, h, w)`` in 0..1 weighs
    cells, and so does how hard they are for the classifier that gives ``scores`` ``(B, N, 4, h, w)``.
    """
    cells = F.pixel_unshuffle(shares.flatten(0, 1)[:, None], SUB).flatten(2)  # (B N, 4, M)
    cells = cells.unflatten(0, shares.shape[:2])
    weight = _weights(cells, certainty, scores)
    weight = weight / weight.sum(2, keepdim=True).clamp(min=1e-6)
    weighted = inputs[:, None] * weight[..., None]  # (B, N, M, D)
    transposed = weighted.transpose(2, 3)
    targets = 2 * cells.transpose(2, 3) - 1
    return Moments(transposed @ inputs[:, None], transposed @ targets)


def moments_of_frame(
    inputs: Tensor, shares: Tensor, certainty: Tensor | None = None, scores: Tensor | None = None
) -> Moments:
    """About the same of one frame, ``B`` 1, in a third of the time: of the cells far from an object
    every eighth one stands for eight (see `thinned`)."""
    cells = F.pixel_unshuffle(shares[0, :, None], SUB)  # (N, 4, h, w)
    thin = thinned(cells.amax(1) > 0, 2).flatten(1)
    cells = cells.flatten(2)
    weights = _weights(cells[None], certainty, scores)[0] * thin
    shape = (1, len(cells), inputs.shape[-1])
    found = Moments(inputs.new_empty(*shape, shape[-1]), inputs.new_empty(*shape, CELLS))

    def gather(n: int) -> None:
        weight, kept = weights[n], weights[n] > 0
        rows, target = inputs[0, kept], 2 * cells[n][:, kept].T - 1
        weighted = (rows * (weight[kept] / weight.sum().clamp(min=1e-6))[:, None]).T
        torch.mm(weighted, rows, out=found.inputs[0, n])
        torch.mm(weighted, target, out=found.targets[0, n])

    side_by_side([partial(gather, n) for n in range(len(cells))], inputs.device.type)
    return found


def _weights(cells: Tensor, certainty: Tensor | None, scores: Tensor | None) -> Tensor:
    """Of shares ``(B, N, 4, M)`` the weight of each cell ``(B, N, M)``; an object's and all others have
    the same say."""
    inside = cells.amax(-2) > 0.5
    portion = inside.float().mean(-1, keepdim=True).clamp(0.02, 0.98)
    weight = torch.where(inside, 0.5 / portion, 0.5 / (1 - portion))
    if certainty is not None:
        weight = weight * certainty.flatten(2)
    if scores is not None:
        lead = (scores.flatten(3) * (2 * cells - 1)).amin(-2)
        weight = weight * (_EASY + (1 - _EASY) * (_ENOUGH - lead).clamp(0, 1))
    return weight


def solve(m: Moments, ridge: float) -> Tensor:
    """The classifier ``(B, N, D, 4)`` of least squared error."""
    size = torch.diagonal(m.inputs, dim1=2, dim2=3).mean(2)[..., None, None]
    eye = torch.eye(m.inputs.shape[-1], dtype=m.inputs.dtype, device=m.inputs.device)
    factor, _ = torch.linalg.cholesky_ex(m.inputs + (ridge * size + 1e-6) * eye)
    return torch.cholesky_solve(m.targets, factor)


def classify(inputs: Tensor, classifier: Tensor, size: Sequence[int]) -> Tensor:
    """Inputs ``(B, h w, D)`` and classifiers ``(B, N, D, C)`` -> scores ``(B, N, C, h, w)``, -1 (not the
    object) to 1, cut off at -2 and 2; ``size`` is ``(h, w)``."""
    # All in one product, map by map: a product for each object takes five times as long.
    scores = (classifier.transpose(2, 3).flatten(1, 2) @ inputs.transpose(1, 2)).clamp(-2, 2)
    return scores.unflatten(1, (classifier.shape[1], -1)).unflatten(3, tuple(size))


def hard_moments(make: Callable[[Tensor | None], Moments], ridge: float) -> Moments:
    """Moments of annotated frames in which what the resulting classifier finds easy counts little.

    ``make`` gives them for a classifier, at first None.
    """
    found = make(None)
    for _ in range(_ROUNDS):
        found = make(solve(found, ridge))
    return found


class Learner:
    """The classifiers of all objects: one of the annotated frames alone, one that goes on learning."""

    def __init__(self, config: LearnerConfig) -> None:
        self.config = config
        self.first: Moments | None = None
        self.running: Moments | None = None

    def begin(self, found: Moments, afresh: Sequence[bool] | None = None) -> None:
        """Learn from annotated frames.

        ``afresh``: of which objects to forget what was learned later; None: of all.
        """
        running = self.running
        self.first, self.running = found, None
        self._steady = self._learning = solve(found, self.config.ridge)
        self._limit = found.error(self._steady) + self.config.tolerance
        if running is not None and afresh is not None and not all(afresh):
            new = torch.tensor(afresh, device=found.inputs.device)[None, :, None, None]
            self.running = Moments(
                torch.where(new, found.inputs, running.inputs),
                torch.where(new, found.targets, running.targets),
            )
            self._learning = self._solved(self.running)

    def update(self, found: Moments, seen: Tensor | None = None) -> None:
        """Learn from a frame with the objects' own masks.

        An object whose classifier would come to disagree with its annotated frames keeps what it had:
        its mask has drifted. So does one that was not ``seen``, bool ``(N,)``; None: all were.
        """
        assert self.first is not None, "begin first"
        running = found
        if self.running is not None:
            running = self.running.lerp(found, 1 - self.config.keep)
        learning = self._solved(running)
        good = self.first.error(learning) <= self._limit
        good = (good if seen is None else good & seen)[..., None, None]
        before = self.first if self.running is None else self.running
        self.running = Moments(
            apart(torch.where(good, running.inputs, before.inputs)),
            apart(torch.where(good, running.targets, before.targets)),
        )
        self._learning = apart(torch.where(good, learning, self._learning))

    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; `begin` follows where one is None."""
        fill = [0 if k is None else k for k in order]
        self.restore({name: m[:, fill] for name, m in self.state().items()})

    def scores(self, inputs: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Scores about -1 (not the object) to 1 of both classifiers, ``(B, N, 4, h, w)`` each."""
        both = torch.cat((self._steady, self._learning), 3)  # (B, N, D, 8)
        steady, learning = classify(inputs, both, size).split(CELLS, 2)
        return steady, learning

    def _solved(self, running: Moments) -> Tensor:
        assert self.first is not None, "begin first"
        return solve(self.first.lerp(running, self.config.share), self.config.ridge)

    def state(self) -> dict[str, Tensor]:
        """Flat tensors, so that a session can be saved without pickle."""
        out = {"learning": self._learning}
        for name, m in (("first", self.first), ("running", self.running)):
            if m is not None:
                out[f"{name}.inputs"], out[f"{name}.targets"] = m.inputs, m.targets
        return out

    def restore(self, state: dict[str, Tensor]) -> None:
        """Counterpart of ``state``."""
        self.begin(Moments(state["first.inputs"], state["first.targets"]))
        if "running.inputs" in state:
            self.running = Moments(state["running.inputs"], state["running.targets"])
        self._learning = state["learning"]
