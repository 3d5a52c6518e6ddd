"""Strokes of the pointer on a frame become masks of an object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from segspn.app.engine import Engine, Prompt
from segspn.app.project import Project
from segspn.errors import InputError

TOOLS = ("brush", "eraser", "box", "click")


@dataclass(frozen=True)
class Stroke:
    """One use of a tool: ``points`` (x, y) in frame pixels along the way, ``radius`` of the brush;
    ``on`` False for a click beside the object."""

    frame: int
    object_id: int
    tool: str
    points: tuple[tuple[float, float], ...]
    radius: float
    on: bool


class Pointer:
    """Applies strokes to a project; clicks on one object of one frame add up to one prompt."""

    def __init__(self, project: Project, engine: Engine) -> None:
        self._project, self._engine = project, engine
        self._where: tuple[int, int] | None = None
        self._prompts: list[Prompt] = []

    def apply(self, stroke: Stroke, pixels: np.ndarray) -> None:
        """Change the masks of the stroke's frame, uint8 (H, W, 3).

        Raises `InputError` for an unknown object, a box without an inside, or where nothing is found.
        """
        self._project.thing(stroke.object_id)
        if stroke.tool in ("brush", "eraser"):
            self.forget()
            painted = _swept(stroke, self._project.size)
            self._project.paint(stroke.frame, stroke.object_id, painted, stroke.tool == "brush")
            return
        where = (stroke.frame, stroke.object_id)
        if where != self._where:
            self.forget()
        prompt = _with(self._prompts[-1] if self._prompts else Prompt(), stroke)
        now = self._project.labels(stroke.frame) == stroke.object_id
        previous = now if stroke.tool == "click" and now.any() else None
        with self._engine.turns:
            mask = self._engine.mask(pixels, prompt, previous)
        if not mask.any():
            raise InputError("nothing was found there: try a box, or draw with the brush")
        self._where = where
        self._prompts.append(prompt)
        self._project.replace(stroke.frame, stroke.object_id, mask)

    def forget(self) -> None:
        """The next click starts a new prompt."""
        self._where = None
        self._prompts.clear()

    def back(self) -> None:
        """Forget the last click or box alone."""
        if self._prompts:
            self._prompts.pop()


def _swept(stroke: Stroke, size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres a round brush passes over, bool (H, W)."""
    swept = np.zeros(size, bool)
    radius = max(stroke.radius, 0.5)
    points = np.array(stroke.points)
    for start, end in zip(points[[0, *range(len(points) - 1)]], points, strict=True):
        low = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + radius), size[::-1]).astype(int)
        x = np.arange(low[0], high[0]) + 0.5 - start[0]
        y = np.arange(low[1], high[1])[:, None] + 0.5 - start[1]
        dx, dy = end - start
        along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        near = (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius**2
        swept[low[1] : high[1], low[0] : high[0]] |= near
    return swept


def _with(prompt: Prompt, stroke: Stroke) -> Prompt:
    if stroke.tool == "click":
        x, y = stroke.points[-1]
        return replace(prompt, points=(*prompt.points, (x, y, stroke.on)))
    (xa, ya), (xb, yb) = stroke.points[0], stroke.points[-1]
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    if box[2] - box[0] < 3 or box[3] - box[1] < 3:
        raise InputError("that box is too small: drag it around the whole object")
    return Prompt(box=box)
