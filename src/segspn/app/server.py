"""The web server: addresses, what may be asked there, and answers in plain words."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from segspn.app.export import OFFERED
from segspn.app.guard import Access, Guard
from segspn.app.prompts import TOOLS, Stroke
from segspn.app.runs import DIRECTIONS
from segspn.app.tabs import Busy, Tab, Tabs
from segspn.app.uploads import HEAD, VIDEO_SUFFIXES, require_video, require_zip, safe_stem
from segspn.errors import InputError
from segspn.video import object_colour, resize_labels

MAX_UPLOAD = 2 << 30
"""Bytes that an uploaded file may have, unless told otherwise."""

_MAX_JSON = 1 << 20
_MOST_POINTS = 20_000
_PAGE = Path(str(files("segspn.app") / "page"))
_KEEP = {"Cache-Control": "private, max-age=3600"}  # a frame's picture never changes

Answer = Callable[[Request], Awaitable[Response]]


def make_server(tabs: Tabs, access: Access, max_upload: int = MAX_UPLOAD) -> Starlette:
    """The ASGI application. ``max_upload`` bytes."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(tabs.close)

    routes = _Routes(tabs, max_upload)
    return Starlette(
        routes=[
            Route("/", lambda request: FileResponse(_PAGE / "index.html")),
            Mount("/page", StaticFiles(directory=_PAGE)),
            Route("/api/tabs", routes.new_tab, methods=["POST"]),
            Mount("/api/{tab}", routes=routes.of_tab()),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            InputError: _input_error,
            Busy: _busy,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
        },
        lifespan=lifespan,
    )


class _Routes:
    def __init__(self, tabs: Tabs, max_upload: int) -> None:
        self._tabs, self._max_upload = tabs, max_upload

    def of_tab(self) -> list[Route]:
        get, change = self._get, self._change
        return [
            Route("/state", get(lambda tab, request: JSONResponse(tab.told()))),
            Route("/news", get(_news)),
            Route("/frames/{frame:int}.jpg", get(_picture)),
            Route("/masks/{frame:int}.png", get(_mask)),
            Route("/project.zip", get(_project)),
            Route("/results.zip", get(_results)),
            Route("/video", self._upload(_open_video, require_video), methods=["POST"]),
            Route("/project", self._upload(_open_project, require_zip), methods=["POST"]),
            Route("/edit", change(_edit), methods=["POST"]),
            Route("/undo", change(_undo), methods=["POST"]),
            Route("/clear", change(_clear), methods=["POST"]),
            Route("/objects", change(_add), methods=["POST"]),
            Route("/objects/{object:int}", change(_alter), methods=["PATCH"]),
            Route("/objects/{object:int}", change(_remove), methods=["DELETE"]),
            Route("/run", change(_run), methods=["POST"]),
            Route("/pause", change(_pause), methods=["POST"]),
            Route("/cancel", change(_cancel), methods=["POST"]),
            Route("/export", change(_export), methods=["POST"]),
        ]

    async def new_tab(self, request: Request) -> Response:
        tab = await run_in_threadpool(self._tabs.new)
        colours = {i: list(object_colour(i)) for i in range(1, 255)}
        limits = {"bytes": self._max_upload, "suffixes": VIDEO_SUFFIXES}
        return JSONResponse(
            {"tab": tab.id, "limits": limits, "exports": OFFERED, "colours": colours}, 201
        )

    def _tab(self, request: Request) -> Tab:
        try:
            return self._tabs.get(request.path_params["tab"])
        except KeyError:
            raise HTTPException(404, "this page's work is not on the server any more") from None

    def _get(self, answer: Callable[[Tab, Request], Response]) -> Answer:
        async def handle(request: Request) -> Response:
            return await run_in_threadpool(answer, self._tab(request), request)

        return handle

    def _change(self, answer: Callable[[Tab, Request, dict[str, Any]], Response]) -> Answer:
        """Handle a change, one at a time for each tab; its body is a JSON object or nothing."""

        async def handle(request: Request) -> Response:
            tab = self._tab(request)
            body = await _json(request)

            def locked() -> Response:
                with tab.lock:
                    return answer(tab, request, body)

            return await run_in_threadpool(locked)

        return handle

    def _upload(
        self,
        take: Callable[[Tab, Path, str], None],
        require: Callable[[bytes, str], None],
    ) -> Answer:
        """Stream the body into a file of the tab's folder and hand it to ``take``."""

        async def handle(request: Request) -> Response:
            tab = self._tab(request)
            name = unquote(request.headers.get("x-file-name", "file"))
            # Only the suffix of a name from outside reaches the disk, and only a known one.
            suffix = Path(name).suffix.lower()
            path = tab.new_upload(suffix if suffix in VIDEO_SUFFIXES else "")
            kept = False
            try:
                await self._receive(request, path, name, require)

                def locked() -> None:
                    with tab.lock:
                        take(tab, path, name)

                await run_in_threadpool(locked)
                kept = tab.uses(path)
            finally:
                if not kept:
                    path.unlink(missing_ok=True)
            return JSONResponse(tab.told())

        return handle

    async def _receive(
        self, request: Request, path: Path, name: str, require: Callable[[bytes, str], None]
    ) -> None:
        told = request.headers.get("content-length", "0")
        size = int(told) if told.isdigit() else 0
        head, checked = b"", False
        with path.open("wb") as file:
            received = 0
            async for chunk in request.stream():
                received += len(chunk)
                if max(size, received) > self._max_upload:
                    raise HTTPException(413, _too_large(name, self._max_upload))
                if not checked:
                    head += chunk[: HEAD - len(head)]
                    if len(head) == HEAD:
                        require(head, name)
                        checked = True
                await run_in_threadpool(file.write, chunk)
        if not checked:
            require(head, name)


# What a tab is asked


def _news(tab: Tab, request: Request) -> Response:
    cursor = request.query_params.get("after", "0")
    if not cursor.isdigit():
        raise InputError("after must be a number")
    return JSONResponse(tab.news(int(cursor)) if tab.opened else tab.told())


def _picture(tab: Tab, request: Request) -> Response:
    clip = tab.require_open().clip
    return Response(clip.picture(_frame(tab, request.path_params["frame"])), 200, _KEEP, "image/jpeg")


def _mask(tab: Tab, request: Request) -> Response:
    """The labels of a frame at the size of its picture: a grey PNG, values are the objects' ids."""
    opened = tab.require_open()
    labels = opened.project.labels(_frame(tab, request.path_params["frame"]))
    if opened.clip.shown.shrinks:
        labels = resize_labels(labels, opened.clip.shown.working)
    picture = cv2.imencode(".png", labels.astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    return Response(picture.tobytes(), media_type="image/png")


def _project(tab: Tab, request: Request) -> Response:
    with tab.lock:
        path = tab.save_project()
    name = safe_stem(tab.require_open().name)
    return FileResponse(path, filename=f"{name}.segspn.zip", media_type="application/zip")


def _results(tab: Tab, request: Request) -> Response:
    if not tab.results.is_file():
        raise HTTPException(404, "there is no finished export: export first")
    name = safe_stem(tab.require_open().name)
    return FileResponse(tab.results, filename=f"{name}-segspn.zip", media_type="application/zip")


# What a tab is told to change


def _open_video(tab: Tab, path: Path, name: str) -> None:
    try:
        tab.open(path, safe_stem(name))
    except InputError as error:
        # The user knows the file by its own name, not by that on this disk.
        raise InputError(str(error).replace(str(path), Path(name).name)) from error


def _open_project(tab: Tab, path: Path, name: str) -> None:
    tab.load_project(path)


def _edit(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    if body.get("tool") not in TOOLS:
        raise InputError(f"tools are {', '.join(TOOLS)}")
    frame = _frame(tab, body.get("frame"))
    stroke = Stroke(
        frame,
        _number(body.get("object"), "object"),
        body["tool"],
        _points(tab, body.get("points")),
        _real(body.get("radius", 1), "radius"),
        body.get("on", True) is True,
    )
    tab.edit(stroke)
    return JSONResponse(tab.changed([frame]))


def _undo(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    frame = tab.undo()
    if frame is None:  # an object came back, in any frame
        return JSONResponse(tab.told())
    return JSONResponse({**tab.changed([frame]), "frame": frame})


def _clear(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    frame = _frame(tab, body.get("frame"))
    tab.clear(frame)
    return JSONResponse(tab.changed([frame]))


def _add(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    thing = tab.require_open().project.add(_text(body.get("name", "")))
    return JSONResponse({**tab.changed([]), "added": thing.id}, 201)


def _alter(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    name, colour = body.get("name"), body.get("colour")
    tab.require_open().project.change(
        request.path_params["object"],
        None if name is None else _text(name),
        None if colour is None else _number(colour, "colour"),
    )
    return JSONResponse(tab.changed([]))


def _remove(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    tab.remove(request.path_params["object"])
    return JSONResponse(tab.told())


def _run(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    direction = body.get("direction")
    if direction is not None and direction not in DIRECTIONS:
        raise InputError(f"a run goes {', '.join(DIRECTIONS)}")
    tab.start_run(_frame(tab, body.get("frame")), direction)
    return JSONResponse(tab.changed([]))


def _export(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    save = body.get("save")
    tab.start_export([_text(name) for name in save] if isinstance(save, list) else [])
    return JSONResponse(tab.changed([]))


def _pause(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    tab.pause()
    return JSONResponse(tab.told())


def _cancel(tab: Tab, request: Request, body: dict[str, Any]) -> Response:
    tab.cancel()
    return JSONResponse(tab.told())


# Values from outside


async def _json(request: Request) -> dict[str, Any]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_JSON:
            raise HTTPException(413, "that is too much for one request")
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "the request is no JSON object")
    return body


def _number(value: Any, what: str) -> int:
    if type(value) is not int:
        raise InputError(f"{what} must be a whole number")
    return value


def _real(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e5:
        raise InputError(f"{what} must be a number of pixels")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError("a name must be text")
    return value


def _frame(tab: Tab, value: Any) -> int:
    count = len(tab.require_open().clip)
    number = _number(value, "frame")
    if not 0 <= number < count:
        raise InputError(f"there is no frame {number}: frames are 0 to {count - 1}")
    return number


def _points(tab: Tab, value: Any) -> tuple[tuple[float, float], ...]:
    """Points (x, y) in frame pixels, moved onto the frame where they lie beside it."""
    height, width = tab.require_open().clip.source.size
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_POINTS:
        raise InputError(f"a stroke has 1 to {_MOST_POINTS} points")
    points: list[tuple[float, float]] = []
    for point in value:
        if not isinstance(point, list) or len(point) != 2:
            raise InputError("a point is a pair of numbers")
        x, y = (_real(v, "a point") for v in point)
        points.append((min(max(x, 0.0), width - 1e-3), min(max(y, 0.0), height - 1e-3)))
    return tuple(points)


def _too_large(name: str, limit: int) -> str:
    shown = f"{limit / 2**20:.0f} MiB" if limit < 2**30 else f"{limit / 2**30:.1f} GiB"
    return (
        f"{Path(name).name[:80]} is larger than the {shown} that may be uploaded: name the file on the "
        "command line instead (segspn app FILE), or raise --max-upload"
    )


# Errors, in plain words


async def _input_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _busy(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it
