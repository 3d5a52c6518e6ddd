"""What a person waits for on the local web page, measured in a real browser.

    python benchmarks/app_latency.py [--size 480 854] [--frames 40] [--runs 5] [--json OUT]

Needs the `app` extra, playwright and Chromium. A clip is opened by `segspn app` as a user would start
it; in Chromium a box is drawn around the first object of its annotated first frame, then clicks are set
beside and on it, the timeline is scrubbed, and the object is followed. Each wait ends when the page
shows the result: the server's answer and the drawing of it are in it. Medians and the longest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.machine import machine  # noqa: E402
from benchmarks.visitor import Visitor  # noqa: E402
from segspn.video import VideoWriter, open_source, read_object_masks  # noqa: E402

EXAMPLES = ROOT / "examples"
PORT = 7871


class TimedVisitor(Visitor):
    """With a stop watch; ``waits`` are seconds by what was waited for."""

    def __init__(self, page: Page, size: tuple[int, int]) -> None:
        super().__init__(page, size)
        self.waits: dict[str, list[float]] = {}

    def wait(self, name: str, what: str, every: int = 10) -> None:
        """Until ``what`` holds, from now on; at most a minute. Looks again after ``every`` ms."""
        begun = time.perf_counter()
        while not self.state(what):
            if time.perf_counter() - begun > 60:
                raise TimeoutError(f"{name}: {what} does not come true")
            self.page.wait_for_timeout(every)
        self.waits.setdefault(name, []).append(time.perf_counter() - begun)

    def click(self, x: float, y: float, beside: bool = False) -> None:
        self.page.mouse.click(*self.at(x, y), button="right" if beside else "left")


def visit(page: Page, mask: np.ndarray, frames: int, runs: int) -> dict[str, list[float]]:
    """Seconds of every wait, by name."""
    visitor = TimedVisitor(page, (mask.shape[0], mask.shape[1]))
    page.goto(f"http://127.0.0.1:{PORT}/")
    visitor.wait("page and first frame", "state.video !== null && !view.loading")
    rows, columns = np.nonzero(mask)
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    changed = "JSON.stringify(state.frames.get(0)?.objects ?? null)"
    for _ in range(runs):
        before = visitor.state(changed)
        page.keyboard.press("x")
        visitor.drag((left, top), (right, bottom))
        visitor.wait("box to mask", f"{changed} !== {json.dumps(before)} && !view.loading")
        for k in range(2):
            before = visitor.state(changed)
            page.keyboard.press("c")
            if k:
                middle = len(rows) // 2
                visitor.click(columns[middle], rows[middle])
            else:
                visitor.click(max(2, left - 12), (top + bottom) / 2, beside=True)
            visitor.wait("click to mask", f"{changed} !== {json.dumps(before)} && !view.loading")
        for _ in range(3):
            page.keyboard.press("z")
            page.wait_for_timeout(300)
        for key, there in (("End", frames - 1), ("Home", 0)):
            page.keyboard.press(key)
            visitor.wait("go to a frame", f"state.frame === {there} && !view.loading")
    page.keyboard.press("x")
    visitor.drag((left, top), (right, bottom))
    visitor.wait("box to mask", "state.frames.get(0)?.drawn.length === 1 && !view.loading")
    page.keyboard.press("Space")
    visitor.wait("run to its first frame", "state.job?.done >= 1")
    begun, first = time.perf_counter(), visitor.state("state.job.done")
    visitor.wait("rest of the run", "state.job.phase === 'done'", every=250)
    each = (time.perf_counter() - begun) / (frames - 1 - first)
    visitor.waits["each frame, with preview"] = [each]
    return visitor.waits


def serve(clip: Path) -> subprocess.Popen[bytes]:
    """The page as a user starts it, ready to be visited."""
    command = [sys.executable, "-m", "segspn", "app", str(clip), "--no-browser", "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.stdout is not None
    said = b""
    while str(PORT).encode() not in said:
        line = server.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: {said.decode()}")
        said += line
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    size = (arguments.size[0], arguments.size[1])
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("chromium is not installed")
    mask = read_object_masks(EXAMPLES / "bigbuckbunny_first.png", size, resize=True).labels == 1
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with VideoWriter(clip, 24, size) as writer:
            for frame in open_source(EXAMPLES / "bigbuckbunny.mp4", end=arguments.frames).read():
                writer.write(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA))
        server = serve(clip)
        try:
            with sync_playwright() as play:
                # Containers have no user namespaces for the sandbox; only our own page is opened.
                browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                waits = visit(page, mask, arguments.frames, arguments.runs)
                browser.close()
        finally:
            server.terminate()
            server.wait()
    table = Table(title=f"{size[1]}x{size[0]}; {machine(torch.get_num_threads())}")
    for column in ("what is waited for", "times", "median s", "longest s"):
        table.add_column(column, justify="left" if column.startswith("what") else "right")
    for name, seconds in waits.items():
        middle = statistics.median(seconds)
        table.add_row(name, str(len(seconds)), f"{middle:.2f}", f"{max(seconds):.2f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(waits, indent=1))


if __name__ == "__main__":
    main()
