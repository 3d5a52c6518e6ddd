"""A page with the moving picture (MJPEG), on which one draws boxes; the standard library's server.

It listens on the loopback alone and answers only to its own name there, so that no page from elsewhere
can look through somebody's camera or order it about.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from segspn.watch.loop import Watch
from segspn.watch.page import PAGE

_BOUNDARY = "segspn-frame"
_MOST_BODY = 4096  # bytes of a request


class WatchServer(ThreadingHTTPServer):
    """Serves one `Watch` on 127.0.0.1; port 0 takes any free one (see ``server_port``)."""

    daemon_threads = True

    def __init__(self, watch: Watch, port: int = 8090) -> None:
        self.watch = watch
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if not self._own():
            return
        if self.path == "/":
            self._send(PAGE.encode(), "text/html; charset=utf-8")
        elif self.path == "/status":
            status = self.server.watch.status
            told = {"frame": status.frame, "ids": status.ids, "seconds": status.seconds}
            told |= {"note": status.note, "ended": self.server.watch.ended}
            self._send(json.dumps(told).encode(), "application/json")
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._own():
            return
        # Other sites cannot send this type without asking first, which is not answered.
        if self.headers.get_content_type() != "application/json":
            self.send_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        given = self._body()
        if self.path == "/box" and (box := _box_of(given)) is not None:
            self.server.watch.add(box)
        elif self.path == "/clear":
            self.server.watch.clear()
        else:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self._send(b"{}", "application/json")

    def _own(self) -> bool:
        """Whether the request is for this page: names that were made to point here are not."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host in ("127.0.0.1", "localhost"):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return None
        try:
            return json.loads(self.rfile.read(int(length)) or b"null")
        except ValueError:
            return None

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        seen = 0
        watch = self.server.watch
        try:
            while True:
                ended = watch.ended
                count, jpeg = watch.picture(seen)
                if count > seen:
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
                    seen = count
                elif ended:
                    return
        except (BrokenPipeError, ConnectionResetError):
            return  # the viewer has gone

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


def _box_of(given: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(given, list) or len(given) != 4:
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) and 0 <= v <= 1 for v in given):
        return None
    return float(given[0]), float(given[1]), float(given[2]), float(given[3])
