"""``segspn app``."""

from __future__ import annotations

from typing import Annotated

import typer

from segspn.cli.options import Device, DeviceName, MaxSide, PresetName
from segspn.errors import InputError

_SERVER = "Server"
_LEAST_TOKEN = 8


def app_command(
    video: Annotated[
        str | None,
        typer.Argument(
            help="Video file, folder or glob of images to open; others are opened on the page.",
            metavar="[VIDEO]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to serve on; one that other machines reach asks them for a token.",
            rich_help_panel=_SERVER,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(help="Port; default 8650 or any free one.", rich_help_panel=_SERVER),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Secret that a browser must show; default a random one where it is needed.",
            envvar="SEGSPN_APP_TOKEN",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    max_upload: Annotated[
        int, typer.Option(help="Largest file to take, in MiB.", min=1, rich_help_panel=_SERVER)
    ] = 2048,
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open the page.", rich_help_panel=_SERVER),
    ] = True,
    max_side: MaxSide = None,
    preset: PresetName = "default",
    device: DeviceName = Device.auto,
) -> None:
    """Draw, run, correct and export on a web page of this machine."""
    if token is not None and len(token) < _LEAST_TOKEN:
        raise InputError(f"--token must have at least {_LEAST_TOKEN} characters")
    try:
        from segspn.app import Networks, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise InputError(
            f"the web page needs {error.name}: install it with pip install 'segspn[app]'"
        ) from error

    engine = Networks(preset, device.value)
    engine.load()
    serve(
        engine,
        video,
        host=host,
        port=port,
        token=token,
        max_upload=max_upload << 20,
        max_side=max_side,
        browser=browser,
    )
