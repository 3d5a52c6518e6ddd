"""TensorBoard, where it is installed: curves, and pictures of input, target and prediction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from segspn.video.labels import davis_palette

Pictures = Callable[[nn.Module, Any], Tensor]
"""Model and batch -> uint8 ``(B, 3, H, W)``."""


class Board:
    """Event files in ``out``; steps after ``step``, of a run that was killed, are purged.

    Does nothing where not ``wanted``, and, with one line that says so, without tensorboard.
    """

    def __init__(
        self, out: Path, step: int, wanted: bool, pictures: Pictures | None, example: Sequence[Any]
    ) -> None:
        self._draw = pictures
        self._example = default_collate(list(example)) if example else None
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print(
                "no curves: tensorboard is not installed (pip install 'segspn[train]'); "
                "log.jsonl has the figures",
                file=sys.stderr,
            )
            return
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def curves(self, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, model: nn.Module) -> None:
        """The same examples each time, as the model sees them now."""
        if self._writer is not None and self._draw is not None:
            with torch.random.fork_rng():
                drawn = self._draw(model, self._example)
            self._writer.add_images("input, target, prediction", drawn, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def panels(loss_fn: Callable[[nn.Module, Any], Any], output: str) -> Pictures:
    """Pictures of any trainer: what its module ``output`` last gave in a pass of the loss.

    The batch has ``images`` uint8 ``(B, T, 3, S, S)`` and ``labels`` ``(B, S, S)`` or ``(B, T, S, S)``,
    of which the last are shown; the module gives log-odds ``(B, N, h, w)`` of the objects in the last
    image, or of the foreground in all images, ``(B T, 1, h, w)``; if it gives several, the last counts.
    """

    def draw(model: nn.Module, batch: Any) -> Tensor:
        seen: list[Tensor] = []

        def see(module: nn.Module, given: Any, result: Any) -> None:
            seen.append(result[-1] if isinstance(result, tuple) else result)

        hook = model.get_submodule(output).register_forward_hook(see)
        training = model.training
        try:
            with torch.no_grad():
                loss_fn(model.eval(), batch)
        finally:
            hook.remove()
            model.train(training)
        images = batch["images"]
        count, size = len(images), images.shape[-2:]
        labels = batch["labels"]
        labels = labels if labels.dim() == 3 else labels[:, -1]
        logits = seen[-1].detach().float().cpu()
        logits = logits.unflatten(0, (count, -1))[:, -1]
        scores = F.interpolate(logits, size, mode="bilinear", align_corners=False).sigmoid()
        scores = torch.cat((torch.full_like(scores[:, :1], 0.5), scores), 1)
        shown = images[:, -1].cpu()
        parts = (shown, _coloured(shown, labels.long().cpu()), _coloured(shown, scores.argmax(1)))
        return torch.cat(parts, 3)

    return draw


def _coloured(images: Tensor, labels: Tensor) -> Tensor:
    """Objects tinted in DAVIS's colours: uint8 ``(B, 3, H, W)``."""
    palette = torch.from_numpy(davis_palette())
    tint = palette[labels.clamp(0, 255)].permute(0, 3, 1, 2)
    mixed = (images.int() + tint.int()) // 2
    return torch.where(labels[:, None] > 0, mixed, images.int()).to(torch.uint8)
