"""What the pipeline asks of stage 1, whichever model it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.foreground.augment import Samples

OnStep = Callable[[int], None]
"""Called after each step of fine-tuning with the number of steps made; ``state()`` is up to date."""


class ForegroundStage(ABC):
    """``adapt`` on the samples of the annotated frames, then ``predict`` frame by frame.

    ``threshold``: an instance score survives where the foreground's probability exceeds it.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    @abstractmethod
    def adapt(self, samples: Samples, seed: int, on_step: OnStep | None = None) -> None:
        """Learn everything that is annotated as foreground; deterministic for a seed.

        It may be called again, with the samples of all annotations; what was learned before does not
        count then. Tensors that ``state`` has given out are never written into."""

    @abstractmethod
    def predict(self, frame: Frame) -> Tensor:
        """Foreground probability ``(h, w)`` over the padded frame, at the model's own stride."""

    def keep_inside(self, scores: Tensor, foreground: Tensor) -> Tensor:
        """Zero the scores ``(N, h, w)`` outside the foreground ``(h, w)`` (paper section 2)."""
        return scores * (foreground > self.threshold)

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What was learned, as named tensors."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None:
        """Counterpart of ``state``."""
