"""Several looks at each frame: the same stage at other sizes and mirrored, their log-odds averaged.

Small things are seen better enlarged, large ones as they are, and what two looks get wrong they seldom
get wrong alike. Each look learns and remembers for itself; all take note of one and the same result, so
that none drifts away alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.frame import ALIGN, Frame
from segspn.foreground.augment import Samples, Shot
from segspn.instance.stage import InstanceStage, OnObjectStep


@dataclass(frozen=True)
class View:
    """How a frame is looked at: with its longest side ``side`` pixels long (0: as it is), mirrored or
    not."""

    side: int = 0
    mirrored: bool = False

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The view's ``(H, W)`` of a frame's."""
        longest = max(size)
        height, width = (max(1, round(n * (self.side or longest) / longest)) for n in size)
        return height, width

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """RGB uint8 ``(H, W, 3)`` as this view shows it."""
        height, width = self.size(pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            way = cv2.INTER_AREA if self.side < max(pixels.shape) else cv2.INTER_CUBIC
            pixels = cv2.resize(pixels, (width, height), interpolation=way)
        return np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Label map int32 ``(H, W)`` as this view shows it."""
        rows, columns = (
            (np.arange(n) * m + m // 2) // n
            for n, m in zip(self.size(labels.shape), labels.shape, strict=True)
        )
        seen = labels[rows[:, None], columns]
        return np.ascontiguousarray(seen[:, ::-1] if self.mirrored else seen)

    def frame(self, frame: Frame) -> Frame:
        """The frame as this view shows it, made once per frame."""
        if self == View():
            return frame

        height, width = frame.size
        made: Frame = frame.once(
            f"view {self}",
            lambda: Frame(self.picture(frame.pixels[:height, :width]), frame.image.device),
        )
        return made

    def shot(self, shot: Shot) -> Shot:
        return replace(shot, frame=self.picture(shot.frame), labels=self.labels(shot.labels))

    def forth(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps ``(N, Hp / 4, Wp / 4)`` over a padded frame of true ``size`` -> over the view's."""
        return self._resampled(maps, size, self.size(size))

    def back(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Counterpart of ``forth``."""
        return self._resampled(maps, self.size(size), size)

    def motion_back(self, motion: Tensor, size: tuple[int, int]) -> Tensor:
        """``back`` for ``(2, Hp / 4, Wp / 4)`` displacements x, y in cells."""
        scale = size[0] / self.size(size)[0]
        along = motion.new_tensor([-scale if self.mirrored else scale, scale])
        return self.back(motion, size) * along[:, None, None]

    def _resampled(self, maps: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
        if self == View():
            return maps
        places = []
        for axis, (true, wanted) in enumerate(zip(source, target, strict=True)):
            cells = (wanted + -wanted % ALIGN) // 4
            at = (4 * torch.arange(cells, device=maps.device) + 2) * (true / wanted)  # pixels
            if axis == 1 and self.mirrored:
                at = true - at
            places.append(at / (2 * maps.shape[axis + 1]) - 1)  # -1..1 over the source's padded grid
        grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], -1).to(maps)
        return F.grid_sample(maps[None], grid[None], padding_mode="border", align_corners=False)[0]


class SeveralViews(InstanceStage):
    """A stage for each of ``views``, all made by ``make``."""

    def __init__(self, views: Sequence[View], make: Callable[[], InstanceStage]) -> None:
        self.looks = [(view, make()) for view in views]

    def fit(self, samples: Samples, seed: int, on_step: OnObjectStep | None = None) -> None:
        for view, stage in self.looks:
            stage.fit(samples.changed(view.shot) if view != View() else samples, seed)
        if on_step is not None:
            on_step(tuple(range(len(samples.ids))), 1)

    def arrange(self, order: Sequence[int | None]) -> None:
        for _, stage in self.looks:
            stage.arrange(order)

    def follows(self, frame: Frame) -> bool:
        view, stage = self.looks[0]
        return stage.follows(view.frame(frame))

    def scatter(self) -> None:
        for _, stage in self.looks:
            stage.scatter()

    def predict(self, frame: Frame) -> Tensor:
        odds = [
            torch.logit(view.back(stage.predict(view.frame(frame)), frame.size), 1e-4)
            for view, stage in self.looks
        ]
        return torch.stack(odds).mean(0).sigmoid()

    def votes(self, frame: Frame) -> Tensor | None:
        found = [(view, stage.votes(view.frame(frame))) for view, stage in self.looks]
        maps = [view.back(votes, frame.size) for view, votes in found if votes is not None]
        return torch.stack(maps).mean(0) if maps else None

    def motion(self, frame: Frame) -> Tensor | None:
        view, stage = self.looks[0]
        found = stage.motion(view.frame(frame))
        return None if found is None else view.motion_back(found, frame.size)

    def alike(self) -> list[tuple[int, int]] | None:
        return self.looks[0][1].alike()

    def likeness(self, frame: Frame) -> Tensor | None:
        view, stage = self.looks[0]
        found = stage.likeness(view.frame(frame))
        return None if found is None else view.back(found, frame.size)

    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        for view, stage in self.looks:
            stage.accept(view.frame(frame), view.forth(shares, frame.size), index)

    def state(self) -> dict[str, Tensor]:
        # Behind the name, not before it: what only remembers frames begins with ``memory.``
        return {
            f"{name}.view{k}": value
            for k, (_, stage) in enumerate(self.looks)
            for name, value in stage.state().items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        for k, (_, stage) in enumerate(self.looks):
            end = f".view{k}"
            stage.restore({n.removesuffix(end): v for n, v in state.items() if n.endswith(end)})
