"""``segspn watch``."""

from __future__ import annotations

from typing import Annotated

import typer

from segspn.cli.options import Device, DeviceName, PresetName
from segspn.errors import InputError


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="Camera number, address of an RTSP or HTTP stream, or a video file.", metavar="SOURCE"
        ),
    ] = "0",
    box: Annotated[
        str | None,
        typer.Option(help="x0,y0,x1,y1 of an object in the first frame, in pixels of the source."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 8090,
    max_side: Annotated[
        int, typer.Option(min=64, help="Shrink frames to this longest side: the smaller, the faster.")
    ] = 640,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
) -> None:
    """Follow objects live: a page on this machine shows SOURCE, and a box drawn there starts one.

    Frames that come faster than they are segmented are dropped, so that the picture never lags.
    """
    import itertools
    import threading

    from segspn.pipeline import Segmenter
    from segspn.video import Newest, live_frames
    from segspn.watch import Watch, WatchServer

    corners = None if box is None else _corners(box)
    frames = live_frames(source)
    watching = Watch(Segmenter(preset, device.value), max_side)
    try:
        server = WatchServer(watching, port)
    except OSError as error:
        told = f"port {port} cannot be used ({error.strerror}): choose another --port"
        raise InputError(told) from error
    with server, Newest(frames) as newest:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"segspn: watch {source} at {server.address} (Ctrl-C ends)", flush=True)
        try:
            first = next(newest, None)
            if first is None:
                raise InputError(f"{source} has no frame")
            shown = itertools.chain([first], newest)
            if corners is not None:
                h, w = first.shape[:2]
                x0, y0, x1, y1 = corners
                watching.add((x0 / w, y0 / h, x1 / w, y1 / h))
                shown = itertools.chain([first], shown)  # shown once, then followed from
            watching.run(shown)
        finally:
            server.shutdown()
    print(f"segspn: {watching.status.frame} frames shown, {newest.dropped} dropped")


def _corners(told: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(part) for part in told.split(","))
    except ValueError as error:
        raise InputError(f"--box {told} is not x0,y0,x1,y1 in pixels") from error
    return x0, y0, x1, y1
