"""From hints to a mask, in any number of rounds: a look at a window, then the SPN at full size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone import EfficientNetLite0, Frame, load_backbone
from segspn.foreground import ParentNet
from segspn.prompts.hints import Prompts
from segspn.prompts.net import PromptNet, hint_maps
from segspn.spn import SpnRefiner
from segspn.spn.refiner import look, without_inventions
from segspn.weights import load_weights

SIDE = 320  # longest side of a window as the net sees it, in pixels
AROUND = 1.5  # a window's sides, beside those of what is meant
LEAST = 64  # pixels, of a window's sides
SLACK = 0.04  # of a box's sides: how far an object may stick out of it
_STRIDE = 4

Window = tuple[int, int, int, int]  # x0, y0, x1, y1


@dataclass(frozen=True, eq=False)
class Answer:
    """``scores`` float32 ``(H, W)`` in 0..1, above 0.5 is the object; ``prompts``: what led to it."""

    scores: np.ndarray
    prompts: Prompts


class Prompter:
    """Finds the object that is hinted at. Networks only; a `Look` at an image does the work."""

    def __init__(
        self, backbone: EfficientNetLite0, net: PromptNet, refiner: SpnRefiner, device: torch.device
    ) -> None:
        self.backbone, self.net, self.refiner, self.device = backbone, net, refiner, device

    @classmethod
    def load(
        cls,
        device: torch.device,
        backbone: EfficientNetLite0 | None = None,
        refiner: SpnRefiner | None = None,
        weights: str = "prompts",
    ) -> Prompter:
        """The shipped networks; ``backbone`` and ``refiner`` where they are loaded already."""
        if backbone is None:
            backbone = load_backbone().to(device)
        if refiner is None:
            parent = ParentNet(backbone.channels)
            load_weights(parent, "parent")
            refiner = SpnRefiner.load(backbone, parent.eval().to(device), device)
        net = PromptNet(backbone.channels)
        load_weights(net, weights)
        return cls(backbone, net.eval().requires_grad_(False).to(device), refiner, device)

    def look(self, pixels: np.ndarray) -> Look:
        """A look at an image, uint8 RGB ``(H, W, 3)``; what it computes serves all answers."""
        return Look(self, pixels)


class Look:
    """One image, ready to be asked about.

    >>> look = segmenter.prompter.look(image)
    >>> answer = look.answer(Prompts(box=(10, 20, 110, 90)))
    >>> better = look.answer(answer.prompts.joined(Prompts(clicks=((60, 70, False),))), answer.scores)
    """

    def __init__(self, prompter: Prompter, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self._prompter = prompter
        self._frame: Frame | None = None
        self._windows: dict[Window, tuple[Frame, dict[int, Tensor]]] = {}

    @torch.inference_mode()
    def answer(self, prompts: Prompts, previous: np.ndarray | None = None) -> Answer:
        """The mask of the object that is meant.

        ``previous``: float32 or bool ``(H, W)`` in 0..1, the mask that the newest hints are to correct.
        Pixels that are marked are as they are marked in the answer.
        """
        size = self.pixels.shape[:2]
        positive, negative = prompts.seeds(size)
        marked = (prompts, positive, negative)
        scores = None if previous is None else previous.astype(np.float32)
        meant = positive.copy() if scores is None else positive | (scores > 0.5)
        if prompts.box is not None:
            x0, y0, x1, y1 = prompts.box
            meant[y0:y1, x0:x1] = True
        elif scores is None or not (scores > 0.5).any():
            # Clicks do not tell how large a thing is: the whole image comes first.
            scores = self._see((0, 0, size[1], size[0]), *marked, scores)
            meant = positive | (scores > 0.5)
            if not (scores > 0.5).any():
                reach = max(size) // 8
                meant = cv2.dilate(positive.astype(np.uint8), np.ones((reach, reach))) > 0
        scores = self._see(_around(meant), *marked, scores)
        if self._frame is None:
            self._frame = look(self.pixels, self._prompter.device)
        given = torch.from_numpy(scores)[None].to(self._prompter.device)
        refined = self._prompter.refiner.refine_full(self._frame, given).cpu().numpy()
        scores = without_inventions(refined, scores[None])[0]
        if prompts.box is not None:
            scores[~_inside(prompts.box, positive)] = 0
        scores[positive], scores[negative] = 1, 0
        return Answer(scores, prompts)

    def _see(
        self,
        window: Window,
        prompts: Prompts,
        positive: np.ndarray,
        negative: np.ndarray,
        previous: np.ndarray | None,
    ) -> np.ndarray:
        """The net's answer in a window, float32 ``(H, W)``; beyond the window, the previous one."""
        x0, y0, x1, y1 = window
        frame, features = self._features(window)
        h, w = frame.size
        grid = (-(-h // _STRIDE), -(-w // _STRIDE))
        zoom = (w / (x1 - x0) / _STRIDE, h / (y1 - y0) / _STRIDE)
        on, off = (_cells(s[y0:y1, x0:x1], grid) for s in (positive, negative))
        box = None
        if prompts.box is not None:
            left, top, right, bottom = prompts.box
            box = (
                (left - x0) * zoom[0],
                (top - y0) * zoom[1],
                (right - x0) * zoom[0],
                (bottom - y0) * zoom[1],
            )
        before = None
        if previous is not None:
            before = cv2.resize(previous[y0:y1, x0:x1], grid[::-1], interpolation=cv2.INTER_AREA)
        hints = torch.from_numpy(hint_maps(on, off, box, before))[None].to(self._prompter.device)
        padded = tuple(n // _STRIDE for n in frame.image.shape[-2:])
        pads = (0, padded[1] - grid[1], 0, padded[0] - grid[0])
        logits = self._prompter.net(features, F.pad(hints, pads, mode="replicate"))
        odds = frame.crop(logits, _STRIDE)[0, 0].cpu().numpy()
        odds = cv2.resize(odds, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
        size = self.pixels.shape[:2]
        out: np.ndarray = np.zeros(size, np.float32) if previous is None else previous.copy()
        out[y0:y1, x0:x1] = 1 / (1 + np.exp(-np.clip(odds, -20, 20)))
        return out

    def _features(self, window: Window) -> tuple[Frame, dict[int, Tensor]]:
        if window not in self._windows:
            x0, y0, x1, y1 = window
            scale = SIDE / max(x1 - x0, y1 - y0)
            size = (max(1, round(scale * (x1 - x0))), max(1, round(scale * (y1 - y0))))
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            frame = Frame(
                cv2.resize(self.pixels[y0:y1, x0:x1], size, interpolation=how), self._prompter.device
            )
            while len(self._windows) >= 4:  # bounded, whatever is asked
                self._windows.pop(next(iter(self._windows)))
            self._windows[window] = (frame, frame.features(self._prompter.backbone))
        return self._windows[window]


def _around(meant: np.ndarray) -> Window:
    """A window around bool ``(H, W)``, with air on all sides."""
    x, y, w, h = cv2.boundingRect(meant.astype(np.uint8))
    side = max(w, h)
    spans = []
    for start, length, limit in ((x, w, meant.shape[1]), (y, h, meant.shape[0])):
        # Long things are seen with some more air at their narrow sides.
        wanted = max(LEAST, AROUND * length, 0.5 * AROUND * side)
        centre = start + length / 2
        spans.append((max(0, int(centre - wanted / 2)), min(limit, int(centre + wanted / 2) + 1)))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _inside(box: Window, positive: np.ndarray) -> np.ndarray:
    """Where an object of this box may be, bool ``(H, W)``; everywhere if it is marked beyond it."""
    x0, y0, x1, y1 = box
    across, down = round(SLACK * (x1 - x0)) + 1, round(SLACK * (y1 - y0)) + 1
    allowed = np.zeros_like(positive)
    allowed[max(0, y0 - down) : y1 + down, max(0, x0 - across) : x1 + across] = True
    return allowed if not (positive & ~allowed).any() else np.ones_like(positive)


def _cells(seeds: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The cells of a grid that marked pixels, bool ``(H, W)``, lie in: bool ``grid``."""
    cells = np.zeros(grid, bool)
    ys, xs = np.nonzero(seeds)
    cells[ys * grid[0] // seeds.shape[0], xs * grid[1] // seeds.shape[1]] = True
    return cells
