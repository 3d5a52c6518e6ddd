"""Online learning of an object's appearance: a linear classifier by weighted least squares.

The paper fine-tunes a whole net per object for thousands of steps (section 2). Over a frozen embedding
the last layer is all there is to learn, its squared loss has one minimum, and the step of Gauss and
Newton reaches it at once: no learning rate, no number of steps, milliseconds instead of seconds. Its
sufficient statistics are two small matrices, so learning from a further frame is adding that frame's:
the annotated frames' never fade, those of the object's own later masks do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.place import Place
from segspn.foreground.parent import SUB
from segspn.heap import apart

CELLS = SUB * SUB
CELL = 8  # pixels of a cell's side


@dataclass(frozen=True)
class LearnerConfig:
    """``keep``: how much of the running statistics a new frame leaves; ``share``: of the running
    statistics beside the annotated ones; ``ridge``: relative to the mean of the diagonal."""

    keep: float = 0.9
    share: float = 0.5
    ridge: float = 0.02
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


def moments(inputs: Tensor, shares: Tensor, certainty: Tensor | None = None) -> Moments:
    """Statistics of a frame.

    ``inputs``: of `describe`, ``(B, M, D)``; ``shares``: ``(B, N, 2h, 2w)`` in 0..1. An object's cells
    and all others have the same say (eq. 1 of the paper); ``certainty`` ``(B, N, h, w)`` in 0..1 weighs
    cells.
    """
    cells = F.pixel_unshuffle(shares.flatten(0, 1)[:, None], SUB).flatten(2)  # (B N, 4, M)
    cells = cells.unflatten(0, shares.shape[:2])
    weight, _ = _weights(cells)
    if certainty is not None:
        weight = weight * certainty.flatten(2)
    weight = weight / weight.sum(2, keepdim=True).clamp(min=1e-6)
    weighted = inputs[:, None] * weight[..., None]  # (B, N, M, D)
    transposed = weighted.transpose(2, 3)
    targets = 2 * cells.transpose(2, 3) - 1
    return Moments(transposed @ inputs[:, None], transposed @ targets)


def moments_near(inputs: Tensor, shares: Tensor, certainty: Tensor, places: Sequence[Place]) -> Moments:
    """The same of one frame in far less time, where objects are certain not to be beyond ``places``.

    ``shares`` ``(1, N, 2h, 2w)``; ``places``: one for each object. All cells elsewhere weigh the same:
    theirs are the moments of the whole frame, which are the same for all objects, less those of the
    place.
    """
    h, w = certainty.shape[-2:]
    cells = F.pixel_unshuffle(shares[0, :, None], SUB)  # (N, 4, h, w)
    weight, beyond = _weights(cells.flatten(2))
    weight = weight.unflatten(1, (h, w)) * certainty[0]
    grid = inputs[0].unflatten(0, (h, w))
    total = inputs[0].T @ inputs[0]
    summed = total[:, -1:]  # the last input is a one
    found: list[tuple[Tensor, Tensor]] = []
    for n, place in enumerate(places):
        held = Place.joined((place, Place.around(cells[n].amax(0) > 0, CELL, 0) or place))
        x = held.cut(grid.movedim(2, 0), CELL).flatten(1)  # (D, m)
        here = held.cut(weight[n], CELL).flatten()
        target = 2 * held.cut(cells[n], CELL).flatten(1).T - 1  # (m, 4)
        all_weight = here.sum() + beyond[n] * (h * w - len(here))
        own = (x * (here - beyond[n])) @ x.T + beyond[n] * total
        answer = (x * here) @ target - beyond[n] * (summed - x.sum(1, keepdim=True))
        found.append((own / all_weight, answer / all_weight))
    second, crossed = (torch.stack(maps)[None] for maps in zip(*found, strict=True))
    return Moments(second, crossed)


def _weights(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Of shares ``(..., 4, M)`` the weight of each cell ``(..., M)``, an object's and all others having
    the same say, and that of one that is not the object's ``(...)``."""
    inside = cells.amax(-2) > 0.5
    portion = inside.float().mean(-1, keepdim=True).clamp(0.02, 0.98)
    beyond = 0.5 / (1 - portion)
    return torch.where(inside, 0.5 / portion, beyond), beyond[..., 0]


def solve(m: Moments, ridge: float) -> Tensor:
    """The classifier ``(B, N, D, 4)`` of least squared error."""
    size = torch.diagonal(m.inputs, dim1=2, dim2=3).mean(2)[..., None, None]
    eye = torch.eye(m.inputs.shape[-1], dtype=m.inputs.dtype, device=m.inputs.device)
    factor, _ = torch.linalg.cholesky_ex(m.inputs + (ridge * size + 1e-6) * eye)
    return torch.cholesky_solve(m.targets, factor)


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

    def update(self, found: Moments) -> None:
        """Learn from a frame with the objects' own masks.

        An object whose classifier would come to disagree with its annotated frames keeps what it had:
        its mask has drifted.
        """
        assert self.first is not None, "begin first"
        running = found
        if self.running is not None:
            running = self.running.lerp(found, 1 - self.config.keep)
        learning = self._solved(running)
        good = (self.first.error(learning) <= self._limit)[..., None, None]
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
        y = (inputs[:, None] @ both).clamp(-2, 2).transpose(2, 3)
        steady, learning = y.unflatten(3, tuple(size)).split(CELLS, 2)
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
