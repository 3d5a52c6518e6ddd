"""What the pipeline asks of stage 2, whichever model it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.foreground.augment import Samples

OnObjectStep = Callable[[tuple[int, ...], int], None]
"""Called after each step of fine-tuning: whose models made it (positions in ``samples.ids``), and how
many steps these have made; ``state()`` is up to date."""


class InstanceStage(ABC):
    """``fit`` on the samples of the annotated frames; then per frame ``predict`` and ``accept``.

    The models of an object never depend on which other objects there are; only scores compete.
    """

    @abstractmethod
    def fit(self, samples: Samples, seed: int, on_step: OnObjectStep | None = None) -> None:
        """Learn every object of ``samples.ids``; deterministic for a seed.

        It is called again whenever a frame has been annotated (the last of ``samples.shots``), after
        ``arrange`` where objects have come. Tensors that ``state`` has given out are never written
        into, so that a session can go back to them."""

    @abstractmethod
    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; None: a new one, to be fitted."""

    def follows(self, frame: Frame) -> bool:
        """Whether the next ``frame`` goes on with the scene of the last one; else `scatter` is due."""
        return True

    def scatter(self) -> None:  # noqa: B027 - nothing to do for most
        """The next frame shows another scene: no object is where it was."""

    @abstractmethod
    def predict(self, frame: Frame) -> Tensor:
        """Score maps ``(N, h, w)`` in 0..1 over the padded frame, at the foreground's stride."""

    def votes(self, frame: Frame) -> Tensor | None:
        """What remembered frames say of the ``frame`` last predicted: shares ``(N, Hp / 4, Wp / 4)`` in
        0..1, for the SPN; None where nothing is remembered."""
        return None

    def motion(self, frame: Frame) -> Tensor | None:
        """How what is seen in the ``frame`` last predicted has moved, for the filter: ``(2, Hp / 4,
        Wp / 4)``, x and y of where each cell was in the frame before, in cells; None: not known."""
        return None

    def alike(self) -> list[tuple[int, int]] | None:
        """The pairs of objects, by position, that look alike, for the filter; None: not known."""
        return None

    def likeness(self, frame: Frame) -> Tensor | None:
        """How like what is remembered of each object the cells of the ``frame`` last predicted are, for
        the filter: cosines ``(N, Hp / 4, Wp / 4)``; None: not known."""
        return None

    @abstractmethod
    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        """Take note of an output: ``shares`` ``(N, Hp / 4, Wp / 4)`` of the final label map of frame
        ``index``, as ``label_shares`` makes them."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What was learned, as named tensors; what only remembers frames begins with ``memory.``"""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None:
        """Counterpart of ``state``."""
