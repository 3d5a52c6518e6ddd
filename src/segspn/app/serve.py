"""Serving the page from this process until Ctrl-C."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import uvicorn

from segspn.app.engine import Engine
from segspn.app.guard import Access
from segspn.app.server import MAX_UPLOAD, make_server
from segspn.app.tabs import Tabs
from segspn.errors import InputError
from segspn.video import open_source

PORT = 8650
"""Tried first where the user names none."""


def serve(
    engine: Engine,
    video: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    max_upload: int = MAX_UPLOAD,
    max_side: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page, telling its address by ``say``, until Ctrl-C.

    ``video`` is opened in every new page; ``port`` None takes `PORT` or any free one; ``token`` must
    be shown by every browser, and is made up where ``host`` can be reached from other machines;
    ``max_upload`` bytes; ``max_side`` the longest side to work at. Raises `InputError` for a video
    that cannot be read, and for an address that cannot be served on.
    """
    if video is not None:
        open_source(video)
    access = Access.to(host, token)
    with _bound(host, port) as bound:
        address = _address(host, bound.getsockname()[1], access.token)
        say(f"segspn app: {address}  (Ctrl-C ends it)")
        if browser:
            # The socket listens already: a browser that is quicker than the server waits.
            webbrowser.open(address)
        app = make_server(Tabs(engine, video, max_side), access, max_upload)
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        # While the user opens a video. Joined, since nets must not outlive the interpreter.
        warming = threading.Thread(target=engine.warm)
        warming.start()
        with suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[bound])
        warming.join()


def _bound(host: str, port: int | None) -> socket.socket:
    for tried in (PORT, 0) if port is None else (port,):
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, tried, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            return socket.create_server((address[0], tried), family=family)
        except (OSError, OverflowError) as error:
            failure = error
    told = failure.strerror if isinstance(failure, OSError) else str(failure)
    raise InputError(
        f"cannot serve on {host}, port {tried}: {told}; choose others with --host and --port"
    ) from failure


def _address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser; from this machine where the server listens on all addresses."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={quote(token)}")
