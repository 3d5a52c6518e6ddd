"""From hints to a mask, in any number of rounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segspn.prompts.hints import Prompts


@dataclass(frozen=True, eq=False)
class Answer:
    """``scores`` float32 ``(H, W)`` in 0..1, above 0.5 is the object; ``prompts``: what led to it."""

    scores: np.ndarray
    prompts: Prompts


class Prompter:
    """Finds the object that is hinted at (for now by colour alone)."""

    def answer(
        self, pixels: np.ndarray, prompts: Prompts, previous: np.ndarray | None = None
    ) -> Answer:
        """``pixels`` uint8 RGB ``(H, W, 3)``; ``previous`` float32 or bool ``(H, W)`` in 0..1: the mask
        that the last hints correct."""
        positive, negative = prompts.seeds(pixels.shape[:2])
        state = np.full(pixels.shape[:2], cv2.GC_PR_BGD, np.uint8)
        if prompts.box is not None:
            state[:] = cv2.GC_BGD
            x0, y0, x1, y1 = prompts.box
            state[y0:y1, x0:x1] = cv2.GC_PR_FGD
        if previous is not None:
            state[previous > 0.5] = cv2.GC_PR_FGD
        grown = cv2.dilate(positive.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
        state[grown & (state == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
        state[positive], state[negative] = cv2.GC_FGD, cv2.GC_BGD
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(pixels[..., ::-1].copy(), state, (0, 0, 1, 1), *models, 2, cv2.GC_INIT_WITH_MASK)
        scores = np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        return Answer(scores, prompts)
