"""The page in a real Chromium, with the real networks: from opening a clip to downloading results.

With SEGSPN_SCREENSHOTS=FOLDER the pictures taken on the way are left there, to be looked at.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn

from benchmarks.visitor import Visitor
from segspn.app import Access, Networks, Tabs, make_server
from segspn.presets import load_preset
from segspn.video import VideoWriter, open_source, read_labels, read_object_masks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = (216, 384)
COUNT = 24
RABBIT = 1  # in the example's mask

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the example clip, small."""
    path = tmp_path_factory.mktemp("browser") / "bunny.mp4"
    with VideoWriter(path, 24, SIZE) as writer:
        for frame in open_source(EXAMPLES / "bigbuckbunny.mp4", end=COUNT).read():
            writer.write(cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA))
    return path


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Labels of the first frame."""
    mask = EXAMPLES / "bigbuckbunny_first.png"
    return read_object_masks(mask, SIZE, resize=True).labels


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server in a thread, on any free port; files of up to 4 MiB are taken."""
    preset = load_preset("default")
    preset = replace(
        preset,
        augment=replace(preset.augment, copies=2),
    )
    tabs = Tabs(Networks(preset))
    config = uvicorn.Config(
        make_server(tabs, Access(), 4 << 20), port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        # Containers have no user namespaces for the sandbox; only our own page is opened.
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class User(Visitor):
    """Somebody with a mouse, who waits and takes pictures."""

    def __init__(self, page: Any, shots: Path) -> None:
        super().__init__(page, SIZE)
        self._shots = shots
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self._shots / f"{name}.png")

    def until(self, what: str, seconds: float = 90) -> None:
        """Wait until something holds of what the page knows."""
        end = time.monotonic() + seconds
        while not self.state(what):
            assert time.monotonic() < end, f"in vain: {what}; errors: {self.errors}"
            self.page.wait_for_timeout(50)

    def mask(self) -> np.ndarray:
        """The objects that the page shows, uint8 (H, W)."""
        self.until("!view.loading")
        return np.array(self.state("Array.from(view.ids)"), np.uint8).reshape(SIZE)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def around(mask: np.ndarray) -> list[tuple[float, float]]:
    """Two corners of the box of a mask."""
    y, x = np.nonzero(mask)
    return [(float(x.min()), float(y.min())), (float(x.max() + 1), float(y.max() + 1))]


def test_from_opening_a_clip_to_downloading_results(browser, address, clip, truth, tmp_path):
    shots = Path(os.environ.get("SEGSPN_SCREENSHOTS", tmp_path))
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    user = User(context.new_page(), shots)
    page, expect = user.page, sync_api.expect
    # How long it takes on a busy machine is not what is tested.
    expect.set_options(timeout=60_000)
    context.set_default_timeout(90_000)
    page.goto(address)
    expect(page.get_by_role("button", name="Choose a video")).to_be_visible()
    user.shot("1-welcome")

    # What cannot be opened is told in plain words.
    toast = page.get_by_role("alert")
    page.set_input_files("#file", {"name": "a.mp4", "mimeType": "video/mp4", "buffer": b"nothing"})
    expect(toast).to_contain_text("no video that can be opened here")
    large = {"name": "b.mp4", "mimeType": "video/mp4", "buffer": bytes(5 << 20)}
    page.set_input_files("#file", large)
    expect(toast).to_contain_text("at most 4 MiB may be uploaded")
    user.shot("2-error")
    toast.get_by_role("button").click()

    page.set_input_files("#file", clip)
    expect(page.locator("#title")).to_have_text(f"bunny · {COUNT} frames · 384×216")
    page.get_by_role("button", name="Run forward").click()
    expect(toast).to_contain_text("Nothing is marked in frame 0")
    toast.get_by_role("button").click()

    # Two objects: one by a box, one by the brush; undo.
    page.keyboard.press("x")
    user.drag(*around(truth == RABBIT))
    user.until("state.frames.get(0)?.drawn.length === 1")
    assert overlap(user.mask() == 1, truth == RABBIT) > 0.7
    name = page.get_by_label("Name")
    name.fill("rabbit")
    name.press("Enter")
    expect(page.get_by_label("Name")).to_have_value("rabbit")
    page.keyboard.press("a")
    user.until("state.objects.length === 2")
    page.keyboard.press("b")
    user.drag((310, 100), (370, 110))
    user.until("state.frames.get(0)?.drawn.length === 2")
    page.keyboard.press("z")
    user.until("state.frames.get(0)?.drawn.length === 1")
    assert not (user.mask() == 2).any()
    user.drag((265, 105), (290, 95), (340, 95), (370, 110), (378, 120), (340, 118), (270, 112))
    user.until("state.frames.get(0)?.drawn.length === 2")
    drawn = user.mask()
    assert (drawn == 2).sum() > 1000
    page.get_by_label("Colour of object 2").click()
    page.get_by_role("button", name="Colour 6").click()
    user.until("state.objects[1].colour === 6")
    user.shot("3-drawn")

    # Run, pause, correct, continue.
    page.keyboard.press("Space")
    user.until("state.job?.done >= 2")
    page.keyboard.press("Space")
    user.until("state.job?.phase === 'paused' && state.frame === state.job.frame")
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    user.shot("4-paused")
    page.keyboard.press("e")
    paused = user.state("state.frame")
    assert 2 <= paused < COUNT - 1
    before = user.mask()
    user.drag((378, 90), (372, 125))
    user.until(f"state.frames.get({paused})?.drawn.includes(2)")
    assert (user.mask() == 2).sum() < (before == 2).sum()
    page.keyboard.press("Space")
    user.until("!state.job.active && state.job.phase === 'done'")
    assert user.state("state.frames.size") == COUNT
    expect(page.locator("#frame")).to_have_value(str(COUNT - 1))
    assert (user.mask() == 1).mean() > 0.05
    user.shot("5-done")

    # Moving about by keys; two objects by number.
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    assert user.state("[state.frame, state.chosen]") == [1, 1]
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    user.shot("6-help")
    page.keyboard.press("Escape")

    # Results and the project.
    page.get_by_role("button", name="Export").click()
    for box in page.locator("#export-choices input").all():
        box.check()
    user.shot("7-export")
    with page.expect_download() as download:
        page.locator("#export-go").click()
    results = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    names = results.namelist()
    assert download.value.suggested_filename == "bunny-segspn.zip"
    assert sum(n.startswith("bunny/bunny/") for n in names) == COUNT
    assert sum(n.startswith("bunny/bunny_scores/") for n in names) == 2 * COUNT
    assert {"bunny/bunny.mp4", "bunny/bunny_rle.json", "bunny/bunny_sheet.png"} <= set(names)
    results.extract("bunny/bunny/00000.png", tmp_path)
    first = read_labels(tmp_path / "bunny/bunny/00000.png")
    assert ((first == 1) == (drawn == 1)).all() and ((first == 6) == (drawn == 2)).all()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save project").click()
    project = tmp_path / download.value.suggested_filename
    download.value.save_as(project)

    # Another tab has work of its own; the project opens there.
    other = User(context.new_page(), shots)
    other.page.set_viewport_size({"width": 390, "height": 844})
    other.page.goto(address)
    expect(other.page.get_by_role("button", name="Choose a video")).to_be_visible()
    other.page.set_input_files("#file", clip)
    other.until("state.video !== null")
    assert other.state("state.objects.length") == 0
    other.shot("8-narrow-empty")
    other.page.set_input_files("#file", project)
    other.until(f"state.frames.size === {COUNT}")
    assert other.state("state.objects.map(o => o.name)") == ["rabbit", "object 2"]
    other.page.get_by_role("button", name="Click").click()
    other.mask()
    other.shot("9-narrow")
    width = other.page.evaluate("document.documentElement.scrollWidth")
    assert width == 390, "the page is wider than a phone"
    other.page.emulate_media(color_scheme="dark")
    other.shot("10-narrow-dark")
    other.page.set_viewport_size({"width": 1280, "height": 800})
    other.page.wait_for_timeout(300)
    other.shot("11-dark")

    # A reload keeps the work.
    page.reload()
    user.until(f"state.frames.size === {COUNT}")
    assert user.errors == [] and other.errors == []
