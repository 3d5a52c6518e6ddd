"""Somebody with a mouse on the local web page, for what is measured there and for the browser test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Visitor:
    """Points at pixels of the frame that ``page`` shows; ``size`` is the frame's ``(H, W)``."""

    def __init__(self, page: Page, size: tuple[int, int]) -> None:
        self.page, self.size = page, size

    def state(self, what: str) -> Any:
        """Something of what the page knows."""
        return self.page.evaluate(
            "async () => { const { state } = await import('/page/state.js');"
            f" const {{ view }} = (await import('/page/actions.js')).page; return {what}; }}"
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the frame is on the screen."""
        box = self.page.locator("#view").bounding_box()
        assert box is not None
        height, width = self.size
        scale = min(box["width"] / width, box["height"] / height)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        """From the first pixel to the last."""
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=4)
        mouse.up()
