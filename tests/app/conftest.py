from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the app's extra is not installed")

# Tests are imported by path (importlib mode), which leaves their folder off the search path.
sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FakeEngine
from pages import COUNT, LOCAL, SIZE, Page
from starlette.testclient import TestClient

from segspn.app import Access, Tabs, make_server
from segspn.video import VideoWriter


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of `COUNT` frames of `SIZE`; frame i is of the grey 10 i."""
    path = tmp_path_factory.mktemp("clip") / "grey steps.mp4"
    with VideoWriter(path, 10, SIZE) as writer:
        for i in range(COUNT):
            writer.write(np.full((*SIZE, 3), 10 * i, np.uint8))
    return path


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def serve(engine: FakeEngine) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of servers, which are closed again."""
    clients: list[TestClient] = []

    def make(
        given: str | None = None, access: Access | None = None, **more: Any
    ) -> TestClient:
        limits = {"max_upload": more.pop("max_upload")} if "max_upload" in more else {}
        app = make_server(Tabs(engine, given, **more), access or Access(), **limits)
        client = TestClient(app, base_url=LOCAL, follow_redirects=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def page(serve: Callable[..., TestClient], clip: Path) -> Page:
    """A page with the clip open and one object."""
    page = Page(serve(str(clip)))
    page.post("objects", name="ball")
    return page
